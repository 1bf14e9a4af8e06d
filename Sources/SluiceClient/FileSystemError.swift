public import WireFormat

/// Why something with a file did not work, in POSIX's words.
public struct FileSystemError: Error, Hashable, Sendable, CustomStringConvertible {
    public var status: Status
    /// The path, or the target's name, that it is about.
    public var path: String
    /// What to say instead of the status's usual sentence.
    public var detail: String?

    public init(_ status: Status, path: String, detail: String? = nil) {
        self.status = status
        self.path = path
        self.detail = detail
    }

    /// As `/a/b: no such file or directory`.
    public var description: String { "\(path): \(detail ?? status.description)" }
}
