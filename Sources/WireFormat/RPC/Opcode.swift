/// pb_opc. Numbers below 2000 are Lustre's (lustre_idl.h); those from 3000 on are ours alone.
@frozen
public struct Opcode: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let ostConnect = Opcode(rawValue: 8)
    public static let ostDisconnect = Opcode(rawValue: 9)
    public static let ostStatfs = Opcode(rawValue: 13)
    public static let ostSync = Opcode(rawValue: 16)
    public static let mdsConnect = Opcode(rawValue: 38)
    public static let mdsDisconnect = Opcode(rawValue: 39)
    public static let mdsStatfs = Opcode(rawValue: 41)
    public static let mdsSync = Opcode(rawValue: 44)
    public static let ldlmEnqueue = Opcode(rawValue: 101)
    public static let ldlmConvert = Opcode(rawValue: 102)
    public static let ldlmCancel = Opcode(rawValue: 103)
    public static let ldlmBlockingAST = Opcode(rawValue: 104)
    public static let ldlmCompletionAST = Opcode(rawValue: 105)
    public static let ldlmGlimpseAST = Opcode(rawValue: 106)
    public static let ping = Opcode(rawValue: 400)

    // Metadata operations of our own.
    public static let getattr = Opcode(rawValue: 3001)
    public static let lookup = Opcode(rawValue: 3002)
    public static let setattr = Opcode(rawValue: 3003)
    public static let mkdir = Opcode(rawValue: 3004)
    public static let open = Opcode(rawValue: 3005)
    public static let close = Opcode(rawValue: 3006)
    public static let unlink = Opcode(rawValue: 3007)
    public static let rename = Opcode(rawValue: 3008)
    public static let readdir = Opcode(rawValue: 3009)
    public static let openReplay = Opcode(rawValue: 3010)
    public static let locate = Opcode(rawValue: 3011)
    public static let link = Opcode(rawValue: 3012)

    // Object operations of our own.
    public static let objectCreate = Opcode(rawValue: 3101)
    public static let objectDestroy = Opcode(rawValue: 3102)
    public static let objectWrite = Opcode(rawValue: 3103)
    public static let objectRead = Opcode(rawValue: 3104)
    public static let objectPunch = Opcode(rawValue: 3105)
    public static let objectGetattr = Opcode(rawValue: 3106)

    // The upgrade path and administration.
    public static let upgradeProgress = Opcode(rawValue: 3201)
    public static let targetUp = Opcode(rawValue: 3202)
    public static let upgradeStart = Opcode(rawValue: 3203)
    public static let upgradeStatus = Opcode(rawValue: 3204)
    public static let auditRead = Opcode(rawValue: 3205)
    public static let abortRecovery = Opcode(rawValue: 3206)
    public static let upgradeOrder = Opcode(rawValue: 3207)
    public static let upgradeReceipts = Opcode(rawValue: 3208)
    public static let targetShow = Opcode(rawValue: 3209)

    /// Several requests in one message; version 3 and later.
    public static let batch = Opcode(rawValue: 3301)

    /// The high bits of pb_version: OBD, MDS, OST or DLM.
    public var family: UInt32 {
        switch rawValue {
        case 1...31: 0x30000
        case 33...100: 0x20000
        case 101...200: 0x40000
        case 3001...3099: 0x20000
        case 3101...3199: 0x30000
        default: 0x10000
        }
    }

    public var name: String {
        switch self {
        case .ostConnect, .mdsConnect: "connect"
        case .ostDisconnect, .mdsDisconnect: "disconnect"
        case .ldlmEnqueue: "enqueue"
        case .ldlmConvert: "convert"
        case .ldlmCancel: "cancel"
        case .ldlmBlockingAST: "blocking AST"
        case .ldlmCompletionAST: "completion AST"
        case .ldlmGlimpseAST: "glimpse AST"
        case .ping: "ping"
        case .getattr: "getattr"
        case .lookup: "lookup"
        case .setattr: "setattr"
        case .mkdir: "mkdir"
        case .open: "open"
        case .close: "close"
        case .unlink: "unlink"
        case .rename: "rename"
        case .readdir: "readdir"
        case .openReplay: "open replay"
        case .locate: "locate"
        case .link: "link"
        case .ostStatfs, .mdsStatfs: "statfs"
        case .ostSync, .mdsSync: "sync"
        case .objectCreate: "object create"
        case .objectDestroy: "object destroy"
        case .objectWrite: "object write"
        case .objectRead: "object read"
        case .objectPunch: "object punch"
        case .objectGetattr: "object getattr"
        case .upgradeProgress: "upgrade progress"
        case .targetUp: "target up"
        case .upgradeStart: "upgrade start"
        case .upgradeStatus: "upgrade status"
        case .auditRead: "audit read"
        case .abortRecovery: "abort recovery"
        case .targetShow: "target show"
        case .upgradeOrder: "upgrade order"
        case .upgradeReceipts: "upgrade receipts"
        case .batch: "batch"
        default: "opcode \(rawValue)"
        }
    }
}

