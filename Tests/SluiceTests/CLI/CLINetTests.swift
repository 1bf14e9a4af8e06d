import Foundation
import Testing
import Yams

/// `sluice net` with a node that runs: through its control socket, as its operator does.
@Suite(.serialized) struct CLINetTests {
    final class Stage {
        let directory: URL
        let nid: String
        let socket: String
        let node: BackgroundProcess

        init(_ arguments: [String] = []) throws {
            directory = try CommandLineTool.temporaryDirectory()
            nid = "127.21.\(Int(getpid()) % 250).1@tcp"
            socket = directory.appending(path: "control").path
            node = try BackgroundProcess(
                [
                    "net", "node", "--nid", nid, "--accept-port", "11763", "--control", socket,
                ] + arguments, directory: directory, label: "node")
            try #require(node.waitForLine("ready nid=\(nid)"), "\(node.errors)")
        }

        deinit {
            node.kill(SIGKILL)
            try? FileManager.default.removeItem(at: directory)
        }

        func net(_ line: String) throws -> CommandLineTool.Run {
            try CommandLineTool.run(
                ["net"] + line.split(separator: " ").map(String.init) + ["--control", socket])
        }

        func yaml(_ line: String) throws -> [String: Any] {
            let run = try net(line)
            try #require(run.status == 0, "\(run.errors)")
            return try #require(try Yams.load(yaml: run.output) as? [String: Any])
        }
    }

    @Test func `a running node shows itself in lnetctl's words`() throws {
        let stage = try Stage()
        let ping = try CommandLineTool.run(
            ["net", "ping", stage.nid, "--accept-port", "11763"])
        #expect(ping.status == 0, "\(ping.errors)")
        let net = try #require(try stage.yaml("show -v")["net"] as? [[String: Any]])
        #expect(net.map { $0["net type"] as? String } == ["lo", "tcp"])
        let ni = try #require((net[1]["local NI(s)"] as? [[String: Any]])?.first)
        #expect(ni["nid"] as? String == stage.nid && ni["status"] as? String == "up")
        #expect(try stage.net("show -v").output.contains("interfaces:\n            0: lo\n"))
        let statistics = try #require(ni["statistics"] as? [String: Int])
        #expect(statistics["send_count"] == 1 && statistics["recv_count"] == 1)
        let stats = try #require(try stage.yaml("stats")["statistics"] as? [String: Int])
        #expect(stats["send_count"] == 1 && stats["errors"] == 0)
        let global = try #require(try stage.yaml("global show")["global"] as? [String: Int])
        #expect(global["transaction_timeout"] == 150 && global["lnd_timeout"] == 50)
        let own = try #require(try stage.yaml("ping \(stage.nid)")["ping"] as? [[String: Any]])
        #expect(own.first?["primary nid"] as? String == stage.nid)
    }

    @Test func `a peer that breaks the rules is counted by what it did`() throws {
        let stage = try Stage()
        let quiet = try #require(try stage.yaml("show -v")["net"] as? [[String: Any]])
        #expect(quiet[1]["lnd faults"] == nil)
        let noise = Process()
        noise.executableURL = URL(filePath: "/bin/bash")
        let address = stage.nid.prefix { $0 != "@" }
        // The node's answer is its closing the connection.
        noise.arguments = [
            "-c",
            "exec 3<>/dev/tcp/\(address)/11763; printf '%0100d' 0 >&3; cat <&3 >/dev/null; true",
        ]
        try noise.run()
        noise.waitUntilExit()
        let net = try #require(try stage.yaml("show -v --net tcp")["net"] as? [[String: Any]])
        #expect(net[0]["lnd faults"] as? [String: Int] == ["bad_magic": 1])
    }

    @Test func `connections are broken by an operator, and made again`() throws {
        let stage = try Stage()
        let none = try stage.net("fault break")
        #expect(none.status != 0 && none.errors.contains("no open connection"), "\(none.errors)")
        let other = try BackgroundProcess(
            ["net", "node", "--nid", "127.21.250.8", "--accept-port", "11763"],
            directory: stage.directory, label: "other")
        defer { other.kill(SIGKILL) }
        try #require(other.waitForLine("ready nid="), "\(other.errors)")
        for _ in 0..<2 {
            #expect(try stage.net("ping 127.21.250.8@tcp").status == 0)
            let stranger = try stage.net("fault break --dest 127.21.250.7@tcp")
            #expect(stranger.status != 0 && stranger.errors.contains("to 127.21.250.7@tcp"))
            let run = try stage.net("fault break --dest *@tcp")
            #expect(run.output.hasPrefix("broken: "), "\(run.output) \(run.errors)")
        }
    }

    @Test func `the socket is its owner's alone, one node has it, and a dead one's is taken over`()
        throws
    {
        let stage = try Stage()
        let attributes = try FileManager.default.attributesOfItem(atPath: stage.socket)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let second = try CommandLineTool.run(
            [
                "net", "node", "--nid", "127.21.250.9", "--accept-port", "11764", "--control",
                stage.socket,
            ])
        #expect(second.status != 0)
        #expect(second.errors.contains("is the control socket of a node that runs"))
        stage.node.kill(SIGKILL)
        let dead = try stage.net("show")
        #expect(dead.status != 0 && dead.errors.contains("the node that made it has ended"))
        let next = try BackgroundProcess(
            [
                "net", "node", "--nid", "127.21.250.9", "--accept-port", "11764", "--control",
                stage.socket,
            ], directory: stage.directory, label: "next")
        defer { next.kill(SIGKILL) }
        try #require(next.waitForLine("ready nid=127.21.250.9@tcp"), "\(next.errors)")
        #expect(try stage.net("show").status == 0)
    }

    @Test(arguments: [
        ("show --net tcp9", "no interface on tcp9"), ("peer show --peer 1.2.3.4", "no peer"),
    ])
    func `what a node does not have it says in one sentence`(line: String, words: String) throws {
        let stage = try Stage()
        let run = try stage.net(line)
        #expect(run.status == 1 && run.errors.contains(words), "\(run.errors)")
        let none = try CommandLineTool.run(["net", "show", "--control", "/nowhere/x"])
        #expect(none.status == 1 && none.errors.contains("no control socket at /nowhere/x"))
    }
}
