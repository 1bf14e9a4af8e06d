public import WireFormat

extension RPCClient {
    /// What was agreed on with a target at the last connect; nothing before the first. Constant
    /// time, unlike `summary`.
    public func features(_ index: Int) -> Features { imports[index].features }

    /// The version that was agreed on at the last connect.
    public func version(_ index: Int) -> ProtocolVersion { imports[index].version }
}
