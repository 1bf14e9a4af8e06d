import LNetCore
import Primitives
import PtlRPCCore
import Testing
import WireFormat

@Suite struct `Server requests` {
    static let file = FileID(sequence: 0x2_0000_0400, objectNumber: 7)
    static let object = ObjectName(targetIndex: 0, number: 5)
    static let time = Timestamp(seconds: 1_700_000_000, nanoseconds: 5)
    static let attributes = FileAttributes(
        file: file, type: .regular, mode: 0o644, linkCount: 1, modified: time, changed: time,
        entryCount: 0)
    static let layout = FileLayout(
        stripeSize: 1 << 20, stripes: [.init(targetIndex: 0, object: object)])
    static let attributesReply = ReplyBody.attributes(
        AttributesReply(attributes: attributes, layout: layout))

    /// Every update with the reply that its owner gives.
    static var updates: [(TargetKind, RequestBody, ReplyBody)] {
        let name = FileName("a")!
        return [
            (
                .mds, .setattr(SetattrRequest(file: file, mode: 0o600, modified: nil)),
                attributesReply
            ),
            (
                .mds, .mkdir(MkdirRequest(parent: file, name: name, mode: 0o755, time: time)),
                attributesReply
            ),
            (
                .mds,
                .open(
                    OpenRequest(
                        parent: file, name: name, flags: [.read, .create], mode: 0o644,
                        stripeCount: 1, time: time)),
                .open(
                    OpenReply(
                        handle: 99, wasCreated: true, attributes: attributes, layout: layout))
            ),
            (.mds, .close(CloseRequest(file: file, handle: 99)), .empty),
            (
                .mds,
                .unlink(UnlinkRequest(parent: file, name: name, isDirectory: false, time: time)),
                .empty
            ),
            (
                .mds,
                .rename(
                    RenameRequest(
                        sourceParent: file, sourceName: name, targetParent: file,
                        targetName: FileName("b")!, time: time)), .empty
            ),
            (.oss, .objectCreate(ObjectCreateRequest(first: object, count: 3)), .empty),
            (.oss, .objectDestroy(ObjectDestroyRequest(objects: [object])), .empty),
            (
                .oss,
                .objectWrite(
                    ObjectWriteRequest(
                        object: object, offset: 0, time: time, data: [1, 2, 3])), .empty
            ),
            (.oss, .objectPunch(ObjectPunchRequest(object: object, size: 9, time: time)), .empty),
        ]
    }

    @Test(arguments: updates.indices)
    func `an update's reply is rebuilt in this instance and in the next`(index: Int) {
        let (kind, update, answer) = Self.updates[index]
        #expect(update.isUpdate)
        var net = ServerHarness(kind: kind)
        net.answer = { _ in (.ok, answer) }
        net.connectAll(1)
        let xid = net.send(0, update, tag: 3)
        let first = net.clients[0].reply(to: xid)
        #expect(first?.body == answer)
        #expect(first?.header.transno == Transno(rawValue: 1))
        net.send(0, update, tag: 3, flags: .resent, xid: xid)
        #expect(net.clients[0].replyCount(to: xid) == 2)
        #expect(net.clients[0].reply(to: xid)?.body == answer)
        #expect(net.executed.count == 1)
        #expect(net.server.counters.resent == 1)

        net.restart(clean: true)
        net.connect(0)
        #expect(net.clients[0].mode == .cleanRecord)
        net.finalPing(0)
        net.send(0, update, tag: 3, flags: .resent, xid: xid)
        #expect(net.executed.isEmpty)
        #expect(net.clients[0].replyCount(to: xid) == 3)
        #expect(net.clients[0].reply(to: xid)?.body == answer)
        #expect(net.clients[0].reply(to: xid)?.header.transno == Transno(rawValue: 1))
        #expect(net.server.counters.resent == 1)
    }

    @Test func `an update that failed has its error rebuilt, and no transno`() {
        var net = ServerHarness()
        net.answer = { _ in (.noEntry, .empty) }
        net.connectAll(1)
        let xid = net.send(0, ServerHarness.update)
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        #expect(net.executed.count == 1)
        #expect(net.clients[0].replies.suffix(2).map(\.header.status) == [.noEntry, .noEntry])
        #expect(net.clients[0].reply?.header.transno == .zero)
        #expect(net.clients[0].reply?.header.type == .reply)
    }

