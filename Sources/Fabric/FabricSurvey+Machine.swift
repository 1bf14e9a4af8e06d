internal import CFabric
internal import EventLoop
internal import Glibc
internal import VerbsTransport

extension FabricSurvey {
    /// Looks at this machine. Makes nothing and changes nothing; some milliseconds.
    public static func take() -> FabricSurvey {
        let finder = AddressFinder()
        let addresses = finder.addresses()
        var problem = finder.problem
        let ports = readPorts(addresses, &problem)
        return FabricSurvey(
            kernel: kernelRelease, verbsProblem: problem, ports: ports, addresses: addresses,
            modules: readModules(), isInitialNamespace: readNamespace(), process: readProcess(),
            registeredBytes: UInt64(VerbsTransport.Options().registeredBytes))
    }

    // MARK: Devices

    private static func readPorts(
        _ addresses: [Address], _ problem: inout String?
    ) -> [Port] {
        var raw = [fabric_port](repeating: fabric_port(), count: 64)
        let count = unsafe raw.withUnsafeMutableBufferPointer { raw in
            // SAFETY: the buffer holds the count that is passed.
            unsafe fabric_ports_list(raw.baseAddress!, Int32(raw.count))
        }
        if count == -ENOSYS, !VerbsTransport.isAvailable {
            problem = "this build has no RDMA (package trait RDMA)"
        } else if count == -ENOSYS {
            problem = "kernel \(kernelRelease) has no RDMA: module ib_uverbs is not loaded"
        } else if count < 0 {
            problem = "ibv_get_device_list: \(FabricError.text(forErrno: -count))"
        } else if count == 0, problem == nil {
            problem = "there is no RDMA device"
        }
        return raw.prefix(max(0, Int(count))).map { port($0, addresses) }
    }

    private static func port(_ raw: fabric_port, _ addresses: [Address]) -> Port {
        let device = unsafe withUnsafeBytes(of: raw.device) { unsafe text($0) }
        let driver: Driver =
            switch raw.vendor {
            case 0xff_ffff: .rxe
            case 0x62_6d74: .siw
            default: device.hasPrefix("rxe") ? .rxe : device.hasPrefix("siw") ? .siw : .hardware
            }
        let isEthernet = raw.link_layer == UInt8(FABRIC_LINK_ETHERNET)
        let transport =
            raw.transport == UInt8(FABRIC_TRANSPORT_IWARP)
            ? "iWARP" : isEthernet ? "RoCE" : "InfiniBand"
        let state =
            switch Int32(raw.state) {
            case FABRIC_PORT_DOWN: "DOWN"
            case FABRIC_PORT_INIT: "INIT"
            case FABRIC_PORT_ARMED: "ARMED"
            case FABRIC_PORT_ACTIVE: "ACTIVE"
            default: "state \(raw.state)"
            }
        return Port(
            device: device, number: raw.number, driver: driver, transport: transport,
            linkLayer: isEthernet ? "Ethernet" : "InfiniBand", state: state,
            isActive: raw.state == UInt8(FABRIC_PORT_ACTIVE),
            limits: Limits(
                mtuActiveBytes: raw.mtu_active, mtuMaxBytes: raw.mtu_max,
                messageBytesMax: raw.message_bytes_max, queuePairsMax: raw.pairs_max,
                memoryRegionsMax: raw.regions_max, sharedReceivesMax: raw.receives_max),
            gids: raw.error == 0 ? gids(device, raw.number) : [],
            error: raw.error == 0
                ? nil : "cannot be opened: \(FabricError.text(forErrno: -raw.error))")
    }

