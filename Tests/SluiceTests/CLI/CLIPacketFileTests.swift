import Foundation
import NodeRuntime
import Synchronization
import TCPTransport
import Testing
import WireFormat

/// Captures that nodes write of themselves, as a real tool reads them.
@Suite(.serialized) struct CLIPacketFileTests {
    private static let tshark = "/usr/bin/tshark"
    private static let port = "11772"
    private static var obstacle: String? {
        FileManager.default.isExecutableFile(atPath: tshark) ? nil : "\(tshark) is not installed"
    }

    private static func host(_ number: Int) -> String {
        "127.23.\(Int(getpid()) % 250).\(number)"
    }

    /// What tshark prints of a file, LNet on the tests' own port.
    private static func dissect(_ file: String, _ arguments: [String]) throws -> String {
        let run = try CommandLineTool.run(
            ["-2", "-d", "tcp.port==\(port),lnet", "-r", file] + arguments, program: tshark,
            seconds: 120)
        #expect(run.status == 0, "\(run.errors)")
        return run.output
    }

    @Test(.enabled(if: obstacle == nil, Comment(rawValue: obstacle ?? "")), .timeLimit(.minutes(3)))
    func `tshark decodes what nodes wrote of ping, discovery, bulk and selftest`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        func path(_ name: String) -> String { directory.appending(path: name).path }
        func node(_ number: Int, _ arguments: [String]) throws -> BackgroundProcess {
            let node = try BackgroundProcess(
                [
                    "net", "node", "--nid", "\(Self.host(number))@tcp", "--accept-port", Self.port,
                    "--selftest", "--pcap", path("\(number).pcap"),
                ] + arguments, directory: directory, label: "\(number)")
            try #require(node.waitForLine("ready nid="), "\(node.errors)")
            return node
        }
        func sluice(_ arguments: [String]) throws {
            let run = try CommandLineTool.run(["net"] + arguments)
            #expect(run.status == 0, "\(arguments): \(run.errors)")
        }
        let server = try node(1, [])
        let client = try node(2, ["--control", path("control")])
        let nid = "\(Self.host(1))@tcp"
        try sluice(["ping", nid, "--accept-port", Self.port, "--pcap", path("ping.pcap")])
        try sluice(["discover", nid, "--control", path("control")])
        for test in ["ping", "read", "write"] {
            try sluice([
                "selftest", "--servers", nid, "--clients", "\(Self.host(2))@tcp", "--test", test,
                "--size", "64K", "--check", "full", "--loop", "5", "--time", "10", "--interval",
                "0.2", "--accept-port", Self.port,
            ])
        }
        // One ends at a signal, the other at once: what it said until then is in its file.
        client.kill(SIGTERM)
        #expect(client.waitForEnd() == 0)
        usleep(200_000)
        server.kill(SIGKILL)

