import Foundation
import Primitives
import WireFormat

/// perftest over the same devices as our own sides: what RDMA costs with nothing above it.
struct VerbsPeers {
    let server: NID
    let directory: String
    /// Of the two sides, as ours have them; nil where they are not pinned.
    let processors: (Int, Int)?
    /// The last line of each program's last run, as it printed it.
    private let lines = Lines()
    private var programs = PeerPrograms(directory: nil)
    private let latency: String?
    private let bandwidth: String?

    private final class Lines {
        // Used by one task at a time.
        var byName: [(name: String, line: String)] = []
    }

    init(server: NID, directory: String, processors: (Int, Int)?) {
        self.server = server
        self.directory = directory
        self.processors = processors
        latency = programs.find("ib_send_lat", for: "perftest")
        bandwidth = programs.find("ib_write_bw", for: "perftest")
    }

    /// Sentences for the result: what perftest printed, and what is not installed.
    var facts: [String] {
        lines.byName.map { "\($0.name) printed: \($0.line)" } + programs.missing
    }

    func series() -> [PeerSeries] {
        var all: [PeerSeries] = []
        if let latency {
            for (wait, option) in [(NetBenchWait.polling, []), (.sleeping, ["-e"])] {
                let name = "ib_send_lat-\(wait.rawValue)"
                all.append(
                    PeerSeries(
                        name: name, unit: .us,
                        parameters: ["size": "64", "wait": wait.rawValue, "fabric": "verbs"],
                        remark: "perftest -R -s 64: one SEND there and one back, no protocol above",
                        against: "lnet-put-\(wait.rawValue)", bound: 1.25,
                        measure: {
                            let arguments = ["-R", "-F", "-s", "64", "-n", "400"] + option
                            let words = try await run(name, latency, arguments, size: 64)
                            // bytes, iterations, min, max, typical
                            guard words.count > 4, let typical = Double(words[4]) else {
                                throw Failure("\(name) printed no line of numbers")
                            }
                            return PeerParsing.run(typical)
                        }))
            }
        }
        if let bandwidth {
            all.append(
                PeerSeries(
                    name: "ib_write_bw", unit: .us,
                    parameters: [
                        "size": "\(NetBenchSize.get)", "depth": "\(NetBenchSize.depth(.bulk))",
                        "wait": "polling", "fabric": "verbs",
                    ],
                    remark: "perftest -R -s 1048576 -t 8: RDMA WRITE alone, nobody is told",
                    against: "lnet-get", statistic: "mibPerSecond", bound: 0.9, sense: .atLeast,
                    measure: {
                        let arguments = [
                            "-R", "-F", "-s", "\(NetBenchSize.get)", "-n", "32", "-t",
                            "\(NetBenchSize.depth(.bulk))",
                        ]
                        let words = try await run(
                            "ib_write_bw", bandwidth, arguments, size: NetBenchSize.get)
                        // bytes, iterations, peak, average; its MB are 2^20 bytes
                        guard words.count > 3, let average = Double(words[3]), average > 0 else {
                            throw Failure("ib_write_bw printed no line of numbers")
                        }
                        var run = PeerParsing.run(1e6 / average)
                        run.figures["mibPerSecond"] = average
                        return run
                    }))
        }
        return all
    }

    /// Runs both sides and returns the words of the client's line of numbers.
    ///
    /// The server says that it waits before rdma_cm knows of it, and a client that comes earlier
    /// gives up at once: it is given a few tries.
    private func run(
        _ name: String, _ path: String, _ arguments: [String], size: Int
    ) async throws -> [Substring] {
        for tries in 1... {
            do {
                return try await runOnce(name, path, arguments, size: size, pause: 250 * tries)
            } catch {
                guard tries < 5, "\(error)".contains("RDMA CM") else { throw error }
            }
        }
        preconditionFailure("the last try has returned or thrown")
    }

    /// - Parameter pause: ms between the server's words and the client's start.
    private func runOnce(
        _ name: String, _ path: String, _ arguments: [String], size: Int, pause: Int
    ) async throws -> [Substring] {
        let port = 18_500 + Int.random(in: 0..<1000)
        // Line by line, so that it is seen when the server listens.
        let common = ["-oL", path, "-p", "\(port)"] + arguments
        let answering = try PeerProcess(
            "\(name) server", "/usr/bin/stdbuf", common, directory: directory,
            processor: processors?.1)
        try await answering.await("aiting for client", seconds: 20)
        try await Task.sleep(for: .milliseconds(pause))
        let text = try await PeerProcess(
            "\(name) client", "/usr/bin/stdbuf", common + [address], directory: directory,
            processor: processors?.0
        ).finish()
        answering.stop()
        let line = text.split(separator: "\n").last {
            $0.split(separator: " ").first.map(String.init) == "\(size)"
        }
        guard let line else { throw Failure("\(name) printed no line for \(size) bytes") }
        lines.byName.removeAll { $0.name == name }
        lines.byName.append((name, line.trimmingCharacters(in: .whitespaces)))
        return line.split(whereSeparator: { $0 == " " || $0 == "\t" })
    }

    private var address: String {
        String(server.description.prefix { $0 != "@" })
    }
}
