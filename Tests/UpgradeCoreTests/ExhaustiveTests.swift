import class Foundation.ProcessInfo
import Primitives
import Testing
@testable import UpgradeCore
import WireFormat

extension World {
    /// Everything that the future depends on, in 128 bits: two worlds with equal prints go on alike.
    var fingerprint: [Int] {
        var one = Hasher()
        print(into: &one)
        var other = Hasher()
        other.combine(0x5A1C)
        print(into: &other)
        return [one.finalize(), other.finalize()]
    }

    private func print(into hasher: inout Hasher) {
        hasher.combine(now)
        hasher.combine(options.crashBudget)
        hasher.combine(options.connectionLossBudget)
        hasher.combine(options.duplicateBudget)
        hasher.combine(options.abortBudget)
        hasher.combine(options.upgradeBudget)
        // The wire is a bag: the order in it means nothing.
        hasher.combine(Dictionary(wire.map { ($0, 1) }, uniquingKeysWith: +))
        hasher.combine(instance)
        hasher.combine(disk.operations)
        hasher.combine(disk.lastTransno)
        hasher.combine(disk.slots)
        hasher.combine(disk.record?.instance)
        hasher.combine(disk.writer)
        for client in clients {
            let machine = client.machine
            hasher.combine("\(machine.state)")
            hasher.combine(machine.seen)
            hasher.combine(machine.ended)
            hasher.combine(machine.notice)
            hasher.combine(machine.earlyNotice)
            hasher.combine(machine.admission)
            hasher.combine(machine.admissionEpoch)
            hasher.combine(machine.targetInstance)
            hasher.combine(machine.isReceiptDelivered)
            hasher.combine(machine.isDrained)
            hasher.combine(client.connection)
            hasher.combine(client.begun)
            hasher.combine(client.inFlight)
            hasher.combine(client.atGate)
            hasher.combine(client.dirty)
            hasher.combine(client.saved.map(\.operation))
            hasher.combine(client.replaying)
            hasher.combine(client.acknowledged.count)
            hasher.combine(client.drainWanted)
            hasher.combine(client.flushWanted)
            hasher.combine(client.isReplayDoneSent)
        }
        guard let target else { return }
        hasher.combine("\(target.machine.state)")
        for client in target.machine.clients {
            hasher.combine(client.standing)
            hasher.combine(client.isNoticeDelivered)
            hasher.combine(client.isCommitNoticeDelivered)
            hasher.combine(client.grantEpoch)
        }
        hasher.combine(target.exclusive)
        hasher.combine(target.admission)
        hasher.combine(target.isFenced)
        hasher.combine(target.connection)
        hasher.combine(target.isKnown)
        hasher.combine(target.log.map(\.operation))
        hasher.combine(target.held.map(\.operation))
        hasher.combine(target.awaited)
        hasher.combine(target.isClean)
        hasher.combine(target.isCommitAsked)
        hasher.combine(target.isRecordAsked)
        hasher.combine(target.isRemotePending)
        hasher.combine(target.isStopped)
    }

    /// `EXPLORE=worlds` in the environment: as many worlds at most instead of the test's own bound.
    static let worldsMaxAsked = ProcessInfo.processInfo.environment["EXPLORE"].flatMap { Int($0) }

    /// Walks every interleaving up to a number of different worlds. Gives how many there were, whether
    /// that was all, and the first violation.
    static func explore(
        from start: World, worldsMax: Int
    ) -> (count: Int, isComplete: Bool, violation: String?) {
        let worldsMax = worldsMaxAsked ?? worldsMax
        defer { if worldsMaxAsked != nil { Swift.print("explored up to \(worldsMax) worlds") } }
        var seen: Set<[Int]> = [start.fingerprint]
        var frontier = [start]
        var random = SplitMix64(seed: 1)
        while let world = frontier.popLast() {
            for choice in world.choices() {
                var next = world
                next.apply(choice)
                if let violation = next.violation { return (seen.count, false, violation) }
                guard seen.insert(next.fingerprint).inserted else { continue }
                if seen.count >= worldsMax { return (seen.count, false, nil) }
                // Some of them are also followed to their end.
                if seen.count % 512 == 0 {
                    var last = next
                    last.settle(&random)
                    if let violation = last.violation { return (seen.count, false, violation) }
                }
                frontier.append(next)
            }
        }
        if worldsMaxAsked != nil { Swift.print("complete: \(seen.count) worlds") }
        return (seen.count, true, nil)
    }

    /// Everybody connected, before anything else.
    static func connected(_ options: Options) -> World {
        var world = World(options)
        for index in world.clients.indices { world.apply(.reconnect(index)) }
        while let place = world.wire.indices.first { world.apply(.deliver(place)) }
        return world
    }
}

@Suite struct ExhaustiveTests {
    static func options(_ clientCount: Int) -> World.Options {
        var options = World.Options()
        options.clientCount = clientCount
        options.operationsMax = 1
        options.hasTime = false
        return options
    }

    @Test func `one client, one crash, every interleaving`() {
        var options = Self.options(1)
        options.crashBudget = 1
        let result = World.explore(from: .connected(options), worldsMax: 30_000)
        #expect(result.violation == nil)
        #expect(result.isComplete, "\(result.count) worlds were not all")
    }

    @Test func `one client, an abort and a second upgrade, as far as the bound goes`() {
        var options = Self.options(1)
        options.abortBudget = 1
        options.upgradeBudget = 2
        let result = World.explore(from: .connected(options), worldsMax: 6_000)
        #expect(result.violation == nil)
    }

    @Test(arguments: [(1, 0), (0, 1)])
    func `two clients, one fault, as far as the bound goes`(crash: Int, loss: Int) {
        var options = Self.options(2)
        options.crashBudget = crash
        options.connectionLossBudget = loss
        let result = World.explore(from: .connected(options), worldsMax: 6_000)
        #expect(result.violation == nil)
    }
}
