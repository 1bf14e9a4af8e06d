import Foundation
import Glibc

/// A command line that was started in a session of its own: it goes on when its starter ends.
final class DetachedCommand {
    let text: String
    let logPath: String
    private let process: pid_t
    private var status: Int32?

    /// Runs it with `/bin/sh -c`; what it says goes to the end of `logPath`.
    init(_ text: String, logPath: String) throws {
        self.text = text
        self.logPath = logPath
        var actions = unsafe posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        var process: pid_t = 0
        let flags = O_WRONLY | O_CREAT | O_APPEND
        // SAFETY: every struct outlives the calls, and the texts live until the call of spawn is over.
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, logPath, flags, 0o644)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        unsafe posix_spawnattr_init(&attributes)
        // POSIX_SPAWN_SETSID, which the importer does not see.
        unsafe posix_spawnattr_setflags(&attributes, 0x80)
        defer {
            unsafe posix_spawn_file_actions_destroy(&actions)
            unsafe posix_spawnattr_destroy(&attributes)
        }
        Self.keepFilesToOurselves()
        let words = ["/bin/sh", "-c", "exec " + text]
        var texts = unsafe words.map { unsafe strdup($0) }
        unsafe texts.append(nil)
        defer { unsafe texts.forEach { unsafe free($0) } }
        let failure = unsafe posix_spawn(
            &process, "/bin/sh", &actions, &attributes, texts, environ)
        guard failure == 0 else {
            throw Failure("\"\(text)\" cannot be started: \(Machine.errnoText(failure))")
        }
        self.process = process
    }

    /// A pipe that our own starter left open, to see when we end, must not stay open in the command.
    private static func keepFilesToOurselves() {
        let open = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        for file in open.compactMap({ Int32($0) }) where file > 2 {
            _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        }
    }

    /// How it ended, in words; nil while it runs.
    func poll() -> String? {
        if status == nil {
            var found: Int32 = 0
            // SAFETY: the status outlives the call.
            if unsafe waitpid(process, &found, WNOHANG) == process { status = found }
        }
        guard let status else { return nil }
        let end =
            status & 0x7F == 0
            ? "ended with status \(status >> 8 & 0xFF)" : "was killed by signal \(status & 0x7F)"
        let log = (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? ""
        let last = log.split(separator: "\n").last.map(String.init) ?? "it said nothing"
        return "\(end): \(last)"
    }
}
