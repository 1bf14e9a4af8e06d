import Foundation
import Testing

/// The page of `sluice report`, and what is no result.
@Suite(.serialized) struct CLIReportTests {
    private static func find(_ program: String) -> String? {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.map { "\($0)/\(program)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    static let browser = find("chromium")
    static let library = ProcessInfo.processInfo.environment["PLOTLY_JS"]

    private func results(in directory: URL) throws -> [String] {
        let notify = directory.appending(path: "notify.json").path
        let pause = directory.appending(path: "pause.json").path
        for arguments in [
            ["notify", "--clients", "2,4", "--accept-port", "10977", "--output", notify],
            [
                "pause", "--clients", "4", "--schemes", "drain,crash", "--accept-port", "10978",
                "--output", pause,
            ],
        ] {
            let run = try CommandLineTool.run(
                ["bench"] + arguments + ["--runs", "2", "--warm-up", "0", "--no-pin"])
            #expect(run.status == 0, "\(run.errors)")
        }
        return [notify, pause]
    }

    @Test(
        .enabled(
            if: browser != nil && library != nil,
            "needs chromium, and PLOTLY_JS naming a plotly.min.js: Tools/test sees to both"))
    func `every plot of a report is drawn by a real browser, and the page prints`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let page = directory.appending(path: "report.html").path
        let run = try CommandLineTool.run(
            ["report"] + (try results(in: directory)) + ["--output", page])
        #expect(run.status == 0, "\(run.errors)")
        let text = try String(contentsOfFile: page, encoding: .utf8)
        // Self-contained: it asks nobody for anything.
        #expect(!text.contains("<script src") && !text.contains("<link"))
        let common = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--user-data-dir=\(directory.path)/profile", "--virtual-time-budget=20000",
        ]
        let dump = try CommandLineTool.run(
            common + ["--dump-dom", "file://\(page)"], program: try #require(Self.browser),
            seconds: 120)
        #expect(dump.status == 0, "\(dump.errors.suffix(400))")
        func value(_ name: String) -> String? {
            guard let at = dump.output.range(of: "data-\(name)=\"", options: .backwards) else {
                return nil
            }
            return String(dump.output[at.upperBound...].prefix { $0 != "\"" })
        }
        #expect(value("errors") == "[]")
        // By clients, two timelines, distribution, ratios; two timelines, distribution, ratios: a bench
        // of two runs on a busy machine may have too little for one of them.
        let wanted = try #require(value("wanted").flatMap { Int($0) })
        #expect((7...9).contains(wanted))
        #expect(value("drawn").flatMap { Int($0) } == wanted)
        for name in ["latency by clients", "timeline", "distribution", "ratios"] {
            #expect(dump.output.contains("data-plot=\"\(name)\""), "\(name)")
        }
        let paper = directory.appending(path: "report.pdf").path
        let print = try CommandLineTool.run(
            common + ["--no-pdf-header-footer", "--print-to-pdf=\(paper)", "file://\(page)"],
            program: try #require(Self.browser), seconds: 120)
        #expect(print.status == 0, "\(print.errors.suffix(400))")
        let pdf = try Data(contentsOf: URL(filePath: paper))
        #expect(pdf.starts(with: Data("%PDF".utf8)) && pdf.count > 20_000)
    }

    @Test(arguments: [
        ("", "not JSON"), ("hello", "not JSON"), ("[]", "not a result of sluice bench"),
        ("{\"a\": 1}", "not a result of sluice bench"),
        ("{\"format\": \"sluice-bench\", \"version\": 7}", "a result of version 7"),
        ("{\"format\": \"sluice-bench\", \"version\": 1, \"bench", "cut short or damaged"),
        ("{\"format\": \"sluice-bench\", \"version\": 1}", "a damaged result"),
    ])
    func `what is no result of this version is refused by name`(
        _ text: String, _ expected: String
    ) throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = try CommandLineTool.write(text, to: "result.json", in: directory)
        let page = directory.appending(path: "report.html").path
        let run = try CommandLineTool.run(["report", file, "--output", page])
        #expect(run.status == 1)
        #expect(run.errors.hasPrefix("Error: \(file): "), "\(run.errors)")
        #expect(run.errors.contains(expected), "\(run.errors)")
        #expect(!FileManager.default.fileExists(atPath: page))
    }

    @Test func `a result that was cut at any length is refused`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let whole = directory.appending(path: "whole.json").path
        let made = try CommandLineTool.run([
            "bench", "notify", "--clients", "1", "--runs", "1", "--warm-up", "0", "--no-pin",
            "--no-bare", "--accept-port", "10979", "--output", whole,
        ])
        #expect(made.status == 0, "\(made.errors)")
        let text = try String(contentsOfFile: whole, encoding: .utf8)
        let length = text.utf8.count
        for cut in [1, length / 4, length / 2, length - 3] {
            let part = String(decoding: text.utf8.prefix(cut), as: UTF8.self)
            let file = try CommandLineTool.write(part, to: "part.json", in: directory)
            let run = try CommandLineTool.run(["report", file, "--output", "/tmp/never.html"])
            #expect(run.status == 1)
            #expect(run.errors.contains("\(file): cut short or damaged"), "\(run.errors)")
        }
    }

    @Test func `without a plotting library the way out is named`() throws {
        let directory = try CommandLineTool.temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let run = try CommandLineTool.run([
            "report", "--script", "\(directory.path)/none.js", "--output",
            "\(directory.path)/r.html", "\(directory.path)/none.json",
        ])
        #expect(run.status == 1)
        #expect(run.errors.contains("none.json: cannot be read"), "\(run.errors)")
    }
}
