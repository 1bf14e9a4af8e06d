/// Everything on a machine that decides how nodes there can be reached. A value: what follows from
/// it can be tested without the machine.
public struct FabricSurvey: Sendable, Equatable, Codable {
    /// What makes a device.
    public enum Driver: String, Sendable, Codable {
        case hardware
        /// Soft-RoCE.
        case rxe
        /// Soft iWARP.
        case siw

        public var words: String {
            switch self {
            case .hardware: "hardware"
            case .rxe: "soft-RoCE"
            case .siw: "soft iWARP"
            }
        }
    }

    public struct GID: Sendable, Equatable, Codable {
        public var index: UInt32
        /// `IB`, `RoCE v1` or `RoCE v2`.
        public var type: String
        /// As an IPv6 address is written; that of an IPv4 address ends with it.
        public var value: String
        public var interface: String?
        /// Connections from this IPv4 address use it; nil where none do.
        public var address: String?

        public init(
            index: UInt32, type: String, value: String, interface: String?, address: String?
        ) {
            self.index = index
            self.type = type
            self.value = value
            self.interface = interface
            self.address = address
        }
    }

    public struct Limits: Sendable, Equatable, Codable {
        public var mtuActiveBytes: UInt32
        public var mtuMaxBytes: UInt32
        public var messageBytesMax: UInt32
        public var queuePairsMax: UInt32
        public var memoryRegionsMax: UInt32
        public var sharedReceivesMax: UInt32
    }

    /// One port of an RDMA device.
    public struct Port: Sendable, Equatable, Codable {
        public var device: String
        public var number: UInt8
        public var driver: Driver
        /// `InfiniBand`, `RoCE` or `iWARP`.
        public var transport: String
        public var linkLayer: String
        public var state: String
        public var isActive: Bool
        public var limits: Limits
        public var gids: [GID]
        /// Why nothing of the above could be learned.
        public var error: String?
    }

    /// An IPv4 address of this machine.
    public struct Address: Sendable, Equatable, Codable {
        public var address: String
        public var interface: String
        public var isUp: Bool
        public var isLoopback: Bool
        public var mtuBytes: Int
        /// The RDMA device that rdma_cm finds for it.
        public var device: String?
    }

    public enum Module: String, Sendable, Codable {
        case loaded
        /// In the directory of this kernel's modules.
        case available
        case missing
    }

    public struct Process: Sendable, Equatable, Codable {
        /// RLIMIT_MEMLOCK in bytes; `.max` for no limit.
        public var lockedBytesMax: UInt64
        public var lockedBytesHardMax: UInt64
        /// RLIMIT_NOFILE.
        public var descriptorsMax: UInt64
        public var descriptorsHardMax: UInt64
        /// CAP_NET_ADMIN: interfaces and soft devices may be made.
        public var mayAdministerNetwork: Bool
        /// CAP_IPC_LOCK: the limit on locked memory does not count.
        public var mayLockMemory: Bool
        /// CAP_NET_BIND_SERVICE: ports below 1024.
        public var mayBindPrivilegedPorts: Bool
    }

    public var kernel: String
    /// Why there is no RDMA at all; nil where connections can be tried.
    public var verbsProblem: String?
    public var ports: [Port]
    public var addresses: [Address]
    /// ib_core, ib_uverbs, rdma_cm, rdma_ucm, rdma_rxe and siw.
    public var modules: [String: Module]
    /// Soft-RoCE works in the initial network namespace only; nil where it is not known which this
    /// is.
    public var isInitialNamespace: Bool?
    public var process: Process
    /// What a node with RDMA registers, in bytes.
    public var registeredBytes: UInt64

    public init(
        kernel: String, verbsProblem: String?, ports: [Port], addresses: [Address],
        modules: [String: Module], isInitialNamespace: Bool?, process: Process,
        registeredBytes: UInt64
    ) {
        self.kernel = kernel
        self.verbsProblem = verbsProblem
        self.ports = ports
        self.addresses = addresses
        self.modules = modules
        self.isInitialNamespace = isInitialNamespace
        self.process = process
        self.registeredBytes = registeredBytes
    }

    /// 10.1.2.3 for 0x0a010203.
    static func text(_ address: UInt32) -> String {
        "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
    }

    public func address(_ address: UInt32) -> Address? {
        let text = Self.text(address)
        return addresses.first { $0.address == text }
    }
}
