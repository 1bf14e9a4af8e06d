import Testing
import WireFormat

@testable import UpgradeCore

@Suite struct CleanRecordTests {
    static let epoch = UpgradeEpoch(instance: 3, counter: 1)

    static var record: CleanRecord {
        let receipt = UpgradeReceipt(
            epoch: epoch, lastXID: XID(rawValue: 128), lastTransno: Transno(rawValue: 9),
            openCount: 2, flushedBytes: 4096)
        let accounts: [CleanRecord.Account] = [
            .receipt(receipt), .bornPrepared, .synchronous, .absent, .carriedForward,
        ]
        return CleanRecord(
            epoch: epoch, instance: 3, versions: .v1 ... .v2, storeFormat: 7,
            lastTransno: Transno(rawValue: 10), targetName: "mdt0",
            clients: accounts.enumerated().map { index, account in
                CleanRecord.Client(
                    uuid: "c\(index)", exportIndex: UInt32(index),
                    nid: NID(address: 0x7f00_0101, type: .tcp), sinceInstance: 2, account: account)
            },
            lockReservations: [[1, 2, 3], []], openReservations: [[4]], nids: [.loopback])
    }

    @Test func `a record comes back from its bytes and from its rows of any size`() throws {
        #expect(try CleanRecord(encoded: Self.record.encoded()) == Self.record)
        for size in [41, 64, 100, 32 * 1024] {
            #expect(try CleanRecord(rows: Self.record.rows(sizeMax: size)) == Self.record)
        }
    }

    @Test func `the smallest record keeps its golden bytes`() throws {
        let record = CleanRecord(
            epoch: Self.epoch, instance: 3, versions: .v1 ... .v2, storeFormat: 7,
            lastTransno: Transno(rawValue: 10), targetName: "t")
        let golden: [UInt8] =
            [0x10, 0xE0, 0x1C, 0x5A, 1, 0, 0, 0]
            + [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
            + [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 7, 0, 0, 0]
            + [10, 0, 0, 0, 0, 0, 0, 0, 1, 0x74]
            + [UInt8](repeating: 0, count: 16)
        #expect(Array(record.encoded().dropLast(8)) == golden)
    }

    @Test func `every torn record and every flipped bit is found`() {
        let bytes = Self.record.encoded()
        for length in 0..<bytes.count {
            #expect(throws: WireError.self) {
                try CleanRecord(encoded: Array(bytes.prefix(length)))
            }
        }
        for bit in 0..<(bytes.count * 8) {
            var flipped = bytes
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: WireError.self) { try CleanRecord(encoded: flipped) }
        }
    }

    @Test func `a missing, foreign or damaged row is found`() {
        let rows = Self.record.rows(sizeMax: 100)
        #expect(throws: WireError.self) { try CleanRecord(rows: []) }
        for index in rows.indices {
            var missing = rows
            missing.remove(at: index)
            #expect(throws: WireError.self) { try CleanRecord(rows: missing) }
            for byte in rows[index].value.indices {
                var damaged = rows
                damaged[index].value[byte] ^= 0x10
                #expect(throws: WireError.self) { try CleanRecord(rows: damaged) }
            }
        }
        var other = Self.record
        other.instance = 4
        var mixed = rows
        mixed[0] = other.rows(sizeMax: 100)[0]
        #expect(throws: WireError.self) { try CleanRecord(rows: mixed) }
    }

    @Test func `only clients of the record, with only clean stops between, purge`() {
        let record = Self.record
        #expect(record.mode(forUUID: "c0", lastInstance: 3) == .cleanRecord)
        #expect(record.mode(forUUID: "c4", lastInstance: 2) == .cleanRecord)
        #expect(record.mode(forUUID: "c4", lastInstance: 1) == .recovering)
        #expect(record.mode(forUUID: "c2", lastInstance: 3) == .recovering)
        #expect(record.mode(forUUID: "nobody", lastInstance: 3) == .fresh)
    }
}

@Suite struct StartGateTests {
    func decide(
        _ record: CleanRecord?, own: ClosedRange<ProtocolVersion>, format: UInt32 = 7,
        force: Bool = false, instance: UInt64 = 3
    ) -> StartGate.Decision {
        StartGate.decide(
            lastRun: .init(
                instance: instance, versions: .v1 ... .v1, storeFormat: format, clients: ["a", "b"]),
            cleanRecord: record, ownVersions: own, ownFormats: 6...7, isForced: force)
    }

    @Test func `the gate decides by format, record and protocol range`() {
        let record = CleanRecordTests.record
        #expect(
            StartGate.decide(
                lastRun: nil, cleanRecord: nil, ownVersions: .v1 ... .v2, ownFormats: 6...7,
                isForced: false) == .fresh)
        #expect(decide(record, own: .v1 ... .v2) == .clean(record))
        #expect(decide(nil, own: .v1 ... .v1) == .recover)
        #expect(decide(record, own: .v1 ... .v1, instance: 4) == .recover)
        #expect(decide(nil, own: .v1 ... .v2, force: true) == .forced(evicting: ["a", "b"]))
        for decision in [
            decide(nil, own: .v1 ... .v2), decide(record, own: .v1 ... .v2, format: 9, force: true),
        ] {
            guard case .refused(let sentence) = decision else {
                Issue.record("not refused: \(decision)")
                continue
            }
            #expect(sentence.contains("start"))
        }
    }
}
