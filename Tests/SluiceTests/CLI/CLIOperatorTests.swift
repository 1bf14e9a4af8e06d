import Foundation
import Testing
import Yams

/// What an operator of Lustre does with `lnetctl` and `lst`, with nodes that are processes.
@Suite(.serialized) struct CLIOperatorTests {
    /// A node that runs, and its control socket.
    final class Node {
        static let port = "11771"
        let directory: URL
        let socket: String
        let process: BackgroundProcess

        /// - Parameter nids: behind commas, each with its network.
        init(_ nids: String, _ arguments: [String] = []) throws {
            directory = try CommandLineTool.temporaryDirectory()
            socket = directory.appending(path: "control").path
            process = try BackgroundProcess(
                [
                    "net", "node", "--nid", nids, "--accept-port", Self.port, "--control", socket,
                ] + arguments, directory: directory, label: "node")
            try #require(process.waitForLine("ready nid="), "\(process.errors)")
        }

        deinit {
            process.kill(SIGKILL)
            try? FileManager.default.removeItem(at: directory)
        }

        func net(_ line: String) throws -> CommandLineTool.Run {
            try CommandLineTool.run(
                ["net"] + line.split(separator: " ").map(String.init) + ["--control", socket])
        }

        /// What a command that must succeed prints.
        @discardableResult
        func text(_ line: String) throws -> String {
            let run = try net(line)
            try #require(run.status == 0, "net \(line): \(run.errors)")
            return run.output
        }

        func yaml(_ line: String) throws -> [String: Any] {
            try #require(try Yams.load(yaml: text(line)) as? [String: Any])
        }
    }

    /// Addresses that no other run of the tests uses.
    private static func host(_ number: Int) -> String {
        "127.22.\(Int(getpid()) % 250).\(number)"
    }

    private static func file(_ text: String, _ node: Node) throws -> String {
        try CommandLineTool.write(text, to: "lnet.yaml", in: node.directory)
    }

    @Test func `what a node exports another imports, and then exports the same`() throws {
        let gateway = "\(Self.host(9))@tcp"
        let first = try Node("\(Self.host(1))@tcp")
        try first.text("add \(Self.host(2))@tcp1")
        try first.text("route add --net tcp7 --gateway \(gateway) --hop 2 --priority 3")
        try first.text("peer add --prim_nid \(Self.host(8))@tcp --nid \(Self.host(7))@tcp1")
        try first.text("global set transaction_timeout 33")
        try first.text("global set retry_count 3")
        try first.text("global set routing 1")
        let exported = try first.text("export --backup")
        #expect(exported.contains("net: tcp7") && exported.contains("gateway: \(gateway)"))

        // The other end of the wire is another machine: here the first one has to end for its names.
        first.process.kill(SIGKILL)
        let second = try Node("\(Self.host(1))@tcp")
        try second.text("import \(try Self.file(exported, second))")
        #expect(try second.text("export --backup") == exported)
        // A file that is there already changes nothing.
        try second.text("import \(try Self.file(exported, second))")
        #expect(try second.text("export --backup") == exported)
        try second.text("import --del \(try Self.file(exported, second))")
        let rest = try second.text("export --backup")
        #expect(!rest.contains("tcp7") && !rest.contains("\(Self.host(2))@tcp1"), "\(rest)")
        #expect(!rest.contains("\(Self.host(8))@tcp") && rest.contains("\(Self.host(1))@tcp"))
    }

