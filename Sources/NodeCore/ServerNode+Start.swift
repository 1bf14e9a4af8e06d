import ClientCore
public import Primitives
public import StorageCore
public import WireFormat

import LDLMCore
import LNetCore
import MetadataCore
import PtlRPCCore
import UpgradeCore

/// Why a server does not start on a store; one sentence with the way out.
public struct StartRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
}

/// From standby to service: what the store says, who is expected, what is kept for them.
extension ServerNode {
    static let storeFormat: UInt32 = 1
    private static let runKey = Array("run".utf8)
    private static let transnoKey = Array("transno".utf8)

    /// Takes the store and serves, or says why not. Parked connects are answered.
    public mutating func activate(
        _ base: any CommittedStore, now: Ticks, wall: Timestamp
    ) throws(StartRefusal) {
        precondition(store == nil, "a server is activated once")
        self.wall = wall
        let box = StoreBox(base)
        let committed = Self.number(box.read(.meta, Self.transnoKey)) ?? 0
        let lastRun = Self.lastRun(in: box)
        let record = Self.cleanRecord(in: box)
        finalized = Self.finalized(in: box)
        if let damage = box.takeDamage() {
            throw Self.refusal(damage, of: configuration.targetName)
        }
        let decision = StartGate.decide(
            lastRun: lastRun, cleanRecord: record?.record, ownVersions: configuration.versions,
            ownFormats: Self.storeFormat...Self.storeFormat, isForced: configuration.isForced)
        if case .refused(let reason) = decision { throw StartRefusal(description: reason) }
        if let lastRun, lastRun.instance >= instance {
            throw StartRefusal(
                description: "the store was last used by instance \(lastRun.instance), and this "
                    + "one would be \(instance): set the clock of this machine right")
        }
        store = OverlayStore(base: box, lastCommittedTransno: committed)
        activeSince = now
        nextTransno = committed + 1
        cleanRecordKeys = record?.keys ?? []
        rpc.lastCommitted = Transno(rawValue: committed)
        switch decision {
        case .refused: break
        case .fresh:
            startFresh(now: now)
        case .forced(let names):
            for name in names {
                log(
                    .evicted(
                        client: name, reason: "the target was started by force",
                        loss: EvictionLoss()))
            }
            evictionCount += UInt64(names.count)
            dropRecords(now: now)
            startFresh(now: now)
        case .clean(let record):
            try startClean(record, now: now)
        case .recover:
            try startRecovering(now: now)
        }
        if let damage = box.takeDamage() {
            throw Self.refusal(damage, of: configuration.targetName)
        }
        pump(now: now)
        takeGroup(now: now)
    }

    private mutating func startFresh(now: Ticks) {
        loadService(afterCleanStop: false, now: now)
        rpc.start(.fresh, lnet: &lnet, now: now)
        actions.append(.serving(instance: instance, .fresh))
    }

    private mutating func startClean(_ record: CleanRecord, now: Ticks) throws(StartRefusal) {
        hasCleanStart = true
        startRecord = record
        startRecord?.lockReservations = []
        startRecord?.openReservations = []
        if configuration.mutation.is(.keepsCleanRecord) { isRunCommitted = true }
        try loadClients()
        for client in record.clients {
            rpc.setCleanSince(client.sinceInstance, of: client.exportIndex)
        }
        loadService(afterCleanStop: true, now: now)
        do throws(WireError) {
            for blob in record.lockReservations
            where !configuration.mutation.is(.servesAtOnce) {
                let reserved = try ReservationCodec.decode(blob)
                _ = locks.install(reserved, owner: owner(UInt32(reserved.ownerKey)))
            }
            if case .metadata(var metadata) = service {
                for blob in record.openReservations
                where !configuration.mutation.is(.forgetsReservedOpens) {
                    metadata.install(try OpenReservation.decode(blob))
                }
                service = .metadata(metadata)
            }
        } catch {
            throw StartRefusal(
                description: "the clean record of \(configuration.targetName) names a lock or an "
                    + "open that cannot be read (\(error)): start the build that wrote it")
        }
        rpc.forEachExport { reservedExports.append($0.index) }
        reservationDeadline = now + configuration.callbackTimeout
        finishOrphans(now: now)
        rpc.start(
            .clean(lastCommitted: Transno(rawValue: nextTransno - 1)), lnet: &lnet, now: now)
        actions.append(.serving(instance: instance, .clean))
        announceUp(now: now)
    }

    private mutating func startRecovering(now: Ticks) throws(StartRefusal) {
        try loadClients()
        loadService(afterCleanStop: false, now: now)
        let clientCount = rpc.exportCount
        isRecovering = true
        locks.beginRecovery()
        if case .metadata(var metadata) = service {
            metadata.recoveryStarted()
            service = .metadata(metadata)
        }
        rpc.start(
            .recovering(lastCommitted: Transno(rawValue: nextTransno - 1)), lnet: &lnet,
            now: now)
        actions.append(.serving(instance: instance, .recovering(clientCount: clientCount)))
        announceUp(now: now)
    }

