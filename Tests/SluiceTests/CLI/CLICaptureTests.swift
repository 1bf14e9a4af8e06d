import Foundation
import Testing

/// What a real tool makes of our bytes on LNet's own port.
@Suite(.serialized) struct CLICaptureTests {
    private static let tshark = "/usr/bin/tshark"
    private static let dumpcap = "/usr/bin/dumpcap"

    /// Why no capture can be made here; nil where one can.
    static let obstacle: String? = {
        for tool in [tshark, dumpcap] where !FileManager.default.isExecutableFile(atPath: tool) {
            return "\(tool) is not installed"
        }
        guard geteuid() == 0 else { return "port 988 and captures are for root" }
        let probe = try? CommandLineTool.run(
            ["-i", "lo", "-a", "duration:1", "-w", "/dev/null", "-q"], program: dumpcap)
        return probe?.status == 0 ? nil : "capturing on lo is not permitted"
    }()

    @Test(
        .enabled(
            if: obstacle == nil, Comment(rawValue: "needs a capture on lo: \(obstacle ?? "")")),
        .timeLimit(.minutes(3)))
    func `tshark decodes a cluster at work and an upgrade on port 988, none malformed`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let net = "127.9.\(Int(getpid()) % 250)"
        let cluster = try CommandLineTool.write(
            """
            targets:
              - {name: mdt0, kind: mds, index: 0, nids: [\(net).1, \(net).2]}
              - {name: ost0, kind: oss, index: 0, nids: [\(net).3, \(net).4]}
            """, to: "c.yaml", in: directory)

        // To standard output, since dumpcap writes that out after every packet: it can be killed.
        let dumpcap = try BackgroundProcess(
            ["-i", "lo", "-f", "tcp port 988 and net \(net).0/24", "-w", "-", "-q", "-B", "16"],
            program: Self.dumpcap, directory: directory, label: "capture")
        for _ in 0..<200 where !dumpcap.errors.contains("File:") { usleep(20_000) }
        usleep(500_000)
        try work(cluster, net: net, in: directory)
        usleep(700_000)
        dumpcap.kill(SIGKILL)
        try judge(capture: dumpcap.outputPath)
    }

    /// Both servers, a bit of everything, an upgrade, and a clean end.
    private func work(_ cluster: String, net: String, in directory: URL) throws {
        func server(
            _ kind: String, _ target: String, _ host: Int, _ more: [String] = []
        ) throws -> BackgroundProcess {
            try BackgroundProcess(
                [
                    "serve", kind, "--target", target, "--store",
                    directory.appending(path: target).path, "--nid", "\(net).\(host)", "--cluster",
                    cluster,
                ] + more, directory: directory, label: "\(target).\(host)")
        }
        func sluice(_ arguments: [String], _ note: String = "") throws -> String {
            let run = try CommandLineTool.run(arguments)
            #expect(run.status == 0, "\(arguments): \(run.errors)")
            return run.output
        }
        let objects = try server("oss", "ost0", 3)
        let old = try server("mds", "mdt0", 1, ["--protocol", "1...1"])
        try #require(objects.waitForLine("ready target=ost0"), "\(objects.errors)")
        try #require(old.waitForLine("ready target=mdt0"), "\(old.errors)")

        let ping = try sluice(["net", "ping", "\(net).1", "--count", "3"])
        #expect(ping.contains("primary nid: \(net).1@tcp"))
        let options = ["--cluster", cluster, "--nid", "\(net).100"]
        let small = try CommandLineTool.write("a few words", to: "small", in: directory)
        let large = try CommandLineTool.write(
            String(repeating: "0123456789abcdef", count: 12_500), to: "large", in: directory)
        _ = try sluice(["fs", "mkdir", "/d"] + options)
        _ = try sluice(["fs", "put", small, "/d/small"] + options)
        _ = try sluice(["fs", "put", large, "/d/large"] + options)
        #expect(try sluice(["fs", "ls", "/d"] + options).contains("large"))
        #expect(try sluice(["fs", "cat", "/d/small"] + options) == "a few words")
        _ = try sluice(["fs", "mv", "/d/small", "/d/little"] + options)

        let new = try server("mds", "mdt0", 2, ["--standby"])
        try #require(new.waitForLine("standby target=mdt0"), "\(new.errors)")
        let upgrade = try sluice(
            ["upgrade", "start", "--target", "mdt0", "--wait", "--json"] + options)
        #expect(upgrade.contains("\"next\" : \"\(net).2@tcp\""), "\(upgrade)")
        #expect(old.waitForEnd() == 0)
        #expect(try sluice(["fs", "cat", "/d/large"] + options).utf8.count == 200_000)
        _ = try sluice(["fs", "rm", "/d/little"] + options)
        // The object server first: its one client, the metadata server, gets the notice. Those who
        // give orders are observers and get none.
        for process in [objects, new] {
            process.kill(SIGTERM)
            #expect(process.waitForEnd() == 0)
        }
    }

    private func judge(capture: String) throws {
        // Two passes, so that a segment knows of the message that it becomes part of.
        let read = ["-2", "-r", capture]
        let strangers = try CommandLineTool.run(
            read + [
                "-Y",
                // Before LNet's messages come hello (56), and before the first one the acceptor's
                // request (16): nothing else on this port may stay undecoded.
                "tcp.len > 0 && !lnet && !tcp.reassembled_in "
                    + "&& !(tcp.seq == 1 && (tcp.len == 72 || tcp.len == 56))",
            ], program: Self.tshark)
        #expect(strangers.output.isEmpty, "\(strangers.output)")

        let pdml = try CommandLineTool.run(
            read + ["-Y", "lnet", "-T", "pdml"], program: Self.tshark, seconds: 120)
        let messages = DissectedMessage.read(pdml: pdml.output)
        for message in messages {
            #expect(message.faults.isEmpty, "frame \(message.frame): \(message)")
        }
        // The messages that are Lustre's own, each as request and reply, and bulk both ways.
        for opcode in [8, 9, 38, 39, 101, 103, 104] {
            for isReply in [false, true] {
                #expect(
                    messages.contains { $0.opcode == opcode && $0.isReply == isReply },
                    "no \(isReply ? "reply" : "request") of opcode \(opcode) was captured")
            }
        }
        #expect(messages.contains { !$0.isLustres })
        for type in 0...3 where type != 0 {
            #expect(messages.contains { $0.type == type }, "no LNet message of type \(type)")
        }
    }

    @Test func `bytes left over are a fault unless they are the buffers that we put behind`() {
        func message(end: Int) -> DissectedMessage? {
            let sizes = [184, 40, 40, 8, 192, 48]
            let lines =
                [
                    "<field name=\"frame.number\" show=\"8\"/>", "<proto name=\"lnet\">",
                    "<field name=\"lnet.msg_type\" show=\"1\"/>",
                    "<field name=\"_ws.expert.message\" show=\"Capture:664 offset:\(end) (l\"/>",
                    "<field name=\"lustre.ptlrpc_body.pb_type\" show=\"4711\"/>",
                    "<field name=\"lustre.ptlrpc_body.pb_opc\" show=\"8\"/>",
                ] + sizes.map { "<field name=\"lustre.lustre_msg_v2.lm_buflens\" show=\"\($0)\"/>" }
            return DissectedMessage.read(pdml: lines.joined(separator: "\n")).first
        }
        #expect(message(end: 616)?.faults == [])
        #expect(message(end: 496)?.faults.count == 1)
        #expect(message(end: 664)?.faults.count == 1)
    }
}
