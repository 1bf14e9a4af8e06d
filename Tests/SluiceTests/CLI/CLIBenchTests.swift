import Foundation
import Testing

/// The benchmarks as a stranger runs them, in their shortest form.
@Suite(.serialized) struct CLIBenchTests {
    private static func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    private static func series(_ result: [String: Any]) throws -> [String: [String: Any]] {
        let list = try #require(result["series"] as? [[String: Any]])
        return Dictionary(uniqueKeysWithValues: list.map { ($0["name"] as? String ?? "?", $0) })
    }

    @Test func `bench net measures both sides of every series in every round`() throws {
        let run = try CommandLineTool.run([
            "bench", "net", "--runs", "2", "--warm-up", "0", "--seconds", "0.02", "--no-pin",
            "--accept-port", "10971", "--json",
        ])
        #expect(run.status == 0, "\(run.errors)")
        let result = try Self.object(run.output)
        #expect(result["format"] as? String == "sluice-bench")
        #expect(result["version"] as? Int == 1)
        let environment = try #require(result["environment"] as? [String: String])
        for key in ["machine", "kernel", "clock", "pinning", "build"] {
            #expect(environment[key]?.isEmpty == false, "\(key)")
        }
        let series = try Self.series(result)
        for name in ["lnet-put-polling", "bare-echo-sleeping", "lnet-get", "bare-stream"] {
            let runs = try #require(series[name]?["runs"] as? [[String: Any]], "\(name)")
            #expect(runs.count == 2)
            for run in runs {
                let spread = try #require(run["spread"] as? [String: Double])
                #expect((spread["count"] ?? 0) > 0 && (spread["p50"] ?? 0) > 0)
                let figures = try #require(run["figures"] as? [String: Double])
                #expect(figures["cpuUsPerOp"] != nil && figures["switchesPerOp"] != nil)
            }
        }
        let ratios = try #require(result["ratios"] as? [[String: Any]])
        #expect(ratios.count == 5)
    }

    @Test func `bench rpc counts calls of one client and one server`() throws {
        let run = try CommandLineTool.run([
            "bench", "rpc", "--runs", "1", "--warm-up", "0", "--seconds", "0.05",
            "--concurrency", "4", "--no-pin", "--accept-port", "10972", "--csv",
        ])
        #expect(run.status == 0, "\(run.errors)")
        let lines = run.output.split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines.first?.hasPrefix("benchmark,series,run,unit,count,min,mean,p50") == true)
        #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("rpc,rpc-4-") })
    }

    @Test func `bench notify upgrades a server to and fro and fits the growth`() throws {
        let run = try CommandLineTool.run([
            "bench", "notify", "--clients", "1,5", "--slow-clients", "1", "--runs", "2",
            "--warm-up", "0", "--no-pin", "--accept-port", "10973", "--json",
        ])
        #expect(run.status == 0, "\(run.errors)")
        let result = try Self.object(run.output)
        let series = try Self.series(result)
        let gates = try #require(series["notify-5-gates"]?["runs"] as? [[String: Any]])
        #expect(gates.count == 2)
        for run in gates {
            #expect((run["spread"] as? [String: Double])?["count"] == 5)
        }
        // The slow one is held for 200 ms, and everybody waits for its receipt.
        for run in try #require(series["notify-5-last"]?["runs"] as? [[String: Any]]) {
            #expect(((run["spread"] as? [String: Double])?["min"] ?? 0) >= 199)
        }
        let timelines = try #require(result["timelines"] as? [[String: Any]])
        let clients = try #require(timelines.last?["clients"] as? [[String: Any]])
        #expect(clients.count == 5)
        for client in clients {
            let shut = try #require(client["gateShut"] as? Double)
            let receipt = try #require(client["receiptGiven"] as? Double)
            let opened = try #require(client["gateOpened"] as? Double)
            #expect(shut <= receipt && receipt <= opened)
        }
        #expect((result["facts"] as? [String])?.contains { $0.contains("grows as") } == true)
    }

    @Test(arguments: ["drain", "crash"])
    func `bench pause counts what was due while the server was away`(_ scheme: String) throws {
        let run = try CommandLineTool.run([
            "bench", "pause", "--clients", "5", "--schemes", scheme, "--runs", "1", "--warm-up",
            "0", "--no-pin", "--accept-port", "10974", "--json",
        ])
        #expect(run.status == 0, "\(run.errors)")
        let series = try Self.series(try Self.object(run.output))
        let pause = try #require((series["pause-\(scheme)"]?["runs"] as? [[String: Any]])?.first)
        #expect((pause["spread"] as? [String: Double])?["count"] == 5)
        #expect(((pause["figures"] as? [String: Double])?["blackoutMs"] ?? 0) > 0)
        let latency = try #require(
            (series["latency-\(scheme)"]?["runs"] as? [[String: Any]])?.first)
        let longest = (latency["spread"] as? [String: Double])?["max"]
        #expect(longest == (pause["spread"] as? [String: Double])?["max"])
    }

    @Test func `two runs of one build are told apart by nothing but noise`() throws {
        let run = try CommandLineTool.run([
            "bench", "compare", "--baseline", CommandLineTool.path, "--rounds", "4", "--smallest",
            "100", "rpc", "--seconds", "0.05", "--concurrency", "2", "--no-pin", "--accept-port",
            "10975",
        ])
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.output.contains("rpc-2-sleeping"))
        #expect(run.output.contains("noise") && !run.output.contains("worse  "))
    }

    @Test(arguments: [
        ["bench", "net", "--runs", "0"], ["bench", "net", "--json", "--csv"],
        ["bench", "net", "--output", "/nowhere/x.json"], ["bench", "notify", "--clients", "1,,2"],
        ["bench", "notify", "--clients", "0"], ["bench", "pause", "--schemes", "drain,magic"],
        ["bench", "rpc", "--concurrency", "0"], ["bench", "compare", "net"],
        ["bench", "compare", "--baseline", "/nowhere/sluice", "net"],
        ["bench", "peers", "telegraph"], ["report"], ["report", "x.json"],
    ])
    func `wrong arguments are refused with usage`(_ arguments: [String]) throws {
        let run = try CommandLineTool.run(arguments)
        #expect(run.status == 64, "\(run.errors)")
        #expect(run.errors.hasPrefix("Error:"), "\(run.errors)")
    }

    @Test func `a peer that is not installed is named and left out`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let run = try CommandLineTool.run([
            "bench", "peers", "rpc", "--programs", directory.path, "--runs", "1", "--warm-up", "0",
            "--seconds", "0.05", "--no-pin", "--accept-port", "10976",
        ])
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.errors.contains("gRPC C++ is left out: grpc_null is not installed"))
        #expect(run.output.contains("gRPC C++ is left out: grpc_null is not installed"))
        #expect(run.output.contains("rpc-64-sleeping"))
    }
}
