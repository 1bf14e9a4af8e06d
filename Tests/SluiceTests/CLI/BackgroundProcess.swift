import Foundation

/// A program that runs beside the test, its output in files.
final class BackgroundProcess {
    private let process = Process()
    let outputPath: String
    let errorPath: String

    init(
        _ arguments: [String], program: String = CommandLineTool.path, directory: URL, label: String
    ) throws {
        outputPath = directory.appending(path: "\(label).out").path
        errorPath = directory.appending(path: "\(label).err").path
        for path in [outputPath, errorPath] { try Data().write(to: URL(filePath: path)) }
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: URL(filePath: outputPath))
        process.standardError = try FileHandle(forWritingTo: URL(filePath: errorPath))
        try process.run()
    }

    deinit { kill(SIGKILL) }

    var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }
    var errors: String { (try? String(contentsOfFile: errorPath, encoding: .utf8)) ?? "" }

    /// Waits until there is output that begins a line with `word`; false when it did not come.
    func waitForLine(_ word: String, seconds: Double = 20) -> Bool {
        let end = Date(timeIntervalSinceNow: seconds)
        while Date() < end {
            if output.split(separator: "\n").contains(where: { $0.hasPrefix(word) }) { return true }
            if !process.isRunning { return false }
            usleep(20_000)
        }
        return false
    }

    /// Waits until it ends by itself: its status, or nil when it did not.
    func waitForEnd(seconds: Double = 20) -> Int32? {
        let end = Date(timeIntervalSinceNow: seconds)
        while process.isRunning, Date() < end { usleep(20_000) }
        return process.isRunning ? nil : process.terminationStatus
    }

    /// Sends a signal; after SIGKILL waits for the end.
    func kill(_ signal: Int32) {
        guard process.isRunning else { return }
        Foundation.kill(process.processIdentifier, signal)
        if signal == SIGKILL { process.waitUntilExit() }
    }
}
