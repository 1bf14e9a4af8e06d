import Foundation
import Testing

/// Wrong things typed: one clear sentence, and a status that is not 0.
@Suite struct CLIArgumentTests {
    @Test(arguments: [
        ["net", "ping", "not-a-nid"], ["net", "ping", "300.1.1.1@tcp"],
        ["simulate", "--seeds", "9..1"], ["simulate", "--fault", "loss=2"],
        ["simulate", "--fault", "gremlins=1"], ["simulate", "--servers", "1"],
        ["simulate", "--shrink"], ["simulate", "--seeds", "1", "--replay", "1"],
        ["simulate", "--minutes", "0"], ["simulate", "--every-fault", "--no-faults"],
        ["demo", "--clients", "0"], ["demo", "--scheme", "magic"], ["nonsense"],
        ["serve", "mds"], ["fs", "put", "x", "/y", "--nid", "7"],
        [
            "serve", "oss", "--target", "a", "--store", "/tmp/x", "--nid", "127.0.0.1",
            "--protocol", "4",
        ],
        [
            "serve", "oss", "--target", "a", "--store", "/tmp/x", "--nid", "127.0.0.1",
            "--protocol", "2...1",
        ],
    ])
    func `wrong arguments are refused with usage`(_ arguments: [String]) throws {
        let run = try CommandLineTool.run(arguments)
        #expect(run.status == 64)
        #expect(run.errors.hasPrefix("Error:"), "\(run.errors)")
        #expect(run.output.isEmpty)
    }

    @Test func `without a cluster the way out is named`() throws {
        let run = try CommandLineTool.run(["fs", "ls", "/"])
        #expect(run.status == 1)
        #expect(run.errors == "Error: no cluster file: give --cluster FILE or set SLUICE_CLUSTER\n")
    }

    @Test(arguments: [
        ("targets: []\n", "line 1: targets: must be a list of one target or more"),
        (
            "accept-port: 70000\ntargets: x\n",
            "line 1: accept-port: must be a number from 1 to 65535"
        ),
        ("acceptport: 7\n", "line 1: acceptport: unknown key"),
        (
            "targets:\n  - {name: a, kind: mgs, nids: [127.0.0.1]}\n",
            "line 2: kind: must be mds or oss"
        ),
        (
            "targets:\n  - {name: a, kind: mds, nids: [127.0.0]}\n",
            "line 2: nids: 127.0.0 is no NID"
        ),
        ("targets:\n  - {name: a, kind: mds}\n", "line 2: nids: missing"),
        ("targets:\n  - {name: a, kind: mds, nids: [127.0.0.1@gni]}\n", "is no NID"),
        (
            "targets:\n  - {name: a, kind: oss, nids: [127.0.0.1]}\n  - {name: a, kind: oss, index: 1, nids: [127.0.0.2]}\n",
            "line 3: name: a is named twice"
        ),
        ("targets: [\n", "not YAML: line"), ("", "empty"),
    ])
    func `a bad cluster file is refused by file, line and key`(
        _ text: String, _ expected: String
    ) throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = try CommandLineTool.write(text, to: "cluster.yaml", in: directory)
        let run = try CommandLineTool.run(["fs", "ls", "/", "--cluster", file])
        #expect(run.status == 1)
        #expect(run.errors.hasPrefix("Error: \(file): "), "\(run.errors)")
        #expect(run.errors.contains(expected), "\(run.errors)")
        #expect(run.errors.split(separator: "\n").count == 1, "\(run.errors)")
    }

    @Test func `an unknown target is named, and the known ones`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = try CommandLineTool.write(
            "targets:\n  - {name: mdt0, kind: mds, nids: [127.0.0.1]}\n", to: "c.yaml",
            in: directory)
        for arguments in [
            ["upgrade", "status", "--target", "mdt9", "--cluster", file],
            [
                "serve", "mds", "--target", "mdt9", "--store", directory.path, "--nid", "127.0.0.1",
                "--cluster", file,
            ],
        ] {
            let run = try CommandLineTool.run(arguments)
            #expect(run.status == 1)
            #expect(run.errors.contains("no target mdt9"), "\(run.errors)")
            #expect(run.errors.contains("mdt0"), "\(run.errors)")
        }
    }

    @Test(arguments: [
        [], ["serve"], ["fs"], ["fs", "put"], ["upgrade", "start"], ["net", "ping"], ["demo"],
        ["fabric"],
        ["doctor"],
    ])
    func `every command explains itself`(_ command: [String]) throws {
        let run = try CommandLineTool.run(command + ["--help"])
        #expect(run.status == 0)
        #expect(run.output.contains("USAGE: sluice"))
        #expect(!run.output.contains("--break"))
    }
}
