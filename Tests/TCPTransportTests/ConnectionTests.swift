import EventLoop
import Glibc
import Primitives
import Testing

@testable import TCPTransport

@Suite struct ConnectionTests {
    @Test func `both ends learn who they are`() throws {
        var bench = try Bench()
        let listener = try bench.transport.listen(address: 0, port: 0, tag: 42)
        let port = try bench.port(of: listener)
        let client = bench.transport.connect(
            id: 5, from: 0x7f02_0003, to: 0x7f04_0005, port: port)
        try bench.run { recorder, _ in recorder.connections.count == 2 }
        let accepted = try #require(bench.recorder.accepted.first)
        #expect(accepted.listenerTag == 42)
        #expect(accepted.peer.address == IPAddress(v4: 0x7f02_0003))
        #expect(accepted.localAddress == IPAddress(v4: 0x7f04_0005))
        #expect(bench.transport.localEndpoint(of: client) == accepted.peer)
        #expect(
            bench.transport.peerEndpoint(of: client) == Endpoint(address: 0x7f04_0005, port: port))
        #expect(accepted.peer.description == "127.2.0.3:\(accepted.peer.port)")
        #expect(bench.transport.userWord(of: client) == 5)
        bench.transport.setUserWord(6, of: client)
        bench.transport.close(client)
        #expect(bench.transport.userWord(of: client) == nil)
    }

    @Test func `both ends learn who they are over IPv6`() throws {
        var bench = try Bench()
        let home = IPAddress(high: 0, low: 1)
        let listener = try bench.transport.listen(address: home, port: 0, tag: 43)
        let port = try bench.port(of: listener)
        let client = bench.transport.connect(id: 5, from: home, to: home, port: port)
        try bench.run { recorder, _ in recorder.connections.count == 2 }
        let accepted = try #require(bench.recorder.accepted.first)
        #expect(accepted.listenerTag == 43)
        #expect(accepted.localAddress == home && accepted.peer.address == home)
        #expect(bench.transport.localEndpoint(of: client) == accepted.peer)
        #expect(bench.transport.peerEndpoint(of: client) == Endpoint(address: home, port: port))
        #expect(accepted.peer.description == "[::1]:\(accepted.peer.port)")
        let nowhere = bench.transport.connect(
            id: 6, from: home, to: home, port: accepted.peer.port)
        try bench.run { _, transport in transport.userWord(of: nowhere) == nil }
    }

    @Test func `a refused connection is told with its errno, and not from inside connect`() throws {
        var bench = try Bench()
        let listener = try bench.transport.listen(address: Bench.home, port: 0, tag: 0)
        let port = try bench.port(of: listener)
        bench.transport.close(listener)
        #expect(bench.transport.endpoint(of: listener) == nil)
        let client = bench.transport.connect(
            id: 9, from: Bench.home, to: Bench.home, port: port)
        #expect(bench.recorder.events.isEmpty)
        try bench.run { recorder, _ in !recorder.events.isEmpty }
        #expect(bench.recorder.events == [.connectFailed(9, errno: ECONNREFUSED)])
        #expect(bench.transport.isEstablished(client) == false)
        #expect(bench.transport.socketCount == 0)
        #expect(bench.transport.counters.connectFailures == 1)
    }

    @Test func `a connection that fails at once is told later all the same`() throws {
        var bench = try Bench()
        // 192.0.2.1 (TEST-NET-1) is nobody's address, least of all ours.
        _ = bench.transport.connect(id: 3, from: 0xc000_0201, to: Bench.home, port: 9)
        #expect(bench.recorder.events.isEmpty)
        #expect(bench.transport.nextDeadline == .zero)
        try bench.run { recorder, _ in !recorder.events.isEmpty }
        #expect(bench.recorder.events == [.connectFailed(3, errno: EADDRNOTAVAIL)])
        #expect(bench.transport.nextDeadline == .distantFuture)
    }

    @Test func `a connection called off is never told`() throws {
        var bench = try Bench()
        let port = try bench.listen()
        let called = bench.transport.connect(
            id: 1, from: Bench.home, to: Bench.home, port: port)
        let failed = bench.transport.connect(id: 2, from: 0xc000_0201, to: Bench.home, port: 9)
        bench.transport.close(called)
        bench.transport.close(failed)
        _ = bench.transport.connect(id: 3, from: Bench.home, to: Bench.home, port: port)
        try bench.run { recorder, _ in recorder.events.contains(.established(3)) }
        for event in bench.recorder.events {
            switch event {
            case .established(1), .established(2), .connectFailed: Issue.record("\(event)")
            default: break
            }
        }
    }

    @Test func `an orderly end is told after the last bytes`() throws {
        var bench = try Bench()
        let (client, server) = try bench.connectPair()
        bench.recorder.send(pattern(1000), to: 1, on: &bench.transport)
        bench.transport.close(client)
        try bench.run { recorder, _ in recorder.events.contains(.closed(1000, errno: 0)) }
        #expect(bench.recorder.bytes[1000] == pattern(1000))
        #expect(bench.transport.isEstablished(server) == false)
        #expect(bench.recorder.events.last == .closed(1000, errno: 0))
    }

    @Test func `a reset is told with its errno`() throws {
        var bench = try Bench()
        let (client, _) = try bench.connectPair()
        bench.transport.abort(client)
        try bench.run { recorder, _ in recorder.connections[1000] == nil }
        #expect(bench.recorder.events.last == .closed(1000, errno: ECONNRESET))
        #expect(bench.transport.counters.peerCloses == 1)
    }

    @Test func `a send to a peer that is gone is told as closed, later`() throws {
        var bench = try Bench()
        let (client, server) = try bench.connectPair()
        bench.transport.pauseReading(client)
        bench.transport.abort(server)
        // Loopback delivers the reset before abort returns.
        #expect(RawSpan.over([1]) { bench.transport.send(client, $0) } == 0)
        #expect(!bench.recorder.events.contains(.closed(1, errno: ECONNRESET)))
        try bench.run { recorder, _ in recorder.connections[1] == nil }
        #expect(bench.recorder.events.last == .closed(1, errno: ECONNRESET))
    }

    @Test func `a stale reference is ignored, also when its place is taken again`() throws {
        var bench = try Bench()
        let (client, server) = try bench.connectPair()
        bench.transport.close(client)
        bench.transport.close(client)
        try bench.run { recorder, _ in recorder.connections[1000] == nil }
        let again = bench.transport.connect(id: 2, from: Bench.home, to: Bench.home, port: 9)
        #expect(
            again.handle.index == server.handle.index || again.handle.index == client.handle.index)
        for stale in [client, server, ConnectionRef(rawValue: 0), ConnectionRef(rawValue: .max)] {
            #expect(RawSpan.over([1]) { bench.transport.send(stale, $0) } == 0)
            bench.transport.close(stale)
            bench.transport.abort(stale)
            bench.transport.pauseReading(stale)
            bench.transport.resumeReading(stale)
            bench.transport.setUserWord(1, of: stale)
            #expect(bench.transport.userWord(of: stale) == nil)
            #expect(bench.transport.peerEndpoint(of: stale) == nil)
        }
        #expect(bench.transport.userWord(of: again) == 2)
        #expect(ConnectionRef(rawValue: again.rawValue) == again)
    }

    @Test func `a reference to a listener does not pass for a connection`() throws {
        var bench = try Bench()
        let listener = try bench.transport.listen(address: Bench.home, port: 0, tag: 3)
        let fake = ConnectionRef(handle: listener.handle)
        bench.transport.close(fake)
        bench.transport.abort(fake)
        bench.transport.setUserWord(9, of: fake)
        #expect(bench.transport.canSend(fake) == false)
        #expect(bench.transport.endpoint(of: listener) != nil)
    }

    @Test func `whoever is closed by another's event hears nothing more`() throws {
        var bench = try Bench()
        let port = try bench.listen()
        for id in 1...2 as ClosedRange<UInt64> {
            _ = bench.transport.connect(id: id, from: Bench.home, to: Bench.home, port: port)
        }
        try bench.run { recorder, _ in recorder.connections.count == 4 }
        // Both servers have bytes to read in one batch; the first closes the other.
        bench.recorder.react = { recorder, event, _, transport in
            guard case .received(let word, _) = event else { return }
            let other: UInt64 = word == 1000 ? 1001 : 1000
            transport.close(recorder.connections[other]!)
        }
        bench.recorder.send([1], to: 1, on: &bench.transport)
        bench.recorder.send([2], to: 2, on: &bench.transport)
        try bench.run { recorder, _ in
            recorder.events.contains { if case .closed = $0 { true } else { false } }
        }
        let received = bench.recorder.events.filter {
            if case .received = $0 { true } else { false }
        }
        #expect(received.count == 1)
        #expect(bench.transport.counters.staleEvents == 1)
    }

    @Test func `a handler may end every connection from inside its own event`() throws {
        var bench = try Bench()
        let port = try bench.listen()
        bench.recorder.react = { _, event, connection, transport in
            switch event {
            case .accepted(_, 1000), .established(2), .received(1002, _):
                transport.close(connection)
            default: break
            }
        }
        for id in 1...3 as ClosedRange<UInt64> {
            bench.recorder.output[id] = [1, 2, 3]
            _ = bench.transport.connect(id: id, from: Bench.home, to: Bench.home, port: port)
        }
        try bench.run { _, transport in transport.socketCount == 1 }
        #expect(bench.recorder.accepted.count == 3)
    }

    @Test func `a listener's owner may refuse`() throws {
        var bench = try Bench()
        bench.recorder.refusesAll = true
        let port = try bench.listen()
        _ = bench.transport.connect(id: 1, from: Bench.home, to: Bench.home, port: port)
        try bench.run { recorder, _ in
            recorder.events.contains { if case .closed(1, _) = $0 { true } else { false } }
        }
        #expect(bench.recorder.accepted.count == 1)
        #expect(bench.transport.socketCount == 1)
    }

    @Test func `a paused connection delivers nothing until it is resumed, and loses nothing`()
        throws
    {
        var bench = try Bench()
        let (client, server) = try bench.connectPair()
        bench.transport.pauseReading(server)
        bench.recorder.send(pattern(500), to: 1, on: &bench.transport)
        bench.transport.close(client)
        // Give the end of the stream every chance to be told.
        var turns = 0
        try bench.run { recorder, transport in
            turns += 1
            if turns == 1 {
                _ = transport.connect(id: 2, from: 0xc000_0201, to: Bench.home, port: 9)
            }
            return recorder.events.contains(.connectFailed(2, errno: EADDRNOTAVAIL))
        }
        #expect(bench.recorder.bytes[1000] == nil)
        #expect(bench.recorder.connections[1000] != nil)
        bench.transport.resumeReading(server)
        try bench.run { recorder, _ in recorder.connections[1000] == nil }
        #expect(bench.recorder.bytes[1000] == pattern(500))
    }

    @Test func `a paused connection that cannot send learns that its peer is gone`() throws {
        var options = TCPTransport.Options()
        options.sendBufferBytes = 4096
        options.receiveBufferBytes = 4096
        var bench = try Bench(options)
        let (client, server) = try bench.connectPair()
        bench.transport.pauseReading(server)
        bench.transport.pauseReading(client)
        bench.recorder.send(pattern(1_000_000), to: 1, on: &bench.transport)
        #expect(bench.transport.canSend(client) == false)
        bench.transport.abort(server)
        try bench.run { recorder, _ in recorder.connections[1] == nil }
        #expect(bench.recorder.events.last == .closed(1, errno: ECONNRESET))
    }

    @Test func `accepted connections inherit what their listener was given`() throws {
        var bench = try Bench()
        let (client, server) = try bench.connectPair()
        for connection in [client, server] {
            let descriptor = try #require(bench.transport.sockets[connection.handle]).descriptor
            #expect(option(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY) != 0)
            #expect(option(descriptor, SOL_SOCKET, SO_KEEPALIVE) != 0)
            #expect(option(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 30)
            #expect(option(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL) == 5)
            #expect(option(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT) == 5)
            #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
            #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0)
        }
        #expect(MemoryLayout<Socket>.size <= 40)
    }

    @Test func `a port that is taken is refused by name`() throws {
        var bench = try Bench()
        let port = try bench.listen()
        let failure = #expect(throws: FabricError.self) {
            _ = try bench.transport.listen(address: Bench.home, port: port, tag: 0)
        }
        #expect(failure?.errno == EADDRINUSE)
        #expect(failure?.description == "bind: Address already in use (errno \(EADDRINUSE))")
        #expect(bench.transport.socketCount == 1)
    }

    @Test(.enabled(if: geteuid() == 0, "ports below 1024 are root's"))
    func `a privileged connection comes from the highest free port below 1024`() throws {
        var bench = try Bench()
        let port = try bench.listen()
        let address: UInt32 = 0x7f58_0001
        for id in 1...3 as ClosedRange<UInt64> {
            _ = bench.transport.connect(
                id: id, from: address, to: Bench.home, port: port, privileged: true)
        }
        try bench.run { recorder, _ in recorder.connections.count == 6 }
        let ports = bench.recorder.accepted.map(\.peer.port)
        #expect(Set(ports).count == 3)
        #expect(ports.allSatisfy { (512...1023).contains($0) })
        #expect(bench.recorder.accepted.allSatisfy { $0.peer.address.v4 == address })
    }

    @Test func `a listener rests when there are no descriptors, and works again afterwards`() async
    {
        // In a process of its own: the limit on descriptors is everybody's.
        await #expect(processExitsWith: .success) { try runOutOfDescriptors() }
    }

    private func option(_ descriptor: Int32, _ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let status = unsafe getsockopt(descriptor, level, name, &value, &length)
        return status == 0 ? value : -1
    }
}

private func runOutOfDescriptors() throws {
    var bench = try Bench()
    let port = try bench.listen()
    // Everything is taken but room for the client's end of the connection.
    try Bench.limitDescriptors(to: 64)
    var last: Int32 = -1
    while case let taken = dup(2), taken >= 0 { last = taken }
    close(last)
    _ = bench.transport.connect(id: 1, from: Bench.home, to: Bench.home, port: port)
    try bench.run { _, transport in transport.counters.acceptBackoffs >= 2 }
    precondition(bench.loop.counters.polls < 20, "it slept between its tries")
    try Host.raiseDescriptorLimit()
    try bench.run { recorder, _ in recorder.connections.count == 2 }
}
