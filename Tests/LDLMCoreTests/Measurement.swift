import LDLMCore
import Primitives
import Testing
import WireFormat

/// Rates and sizes, printed and not judged: they say something in a release build only.
@Suite struct Measurement {
    #if DEBUG
        private let lockCount = 10_000
    #else
        private let lockCount = 1_000_000
    #endif

    private func report(_ what: String, _ count: Int, _ elapsed: Duration) {
        let parts = elapsed.components
        let time = Double(parts.seconds) + Double(parts.attoseconds) / 1e18
        print("measured: \(what): \(Int(Double(count) / time)) per second")
    }

    @Test func `rates and bytes per lock are printed`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let clock = ContinuousClock()
        var filled = clock.now
        for index in 0..<lockCount {
            _ = server.enqueue(
                owner: client(UInt32(index % 1000)), resource: ResourceID(UInt64(index), 7),
                mode: .pr, policy: .extent(Extent(start: 0, end: 4095)),
                clientCookie: UInt64(index), now: epoch)
        }
        report("enqueue, each on a resource of its own", lockCount, clock.now - filled)
        let memory = server.memoryByteCount
        print(
            "measured: bytes per lock with its resource: \(memory.inUse / lockCount) in use,",
            "\(memory.reserved / lockCount) reserved")

        filled = clock.now
        for round in 0..<lockCount {
            let owner = client(UInt32(round % 1000))
            let result = server.enqueue(
                owner: owner, resource: ResourceID(UInt64(round), 8), mode: .pw,
                policy: .extent(Extent(start: 0, end: 4095)),
                clientCookie: UInt64(lockCount + round), now: epoch)
            server.cancel(result.lock, owner: owner, now: epoch)
        }
        report("enqueue and cancel beside these", lockCount, clock.now - filled)
        #expect(server.count == lockCount)

        let admission = ResourceID.admission(1)
        var held: [SlotHandle] = []
        for index in 0..<UInt32(1000) {
            held.append(server.plain(client(index), .cr, .max, on: admission).lock)
        }
        filled = clock.now
        let ex = server.plain(.local, .ex, 0, on: admission)
        let announced = server.takeActions().count
        for index in 0..<UInt32(1000) {
            server.cancel(held[Int(index)], owner: client(index), now: epoch)
            _ = server.plain(client(index), .cr, .max - 1, on: admission)
        }
        #expect(announced == 1000)
        #expect(server.takeActions() == [.granted(ex.lock)])
        report("admission receipts of 1000 clients", 1000, clock.now - filled)
    }

    /// Where the queue were walked for each, ten times as many would take a hundred times as long.
    @Test func `rates of queues are printed`() {
        #if DEBUG
            let counts = [1000]
        #else
            let counts = [1000, 10_000, 100_000]
        #endif
        let clock = ContinuousClock()
        for count in counts {
            var server = LockServer(LockServerConfiguration(instance: 1))
            var started = clock.now
            for index in 0..<count {
                _ = server.range(client(UInt32(index)), .pw, 0, 4095, 1, flags: .noExpansion)
            }
            _ = server.takeActions()
            report("writers of one range join a queue of \(count)", count, clock.now - started)
            started = clock.now
            var served = 0
            while let holder = server.holders(ResourceID(1)).first {
                server.cancel(holder.handle, owner: holder.owner, now: epoch)
                served += server.takeActions().completed.count
            }
            report("writers of one range leave a queue of \(count)", count, clock.now - started)
            #expect(served == count - 1)

            started = clock.now
            for index in UInt64(0)..<UInt64(count) {
                _ = server.range(
                    client(UInt32(index)), .pw, index * 4096, index * 4096 + 4095, 1,
                    flags: .noExpansion)
            }
            report("writers of \(count) ranges of one object", count, clock.now - started)
            #expect(server.count == count)
            print(
                "measured: bytes per lock on one object of \(count):",
                server.memoryByteCount.inUse / count)
        }
    }
}
