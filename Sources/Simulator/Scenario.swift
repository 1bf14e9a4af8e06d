public import ClientCore
public import NodeCore
import Primitives
public import StorageCore
public import WireFormat

/// A metadata server, object servers and clients in virtual time, with a call for each step.
///
/// Target 0 is the metadata target, those from 1 on are object targets. `servers` and `clients` hold
/// the nodes that are these now: an upgrade moves a target to its partner's node and back.
public final class Scenario {
    public let simulator: SimulatedCluster
    public let stores: [MemoryStore]
    public let names: [String]
    /// Nodes of the targets.
    public var servers: [Int] = []
    /// Nodes of the clients.
    public var clients: [Int] = []
    public internal(set) var uuids: [Int: String] = [:]
    /// By which number a client's node is addressed, where it is not its place.
    var numbers: [String: Int] = [:]
    /// What operations came to, by node and cookie.
    public internal(set) var results: [Int: [UInt64: Result<FileResult, OperationError>]] = [:]
    /// Everything else that clients told.
    public internal(set) var clientEvents: [(client: Int, event: ClientEvent)] = []
    /// Everything that servers told.
    public internal(set) var serverLog: [(server: Int, action: ServerAction)] = []
    public internal(set) var nextCookie: UInt64 = 1
    public let seed: UInt64
    /// Gets a line for whatever servers and clients tell, and for what is done to them.
    public var trace: ((String) -> Void)?
    /// Changes the configuration of every server and client that is made from now on.
    public var configureServer: (inout ServerConfiguration) -> Void = { _ in }
    public var configureClient: (inout ClientConfiguration) -> Void = { _ in }

    /// NIDs of a target, its own and its partner's.
    public static func nid(_ target: Int, partner: Bool = false) -> NID {
        NID(address: 0x0A00_0001 + UInt32(target) + (partner ? 100 : 0), type: .tcp)
    }

    public var targets: [ClientTarget] {
        names.indices.map { place in
            ClientTarget(
                name: names[place], kind: place == 0 ? .mds : .oss,
                index: UInt32(max(0, place - 1)),
                nids: [Self.nid(place), Self.nid(place, partner: true)])
        }
    }

    /// One metadata server and `objectServerCount` object servers, at most 63, serve at once;
    /// clients mount.
    public init(
        seed: UInt64, clientCount: Int, objectServerCount: Int = 2,
        versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported,
        options: SimulatedCluster.Options = .init()
    ) throws {
        precondition((0...63).contains(objectServerCount), "0 to 63 object servers")
        self.seed = seed
        names = ["t-MDT0000"] + (0..<objectServerCount).map(Self.objectTargetName)
        stores = names.map { _ in MemoryStore() }
        simulator = SimulatedCluster(seed: seed, options: options)
        simulator.onServer = { [unowned self] node, action in
            serverLog.append((node, action))
            if let trace {
                if case .commit = action {} else { trace(line("server \(node): \(action)")) }
            }
        }
        simulator.onClient = { [unowned self] node, event in
            if case .completed(let cookie, let result) = event {
                results[node, default: [:]][cookie] = result
            } else {
                clientEvents.append((node, event))
                if let trace {
                    if case .acknowledged = event {
                    } else {
                        trace(line("client \(node): \(event)"))
                    }
                }
            }
        }
        for place in names.indices {
            servers.append(
                try simulator.addServer(
                    configuration(place, versions: versions), store: stores[place]))
        }
        for number in 0..<clientCount { addClient(number) }
    }

    private static func objectTargetName(_ index: Int) -> String {
        let digits = String(index, radix: 16)
        return "t-OST" + String(repeating: "0", count: 4 - digits.count) + digits
    }

    func line(_ text: String) -> String { "\(simulator.now.nanoseconds / 1000) \(text)" }

    /// The configuration of a target's server in a build of these versions.
    public func configuration(
        _ place: Int, versions: ClosedRange<ProtocolVersion>, partner: Bool = false
    ) -> ServerConfiguration {
        var configuration = ServerConfiguration(
            targetName: names[place], kind: place == 0 ? .mds : .oss,
            targetIndex: UInt32(max(0, place - 1)),
            lnet: simulator.lnetConfiguration(Self.nid(place, partner: partner)),
            seed: seed &+ UInt64(place))
        configuration.versions = versions
        configuration.keepsAudit = true
        if place == 0 { configuration.objectTargets = Array(targets.dropFirst()) }
        configureServer(&configuration)
        return configuration
    }

    /// Adds a client of this number and lets it mount. Gives its node.
    @discardableResult
    public func addClient(_ number: Int) -> Int {
        let index = makeClient("client-\(number)", number: number)
        clients.append(index)
        return index
    }

    private func makeClient(_ uuid: String, number: Int) -> Int {
        var configuration = ClientConfiguration(
            uuid: uuid, targets: targets,
            seed: seed &+ UInt64(number) &* 77 &+ simulator.now.nanoseconds,
            wallSeconds: UInt64(simulator.wall.seconds))
        // Milliseconds on the scale of seconds << 20: lives may follow one another fast.
        configuration.xidStart =
            UInt64(simulator.wall.seconds) << 20
            + UInt64(simulator.wall.nanoseconds / 1_000_000) << 10
        configuration.reportsUpdates = true
        configureClient(&configuration)
        let nid = NID(address: 0x0A01_0001 + UInt32(number), type: .tcp)
        let index = simulator.addClient(configuration, nid: nid)
        uuids[index] = uuid
        return index
    }

    /// The next life of a client: on the same node and of the same name, or on another.
    public func replaceClient(_ place: Int, life: Int, isRestart: Bool) {
        let old = clients[place]
        let uuid = uuids[old]!
        simulator.kill(old)
        clients[place] =
            isRestart
            ? makeClient(uuid, number: numbers[uuid] ?? place)
            : makeClient("client-\(place).\(life)", number: 1000 * life + place)
        if !isRestart { numbers["client-\(place).\(life)"] = 1000 * life + place }
    }

    /// Submits an operation by a client's node. Gives the cookie of its result.
    public func submit(_ client: Int, _ operation: FileOperation) -> UInt64 {
        nextCookie += 1
        let cookie = nextCookie
        let wall = simulator.wall
        let now = simulator.now
        _ = simulator.withClient(client) {
            $0.submit(operation, cookie: cookie, wall: wall, now: now)
        }
        return cookie
    }

    /// What an operation came to; nil while it is under way.
    public func result(_ client: Int, _ cookie: UInt64) -> Result<FileResult, OperationError>? {
        results[client]?[cookie]
    }

}