        for name in ["1.pcap", "2.pcap", "ping.pcap"] {
            let file = path(name)
            let oddities = try Self.dissect(
                file,
                [
                    "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y",
                    "tcp.checksum.status == 0 || ip.checksum.status == 0 || tcp.analysis.flags",
                ])
            #expect(oddities.isEmpty, "\(name): \(oddities)")
            let strangers = try Self.dissect(
                file,
                [
                    "-Y",
                    "tcp.len > 0 && !lnet && !tcp.reassembled_in "
                        + "&& !(tcp.seq == 1 && (tcp.len == 72 || tcp.len == 56))",
                ])
            #expect(strangers.isEmpty, "\(name): \(strangers)")
            let messages = DissectedMessage.read(
                pdml: try Self.dissect(file, ["-Y", "lnet", "-T", "pdml"]))
            for message in messages {
                #expect(message.faults.isEmpty, "\(name): \(message)")
            }
            if name == "ping.pcap" {
                #expect(messages.map(\.type) == [2, 3])
                continue
            }
            for type in 0...3 {
                #expect(messages.contains { $0.type == type }, "\(name): no message of \(type)")
            }
            // A push of ping info, and the portals of lnet_selftest.
            for portal in [0, 50, 51, 52] {
                #expect(
                    messages.contains { $0.type == 1 && $0.portal == portal },
                    "\(name): no PUT on portal \(portal)")
            }
        }
    }

    @Test(.enabled(if: obstacle == nil, Comment(rawValue: obstacle ?? "")))
    func `tshark decodes messages of queue pairs, and sees the writes between them`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "o2ib.pcap").path
        let own = NID(address: 0x0A4E_0002, type: .o2ib)
        let peer = NID(address: 0x0A4E_0003, type: .o2ib)
        func message(_ body: O2IBLNDMessage, _ payload: [UInt8] = []) -> [UInt8] {
            var writer = WireWriter()
            let size = body.kind.byteCountMin + payload.count
            O2IBLNDHeader(
                kind: body.kind, byteCount: UInt32(size), source: own, sourceStamp: 1,
                destination: peer, destinationStamp: 2
            ).encode(into: &writer)
            body.encode(into: &writer)
            writer.append(payload)
            return writer.bytes
        }
        func header(_ length: Int, _ body: LNetHeader.Body) -> LNetHeader {
            LNetHeader(
                destination: ProcessID(nid: peer), source: ProcessID(nid: own),
                payloadLength: UInt32(length), body: body)
        }
        let put = LNetHeader.Body.put(
            ack: .none, matchBits: 1, hdrData: 0, portal: 50, offset: 0)
        do {
            // Written when it is let go of.
            let capture = try PacketCapture(path: file) { Issue.record("\($0)") }
            capture.openedPair(7, local: own.address, peer: peer.address)
            func post(_ bytes: [UInt8], isOurs: Bool = true) {
                RawSpan.over(bytes) { capture.message(7, $0, isOurs: isOurs) }
            }
            post(
                message(
                    .immediate(
                        header(
                            0,
                            .get(
                                returnTo: .none, matchBits: PingInfo.matchBits, portal: 0,
                                offset: 0, sinkLength: 272)))))
            post(message(.immediate(header(5, put)), [1, 2, 3, 4, 5]))
            post(message(.putRequest(header(70_000, put), cookie: 9)))
            capture.wrote(7, byteCount: 70_000, to: 0x1000, key: 3)
            post(message(.putDone(cookie: 9, status: 70_000)), isOurs: false)
            capture.closedPair(7)
        }
        let summary = try Self.dissect(file, ["-Y", "lnet"])
        #expect(summary.split(separator: "\n").count == 4, "\(summary)")
        #expect(
            summary.contains("LNET_GET") && summary.contains("IBLND_MSG_PUT_DONE"), "\(summary)")
        let writes = try Self.dissect(
            file, ["-Y", "infiniband.bth.opcode in {6, 7, 8}", "-T", "fields", "-e", "frame.len"])
        #expect(writes.split(separator: "\n").count == 18, "\(writes)")
        let malformed = try Self.dissect(
            file, ["-Y", "ip.checksum.status == 0", "-o", "ip.check_checksum:TRUE"])
        #expect(malformed.isEmpty, "\(malformed)")
        let pdml = try Self.dissect(file, ["-Y", "lnet", "-T", "pdml"])
        for message in DissectedMessage.read(pdml: pdml) {
            #expect(!message.complaints.contains("[Malformed Packet]"), "\(message)")
        }
    }

    @Test func `a file that cannot be written is named, and no node begins`() throws {
        for (file, words) in [
            ("/nowhere/x.pcap", "/nowhere/x.pcap cannot be written: No such file or directory"),
            ("/dev/null", "/dev/null cannot be written: it is no regular file"),
            ("/tmp", "/tmp cannot be written: Is a directory"),
        ] {
            let run = try CommandLineTool.run([
                "net", "node", "--nid", Self.host(9), "--accept-port", Self.port, "--pcap", file,
            ])
            #expect(run.status == 1 && run.errors.contains(words), "\(run.errors)")
            #expect(run.output.isEmpty)
        }
        let both = try CommandLineTool.run([
            "net", "ping", Self.host(9), "--pcap", "/tmp/x.pcap", "--control", "/tmp/none",
        ])
        #expect(both.status != 0 && both.errors.contains("started with --pcap"), "\(both.errors)")
    }
}
