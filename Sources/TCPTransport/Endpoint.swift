public import Primitives

/// An address and a TCP port.
@frozen
public struct Endpoint: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var address: IPAddress
    public var port: UInt16

    @inlinable
    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// An IPv4 address in host byte order.
    @inlinable
    public init(address: UInt32, port: UInt16) {
        self.init(address: IPAddress(v4: address), port: port)
    }

    /// As `127.0.1.7:988` or `[2001:db8::7]:988`.
    public var description: String {
        address.isV4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}
