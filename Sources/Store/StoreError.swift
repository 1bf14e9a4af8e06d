internal import CLMDB
internal import Glibc

/// Why a store cannot be opened or written: one sentence that names the thing and the way out.
public enum StoreError: Error, Equatable, Sendable {
    /// Another server holds the store.
    case inUse(directory: String, holder: Int32?)
    /// Another host had the store last and did not let go of it.
    case heldElsewhere(directory: String, holder: StoreHolder)
    /// There is nothing here that could be opened.
    case noStore(directory: String)
    /// The store belongs to another target.
    case wrongTarget(
        directory: String, found: String, foundKind: String, wanted: String, wantedKind: String)
    /// Written in a format newer than this build reads.
    case newerFormat(directory: String, found: UInt32, supported: UInt32)
    /// Written with features that this build does not know.
    case unknownFeatures(directory: String, bits: UInt64)
    /// A file is not what a store's file looks like, or lacks a part of it.
    case corrupt(path: String, detail: String)
    /// Object files without the metadata that names them.
    case metadataMissing(path: String)
    /// Metadata without the directory of the objects that it names.
    case objectsMissing(path: String)
    /// The file system does not let this user at the store.
    case denied(path: String)
    /// The disk, or this user's share of it, is full.
    case full(path: String)
    /// Anything else that the system refused.
    case system(path: String, call: String, code: Int32)
}

extension StoreError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .inUse(let directory, let holder):
            let who = holder.map { "process \($0)" } ?? "another process"
            return "store \(directory) is held by \(who): stop that server first, or start this "
                + "one as its standby"
        case .heldElsewhere(let directory, let holder):
            return "store \(directory) was not let go of by \(holder), which may still write: make "
                + "sure that it cannot, with a fence command that succeeds, and start again"
        case .noStore(let directory):
            return "there is no store in \(directory): name the right directory, or let the "
                + "server create one there"
        case .wrongTarget(let directory, let found, let foundKind, let wanted, let wantedKind):
            return "store \(directory) holds \(foundKind) target \(found), not \(wantedKind) "
                + "target \(wanted): name the store of \(wanted), or serve \(found) from this one"
        case .newerFormat(let directory, let found, let supported):
            return "store \(directory) has format \(found) and this build reads up to "
                + "\(supported): start it with the newer build"
        case .unknownFeatures(let directory, let bits):
            return "store \(directory) uses features that this build does not know "
                + "(0x\(String(bits, radix: 16))): start it with the build that turned them on"
        case .corrupt(let path, let detail):
            return "\(path) is damaged (\(detail)): put it back from a backup, or format the "
                + "target anew"
        case .metadataMissing(let path):
            return "\(path) is missing although the store has objects: put it back from a "
                + "backup, or move the objects away to begin anew"
        case .objectsMissing(let path):
            return "object directory \(path) is missing although the store's metadata is there: "
                + "mount or restore it before the server is started"
        case .denied(let path):
            return "\(path) cannot be opened by this user: run the server as the owner of the "
                + "store, or change the owner"
        case .full(let path):
            return "no space is left for \(path): free some, then let the server try again"
        case .system(let path, let call, let code):
            return "\(call) of \(path) failed: \(StoreError.text(code)); look for the disk in "
                + "the system's log, then start the server again"
        }
    }

    /// The words for a negative error number of `CLMDB`.
    static func text(_ code: Int32) -> String {
        // SAFETY: clmdb_error_text gives a terminated string that lives as long as the process.
        unsafe String(cString: clmdb_error_text(code))
    }

    /// The case for a negative error number of `CLMDB` (-errno or LMDB's own).
    init(code: Int32, path: String, call: String) {
        switch code {
        case -EACCES, -EPERM, -EROFS: self = .denied(path: path)
        case -ENOSPC, -EDQUOT: self = .full(path: path)
        case CLMDB_CORRUPTED, CLMDB_INVALID, CLMDB_VERSION_MISMATCH, CLMDB_BAD_SEAL:
            self = .corrupt(path: path, detail: Self.text(code))
        default:
            self = .system(path: path, call: call, code: code)
        }
    }
}
