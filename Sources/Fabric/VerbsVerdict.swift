/// Whether a node at an address can be reached by RDMA.
public enum VerbsVerdict: Sendable, Equatable {
    case usable(device: String, FabricSurvey.Driver)
    /// A soft-RoCE device can be made on the interface.
    case creatable(interface: String)
    case unusable(String)
}

extension FabricSurvey {
    /// What a node at an IPv4 address (host order) can do with RDMA here, and why not.
    public func verdict(on address: UInt32) -> VerbsVerdict {
        let text = Self.text(address)
        guard let found = self.address(address) else {
            // All of 127/8 is this machine's, whether an interface names it or not.
            if address >> 24 == 127 {
                return .unusable("\(text) is a loopback address, which no RDMA device has")
            }
            return .unusable("\(text) is no address of this machine")
        }
        guard let device = found.device else { return creation(on: found) }
        guard
            let port = ports.first(where: { port in
                port.device == device
                    && (ports.filter { $0.device == device }.count == 1
                        || port.gids.contains { $0.address == text })
            })
        else { return .unusable("\(device) has no port with a GID of \(text)") }
        if let problem = problem(of: port, at: text) { return .unusable(problem) }
        return .usable(device: device, port.driver)
    }

    /// Why a port cannot serve an address; nil where it can.
    func problem(of port: Port, at address: String?) -> String? {
        if let error = port.error { return "\(port.device): \(error)" }
        guard port.isActive else {
            return "port \(port.number) of \(port.device) is \(port.state), not ACTIVE"
        }
        if port.transport == "RoCE", let address,
            !port.gids.contains(where: { $0.address == address && $0.type == "RoCE v2" })
        {
            return "\(port.device) has no RoCE v2 GID of \(address)"
        }
        return memoryProblem
    }

    /// Why registering memory would fail; nil where it would not.
    public var memoryProblem: String? {
        guard !process.mayLockMemory, process.lockedBytesMax < registeredBytes else { return nil }
        return "RLIMIT_MEMLOCK is \(process.lockedBytesMax >> 10) KiB, and a node with RDMA "
            + "registers \(registeredBytes >> 10) KiB (ulimit -l)"
    }

    /// Whether a soft-RoCE device can be made where the address is.
    private func creation(on address: Address) -> VerbsVerdict {
        let none = "no RDMA device has \(address.address)"
        if address.isLoopback {
            return .unusable("\(address.address) is a loopback address, which no RDMA device has")
        }
        if let problem = creationProblem(on: address.interface) {
            return .unusable("\(none), and no soft-RoCE is made: \(problem)")
        }
        return .creatable(interface: address.interface)
    }

    /// Why a soft-RoCE device cannot be made on an interface; nil where it can be tried.
    public func creationProblem(on interface: String) -> String? {
        if addresses.contains(where: { $0.interface == interface && $0.isLoopback }) {
            return "\(interface) is the loopback interface"
        }
        if addresses.contains(where: { $0.interface == interface && $0.device != nil }) {
            return "\(interface) has an RDMA device"
        }
        if !addresses.contains(where: { $0.interface == interface && $0.isUp }) {
            return "\(interface) is down"
        }
        if modules["rdma_rxe"] ?? .missing == .missing {
            return "module rdma_rxe is not among those of kernel \(kernel)"
        }
        if isInitialNamespace == false {
            return "this is not the initial network namespace, and soft-RoCE works in no other"
        }
        if !process.mayAdministerNetwork { return "that needs CAP_NET_ADMIN" }
        return memoryProblem
    }
}
