import Foundation
import Testing

/// `target show`, metrics, the log and `store check`, against real servers and real stores.
@Suite(.serialized) struct CLIObservationTests {
    private static let net = "127.10.\((Int(getpid()) + 77) % 250)"
    private static let acceptPort = 11_985

    private struct Stage {
        let directory: URL
        let cluster: String
        var store: String { directory.appending(path: "ost0").path }

        init() throws {
            directory = try CommandLineTool.temporaryDirectory()
            cluster = try CommandLineTool.write(
                """
                accept-port: \(acceptPort)
                targets:
                  - {name: ost0, kind: oss, index: 0, nids: [\(net).13]}
                """, to: "c.yaml", in: directory)
        }

        func serve(_ label: String, _ more: [String] = []) throws -> BackgroundProcess {
            let server = try BackgroundProcess(
                [
                    "serve", "oss", "--target", "ost0", "--store", store, "--nid", "\(net).13",
                    "--cluster", cluster,
                ] + more, directory: directory, label: label)
            guard server.waitForLine("ready target=ost0") else {
                throw StageError(text: server.errors)
            }
            return server
        }

        func remove() { try? FileManager.default.removeItem(at: directory) }
    }

    private struct StageError: Error { var text: String }

    @Test(.timeLimit(.minutes(2)))
    func `a target tells of itself, and its metrics tell the same`() throws {
        let stage = try Stage()
        defer { stage.remove() }
        let server = try stage.serve("a", ["--metrics", "127.0.0.1:19464"])
        defer { server.kill(SIGKILL) }
        let run = try CommandLineTool.run(
            ["target", "show", "ost0", "--json", "--cluster", stage.cluster])
        #expect(run.status == 0, "\(run.errors)")
        let object = try #require(
            JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
        #expect(object["target"] as? String == "ost0")
        #expect(object["phase"] as? String == "serving")
        let counters = try #require(object["counters"] as? [String: Any])
        #expect(counters["connects"] as? Int == 1)
        #expect(counters["violations"] as? Int == 0)
        let page = try CommandLineTool.run(
            ["-s", "-i", "http://127.0.0.1:19464/metrics"], program: "/usr/bin/curl")
        #expect(page.output.contains("200 OK"), "\(page.output.prefix(200))")
        #expect(page.output.contains("text/plain; version=0.0.4"))
        #expect(page.output.contains("sluice_target_info{target=\"ost0\",kind=\"oss\""))
        #expect(page.output.contains("\nsluice_connects_total 1\n"))
        #expect(page.output.contains("sluice_upgrade_phase{phase=\"serving\"} 1"))
        #expect(page.output.contains("sluice_request_seconds_bucket{opcode=\"target_show\""))
        try Self.check(page.output)
    }

    /// Every sample belongs to a family that was announced before, once, and is a number.
    private static func check(_ page: String) throws {
        var families: Set<String> = []
        var samples: Set<String> = []
        let body = page.replacing("\r\n", with: "\n").components(separatedBy: "\n\n")
        for line in body.dropFirst().joined(separator: "\n").split(separator: "\n") {
            if line.hasPrefix("# TYPE ") {
                let name = String(line.split(separator: " ")[2])
                #expect(families.insert(name).inserted, "\(name) is announced twice")
            } else if !line.hasPrefix("#") {
                let parts = line.split(separator: " ")
                #expect(parts.count == 2 && Double(parts[1]) != nil, "\(line)")
                #expect(samples.insert(String(parts[0])).inserted, "\(line) stands twice")
                var name = String(line.prefix { $0 != "{" && $0 != " " })
                for suffix in ["_bucket", "_sum", "_count"] where !families.contains(name) {
                    if name.hasSuffix(suffix) { name = String(name.dropLast(suffix.count)) }
                }
                #expect(families.contains(name), "\(line)")
            }
        }
        #expect(families.count > 60)
    }

    @Test func `metrics that cannot be served are refused in one sentence`() throws {
        let stage = try Stage()
        defer { stage.remove() }
        let run = try CommandLineTool.run([
            "serve", "oss", "--target", "ost0", "--store", stage.store, "--nid", "\(Self.net).13",
            "--cluster", stage.cluster, "--metrics", "192.0.2.1:9464",
        ])
        #expect(run.status == 1)
        #expect(run.errors.contains("metrics cannot be served at 192.0.2.1:9464"), "\(run.errors)")
    }

    @Test func `a client of nobody is asked for in vain, in one sentence`() throws {
        let run = try CommandLineTool.run(["client", "show", "--control", "/tmp/no-such-socket"])
        #expect(run.status == 1)
        #expect(run.errors.hasPrefix("Error: no control socket at /tmp/no-such-socket"))
        #expect(run.errors.split(separator: "\n").count == 1, "\(run.errors)")
    }

    /// What is done to a store, the exit status of the check, and what its output must hold.
    enum Damage: String, CaseIterable {
        case none, flippedPage, tornPage, missingDatabase, inUse, noStore
    }

    @Test(.timeLimit(.minutes(2)), arguments: Damage.allCases)
    func `a damaged store is named, and told apart from one that cannot be looked at`(
        _ damage: Damage
    ) throws {
        let stage = try Stage()
        defer { stage.remove() }
        let server = try stage.serve("a")
        if damage != .inUse {
            server.kill(SIGTERM)
            #expect(server.waitForEnd() == 0)
        }
        let database = URL(filePath: stage.store + "/store.mdb")
        var status: Int32 = 2
        var words = ["damaged"]
        switch damage {
        case .none:
            (status, words) = (0, ["sound: nothing is wrong", "target     ost0"])
        case .flippedPage:
            // Every used page behind the roots, so that whatever holds a row is hit.
            var bytes = try Data(contentsOf: database)
            for page in 2..<(bytes.count / 4096) { bytes[page * 4096 + 4090] ^= 0x40 }
            try bytes.write(to: database)
        case .tornPage:
            let bytes = try Data(contentsOf: database)
            try bytes.prefix(2 * 4096 + 100).write(to: database)
            words.append(database.path)
        case .missingDatabase:
            try FileManager.default.removeItem(at: database)
            words.append("is missing although the store has objects")
        case .inUse:
            (status, words) = (1, ["is held by process"])
        case .noStore:
            try FileManager.default.removeItem(atPath: stage.store)
            (status, words) = (1, ["there is no store in"])
        }
        let run = try CommandLineTool.run(["store", "check", stage.store])
        #expect(run.status == status, "\(run.output) \(run.errors)")
        for word in words {
            #expect((run.output + run.errors).contains(word), "\(run.output) \(run.errors)")
        }
        server.kill(SIGKILL)
    }

    @Test(.timeLimit(.minutes(2)))
    func `a store is converted back and forth, and served in both formats`() throws {
        let stage = try Stage()
        defer { stage.remove() }
        for format in ["1", "2"] {
            let server = try stage.serve("s\(format)")
            server.kill(SIGTERM)
            #expect(server.waitForEnd() == 0)
            let run = try CommandLineTool.run(["store", "convert", stage.store, "--to", format])
            #expect(run.status == 0, "\(run.errors)")
            #expect(run.output.contains("format \(format)"), "\(run.output)")
            let check = try CommandLineTool.run(["store", "check", stage.store, "--json"])
            #expect(check.status == 0, "\(check.output)")
            #expect(check.output.contains("\"format\" : \(format)"), "\(check.output)")
        }
    }
}
