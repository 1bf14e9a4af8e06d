internal import CFabric
internal import EventLoop
internal import Glibc

/// The IPv4 addresses of this machine, and the RDMA device that rdma_cm finds for each.
@safe
struct AddressFinder: ~Copyable {
    // SAFETY: owned; destroyed in `deinit`.
    private let cm: OpaquePointer?
    /// Why connections over RDMA cannot be tried; nil where they can.
    let problem: String?

    init() {
        var opened: OpaquePointer?
        // SAFETY: the out-parameter outlives the call.
        let status = unsafe fabric_cm_create(&opened)
        unsafe cm = status == 0 ? opened : nil
        problem =
            switch -status {
            case 0: nil
            case ENOSYS: "this build has no RDMA (package trait RDMA)"
            case ENODEV, ENOENT:
                "the kernel has no RDMA connection manager: module rdma_ucm is not loaded"
            case EACCES, EPERM: "/dev/infiniband/rdma_cm may not be opened"
            default: "rdma_create_event_channel: \(FabricError.text(forErrno: -status))"
            }
    }

    deinit { if let cm = unsafe cm { _ = unsafe fabric_cm_destroy(cm) } }

    func addresses() -> [FabricSurvey.Address] {
        var first: UnsafeMutablePointer<ifaddrs>?
        // SAFETY: the list is freed below and read before.
        guard unsafe getifaddrs(&first) == 0 else { return [] }
        defer { unsafe freeifaddrs(first) }
        var found: [FabricSurvey.Address] = []
        var next = unsafe first
        while let entry = unsafe next {
            let one = unsafe entry.pointee
            unsafe next = one.ifa_next
            guard let name = unsafe one.ifa_addr,
                unsafe name.pointee.sa_family == sa_family_t(AF_INET)
            else { continue }
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe name.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                unsafe UInt32(bigEndian: $0.pointee.sin_addr.s_addr)
            }
            let interface = unsafe String(cString: one.ifa_name)
            let flags = unsafe one.ifa_flags
            let isLoopback = flags & UInt32(IFF_LOOPBACK) != 0
            let mtu = FabricSurvey.contents("/sys/class/net/\(interface)/mtu").flatMap {
                Int($0.prefix { $0.isNumber })
            }
            found.append(
                FabricSurvey.Address(
                    address: FabricSurvey.text(address), interface: interface,
                    isUp: flags & UInt32(IFF_UP) != 0, isLoopback: isLoopback,
                    mtuBytes: mtu ?? 0, device: isLoopback ? nil : device(address)))
        }
        return found
    }

    /// The device that a listener at the address would be on.
    private func device(_ address: UInt32) -> String? {
        guard let cm = unsafe cm else { return nil }
        var made: OpaquePointer?
        guard unsafe fabric_identifier_create(cm, 0, &made) == 0, let identifier = unsafe made
        else { return nil }
        // SAFETY: the identifier lives until here; the device is owned by the library.
        defer { _ = unsafe fabric_identifier_destroy(identifier) }
        var found: OpaquePointer?
        guard unsafe fabric_identifier_bind(identifier, address, 0) == 0,
            unsafe fabric_identifier_device(identifier, &found) == 0, let device = unsafe found
        else { return nil }
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            // SAFETY: the shim writes at most 64 bytes and ends them with a zero.
            _ = unsafe fabric_device_name(device, buffer.baseAddress!, buffer.count)
            return unsafe String(cString: buffer.baseAddress!)
        }
    }
}
