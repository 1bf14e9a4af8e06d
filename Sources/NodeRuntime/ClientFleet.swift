public import ClientCore
import EventLoop
public import LNetCore
public import NodeCore
public import Primitives
public import WireFormat

/// Names an operation that was submitted, to cancel it by.
public struct OperationToken: Hashable, Sendable {
    let handle: SlotHandle
}

/// Many clients of file systems on one event loop: submit from any thread, or from the loop itself.
@safe
public final class ClientFleet: @unchecked Sendable {
    // Every stored property is immutable or locked but `reactor`, which belongs to the thread that
    // makes the fleet and then to the one that runs it.

    /// What an operation came to, on the loop's thread: be quick, and hand on what takes time.
    public typealias Completion = @Sendable (Result<FileResult, OperationError>) -> Void

    public struct Options: Sendable {
        /// How long the loop polls after the last useful event before it sleeps.
        public var spin = TickInterval.zero
        /// How many loops share this machine: with more than it has processors none of them spins.
        public var loopCount = 1
        /// The processor that the loop's thread is pinned to.
        public var cpu: Int?
        /// Further interfaces of the nodes that have one of these NIDs first.
        public var otherNIDs: [NID: [NID]] = [:]
        /// Accept connections, as the push that a target is up again needs.
        public var listens = true
        /// What lives on the loop and drives the nodes.
        public var driver: (any FleetDriver)?
        /// Everything that nodes tell beside completions. Called on the loop's thread.
        public var onEvent: (@Sendable (_ node: Int, ClientEvent, _ now: Ticks) -> Void)?

        public init() {}
    }

    public let nodeCount: Int
    private let loop: EventLoop
    private let mail: Mailbox<FleetMail>
    private let completions: FleetCompletions
    private var reactor: Reactor<FleetNodes>
    private let desk = NetworkDesk()
    private let thread = Lock<LoopThread?>(nil)
    private let failure = Lock<RuntimeError?>(nil)

    /// Makes the nodes and lets them listen; nothing is mounted and nobody runs the loop yet.
    ///
    /// Sets each node's incarnation to the time of day, and the second in which its XIDs begin.
    public init(
        nodes: [(LNetConfiguration, ClientConfiguration)], options: Options = Options()
    ) throws(RuntimeError) {
        SignalWatch.ignorePipe()
        var spin = options.spin
        if options.loopCount > Host.cpuCount { spin = .zero }
        do {
            try Host.raiseDescriptorLimit()
            loop = try EventLoop(spin: spin, cpu: options.cpu)
        } catch {
            throw .system(error)
        }
        nodeCount = nodes.count
        mail = Mailbox(for: loop)
        completions = FleetCompletions()
        let realtime = Host.realtimeNanoseconds
        var made: [ClientNode] = []
        made.reserveCapacity(nodes.count)
        for (index, node) in nodes.enumerated() {
            var (lnet, client) = node
            for nid in [lnet.nid] + lnet.otherNIDs {
                guard nid.isServable else { throw .notServable(nid) }
            }
            lnet.incarnation = realtime + UInt64(index)
            client.wallSeconds = realtime / 1_000_000_000
            made.append(ClientNode(lnet: lnet, client: client))
        }
        reactor = try Reactor(
            FleetNodes(made, options: options, mail: mail, completions: completions, loop: loop),
            desk: desk, on: loop)
        guard options.listens else { return }
        for index in nodes.indices { try reactor.listen(index) }
    }

