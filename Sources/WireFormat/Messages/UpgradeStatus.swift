/// Where a target's upgrade stands.
public enum UpgradePhase: UInt8, Sendable, CaseIterable {
    case serving = 0
    case announced = 1
    case gathering = 2
    case committing = 3
    case sealed = 4
    case committed = 5
    case stopped = 6
    case aborting = 7
    case recovering = 8
    case standby = 9
    case starting = 10
    /// All is on disk, the clients are not told yet: waits for `proceed`, or is given up.
    case held = 11

    public var name: String { "\(self)" }
}

/// A target's account of itself, with every client by name.
public struct UpgradeStatusReply: Equatable, Sendable {
    public struct Client: Equatable, Sendable {
        public var uuid: String
        public var nid: NID
        public var admission: AdmissionState
        /// Counted as prepared, synchronous or absent for the upgrade in hand.
        public var isCountedOut: Bool
        public var isConnected: Bool
        public var version: ProtocolVersion
        /// Nanoseconds from the command to the client's receipt at the target; 0 for none.
        public var receiptNs: UInt64

        public init(
            uuid: String, nid: NID, admission: AdmissionState, isCountedOut: Bool,
            isConnected: Bool, version: ProtocolVersion, receiptNs: UInt64
        ) {
            self.uuid = uuid
            self.nid = nid
            self.admission = admission
            self.isCountedOut = isCountedOut
            self.isConnected = isConnected
            self.version = version
            self.receiptNs = receiptNs
        }
    }

    public var targetName: String
    public var phase: UpgradePhase
    public var epoch: UpgradeEpoch
    public var instance: UInt64
    public var versions: ClosedRange<ProtocolVersion>
    public var lastTransno: Transno
    public var lastCommitted: Transno
    /// Requests replayed and resends answered from saved replies since this instance started.
    public var replayed: UInt64
    public var resent: UInt64
    public var evictions: UInt64
    /// Nanoseconds from the accepted command; 0 where not reached.
    public var preparedNs: UInt64
    public var committedNs: UInt64
    public var clients: [Client]
    /// More of it, from builds that know opcode "upgrade order"; with an entry for each of `clients`.
    public var details: UpgradeDetails?

    public init(
        targetName: String, phase: UpgradePhase, epoch: UpgradeEpoch, instance: UInt64,
        versions: ClosedRange<ProtocolVersion>, lastTransno: Transno, lastCommitted: Transno,
        replayed: UInt64, resent: UInt64, evictions: UInt64, preparedNs: UInt64,
        committedNs: UInt64, clients: [Client], details: UpgradeDetails? = nil
    ) {
        self.targetName = targetName
        self.phase = phase
        self.epoch = epoch
        self.instance = instance
        self.versions = versions
        self.lastTransno = lastTransno
        self.lastCommitted = lastCommitted
        self.replayed = replayed
        self.resent = resent
        self.evictions = evictions
        self.preparedNs = preparedNs
        self.committedNs = committedNs
        self.clients = clients
        self.details = details
    }

    /// What fits into one reply with room to spare; the rest is counted, not listed.
    public static let clientCountMax = 8_000
    /// The same with details.
    public static let detailedCountMax = 4_000

    func encode(into writer: inout WireWriter) {
        writeText(targetName, into: &writer)
        writer.u8(phase.rawValue)
        epoch.encode(into: &writer)
        writer.u64(instance)
        writer.u16(versions.lowerBound.rawValue)
        writer.u16(versions.upperBound.rawValue)
        writer.u64(lastTransno.rawValue)
        writer.u64(lastCommitted.rawValue)
        writer.u64(replayed)
        writer.u64(resent)
        writer.u64(evictions)
        writer.u64(preparedNs)
        writer.u64(committedNs)
        let listed = clients.prefix(
            details == nil ? Self.clientCountMax : Self.detailedCountMax)
        writer.u32(UInt32(listed.count))
        for client in listed {
            writeText(client.uuid, into: &writer)
            writer.u64(client.nid.rawValue)
            writer.u8(client.admission.rawValue)
            writer.u8((client.isCountedOut ? 1 : 0) | (client.isConnected ? 2 : 0))
            writer.u16(client.version.rawValue)
            writer.u64(client.receiptNs)
        }
        details?.encode(clientCount: listed.count, into: &writer)
    }

    init(from reader: inout WireReader) throws(WireError) {
        targetName = try readText(
            from: &reader, limit: ConnectRequest.uuidSize, field: "target name")
        let rawPhase = try reader.u8()
        guard let phase = UpgradePhase(rawValue: rawPhase) else {
            throw .badValue(field: "phase", value: UInt64(rawPhase))
        }
        self.phase = phase
        epoch = try UpgradeEpoch(from: &reader)
        instance = try reader.u64()
        let low = ProtocolVersion(rawValue: try reader.u16())
        let high = ProtocolVersion(rawValue: try reader.u16())
        guard low <= high else { throw .badVersion(UInt32(low.rawValue)) }
        versions = low...high
        lastTransno = Transno(rawValue: try reader.u64())
        lastCommitted = Transno(rawValue: try reader.u64())
        replayed = try reader.u64()
        resent = try reader.u64()
        evictions = try reader.u64()
        preparedNs = try reader.u64()
        committedNs = try reader.u64()
        let count = try reader.u32()
        guard count <= UInt32(Self.clientCountMax) else {
            throw .badLength(
                field: "clients", value: UInt64(count), limit: UInt64(Self.clientCountMax))
        }
        clients = []
        for _ in 0..<count {
            let uuid = try readText(
                from: &reader, limit: ConnectRequest.uuidSize, field: "client uuid")
            let nid = NID(rawValue: try reader.u64())
            let rawAdmission = try reader.u8()
            guard let admission = AdmissionState(rawValue: rawAdmission) else {
                throw .badValue(field: "admission", value: UInt64(rawAdmission))
            }
            let flags = try reader.u8()
            guard flags <= 3 else { throw .reservedBitsSet(UInt64(flags)) }
            let version = ProtocolVersion(rawValue: try reader.u16())
            clients.append(
                Client(
                    uuid: uuid, nid: nid, admission: admission, isCountedOut: flags & 1 != 0,
                    isConnected: flags & 2 != 0, version: version,
                    receiptNs: try reader.u64()))
        }
        // An older build says no more than this.
        details =
            reader.remaining > 0
            ? try UpgradeDetails(from: &reader, clientCount: clients.count) : nil
    }
}