/// LNet portals of the services (lustre_idl.h): where requests go and where replies come back.
public enum ServicePortal {
    public static let ostBulk: UInt32 = 8
    public static let mdcReply: UInt32 = 10
    public static let mdsRequest: UInt32 = 12
    public static let oscReply: UInt32 = 4
    public static let ostRequest: UInt32 = 28
    public static let lockCallbackRequest: UInt32 = 15
    public static let lockCallbackReply: UInt32 = 16
    public static let lockCancelRequest: UInt32 = 17
    public static let lockCancelReply: UInt32 = 18
}

/// The kind of service behind a target.
public enum TargetKind: UInt8, Sendable, CaseIterable {
    /// Metadata target.
    case mds = 1
    /// Object storage target.
    case oss = 2

    public var requestPortal: UInt32 {
        self == .mds ? ServicePortal.mdsRequest : ServicePortal.ostRequest
    }
    public var replyPortal: UInt32 {
        self == .mds ? ServicePortal.mdcReply : ServicePortal.oscReply
    }
    /// Where a request goes: what gives locks back has a portal of its own, so that a server that
    /// is busy with others takes it (ldlm.md section 6).
    public func portal(for opcode: Opcode) -> UInt32 {
        switch opcode {
        case .ldlmCancel, .ldlmConvert: ServicePortal.lockCancelRequest
        default: requestPortal
        }
    }
    public var connectOpcode: Opcode { self == .mds ? .mdsConnect : .ostConnect }
    public var disconnectOpcode: Opcode { self == .mds ? .mdsDisconnect : .ostDisconnect }
    public var statfsOpcode: Opcode { self == .mds ? .mdsStatfs : .ostStatfs }
    public var syncOpcode: Opcode { self == .mds ? .mdsSync : .ostSync }
    public var name: String { self == .mds ? "mds" : "oss" }
}

/// What differs between builds on the wire. Negotiated at connect, one per import.
@frozen
public struct ProtocolVersion: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
    public var rawValue: UInt16
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Files by inode and generation, seconds, one modifying request in flight.
    public static let v1 = ProtocolVersion(rawValue: 1)
    /// FIDs, nanoseconds, tags, checksummed bulk.
    public static let v2 = ProtocolVersion(rawValue: 2)
    /// Batches, in which opens and locks are replayed; all times of a file, opens that bring a lock,
    /// listings with attributes.
    public static let v3 = ProtocolVersion(rawValue: 3)
    @inlinable
    public static func < (a: ProtocolVersion, b: ProtocolVersion) -> Bool {
        a.rawValue < b.rawValue
    }
    /// What this build can speak.
    public static let supported: ClosedRange<ProtocolVersion> = .v1 ... .v3

    /// Modifying requests that one client may have in flight at one target.
    public var modifyingRequestsMax: Int { self < .v2 ? 1 : 8 }
}

extension ProtocolVersion: CustomStringConvertible {
    public var description: String { "\(rawValue)" }
}

/// Abilities agreed at connect, beside the version: both sides may use what both have.
public struct Features: OptionSet, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// Takes part in announced upgrades.
    public static let upgrade = Features(rawValue: 1)
    /// Locks on attributes and names come with answers, and guard what a client keeps of them.
    public static let caching = Features(rawValue: 2)
    /// Room for dirty bytes is set aside before they are written (`ocd_grant`).
    public static let grants = Features(rawValue: 4)
    /// Knows notices that say what becomes of reads.
    public static let readPolicy = Features(rawValue: 1 << 8)
    /// Tells what it holds after a restart in batches, in versions before 3 too.
    public static let batchedReplay = Features(rawValue: 1 << 9)
    public static let supported: Features = [
        .upgrade, .caching, .grants, .readPolicy, .batchedReplay,
    ]
}
