/// What an operator asks for with `--fabric`.
public enum FabricWish: String, Sendable, CaseIterable, Codable {
    /// RDMA where it can be had, else TCP; the log says why.
    case auto
    /// RDMA or nothing.
    case verbs
    /// TCP only.
    case tcp
}

/// Why a fabric that was insisted on, or every one there is, cannot be used: one sentence.
public struct FabricRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}
