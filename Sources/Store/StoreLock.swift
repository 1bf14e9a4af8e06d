internal import Glibc

/// The right to a store: one holder at a time on a host, given back when it ends in any way.
///
/// An exclusive `flock` on the file `lock` in the store's directory. The kernel releases it with
/// the last descriptor of the open file, so that a killed server holds nothing; the process id in
/// the file is only for the message that another one prints.
public final class StoreLock: Sendable {
    /// The store's directory, as it was named.
    public let directory: String
    private let file: File

    private init(directory: String, file: File) {
        self.directory = directory
        self.file = file
    }

    /// Takes the lock without waiting.
    ///
    /// Throws `inUse` when somebody holds it, `noStore` where there is no such directory.
    public static func take(directory: String) throws(StoreError) -> StoreLock {
        let file = try openFile(directory)
        do {
            if try file.lock(wait: false) { return try granted(directory, file) }
        } catch {
            file.close()
            throw error.at(path(directory))
        }
        let holder = holder(file)
        file.close()
        throw .inUse(directory: directory, holder: holder)
    }

    /// Waits for the lock on the calling thread, which a warm standby gives to nothing else.
    ///
    /// Without a timeout the thread sleeps in the kernel and owns the store the moment the holder
    /// lets go of it or ends. With one it looks every millisecond (`flock` has no deadline) until
    /// `shouldStop` or the timeout, and then throws `inUse`.
    public static func wait(
        directory: String, timeoutMs: UInt64? = nil,
        shouldStop: () -> Bool = { false }
    ) throws(StoreError) -> StoreLock {
        let file = try openFile(directory)
        do {
            guard let timeoutMs else {
                _ = try file.lock(wait: true)
                return try granted(directory, file)
            }
            let start = monotonicNanoseconds()
            while true {
                if try file.lock(wait: false) { return try granted(directory, file) }
                if shouldStop() || (monotonicNanoseconds() - start) / 1_000_000 >= timeoutMs {
                    break
                }
                usleep(1000)
            }
        } catch {
            file.close()
            throw error.at(path(directory))
        }
        let holder = holder(file)
        file.close()
        throw .inUse(directory: directory, holder: holder)
    }

    deinit {
        // The id goes first: the next holder writes its own under the lock.
        try? file.truncate(to: 0)
        file.close()
    }

    private static func path(_ directory: String) -> String { directory + "/lock" }

    private static func openFile(_ directory: String) throws(StoreError) -> File {
        do {
            return try File(path(directory), O_RDWR | O_CREAT)
        } catch {
            if error.code == -ENOENT || error.code == -ENOTDIR {
                throw .noStore(directory: directory)
            }
            throw error.at(path(directory))
        }
    }

    private static func granted(
        _ directory: String, _ file: File
    ) throws(FileError) -> StoreLock {
        let text = Array("\(getpid())\n".utf8)
        try file.truncate(to: 0)
        try file.write(text, start: 0, count: text.count, offset: 0)
        return StoreLock(directory: directory, file: file)
    }

    private static func holder(_ file: File) -> Int32? {
        guard let bytes = try? file.read(offset: 0, count: 16) else { return nil }
        return Int32(String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self))
    }
}
