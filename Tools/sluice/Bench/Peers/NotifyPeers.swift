import Foundation
import WireFormat

/// One message to many clients and an answer from each.
final class NotifyPeers {
    private let count: Int
    private let directory: String
    private var keep: [PeerProcess] = []
    private(set) var series: [PeerSeries] = []
    private let bench: NotifyBench
    private let fanOut: BareFanOut

    /// Starts everybody: servers, and clients that stay connected over all rounds.
    init(
        _ count: Int, _ programs: inout PeerPrograms, options: BenchOptions, acceptPort: UInt16,
        directory: String
    ) async throws {
        self.count = count
        self.directory = directory
        let processors = options.processors
        let bench = try await NotifyBench(
            clientCount: count, slowCount: 0, scheme: .drain, acceptPort: acceptPort,
            directory: directory, processors: processors)
        let fanOut = try await BareFanOut(
            count: count, directory: directory, processors: processors)
        self.bench = bench
        self.fanOut = fanOut
        let parameters = ["clients": "\(count)"]
        series.append(
            PeerSeries(
                name: "notify-\(count)-last", unit: .ms, parameters: parameters,
                measure: {
                    let round = try await bench.round("\(count) clients")
                    return Self.last(Double(round.lastReceiptNs) / 1e6)
                }))
        let box = Sending(fanOut)
        series.append(
            PeerSeries(
                name: "bare-\(count)-last", unit: .ms, parameters: parameters,
                remark:
                    "one process writes to sockets and reads an answer from each, another answers "
                    + "them; the same bytes",
                against: "notify-\(count)-last", bound: count >= 1000 ? 1.25 : nil,
                measure: {
                    let processor = processors?.0
                    let recorder = try await onThread {
                        if let processor { try pin(processor) }
                        return try box.value.run()
                    }
                    return Self.last(recorder.run(unit: .ms).spread.max)
                }))
        await addBrokers(&programs, parameters)
    }

    private static func last(_ milliseconds: Double) -> BenchResult.Run {
        var recorder = Recorder()
        recorder.record(UInt64(milliseconds * 1e6))
        return recorder.run(unit: .ms)
    }

    private func addBrokers(
        _ programs: inout PeerPrograms, _ parameters: [String: String]
    ) async {
        let port = 40_000 + Int(getpid()) % 10_000
        let fanOut = programs.find("fanout", for: "NATS and Redis")
        if let fanOut, let server = programs.find("nats-server", for: "NATS") {
            await add(
                &programs, "nats", parameters, program: fanOut, mode: ["nats"], port: port,
                remark:
                    "NATS: three processes (server, all clients, who asks) on both processors, and "
                    + "every message passes the server twice",
                server: server, ["-a", "127.0.0.1", "-p", "\(port)"], "Server is ready")
        }
        if let fanOut, let server = programs.find("redis-server", for: "Redis") {
            await add(
                &programs, "redis", parameters, program: fanOut, mode: ["redis"], port: port + 1,
                remark: "Redis: as with NATS; answers are published, too",
                server: server,
                [
                    "--bind", "127.0.0.1", "--port", "\(port + 1)", "--save", "", "--appendonly",
                    "no", "--maxclients", "\(count + 100)", "--dir", directory,
                ], "Ready to accept connections")
        }
        if let program = programs.find("etcd_fanout", for: "etcd"),
            let server = programs.find("etcd", for: "etcd")
        {
            await add(
                &programs, "etcd", parameters, program: program, mode: [], port: port + 2,
                remark:
                    "etcd: every answer is a key that is written to its log and synced, as it does "
                    + "by itself; gRPC",
                server: server,
                [
                    "--data-dir", "\(directory)/etcd", "--listen-client-urls",
                    "http://127.0.0.1:\(port + 2)", "--advertise-client-urls",
                    "http://127.0.0.1:\(port + 2)", "--listen-peer-urls",
                    "http://127.0.0.1:\(port + 3)",
                ], "serving insecure client requests")
        }
    }

    /// Starts a broker and its clients; one that does not come up is named and left out.
    private func add(
        _ programs: inout PeerPrograms, _ name: String, _ parameters: [String: String],
        program: String, mode: [String], port: Int, remark: String, server: String,
        _ arguments: [String], _ ready: String
    ) async {
        let sizes = ["\(BareFanOut.noticeBytes)", "\(BareFanOut.answerBytes)"]
        let series = "\(name)-\(count)-last"
        do {
            let server = try PeerProcess(
                "\(name) server", server, arguments, directory: directory)
            try await server.awaitAnywhere(ready)
            let clients = try PeerProcess(
                "\(name) clients", program, ["subscribe"] + mode + ["\(port)", "\(count)"] + sizes,
                directory: directory)
            try await clients.await("ready", seconds: 90)
            keep += [server, clients]
        } catch {
            programs.note("\(series) is left out: \(error)")
            return
        }
        let (count, directory) = (count, directory)
        self.series.append(
            PeerSeries(
                name: series, unit: .ms, parameters: parameters, remark: remark,
                against: "notify-\(count)-last", bound: 1,
                measure: {
                    let asker = try PeerProcess(
                        "\(name) asker", program,
                        ["publish"] + mode + ["\(port)", "\(count)"] + sizes,
                        directory: directory)
                    let recorder = try PeerParsing.buckets(try await asker.finish())
                    return Self.last(recorder.run(unit: .ms).spread.max)
                }))
    }

    func close() async {
        for process in keep.reversed() { process.stop() }
        await bench.close()
    }
}

extension PeerProcess {
    /// Waits until its output or what it says of itself holds a text.
    func awaitAnywhere(_ text: String, seconds: Double = 30) async throws {
        let limit = ContinuousClock.now + .seconds(seconds)
        while !output.contains(text), !errors.contains(text) {
            guard isRunning else { throw Failure("\(name) ended: \(lastWords)") }
            guard ContinuousClock.now < limit else {
                throw Failure("\(name) did not say \(text) in \(Int(seconds)) s: \(lastWords)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}
