public import WireFormat

/// What the execution of a request came to.
public enum MetadataResult: Equatable, Sendable {
    /// Where the status is an error, the transaction is void and nothing has changed.
    case reply(Status, ReplyBody)
    /// No object for a new file yet: nothing has changed, execute the request again when
    /// `objectsAvailable` took some or a target became usable.
    case waitForObjects

    static func failure(_ status: Status) -> MetadataResult { .reply(status, .empty) }
}

extension Status {
    /// EMFILE.
    static let tooManyOpenFiles = Status(rawValue: -24)
    /// EPERM.
    static let notPermitted = Status(rawValue: -1)
    /// EMLINK.
    static let tooManyLinks = Status(rawValue: -31)
}
