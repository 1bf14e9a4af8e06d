public import ClientCore
import LNetCore
import NodeCore
public import Primitives
import PtlRPCCore
public import WireFormat

extension Scenario {
    /// Something did not come to its end, or not to the right one.
    public struct Stuck: Error, CustomStringConvertible {
        public var description: String
        public init(description: String) { self.description = description }
    }

    /// Runs the operation to its end, at most a minute of virtual time.
    @discardableResult
    public func perform(_ client: Int, _ operation: FileOperation) throws -> FileResult {
        let cookie = submit(client, operation)
        let isDone = simulator.run(until: simulator.now + .seconds(60)) {
            self.result(client, cookie) != nil
        }
        guard isDone, let result = result(client, cookie) else {
            throw Stuck(description: "\(operation) does not end; \(state(client))")
        }
        return try result.get()
    }

    /// What a client and its servers are doing, for post-mortems.
    public func state(_ client: Int) -> String {
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
            + targets.indices.dropLast().compactMap {
                simulator.server(servers[0])?.importSummary($0)
            }.map {
                "\($0.state.name) i\($0.instance) sent \($0.sentCount) queued \($0.queuedCount) "
                    + $0.history.entries.map { "\($0.state.name)@\($0.at.nanoseconds / 1000)" }
                    .joined(separator: " ")
            }.joined(separator: "\n")
    }

    /// Opens a file of the root directory.
    public func open(
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

    /// Reads bytes of an open file.
    public func read(_ client: Int, _ handle: FileHandle, _ offset: UInt64, _ count: Int) throws
        -> [UInt8]
    {
        let result = try perform(client, .read(handle, offset: offset, byteCount: count))
        guard case .bytes(let bytes) = result else {
            throw Stuck(description: "read gave \(result)")
        }
        return bytes
    }

    /// The names in a directory, at most 4096.
    public func names(_ client: Int, in directory: FileID = .root) throws -> [String] {
        let result = try perform(
            client, .readdir(directory, after: nil, entryCountMax: 4096))
        guard case .entries(let entries, _) = result else {
            throw Stuck(description: "readdir gave \(result)")
        }
        return entries.map(\.name.text)
    }

    /// Lets everything run for a while.
    public func settle(_ interval: TickInterval = .milliseconds(500)) {
        _ = simulator.run(until: simulator.now + interval)
    }

    /// Announces, hands over to a standby with `versions`, and waits until that serves.
    public func upgrade(_ place: Int, to versions: ClosedRange<ProtocolVersion>) throws {
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
        simulator.stop(old)
        try simulator.activate(standby)
        servers[place] = standby
    }

    /// Kills a server and starts another instance of the same build on its store.
    public func crash(_ place: Int, versions: ClosedRange<ProtocolVersion>) throws {
        try crash([place], versions: names.map { _ in versions })
    }

    /// Kills servers in one instant, and starts other instances of the same builds after a while.
    public func crash(
        _ places: [Int], versions: [ClosedRange<ProtocolVersion>],
        awayFor pause: TickInterval = .milliseconds(20)
    ) throws {
        let partners = places.map {
            simulator.server(servers[$0])?.configuration.lnet.nid != Self.nid($0)
        }
        for place in places { simulator.kill(servers[place]) }
        trace?(line("killed \(places.map { names[$0] })"))
        settle(pause)
        for (place, isPartner) in zip(places, partners) {
            servers[place] = try simulator.addServer(
                configuration(place, versions: versions[place], partner: isPartner),
                store: stores[place])
        }
    }

    /// Announces and gives it up after a while. Where that is too late the upgrade goes through;
    /// gives what the target runs in the end.
    public func abortUpgrade(
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

    /// Gives a server an order, as a signal would.
    public func order(_ node: Int, _ start: UpgradeStart) {
        let now = simulator.now
        _ = simulator.withServer(node) { $0.beginStop(start, now: now) }
    }

    /// The last line that a server logged about an upgrade.
    public func lastLog(_ node: Int) -> String {
        for entry in serverLog.reversed() where entry.server == node {
            if case .log(.upgrade(let line)) = entry.action { return line }
        }
        return ""
    }

    /// A stop that is ordered of a target that recovers is refused with the reason.
    public func orderStopWhileRecovering(_ place: Int) throws {
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