    mutating func finishRecovery(evicted: [UInt32], now: Ticks) {
        guard isRecovering else { return }
        isRecovering = false
        locks.finishRecovery(now: now)
        finishOrphans(now: now)
        log(
            .recovered(
                clientCount: rpc.exportCount, replayed: rpc.counters.replayed,
                evicted: evicted.count))
    }

    private mutating func finishOrphans(now: Ticks) {
        guard case .metadata(var metadata) = service else { return }
        metadata.recoveryFinished()
        service = .metadata(metadata)
        orphanKey = []
    }

    /// Tells every client of the record that is not here yet where the target is.
    private mutating func announceUp(now: Ticks) {
        var absent: [NID] = []
        rpc.forEachExport { if $0.isAbsent, $0.nid.rawValue != 0 { absent.append($0.nid) } }
        let up = TargetUp(
            targetName: configuration.targetName, instance: instance,
            nid: configuration.lnet.nid)
        for nid in absent { rpc.push(to: nid, .targetUp(up), lnet: &lnet, now: now) }
    }

    private mutating func loadService(afterCleanStop isClean: Bool, now: Ticks) {
        guard let store, case .metadata(var metadata) = service else { return }
        metadata.configureObjectTargets(configuration.objectTargets.map(\.index))
        var transaction = metadata.load(from: store, afterCleanStop: isClean)
        service = .metadata(metadata)
        apply(&transaction, now: now)
        if client != nil {
            withClient { $0.mount(lnet: &$1, now: now) }
        }
    }

    private mutating func loadClients() throws(StartRefusal) {
        guard let store else { return }
        var rows: [(key: [UInt8], value: [UInt8], isReply: Bool)] = []
        store.scan(.clients, from: [0]) { key, value in
            rows.append((key, value, false))
            return true
        }
        store.scan(.replyData, from: [0]) { key, value in
            rows.append((key, value, true))
            return true
        }
        for row in rows {
            do throws(WireError) {
                if row.isReply {
                    try rpc.load(replyKey: row.key, value: row.value)
                } else {
                    try rpc.load(clientKey: row.key, value: row.value)
                }
            } catch {
                throw StartRefusal(
                    description: "a client record of \(configuration.targetName) cannot be read "
                        + "(\(error)): the store is damaged or of a newer build")
            }
        }
    }

    private mutating func dropRecords(now: Ticks) {
        guard let store else { return }
        var transaction = Transaction()
        for table in [Table.clients, .replyData] {
            store.scan(table, from: [0]) { key, _ in
                transaction.delete(table, key: key)
                return true
            }
        }
        apply(&transaction, now: now)
    }

    // MARK: What the store says

    private static func number(_ bytes: [UInt8]?) -> UInt64? {
        guard let bytes, bytes.count == 8 else { return nil }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Instance (8), lowest and highest version (2, 2), store format (4), little-endian.
    private static func lastRun(in store: StoreBox) -> StartGate.LastRun? {
        guard let bytes = store.read(.meta, runKey), bytes.count == 16 else { return nil }
        return RawSpan.over(bytes) { (span: RawSpan) -> StartGate.LastRun? in
            let low = ProtocolVersion(rawValue: span.littleEndian(at: 8))
            let high = ProtocolVersion(rawValue: span.littleEndian(at: 10))
            guard low <= high else { return nil }
            var names: [String] = []
            store.scan(.clients, from: [0]) { key, value in
                if let record = try? ClientRecord(key: key, value: value) {
                    names.append(record.uuid)
                }
                return true
            }
            return StartGate.LastRun(
                instance: span.littleEndian(at: 0), versions: low...high,
                storeFormat: span.littleEndian(at: 12), clients: names,
                finalized: finalized(in: store))
        }
    }

    /// The row that says which build uses the store: written with an instance's first change.
    mutating func writeRun(into transaction: inout Transaction) {
        guard !hasWrittenRun else { return }
        hasWrittenRun = true
        var writer = WireWriter(capacity: 16)
        writer.u64(instance)
        writer.u16(configuration.versions.lowerBound.rawValue)
        writer.u16(configuration.versions.upperBound.rawValue)
        writer.u32(Self.storeFormat)
        transaction.put(.meta, key: Self.runKey, value: writer.bytes)
        // The record of the stop before is true no longer.
        for key in cleanRecordKeys { transaction.delete(.reservations, key: key) }
        cleanRecordKeys = []
    }

    func transnoRow(_ transno: UInt64) -> (key: [UInt8], value: [UInt8]) {
        var writer = WireWriter(capacity: 8)
        writer.u64(transno)
        return (Self.transnoKey, writer.bytes)
    }

    private static func cleanRecord(
        in store: StoreBox
    ) -> (record: CleanRecord, keys: [[UInt8]])? {
        var rows: [CleanRecord.Row] = []
        store.scan(.reservations, from: [0]) { key, value in
            rows.append(CleanRecord.Row(key: key, value: value))
            return true
        }
        guard !rows.isEmpty, let record = try? CleanRecord(rows: rows) else { return nil }
        return (record, rows.map(\.key))
    }
}
