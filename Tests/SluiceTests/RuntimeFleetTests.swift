import ClientCore
import NodeRuntime
import Primitives
import SluiceClient
import Synchronization
import Testing
import WireFormat

/// Makes directories on every node, one after the other, without leaving the loop.
private final class Maker: FleetDriver {
    let each: Int
    let done: @Sendable ([Int]) -> Void
    private let counts = Mutex<[Int]>([])

    init(each: Int, done: @escaping @Sendable ([Int]) -> Void) {
        self.each = each
        self.done = done
    }

    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands) {
        counts.withLock { $0 = Array(repeating: 0, count: nodeCount) }
        for node in 0..<nodeCount {
            commands.mount(node: node)
            make(node, 0, &commands)
        }
    }

    private func make(_ node: Int, _ index: Int, _ commands: inout FleetCommands) {
        commands.submit(
            node: node, .mkdir(at: .root, name("n\(node)-\(index)"), mode: 0o755),
            cookie: UInt64(index))
    }

    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands
    ) {
        let finished: [Int]? = counts.withLock { counts in
            if case .success = result, cookie == UInt64(counts[node]) { counts[node] += 1 }
            return counts.allSatisfy { $0 == each } ? counts : nil
        }
        if cookie + 1 < UInt64(each) { make(node, Int(cookie) + 1, &commands) }
        // Once, and a moment later, to see that timers fire.
        if finished != nil { commands.nextTimer = now + .milliseconds(1) }
    }

    func timerFired(now: Ticks, _ commands: inout FleetCommands) {
        done(counts.withLock { $0 })
    }
}

@Suite(.timeLimit(.minutes(1)))
struct RuntimeFleetTests {
    @Test func `a driver runs many nodes on one loop, in order, and is told every end once`()
        async throws
    {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll()
        let (ends, end) = AsyncStream.makeStream(of: [Int].self)
        var options = ClientFleet.Options()
        options.driver = Maker(each: 20) { counts in
            end.yield(counts)
            end.finish()
        }
        let fleet = try ClientFleet(
            cluster: cluster.description, nids: (100..<150).map { cluster.nid($0) },
            options: options)
        try fleet.start()
        var counts: [Int] = []
        for await found in ends { counts = found }
        #expect(counts == Array(repeating: 20, count: 50))
        let files = FileSystem(Node(fleet: fleet, index: 0))
        #expect(try await files.list("/").count == 1000)
        await files.unmount()
        fleet.stop()
        try fleet.join()
        try cluster.stopAll()
    }
}
