internal import CFabric
public import EventLoop
internal import Primitives

/// Soft-RoCE devices: made by netlink, as `rdma link add` does.
public enum SoftLink {
    /// The name of a device made on an interface.
    public static func name(on interface: String) -> String { "rxe_\(interface)" }

    /// Makes a device on an interface. It is up a moment later; nothing removes it but
    /// `rdma link delete`, or the end of the interface.
    ///
    /// Throws EPERM without CAP_NET_ADMIN, EPROTONOSUPPORT without ib_core, EINVAL where the module
    /// cannot be loaded.
    public static func create(on interface: String) throws(FabricError) {
        let name = name(on: interface)
        let status = unsafe name.withCString { name in
            unsafe interface.withCString { interface in
                // SAFETY: the texts end with a zero and outlive the call.
                unsafe fabric_link_create(name, "rxe", interface)
            }
        }
        try FabricError.check(status, "RDMA_NLDEV_CMD_NEWLINK")
    }

    /// Makes a device on the interface that has `address`, and waits until a connection could
    /// begin there. Returns why not; nil where it is up.
    public static func bringUp(on interface: String, address: UInt32) -> String? {
        do {
            try create(on: interface)
        } catch {
            // Another process was first.
            guard error.errno == 17 else { return error.description }
        }
        for _ in 0..<100 {
            if case .usable = FabricSurvey.take().verdict(on: address) { return nil }
            Host.sleep(.milliseconds(20))
        }
        if case .unusable(let why) = FabricSurvey.take().verdict(on: address) { return why }
        return "\(name(on: interface)) is not up after 2 s"
    }
}
