import Foundation
import Primitives
import StorageCore
import Store
import Synchronization
import Testing

/// A directory that goes with the test.
final class Scratch {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "sluice-store-" + UUID().uuidString
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func open(
        _ name: String = "T0001", kind: String = "ost", create: Bool = true,
        options: DiskStore.Options = .init(),
        onEvent: @escaping @Sendable (CommitEvent) -> Void = { _ in }
    ) throws(StoreError) -> DiskStore {
        try DiskStore.open(
            directory: path, targetName: name, targetKind: kind, create: create,
            options: options, onEvent: onEvent)
    }

    /// The error that an attempt to open ends with.
    func refusal(
        _ name: String = "T0001", kind: String = "ost", create: Bool = false,
        options: DiskStore.Options = .init()
    ) -> StoreError? {
        do throws(StoreError) {
            try open(name, kind: kind, create: create, options: options).abandon()
            return nil
        } catch {
            return error
        }
    }

    /// What a check says is wrong.
    func findings() throws(StoreError) -> [String] {
        let lines = Mutex<[String]>([])
        let summary = try StoreCheck.run(directory: path, readsObjects: true) { line in
            lines.withLock { $0.append(line) }
        }
        let found = lines.withLock { $0 }
        #expect(summary.damageCount == found.count)
        return found
    }

    func exists(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: path + "/" + name)
    }

    /// Names of all object files.
    var objectFiles: [String] {
        (FileManager.default.enumerator(atPath: path + "/objects")?.allObjects ?? [])
            .compactMap { $0 as? String }.filter { $0.contains(".") }
    }
}

/// Decides where the next commit fails.
final class Faults: Sendable {
    private let next = Mutex<CommitStep?>(nil)

    func set(_ step: CommitStep?) { next.withLock { $0 = step } }

    func code(_ step: CommitStep) -> Int32 { next.withLock { $0 == step ? -EIO : 0 } }
}

func put(_ key: [UInt8], _ value: [UInt8], transno: UInt64 = 1) -> Transaction {
    var transaction = Transaction(transno: transno)
    transaction.put(.meta, key: key, value: value)
    return transaction
}

func commitAll(_ overlay: inout OverlayStore<DiskStore>) throws(StoreError) {
    if let group = overlay.takeGroup() { overlay.base.submit(group) }
    overlay.committed(try overlay.base.waitUntilCommitted())
}

