/// What the shell is to do for the core. Keys name connections; addresses are IPv4 in host order.
public enum LNetAction: Equatable, Sendable {
    /// Connect a socket from the node's address; report `established` or `closed`.
    case connect(
        connectionKey: UInt64, from: UInt32, to: UInt32, port: UInt16, privileged: Bool)
    /// Close the socket. The core has forgotten the key: nothing is reported back.
    case close(connectionKey: UInt64)
    /// Output waits: call `withOutput` now and whenever the socket is writable until all is taken.
    case flush(connectionKey: UInt64)
}
