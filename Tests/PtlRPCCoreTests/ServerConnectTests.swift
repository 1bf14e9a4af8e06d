import LNetCore
import Primitives
import PtlRPCCore
import Testing
import WireFormat

@Suite struct `Server connects` {
    @Test func `a new client is fresh and gets a handle and a record`() {
        var net = ServerHarness()
        let client = net.add()
        net.connect(client)
        #expect(net.clients[client].mode == .fresh)
        #expect(net.clients[client].exportHandle != 0)
        #expect(net.rows.map(\.table) == ["clients"])
        #expect(net.server.summary(of: 0)?.uuid == "client-1")
        #expect(net.server.summary(of: 0)?.isConnected == true)
    }

    @Test func `a client that used its export comes back to it`() {
        var net = ServerHarness()
        net.connectAll(1)
        let handle = net.clients[0].exportHandle
        net.send(0, .ping)
        net.connect(0)
        #expect(net.clients[0].mode == .sameInstance)
        #expect(net.clients[0].exportHandle == handle)
        #expect(net.server.exportCount == 1)
    }

    @Test func `a client whose first answer was lost is told fresh again`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].exportHandle = 0
        net.connect(0)
        #expect(net.clients[0].mode == .fresh)
        #expect(net.server.exportCount == 1)
    }

    @Test func `a client that had its first answer and lost all since is not told fresh`() {
        var net = ServerHarness()
        net.connectAll(1)
        let handle = net.clients[0].exportHandle
        net.connect(0)
        #expect(net.clients[0].mode == .sameInstance)
        #expect(net.clients[0].exportHandle == handle)
    }

    @Test func `a connect with an older count is refused`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.clients[0].connectionCount = 0
        net.connect(0)
        #expect(net.clients[0].reply?.header.status == .already)
        #expect(net.clients[0].reply?.header.type == .error)
    }

    @Test func `requests of an older connection are dropped`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.connect(0)
        let xid = net.send(0, .ping, connectionCount: 1)
        #expect(net.clients[0].replyCount(to: xid) == 0)
        #expect(net.server.counters.obsolete == 1)
    }

    @Test func `a restarted client takes the place of its dead predecessor`() {
        var net = ServerHarness()
        net.connectAll(1)
        let old = net.clients[0].exportHandle
        let second = net.add("client-1", handle: 77)
        net.connect(second)
        #expect(net.clients[second].mode == .fresh)
        #expect(net.clients[second].exportHandle != old)
        #expect(
            net.events.contains(
                .evicted(export: 0, clientUUID: "client-1", reason: .clientRestarted)))
        let xid = net.send(0, .ping)
        #expect(net.clients[0].reply(to: xid)?.header.status == .notConnected)
        #expect(net.server.exportCount == 1)
    }

    @Test func `a handle counts only from its own NID`() {
        var net = ServerHarness()
        net.connectAll(2)
        net.clients[1].exportHandle = net.clients[0].exportHandle
        let xid = net.send(1, .ping)
        #expect(net.clients[1].reply(to: xid)?.header.status == .notConnected)
        #expect(net.clients[1].reply(to: xid)?.header.type == .error)
    }

    static let ranges: [ClosedRange<ProtocolVersion>] = [.v1 ... .v1, .v1 ... .v2, .v2 ... .v2]

    @Test(arguments: ranges, ranges)
    func `the highest common version is agreed or none`(
        client: ClosedRange<ProtocolVersion>, server: ClosedRange<ProtocolVersion>
    ) {
        var net = ServerHarness { $0.versions = server }
        net.add(versions: client)
        net.connect(0)
        if client.overlaps(server) {
            #expect(net.clients[0].version == min(client.upperBound, server.upperBound))
            let xid = net.send(0, ServerHarness.update.downgraded(to: net.clients[0].version))
            #expect(net.clients[0].reply(to: xid)?.header.status == .ok)
        } else {
            #expect(net.clients[0].reply?.header.status == .protocolError)
            #expect(
                net.events.contains(
                    .connectRefused(
                        nid: ServerHarness.nid(1), clientUUID: "client-1",
                        refusal: .noCommonVersion(client: client, server: server))))
        }
    }

    @Test func `a standby parks one connect per client and answers the newest at its start`() {
        var net = ServerHarness(start: nil)
        net.add()
        net.add()
        let first = net.connect(0)
        let newest = net.connect(0)
        net.connect(1)
        #expect(net.server.parkedConnectCount == 2)
        #expect(net.clients[0].replies.isEmpty)
        let ping = net.send(1, .ping)
        #expect(net.clients[1].reply(to: ping)?.header.status == .noDevice)
        net.server.start(.fresh, lnet: &net.serverLNet, now: net.now)
        net.settle()
        #expect(net.clients[0].replyCount(to: first) == 0)
        #expect(net.clients[0].replyCount(to: newest) == 1)
        #expect(net.clients[0].mode == .fresh)
        #expect(net.clients[1].mode == .fresh)
    }

    @Test func `a standby refuses connects beyond its bound`() {
        var net = ServerHarness(start: nil) { $0.parkedConnectCountMax = 1 }
        net.add()
        net.add()
        net.connect(0)
        net.connect(1)
        #expect(net.clients[1].reply?.header.status == .busy)
    }

    @Test func `exports are bounded`() {
        var net = ServerHarness { $0.exportCountMax = 2 }
        net.connectAll(3)
        #expect(net.clients[2].reply?.header.status == .busy)
        #expect(net.server.exportCount == 2)
    }

    @Test func `another target's name is refused`() {
        var net = ServerHarness()
        net.add()
        net.connect(0, to: "elsewhere")
        #expect(net.clients[0].reply?.header.status == .noDevice)
    }

    @Test func `one answer serves a connect that was repeated meanwhile`() {
        var net = ServerHarness()
        net.add()
        net.holdsConnects = true
        let first = net.connect(0)
        let second = net.connect(0)
        #expect(net.heldConnects.count == 1)
        net.answerConnect(net.heldConnects[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: first) == 0)
        #expect(net.clients[0].replyCount(to: second) == 1)
        let ping = net.send(0, .ping)
        #expect(net.clients[0].reply(to: ping)?.header.status == .ok)
    }

    @Test func `an observer has no record, no recovery, and changes nothing`() {
        var net = ServerHarness()
        net.add()
        net.clients[0].isObserver = true
        net.connect(0)
        #expect(net.clients[0].mode == .fresh)
        #expect(net.rows.isEmpty)
        let status = net.send(0, .upgradeStatus)
        #expect(net.clients[0].replyCount(to: status) == 1)
        let update = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: update)?.header.status == .access)
        net.cut(1)
        #expect(net.server.exportCount == 0)
    }

    @Test func `a disconnect removes the client and its rows`() {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, .disconnect(.mds))
        #expect(net.clients[0].reply(to: xid)?.header.status == .ok)
        #expect(net.server.exportCount == 0)
        #expect(net.rows.last { $0.table == "clients" }?.value == nil)
        let ping = net.send(0, .ping)
        #expect(net.clients[0].reply(to: ping)?.header.status == .notConnected)
    }

    @Test func `a lost peer is told, and its export stays`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.cut(1)
        #expect(net.events.contains(.peerLost(export: 0)))
        #expect(net.server.summary(of: 0)?.isConnected == false)
        net.now = net.now + .seconds(5)
        net.clients[0].lnet.tick(net.now)
        net.send(0, .ping)
        #expect(net.server.summary(of: 0)?.isConnected == true)
    }

    @Test func `rows of clients survive their encoding and nothing else loads`() throws {
        let record = ClientRecord(
            index: 0x0102_0304, version: .v2, clientHandle: 5, features: .upgrade,
            nid: ServerHarness.nid(3), uuid: "0123456789012345678901234567890123456789")
        #expect(record.key == [1, 2, 3, 4])
        #expect(record.value.count == ClientRecord.encodedSize)
        #expect(try ClientRecord(key: record.key, value: record.value) == record)
        for length in 0..<record.value.count {
            #expect(throws: WireError.self) {
                try ClientRecord(key: record.key, value: Array(record.value.prefix(length)))
            }
        }
        #expect(throws: WireError.self) { try ClientRecord(key: [1], value: record.value) }
        #expect(throws: WireError.self) { try ReplyRecord(key: [1, 2, 3, 4], value: []) }
    }
}

extension RequestBody {
    /// The sample update as a client of `version` can name it.
    func downgraded(to version: ProtocolVersion) -> RequestBody {
        version >= .v2
            ? self : .close(CloseRequest(file: FileID(sequence: 0, objectNumber: 0), handle: 9))
    }
}
