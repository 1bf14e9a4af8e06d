import Foundation

/// 64 B one way over TCP on loopback, both sides polling.
struct NetPeers {
    private let bench: NetBench
    private let parameters = ["size": "64", "wait": "polling", "fabric": "tcp"]
    /// Ports of this process's own, so that benchmarks may run beside each other, and one for each
    /// peer, so that none finds the connections of another.
    private var port = 20_000 + Int(getpid()) % 1_000 * 10

    static func series(_ programs: inout PeerPrograms, _ bench: NetBench) -> [PeerSeries] {
        var peers = NetPeers(bench: bench)
        return peers.ours() + peers.ucx(&programs) + peers.libfabric(&programs)
            + peers.sockperf(&programs)
    }

    private init(bench: NetBench) { self.bench = bench }

    private func ours() -> [PeerSeries] {
        let bench = bench
        return [
            PeerSeries(
                name: "lnet-put-polling", unit: .us, parameters: parameters,
                measure: { try await bench.run(.put, .polling) }),
            PeerSeries(
                name: "bare-echo-polling", unit: .us, parameters: parameters,
                remark: "two sockets and epoll, the same 160 bytes",
                against: "lnet-put-polling", bound: 1.1,
                measure: { try await bench.run(.echo, .polling) }),
        ]
    }

    private mutating func ucx(_ programs: inout PeerPrograms) -> [PeerSeries] {
        guard let path = programs.find("ucx_perftest", for: "UCX") else { return [] }
        let tests = [
            (
                "ucx-am-polling", ["-t", "am_lat", "-x", "tcp", "-d", "lo"],
                "active messages of 64 B of UCT's tcp, the lowest layer; its header is 5 bytes"
            ),
            (
                "ucx-tag-polling", ["-t", "tag_lat"],
                "tagged messages of 64 B, UCX_TLS=tcp; UCP's header is a few bytes"
            ),
        ]
        return tests.map { name, test, remark in
            let pair = nextPair()
            let common = ["UCX_TLS=tcp", "UCX_NET_DEVICES=lo", path, "-p", "\(pair.port)"]
            return PeerSeries(
                name: name, unit: .us, parameters: parameters, remark: remark,
                against: "lnet-put-polling", bound: 1,
                measure: {
                    let text = try await pair.run(
                        "ucx_perftest", "/usr/bin/env", server: common,
                        client: common + ["127.0.0.1"] + test
                            + ["-s", "64", "-n", "20000", "-w", "1000", "-f"])
                    return PeerParsing.run(try PeerParsing.ucx(text))
                })
        }
    }

    private mutating func libfabric(_ programs: inout PeerPrograms) -> [PeerSeries] {
        guard let path = programs.find("fi_pingpong", for: "libfabric") else { return [] }
        let pair = nextPair()
        let common = ["-p", "tcp", "-e", "msg", "-S", "64", "-I", "20000"]
        return [
            PeerSeries(
                name: "fabric-msg-polling", unit: .us, parameters: parameters,
                remark: "endpoints of type msg of the tcp provider, with a header of 16 bytes; "
                    + "it prints an average, and the averages are compared",
                against: "lnet-put-polling", statistic: "mean", bound: 1,
                measure: {
                    let text = try await pair.run(
                        "fi_pingpong", path, server: common + ["-B", "\(pair.port)"],
                        client: common + ["-P", "\(pair.port)", "127.0.0.1"])
                    return PeerParsing.run(try PeerParsing.libfabric(text))
                })
        ]
    }

    private mutating func sockperf(_ programs: inout PeerPrograms) -> [PeerSeries] {
        guard let path = programs.find("sockperf", for: "sockperf") else { return [] }
        let pair = nextPair()
        let common = ["--tcp", "-i", "127.0.0.1", "-p", "\(pair.port)", "--nonblocked"]
        return [
            PeerSeries(
                name: "sockperf-polling", unit: .us, parameters: parameters,
                remark: "64 B and no header, one socket that is asked without sleeping",
                against: "lnet-put-polling",
                measure: {
                    let text = try await pair.run(
                        "sockperf", path, server: ["server"] + common,
                        client: ["ping-pong"] + common + ["-m", "64", "-t", "1"],
                        again: PeerParsing.sockperfGaveUpConnecting)
                    return PeerParsing.run(try PeerParsing.sockperf(text))
                })
        ]
    }

    private mutating func nextPair() -> PeerPair {
        defer { port += 1 }
        return PeerPair(
            port: port, directory: bench.directory, processors: bench.options.processors)
    }
}

/// A server and a client of somebody else's, new ones for each run.
private struct PeerPair {
    let port: Int
    let directory: String
    let processors: (Int, Int)?

    /// What the client prints.
    ///
    /// - Parameter again: whether that says that the client is to be started once more, up to five
    ///   times.
    func run(
        _ name: String, _ path: String, server: [String], client: [String],
        again: (String) -> Bool = { _ in false }
    ) async throws -> String {
        let server = try PeerProcess(
            "\(name) server", path, server, directory: directory, processor: processors?.1)
        defer { server.stop() }
        // None of them says when it listens.
        try await Task.sleep(for: .milliseconds(300))
        var text = ""
        for _ in 0..<5 {
            let client = try PeerProcess(
                "\(name) client", path, client, directory: directory, processor: processors?.0)
            text = try await client.finish()
            if !again(text) { break }
        }
        return text
    }
}
