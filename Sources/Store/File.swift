internal import CLMDB
internal import Glibc

/// What a system call refused: a negative errno and the call's name.
struct FileError: Error {
    var code: Int32
    var call: String

    static func last(_ call: String) -> FileError { FileError(code: -errno, call: call) }

    func at(_ path: String) -> StoreError { StoreError(code: code, path: path, call: call) }
}

/// An open file or directory. Closed by whoever owns it; calls are retried over signals.
struct File: Sendable {
    let descriptor: Int32

    init(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws(FileError) {
        while true {
            let result = unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
            if result >= 0 {
                descriptor = result
                return
            }
            if errno != EINTR { throw .last("open") }
        }
    }

    /// A descriptor that somebody else owns.
    init(descriptor: Int32) { self.descriptor = descriptor }

    func close() { _ = Glibc.close(descriptor) }

    func size() throws(FileError) -> UInt64 {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw .last("fstat") }
        return UInt64(status.st_size)
    }

    /// Up to `count` bytes from `offset` on; fewer only at the end of the file.
    func read(offset: UInt64, count: Int) throws(FileError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                // SAFETY: the read stays within `count` bytes of the buffer.
                let result = unsafe pread(
                    descriptor, buffer.baseAddress.unsafelyUnwrapped + filled, count - filled,
                    off_t(offset) + off_t(filled))
                if result == 0 { return }
                if result > 0 {
                    filled += result
                } else if errno != EINTR {
                    failure = -errno
                    return
                }
            }
        }
        if failure != 0 { throw FileError(code: failure, call: "read") }
        return bytes
    }

    /// Writes `bytes[start ..< start + count]` at `offset`, all of it.
    func write(_ bytes: [UInt8], start: Int, count: Int, offset: UInt64) throws(FileError) {
        precondition(start >= 0 && count >= 0 && start + count <= bytes.count)
        var failure: Int32 = 0
        unsafe bytes.withUnsafeBytes { buffer in
            var done = 0
            while done < count {
                // SAFETY: the precondition bounds start + count within the array.
                let result = unsafe pwrite(
                    descriptor, buffer.baseAddress.unsafelyUnwrapped + start + done,
                    count - done, off_t(offset) + off_t(done))
                if result >= 0 {
                    done += result
                } else if errno != EINTR {
                    failure = -errno
                    return
                }
            }
        }
        if failure != 0 { throw FileError(code: failure, call: "write") }
    }

    func truncate(to size: UInt64) throws(FileError) {
        while ftruncate(descriptor, off_t(size)) != 0 {
            if errno != EINTR { throw .last("truncate") }
        }
    }

    /// Makes a range read as zeros.
    func zero(offset: UInt64, count: UInt64) throws(FileError) {
        let result = clmdb_file_zero(descriptor, offset, count)
        if result != 0 { throw FileError(code: result, call: "zeroing a range") }
    }

    /// Waits until data and size are on the disk.
    func syncData() throws(FileError) {
        guard fdatasync(descriptor) == 0 else { throw .last("fdatasync") }
    }

    /// Waits until the file, or a directory's entries, are on the disk.
    func sync() throws(FileError) {
        guard fsync(descriptor) == 0 else { throw .last("fsync") }
    }

    /// Waits until everything of this file system is on the disk.
    func syncFileSystem() throws(FileError) {
        let result = clmdb_file_sync_system(descriptor)
        if result != 0 { throw FileError(code: result, call: "syncfs") }
    }

    /// Takes the exclusive lock of the open file. False when somebody else has it and `wait` is
    /// not set.
    func lock(wait: Bool) throws(FileError) -> Bool {
        while flock(descriptor, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return false }
            if errno != EINTR { throw .last("flock") }
        }
        return true
    }

    enum Kind { case absent, file, directory, other }

    /// What stands at a path.
    static func kind(of path: String) throws(FileError) -> Kind {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            if errno == ENOENT { return .absent }
            throw .last("stat")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .file
        case S_IFDIR: return .directory
        default: return .other
        }
    }

    /// True when the directory was made, false when it was there.
    @discardableResult
    static func makeDirectory(_ path: String) throws(FileError) -> Bool {
        if unsafe mkdir(path, 0o700) == 0 { return true }
        if errno == EEXIST { return false }
        throw .last("mkdir")
    }

    /// Removes a file; one that is not there is removed already.
    static func remove(_ path: String) throws(FileError) {
        if unsafe unlink(path) != 0, errno != ENOENT { throw .last("unlink") }
    }

    /// Names of what stands in a directory, in no order.
    static func entries(of path: String) throws(FileError) -> [String] {
        guard let directory = unsafe opendir(path) else { throw .last("opendir") }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        // SAFETY: the entry lives until the next call of readdir, and its name is terminated.
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe String(cString: UnsafeRawPointer(name).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Makes the entries of a directory durable.
    static func syncDirectory(_ path: String) throws(FileError) {
        let directory = try File(path, O_RDONLY | O_DIRECTORY)
        defer { directory.close() }
        try directory.sync()
    }
}

/// Nanoseconds of the monotonic clock, for statistics and deadlines of the shell.
func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}
