/// How much a lock excludes: `enum ldlm_mode` (lustre_idl.h). The raw values are one bit each.
@frozen
public enum LockMode: UInt32, Hashable, Sendable, BitwiseCopyable, CaseIterable {
    /// LCK_EX: alone.
    case ex = 1
    /// LCK_PW: writes, shares only with CR and NL.
    case pw = 2
    /// LCK_PR: reads, no writer beside it.
    case pr = 4
    /// LCK_CW: writes beside other writers.
    case cw = 8
    /// LCK_CR: reads beside writers.
    case cr = 16
    /// LCK_NL: holds a place, excludes nothing.
    case nl = 32
    /// LCK_GROUP: shared among holders of one group id.
    case group = 64
    /// LCK_COS: commit on sharing.
    case cos = 128
    /// LCK_TXN: one distributed transaction.
    case txn = 256

    /// The raw values of all modes that may be held together with this one.
    ///
    /// GROUP with GROUP needs equal group ids besides; that is judged where the policies are known.
    @inlinable
    public var compatibleMask: UInt32 {
        switch self {
        case .ex: 0b0_0010_0000
        case .pw: 0b0_0011_0000
        case .pr: 0b1_0011_0100
        case .cw: 0b0_0011_1000
        case .cr: 0b1_0011_1110
        case .nl: 0b1_1111_1111
        case .group: 0b0_0110_0000
        case .cos: 0b0_1010_0000
        case .txn: 0b1_0011_0100
        }
    }

    /// Whether a lock of this mode and one of `other` may be granted on one resource.
    @inlinable
    public func isCompatible(with other: LockMode) -> Bool {
        compatibleMask & other.rawValue != 0
    }

    /// Whether whoever holds this mode may do all that `other` allows.
    ///
    /// GROUP, COS and TXN stand only for themselves: their meaning is more than what they exclude.
    @inlinable
    public func covers(_ other: LockMode) -> Bool {
        switch self {
        case .ex: other.rawValue & 0b11_1111 != 0
        case .pw: other.rawValue & 0b11_1110 != 0
        case .pr: other.rawValue & 0b11_0100 != 0
        case .cw: other.rawValue & 0b11_1000 != 0
        case .cr: other.rawValue & 0b11_0000 != 0
        case .nl, .group, .cos, .txn: self == other
        }
    }

    /// 0 for EX to 8 for TXN: the place of a mode in an array of counts.
    @inlinable
    public var ordinal: Int { rawValue.trailingZeroBitCount }

    /// The number of modes.
    public static let count = 9
}

extension LockMode: CustomStringConvertible {
    /// `EX`, `PW` and so on, as Lustre prints them.
    public var description: String {
        switch self {
        case .ex: "EX"
        case .pw: "PW"
        case .pr: "PR"
        case .cw: "CW"
        case .cr: "CR"
        case .nl: "NL"
        case .group: "GROUP"
        case .cos: "COS"
        case .txn: "TXN"
        }
    }
}
