import Foundation
import Testing

/// The command line as a stranger runs it: as a process.
enum CommandLineTool {
    struct Run {
        var status: Int32
        var output: String
        var errors: String
    }

    /// Where the build has put the program: beside the tests.
    static let path: String = {
        let beside = Bundle.main.executableURL?.deletingLastPathComponent()
        let tests = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
            .deletingLastPathComponent()
        let own = URL(
            filePath: (try? FileManager.default.destinationOfSymbolicLink(
                atPath: "/proc/self/exe")) ?? "/"
        ).deletingLastPathComponent()
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let places = [tests, own, beside, root.appending(path: ".build/debug")]
        for place in places.compactMap({ $0 }) {
            let path = place.appending(path: "sluice").path
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        return "sluice"
    }()

    /// Runs it to its end; killed after `seconds`.
    static func run(
        _ arguments: [String], program: String = path, seconds: Double = 60
    ) throws -> Run {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/timeout")
        process.arguments = ["--kill-after=5", String(seconds), program] + arguments
        var environment = ProcessInfo.processInfo.environment
        environment["SLUICE_CLUSTER"] = nil
        process.environment = environment
        // Into files, since a full pipe would stop the program.
        let directory = try temporaryDirectory()
        defer { try? FileManager.default.removeItem(at: directory) }
        let output = directory.appending(path: "out")
        let errors = directory.appending(path: "err")
        for file in [output, errors] {
            try Data().write(to: file)
        }
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return Run(
            status: process.terminationStatus,
            output: try String(contentsOf: output, encoding: .utf8),
            errors: try String(contentsOf: errors, encoding: .utf8))
    }

    static func temporaryDirectory() throws -> URL {
        let directory = FileManager.default.temporaryDirectory
            .appending(path: "sluice-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        return directory
    }

    static func write(_ text: String, to name: String, in directory: URL) throws -> String {
        let file = directory.appending(path: name)
        try text.write(to: file, atomically: true, encoding: .utf8)
        return file.path
    }
}
