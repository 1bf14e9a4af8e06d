public import Primitives
public import WireFormat

/// What the shell is to do for the core. Keys name connections.
public enum LNetAction: Equatable, Sendable {
    /// Of a connection over RDMA.
    case o2ib(O2IBAction)
    /// Connect a socket from the node's address; report `established` or `closed`.
    case connect(
        connectionKey: UInt64, from: IPAddress, to: IPAddress, port: UInt16, privileged: Bool)
    /// Close the socket. The core has forgotten the key: nothing is reported back.
    case close(connectionKey: UInt64)
    /// Read no more from the socket until `resume`: a router has no buffer for what it sends.
    case pause(connectionKey: UInt64)
    case resume(connectionKey: UInt64)
    /// Listen for connections to an interface that was added; report `listenFailed` otherwise.
    case listen(interface: Int, nid: NID)
    /// Listen on an interface no more.
    case unlisten(interface: Int)
    /// Output waits: call `withOutput` now and whenever the socket is writable until all is taken.
    case flush(connectionKey: UInt64)
}

/// What the shell is to do with RDMA connections and registered memory, in order. Addresses are IPv4 in
/// host order.
public enum O2IBAction: Equatable, Sendable {
    /// Connect from the node's address; report `o2ibEstablished`, `o2ibRefused` or `o2ibClosed`.
    case connect(
        connectionKey: UInt64, from: UInt32, to: UInt32, port: UInt16, privileged: Bool,
        privateData: [UInt8])
    /// Destroy the queue pair. The core has forgotten the key: nothing is reported back.
    case close(connectionKey: UInt64)
    /// Work waits: call `withO2IBWork` now and whenever there is room until everything is taken.
    case flush(connectionKey: UInt64)
    /// Reserve registered memory and answer with `bulkGranted`, at once or later.
    case reserve(request: UInt64, byteCount: Int, isSource: Bool)
    /// Show the slot's bytes to `bulkCollected`.
    case collect(request: UInt64, slot: BulkSlot, byteCount: Int)
    /// Copy bytes to a user's registered memory.
    case store(slot: BulkSlot, offset: Int, bytes: [UInt8])
    /// Nobody reads or writes the slot any more.
    case release(slot: BulkSlot)
}

/// What a request to connect is answered with.
public enum O2IBAnswer: Equatable, Sendable {
    /// Accept with this private data; the connection is known by this key.
    case accept(connectionKey: UInt64, privateData: [UInt8])
    case reject(privateData: [UInt8])
}
