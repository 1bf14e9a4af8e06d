import Foundation
import Testing

/// Two nodes that only a router connects: each in a network namespace of its own, on LNet's own port.
@Suite(.serialized) struct CLINamespaceTests {
    private static let ip = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    /// Why no namespace can be made here; nil where one can.
    static let obstacle: String? = {
        guard let ip else { return "ip of iproute2 is not installed" }
        guard geteuid() == 0 else { return "network namespaces are for root" }
        let name = "slprobe\(getpid())"
        let probe = try? CommandLineTool.run(["netns", "add", name], program: ip)
        guard probe?.status == 0 else { return "ip netns add is not permitted" }
        let link = try? CommandLineTool.run(
            ["-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1"], program: ip)
        _ = try? CommandLineTool.run(["netns", "del", name], program: ip)
        return link?.status == 0 ? nil : "veth devices are not permitted"
    }()

    /// Three namespaces in a row: left, router, right. The kernel forwards nothing between them.
    private final class Row {
        let directory: URL
        private let prefix = "sl\(getpid())"
        private var processes: [BackgroundProcess] = []

        init() throws {
            directory = try CommandLineTool.temporaryDirectory()
            for name in ["left", "router", "right"] { try ip(["netns", "add", space(name)]) }
            for (name, net) in [("left", 1), ("right", 2)] {
                try ip(
                    [
                        "-n", space("router"), "link", "add", name, "type", "veth", "peer", "name",
                        "lnet0", "netns", space(name),
                    ])
                for (space, device, hosts) in [
                    (space(name), "lnet0", [1]), (space("router"), name, [254, 253]),
                ] {
                    for host in hosts {
                        try ip(
                            ["-n", space, "addr", "add", "10.212.\(net).\(host)/24", "dev", device])
                    }
                    try ip(["-n", space, "link", "set", device, "up"])
                    try ip(["-n", space, "link", "set", "lo", "up"])
                }
            }
        }

        deinit {
            for process in processes { process.kill(SIGKILL) }
            for name in ["left", "router", "right"] { try? ip(["netns", "del", space(name)]) }
            try? FileManager.default.removeItem(at: directory)
        }

        /// Gives the left node and the router addresses of IPv6 on the net between them.
        func addIPv6() throws {
            for (name, device, host) in [
                ("left", "lnet0", 1), ("left", "lnet0", 3), ("router", "left", 2),
            ] {
                try ip([
                    "-n", space(name), "addr", "add", "fd00:212::\(host)/64", "dev", device,
                    "nodad",
                ])
            }
        }

        private func space(_ name: String) -> String { "\(prefix)\(name)" }

        private func ip(_ arguments: [String]) throws {
            let program = try #require(CLINamespaceTests.ip)
            let run = try CommandLineTool.run(arguments, program: program)
            try #require(run.status == 0, "ip \(arguments): \(run.errors)")
        }

        func socket(_ name: String) -> String { directory.appending(path: "\(name).socket").path }

        func start(_ name: String, _ nids: String, _ more: [String]) throws -> BackgroundProcess {
            try? FileManager.default.removeItem(atPath: socket(name))
            let program = try #require(CLINamespaceTests.ip)
            let process = try BackgroundProcess(
                [
                    "netns", "exec", space(name), CommandLineTool.path, "net", "node", "--nid",
                    nids, "--control", socket(name),
                ] + more, program: program, directory: directory, label: name)
            processes.append(process)
            try #require(process.waitForLine("ready nid="), "\(name): \(process.errors)")
            return process
        }

        func net(_ name: String, _ line: String) throws -> CommandLineTool.Run {
            try CommandLineTool.run(
                ["net"] + line.split(separator: " ").map(String.init)
                    + ["--control", socket(name)])
        }

        /// A console in the router's namespace, which reaches both networks without the router.
        func selftest(_ test: String) throws -> CommandLineTool.Run {
            let program = try #require(CLINamespaceTests.ip)
            return try CommandLineTool.run(
                [
                    "netns", "exec", space("router"), CommandLineTool.path, "net", "selftest",
                    "--nid", "10.212.1.253@tcp,10.212.2.253@tcp1", "--clients", "10.212.1.1@tcp",
                    "--servers", "10.212.2.1@tcp1", "--test", test, "--size", "64K", "--check",
                    "full", "--loop", "20", "--concurrency", "4", "--time", "20", "--interval",
                    "0.2",
                ], program: program)
        }
    }