@Suite struct `A store on disk` {
    @Test(arguments: UInt64(1)...10, [UInt32(1), 2])
    func `shows what a naive model shows, through failures, crashes and replay`(
        seed: UInt64, format: UInt32
    ) throws {
        let scratch = Scratch()
        let faults = Faults()
        var options = DiskStore.Options()
        options.newStoreFormat = format
        options.mapBytes = 1 << 16
        options.descriptorsMax = 3
        options.queueMax = 1000
        options.fault = { faults.code($0) }
        var workload = Workload(seed: seed)
        var store = OverlayStore(base: try scratch.open(options: options))
        var model = Model()
        var history: [(transaction: Transaction, model: Model)] = []
        var taken: [CommitGroup] = []
        for step in 0..<500 {
            let note = "seed \(seed), step \(step)"
            switch workload.random.below(12) {
            case 0...3:
                let transaction = workload.transaction()
                store.apply(transaction)
                model.apply(transaction)
                history.append((transaction, model))
            case 4:
                if let group = store.takeGroup() { taken.append(group) }
            case 5:
                for group in taken { store.base.submit(group) }
                taken = []
                if workload.random.oneIn(2) { store.committed(store.base.refresh()) }
            case 6 where workload.random.oneIn(4):
                // A commit that fails somewhere; then either it is tried again, or the server dies.
                let steps = CommitStep.allCases
                faults.set(steps[workload.random.below(steps.count)])
                for group in taken { store.base.submit(group) }
                taken = []
                if let group = store.takeGroup() { store.base.submit(group) }
                _ = try? store.base.waitUntilCommitted()
                Workload.checkAll(store, model, "\(note), failed")
                if workload.random.oneIn(2) {
                    faults.set(nil)
                    store.base.retryCommit()
                    store.committed(try store.base.waitUntilCommitted())
                    break
                }
                store.base.abandon()
                faults.set(nil)
                store = OverlayStore(base: try scratch.open(create: false, options: options))
                let durable =
                    store.read(.audit, Workload.transnoKey).map {
                        $0.reduce(0) { $0 << 8 | Int($1) }
                    } ?? 0
                // What is committed ends where it should: nothing shows behind it.
                let committed = durable == 0 ? Model() : history[durable - 1].model
                // From format 2 on a commit is all there or not at all, overwritten bytes too.
                if format >= 2 { Workload.checkAll(store, committed, "\(note), opened") }
                for sequence in 0..<UInt64(2) {
                    for number in 0..<UInt64(2) {
                        let id = ObjectID(sequence: sequence, number: number)
                        let end = committed.objects[id]?.count ?? 0
                        #expect(
                            store.base.readObject(id, offset: UInt64(end), count: 600) == [],
                            "\(note), \(id)")
                    }
                }
                // The clients replay what was lost.
                for entry in history[durable...] { store.apply(entry.transaction) }
                Workload.checkAll(store, model, "\(note), replayed")
            default:
                workload.check(store, model, note)
            }
        }
        for group in taken { store.base.submit(group) }
        try commitAll(&store)
        #expect(store.overlayEntryCount == 0)
        Workload.checkAll(store, model, "seed \(seed), the end")
        try store.base.close()
        let again = OverlayStore(base: try scratch.open(create: false, options: options))
        Workload.checkAll(again, model, "seed \(seed), opened again")
        #expect(again.base.takeDamage() == nil && again.base.damageCount == 0)
        try again.base.close()
        #expect(try scratch.findings() == [], "seed \(seed), checked")
        // To the other format and back nothing changes.
        for other in [3 - format, format] {
            #expect(try StoreConversion.convert(directory: scratch.path, to: other) == 3 - other)
            let converted = OverlayStore(base: try scratch.open(create: false, options: options))
            #expect(converted.base.identity.format == other)
            Workload.checkAll(converted, model, "seed \(seed), in format \(other)")
            try converted.base.close()
            #expect(try scratch.findings() == [], "seed \(seed), format \(other) checked")
        }
    }

    @Test func `keeps what was committed and loses what was not`() throws {
        let scratch = Scratch()
        var store = OverlayStore(base: try scratch.open())
        #expect(store.base.identity.targetName == "T0001")
        #expect(store.base.identity.format == 2)
        store.apply(put([1], [10]))
        try commitAll(&store)
        store.apply(put([2], [20], transno: 2))
        #expect(store.read(.meta, [2]) == [20])
        store.base.abandon()
        let again = OverlayStore(base: try scratch.open(create: false))
        #expect(again.read(.meta, [1]) == [10])
        #expect(again.read(.meta, [2]) == nil)
        try again.base.close()
    }

    @Test func `grows its map when the database is full`() throws {
        let scratch = Scratch()
        var options = DiskStore.Options()
        options.mapBytes = 256 << 10
        let events = Events()
        var store = OverlayStore(
            base: try scratch.open(options: options, onEvent: { events.add($0) }))
        for number in UInt8(0)..<200 {
            store.apply(
                put([number, 1], [UInt8](repeating: number, count: 1800), transno: UInt64(number)))
        }
        try commitAll(&store)
        let growths = Int(store.base.statistics.mapGrowths)
        #expect(growths >= 1)
        for number in UInt8(0)..<200 {
            #expect(store.base.read(.meta, [number, 1])?.first == number)
        }
        try store.base.close()
        #expect(events.growths == growths)
    }

    @Test func `a full disk is reported, keeps everything, and is tried again when asked`() throws {
        let scratch = Scratch()
        let isFull = Mutex(true)
        let events = Events()
        var options = DiskStore.Options()
        options.queueMax = 1
        options.fault = { step in
            step == .committingDatabase && isFull.withLock { $0 } ? -ENOSPC : 0
        }
        let base = try scratch.open(options: options, onEvent: { events.add($0) })
        var store = OverlayStore(base: base)
        store.apply(put([1], [2]))
        let full = StoreError.full(path: scratch.path + "/store.mdb")
        #expect(throws: full) { try commitAll(&store) }
        #expect(base.failure == full)
        #expect(!base.canSubmit, "the group that failed is kept, and the queue is full")
        #expect(store.read(.meta, [1]) == [2] && base.read(.meta, [1]) == nil)
        isFull.withLock { $0 = false }
        base.retryCommit()
        store.committed(try base.waitUntilCommitted())
        #expect(base.canSubmit && base.failure == nil)
        #expect(base.read(.meta, [1]) == [2] && store.overlayEntryCount == 0)
        try base.close()
        #expect(events.failures == 1 && events.committed == 1)
    }

    @Test func `groups that wait are committed together`() throws {
        let scratch = Scratch()
        let isHeld = Mutex(true)
        var options = DiskStore.Options()
        options.fault = { step in
            while step == .committingDatabase, isHeld.withLock({ $0 }) { usleep(500) }
            return 0
        }
        var store = OverlayStore(base: try scratch.open(options: options))
        for number in UInt8(1)...6 {
            store.apply(put([number], [number], transno: UInt64(number)))
            let group = store.takeGroup()
            store.base.submit(try #require(group))
        }
        isHeld.withLock { $0 = false }
        store.committed(try store.base.waitUntilCommitted())
        #expect(store.lastCommittedTransno == 6)
        #expect(store.base.statistics.groups == 6 && store.base.statistics.commits <= 2)
        try store.base.close()
    }

    @Test func `keys up to the longest are found, longer ones are nowhere`() throws {
        let scratch = Scratch()
        var store = OverlayStore(base: try scratch.open())
        let longest = [UInt8](repeating: 7, count: StoreLimits.keyByteCountMax)
        store.apply(put(longest, [1]))
        store.apply(put([7], [], transno: 2))
        try commitAll(&store)
        #expect(store.read(.meta, longest) == [1])
        #expect(store.read(.meta, [7]) == [], "an empty value is a value")
        #expect(store.read(.meta, longest + [7]) == nil)
        #expect(store.read(.meta, []) == nil)
        var seen = 0
        store.scan(.meta, prefix: [7], after: longest) { _, _ in
            seen += 1
            return true
        }
        #expect(seen == 0)
        try store.base.close()
    }

    @Test func `many files in one commit are all there after it`() throws {
        let scratch = Scratch()
        var store = OverlayStore(base: try scratch.open())
        var transaction = Transaction(transno: 1)
        for number in UInt64(0)..<60 {
            transaction.writeObject(
                ObjectID(sequence: 7, number: number), offset: number, bytes: [UInt8(number), 1])
        }
        store.apply(transaction)
        try commitAll(&store)
        #expect(store.base.statistics.filesWritten == 60)
        #expect(scratch.objectFiles.count == 60)
        for number in UInt64(0)..<60 {
            let bytes = store.base.readObject(
                ObjectID(sequence: 7, number: number), offset: 0, count: 100)
            #expect(bytes == [UInt8](repeating: 0, count: Int(number)) + [UInt8(number), 1])
        }
        var removal = Transaction(transno: 2)
        for number in UInt64(0)..<60 { removal.removeObject(ObjectID(sequence: 7, number: number)) }
        store.apply(removal)
        try commitAll(&store)
        #expect(scratch.objectFiles.isEmpty)
        try store.base.close()
    }

    @Test func `bytes of a commit that failed do not show behind the end later`() throws {
        let scratch = Scratch()
        let faults = Faults()
        var options = DiskStore.Options()
        options.fault = { faults.code($0) }
        let id = ObjectID(sequence: 1, number: 2)
        var store = OverlayStore(base: try scratch.open(options: options))
        var first = Transaction(transno: 1)
        first.writeObject(id, offset: 0, bytes: [1, 2, 3])
        store.apply(first)
        try commitAll(&store)
        faults.set(.committingDatabase)
        var lost = Transaction(transno: 2)
        lost.writeObject(id, offset: 3, bytes: [UInt8](repeating: 9, count: 100))
        store.apply(lost)
        #expect(throws: StoreError.self) { try commitAll(&store) }
        #expect(store.base.failure != nil)
        store.base.abandon()
        faults.set(nil)
        store = OverlayStore(base: try scratch.open(create: false, options: options))
        #expect(store.readObject(id, offset: 0, count: 6) == [1, 2, 3, 0, 0, 0])
        var past = Transaction(transno: 2)
        past.writeObject(id, offset: 5, bytes: [6])
        store.apply(past)
        try commitAll(&store)
        #expect(store.base.readObject(id, offset: 0, count: 200) == [1, 2, 3, 0, 0, 6])
        try store.base.close()
    }

    @Test func `a commit that waits for its clean-up is not reported before it`() throws {
        let scratch = Scratch()
        let faults = Faults()
        var options = DiskStore.Options()
        options.fault = { faults.code($0) }
        let id = ObjectID(sequence: 1, number: 2)
        var store = OverlayStore(base: try scratch.open(options: options))
        var first = Transaction(transno: 1)
        first.writeObject(id, offset: 0, bytes: [UInt8](repeating: 5, count: 50))
        store.apply(first)
        try commitAll(&store)
        faults.set(.cleaningUp)
        var cut = Transaction(transno: 2)
        cut.truncateObject(id, to: 10)
        cut.writeObject(id, offset: 30, bytes: [6])
        store.apply(cut)
        #expect(throws: StoreError.self) { try commitAll(&store) }
        #expect(store.lastCommittedTransno == 1)
        store.base.abandon()
        // The record of the work is durable: the next run does it.
        faults.set(nil)
        let wanted =
            [UInt8](repeating: 5, count: 10) + [UInt8](repeating: 0, count: 20) + [6]
        store = OverlayStore(base: try scratch.open(create: false, options: options))
        #expect(store.base.readObject(id, offset: 0, count: 100) == wanted)
        try store.base.close()
    }
}

/// Counts what a commit thread reports.
final class Events: Sendable {
    private let counts = Mutex((committed: 0, growths: 0, failures: 0))

    func add(_ event: CommitEvent) {
        counts.withLock {
            switch event {
            case .committed: $0.committed += 1
            case .growthNeeded: $0.growths += 1
            case .failed: $0.failures += 1
            }
        }
    }

    var committed: Int { counts.withLock { $0.committed } }
    var failures: Int { counts.withLock { $0.failures } }
    var growths: Int { counts.withLock { $0.growths } }
}
