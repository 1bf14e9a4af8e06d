public import WireFormat

extension RPCServer {
    /// The abilities agreed with a client; none for an export that is not in use. Constant time.
    public func features(of export: UInt32) -> Features {
        exports.contains(export) ? exports[export].features : []
    }
}
