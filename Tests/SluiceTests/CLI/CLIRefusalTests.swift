import Foundation
import Testing

/// What a stranger gets wrong with a server that runs: one clear sentence, exit status 1, and the
/// server goes on.
@Suite(.serialized) struct CLIRefusalTests {
    /// A cluster with one object server that runs, and a metadata server that does not.
    final class Stage {
        let directory: URL
        let cluster: String
        let net: String
        let server: BackgroundProcess
        private let store: String

        init() throws {
            directory = try CommandLineTool.temporaryDirectory()
            net = "127.10.\(Int(getpid()) % 250)"
            cluster = try CommandLineTool.write(
                """
                accept-port: 11987
                targets:
                  - {name: mdt0, kind: mds, index: 0, nids: [\(net).1, \(net).2]}
                  - {name: ost0, kind: oss, index: 0, nids: [\(net).3, \(net).4]}
                """, to: "c.yaml", in: directory)
            store = directory.appending(path: "ost0").path
            server = try BackgroundProcess(
                [
                    "serve", "oss", "--target", "ost0", "--store", store, "--nid", "\(net).3",
                    "--cluster", cluster,
                ], directory: directory, label: "ost0")
            try #require(server.waitForLine("ready target=ost0"), "\(server.errors)")
        }

        deinit {
            server.kill(SIGKILL)
            try? FileManager.default.removeItem(at: directory)
        }

        /// `$NET`, `$STORE` and `$DIR` in an argument stand for what they are here.
        func expand(_ text: String) -> String {
            text.replacing("$NET", with: net).replacing("$STORE", with: store)
                .replacing("$DIR", with: directory.path)
        }

        func run(_ line: String) throws -> CommandLineTool.Run {
            try CommandLineTool.run(
                line.split(separator: " ").map { expand(String($0)) } + ["--cluster", cluster])
        }
    }

    /// The command, and what its one sentence must hold.
    private static let refusals: [(command: String, words: [String])] = [
        ("serve oss --target ost9 --store $DIR/x --nid $NET.3", ["no target ost9", "mdt0, ost0"]),
        ("serve mds --target ost0 --store $DIR/x --nid $NET.3", ["ost0 is an oss target"]),
        ("serve oss --target ost0 --store $DIR/x --nid $NET.9", ["$NET.9@tcp is no NID of ost0"]),
        ("serve oss --target ost0 --index 7 --store $DIR/x --nid $NET.4", ["index 0", "not 7"]),
        ("serve oss --target ost0 --store $STORE --nid $NET.4", ["$STORE", "is held by process"]),
        (
            "serve oss --target ost0 --store $DIR/y --nid $NET.3",
            ["$NET.3@tcp port 11987", "in use"]
        ),
        (
            "serve mds --target mdt0 --store $DIR/none --nid $NET.2 --standby",
            ["there is no store in $DIR/none"]
        ),
        ("serve mds --target mdt0 --store $DIR/c.yaml --nid $NET.1", ["$DIR/c.yaml"]),
        ("serve mds --target mdt0 --store /proc/no --nid $NET.1", ["/proc/no"]),
        ("upgrade start --target ost0 --next $NET.1", ["$NET.1@tcp is no NID of ost0"]),
        ("upgrade start --target mdt0 --timeout 1", ["mdt0 did not answer within 1 s", "$NET.1"]),
        ("upgrade status --target mdt0 --timeout 1", ["mdt0 did not answer within 1 s"]),
        ("upgrade status --target none", ["no target none", "mdt0, ost0"]),
        ("fs ls / --timeout 1", ["cannot mount $DIR/c.yaml", "no answer within 1 s"]),
        ("fs put $DIR/missing /x", ["$DIR/missing"]),
    ]

    @Test(.timeLimit(.minutes(2)))
    func `what cannot be done is refused in one sentence, and the server goes on`() throws {
        let stage = try Stage()
        for (command, words) in Self.refusals {
            let run = try stage.run(command)
            #expect(run.status == 1, "\(command): \(run.errors)")
            let lines = run.errors.split(separator: "\n")
            #expect(lines.count == 1 && run.errors.hasPrefix("Error: "), "\(run.errors)")
            for word in words.map(stage.expand) {
                #expect(run.errors.contains(word), "\(command): \(run.errors)")
            }
        }
        let ping = try CommandLineTool.run(
            ["net", "ping", "\(stage.net).3", "--accept-port", "11987"])
        #expect(ping.status == 0, "\(ping.errors)")
        stage.server.kill(SIGTERM)
        #expect(stage.server.waitForEnd() == 0)
        // Once it is free, the store is still that of one target.
        let other = try stage.run("serve mds --target mdt0 --store $STORE --nid $NET.1")
        #expect(other.status == 1)
        #expect(other.errors.contains("ost0"), "\(other.errors)")
        #expect(other.errors.split(separator: "\n").count == 1)
    }

    private static let setpriv = "/usr/bin/setpriv"
    private static let asNobody = ["--reuid=65534", "--regid=65534", "--clear-groups"]

    /// Why nobody else can be played here; nil where one can.
    static let obstacle: String? = {
        guard geteuid() == 0 else { return nil }
        guard FileManager.default.isExecutableFile(atPath: setpriv) else {
            return "\(setpriv) is not installed"
        }
        let probe = try? CommandLineTool.run(
            asNobody + [CommandLineTool.path, "--version"], program: setpriv)
        return probe?.status == 0 ? nil : "other users cannot run \(CommandLineTool.path)"
    }()

    private static func permit(_ mode: Int, _ path: String) throws {
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }

    @Test(
        .enabled(
            if: obstacle == nil,
            Comment(rawValue: "needs a user who may not do all: \(obstacle ?? "")")))
    func `a directory that may not be read, and a port that may not be taken, are named`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer {
            try? Self.permit(0o700, directory.appending(path: "locked").path)
            try? FileManager.default.removeItem(at: directory)
        }
        let locked = directory.appending(path: "locked").path
        let open = directory.appending(path: "open").path
        for path in [locked, open] {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: false)
        }
        try Self.permit(0o755, directory.path)
        try Self.permit(0, locked)
        try Self.permit(0o777, open)
        func run(_ arguments: [String]) throws -> CommandLineTool.Run {
            geteuid() == 0
                ? try CommandLineTool.run(
                    Self.asNobody + [CommandLineTool.path] + arguments, program: Self.setpriv)
                : try CommandLineTool.run(arguments)
        }
        let nid = "127.10.251.\(Int(getpid()) % 250 + 1)"
        let serve = ["serve", "oss", "--target", "a", "--nid", nid]
        let unreadable = try run(serve + ["--store", locked, "--accept-port", "11986"])
        #expect(unreadable.status == 1)
        #expect(unreadable.errors.hasPrefix("Error: a cannot start: \(locked)"))
        let privileged = try run(serve + ["--store", open + "/s"])
        #expect(privileged.status == 1)
        #expect(privileged.errors.contains("port 988 is not permitted"), "\(privileged.errors)")
        let ping = try run(["net", "ping", nid])
        #expect(ping.status == 1)
        #expect(ping.errors.contains("not permitted"), "\(ping.errors)")
        for errors in [unreadable.errors, privileged.errors, ping.errors] {
            #expect(errors.split(separator: "\n").count == 1, "\(errors)")
        }
    }
}
