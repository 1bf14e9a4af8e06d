import ClientCore
import class Foundation.ProcessInfo
import LNetCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import WireFormat

/// A metadata server, two object servers and clients in virtual time, with a call for each step.
final class Cluster {
    let simulator: SimulatedCluster
    let stores = [MemoryStore(), MemoryStore(), MemoryStore()]
    let names = ["t-MDT0000", "t-OST0000", "t-OST0001"]
    var servers: [Int] = []
    var clients: [Int] = []
    var uuids: [Int: String] = [:]
    /// By which number a client's node is addressed, where it is not its place.
    var numbers: [String: Int] = [:]
    var results: [Int: [UInt64: Result<FileResult, OperationError>]] = [:]
    var clientEvents: [(client: Int, event: ClientEvent)] = []
    var serverLog: [(server: Int, action: ServerAction)] = []
    var nextCookie: UInt64 = 1
    let seed: UInt64

    static func nid(_ target: Int, partner: Bool = false) -> NID {
        NID(address: 0x0A00_0001 + UInt32(target) + (partner ? 100 : 0), type: .tcp)
    }

    var targets: [ClientTarget] {
        [TargetKind.mds, .oss, .oss].enumerated().map { place, kind in
            ClientTarget(
                name: names[place], kind: kind, index: UInt32(max(0, place - 1)),
                nids: [Self.nid(place), Self.nid(place, partner: true)])
        }
    }

    init(
        seed: UInt64, clientCount: Int,
        versions: ClosedRange<ProtocolVersion> = ProtocolVersion.supported,
        options: SimulatedCluster.Options = .init()
    ) throws {
        self.seed = seed
        simulator = SimulatedCluster(seed: seed, options: options)
        simulator.onServer = { [unowned self] node, action in
            serverLog.append((node, action))
            if Self.isTracing {
                if case .commit = action {} else { trace("server \(node): \(action)") }
            }
        }
        simulator.onClient = { [unowned self] node, event in
            if case .completed(let cookie, let result) = event {
                results[node, default: [:]][cookie] = result
            } else {
                clientEvents.append((node, event))
                if Self.isTracing {
                    if case .acknowledged = event {} else { trace("client \(node): \(event)") }
                }
            }
        }
        for place in 0..<3 {
            servers.append(
                try simulator.addServer(
                    configuration(place, versions: versions), store: stores[place]))
        }
        for number in 0..<clientCount { addClient(number) }
    }

    /// `TRACE` in the environment: what servers and clients tell, as it happens.
    static let isTracing = ProcessInfo.processInfo.environment["TRACE"] != nil

    func trace(_ line: String) { print("\(simulator.now.nanoseconds / 1000) \(line)") }

    func configuration(
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
        return configuration
    }

    @discardableResult
    func addClient(_ number: Int) -> Int {
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
        let nid = NID(address: 0x0A01_0001 + UInt32(number), type: .tcp)
        let index = simulator.addClient(configuration, nid: nid)
        uuids[index] = uuid
        return index
    }

    /// The next life of a client: on the same node and of the same name, or on another.
    func replaceClient(_ place: Int, life: Int, isRestart: Bool) {
        let old = clients[place]
        let uuid = uuids[old]!
        simulator.kill(old)
        clients[place] =
            isRestart
            ? makeClient(uuid, number: numbers[uuid] ?? place)
            : makeClient("client-\(place).\(life)", number: 1000 * life + place)
        if !isRestart { numbers["client-\(place).\(life)"] = 1000 * life + place }
    }

    func submit(_ client: Int, _ operation: FileOperation) -> UInt64 {
        nextCookie += 1
        let cookie = nextCookie
        let wall = simulator.wall
        let now = simulator.now
        _ = simulator.withClient(client) {
            $0.submit(operation, cookie: cookie, wall: wall, now: now)
        }
        return cookie
    }

    func result(_ client: Int, _ cookie: UInt64) -> Result<FileResult, OperationError>? {
        results[client]?[cookie]
    }

    struct Stuck: Error, CustomStringConvertible {
        var description: String
    }

    /// Runs the operation to its end, at most a minute of virtual time.
    @discardableResult
    func perform(_ client: Int, _ operation: FileOperation) throws -> FileResult {
        let cookie = submit(client, operation)
        let isDone = simulator.run(until: simulator.now + .seconds(60)) {
            self.result(client, cookie) != nil
        }
        guard isDone, let result = result(client, cookie) else {
            throw Stuck(description: "\(operation) does not end; \(state(client))")
        }
        return try result.get()
    }

    func state(_ client: Int) -> String {
        guard let core = simulator.client(client)?.core else { return "no client" }
        return core.operationDescriptions.joined(separator: ", ") + "; "
            + targets.indices.map {
                let summary = core.summary($0)
                return "\(names[$0]): \(summary.state.name) sent \(summary.sentCount) queued "
                    + "\(summary.queuedCount) gate \(core.isGateOpen($0))"
            }.joined(separator: "; ")
            + "; servers "
            + servers.map { simulator.server($0).map { "\($0.phase)" } ?? "gone" }
            .joined(separator: ",")
            + "; "
            + serverLog.compactMap { entry -> String? in
                if case .commit = entry.action { nil } else { "\(entry)" }
            }.suffix(4).joined(separator: "\n")
            + "\n" + clientEvents.suffix(3).map { "\($0)" }.joined(separator: "\n")
            + "\nwaiting: \(simulator.server(servers[0])?.waitingDescription ?? "")"
            + "\nmdc: "
            + (0..<2).compactMap {
                simulator.server(servers[0])?.importSummary($0)
            }.map {
                "\($0.state.name) i\($0.instance) sent \($0.sentCount) queued \($0.queuedCount) "
                    + $0.history.entries.map { "\($0.state.name)@\($0.at.nanoseconds / 1000)" }
                    .joined(separator: " ")
            }.joined(separator: "\n")
    }

