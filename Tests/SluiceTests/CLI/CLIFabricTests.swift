import Foundation
import Testing

/// What an operator learns of RDMA on this machine, whatever it has.
@Suite struct CLIFabricTests {
    private struct Listing: Decodable {
        struct Way: Decodable {
            var kind: String
            var name: String
            var isUsed: Bool
            var reason: String
        }
        var ways: [Way]
    }

    private struct Diagnosis: Decodable {
        struct Finding: Decodable {
            var subject: String
            var grade: String
            var says: String
            var remedy: String?
        }
        var verdict: String
        var findings: [Finding]
    }

    @Test func `fabric lists ways to send with a reason each`() throws {
        let run = try CommandLineTool.run(["fabric", "--json"])
        #expect(run.status == 0)
        let listing = try JSONDecoder().decode(Listing.self, from: Data(run.output.utf8))
        #expect(listing.ways.contains { $0.kind == "tcp" && $0.name == "tcp on lo" && $0.isUsed })
        #expect(listing.ways.contains { $0.kind != "tcp" })
        #expect(listing.ways.allSatisfy { !$0.reason.isEmpty })
        let table = try CommandLineTool.run(["fabric"])
        #expect(table.status == 0)
        for way in listing.ways { #expect(table.output.contains(way.name)) }
    }

    @Test func `doctor judges every part, and its status follows the verdict`() throws {
        let run = try CommandLineTool.run(["doctor", "--json", "--accept-port", "20987"])
        let diagnosis = try JSONDecoder().decode(Diagnosis.self, from: Data(run.output.utf8))
        #expect(run.status == (diagnosis.verdict == "bad" ? 1 : 0))
        #expect(
            diagnosis.findings.map(\.subject) == [
                "memlock", "modules", "namespace", "port", "gid", "accept port", "firewall",
                "open files",
            ])
    }

    @Test func `verbs insists, and says why it is not to be had`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let store = directory.path + "/ost0"
        for (nid, reason) in [
            ("127.0.9.1@tcp", "no NID is on an o2ib network"),
            ("127.0.9.1@o2ib", "127.0.9.1 is"),
        ] {
            let run = try CommandLineTool.run([
                "serve", "oss", "--target", "ost0", "--store", store, "--nid", nid, "--fabric",
                "verbs", "--accept-port", "20988",
            ])
            #expect(run.status == 1)
            #expect(run.errors.contains("--fabric verbs: "), "\(run.errors)")
            #expect(run.errors.contains(reason), "\(run.errors)")
            #expect(!FileManager.default.fileExists(atPath: store), "no store is made in vain")
        }
    }

    @Test func `two NIDs of one network are refused`() throws {
        let run = try CommandLineTool.run([
            "serve", "oss", "--target", "ost0", "--store", "/nowhere", "--nid", "127.0.9.1@tcp",
            "--nid", "127.0.9.2@tcp",
        ])
        #expect(run.status == 64)
        #expect(run.errors.contains("a node has one NID on each network"))
    }
}
