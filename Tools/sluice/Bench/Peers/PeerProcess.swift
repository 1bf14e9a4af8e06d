import Foundation
import Glibc

/// A program of others that runs beside ours, and ends with this object.
final class PeerProcess {
    let name: String
    private let process = Process()
    private let input = Pipe()
    private let outputPath: String
    private let errorPath: String

    /// Starts it, with every signal unblocked.
    init(
        _ name: String, _ path: String, _ arguments: [String], directory: String,
        processor: Int? = nil, label: String? = nil
    ) throws {
        self.name = name
        let mark =
            "\(directory)/\((label ?? name).replacing(" ", with: "-")).\(UInt32.random(in: 0...(.max)))"
        outputPath = mark + ".out"
        errorPath = mark + ".err"
        for path in [outputPath, errorPath] {
            _ = FileManager.default.createFile(atPath: path, contents: nil)
        }
        if let processor {
            process.executableURL = URL(filePath: "/usr/bin/taskset")
            process.arguments = ["-c", "\(processor)", path] + arguments
        } else {
            process.executableURL = URL(filePath: path)
            process.arguments = arguments
        }
        process.standardInput = input
        process.standardOutput = FileHandle(forWritingAtPath: outputPath)
        process.standardError = FileHandle(forWritingAtPath: errorPath)
        process.currentDirectoryURL = URL(filePath: directory)
        do { try Self.withoutBlockedSignals { try process.run() } } catch {
            throw Failure("\(path) cannot be started: \(error.localizedDescription)")
        }
    }

    /// A child inherits what its parent's thread blocks, and threads of Swift's pool block almost
    /// every signal: a program that measures until its alarm rings would never end.
    private static func withoutBlockedSignals<R>(_ body: () throws -> R) rethrows -> R {
        var (none, before) = (sigset_t(), sigset_t())
        // SAFETY: the sets outlive the calls, here and at the end.
        unsafe sigemptyset(&none)
        unsafe pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        return try body()
    }

    deinit { stop() }

    var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }

    /// What it wrote to standard error.
    var errors: String { (try? String(contentsOfFile: errorPath, encoding: .utf8)) ?? "" }
    var isRunning: Bool { process.isRunning }

    var lastWords: String {
        let text = errors
        let lines = (text.isEmpty ? output : text).split(separator: "\n").suffix(2)
        return lines.isEmpty ? "it said nothing" : lines.joined(separator: " / ")
    }

    /// Waits until its output holds a text.
    func await(_ text: String, seconds: Double = 30) async throws {
        let limit = ContinuousClock.now + .seconds(seconds)
        while !output.contains(text) {
            guard process.isRunning else { throw Failure("\(name) ended: \(lastWords)") }
            guard ContinuousClock.now < limit else {
                throw Failure("\(name) did not say \(text) in \(Int(seconds)) s: \(lastWords)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits until its end and returns what it wrote.
    func finish(seconds: Double = 60) async throws -> String {
        let limit = ContinuousClock.now + .seconds(seconds)
        while process.isRunning {
            guard ContinuousClock.now < limit else {
                stop()
                throw Failure("\(name) did not end within \(Int(seconds)) s: \(lastWords)")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
        guard process.terminationStatus == 0 else {
            throw Failure("\(name) failed (\(process.terminationStatus)): \(lastWords)")
        }
        return output
    }

    func stop() {
        try? input.fileHandleForWriting.close()
        guard process.isRunning else { return }
        process.terminate()
        let limit = ContinuousClock.now + .seconds(2)
        while process.isRunning, ContinuousClock.now < limit { usleep(2000) }
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }
}
