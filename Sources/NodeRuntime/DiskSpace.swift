internal import Glibc

/// Room on the file system that holds a store: statvfs(3).
struct DiskSpace {
    /// Bytes in all.
    var total: UInt64
    /// Bytes that anybody may use (f_bavail).
    var free: UInt64

    /// Nil where the system does not say.
    init?(at path: String) {
        var status = statvfs()
        guard unsafe statvfs(path, &status) == 0 else { return nil }
        let unit = UInt64(status.f_frsize)
        total = UInt64(status.f_blocks) &* unit
        free = UInt64(status.f_bavail) &* unit
    }
}
