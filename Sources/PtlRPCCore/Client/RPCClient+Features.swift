public import WireFormat

extension RPCClient {
    /// What was agreed on with a target at the last connect; nothing before the first. Constant
    /// time, unlike `summary`.
    public func features(_ index: Int) -> Features { imports[index].features }

    /// What the next connect says of the room that the target has set aside, bytes.
    public mutating func setGrantClaim(_ index: Int, _ byteCount: UInt32) {
        imports[index].grantClaim = byteCount
    }

    /// The version that was agreed on at the last connect.
    public func version(_ index: Int) -> ProtocolVersion { imports[index].version }
}
