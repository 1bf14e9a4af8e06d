/// Where an RDMA WRITE may go: memory of the peer. Source: `struct kib_rdma_desc` and
/// `struct kib_rdma_frag` (o2iblnd-idl.h), packed.
///
/// | offset  | size | field           | meaning               |
/// |--------:|-----:|-----------------|-----------------------|
/// |       0 |    4 | `key`           | the rkey of the sink  |
/// |       4 |    4 | count           | 1 to 257              |
/// |  8 + 12i |    4 | byte count      | of the i-th fragment  |
/// | 12 + 12i |    8 | address         | of the i-th fragment  |
public struct O2IBLNDDescriptor: Hashable, Sendable {
    /// A run of memory.
    @frozen
    public struct Fragment: Hashable, Sendable, BitwiseCopyable {
        public var byteCount: UInt32
        public var address: UInt64

        @inlinable
        public init(byteCount: UInt32, address: UInt64) {
            self.byteCount = byteCount
            self.address = address
        }
    }

    public var key: UInt32
    public var fragments: [Fragment]

    public init(key: UInt32, fragments: [Fragment]) {
        self.key = key
        self.fragments = fragments
    }

    /// IBLND_MAX_RDMA_FRAGS: LNET_MAX_IOV and one.
    public static let fragmentsMax = 257

    @inlinable
    public static func byteCount(fragments: Int) -> Int { 8 + 12 * fragments }

    public var encodedSize: Int { Self.byteCount(fragments: fragments.count) }

    /// Bytes of all fragments.
    public var totalBytes: Int { fragments.reduce(0) { $0 + Int($1.byteCount) } }

    /// Reads a descriptor at `offset` of a message. Refuses counts outside 1...257, fragments
    /// without bytes and totals that no LNet message has.
    public init(parsing bytes: RawSpan, at offset: Int) throws(WireError) {
        guard bytes.byteCount >= offset + 8 else {
            throw .truncated(need: offset + 8, have: bytes.byteCount)
        }
        let count: UInt32 = bytes.littleEndian(at: offset + 4)
        guard (1...UInt32(Self.fragmentsMax)).contains(count) else {
            throw .badLength(
                field: "kib_rdma_desc.rd_nfrags", value: UInt64(count),
                limit: UInt64(Self.fragmentsMax))
        }
        let end = offset + Self.byteCount(fragments: Int(count))
        guard bytes.byteCount >= end else {
            throw .truncated(need: end, have: bytes.byteCount)
        }
        key = bytes.littleEndian(at: offset)
        fragments = []
        fragments.reserveCapacity(Int(count))
        var total = 0
        for index in 0..<Int(count) {
            let place = offset + 8 + 12 * index
            let fragment = Fragment(
                byteCount: bytes.littleEndian(at: place),
                address: bytes.littleEndian(at: place + 4))
            guard fragment.byteCount > 0 else {
                throw .badValue(field: "kib_rdma_frag.rf_nob", value: 0)
            }
            total += Int(fragment.byteCount)
            guard total <= LNetHeader.payloadMax else {
                throw .badLength(
                    field: "kib_rdma_frag.rf_nob", value: UInt64(total),
                    limit: UInt64(LNetHeader.payloadMax))
            }
            guard fragment.address <= .max - UInt64(fragment.byteCount) else {
                throw .badValue(field: "kib_rdma_frag.rf_addr", value: fragment.address)
            }
            fragments.append(fragment)
        }
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(key)
        writer.u32(UInt32(fragments.count))
        for fragment in fragments {
            writer.u32(fragment.byteCount)
            writer.u64(fragment.address)
        }
    }
}
