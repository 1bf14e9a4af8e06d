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
}