    private static func gids(_ device: String, _ port: UInt8) -> [GID] {
        var raw = [fabric_gid](repeating: fabric_gid(), count: 2048)
        let count = unsafe raw.withUnsafeMutableBufferPointer { raw in
            unsafe device.withCString { device in
                // SAFETY: the buffer holds the count that is passed; the text ends with a zero.
                unsafe fabric_port_gids(device, UInt32(port), raw.baseAddress!, Int32(raw.count))
            }
        }
        return raw.prefix(max(0, Int(count))).map { entry in
            let bytes = unsafe withUnsafeBytes(of: entry.raw) { unsafe [UInt8]($0) }
            let isMapped =
                bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[10] == 0xff
                && bytes[11] == 0xff
            let dotted = bytes.suffix(4).map { "\($0)" }.joined(separator: ".")
            let type =
                switch Int32(entry.type) {
                case FABRIC_GID_ROCE_V1: "RoCE v1"
                case FABRIC_GID_ROCE_V2: "RoCE v2"
                default: "IB"
                }
            return GID(
                index: entry.index, type: type,
                value: isMapped ? "::ffff:\(dotted)" : sixteen(bytes),
                interface: interfaceName(entry.interface), address: isMapped ? dotted : nil)
        }
    }

    private static func sixteen(_ bytes: [UInt8]) -> String {
        var address = in6_addr()
        _ = unsafe withUnsafeMutableBytes(of: &address) { unsafe $0.copyBytes(from: bytes) }
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            // SAFETY: both outlive the call, which writes at most 64 bytes.
            unsafe inet_ntop(AF_INET6, &address, buffer.baseAddress!, 64)
            return unsafe String(cString: buffer.baseAddress!)
        }
    }

    private static func interfaceName(_ index: UInt32) -> String? {
        guard index != 0 else { return nil }
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            // SAFETY: the buffer holds IF_NAMESIZE (16) bytes and more.
            guard unsafe if_indextoname(index, buffer.baseAddress!) != nil else { return nil }
            return unsafe String(cString: buffer.baseAddress!)
        }
    }

    // MARK: The kernel

    private static var kernelRelease: String {
        var names = utsname()
        // SAFETY: the struct outlives the call.
        guard unsafe uname(&names) == 0 else { return "?" }
        return unsafe withUnsafeBytes(of: names.release) { unsafe text($0) }
    }

    private static func readModules() -> [String: Module] {
        let list = contents("/lib/modules/\(kernelRelease)/modules.dep") ?? ""
        let builtin = contents("/lib/modules/\(kernelRelease)/modules.builtin") ?? ""
        var modules: [String: Module] = [:]
        for name in ["ib_core", "ib_uverbs", "rdma_cm", "rdma_ucm", "rdma_rxe", "siw"] {
            let isThere = exists("/sys/module/\(name)") || builtin.contains("/\(name).ko")
            modules[name] =
                isThere ? .loaded : list.contains("/\(name).ko") ? .available : .missing
        }
        return modules
    }

    /// Some of net.core's settings are shown in the initial namespace only.
    private static func readNamespace() -> Bool? {
        guard exists("/proc/sys/net/core/somaxconn") else { return nil }
        return exists("/proc/sys/net/core/netdev_max_backlog")
    }

    private static func readProcess() -> Process {
        var locked = rlimit()
        var descriptors = rlimit()
        // SAFETY: the structs outlive the calls.
        unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &locked)
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &descriptors)
        let status = contents("/proc/self/status") ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") } ?? ""
        let capabilities =
            line.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap {
                UInt64($0, radix: 16)
            } ?? 0
        func has(_ bit: UInt64) -> Bool { capabilities >> bit & 1 == 1 }
        return Process(
            lockedBytesMax: UInt64(locked.rlim_cur), lockedBytesHardMax: UInt64(locked.rlim_max),
            descriptorsMax: UInt64(descriptors.rlim_cur),
            descriptorsHardMax: UInt64(descriptors.rlim_max), mayAdministerNetwork: has(12),
            mayLockMemory: has(14), mayBindPrivilegedPorts: has(10))
    }

    // MARK: Texts

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
        // SAFETY: the view bounds the array.
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    private static func exists(_ path: String) -> Bool {
        // SAFETY: the text outlives the call.
        unsafe access(path, F_OK) == 0
    }

    /// A small file of the kernel's; nil where it cannot be read.
    static func contents(_ path: String) -> String? {
        // SAFETY: the text outlives the call; the buffer has the count that is passed.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < 4 << 20 {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe read(descriptor, $0.baseAddress!, $0.count)
            }
            guard count > 0 else { break }
            bytes += buffer.prefix(count)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
