import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Faults by script: each is really done, and what Sluice promises holds all the same.
@Suite struct ScriptTests {
    private let create = FileOperation.mkdir(at: .root, FileName("d")!, mode: 0o700)

    /// How often the one audited update of a client was executed.
    private func executions(_ cluster: Scenario, target: Int = 0) throws -> [UInt32] {
        cluster.settle()
        let fresh = cluster.addClient(50)
        let audit = AuditReadRequest(afterClient: "", afterXID: .zero)
        guard
            case .reply(.audit(let reply)) = try cluster.perform(
                fresh, .raw(target: target, .auditRead(audit)))
        else { return [] }
        return reply.rows.filter { $0.clientUUID == "client-0" }.map(\.executions)
    }

    @Test func `an update whose reply is lost is sent again and executed once`() throws {
        let cluster = try Scenario(seed: 1, clientCount: 1)
        cluster.settle()
        let rule = cluster.simulator.dropNext(.reply(.mkdir), to: cluster.clients[0])
        try cluster.perform(cluster.clients[0], create)
        #expect(cluster.simulator.hits(rule) == 1)
        #expect(try executions(cluster) == [1])
    }

    @Test func `an update whose request is lost is sent again and executed once`() throws {
        let cluster = try Scenario(seed: 2, clientCount: 1)
        cluster.settle()
        cluster.simulator.dropNext(.request(.mkdir), from: cluster.clients[0], count: 2)
        try cluster.perform(cluster.clients[0], create)
        #expect(cluster.simulator.counters.messagesLost == 2)
        #expect(try executions(cluster) == [1])
    }

    @Test(arguments: [10, 3_000_000] as [UInt64])
    func `an update that arrives twice is executed once`(microseconds: UInt64) throws {
        let cluster = try Scenario(seed: 3, clientCount: 1)
        cluster.settle()
        cluster.simulator.duplicateNext(.request(.mkdir), after: .microseconds(microseconds))
        try cluster.perform(cluster.clients[0], create)
        cluster.settle(.seconds(4))
        #expect(cluster.simulator.counters.messagesDuplicated == 1)
        #expect(try executions(cluster) == [1])
    }

    @Test func `a request that is overtaken is executed in its turn`() throws {
        let cluster = try Scenario(seed: 4, clientCount: 1)
        cluster.settle()
        cluster.simulator.delayNext(.request(.mkdir), by: .seconds(3))
        let cookie = cluster.submit(cluster.clients[0], create)
        let lookup = FileOperation.lookup(at: .root, path: [])
        try cluster.perform(cluster.clients[0], lookup)
        #expect(cluster.result(cluster.clients[0], cookie) == nil)
        cluster.settle(.seconds(30))
        #expect(cluster.result(cluster.clients[0], cookie) != nil)
        #expect(try executions(cluster) == [1])
    }