    @Test func `an update that is resent while it is executed gets one answer`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        let xid = net.send(0, ServerHarness.update)
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        // Also over a new connection: the one answer goes there.
        net.connect(0)
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        #expect(net.executed.count == 1)
        #expect(net.server.counters.duplicates == 2)
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 1)
    }

    @Test func `a lock request that is resent while it is executed gets one answer`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        let xid = net.send(0, .getattr(Self.file))
        net.send(0, .getattr(Self.file), flags: .resent, xid: xid)
        #expect(net.executed.count == 1)
        net.complete(net.held[0])
        net.settle()
        #expect(net.clients[0].replyCount(to: xid) == 1)
    }

    @Test func `a tag remembers its last update only`() {
        var net = ServerHarness()
        net.connectAll(1)
        let first = net.send(0, ServerHarness.update, tag: 2)
        net.send(0, ServerHarness.update, tag: 2)
        net.send(0, ServerHarness.update, tag: 2, flags: .resent, xid: first)
        #expect(net.executed.count == 2)
        #expect(net.server.counters.obsolete == 1)
        #expect(net.clients[0].replyCount(to: first) == 1)
    }

    @Test func `what the client has had is not answered again`() {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, ServerHarness.update)
        net.clients[0].lastXID = xid
        net.send(0, .ping)
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        #expect(net.clients[0].replyCount(to: xid) == 1)
        #expect(net.executed.count == 1)
        #expect(net.server.counters.obsolete == 1)
    }

    @Test(arguments: [UInt16(0), 9, .max])
    func `an update without a tag that exists is refused`(tag: UInt16) {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, ServerHarness.update, tag: tag)
        #expect(net.clients[0].reply(to: xid)?.header.status == .protocolError)
        #expect(net.executed.isEmpty)
    }

    @Test func `a tag that is busy takes no second update`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        net.send(0, ServerHarness.update)
        let second = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: second)?.header.status == .protocolError)
        #expect(net.executed.count == 1)
    }

    @Test func `an update that its owner refused may come again`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        let xid = net.send(0, ServerHarness.update)
        net.server.refuse(
            net.held[0].token, .tryAgain, lnet: &net.serverLNet, now: net.now)
        net.settle()
        #expect(net.clients[0].reply(to: xid)?.header.status == .tryAgain)
        #expect(net.clients[0].reply(to: xid)?.header.type == .error)
        net.holds = false
        net.send(0, ServerHarness.update, flags: .resent, xid: xid)
        #expect(net.executed.count == 2)
        #expect(net.clients[0].reply(to: xid)?.header.status == .ok)
    }

    @Test func `a fenced client reads and does not write`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.server.fence(0)
        let update = net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply(to: update)?.header.status == .tryAgain)
        net.send(0, .getattr(Self.file))
        #expect(net.executed.count == 1)
        net.server.unfence(0)
        net.send(0, ServerHarness.update, flags: .resent, xid: update)
        #expect(net.clients[0].reply(to: update)?.header.status == .ok)
    }

    @Test func `requests of one client are bounded`() {
        var net = ServerHarness { $0.requestCountMax = 3 }
        net.connectAll(1)
        net.holds = true
        for _ in 0..<3 { net.send(0, .getattr(Self.file)) }
        let more = net.send(0, .getattr(Self.file))
        #expect(net.clients[0].reply(to: more)?.header.status == .tryAgain)
        let ping = net.send(0, .ping)
        #expect(net.clients[0].reply(to: ping)?.header.status == .ok)
        for request in net.held { net.complete(request) }
        net.settle()
        net.send(0, .getattr(Self.file))
        #expect(net.executed.count == 4)
    }

    @Test func `a cancel is answered on its own portal`() {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, .cancel(.cancel(cookie: 5)))
        #expect(net.executed.map(\.body) == [.cancel(.cancel(cookie: 5))])
        #expect(net.clients[0].replyCount(to: xid) == 1)
    }

    @Test func `every reply tells what is committed, and the trailer of its client`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.server.lastCommitted = Transno(rawValue: 41)
        let trailer = ReplyTrailer(
            epoch: UpgradeEpoch(instance: 1, counter: 2), admission: .revoking)
        net.server.setTrailer(trailer, of: 0)
        net.send(0, .ping)
        #expect(net.clients[0].reply?.header.lastCommitted == Transno(rawValue: 41))
        #expect(net.clients[0].reply?.trailer == trailer)
        net.send(0, ServerHarness.update)
        #expect(net.clients[0].reply?.trailer == trailer)
    }

    @Test func `a replay when nothing recovers evicts`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.replay(0, 5, xid: 1 << 21)
        #expect(
            net.events.contains(
                .evicted(export: 0, clientUUID: "client-1", reason: .unexpectedReplay)))
        #expect(net.server.counters.evictions == 1)
        let ping = net.send(0, .ping)
        #expect(net.clients[0].reply(to: ping)?.header.status == .notConnected)
    }

    @Test func `an evicted client's tokens are stale`() {
        var net = ServerHarness()
        net.connectAll(1)
        net.holds = true
        net.send(0, ServerHarness.update)
        let token = net.held[0].token
        #expect(net.server.isCurrent(token))
        net.server.evict(0, .owner("test"), lnet: &net.serverLNet, now: net.now)
        #expect(!net.server.isCurrent(token))
        #expect(
            !net.server.reply(token, status: .ok, lnet: &net.serverLNet, now: net.now))
        #expect(net.server.exportCount == 0)
    }

    // MARK: Bulk

    static func write(_ count: Int) -> RequestBody {
        .objectWrite(
            ObjectWriteRequest(
                object: object, offset: 0, time: time,
                data: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }))
    }

    static func offer(_ net: inout ServerHarness, _ body: RequestBody, _ bits: UInt64) {
        _ = net.clients[0].lnet.attach(
            portal: ServicePortal.ostBulk, matchBits: bits,
            MemoryDescriptor(
                memory: .buffer(body.bulkSource ?? []), options: .get, threshold: 1), cookie: 3)
    }

    @Test(arguments: [16 * 1024 + 1, 1 << 20])
    func `a long write is fetched before it is executed`(count: Int) {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        let body = Self.write(count)
        Self.offer(&net, body, 900)
        let xid = net.send(0, body, matchBits: 900)
        #expect(net.server.counters.bulkFetched == 1)
        guard case .objectWrite(let write)? = net.executed.first?.body else {
            Issue.record("the write was not executed")
            return
        }
        #expect(write.data == body.bulkSource)
        #expect(net.clients[0].reply(to: xid)?.header.status == .ok)
    }

    @Test func `a write whose bytes are not those that were said is not executed`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        let body = Self.write(20_000)
        var other = Self.write(20_000)
        if case .objectWrite(var write) = other {
            write.data[7] ^= 1
            other = .objectWrite(write)
        }
        Self.offer(&net, other, 900)
        let xid = net.send(0, body, matchBits: 900)
        #expect(net.executed.isEmpty)
        #expect(net.clients[0].reply(to: xid)?.header.status == .ioError)
        Self.offer(&net, body, 901)
        net.send(0, body, flags: .resent, xid: xid, matchBits: 901)
        #expect(net.executed.count == 1)
        #expect(net.clients[0].reply(to: xid)?.header.status == .ok)
    }

    @Test func `a fetch ends with its connection, and the resend is executed once`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        net.send(0, .ping)
        let body = Self.write(20_000)
        // Nothing is offered: the fetch waits.
        let xid = net.send(0, body, matchBits: 900)
        #expect(net.executed.isEmpty)
        net.connect(0)
        #expect(net.server.counters.bulkAborted == 1)
        Self.offer(&net, body, 901)
        net.send(0, body, flags: .resent, xid: xid, matchBits: 901)
        #expect(net.executed.count == 1)
        net.send(0, body, flags: .resent, xid: xid, matchBits: 902)
        #expect(net.executed.count == 1)
        #expect(net.clients[0].replyCount(to: xid) == 2)
    }

    @Test func `a resend with new match bits replaces a fetch under way`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        let body = Self.write(20_000)
        let xid = net.send(0, body, matchBits: 900)
        Self.offer(&net, body, 901)
        net.send(0, body, flags: .resent, xid: xid, matchBits: 901)
        #expect(net.executed.count == 1)
        // The bytes of the first fetch come after all: nobody waits for them.
        Self.offer(&net, body, 900)
        net.settle()
        #expect(net.executed.count == 1)
    }

    @Test func `a long read arrives before its reply`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        let data = [UInt8](repeating: 7, count: 100_000)
        net.answer = { _ in (.ok, .read(ObjectReadReply(data: data))) }
        _ = net.clients[0].lnet.attach(
            portal: ServicePortal.ostBulk, matchBits: 950,
            MemoryDescriptor(memory: .events(), options: .put, threshold: 1), cookie: 2)
        let xid = net.send(
            0, .objectRead(ObjectReadRequest(object: Self.object, offset: 0, byteCount: 100_000)),
            matchBits: 950)
        #expect(net.clients[0].bulk == [data])
        #expect(net.clients[0].replyCount(to: xid) == 1)
        #expect(net.server.counters.bulkSent == 1)
    }

    @Test func `a long read that its client left gets no reply`() {
        var net = ServerHarness(kind: .oss)
        net.connectAll(1)
        net.send(0, .ping)
        let data = [UInt8](repeating: 7, count: 100_000)
        net.answer = { _ in (.ok, .read(ObjectReadReply(data: data))) }
        let read = RequestBody.objectRead(
            ObjectReadRequest(object: Self.object, offset: 0, byteCount: 100_000))
        // No room is offered: no ACK comes.
        let xid = net.send(0, read, matchBits: 950)
        #expect(net.clients[0].replyCount(to: xid) == 0)
        net.connect(0)
        #expect(net.server.counters.bulkAborted == 1)
        #expect(net.server.summary(of: 0)?.requestCount == 0)
    }

    // MARK: Hostile bytes

    @Test(arguments: 0..<UInt64(8))
    func `flipped bytes never trap and never harm another client`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for kind in TargetKind.allCases {
            var net = ServerHarness(kind: kind)
            net.connectAll(2)
            let samples =
                Self.updates.filter { $0.0 == kind }.map(\.1)
                + [
                    .ping, .cancel(.cancel(cookie: 5)), .getattr(Self.file),
                    .disconnect(kind), .upgradeStatus, ServerHarness.open,
                    .connect(
                        ConnectRequest(
                            targetName: "home-T0000", clientUUID: "client-1",
                            clientHandle: 1000, versions: .v1 ... .v2, features: .supported),
                        kind),
                ]
            for round in 0..<300 {
                let body = samples[random.below(samples.count)]
                net.clients[0].connectionCount =
                    random.oneIn(4) ? UInt32(round) : net.clients[0].connectionCount
                net.send(0, body, tag: UInt16(random.below(10))) { bytes in
                    for _ in 0...random.below(4) {
                        bytes[random.below(bytes.count)] ^= UInt8(1 << random.below(8))
                    }
                    if random.oneIn(5) { bytes.removeLast(random.below(bytes.count)) }
                }
            }
            let ping = net.send(1, .ping)
            #expect(
                net.clients[1].reply(to: ping)?.header.status == .ok, "seed \(seed) \(kind)")
        }
    }

    @Test func `a body that cannot be read is answered with a protocol error`() {
        var net = ServerHarness()
        net.connectAll(1)
        let xid = net.send(0, Self.updates[0].1) {
            $0[140] ^= 0xFF; $0[32 + 4] = 3
        }
        #expect(net.clients[0].reply(to: xid)?.header.status == .protocolError)
        net.send(0, .ping) { $0[8] ^= 1 }
        #expect(net.server.counters.malformed == 2)
    }

    @Test func `rows of replies survive their encoding`() throws {
        var net = ServerHarness()
        net.answer = { _ in (.ok, Self.attributesReply) }
        net.connectAll(1)
        net.send(0, Self.updates[0].1)
        let row = try #require(net.rows.last)
        let record = try ReplyRecord(key: row.key, value: row.value!)
        #expect(record.key == row.key && record.value == row.value!)
        #expect(record.index == 0 && record.tag == 1)
        #expect(row.key == [0, 0, 0, 0, 0, 1])
        for length in 0..<row.value!.count {
            #expect(throws: WireError.self) {
                try ReplyRecord(key: row.key, value: Array(row.value!.prefix(length)))
            }
        }
    }
}

extension RequestBody {
    /// The write as it reads on the server once its bytes are there.
    var fetched: RequestBody {
        guard case .objectWrite(let write) = self else { return self }
        var header = PtlRPCBody()
        header.tag = 1
        var writer = WireWriter()
        encode(header: header, version: .v2, into: &writer)
        let parsed = RawSpan.over(writer.bytes) { span -> RequestBody? in
            guard let message = try? LustreMessage(parsing: span),
                let body = try? RequestBody(
                    opcode: .objectWrite, message: message, bytes: span, version: .v2),
                case .objectWrite(var copy) = body, copy.attachBulk(write.data)
            else { return nil }
            return .objectWrite(copy)
        }
        return parsed ?? self
    }
}
