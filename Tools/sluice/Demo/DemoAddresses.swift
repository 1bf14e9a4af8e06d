import Fabric
import Foundation
import WireFormat

/// Which NIDs the nodes of a demo have: each an address of its own.
struct DemoAddresses {
    /// Two for each target.
    let servers: [NID]
    private let clients: [NID]
    /// What was taken, and why not the rest.
    let line: String

    /// The administrator, and those that read back.
    private static let otherClientCount = 1 + Verification.nodeCount

    /// Loopback addresses for TCP; for RDMA those that RDMA devices of this machine have.
    init(_ wish: FabricWish, targetCount: Int, clientCount: Int) throws {
        let serverCount = 2 * targetCount
        let count = clientCount + Self.otherClientCount
        var refusal = "--fabric tcp"
        if wish != .tcp {
            switch Self.onRDMA(serverCount: serverCount, clientCount: count) {
            case .success(let found):
                servers = found.servers
                clients = found.clients
                line = "fabric \(wish.rawValue): \(found.words)"
                return
            case .failure(let why):
                guard wish == .auto else {
                    throw Failure("--fabric verbs: \(why); see sluice fabric")
                }
                refusal = why.description
            }
        }
        // Addresses from the process number, so that demos may run beside each other.
        let process = UInt32(getpid())
        let network: UInt32 = 127 << 24 | (1 + process % 60) << 16 | (process / 60 % 250) << 8
        servers = (0..<UInt32(serverCount)).map { index in
            NID(address: network | (10 * (index / 2 + 1) + index % 2 + 1), type: .tcp)
        }
        clients = (0..<count).map(DemoCluster.clientNID)
        line = "fabric \(wish.rawValue): tcp; not verbs: \(refusal)"
    }

    /// The `index`th client's; the administrator follows the load's clients, then the readers.
    func client(_ index: Int) -> NID { clients[index] }

    /// A server's and a client's NID on RDMA; nil where TCP is to be used instead.
    static func ends(_ wish: FabricWish) throws -> (server: NID, client: NID)? {
        guard wish != .tcp else { return nil }
        switch onRDMA(serverCount: 1, clientCount: 1) {
        case .success(let found):
            Output.note("fabric \(wish.rawValue): \(found.words)")
            return (found.servers[0], found.clients[0])
        case .failure(let why):
            guard wish == .auto else { throw Failure("--fabric verbs: \(why); see sluice fabric") }
            Output.note("fabric auto: tcp; not verbs: \(why)")
            return nil
        }
    }

    private struct Found {
        var servers: [NID]
        var clients: [NID]
        var words: String
    }

    private static func onRDMA(
        serverCount: Int, clientCount: Int
    ) -> Result<Found, FabricRefusal> {
        let survey = FabricSurvey.take()
        var byDevice: [(device: String, words: String, nids: [NID])] = []
        var refusal: String?
        for address in survey.addresses where !address.isLoopback {
            guard let nid = NID("\(address.address)@o2ib") else { continue }
            switch survey.verdict(on: nid.address) {
            case .usable(let device, let driver):
                if let place = byDevice.firstIndex(where: { $0.device == device }) {
                    byDevice[place].nids.append(nid)
                } else {
                    byDevice.append((device, driver.words, [nid]))
                }
            case .creatable(let interface):
                refusal =
                    refusal ?? "\(interface) has no RDMA device yet: "
                    + "rdma link add rxe_\(interface) type rxe netdev \(interface)"
            case .unusable(let why):
                refusal = refusal ?? why
            }
        }
        guard !byDevice.isEmpty else {
            return .failure(
                FabricRefusal(survey.verbsProblem ?? refusal ?? "no address is on an RDMA device"))
        }
        // Clients where most addresses are; servers elsewhere if they can, so that the cable is used.
        byDevice.sort { $0.nids.count > $1.nids.count }
        let other = byDevice.dropFirst().first { $0.nids.count >= serverCount }
        let servers = other?.nids ?? byDevice[0].nids
        let clients = other == nil ? Array(servers.dropFirst(serverCount)) : byDevice[0].nids
        guard servers.count >= serverCount, clients.count >= clientCount else {
            let have = byDevice.reduce(0) { $0 + $1.nids.count }
            return .failure(
                FabricRefusal(
                    "each node has an address of its own, and RDMA devices have \(have) where "
                        + "\(serverCount) for servers and \(clientCount) for clients are needed: "
                        + "add more with ip address add, or ask for fewer --clients"))
        }
        let serverDevice = other ?? byDevice[0]
        return .success(
            Found(
                servers: Array(servers.prefix(serverCount)),
                clients: Array(clients.prefix(clientCount)),
                words: "verbs, servers on \(serverDevice.device) (\(serverDevice.words)), clients "
                    + "on \(byDevice[0].device) (\(byDevice[0].words))"))
    }
}
