/// `struct obd_connect_data` (lustre_idl.h), 192 bytes: what Lustre's ends agree on at connect.
public struct ObdConnectData: Equatable, Sendable {
    public static let encodedSize = 192

    /// OBD_CONNECT_*.
    public var flags: UInt64 = 0
    /// Version code of the release whose layout this is: 2.17.0.0. Readers of Lustre's messages,
    /// Wireshark's dissector among them, tell by it how long the structure is; with 0 they stop
    /// after `maxbytes` and take the rest for garbage.
    public var version: UInt32 = 0x0211_0000
    /// Bytes that the client may dirty before it asks: what it has, and what it is given
    /// (OBD_CONNECT_GRANT, 0x8 in `flags`).
    public var grant: UInt32 = 0
    public var index: UInt32 = 0
    /// Largest bulk transfer, bytes.
    public var bulkSize: UInt32 = 0
    /// `InodeBits` that locks may name (OBD_CONNECT_IBITS, 0x1000 in `flags`).
    public var inodeBits: UInt64 = 0
    /// First transno that the client would replay.
    public var transno: UInt64 = 0
    /// Grows with each start of the target.
    public var instance: UInt32 = 0
    public var modifyingRequestsMax: UInt16 = 0
    /// OBD_CONNECT2_*.
    public var flags2: UInt64 = 0

    public init() {}

    public init(from reader: inout WireReader) throws(WireError) {
        flags = try reader.u64()
        version = try reader.u32()
        grant = try reader.u32()
        index = try reader.u32()
        bulkSize = try reader.u32()
        inodeBits = try reader.u64()
        try reader.skip(8)
        transno = try reader.u64()
        try reader.skip(12)
        instance = try reader.u32()
        try reader.skip(8)
        modifyingRequestsMax = try reader.u16()
        try reader.skip(6)
        flags2 = try reader.u64()
        // Newer peers may know longer structures: what is known is taken, the rest is theirs.
    }

    public func encode(into writer: inout WireWriter) {
        let start = writer.count
        writer.u64(flags)
        writer.u32(version)
        writer.u32(grant)
        writer.u32(index)
        writer.u32(bulkSize)
        writer.u64(inodeBits)
        writer.zeros(8)
        writer.u64(transno)
        writer.zeros(12)
        writer.u32(instance)
        writer.zeros(8)
        writer.u16(modifyingRequestsMax)
        writer.zeros(6)
        writer.u64(flags2)
        writer.zeros(Self.encodedSize - (writer.count - start))
    }
}

/// What a client asks for when it connects.
///
/// Lustre's buffers (target UUID 40, client UUID 40, lock handle 8, `obd_connect_data`), then one
/// of our own. Readable in every version: it is what the version is agreed with.
public struct ConnectRequest: Equatable, Sendable {
    public static let uuidSize = 40
    static let magic: UInt32 = 0x5A1C_E001

    public var targetName: String
    public var clientUUID: String
    /// Names this client's instance: a reconnect carries the same one.
    public var clientHandle: UInt64
    public var connectData: ObdConnectData
    public var versions: ClosedRange<ProtocolVersion>
    public var features: Features
    /// The newest upgrade that the client has been told of.
    public var epoch: UpgradeEpoch
    /// The target's instance that the client was last connected to; 0 for none.
    public var lastInstance: UInt64
    /// Wants to learn the target's state and send nothing else: no slot is kept for it.
    public var isObserver: Bool

    public init(
        targetName: String, clientUUID: String, clientHandle: UInt64,
        versions: ClosedRange<ProtocolVersion>, features: Features, epoch: UpgradeEpoch = .none,
        lastInstance: UInt64 = 0, isObserver: Bool = false
    ) {
        self.targetName = targetName
        self.clientUUID = clientUUID
        self.clientHandle = clientHandle
        connectData = ObdConnectData()
        self.versions = versions
        self.features = features
        self.epoch = epoch
        self.lastInstance = lastInstance
        self.isObserver = isObserver
    }

    func encodeHello(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u16(versions.lowerBound.rawValue)
        writer.u16(versions.upperBound.rawValue)
        writer.u64(features.rawValue)
        epoch.encode(into: &writer)
        writer.u64(lastInstance)
        writer.u32(isObserver ? 1 : 0)
        writer.u32(0)
    }

