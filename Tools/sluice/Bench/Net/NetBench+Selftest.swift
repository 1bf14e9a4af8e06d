import Foundation
import Primitives
import WireFormat

extension NetBench {
    /// One run of lnet_selftest: a node, and the console as the client.
    func runSelftest() async throws -> BenchResult.Run {
        let program = Machine.executablePath
        let port = ["--accept-port", "\(acceptPort)"]
        let node = try PeerProcess(
            "the selftest node", program,
            ["net", "node", "--selftest", "--without-discovery", "--nid", "\(server)"] + port,
            directory: directory, processor: options.processors?.1)
        defer { node.stop() }
        try await node.await("ready")
        let seconds = Double(duration.nanoseconds) / 1e9
        let console = try PeerProcess(
            "sluice net selftest", program,
            [
                "net", "selftest", "--servers", "\(server)", "--nid", "\(client)", "--test", "read",
                "--size", "\(NetBenchSize.small)", "--concurrency",
                "\(NetBenchSize.depth(.brw))", "--spin", "0", "--time", "\(max(0.2, seconds))",
                "--json",
            ] + port, directory: directory, processor: options.processors?.0)
        let text = try await console.finish()
        let report: NetSelftestCommand.Report
        do {
            report = try JSONDecoder().decode(
                NetSelftestCommand.Report.self, from: Data(text.utf8))
        } catch {
            throw Failure("sluice net selftest printed no report: \(error)")
        }
        // The median of the run is known; its samples are not.
        var recorder = Recorder()
        recorder.record(UInt64((report.latencyUs?["p50"] ?? 0) * 1000))
        return recorder.run(unit: .us, figures: ["perSecond": report.rpcsPerSecond])
    }
}
