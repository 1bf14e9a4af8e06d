internal import Glibc

/// The right to a store: one holder at a time, given back when it ends in any way.
///
/// On one host that is an exclusive `flock` on the file `lock` in the store's directory. The kernel
/// releases it with the last descriptor of the open file, so that a killed server holds nothing; the
/// process id in the file is only for the message that another one prints. Between hosts it is the
/// block in `holder` (see ``StoreHolder``): a store that another host did not let go of is taken only
/// after that host was fenced.
public final class StoreLock: Sendable {
    /// The store's directory, as it was named.
    public let directory: String
    private let file: File
    let heartbeat: StoreHeartbeat

    private init(directory: String, file: File, heartbeat: StoreHeartbeat) {
        self.directory = directory
        self.file = file
        self.heartbeat = heartbeat
    }

    /// Takes the lock without waiting for its holder.
    ///
    /// Throws `inUse` when a process of this host holds it, `heldElsewhere` where another host did not
    /// let go of it and is not fenced, `noStore` where there is no such directory.
    public static func take(
        directory: String, for claim: StoreClaim = StoreClaim()
    ) throws(StoreError) -> StoreLock {
        let file = try openFile(directory)
        do throws(StoreError) {
            if try lock(file, directory, wait: false) {
                return try granted(directory, file, claim)
            }
        } catch {
            file.close()
            throw error
        }
        let holder = holder(file)
        file.close()
        throw .inUse(directory: directory, holder: holder)
    }

    /// Waits for the lock on the calling thread, which a warm standby gives to nothing else.
    ///
    /// Without a timeout, and where the holder's silence is no matter (`claim.silenceMaxMs`), the
    /// thread sleeps in the kernel and owns the store the moment the holder lets go of it or ends.
    /// Otherwise it looks every 20 ms (`flock` has no deadline) until `shouldStop` or the timeout, and
    /// then throws `inUse`; a holder that has been silent for too long is fenced.
    public static func wait(
        directory: String, timeoutMs: UInt64? = nil, for claim: StoreClaim = StoreClaim(),
        shouldStop: () -> Bool = { false }
    ) throws(StoreError) -> StoreLock {
        let file = try openFile(directory)
        do throws(StoreError) {
            if timeoutMs == nil, claim.silenceMaxMs == nil {
                _ = try lock(file, directory, wait: true)
                return try granted(directory, file, claim)
            }
            let start = monotonicNanoseconds()
            var silence = Silence(since: start)
            // Who is fenced once is not asked after again: the command may fail for one that is gone.
            var fencedTerm: UInt64?
            while true {
                if try lock(file, directory, wait: false) {
                    return try granted(directory, file, claim, fencedTerm: fencedTerm)
                }
                let now = monotonicNanoseconds()
                if shouldStop() { break }
                if let timeoutMs, (now - start) / 1_000_000 >= timeoutMs { break }
                if let silenceMaxMs = claim.silenceMaxMs {
                    silence.look(at: try StoreHolder.read(directory: directory), now: now)
                    if let holder = silence.holder(after: silenceMaxMs, now: now) {
                        if claim.fence?(holder) ?? false { fencedTerm = holder.term }
                        // Fenced or not, the next try comes after as long a silence again.
                        silence = Silence(since: monotonicNanoseconds())
                    }
                }
                usleep(timeoutMs == nil ? 20_000 : 1_000)
            }
        } catch {
            file.close()
            throw error
        }
        let holder = holder(file)
        file.close()
        throw .inUse(directory: directory, holder: holder)
    }

    deinit {
        // The id goes first: the next holder writes its own under the lock.
        try? file.truncate(to: 0)
        heartbeat.end()
        file.close()
    }

    /// How long a holder's beat has stood still.
    private struct Silence {
        private var since: UInt64
        private var last: StoreHolder?

        init(since: UInt64) { self.since = since }

        mutating func look(at holder: StoreHolder?, now: UInt64) {
            guard let holder else { return }
            if holder != last { since = now }
            last = holder
        }

        func holder(after milliseconds: UInt64, now: UInt64) -> StoreHolder? {
            guard let last, !last.isReleased, (now - since) / 1_000_000 >= milliseconds else {
                return nil
            }
            return last
        }
    }

    private static func path(_ directory: String) -> String { directory + "/lock" }

    private static func lock(
        _ file: File, _ directory: String, wait: Bool
    ) throws(StoreError) -> Bool {
        do {
            return try file.lock(wait: wait)
        } catch {
            throw error.at(path(directory))
        }
    }

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
        _ directory: String, _ file: File, _ claim: StoreClaim, fencedTerm: UInt64? = nil
    ) throws(StoreError) -> StoreLock {
        let last = try StoreHolder.read(directory: directory)
        if let last, !last.isReleased, last.host != claim.host, last.term != fencedTerm {
            // The flock is this host's word only: the other may write on.
            guard claim.fence?(last) ?? false else {
                throw .heldElsewhere(directory: directory, holder: last)
            }
        }
        let text = Array("\(getpid())\n".utf8)
        do throws(FileError) {
            try file.truncate(to: 0)
            try file.write(text, start: 0, count: text.count, offset: 0)
            let block = try File(StoreHolder.path(directory), O_RDWR | O_CREAT)
            let holder = StoreHolder(
                term: (last?.term ?? 0) + 1, beat: 0, process: getpid(), host: claim.host,
                address: claim.address, isReleased: false)
            do throws(FileError) {
                let heartbeat = try StoreHeartbeat(holder, file: block, onLost: claim.onLost)
                return StoreLock(directory: directory, file: file, heartbeat: heartbeat)
            } catch {
                block.close()
                throw error
            }
        } catch {
            throw error.at(path(directory))
        }
    }

    private static func holder(_ file: File) -> Int32? {
        guard let bytes = try? file.read(offset: 0, count: 16) else { return nil }
        return Int32(String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self))
    }
}