    @Test func `nobody is told of a silent partition and time-outs bring everything back`() throws {
        let cluster = try Scenario(seed: 5, clientCount: 2)
        cluster.settle()
        let client = cluster.clients[0]
        cluster.simulator.isolate(client)
        let cookie = cluster.submit(client, create)
        cluster.settle(.seconds(8))
        #expect(cluster.result(client, cookie) == nil)
        let told = cluster.clientEvents.contains {
            if $0.client == client, case .disconnected = $0.event { true } else { false }
        }
        #expect(!told, "no reset, no refusal")
        cluster.simulator.heal()
        #expect(cluster.simulator.counters.swallowed > 0)
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(120)) {
            cluster.result(client, cookie) != nil
        }
        #expect(isDone, "\(cluster.state(client))")
        #expect(try executions(cluster) == [1])
    }

    @Test func `what TCP holds arrives when the way is free again`() throws {
        let cluster = try Scenario(seed: 6, clientCount: 1)
        cluster.settle()
        cluster.simulator.partition([cluster.servers[0]], from: cluster.clients, .held)
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.seconds(2))
        #expect(cluster.result(cluster.clients[0], cookie) == nil)
        cluster.simulator.heal()
        cluster.settle(.milliseconds(100))
        #expect(cluster.result(cluster.clients[0], cookie) != nil)
        #expect(try executions(cluster) == [1])
    }

    @Test func `a one-way partition lets requests through and no replies`() throws {
        let cluster = try Scenario(seed: 7, clientCount: 1)
        cluster.settle()
        cluster.simulator.partition([cluster.servers[0]], from: cluster.clients, isOneWay: true)
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.seconds(3))
        let before = cluster.simulator.peekServer(cluster.servers[0]) {
            $0.statusReply().lastTransno
        }
        #expect(before != .zero, "executed, and nobody knows")
        cluster.simulator.heal()
        cluster.settle(.seconds(60))
        #expect(cluster.result(cluster.clients[0], cookie) != nil)
        #expect(try executions(cluster) == [1])
    }

    @Test func `a server that hangs goes on with what has arrived`() throws {
        let cluster = try Scenario(seed: 8, clientCount: 1)
        cluster.settle()
        cluster.simulator.pause(cluster.servers[0], for: .seconds(4))
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.seconds(3))
        #expect(cluster.result(cluster.clients[0], cookie) == nil)
        cluster.settle(.seconds(2))
        #expect(cluster.result(cluster.clients[0], cookie) != nil)
        #expect(try executions(cluster) == [1])
    }

    @Test(arguments: [MessageMoment.arriving, .delivered])
    func `a server killed at the instant of a request executes it once, in this life or the next`(
        moment: MessageMoment
    ) throws {
        let cluster = try Scenario(seed: 9, clientCount: 1)
        cluster.settle()
        let server = cluster.servers[0]
        cluster.simulator.dropNext(.reply(.mkdir))
        cluster.simulator.onNext(.request(.mkdir), to: server, at: moment) { $0.kill(server) }
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.milliseconds(50))
        #expect(cluster.simulator.server(server) == nil)
        try cluster.crash(0, versions: ProtocolVersion.supported)
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(120)) {
            cluster.result(cluster.clients[0], cookie) != nil
        }
        #expect(isDone)
        #expect(try executions(cluster) == [1])
    }

    @Test func `a machine that is gone answers nobody and its clients find it when it is back`()
        throws
    {
        let cluster = try Scenario(seed: 10, clientCount: 1)
        cluster.settle()
        cluster.simulator.kill(cluster.servers[0], isSilent: true)
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.seconds(5))
        try cluster.crash(0, versions: ProtocolVersion.supported)
        let isDone = cluster.simulator.run(until: cluster.simulator.now + .seconds(120)) {
            cluster.result(cluster.clients[0], cookie) != nil
        }
        #expect(isDone, "\(cluster.state(cluster.clients[0]))")
        #expect(try executions(cluster) == [1])
    }

    @Test func `a full disk makes nobody wait who need not and loses nothing when there is room`()
        throws
    {
        let cluster = try Scenario(seed: 11, clientCount: 1)
        try cluster.perform(cluster.clients[0], create)
        cluster.settle()
        let disk = try #require(cluster.simulator.disk(cluster.servers[0]))
        disk.isFull = true
        try cluster.perform(
            cluster.clients[0], .mkdir(at: .root, FileName("e")!, mode: 0o700))
        cluster.settle(.seconds(3))
        #expect(cluster.simulator.counters.commitFailures >= 2)
        // By now the server knows, and says so.
        #expect(throws: OperationError(.noSpace)) {
            try cluster.perform(
                cluster.clients[0], .mkdir(at: .root, FileName("f")!, mode: 0o700))
        }
        disk.isFull = false
        cluster.settle(.seconds(3))
        try cluster.crash(0, versions: ProtocolVersion.supported)
        #expect(try cluster.names(cluster.clients[0]) == ["d", "e"])
    }

    @Test func `a read that meets damage fails the request and changes nothing`() throws {
        let cluster = try Scenario(seed: 12, clientCount: 1)
        let client = cluster.clients[0]
        try cluster.perform(client, create)
        cluster.settle()
        let disk = try #require(cluster.simulator.disk(cluster.servers[0]))
        disk.readsBeforeDamage = 0
        #expect(throws: OperationError(.ioError)) {
            try cluster.perform(client, .mkdir(at: .root, FileName("e")!, mode: 0o700))
        }
        #expect(disk.damageCount == 1)
        #expect(try cluster.names(client) == ["d"])
        try cluster.perform(client, .mkdir(at: .root, FileName("e")!, mode: 0o700))
        #expect(try cluster.names(client) == ["d", "e"])
    }

    @Test func `a lock that was told of stays where its enqueue comes again and meets damage`()
        throws
    {
        let cluster = try Scenario(seed: 16, clientCount: 2, objectServerCount: 1)
        let (writer, reader) = (cluster.clients[0], cluster.clients[1])
        let written = try cluster.open(writer, "f")
        let read = try cluster.open(reader, "f", create: false)
        let server = cluster.servers[1]
        let disk = try #require(cluster.simulator.disk(server))
        cluster.simulator.duplicateNext(
            .request(.ldlmEnqueue), to: server, after: .milliseconds(5))
        try cluster.perform(writer, .write(written, offset: 0, [1, 2, 3]))
        disk.readsBeforeDamage = 0
        cluster.settle(.milliseconds(20))
        #expect(cluster.simulator.counters.messagesDuplicated == 1)
        #expect(disk.damageCount == 1)
        #expect(try cluster.read(reader, read, 0, 3) == [1, 2, 3])
    }

    @Test func `a server that dies in the middle of a step comes back with what it was told`()
        throws
    {
        let cluster = try Scenario(seed: 15, clientCount: 1)
        cluster.settle()
        var deaths: [Int] = []
        cluster.simulator.onDeath = { deaths.append($0) }
        let server = cluster.servers[0]
        cluster.simulator.onNext(.request(.mkdir), to: server) { $0.crashInNextStep(server) }
        let cookie = cluster.submit(cluster.clients[0], create)
        cluster.settle(.milliseconds(5))
        #expect(deaths == [cluster.servers[0]])
        #expect(cluster.result(cluster.clients[0], cookie) == nil)
        try cluster.crash(0, versions: ProtocolVersion.supported)
        cluster.settle(.seconds(60))
        #expect(cluster.result(cluster.clients[0], cookie) != nil)
        #expect(try executions(cluster) == [1])
    }

    @Test func `clocks that drift apart change nothing but times`() throws {
        let cluster = try Scenario(seed: 13, clientCount: 2)
        cluster.simulator.setClock(of: cluster.clients[0], partsPerMillion: 200_000)
        cluster.simulator.setClock(of: cluster.servers[0], partsPerMillion: -100_000)
        cluster.settle(.seconds(100))
        let fast = cluster.simulator.clock(of: cluster.clients[0])
        let slow = cluster.simulator.clock(of: cluster.servers[0])
        #expect((19...21).contains((fast - cluster.simulator.now).nanoseconds / 1_000_000_000))
        #expect((9...11).contains((cluster.simulator.now - slow).nanoseconds / 1_000_000_000))
        try cluster.perform(cluster.clients[0], create)
        #expect(try cluster.names(cluster.clients[1]) == ["d"])
        let evicted = cluster.clientEvents.contains {
            if case .evicted = $0.event { true } else { false }
        }
        #expect(!evicted)
    }

    @Test func `rules count, skip and go`() throws {
        let cluster = try Scenario(seed: 14, clientCount: 1)
        cluster.settle()
        var seen: [String] = []
        cluster.simulator.onMessage = { moment, message in
            guard moment == .sending, case .request(let opcode) = message.kind, opcode == .mkdir
            else { return }
            seen.append("\(message)")
        }
        let rule = cluster.simulator.dropNext(.request(.mkdir), count: 1, skip: 1)
        try cluster.perform(cluster.clients[0], create)
        #expect(cluster.simulator.hits(rule) == 0)
        try cluster.perform(
            cluster.clients[0], .mkdir(at: .root, FileName("e")!, mode: 0o700))
        #expect(cluster.simulator.hits(rule) == 1)
        #expect(seen.count == 3)
        #expect(seen.last?.hasSuffix("resent") == true)
        cluster.simulator.removeRule(rule)
        #expect(cluster.simulator.hits(rule) == 0)
    }
}
