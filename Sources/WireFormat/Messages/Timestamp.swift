/// A point of wall-clock time. Version 1 carries whole seconds, later versions nanoseconds too.
@frozen
public struct Timestamp: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var seconds: Int64
    /// 0..<1,000,000,000.
    public var nanoseconds: UInt32

    public init(seconds: Int64, nanoseconds: UInt32 = 0) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    public static let zero = Timestamp(seconds: 0)

    public static func < (a: Timestamp, b: Timestamp) -> Bool {
        (a.seconds, a.nanoseconds) < (b.seconds, b.nanoseconds)
    }

    public func encode(into writer: inout WireWriter, _ version: ProtocolVersion) {
        writer.write(seconds)
        if version >= .v2 { writer.u32(nanoseconds) }
    }

    public init(from reader: inout WireReader, _ version: ProtocolVersion) throws(WireError) {
        seconds = try reader.read()
        nanoseconds = version >= .v2 ? try reader.u32() : 0
        guard nanoseconds < 1_000_000_000 else {
            throw .badValue(field: "nanoseconds", value: UInt64(nanoseconds))
        }
    }
}
