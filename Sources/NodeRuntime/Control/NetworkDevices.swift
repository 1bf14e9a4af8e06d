internal import Glibc
internal import Primitives

/// The machine's network interfaces by address.
enum NetworkDevices {
    /// The name of the interface that has this address, or whose subnet holds it, as 127/8 is all of
    /// lo's; nil where there is none.
    static func name(of address: IPAddress) -> String? {
        var first: UnsafeMutablePointer<ifaddrs>?
        // SAFETY: the list is the C library's until it is freed below; names are copied.
        guard unsafe getifaddrs(&first) == 0 else { return nil }
        defer { unsafe freeifaddrs(first) }
        var fallback: String?
        var next = unsafe first
        while let entry = unsafe next {
            defer { unsafe next = entry.pointee.ifa_next }
            guard let own = unsafe ip(in: entry.pointee.ifa_addr) else { continue }
            let name = unsafe String(cString: entry.pointee.ifa_name)
            if own == address { return name }
            if own.isV4, address.isV4, own.v4 >> 24 == 127, address.v4 >> 24 == 127 {
                fallback = name
            }
        }
        return fallback
    }

    private static func ip(in name: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
        guard let name = unsafe name else { return nil }
        switch Int32(unsafe name.pointee.sa_family) {
        case AF_INET:
            // SAFETY: the family says that this is an IPv4 socket address.
            return unsafe name.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                IPAddress(v4: UInt32(bigEndian: unsafe $0.pointee.sin_addr.s_addr))
            }
        case AF_INET6:
            // SAFETY: the family says that this is an IPv6 socket address.
            return unsafe name.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                let words = unsafe $0.pointee.sin6_addr.__in6_u.__u6_addr32
                return IPAddress(
                    high: UInt64(UInt32(bigEndian: words.0)) << 32
                        | UInt64(UInt32(bigEndian: words.1)),
                    low: UInt64(UInt32(bigEndian: words.2)) << 32
                        | UInt64(UInt32(bigEndian: words.3)))
            }
        default:
            return nil
        }
    }
}
