import TestSupport

@testable import WireFormat

// What version 1 leaves of a message, spelled out field by field: the tests compare with the codec.

extension Timestamp {
    var inVersion1: Timestamp { Timestamp(seconds: seconds) }
}

extension FileID {
    var inVersion1: FileID { FileID(sequence: sequence, objectNumber: objectNumber) }
}

extension FileAttributes {
    var inVersion1: FileAttributes {
        var copy = self
        copy.file = file.inVersion1
        copy.modified = modified.inVersion1
        copy.changed = changed.inVersion1
        return copy.inVersion2
    }

    var inVersion2: FileAttributes {
        var copy = self
        copy.accessed = .zero
        copy.created = .zero
        return copy
    }
}

extension LockGrant {
    var inVersion1: LockGrant {
        var copy = self
        copy.file = file.inVersion1
        return copy
    }
}

extension RequestBody {
    func inVersion(_ version: ProtocolVersion) -> RequestBody {
        version >= .v3 ? self : version >= .v2 ? inVersion2 : inVersion1
    }

    var inVersion2: RequestBody {
        switch self {
        case .setattr(var body):
            body.accessed = nil
            body.time = nil
            return .setattr(body)
        case .open(var body):
            body.lockCookie = 0
            return .open(body)
        case .readdir(var body):
            body.wantsAttributes = false
            return .readdir(body)
        default: return self
        }
    }

    var inVersion1: RequestBody {
        switch inVersion2 {
        case .locate(var body):
            body.parent = body.parent.inVersion1
            return .locate(body)
        case .link(var body):
            body.file = body.file.inVersion1
            body.parent = body.parent.inVersion1
            body.time = body.time.inVersion1
            return .link(body)
        case .getattr(let file): return .getattr(file.inVersion1)
        case .lookup(var body):
            body.parent = body.parent.inVersion1
            return .lookup(body)
        case .setattr(var body):
            body.file = body.file.inVersion1
            body.modified = body.modified?.inVersion1
            return .setattr(body)
        case .mkdir(var body):
            body.parent = body.parent.inVersion1
            body.file = body.file.inVersion1
            body.time = body.time.inVersion1
            return .mkdir(body)
        case .open(var body):
            body.parent = body.parent.inVersion1
            body.file = body.file.inVersion1
            body.time = body.time.inVersion1
            return .open(body)
        case .openReplay(var body):
            body.file = body.file.inVersion1
            return .openReplay(body)
        case .close(var body):
            body.file = body.file.inVersion1
            return .close(body)
        case .unlink(var body):
            body.parent = body.parent.inVersion1
            body.time = body.time.inVersion1
            return .unlink(body)
        case .rename(var body):
            body.sourceParent = body.sourceParent.inVersion1
            body.targetParent = body.targetParent.inVersion1
            body.time = body.time.inVersion1
            return .rename(body)
        case .readdir(var body):
            body.directory = body.directory.inVersion1
            return .readdir(body)
        case .objectWrite(var body):
            body.time = body.time.inVersion1
            body.checksum = 0
            return .objectWrite(body)
        case .objectPunch(var body):
            body.time = body.time.inVersion1
            return .objectPunch(body)
        case .connect, .disconnect, .ping, .enqueue, .cancel, .convert, .blockingAST,
            .completionAST, .glimpseAST,
            .objectCreate, .objectDestroy, .objectRead, .objectGetattr, .upgradeProgress,
            .targetUp, .upgradeStart, .upgradeOrder, .upgradeReceipts, .upgradeStatus, .auditRead,
            .abortRecovery, .targetShow, .batch, .statfs, .sync:
            return self
        }
    }
}

extension ReplyBody {
    func inVersion(_ version: ProtocolVersion) -> ReplyBody {
        version >= .v3 ? self : version >= .v2 ? inVersion2 : inVersion1
    }

    var inVersion2: ReplyBody {
        switch self {
        case .attributes(var body):
            body.attributes = body.attributes.inVersion2
            return .attributes(body)
        case .open(var body):
            body.attributes = body.attributes.inVersion2
            body.grant = nil
            return .open(body)
        case .readdir(var body):
            for index in body.entries.indices { body.entries[index].attributes = nil }
            return .readdir(body)
        case .located(var body):
            if let found = body.found { body.found?.attributes = found.attributes.inVersion2 }
            return .located(body)
        default: return self
        }
    }

    var inVersion1: ReplyBody {
        switch inVersion2 {
        case .located(var body):
            body.files = body.files.map(\.inVersion1)
            body.grants = body.grants.map(\.inVersion1)
            if let found = body.found { body.found?.attributes = found.attributes.inVersion1 }
            return .located(body)
        case .changed(let body):
            return .changed(ChangedReply(files: body.files.map(\.inVersion1)))
        case .attributes(var body):
            body.attributes = body.attributes.inVersion1
            return .attributes(body)
        case .open(var body):
            body.attributes = body.attributes.inVersion1
            return .open(body)
        case .readdir(var body):
            body.entries = body.entries.map {
                DirectoryEntry(name: $0.name, file: $0.file.inVersion1, type: $0.type)
            }
            return .readdir(body)
        case .objectAttributes(var body):
            body.modified = body.modified.inVersion1
            return .objectAttributes(body)
        case .read: return withoutChecksums
        case .empty, .connect, .enqueue, .converted, .valueBlock, .receipt, .upgradeStarted,
            .upgradeAnswer, .upgradeReceipts, .upgradeStatus, .audit, .batch, .written, .statfs,
            .target:
            return self
        }
    }
}
