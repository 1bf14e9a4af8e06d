/// An IPv4 address and a TCP port, both in host byte order.
@frozen
public struct Endpoint: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var address: UInt32
    public var port: UInt16

    @inlinable
    public init(address: UInt32, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// As `127.0.1.7:988`.
    public var description: String {
        "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255):\(port)"
    }
}
