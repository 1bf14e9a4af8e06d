import Primitives

extension RPCServer {
    /// Whether bulk data of a client's request are on their way: it is at work, however slow.
    /// Linear in the pending requests.
    public func hasTransferUnderWay(_ export: UInt32) -> Bool {
        for place in 0..<requests.slotCount {
            guard let handle = requests.handle(at: place), let request = requests[handle],
                request.export == export
            else { continue }
            if case .fetching = request.state { return true }
            if case .putting = request.state { return true }
        }
        return false
    }
}
