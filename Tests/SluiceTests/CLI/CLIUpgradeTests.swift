import Foundation
import Testing

/// `sluice upgrade` and `sluice maintenance` as an operator uses them, on real processes.
@Suite(.serialized, .timeLimit(.minutes(3))) struct CLIUpgradeTests {
    /// A metadata and an object server that run in protocol 1, and a standby where one is asked for.
    final class Stage {
        let directory: URL
        let cluster: String
        let net: String
        let number: Int
        /// The newest of each target, and the newest standby.
        private(set) var servers: [String: BackgroundProcess] = [:]
        private var all: [BackgroundProcess] = []
        private var startCount = 0

        init(_ number: Int, protocols: String = "1...1") throws {
            self.number = number
            directory = try CommandLineTool.temporaryDirectory()
            net = "127.\(20 + number).\(Int(getpid()) % 250)"
            cluster = try CommandLineTool.write(
                """
                accept-port: \(11_940 + number)
                targets:
                  - {name: mdt0, kind: mds, index: 0, nids: [\(net).1, \(net).2]}
                  - {name: ost0, kind: oss, index: 0, nids: [\(net).3, \(net).4]}
                """, to: "c.yaml", in: directory)
            try start("ost0", nid: 3, protocols)
            try start("mdt0", nid: 1, protocols)
        }

        deinit {
            for server in all { server.kill(SIGKILL) }
            try? FileManager.default.removeItem(at: directory)
        }

        func start(
            _ target: String, nid: Int, _ protocols: String, standby: Bool = false
        ) throws {
            startCount += 1
            let server = try BackgroundProcess(
                serveArguments(target, nid: nid, protocols, standby: standby),
                directory: directory, label: "\(target).\(startCount)")
            servers[standby ? "\(target) standby" : target] = server
            all.append(server)
            let word = standby ? "standby" : "ready"
            try #require(server.waitForLine("\(word) target=\(target)"), "\(server.errors)")
        }

        func serveArguments(
            _ target: String, nid: Int, _ protocols: String, standby: Bool
        ) -> [String] {
            var arguments = [
                "serve", target == "mdt0" ? "mds" : "oss", "--target", target, "--store",
                directory.appending(path: target).path, "--nid", "\(net).\(nid)", "--cluster",
                cluster, "--protocol", protocols,
            ]
            if standby { arguments.append("--standby") }
            return arguments
        }

        /// The command line of a standby, for plans.
        func command(_ target: String, nid: Int, _ protocols: String) -> String {
            ([CommandLineTool.path]
                + serveArguments(target, nid: nid, protocols, standby: true)).joined(
                    separator: " ")
        }

        @discardableResult
        func run(_ line: String) throws -> CommandLineTool.Run {
            try CommandLineTool.run(
                line.split(separator: " ").map {
                    String($0).replacing("$DIR", with: directory.path)
                }
                    + (line.hasPrefix("upgrade pause") || line.hasPrefix("upgrade resume")
                        ? [] : ["--cluster", cluster]))
        }

        func plan(_ text: String, _ name: String = "plan.yaml") throws {
            _ = try CommandLineTool.write(text, to: name, in: directory)
        }
    }

    @Test
    func
        `every upgrade and maintenance command in every state is done or refused with the way out`()
        throws
    {
        let stage = try Stage(1)
        // What each state makes of each command: nil where it is done.
        func expect(_ command: String, _ words: String?, _ state: String) throws {
            let run = try stage.run(command + " --target ost0")
            if let words {
                #expect(run.status == 1, "\(state), \(command): \(run.output)\(run.errors)")
                #expect(run.errors.contains(words), "\(state), \(command): \(run.errors)")
                #expect(run.errors.split(separator: "\n").count == 1)
            } else {
                #expect(run.status == 0, "\(state), \(command): \(run.errors)")
            }
        }
        try expect("upgrade status", nil, "serving")
        try expect("upgrade receipts", nil, "serving")
        try expect("upgrade abort", "nothing is to be done", "serving")
        try expect("maintenance stop", "nothing is to be done", "serving")

        try expect("maintenance start --for 60", nil, "serving")
        try expect("upgrade status", nil, "held")
        try expect("upgrade receipts", nil, "held")
        try expect("upgrade start", "is held", "held")
        try expect("upgrade start --scheme crash", "is held", "held")
        try expect("maintenance start --for 99", "is held", "held")
        try expect("upgrade finalize", "ask again when it is serving", "held")
        try expect("maintenance stop", nil, "held")

        // A gate that is forgotten lifts itself.
        try expect("maintenance start --for 1 --deadline 0.5", nil, "serving")
        sleep(2)
        try expect("upgrade abort", "nothing is to be done", "serving again")
        let status = try stage.run("upgrade status --target ost0")
        #expect(status.output.contains("it had expired"), "\(status.output)")

        // Stopped while it stands still: clean.
        try expect("maintenance start --for 60", nil, "serving")
        stage.servers["ost0"]!.kill(SIGTERM)
        #expect(stage.servers["ost0"]!.waitForEnd() == 0)
        for command in [
            "upgrade status", "upgrade start", "upgrade abort", "upgrade receipts",
            "upgrade finalize", "maintenance start", "maintenance stop",
        ] {
            try expect(command + " --timeout 1", "does a server run on", "gone")
        }
        try stage.start("ost0", nid: 3, "1...1")
        #expect(stage.servers["ost0"]!.output.contains("start=clean"))

        try expect("upgrade finalize", nil, "serving")
        try expect("upgrade finalize", nil, "finalised")
        // A standby alone answers nothing but that it is there.
        stage.servers["ost0"]!.kill(SIGTERM)
        #expect(stage.servers["ost0"]!.waitForEnd() == 0)
    }

    @Test func `R31: an upgrade, its receipts, and the way back until it is finalised`() throws {
        let stage = try Stage(2)
        #expect(try stage.run("fs mkdir /kept").status == 0)
        for (nid, protocols) in [(2, "1...2"), (1, "1...1"), (2, "1...2")] {
            try stage.start("mdt0", nid: nid, protocols, standby: true)
            let run = try stage.run("upgrade start --target mdt0 --wait --preflush 0.2")
            #expect(run.status == 0, "\(run.errors)")
            #expect(run.output.contains("protocol   \(protocols)"), "\(run.output)")
            #expect(try stage.run("fs ls /").output.contains("kept"))
        }
        let receipts = try stage.run("upgrade receipts --target mdt0")
        #expect(receipts.output.contains("from the clean record"), "\(receipts.output)")
        #expect(try stage.run("upgrade finalize --target mdt0").status == 0)
        try stage.start("mdt0", nid: 1, "1...1", standby: true)
        let late = try stage.run("upgrade start --target mdt0 --preflush 0")
        #expect(late.status == 0)
        let refused = stage.servers["mdt0 standby"]!
        #expect(refused.waitForEnd() == 1)
        #expect(refused.errors.contains("finalised"), "\(refused.errors)")
        try stage.start("mdt0", nid: 2, "1...2")
        #expect(try stage.run("fs ls /").output.contains("kept"))
    }

    @Test func `R23: schemes sync and crash, by order`() throws {
        let stage = try Stage(3)
        #expect(try stage.run("fs mkdir /a").status == 0)
        try stage.start("mdt0", nid: 2, "1...2", standby: true)
        let sync = try stage.run("upgrade start --target mdt0 --scheme sync --wait")
        #expect(sync.status == 0, "\(sync.errors)")
        try stage.start("mdt0", nid: 1, "1...2", standby: true)
        let crash = try stage.run("upgrade start --target mdt0 --scheme crash --wait")
        #expect(crash.status == 0, "\(crash.errors)")
        #expect(try stage.run("fs ls /").output.contains("a"))
    }

    @Test func `a plan's problems are found by the dry run, all at once, with their lines`() throws
    {
        let stage = try Stage(4)
        try stage.plan(
            """
            protocol: 1...9
            defaults: {scheme: drian, deadline: -1}
            servers:
              - {target: mdt0, next: 10.0.0.1@tcp, protocol: 2...2, after: [ost0]}
              - {target: ost0, protocol: 1...1, after: [mdt0, nobody]}
              - {target: ost7, protocol: 1...2}
              - {target: ost0, protocol: 1...2}
            groups:
              - [mdt0, ost8]
            colour: red
            """)
        let run = try stage.run("upgrade plan $DIR/plan.yaml")
        #expect(run.status == 1)
        for (line, words) in [
            (1, "1...9 is no range"), (2, "drian is none of drain, sync, crash"),
            (2, "deadline: must be seconds"), (4, "10.0.0.1@tcp is no NID of mdt0"),
            (4, "goes round in a circle"), (5, "nobody is not in this plan"),
            (5, "nothing in common"), (6, "no ost7 in"), (7, "ost0 stands twice"),
            (9, "ost8 is not in this plan"), (10, "colour: unknown key"),
        ] {
            let isFound = run.errors.split(separator: "\n").contains {
                $0.contains("line \(line): ") && $0.contains(words)
            }
            #expect(isFound, "line \(line), \(words): \(run.errors)")
        }
        // A partner that is not there is missed, and nothing has changed.
        try stage.plan(
            """
            protocol: 1...2
            servers:
              - {target: mdt0}
            """)
        let missing = try stage.run("upgrade run $DIR/plan.yaml")
        #expect(missing.status == 1)
        #expect(missing.errors.contains("line 3: mdt0: no partner answers at"), "\(missing.errors)")
        #expect(try stage.run("upgrade status --target mdt0").output.contains("serving"))
    }

    @Test
    func `R3: a plan upgrades a group together, is passed over when it is through, and goes back`()
        throws
    {
        let stage = try Stage(5)
        #expect(try stage.run("fs mkdir /kept").status == 0)
        func text(_ protocols: String, _ nids: (Int, Int)) -> String {
            """
            protocol: \(protocols)
            defaults: {preflush: 0.2, late: leave-behind}
            servers:
              - target: ost0
                next: \(stage.net).\(nids.1)
                standby: \(stage.command("ost0", nid: nids.1, protocols))
              - target: mdt0
                next: \(stage.net).\(nids.0)
                standby: \(stage.command("mdt0", nid: nids.0, protocols))
            groups:
              - [ost0, mdt0]
            """
        }
        try stage.plan(text("1...2", (2, 4)), "up.yaml")
        try stage.plan(text("1...1", (1, 3)), "down.yaml")
        let dry = try stage.run("upgrade run $DIR/up.yaml --dry-run")
        #expect(dry.status == 0, "\(dry.errors)")
        #expect(dry.output.contains("no problems found"))
        defer {
            // What the plans started ends with its target's stop.
            for target in ["mdt0", "ost0"] {
                _ = try? stage.run("upgrade start --target \(target) --scheme crash")
            }
        }
        let up = try stage.run("upgrade run $DIR/up.yaml")
        #expect(up.status == 0, "\(up.output) \(up.errors)")
        #expect(up.output.contains("all 2 of the group are sealed"), "\(up.output)")
        #expect(up.output.contains("the plan is through"))
        let again = try stage.run("upgrade run $DIR/up.yaml")
        #expect(again.output.contains("is through already"), "\(again.output) \(again.errors)")
        #expect(try stage.run("fs ls /").output.contains("kept"))
        let down = try stage.run("upgrade run $DIR/down.yaml")
        #expect(down.status == 0, "\(down.output) \(down.errors)")
        #expect(try stage.run("fs ls /").output.contains("kept"))
        let status = try stage.run("upgrade status --target mdt0")
        #expect(status.output.contains("protocol   1...1"), "\(status.output)")
    }

    @Test func `R38: a run that was killed is begun again, and goes on with what is in hand`()
        throws
    {
        let stage = try Stage(6)
        try stage.start("mdt0", nid: 2, "1...2", standby: true)
        try stage.start("ost0", nid: 4, "1...2", standby: true)
        try stage.plan(
            """
            protocol: 1...2
            servers:
              - {target: ost0, next: \(stage.net).4}
              - {target: mdt0, next: \(stage.net).2, after: ost0}
            """)
        // It waits before the first step, and is killed there.
        #expect(try stage.run("upgrade pause $DIR/plan.yaml").status == 0)
        let plan = stage.directory.appending(path: "plan.yaml").path
        let first = try BackgroundProcess(
            ["upgrade", "run", plan, "--cluster", stage.cluster], directory: stage.directory,
            label: "run")
        #expect(first.waitForLine("paused"), "\(first.errors)")
        let second = try stage.run("upgrade run $DIR/plan.yaml")
        #expect(second.status == 1 && second.errors.contains("another sluice upgrade run has"))
        first.kill(SIGKILL)
        // An order that nobody watches.
        #expect(try stage.run("upgrade start --target ost0 --preflush 1").status == 0)
        #expect(try stage.run("upgrade resume $DIR/plan.yaml").status == 0)
        #expect(try stage.run("upgrade resume $DIR/plan.yaml").status == 1)
        let last = try stage.run("upgrade run $DIR/plan.yaml")
        #expect(last.status == 0, "\(last.output) \(last.errors)")
        #expect(last.output.contains("the plan is through"))
        let over = try stage.run("upgrade abort $DIR/plan.yaml")
        #expect(over.status == 0 && over.output.contains("no upgrade in hand"), "\(over.errors)")
    }
}