    func open(
        _ client: Int, _ name: String, create: Bool = true, stripes: UInt32 = 1
    ) throws -> FileHandle {
        let flags: OpenFlags = create ? [.read, .write, .create] : [.read, .write]
        let result = try perform(
            client,
            .open(at: .root, FileName(name)!, flags, mode: 0o644, stripeCount: stripes))
        guard case .opened(let handle, _, _) = result else {
            throw Stuck(description: "open gave \(result)")
        }
        return handle
    }

    func read(_ client: Int, _ handle: FileHandle, _ offset: UInt64, _ count: Int) throws -> [UInt8]
    {
        let result = try perform(client, .read(handle, offset: offset, byteCount: count))
        guard case .bytes(let bytes) = result else {
            throw Stuck(description: "read gave \(result)")
        }
        return bytes
    }

    func names(_ client: Int, in directory: FileID = .root) throws -> [String] {
        let result = try perform(
            client, .readdir(directory, after: nil, entryCountMax: 4096))
        guard case .entries(let entries, _) = result else {
            throw Stuck(description: "readdir gave \(result)")
        }
        return entries.map(\.name.text)
    }

    func settle(_ interval: TickInterval = .milliseconds(500)) {
        _ = simulator.run(until: simulator.now + interval)
    }

    /// Announces, hands over to a standby with `versions`, and waits until that serves.
    func upgrade(_ place: Int, to versions: ClosedRange<ProtocolVersion>) throws {
        let old = servers[place]
        let isPartner = simulator.server(old)?.configuration.lnet.nid == Self.nid(place)
        let standby = try simulator.addServer(
            configuration(place, versions: versions, partner: isPartner), store: stores[place],
            isStandby: true)
        var isStopped = simulator.server(old)?.phase == .stopped
        let before = simulator.onServer
        simulator.onServer = { node, action in
            before(node, action)
            if node == old, case .stop = action { isStopped = true }
        }
        order(old, UpgradeStart(next: Self.nid(place, partner: isPartner)))
        guard simulator.run(until: simulator.now + .seconds(60), { isStopped }) else {
            throw Stuck(
                description: "upgrade of \(names[place]) stays \(simulator.server(old)!.phase)")
        }
        simulator.onServer = before
        simulator.kill(old)
        try simulator.activate(standby)
        servers[place] = standby
    }

    /// Kills a server and starts another instance of the same build on its store.
    func crash(_ place: Int, versions: ClosedRange<ProtocolVersion>) throws {
        try crash([place], versions: [versions, versions, versions])
    }

    /// Kills servers in one instant, and starts other instances of the same builds.
    func crash(_ places: [Int], versions: [ClosedRange<ProtocolVersion>]) throws {
        let partners = places.map {
            simulator.server(servers[$0])?.configuration.lnet.nid != Self.nid($0)
        }
        for place in places { simulator.kill(servers[place]) }
        if Self.isTracing { trace("killed \(places.map { names[$0] })") }
        settle(.milliseconds(20))
        for (place, isPartner) in zip(places, partners) {
            servers[place] = try simulator.addServer(
                configuration(place, versions: versions[place], partner: isPartner),
                store: stores[place])
        }
    }

    /// Announces and gives it up after a while. Where that is too late the upgrade goes through;
    /// gives what the target runs in the end.
    func abortUpgrade(
        _ place: Int, after pause: TickInterval, versions: ClosedRange<ProtocolVersion>,
        orElse next: ClosedRange<ProtocolVersion>
    ) throws -> ClosedRange<ProtocolVersion> {
        let node = servers[place]
        order(node, UpgradeStart())
        settle(pause)
        order(node, UpgradeStart(isAbort: true))
        switch simulator.server(node)?.phase {
        case .serving?:
            return versions
        case .aborting?:
            let isBack = simulator.run(until: simulator.now + .seconds(10)) {
                self.simulator.server(node)?.phase == .serving
            }
            guard isBack else { throw Stuck(description: "\(names[place]) stays aborting") }
            return versions
        default:
            // Beyond the point of no return: told so, and it ends.
            guard lastLog(node).contains("refused") else {
                throw Stuck(description: "an abort that is too late gave \(lastLog(node))")
            }
            try upgrade(place, to: next)
            return next
        }
    }

    func order(_ node: Int, _ start: UpgradeStart) {
        let now = simulator.now
        _ = simulator.withServer(node) { $0.beginStop(start, now: now) }
    }

    func lastLog(_ node: Int) -> String {
        for entry in serverLog.reversed() where entry.server == node {
            if case .log(.upgrade(let line)) = entry.action { return line }
        }
        return ""
    }

    /// A stop that is ordered of a target that recovers is refused with the reason.
    func orderStopWhileRecovering(_ place: Int) throws {
        let node = servers[place]
        guard simulator.server(node)?.phase == .recovering else { return }
        order(node, UpgradeStart())
        guard lastLog(node).contains("recover"), simulator.server(node)?.phase == .recovering
        else {
            throw Stuck(
                description: "a stop during recovery gave \(lastLog(node)), "
                    + "\(simulator.server(node)!.phase)")
        }
    }
}
