import EventLoop
import Foundation
import NodeRuntime
import Primitives
import WireFormat

/// Starts the other side, asks it, and reads what it used.
struct NetBench {
    var options: BenchOptions
    var acceptPort: UInt16
    var duration: TickInterval
    var directory: String
    /// The two sides; on loopback where nothing else is said.
    var server = Self.serverNID
    var client = Self.clientNID

    /// One run: two processes, new ones each time, so that their luck with memory differs too.
    func run(_ kind: NetBenchKind, _ wait: NetBenchWait) async throws -> BenchResult.Run {
        if kind == .brw { return try await runSelftest() }
        var arguments = [
            "bench", "net-peer", "--kind", kind.rawValue, "--wait", wait.rawValue, "--nid",
            server.description, "--accept-port", "\(acceptPort)",
        ]
        if let processors = options.processors { arguments += ["--cpu", "\(processors.1)"] }
        let peer = try ChildServer(
            name: "the other side", nid: server, arguments: arguments, directory: directory,
            label: "peer")
        let port = try await peer.awaitLine("ready").dropFirst("ready ".count)
        let side = try await ask(kind, wait, server, UInt16(port) ?? 0)
        let word = try await peer.awaitLine("usage").dropFirst("usage ".count)
        guard let theirs = Usage(word: word) else { throw Failure("cannot read \(word)") }
        let seconds = (side.ended - side.began).inSeconds
        var figures = (side.usage + theirs).figures(operations: side.counted)
        switch kind {
        case .put, .echo, .brw, .exchange: figures["perSecond"] = Double(side.counted) / seconds
        case .get, .bulk, .fetch, .stream:
            let bytes = Double(side.counted * NetBenchSize.get)
            figures["mibPerSecond"] = bytes / Double(1 << 20) / seconds
        }
        return side.recorder.run(unit: .us, figures: figures)
    }

    private struct Side: Sendable {
        var recorder: Recorder
        var began: Ticks
        var ended: Ticks
        var usage: Usage
        var counted: Int
    }

    /// On a thread of its own, which is what `Usage` is asked for.
    private func ask(
        _ kind: NetBenchKind, _ wait: NetBenchWait, _ server: NID, _ port: UInt16
    ) async throws -> Side {
        let (options, acceptPort, duration, client) = (options, acceptPort, duration, client)
        return try await onThread {
            if kind.isLNet {
                let asker = LNetAsker(kind, to: server, for: duration, keepsRaw: options.raw)
                let station: LNetStation
                do {
                    station = try LNetStation(
                        NetBenchSize.configuration(client, acceptPort: acceptPort),
                        user: asker, spin: wait.spin, cpu: options.processors?.0,
                        limit: duration + .seconds(20))
                    guard try station.run() else {
                        throw Failure("the other side stopped to answer")
                    }
                } catch {
                    throw Failure("\(error)")
                }
                if let failure = asker.failure { throw Failure("the other side: \(failure)") }
                return Side(
                    recorder: asker.recorder, began: asker.began, ended: asker.ended,
                    usage: asker.usage, counted: asker.counted)
            }
            if let processors = options.processors { try pin(processors.0) }
            let socket = try BareSocket(to: server.address, port: port, wait: wait)
            let asker = try BareAsker(kind, socket, for: duration, keepsRaw: options.raw)
            return Side(
                recorder: asker.recorder, began: asker.began, ended: asker.ended,
                usage: asker.usage, counted: asker.counted)
        }
    }

    static var serverNID: NID { loopback(11) }
    static var clientNID: NID { loopback(12) }

    /// Addresses from the process number, so that benchmarks may run beside each other.
    static func loopback(_ last: UInt32) -> NID {
        let process = UInt32(getpid())
        return NID(
            address: 127 << 24 | (1 + process % 60) << 16 | (process / 60 % 250) << 8 | last,
            type: .tcp)
    }
}
