import Foundation
import Testing

/// Failover to another host: who is silent is fenced first, and who cannot be fenced keeps the store.
///
/// Two names are two hosts to a store; that both are processes of this machine is for the fence command.
@Suite(.serialized) struct CLIFenceTests {
    private let directory: URL
    private let cluster: String
    private static let port = "10971"

    init() throws {
        directory = FileManager.default.temporaryDirectory
            .appending(path: "sluice-fence-\(UInt32.random(in: 0...(.max)))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        cluster = directory.appending(path: "cluster.yaml").path
        let text = """
            accept-port: \(Self.port)
            targets:
              - {name: ost0, kind: oss, index: 0, nids: [127.9.7.1@tcp, 127.9.7.2@tcp]}
              - {name: mdt0, kind: mds, index: 0, nids: [127.9.7.3@tcp]}
            """
        try text.write(toFile: cluster, atomically: true, encoding: .utf8)
    }

    private func serve(
        _ host: String, nid: Int, _ more: [String], label: String
    ) throws -> BackgroundProcess {
        try BackgroundProcess(
            [
                "serve", "oss", "--target", "ost0", "--store", "\(directory.path)/ost0", "--nid",
                "127.9.7.\(nid)@tcp", "--cluster", cluster, "--host", host,
            ] + more, directory: directory, label: label)
    }

    @Test(.timeLimit(.minutes(2))) func `a silent host is fenced and its partner recovers`() throws
    {
        defer { try? FileManager.default.removeItem(at: directory) }
        let old = try serve("alpha", nid: 1, [], label: "old")
        try #require(old.waitForLine("ready"), "\(old.errors)")
        let note = directory.appending(path: "fenced").path
        let partner = try serve(
            "beta", nid: 2,
            [
                "--standby", "--take-over-after", "2", "--fence",
                "kill -9 $SLUICE_FENCE_PID && echo $SLUICE_FENCE_HOST $SLUICE_FENCE_NID "
                    + "$SLUICE_FENCE_TARGET > \(note)",
            ], label: "partner")
        try #require(partner.waitForLine("standby"), "\(partner.errors)")
        // While its heart beats nobody is fenced.
        usleep(3_500_000)
        #expect(!FileManager.default.fileExists(atPath: note), "\(partner.errors)")
        old.kill(SIGSTOP)
        #expect(partner.waitForLine("ready", seconds: 40), "\(partner.errors)")
        #expect(old.waitForEnd(seconds: 5) != nil)
        let fenced = try String(contentsOfFile: note, encoding: .utf8)
        #expect(fenced == "alpha 127.9.7.1@tcp ost0\n")
    }

    @Test(.timeLimit(.minutes(2))) func `who cannot be fenced keeps the store`() throws {
        defer { try? FileManager.default.removeItem(at: directory) }
        let old = try serve("alpha", nid: 1, [], label: "old")
        try #require(old.waitForLine("ready"), "\(old.errors)")
        let partner = try serve(
            "beta", nid: 2, ["--standby", "--take-over-after", "2", "--fence", "exit 3"],
            label: "partner")
        try #require(partner.waitForLine("standby"), "\(partner.errors)")
        old.kill(SIGSTOP)
        let end = Date(timeIntervalSinceNow: 40)
        while Date() < end, !partner.errors.contains("the fence command failed (3)") {
            usleep(50_000)
        }
        #expect(partner.errors.contains("the fence command failed (3)"), "\(partner.errors)")
        #expect(!partner.output.contains("ready"))
        old.kill(SIGCONT)
        partner.kill(SIGTERM)
        #expect(partner.waitForEnd() == 0)
        old.kill(SIGTERM)
        #expect(old.waitForEnd() == 0, "\(old.errors)")
    }

    @Test(.timeLimit(.minutes(2)))
    func `a store that another host did not let go of needs a fence, one that it closed does not`()
        throws
    {
        defer { try? FileManager.default.removeItem(at: directory) }
        let first = try serve("alpha", nid: 1, [], label: "first")
        try #require(first.waitForLine("ready"), "\(first.errors)")
        first.kill(SIGKILL)
        let refused = try serve("beta", nid: 2, [], label: "refused")
        #expect(refused.waitForEnd() == 1)
        #expect(refused.errors.contains("was not let go of by process"), "\(refused.errors)")
        #expect(refused.errors.contains("host alpha at 127.9.7.1@tcp"), "\(refused.errors)")
        // Its own host knows that its process is gone.
        let again = try serve("alpha", nid: 1, [], label: "again")
        try #require(again.waitForLine("ready"), "\(again.errors)")
        again.kill(SIGTERM)
        #expect(again.waitForEnd() == 0)
        let other = try serve("beta", nid: 2, [], label: "other")
        #expect(other.waitForLine("ready"), "\(other.errors)")
    }

    @Test func `arguments that make no sense are named`() throws {
        defer { try? FileManager.default.removeItem(at: directory) }
        for (arguments, words) in [
            (["--take-over-after", "3"], "--take-over-after is for a --standby"),
            (["--standby", "--take-over-after", "1"], "must be from 2 to 86400 seconds"),
        ] {
            let run = try serve("alpha", nid: 1, arguments, label: "wrong")
            #expect(run.waitForEnd() == 64)
            #expect(run.errors.contains(words), "\(run.errors)")
        }
    }
}