    @Test func `a file as lnetctl writes it is imported`() throws {
        let node = try Node("\(Self.host(11))@tcp")
        let file = try Self.file(
            """
            net:
                - net type: lo
                  local NI(s):
                    - nid: 0@lo
                      status: up
                      statistics:
                          send_count: 0
                          recv_count: 0
                          drop_count: 0
                      tunables:
                          peer_timeout: 0
                          peer_credits: 0
                          peer_buffer_credits: 0
                          credits: 0
                      lnd tunables:
                      dev cpt: 0
                      CPT: "[0]"
                - net type: tcp3
                  local NI(s):
                    - nid: \(Self.host(12))@tcp3
                      status: up
                      interfaces:
                          0: lo
                      statistics:
                          send_count: 4
                          recv_count: 4
                          drop_count: 0
                      health stats:
                          fatal_error: 0
                          health value: 1000
                          interrupts: 0
                          dropped: 0
                      tunables:
                          peer_timeout: 180
                          peer_credits: 8
                          peer_buffer_credits: 0
                          credits: 256
                      lnd tunables:
                          conns_per_peer: 4
                          timeout: 50
                          tos: -1
                      dev cpt: -1
                      CPT: "[0]"
            route:
                - net: o2ib
                  gateway: \(Self.host(19))@tcp
                  hop: -1
                  priority: 0
                  health_sensitivity: 1
                  state: down
                  type: single-hop
            routing:
                enable: 0
            peer:
                - primary nid: \(Self.host(18))@tcp
                  Multi-Rail: True
                  peer state: 273
                  peer ni:
                    - nid: \(Self.host(18))@tcp
                      udsp info:
                          net priority: -1
                          nid priority: -1
                      state: NA
                      max_ni_tx_credits: 8
                      available_tx_credits: 8
                      min_tx_credits: 7
                      tx_q_num_of_buf: 0
                      available_rtr_credits: 8
                      min_rtr_credits: 8
                      refcount: 1
                    - nid: \(Self.host(17))@tcp3
                      state: NA
            global:
                numa_range: 0
                max_interfaces: 200
                discovery: 1
                drop_asym_route: 0
                retry_count: 2
                transaction_timeout: 120
                health_sensitivity: 100
                recovery_interval: 1
                router_sensitivity: 100
                lnd_timeout: 39
                response_tracking: 3
                recovery_limit: 0
                max_recovery_ping_interval: 900

            """, node)
        try node.text("import \(file)")
        #expect(try node.text("show").contains("\(Self.host(12))@tcp3"))
        let route = try #require((try node.yaml("route show")["route"] as? [[String: Any]])?.first)
        #expect(route["net"] as? String == "o2ib" && route["hop"] as? Int == -1)
        let peer = try node.text("peer show --peer \(Self.host(18))@tcp")
        #expect(peer.contains("Multi-Rail: True") && peer.contains("\(Self.host(17))@tcp3"))
        let global = try #require(try node.yaml("global show")["global"] as? [String: Int])
        #expect(global["transaction_timeout"] == 120 && global["lnd_timeout"] == 39)
    }

    @Test func `a router between two networks carries what has a route, and nothing else`() throws {
        let router = try Node("\(Self.host(21))@tcp,\(Self.host(22))@tcp1", ["--routing"])
        let left = try Node("\(Self.host(23))@tcp")
        let right = try Node("\(Self.host(24))@tcp1")
        let far = "\(Self.host(24))@tcp1"
        let without = try left.net("ping \(far) --timeout 2")
        #expect(without.status != 0 && !without.errors.isEmpty)
        try left.text("route add --net tcp1 --gateway \(Self.host(21))@tcp")
        // One way only: the answer has none.
        let oneWay = try left.net("ping \(far) --timeout 2")
        #expect(oneWay.status != 0)
        try right.text("route add --net tcp --gateway \(Self.host(22))@tcp1")
        #expect(try left.text("ping \(far)").contains("primary nid: \(far)"))
        #expect(try right.text("ping \(Self.host(23))@tcp").contains("\(Self.host(23))@tcp"))
        let carried = try #require(try router.yaml("stats")["statistics"] as? [String: Int])
        #expect((carried["route_count"] ?? 0) >= 4, "\(carried)")
        #expect(try router.text("routing").contains("enable: 1"))

        // A route through a node that is no router stays down.
        try router.text("global set routing 0")
        let stopped = try left.net("ping \(far) --timeout 2")
        #expect(stopped.status != 0)
        try router.text("global set routing 1")
        try left.text("route del --net tcp1 --gateway \(Self.host(21))@tcp")
        #expect(try left.net("ping \(far) --timeout 2").status != 0)
    }

    @Test func `a fault rule drops what it names, and counts it`() throws {
        let node = try Node("\(Self.host(31))@tcp")
        let peer = try Node("\(Self.host(32))@tcp")
        let nid = "\(Self.host(32))@tcp"
        try node.text("ping \(nid)")
        // As in Lustre it is the receiver that drops.
        try peer.text("fault drop add --source *@tcp --dest \(nid) --rate 1 --message GET")
        let lost = try node.net("ping \(nid) --timeout 1")
        #expect(lost.status != 0 && lost.errors.contains(nid), "\(lost.errors)")
        let rules = try #require(try peer.yaml("fault drop show")["fault"] as? [[String: Any]])
        #expect(rules.count == 1 && (rules[0]["ds_dropped"] as? Int ?? 0) >= 1, "\(rules)")
        #expect((rules[0]["fs_get"] as? Int ?? 0) >= 1)
        try peer.text("fault drop reset")
        let anew = try #require(try peer.yaml("fault drop show")["fault"] as? [[String: Any]])
        #expect(anew.first?["ds_dropped"] as? Int == 0)
        try peer.text("fault drop del --all")
        try node.text("ping \(nid)")
    }

