extension ResourceID {
    /// The same resource as version 1 spells it: number before sequence. Its own inverse.
    ///
    /// Clients of both versions meet in one lock, because the server only ever sees the canonical
    /// spelling. The admission resource is spelt alike in all versions.
    func spelled(in version: ProtocolVersion) -> ResourceID {
        version >= .v2 || isAdmission ? self : ResourceID(name1, name0, name2, name3)
    }

    /// The resource that guards an object's bytes.
    public init(_ object: ObjectName) { self.init(object.sequence, object.number) }

    /// The resource of a file's POSIX record locks, apart from that of its attributes: the last
    /// word is the lock type, as Lustre's client names it.
    public static func recordLocks(of file: FileID) -> ResourceID {
        ResourceID(
            file.sequence, UInt64(file.version) << 32 | UInt64(file.objectNumber), 0,
            UInt64(LockType.flock.rawValue))
    }

    /// The object whose bytes this resource guards.
    public var objectName: ObjectName { ObjectName(sequence: name0, number: name1) }
}

extension LDLMRequest {
    func spelled(in version: ProtocolVersion) -> LDLMRequest {
        var copy = self
        copy.descriptor.resource.id = descriptor.resource.id.spelled(in: version)
        return copy
    }
}

/// LDLM_ENQUEUE; for the admission lock it carries the client's receipt.
public struct EnqueueRequest: Hashable, Sendable {
    public var request: LDLMRequest
    public var receipt: UpgradeReceipt?
    public init(request: LDLMRequest, receipt: UpgradeReceipt? = nil) {
        self.request = request
        self.receipt = receipt
    }
}

public struct EnqueueReply: Hashable, Sendable {
    public var reply: LDLMReply
    public var valueBlock: OSTLVB
    public init(reply: LDLMReply, valueBlock: OSTLVB) {
        self.reply = reply
        self.valueBlock = valueBlock
    }
}

/// LDLM_BL_CALLBACK; for the admission lock it carries the notice of an upgrade.
public struct BlockingAST: Hashable, Sendable {
    public var request: LDLMRequest
    public var notice: UpgradeNotice?
    public init(request: LDLMRequest, notice: UpgradeNotice? = nil) {
        self.request = request
        self.notice = notice
    }
}

/// LDLM_CP_CALLBACK; for the admission lock it may complete without a grant: all is committed.
public struct CompletionAST: Hashable, Sendable {
    public var request: LDLMRequest
    public var valueBlock: OSTLVB
    public var commitNotice: CommitNotice?
    /// For a grant of the admission lock: this upgrade and all before it gate no longer.
    public var grantEpoch: UpgradeEpoch?
    public init(
        request: LDLMRequest, valueBlock: OSTLVB, commitNotice: CommitNotice? = nil,
        grantEpoch: UpgradeEpoch? = nil
    ) {
        precondition(commitNotice == nil || grantEpoch == nil, "told or granted, not both")
        self.request = request
        self.valueBlock = valueBlock
        self.commitNotice = commitNotice
        self.grantEpoch = grantEpoch
    }
}
