import Foundation

/// 64 B one way over TCP on loopback, both sides polling.
enum NetPeers {
    static func series(
        _ programs: inout PeerPrograms, _ bench: NetBench
    ) -> [PeerSeries] {
        let parameters = ["size": "64", "wait": "polling", "fabric": "tcp"]
        var all = [
            PeerSeries(
                name: "lnet-put-polling", unit: .us, parameters: parameters,
                measure: { try await bench.run(.put, .polling) }),
            PeerSeries(
                name: "bare-echo-polling", unit: .us, parameters: parameters,
                remark: "two sockets and epoll, the same 160 bytes",
                against: "lnet-put-polling", bound: 1.1,
                measure: { try await bench.run(.echo, .polling) }),
        ]
        let processors = bench.options.processors
        let directory = bench.directory
        // Ports of this process's own, so that benchmarks may run beside each other.
        let port = 20_000 + Int(getpid()) % 10_000
        if let path = programs.find("ucx_perftest", for: "UCX") {
            all.append(
                PeerSeries(
                    name: "ucx-tag-polling", unit: .us, parameters: parameters,
                    remark: "tagged messages of 64 B, UCX_TLS=tcp; UCP's header is a few bytes",
                    against: "lnet-put-polling", bound: 1,
                    measure: {
                        let common = ["UCX_TLS=tcp", "UCX_NET_DEVICES=lo", path, "-p", "\(port)"]
                        let server = try PeerProcess(
                            "ucx server", "/usr/bin/env", common, directory: directory,
                            processor: processors?.1)
                        try await Task.sleep(for: .milliseconds(300))
                        let client = try PeerProcess(
                            "ucx client", "/usr/bin/env",
                            common + [
                                "127.0.0.1", "-t", "tag_lat", "-s", "64", "-n", "20000", "-w",
                                "1000", "-f",
                            ], directory: directory, processor: processors?.0)
                        let text = try await client.finish()
                        server.stop()
                        return PeerParsing.run(try PeerParsing.ucx(text))
                    }))
        }
        if let path = programs.find("fi_pingpong", for: "libfabric") {
            all.append(
                PeerSeries(
                    name: "fabric-msg-polling", unit: .us, parameters: parameters,
                    remark: "endpoints of type msg of the tcp provider, with a header of 16 bytes; "
                        + "it prints an average, and the averages are compared",
                    against: "lnet-put-polling", statistic: "mean", bound: 1,
                    measure: {
                        let common = [
                            "-p", "tcp", "-e", "msg", "-S", "64", "-I", "20000", "-B", "\(port)",
                        ]
                        let server = try PeerProcess(
                            "fi_pingpong server", path, common, directory: directory,
                            processor: processors?.1)
                        try await Task.sleep(for: .milliseconds(300))
                        let client = try PeerProcess(
                            "fi_pingpong client", path,
                            common.dropLast(2) + ["-P", "\(port)", "127.0.0.1"],
                            directory: directory, processor: processors?.0)
                        let text = try await client.finish()
                        server.stop()
                        return PeerParsing.run(try PeerParsing.libfabric(text))
                    }))
        }
        if let path = programs.find("sockperf", for: "sockperf") {
            all.append(
                PeerSeries(
                    name: "sockperf-polling", unit: .us, parameters: parameters,
                    remark: "64 B and no header, one socket that is asked without sleeping",
                    against: "lnet-put-polling",
                    measure: {
                        let common = ["--tcp", "-i", "127.0.0.1", "-p", "\(port)", "--nonblocked"]
                        let server = try PeerProcess(
                            "sockperf server", path, ["server"] + common, directory: directory,
                            processor: processors?.1)
                        try await Task.sleep(for: .milliseconds(300))
                        let client = try PeerProcess(
                            "sockperf client", path,
                            ["ping-pong"] + common + ["-m", "64", "-t", "1"],
                            directory: directory, processor: processors?.0)
                        let text = try await client.finish()
                        server.stop()
                        return PeerParsing.run(try PeerParsing.sockperf(text))
                    }))
        }
        return all
    }
}
