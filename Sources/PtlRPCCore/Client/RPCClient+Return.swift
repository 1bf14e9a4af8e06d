import LNetCore
import Primitives
import WireFormat

/// The way back to the network that a target is best reached by.
///
/// An import's endpoints stand in order of preference, and so do the networks on which they are:
/// RDMA before TCP, say. Where a network failed, the import has gone on to an endpoint on a later
/// one. While it is there it asks by LNet ping, one endpoint on a better network at a time, whether
/// the node that it talks to can be reached by it: the answer lists that node's NIDs. A partner of
/// the node answers as well, but is another node. Then the import connects there; for its target it
/// is the same client, and what was under way is sent again.
extension RPCClient {
    /// When the next question is due; nil where there is no better network, or none is asked for.
    func returnDeadline(_ index: Int) -> Ticks? {
        guard let interval = configuration.returnInterval, imports[index].state == .full,
            imports[index].returnPing == nil, imports[index].trailer == nil,
            imports[index].parked == nil, !imports[index].isLeaving, !imports[index].isIdling,
            hasBetterNetwork(index)
        else { return nil }
        return max(imports[index].fullSince, imports[index].returnAskedAt) + interval
    }

    private func hasBetterNetwork(_ index: Int) -> Bool {
        imports[index].endpoints[0].nid.network != imports[index].nid.network
    }

    /// Asks the next endpoint on a better network.
    mutating func askForReturn(_ index: Int, _ lnet: inout LNetCore, _ now: Ticks) {
        let endpoints = imports[index].endpoints
        let network = imports[index].nid.network
        // Networks are as good as the first endpoint on them is early.
        let better = endpoints.prefix { $0.nid.network != network }
        let candidates = endpoints.filter { endpoint in
            better.contains { $0.nid.network == endpoint.nid.network }
        }
        guard !candidates.isEmpty else { return }
        let nid = candidates[imports[index].returnTurn % candidates.count].nid
        imports[index].returnTurn &+= 1
        imports[index].returnAskedAt = now
        imports[index].returnPing = lnet.ping(nid, timeout: configuration.connectTimeout, now: now)
    }

    /// A ping ended. False if it was not this client's.
    mutating func returnAnswered(
        _ ping: LNetEvent.Ping, _ lnet: inout LNetCore, _ now: Ticks
    ) -> Bool {
        guard let index = imports.firstIndex(where: { $0.returnPing == ping.id }) else {
            return false
        }
        imports[index].returnPing = nil
        guard imports[index].state == .full, imports[index].trailer == nil,
            imports[index].parked == nil, !imports[index].isLeaving, !imports[index].isIdling,
            let info = lnet.pingInfo(ping), hasBetterNetwork(index)
        else { return true }
        let here = imports[index].nid
        guard info.interfaces.contains(where: { $0.nid == here }) else { return true }
        let endpoint = imports[index].endpoint(for: ping.nid)
        imports[index].counters.returns &+= 1
        dropConnection(index, .switched, &lnet, now)
        abandonAttempt(index)
        startAttempt(index, at: endpoint, &lnet, now)
        return true
    }
}