    @Test(arguments: ["ping", "read", "write"])
    func `selftest between two processes brings every byte`(test: String) throws {
        let server = try Node("\(Self.host(41))@tcp", ["--selftest"])
        let client = try Node("\(Self.host(42))@tcp", ["--selftest"])
        _ = (server, client)
        let run = try CommandLineTool.run([
            "net", "selftest", "--servers", "\(Self.host(41))@tcp", "--clients",
            "\(Self.host(42))@tcp", "--test", test, "--check", "full", "--size", "64K", "--loop",
            "200", "--concurrency", "4", "--time", "20", "--interval", "0.2", "--accept-port",
            Node.port,
        ])
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.output.contains("[LNet Rates of clients]"))
        #expect(run.output.contains("[LNet Bandwidth of servers]"))
        // The client that the command itself is tells its latencies too.
        let own = try CommandLineTool.run([
            "net", "selftest", "--servers", "\(Self.host(41))@tcp", "--test", test, "--check",
            "simple", "--loop", "100", "--time", "20", "--interval", "0.2", "--accept-port",
            Node.port, "--json",
        ])
        #expect(own.status == 0, "\(own.errors)")
        let report = try #require(
            try JSONSerialization.jsonObject(with: Data(own.output.utf8)) as? [String: Any])
        #expect((report["rpcs"] as? Int ?? 0) >= 100 && report["errors"] as? Int == 0)
        #expect((report["latencyUs"] as? [String: Double])?["p99"] != nil)
    }

    @Test func `selftest without a node of lnet_selftest says so`() throws {
        let node = try Node("\(Self.host(51))@tcp")
        _ = node
        let run = try CommandLineTool.run([
            "net", "selftest", "--servers", "\(Self.host(51))@tcp", "--accept-port", Node.port,
        ])
        #expect(
            run.status == 1 && run.errors.contains("does it run lnet_selftest"), "\(run.errors)")
    }

    @Test func `what is wrong with a command is one sentence and a status`() throws {
        let node = try Node("\(Self.host(61))@tcp")
        let own = "\(Self.host(61))@tcp"
        for (line, words) in [
            ("add 203.0.113.7@tcp4", "cannot be listened on"),
            ("add \(own)", "is an interface of this node already"),
            ("del \(Self.host(62))@tcp", "is no interface of this node"),
            ("del \(own)", "names this node"),
            ("set --all", "--health or --lnd-timeout"),
            ("set --ni \(own) --health 1001", "0 to 1000"),
            ("route add --net tcp7 --gateway \(own)", "is this node itself"),
            ("route add --net tcp --gateway \(Self.host(62))@tcp", "own network"),
            ("route add --net tcp7 --gateway 10.0.0.1@o2ib", "none of this node's networks"),
            ("route add --net nowhere --gateway \(Self.host(62))@tcp", "is no network"),
            ("route add --net tcp7 --gateway \(Self.host(62))@tcp --hop 256", "1 to 255"),
            ("route del --net tcp7 --gateway \(Self.host(62))@tcp", "there is no route to tcp7"),
            ("peer del --prim_nid \(Self.host(62))@tcp", "\(Self.host(62))@tcp"),
            ("peer set --nid \(Self.host(62))@tcp --health 5", "\(Self.host(62))@tcp"),
            ("global set speed 9", "there is no setting speed"),
            ("global set retry_count 6", "0 to 5"),
            ("fault drop add --source * --dest here --rate 1", "here is no NID"),
            ("fault drop add --source * --dest * --rate 1 --portal 64", "0 to 63"),
            ("fault drop add --source * --dest * --rate 1 --message HELLO", "PUT, ACK"),
            (
                "fault drop add --source * --dest * --rate 1 --health_error sad",
                "sad is no health error"
            ),
            ("fault delay add --source * --dest * --rate 1 --latency 0", "1 to 3600"),
            ("fault drop add --source * --dest *", "--rate N or --interval SECONDS"),
            ("import \(try Self.file("net: 5\n", node))", "net"),
            ("import /nowhere/lnet.yaml", "/nowhere/lnet.yaml cannot be read"),
            ("export /nowhere/lnet.yaml", "/nowhere/lnet.yaml cannot be written"),
        ] {
            let run = try node.net(line)
            #expect(run.status != 0 && run.errors.contains(words), "net \(line): \(run.errors)")
            #expect(run.output.isEmpty, "net \(line)")
        }
        let nobody = try CommandLineTool.run(["net", "add", "10.0.0.1@tcp"])
        #expect(nobody.status == 1 && nobody.errors.contains("--control PATH"), "\(nobody.errors)")
        #expect(try node.text("show").contains(own))
    }
}
