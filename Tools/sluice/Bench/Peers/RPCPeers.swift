import Foundation

/// Calls without a body, both sides sleeping in epoll.
enum RPCPeers {
    static func series(
        _ programs: inout PeerPrograms, _ bench: RPCBench, seconds: Double
    ) -> [PeerSeries] {
        let path = programs.find("grpc_null", for: "gRPC C++")
        let processors = bench.options.processors
        let directory = bench.directory
        let port = 30_000 + Int(getpid()) % 10_000
        var all: [PeerSeries] = []
        for concurrency in [1, 64] {
            let parameters = ["concurrency": "\(concurrency)", "wait": "sleeping", "size": "0"]
            all.append(
                PeerSeries(
                    name: "rpc-\(concurrency)-sleeping", unit: .us, parameters: parameters,
                    measure: { try await bench.run(concurrency: concurrency, .sleeping) }))
            guard let path else { continue }
            all.append(
                PeerSeries(
                    name: "grpc-\(concurrency)", unit: .us, parameters: parameters,
                    remark: "gRPC C++ unary calls by the callback API on one channel, as its guide "
                        + "advises; its threads share one processor on each side, as ours does",
                    against: "rpc-\(concurrency)-sleeping", statistic: "perSecond", bound: 5,
                    sense: .atLeast,
                    measure: {
                        let server = try PeerProcess(
                            "grpc server", path, ["serve", "\(port)"], directory: directory,
                            processor: processors?.1)
                        try await server.await("ready")
                        let client = try PeerProcess(
                            "grpc client", path,
                            ["call", "\(port)", "\(concurrency)", "\(seconds)"],
                            directory: directory, processor: processors?.0)
                        let text = try await client.finish()
                        server.stop()
                        return try PeerParsing.buckets(text).run(
                            unit: .us,
                            figures: ["perSecond": try PeerParsing.perSecond(text)])
                    }))
        }
        return all
    }
}
