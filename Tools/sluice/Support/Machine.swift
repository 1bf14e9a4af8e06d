import Foundation
import Glibc
import Primitives
import WireFormat

/// What this machine can tell: addresses, memory, descriptors.
enum Machine {
    /// An address for a client of `server`: a random one of 127.64.0.0/10 on loopback, so that many
    /// clients live on one machine; else the one that the kernel would send from.
    static func clientNID(toReach server: NID) throws -> NID {
        if server.isLarge {
            let own = NID(
                ip: try sourceAddressV6(toReach: server), type: server.type,
                number: server.number)
            guard own != server else {
                throw Failure(
                    "\(server) is this machine's own address, and the only one that leads there: "
                        + "add another to the interface and name it with --nid")
            }
            return own
        }
        if server.address >> 24 == 127 {
            var generator = SystemRandomNumberGenerator()
            let low = UInt32.random(in: 1..<0x40_0000 - 1, using: &generator)
            return NID(
                address: 0x7F40_0000 | low, type: server.type, number: server.number)
        }
        return NID(
            address: try sourceAddress(toReach: server), type: server.type,
            number: server.number)
    }

    /// As `sourceAddress`, of IPv6.
    private static func sourceAddressV6(toReach server: NID) throws -> IPAddress {
        let socket = Glibc.socket(AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
        guard socket >= 0 else { throw Failure("no socket to be had: \(errnoText())") }
        defer { close(socket) }
        let ip = server.ip
        var peer = sockaddr_in6()
        peer.sin6_family = sa_family_t(AF_INET6)
        peer.sin6_port = in_port_t(988).bigEndian
        // SAFETY: the address is 16 bytes of plain memory.
        unsafe withUnsafeMutableBytes(of: &peer.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: ip.high.bigEndian, as: UInt64.self)
            unsafe bytes.storeBytes(of: ip.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        // SAFETY: both structs are IPv6 socket addresses of the size that is passed.
        let connected = unsafe withUnsafePointer(to: &peer) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
        guard connected == 0 else { throw Failure("no route to \(server): \(errnoText())") }
        var own = sockaddr_in6()
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let named = unsafe withUnsafeMutablePointer(to: &own) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(socket, $0, &size)
            }
        }
        guard named == 0 else { throw Failure("no route to \(server): \(errnoText())") }
        // SAFETY: as above.
        return unsafe withUnsafeBytes(of: &own.sin6_addr) { bytes in
            IPAddress(
                high: UInt64(bigEndian: unsafe bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(
                    bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    /// The address from which datagrams to `server` would go; nothing is sent.
    private static func sourceAddress(toReach server: NID) throws -> UInt32 {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard socket >= 0 else { throw Failure("no socket to be had: \(errnoText())") }
        defer { close(socket) }
        var peer = sockaddr_in()
        peer.sin_family = sa_family_t(AF_INET)
        peer.sin_port = in_port_t(988).bigEndian
        peer.sin_addr = in_addr(s_addr: server.address.bigEndian)
        // SAFETY: both structs are IPv4 socket addresses of the size that is passed.
        let connected = unsafe withUnsafePointer(to: &peer) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw Failure("no route to \(server): \(errnoText())") }
        var own = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = unsafe withUnsafeMutablePointer(to: &own) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(socket, $0, &size)
            }
        }
        guard named == 0 else { throw Failure("no route to \(server): \(errnoText())") }
        return UInt32(bigEndian: own.sin_addr.s_addr)
    }

    static func errnoText(_ code: Int32 = errno) -> String {
        // SAFETY: the C library returns a text that lives until this thread asks again.
        unsafe String(cString: strerror(code))
    }

    /// The most memory that a process ever had, in KiB; 0 where it is gone.
    static func peakMemoryKiB(of process: pid_t) -> Int {
        let text = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        guard let line = text?.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") })
        else { return 0 }
        return line.split(separator: " ").compactMap { Int($0) }.first ?? 0
    }

    /// Open file descriptors of a process; 0 where it is gone.
    static func descriptorCount(of process: pid_t) -> Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count) ?? 0
    }

    /// Removes a local file, if it is there.
    static func remove(_ path: String) {
        // SAFETY: the text lives for the call.
        _ = unsafe unlink(path)
    }

    /// Puts a local file in another's place; says why not, where that fails.
    static func rename(_ path: String, to destination: String) -> String? {
        // SAFETY: the texts live for the call.
        unsafe Glibc.rename(path, destination) == 0 ? nil : errnoText()
    }

    /// This program's own file.
    static var executablePath: String {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            ?? CommandLine.arguments[0]
    }
}
