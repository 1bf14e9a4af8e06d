import Foundation
import Testing

/// What a real tool makes of our bytes on LNet's own port.
@Suite(.serialized) struct CLICaptureTests {
    /// Why no capture can be made here; nil where one can.
    static let obstacle: String? = {
        for tool in ["/usr/bin/tshark", "/usr/bin/dumpcap"]
        where !FileManager.default.isExecutableFile(atPath: tool) {
            return "\(tool) is not installed"
        }
        guard geteuid() == 0 else { return "port 988 and captures are for root" }
        let probe = try? CommandLineTool.run(
            ["-i", "lo", "-a", "duration:1", "-w", "/dev/null", "-q"], program: "/usr/bin/dumpcap")
        return probe?.status == 0 ? nil : "capturing on lo is not permitted"
    }()

    @Test(
        .enabled(
            if: obstacle == nil, Comment(rawValue: "needs a capture on lo: \(obstacle ?? "")")),
        .timeLimit(.minutes(2)))
    func `tshark reads a ping and a connect on port 988 as lnet, none malformed`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let nid = "127.9.88.\(Int(getpid()) % 200 + 1)"
        let capture = directory.appending(path: "capture.pcapng").path

        let server = Process()
        server.executableURL = URL(filePath: CommandLineTool.path)
        server.arguments = [
            "serve", "oss", "--target", "ost0", "--store", directory.appending(path: "s").path,
            "--nid", nid,
        ]
        let output = Pipe()
        server.standardOutput = output
        server.standardError = FileHandle.nullDevice
        try server.run()
        defer {
            server.terminate()
            server.waitUntilExit()
        }
        let ready = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        try #require(ready.hasPrefix("ready target=ost0"), "\(ready)")

        let dumpcap = Process()
        dumpcap.executableURL = URL(filePath: "/usr/bin/dumpcap")
        dumpcap.arguments = [
            "-i", "lo", "-f", "tcp port 988 and host \(nid)", "-w", capture, "-q",
            // Ended by the clock: threads of a pool block signals, and their children inherit that.
            "-a", "duration:6",
        ]
        dumpcap.standardError = FileHandle.nullDevice
        try dumpcap.run()
        // It has opened the file when it captures.
        for _ in 0..<200 where !FileManager.default.fileExists(atPath: capture) { usleep(20_000) }
        usleep(300_000)

        let ping = try CommandLineTool.run(["net", "ping", nid, "--count", "3"])
        #expect(ping.status == 0, "\(ping.errors)")
        #expect(ping.output.contains("primary nid: \(nid)@tcp"))
        let cluster = try CommandLineTool.write(
            "targets:\n  - {name: ost0, kind: oss, nids: [\(nid)]}\n", to: "c.yaml", in: directory)
        let status = try CommandLineTool.run(
            ["upgrade", "status", "--target", "ost0", "--cluster", cluster])
        #expect(status.status == 0, "\(status.errors)")

        usleep(300_000)
        dumpcap.waitUntilExit()
        // The layer under test is LNet. The dissector above it does not know the buffers that we
        // put behind Lustre's own ones, so its own findings are left out.
        let decode = ["-r", capture]
        let malformed = try CommandLineTool.run(
            decode + ["-Y", "_ws.malformed && !lustre"], program: "/usr/bin/tshark")
        #expect(malformed.output.isEmpty, "\(malformed.output)")
        let frames = try CommandLineTool.run(
            decode + ["-Y", "lnet", "-T", "fields", "-e", "frame.number"],
            program: "/usr/bin/tshark")
        #expect(frames.output.split(separator: "\n").count >= 6, "\(frames.output)")
    }
}