    /// Makes a client of a cluster on each of the NIDs, which must be this machine's.
    ///
    /// - Parameter configure: changes what a client is told, before it is made.
    public convenience init(
        cluster: ClusterDescription, nids: [NID], options: Options = Options(),
        configure: (inout ClientConfiguration) -> Void = { _ in }
    ) throws(RuntimeError) {
        let realtime = Host.realtimeNanoseconds
        var random = SplitMix64(seed: realtime)
        let targets = cluster.clientTargets
        var nodes: [(LNetConfiguration, ClientConfiguration)] = []
        for nid in nids {
            guard nid.isServable else { throw .notServable(nid) }
            var lnet = LNetConfiguration(
                nid: nid, incarnation: realtime, acceptPort: cluster.acceptPort,
                privilegedPorts: cluster.privilegedPorts, seed: random.next())
            lnet.otherNIDs = options.otherNIDs[nid] ?? []
            lnet.reconnectQuickly()
            // At most 24 + 1 + 13 bytes.
            var client = ClientConfiguration(
                uuid: "\(nid)-\(String(realtime, radix: 36))", targets: targets,
                seed: random.next(), wallSeconds: realtime / 1_000_000_000)
            configure(&client)
            nodes.append((lnet, client))
        }
        try self.init(nodes: nodes, options: options)
    }

    /// Makes one node that only pings, and neither mounts nor listens.
    public convenience init(
        pingingFrom nid: NID, acceptPort: UInt16 = 988, privilegedPorts: Bool? = nil
    ) throws(RuntimeError) {
        guard nid.isServable else { throw .notServable(nid) }
        let nobody = ClusterDescription.Target(name: "none", kind: .mds, index: 0, nids: [nid])
        var options = Options()
        options.listens = false
        try self.init(
            cluster: ClusterDescription(
                targets: [nobody], acceptPort: acceptPort, privilegedPorts: privilegedPorts),
            nids: [nid], options: options)
    }

    // MARK: Running

    /// Runs the loop on the calling thread until `stop`.
    public func run() throws(RuntimeError) {
        defer {
            desk.close()
            reactor.close(on: loop)
        }
        reactor.core.begin(Moment(now: Host.monotonicNow))
        do {
            try loop.run(&reactor)
        } catch {
            reactor.core.nodes.end()
            throw .system(error)
        }
        reactor.core.nodes.end()
    }

    /// Runs the loop on a thread of its own until `stop`; `join` waits for the end.
    public func start(named name: String = "clients") throws(RuntimeError) {
        let body: @Sendable () -> Void = {
            do throws(RuntimeError) {
                try self.run()
            } catch {
                self.failure.withLock { $0 = error }
            }
        }
        do throws(FabricError) {
            let thread = try LoopThread(named: name, body)
            self.thread.withLock { $0 = thread }
        } catch {
            throw .system(error)
        }
    }

