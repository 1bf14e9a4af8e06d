internal import Glibc

/// Who wants a store, and what he may do to whoever has it.
public struct StoreClaim: Sendable {
    /// Which host this is, in at most 63 bytes. Two names are two hosts: neither believes that the
    /// other's processes have ended because their `flock` is gone.
    public let host: String
    /// The NID that is served on, for messages, in at most 63 bytes.
    public let address: String
    /// Milliseconds after which a holder that does not say that it lives is fenced; nil: never.
    public var silenceMaxMs: UInt64?
    /// Makes sure that a holder will write no more, and says whether that is so. Called on the thread
    /// that takes the store; nil: nobody can be fenced.
    public var fence: (@Sendable (StoreHolder) -> Bool)?
    /// Called on the heartbeat's thread when another took the store in spite of this holder: it must
    /// write no more.
    public var onLost: (@Sendable (StoreHolder) -> Void)?

    /// - Parameter host: nil for this machine's name. What is longer than 63 bytes is cut.
    public init(host: String? = nil, address: String = "") {
        self.host = Self.cut(host ?? Self.machineName)
        self.address = Self.cut(address)
    }

    private static func cut(_ text: String) -> String {
        var text = text
        while text.utf8.count > StoreHolder.textSizeMax { text.removeLast() }
        return text
    }

    private static var machineName: String {
        var name = [CChar](repeating: 0, count: 256)
        // SAFETY: the array has the size that is passed; the last byte stays zero.
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "unnamed" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension StoreLock {
    /// Ends a process of this host that holds a store, and waits until it is gone.
    ///
    /// Only who the kernel says holds the lock of that store is killed, whatever the block in `holder`
    /// claims. True when nobody has the lock any more; gives up after `limitMs`.
    public static func killHolder(directory: String, limitMs: UInt64 = 5_000) -> Bool {
        guard let process = lockOwner(directory: directory) else { return true }
        _ = kill(process, SIGKILL)
        let start = monotonicNanoseconds()
        while lockOwner(directory: directory) == process {
            if (monotonicNanoseconds() - start) / 1_000_000 >= limitMs { return false }
            usleep(2_000)
        }
        return true
    }

    /// The process that has the `flock` of a store, from `/proc/locks`; nil where none has.
    static func lockOwner(directory: String) -> pid_t? {
        var status = stat()
        guard unsafe stat(directory + "/lock", &status) == 0 else { return nil }
        let inode = UInt64(status.st_ino)
        guard let file = try? File("/proc/locks", O_RDONLY) else { return nil }
        defer { file.close() }
        var text: [UInt8] = []
        while let part = try? file.read(offset: UInt64(text.count), count: 65_536), !part.isEmpty {
            text += part
        }
        // `12: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`; a waiter's line has `->` behind the number.
        for line in text.split(separator: 10) {
            let words = line.split(separator: 32).map { String(decoding: $0, as: UTF8.self) }
            guard words.count >= 6, words[1] == "FLOCK", words[3] == "WRITE",
                let process = pid_t(words[4]), process != getpid(),
                words[5].split(separator: ":").last.flatMap({ UInt64($0) }) == inode
            else { continue }
            return process
        }
        return nil
    }
}
