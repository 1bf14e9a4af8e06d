internal import Glibc

/// The machine's network interfaces by address.
enum NetworkDevices {
    /// The name of the interface that has this IPv4 address, or whose subnet holds it, as 127/8 is
    /// all of lo's; nil where there is none.
    static func name(of address: UInt32) -> String? {
        var first: UnsafeMutablePointer<ifaddrs>?
        // SAFETY: the list is the C library's until it is freed below; names are copied.
        guard unsafe getifaddrs(&first) == 0 else { return nil }
        defer { unsafe freeifaddrs(first) }
        var fallback: String?
        var next = unsafe first
        while let entry = unsafe next {
            defer { unsafe next = entry.pointee.ifa_next }
            guard let own = unsafe ipv4(entry.pointee.ifa_addr) else { continue }
            let name = unsafe String(cString: entry.pointee.ifa_name)
            if own == address { return name }
            if own >> 24 == 127, address >> 24 == 127 { fallback = name }
        }
        return fallback
    }

    private static func ipv4(_ name: UnsafeMutablePointer<sockaddr>?) -> UInt32? {
        guard let name = unsafe name, unsafe name.pointee.sa_family == UInt16(AF_INET) else {
            return nil
        }
        // SAFETY: the family says that this is an IPv4 socket address.
        return unsafe name.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
            UInt32(bigEndian: unsafe $0.pointee.sin_addr.s_addr)
        }
    }
}