    init(
        target: inout WireReader, client: inout WireReader, handle: inout WireReader,
        data: inout WireReader, hello: inout WireReader
    ) throws(WireError) {
        targetName = try readFixedText(from: &target, size: Self.uuidSize)
        clientUUID = try readFixedText(from: &client, size: Self.uuidSize)
        clientHandle = try handle.u64()
        connectData = try ObdConnectData(from: &data)
        let magic = try hello.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        let low = ProtocolVersion(rawValue: try hello.u16())
        let high = ProtocolVersion(rawValue: try hello.u16())
        guard low <= high, low.rawValue > 0 else { throw .badVersion(UInt32(low.rawValue)) }
        versions = low...high
        features = Features(rawValue: try hello.u64())
        epoch = try UpgradeEpoch(from: &hello)
        lastInstance = try hello.u64()
        isObserver = try readFlag(from: &hello)
        try hello.reserved(4)
    }
}

/// What a target answers to a connect: everything that the client's next state depends on.
public struct ConnectReply: Equatable, Sendable {
    static let magic: UInt32 = 0x5A1C_E002

    /// How a target takes a client (back).
    public enum Mode: UInt8, Sendable {
        /// A new client, or one whose record is gone: nothing of earlier instances is known.
        case fresh = 0
        /// The same instance as before: resend what was not answered.
        case sameInstance = 1
        /// A new instance after an unclean stop: replay requests, then locks.
        case recovering = 2
        /// A new instance after a clean stop whose record holds this client: replay opens and locks.
        case cleanRecord = 3
    }

    public var connectData: ObdConnectData
    public var version: ProtocolVersion
    public var features: Features
    public var mode: Mode
    public var admission: AdmissionState
    /// The target's instance; grows with each start.
    public var instance: UInt64
    /// The upgrade that is going on; `.none` while serving.
    public var epoch: UpgradeEpoch
    /// The server's cookie of the client's admission lock; 0 without the feature.
    public var admissionLock: UInt64
    /// The highest transno that the target knows to be committed.
    public var lastCommitted: Transno
    /// The notice of the upgrade, where one has been given.
    public var notice: UpgradeNotice?

    public init(
        version: ProtocolVersion, features: Features, mode: Mode, admission: AdmissionState,
        instance: UInt64, epoch: UpgradeEpoch, admissionLock: UInt64, lastCommitted: Transno,
        notice: UpgradeNotice?
    ) {
        connectData = ObdConnectData()
        self.version = version
        self.features = features
        self.mode = mode
        self.admission = admission
        self.instance = instance
        self.epoch = epoch
        self.admissionLock = admissionLock
        self.lastCommitted = lastCommitted
        self.notice = notice
    }

    func encodeHello(into writer: inout WireWriter) {
        writer.u32(Self.magic)
        writer.u16(version.rawValue)
        writer.u8(mode.rawValue)
        writer.u8(admission.rawValue)
        writer.u64(features.rawValue)
        writer.u64(instance)
        epoch.encode(into: &writer)
        writer.u64(admissionLock)
        writer.u64(lastCommitted.rawValue)
        writer.u32(notice == nil ? 0 : 1)
        writer.u32(0)
        if let notice { notice.encode(into: &writer) }
    }

    init(data: inout WireReader, hello: inout WireReader) throws(WireError) {
        connectData = try ObdConnectData(from: &data)
        let magic = try hello.u32()
        guard magic == Self.magic else { throw .badMagic(magic) }
        version = ProtocolVersion(rawValue: try hello.u16())
        let rawMode = try hello.u8()
        guard let mode = Mode(rawValue: rawMode) else {
            throw .badValue(field: "connect mode", value: UInt64(rawMode))
        }
        self.mode = mode
        let rawAdmission = try hello.u8()
        guard let admission = AdmissionState(rawValue: rawAdmission) else {
            throw .badValue(field: "admission", value: UInt64(rawAdmission))
        }
        self.admission = admission
        features = Features(rawValue: try hello.u64())
        instance = try hello.u64()
        epoch = try UpgradeEpoch(from: &hello)
        admissionLock = try hello.u64()
        lastCommitted = Transno(rawValue: try hello.u64())
        let hasNotice = try readFlag(from: &hello)
        try hello.reserved(4)
        notice = hasNotice ? try UpgradeNotice(from: &hello) : nil
    }
}

/// Where a client stands in the queue of its target's admission lock.
public enum AdmissionState: UInt8, Sendable {
    /// Does not take part (no feature bit).
    case none = 0
    /// Holds CR: updates may begin.
    case granted = 1
    /// Holds CR, asked to give it up.
    case revoking = 2
    /// Gave its receipt: waits behind the target's EX.
    case waiting = 3
    /// Everything is committed; the next instance will grant.
    case committed = 4
}