    /// Waits until the thread that `start` made has ended; throws why the loop could not go on.
    public func join() throws(RuntimeError) {
        let thread = self.thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        thread?.join()
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    // MARK: From any thread

    /// Ends the loop. Operations that have not ended fail with `.shutdown`; nothing is written back.
    public func stop() { mail.post(.stop) }

    /// Connects a node to its targets. Operations may be submitted before: they wait.
    public func mount(_ node: Int) { mail.post(.mount(node: node)) }

    /// Connects all nodes.
    public func mountAll() { mail.post(.mountAll) }

    /// Writes everything of a node back, gives up its locks, disconnects.
    public func unmount(_ node: Int, completion: @escaping @Sendable () -> Void) {
        let mail = mail
        if !completions.whileOpen({ mail.post(.unmount(node: node, completion)) }) { completion() }
    }

    /// Begins an operation. `completion` is called once, on the loop's thread.
    @discardableResult
    public func submit(
        node: Int, _ operation: FileOperation, completion: @escaping Completion
    ) -> OperationToken {
        precondition((0..<nodeCount).contains(node), "a node of this fleet")
        guard let handle = completions.insert(completion) else {
            completion(.failure(OperationError(.shutdown)))
            return OperationToken(handle: SlotHandle(index: 0, generation: 0))
        }
        mail.post(.submit(node: node, operation, handle))
        return OperationToken(handle: handle)
    }

    /// Takes an operation back that still waits at a gate; it fails with `.cancelled`. One that has
    /// passed the gate goes on to its end.
    public func cancel(_ token: OperationToken) { mail.post(.cancel(token.handle)) }

    /// Pings a node through LNet. `completion` is called on the loop's thread.
    public func ping(
        _ nid: NID, from node: Int = 0, timeout: TickInterval = .seconds(5),
        completion: @escaping @Sendable (Result<PingAnswer, PingFailure>) -> Void
    ) {
        network(of: node).ping(nid, timeout: timeout, completion: completion)
    }

    /// A node's LNet, for its control socket and others who operate it.
    public func network(of node: Int) -> NetworkAccess {
        let mail = mail
        return NetworkAccess(desk: desk) { body in mail.post(.network(node: node, body)) }
    }

    /// Shows what a node's LNet has counted, and its NIDs. Called on the loop's thread.
    public func inspectNetwork(
        _ node: Int, _ body: @escaping @Sendable (LNetCounters, [NID]) -> Void
    ) { mail.post(.network(node: node) { lnet, _ in body(lnet.counters, lnet.nids) }) }

    /// Runs `body` on the loop's thread with all nodes, to look at them: be quick, and keep no copy.
    ///
    /// - Returns: false where the loop has ended; `body` is not called then.
    @discardableResult
    public func inspectAll(
        _ body: @escaping @Sendable ([ClientNode], _ now: Ticks) -> Void
    ) -> Bool {
        let mail = mail
        return completions.whileOpen { mail.post(.inspectAll(body)) }
    }

    /// Breaks every connection of all nodes, sockets and queue pairs, as a fault of the network
    /// would. They connect again, and send again what was under way.
    public func breakConnections() { mail.post(.breakConnections) }

    /// Runs `body` on the loop's thread with a node's file system client, to look at it.
    public func inspect(_ node: Int, _ body: @escaping @Sendable (ClientCore) -> Void) {
        mail.post(.inspect(node: node, body))
    }
}

/// What other threads send to a fleet's loop.
enum FleetMail: Sendable {
    case mount(node: Int)
    case mountAll
    case unmount(node: Int, @Sendable () -> Void)
    case submit(node: Int, FileOperation, SlotHandle)
    case cancel(SlotHandle)
    case inspect(node: Int, @Sendable (ClientCore) -> Void)
    case inspectAll(@Sendable ([ClientNode], _ now: Ticks) -> Void)
    case breakConnections
    case network(node: Int, @Sendable (inout LNetCore, Ticks) -> Void)
    case stop
}

/// Who waits for which operation: filled by submitters, emptied by the loop a batch at a time.
final class FleetCompletions: Sendable {
    private struct State {
        var table = SlotTable<ClientFleet.Completion>()
        /// The loop has ended: nobody would ever complete what comes now.
        var isClosed = false
    }

    private let state = Lock(State())

    /// Nil once the loop has ended.
    func insert(_ completion: @escaping ClientFleet.Completion) -> SlotHandle? {
        state.withLock { $0.isClosed ? nil : $0.table.insert(completion) }
    }

    /// Calls `body` unless the loop has ended, and keeps it from ending meanwhile.
    func whileOpen(_ body: () -> Void) -> Bool {
        state.withLock { state in
            if !state.isClosed { body() }
            return !state.isClosed
        }
    }

    /// Calls those who waited for these operations.
    func deliver(_ finished: [(SlotHandle, Result<FileResult, OperationError>)]) {
        let waiting = state.withLock { state in finished.map { state.table.remove($0.0) } }
        for (index, completion) in waiting.enumerated() { completion?(finished[index].1) }
    }

    /// Takes nothing more and calls everybody who still waits.
    func close(_ status: Status) {
        let waiting = state.withLock { state in
            state.isClosed = true
            return state.table.handles.map { state.table.remove($0) }
        }
        for completion in waiting { completion?(.failure(OperationError(status))) }
    }
}
