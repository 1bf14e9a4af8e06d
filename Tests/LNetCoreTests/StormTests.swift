import LNetCore
import Primitives
import Testing
import WireFormat

@Suite struct `storms` {
    /// Whatever connections do, every operation that was asked an answer for gets exactly one.
    @Test(arguments: Array(UInt64(1)...5))
    func `every PUT and GET ends exactly once while connections break`(seed: UInt64) {
        var net = Network(seed: seed)
        for _ in 0..<4 {
            net.add {
                $0.peerCredits = 1 + Int(seed % 4)
                $0.credits = 4
                $0.waitingMax = 20
                $0.responseTimeout = .seconds(20)
            }
        }
        net.maxPiece = 700
        func prepare(_ node: Int) {
            _ = net.nodes[node].attach(
                portal: 3, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(memory: .events(), options: [.put]), cookie: 1)
            _ = net.nodes[node].attach(
                portal: 4, matchBits: 0, ignoreBits: .max,
                MemoryDescriptor(
                    memory: .buffer(pattern(60_000)), options: [.get, .manageRemote]), cookie: 2)
        }
        for node in 0..<4 { prepare(node) }
        var asked = [Set<UInt64>](repeating: [], count: 4)
        var sinks: [(node: Int, handle: GetHandle, cookie: UInt64, length: Int)] = []
        for step in 0..<300 {
            let from = net.random.below(4)
            let to = net.random.below(4)
            let cookie = UInt64(step)
            let size = net.random.oneIn(4) ? net.random.below(50_000) : net.random.below(200)
            asked[from].insert(cookie)
            switch net.random.below(3) {
            case 0:
                let handle = net.nodes[from].get(
                    from: Network.nid(to), portal: 4, matchBits: 5, length: size,
                    into: .buffer([UInt8](repeating: 0, count: size)), cookie: cookie,
                    now: net.now)
                if let handle { sinks.append((from, handle, cookie, size)) }
            default:
                net.nodes[from].put(
                    to: Network.nid(to), portal: 3, matchBits: 5, hdrData: cookie,
                    payload: pattern(size, cookie), ackCookie: cookie, now: net.now)
            }
            net.settle(rounds: net.random.below(6))
            if net.random.oneIn(40) { net.cut(net.random.below(4)) }
            if net.random.oneIn(60) {
                net.refusing = net.refusing.isEmpty ? [net.random.below(4)] : []
            }
            if net.random.oneIn(10) { net.run(.milliseconds(60)) }
        }
        net.refusing = []
        net.run(.seconds(60))
        for node in 0..<4 {
            var ended: [UInt64] = []
            for (event, payload) in zip(net.events[node], net.payloads[node]) {
                switch event {
                case .ack(let cookie, _), .sendFailed(let cookie, _): ended.append(cookie)
                case .reply(let reply): ended.append(reply.cookie)
                case .put(let put): #expect(payload == pattern(put.mlength, put.hdrData))
                default: break
                }
            }
            #expect(ended.count == asked[node].count, "seed \(seed)")
            #expect(Set(ended) == asked[node], "seed \(seed)")
            #expect(net.nodes[node].counters.errors == 0, "seed \(seed)")
        }
        for sink in sinks {
            let replied = net.events[sink.node].contains {
                if case .reply(let reply) = $0 { reply.cookie == sink.cookie } else { false }
            }
            let buffer = net.nodes[sink.node].takeBuffer(sink.handle)
            #expect(buffer != nil)
            if replied { #expect(buffer == Array(pattern(60_000)[..<sink.length])) }
        }
        // Nothing leaked: no pending operation, and all credits are back.
        for node in 0..<4 {
            #expect(net.nodes[node].pendingCount == 0, "seed \(seed)")
            for other in 0..<4 where other != node {
                for _ in 0..<10 { net.send(node, other, [1], ack: 10_000) }
            }
        }
        net.run(.seconds(5))
        for node in 0..<4 {
            #expect(net.acks(node).filter { $0 == 10_000 }.count == 30, "seed \(seed)")
        }
    }

    @Test func `equal seeds give equal histories`() {
        func history() -> [[LNetEvent]] {
            var net = Network(seed: 77)
            for _ in 0..<3 { net.add() }
            for node in 0..<3 { net.listen(node) }
            for step in 0..<200 {
                net.send(step % 3, (step + 1) % 3, pattern(step * 20), ack: UInt64(step))
                if step % 70 == 69 { net.cut(step % 3) }
                net.settle(rounds: 2)
            }
            net.run(.seconds(3))
            return net.events
        }
        #expect(history() == history())
    }
}
