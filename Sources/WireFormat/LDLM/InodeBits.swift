/// Aspects of an inode that are locked apart from one another: `MDS_INODELOCK_*` (lustre_idl.h).
@frozen
public struct InodeBits: OptionSet, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt64
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The entry in its directory, and what kind of inode it is.
    public static let lookup = InodeBits(rawValue: 0x1)
    /// Size, links, times; of a directory its entries.
    public static let update = InodeBits(rawValue: 0x2)
    /// An open handle.
    public static let open = InodeBits(rawValue: 0x4)
    /// Where the data are.
    public static let layout = InodeBits(rawValue: 0x8)
    /// Owner and mode.
    public static let perm = InodeBits(rawValue: 0x10)
    /// Extended attributes.
    public static let xattr = InodeBits(rawValue: 0x20)
    /// Data kept on the metadata server.
    public static let dataOnMDT = InodeBits(rawValue: 0x40)

    /// All of them; others are refused.
    public static let known: InodeBits = [
        .lookup, .update, .open, .layout, .perm, .xattr, .dataOnMDT,
    ]
}

extension LockPolicy {
    /// Inode bits without group or initiator; `welcome` are taken only where they are free
    /// (`try_bits`).
    public static func bits(_ bits: InodeBits, welcome: InodeBits = []) -> LockPolicy {
        .inodeBits(bits.rawValue, other: welcome.rawValue, group: 0, initiator: 0)
    }

    /// The inode bits of a policy that has them.
    public var inodeBits: InodeBits {
        if case .inodeBits(let bits, _, _, _) = self { InodeBits(rawValue: bits) } else { [] }
    }
}
