/// A memory descriptor named across the wire: `struct lnet_handle_wire` (lnet-idl.h). Opaque to
/// everybody but its maker, who gets it back byte for byte.
///
/// | offset | size | field             | meaning                  |
/// |-------:|-----:|-------------------|--------------------------|
/// |      0 |    8 | `interfaceCookie` | one node in one lifetime |
/// |      8 |    8 | `objectCookie`    | the descriptor           |
@frozen
public struct WireHandle: Hashable, Sendable, BitwiseCopyable {
    public var interfaceCookie: UInt64
    public var objectCookie: UInt64

    @inlinable
    public init(interfaceCookie: UInt64, objectCookie: UInt64) {
        self.interfaceCookie = interfaceCookie
        self.objectCookie = objectCookie
    }

    public static let encodedSize = 16
    /// LNET_WIRE_HANDLE_COOKIE_NONE in both: "send no ACK".
    public static let none = WireHandle(interfaceCookie: .max, objectCookie: .max)
}
