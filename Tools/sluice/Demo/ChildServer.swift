import Foundation
import WireFormat

/// A server that the demo started as a process of its own, from this program's file.
///
/// It holds the reading end of a pipe as its standard input, and ends when that ends: however the
/// demo comes to its end, no server stays behind.
final class ChildServer {
    let name: String
    let nid: NID
    let process: pid_t
    private let inputEnd: Int32
    private let outputPath: String
    private let logPath: String
    private var status: Int32?
    private(set) var peakMemoryKiB = 0
    private(set) var peakDescriptorCount = 0

    enum End: Equatable {
        case exited(Int32)
        case killed(Int32)
    }

    /// - Parameter program: the file to run; nil for this program's own.
    init(
        name: String, nid: NID, program: String? = nil, arguments: [String], directory: String,
        label: String
    ) throws {
        self.name = name
        self.nid = nid
        outputPath = "\(directory)/\(label).out"
        logPath = "\(directory)/\(label).log"
        var ends: [Int32] = [0, 0]
        // SAFETY: the array has the two places that pipe2 fills.
        guard unsafe pipe(&ends) == 0 else {
            throw Failure("no pipe to be had: \(Machine.errnoText())")
        }
        // The child gets its end as descriptor 0, and no other child may keep either.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        inputEnd = ends[1]
        defer { close(ends[0]) }
        process = try Self.spawn(
            [program ?? Machine.executablePath] + arguments, input: ends[0], output: outputPath,
            log: logPath)
    }

    deinit {
        if status == nil {
            kill(process, SIGKILL)
            var status: Int32 = 0
            // SAFETY: the status outlives the call.
            _ = unsafe waitpid(process, &status, 0)
        }
        close(inputEnd)
    }

    private static func spawn(
        _ arguments: [String], input: Int32, output: String, log: String
    ) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        var signals = sigset_t()
        var process: pid_t = 0
        // SAFETY: every struct outlives the calls, and the texts live until the call of spawn is over.
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, input, 0)
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        unsafe posix_spawn_file_actions_addopen(&actions, 1, output, flags, 0o644)
        unsafe posix_spawn_file_actions_addopen(&actions, 2, log, flags, 0o644)
        unsafe posix_spawnattr_init(&attributes)
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        defer {
            unsafe posix_spawn_file_actions_destroy(&actions)
            unsafe posix_spawnattr_destroy(&attributes)
        }
        var texts = unsafe arguments.map { unsafe strdup($0) }
        unsafe texts.append(nil)
        defer { unsafe texts.forEach { unsafe free($0) } }
        let failure = unsafe posix_spawn(
            &process, arguments[0], &actions, &attributes, texts, environ)
        guard failure == 0 else {
            throw Failure("\(arguments[0]) cannot be started: \(Machine.errnoText(failure))")
        }
        return process
    }

    /// How it ended; nil while it runs.
    func poll() -> End? {
        if status == nil {
            var found: Int32 = 0
            // SAFETY: the status outlives the call.
            if unsafe waitpid(process, &found, WNOHANG) == process { status = found }
        }
        guard let status else { return nil }
        return status & 0x7F == 0 ? .exited(status >> 8 & 0xFF) : .killed(status & 0x7F)
    }

    func send(_ signal: Int32) {
        if poll() == nil { kill(process, signal) }
    }

    /// Notes how large it is now.
    func measure() {
        guard poll() == nil else { return }
        peakMemoryKiB = max(peakMemoryKiB, Machine.peakMemoryKiB(of: process))
        peakDescriptorCount = max(peakDescriptorCount, Machine.descriptorCount(of: process))
    }

    /// The line of its standard output that begins with `word`.
    func line(_ word: String) -> String? {
        let text = (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").first { $0.hasPrefix(word + " ") }.map(String.init)
    }

    /// The first line of its log that holds `text`.
    func logLine(containing text: String) -> String? {
        let log = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
        return log.split(separator: "\n").first { $0.contains(text) }.map(String.init)
    }

    func logLineCount(containing text: String) -> Int {
        let log = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
        return log.split(separator: "\n").count { $0.contains(text) }
    }

    /// What it said last.
    var lastWords: String {
        let text = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
        // Of a program that trapped, the sentence counts, and not what the runtime prints after it.
        if let trap = text.split(separator: "\n").first(where: { $0.contains("Fatal error") }) {
            return String(trap)
        }
        let lines = text.split(separator: "\n").suffix(3)
        return lines.isEmpty ? "it said nothing" : lines.joined(separator: " / ")
    }
}