    @Test(
        .enabled(if: obstacle == nil, Comment(rawValue: obstacle ?? "")), .timeLimit(.minutes(4)))
    func `ping and selftest cross a router, and again after it was killed and started anew`() throws
    {
        let row = try Row()
        _ = try row.start("left", "10.212.1.1@tcp", ["--selftest"])
        _ = try row.start("right", "10.212.2.1@tcp1", ["--selftest"])
        let gateways = "10.212.1.254@tcp,10.212.2.254@tcp1"
        let router = try row.start("router", gateways, ["--routing"])
        let far = "10.212.2.1@tcp1"
        // Without a route there is no way: the kernel knows none either.
        let lost = try row.net("left", "ping \(far) --timeout 2")
        #expect(lost.status != 0 && lost.errors.contains(far), "\(lost.errors)")
        for (name, line) in [
            ("left", "route add --net tcp1 --gateway 10.212.1.254@tcp"),
            ("right", "route add --net tcp --gateway 10.212.2.254@tcp1"),
        ] {
            let added = try row.net(name, line)
            #expect(added.status == 0, "\(added.errors)")
        }
        func expectCrossing() throws {
            var answer = try row.net("left", "ping \(far) --timeout 2")
            // A route that was down is up again when a recovery ping of its gateway is answered.
            for _ in 0..<40 where answer.status != 0 {
                usleep(500_000)
                answer = try row.net("left", "ping \(far) --timeout 2")
            }
            #expect(answer.output.contains("primary nid: \(far)"), "\(answer.errors)")
            for test in ["read", "write"] {
                let run = try row.selftest(test)
                #expect(run.status == 0, "\(test): \(run.errors)\(run.output)")
            }
            let carried = try row.net("router", "stats").output
            let count = carried.split(separator: "\n").first { $0.contains(" route_count") }
            // 64 KiB both ways, each behind its own header: at least two messages an RPC and a loop.
            let number = count.flatMap { Int($0.drop { !$0.isNumber }) } ?? 0
            #expect(number >= 160, "\(carried)")
        }
        try expectCrossing()
        router.kill(SIGKILL)
        let dead = try row.net("left", "ping \(far) --timeout 2")
        #expect(dead.status != 0, "\(dead.output)")
        _ = try row.start("router", gateways, ["--routing"])
        try expectCrossing()
    }

    @Test(
        .enabled(if: obstacle == nil, Comment(rawValue: obstacle ?? "")), .timeLimit(.minutes(2)))
    func `nodes on IPv6 ping and discover each other, and their YAML comes back as it was`() throws
    {
        let row = try Row()
        try row.addIPv6()
        let (left, right) = ("fd00:212::1@tcp", "fd00:212::2@tcp")
        _ = try row.start("left", left, [])
        _ = try row.start("router", "\(right),10.212.1.254@tcp", [])
        let answer = try row.net("left", "ping \(right) --timeout 5")
        #expect(answer.status == 0, "\(answer.errors)")
        #expect(answer.output.contains("primary nid: \(right)"), "\(answer.output)")
        #expect(answer.output.contains("10.212.1.254@tcp"), "\(answer.output)")
        let discovered = try row.net("left", "discover \(right)")
        #expect(discovered.status == 0, "\(discovered.errors)")
        #expect(discovered.output.contains("Multi-Rail: True"), "\(discovered.output)")
        let known = try row.net("router", "peer show --peer \(left)")
        #expect(known.output.contains("primary nid: \(left)"), "\(known.output)")
        let shown = try row.net("left", "show")
        #expect(shown.output.contains("nid: \(left)"), "\(shown.output)")
        #expect(shown.output.contains("0: lnet0"), "\(shown.output)")
        let added = try row.net("left", "add fd00:212::3@tcp5")
        #expect(added.status == 0, "\(added.errors)")
        let exported = try row.net("left", "export").output
        #expect(exported.contains("nid: fd00:212::3@tcp5"), "\(exported)")
        let file = row.directory.appending(path: "left.yaml")
        try Data(exported.utf8).write(to: file)
        let imported = try row.net("left", "import \(file.path)")
        #expect(imported.status == 0, "\(imported.errors)")
        #expect(try row.net("left", "export --backup").output.contains("fd00:212::3@tcp5"))
    }
}
