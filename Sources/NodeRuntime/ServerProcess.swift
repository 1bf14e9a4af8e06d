import ClientCore
import EventLoop
public import LNetCore
public import NodeCore
public import Primitives
public import Store
public import UpgradeCore
internal import Synchronization
public import WireFormat

/// One server with one target on one event loop, over TCP, with its store on a disk.
///
/// `init` opens the store and listens, so that what cannot work is known at once; `run` serves
/// until `stop`, or until an upgrade has come to its end. See the article for the threads.
@safe
public final class ServerProcess: @unchecked Sendable {
    // Every stored property is immutable but `reactor`, which belongs to the thread that makes the
    // process and then to the one that runs it.

    /// How a server runs on this machine.
    public struct Options: Sendable {
        public var configuration: ServerConfiguration
        /// Where the target's store is.
        public var storeDirectory: String
        /// Make a store where there is none.
        public var createsStore = false
        /// Wait for the store until whoever holds it lets go; listen and park clients meanwhile.
        public var isStandby = false
        /// How long the loop polls after the last useful event before it sleeps.
        public var spin = TickInterval.zero
        /// How many loops share this machine: with more than it has processors none of them spins.
        public var loopCount = 1
        /// The processor that the loop's thread is pinned to.
        public var cpu: Int?
        public var storeOptions = DiskStore.Options()
        /// As whom it takes the store, and what it may do to one that has it and is silent.
        public var claim = StoreClaim()
        /// What `stop()` gives clients: after this long a silent one is left behind.
        public var stopDeadlineMs: UInt32 = 2_000
        /// A file for all that its connections carry (pcap); nil for none.
        public var capturePath: String?
        /// Lines for an operator. Called on the loop's thread.
        public var log: @Sendable (ServerLine) -> Void = { _ in }
        /// Called on the loop's thread with the stamps of an upgrade: when the turn that brought it
        /// about began, and what the time is now that the turn's work is done. Setting it makes the
        /// node tell them.
        public var onUpgradeStamp: (@Sendable (UpgradeEvent, _ at: Ticks, _ now: Ticks) -> Void)? {
            didSet { configuration.tellsUpgradeStamps = onUpgradeStamp != nil }
        }
        /// Called on the loop's thread when the server begins to serve clients.
        public var onServing: @Sendable (_ instance: UInt64, ServerStart) -> Void = { _, _ in }

        public init(configuration: ServerConfiguration, storeDirectory: String) {
            self.configuration = configuration
            self.storeDirectory = storeDirectory
        }

        /// A server of a cluster's target on the node `nid`.
        ///
        /// - Parameter otherNIDs: further interfaces of the node, each on a network of its own.
        public init(
            cluster: ClusterDescription, target name: String, nid: NID, otherNIDs: [NID] = [],
            storeDirectory: String
        ) throws(RuntimeError) {
            guard let target = cluster.target(named: name) else { throw .unknownTarget(name) }
            guard nid.isServable else { throw .notServable(nid) }
            guard !nid.isLarge else { throw .needsIPv4(nid) }
            let seed = Host.realtimeNanoseconds
            var configuration = ServerConfiguration(
                targetName: name, kind: target.kind, targetIndex: target.index,
                lnet: LNetConfiguration(
                    nid: nid, incarnation: seed, acceptPort: cluster.acceptPort,
                    privilegedPorts: cluster.privilegedPorts, seed: seed),
                seed: seed)
            configuration.lnet.otherNIDs = otherNIDs
            configuration.lnet.reconnectQuickly()
            if target.kind == .mds {
                configuration.objectTargets = cluster.clientTargets.filter { $0.kind == .oss }
            }
            self.init(configuration: configuration, storeDirectory: storeDirectory)
        }
    }

    private let loop: EventLoop
    private let mail: Mailbox<ServerMail>
    private let isOver = StopFlag()
    private let options: Options
    private var reactor: Reactor<ServerNodes>
    private let desk = NetworkDesk()
    private let thread = Lock<LoopThread?>(nil)
    private let outcome = Lock<Result<ServerExit, RuntimeError>?>(nil)
    private let isStopping = StopFlag()

    /// Opens the store, unless this is a standby, and listens.
    ///
    /// The incarnation of the node's LNet is set to the time of day.
    public init(_ options: Options) throws(RuntimeError) {
        var options = options
        for nid in [options.configuration.lnet.nid] + options.configuration.lnet.otherNIDs {
            guard nid.isServable else { throw .notServable(nid) }
            guard !nid.isLarge else { throw .needsIPv4(nid) }
        }
        SignalWatch.ignorePipe()
        if options.loopCount > Host.cpuCount { options.spin = .zero }
        let realtime = Host.realtimeNanoseconds
        options.configuration.lnet.incarnation = realtime
        do {
            loop = try EventLoop(spin: options.spin, cpu: options.cpu)
        } catch {
            throw .system(error)
        }
        mail = Mailbox(for: loop)
        options.claim.onLost = { [mail, log = options.log] holder in
            log(
                ServerLine(
                    .error, "\(holder) has taken the store: this server writes no more and ends"))
            mail.post(.abandon)
        }
        self.options = options
        let node = ServerNode(options.configuration, instance: realtime / 1_000_000)
        var capture: PacketCapture?
        if let path = options.capturePath {
            capture = try PacketCapture(path: path) { [log = options.log] text in
                log(ServerLine(.error, text))
            }
        }
        reactor = try Reactor(
            ServerNodes(node, options: options, mail: mail, loop: loop), desk: desk,
            capture: capture, on: loop)
        if options.isStandby {
            do {
                try reactor.listen(0)
            } catch .addressInUse {
                reactor.listenWhenFree(0)
            }
            try waitForStore()
        } else {
            let store: DiskStore
            do {
                store = try Self.openStore(options, mail: mail, lock: nil)
            } catch {
                throw .store(error)
            }
            try reactor.listen(0)
            try reactor.core.nodes.activate(store, Moment(now: Host.monotonicNow))
        }
    }

    // MARK: Running

    /// Serves on the calling thread until `stop`, or until an upgrade has come to its end.
    public func run() throws(RuntimeError) -> ServerExit {
        defer {
            isOver.set()
            desk.close()
            reactor.close(on: loop)
        }
        do {
            try loop.run(&reactor)
        } catch {
            reactor.core.nodes.abandonStore()
            throw .system(error)
        }
        return try reactor.core.nodes.exit.get()
    }

    /// Serves on a thread of its own until `stop`; `join` waits for the end.
    public func start() throws(RuntimeError) {
        let body: @Sendable () -> Void = {
            let result: Result<ServerExit, RuntimeError>
            do throws(RuntimeError) {
                result = .success(try self.run())
            } catch {
                result = .failure(error)
            }
            self.outcome.withLock { $0 = result }
        }
        do throws(FabricError) {
            let thread = try LoopThread(named: options.configuration.targetName, body)
            self.thread.withLock { $0 = thread }
        } catch {
            throw .system(error)
        }
    }

    /// Waits until the thread that `start` made has ended, and returns how.
    @discardableResult
    public func join() throws(RuntimeError) -> ServerExit {
        let thread = self.thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        thread?.join()
        guard let outcome = outcome.withLock({ $0 }) else {
            preconditionFailure("a server is joined after it was started")
        }
        return try outcome.get()
    }

    // MARK: From any thread

    /// Begins a clean stop: clients prepare, everything is committed, the store is let go of.
    ///
    /// A client that is silent for `stopDeadlineMs` is left behind; its record is kept. A standby
    /// ends at once. Called again, it ends without waiting for anybody: what is not committed is
    /// then for recovery.
    public func stop() {
        if isStopping.set() {
            mail.post(.abandon)
        } else {
            mail.post(
                .stop(
                    UpgradeStart(
                        scheme: .drain, cachePolicy: .flush, deadlinePolicy: .leaveBehind,
                        deadlineMs: options.stopDeadlineMs,
                        expiryMs: options.stopDeadlineMs &* 4 &+ 10_000)))
        }
    }

    /// Breaks every connection of the node, sockets and queue pairs, as a fault of the network
    /// would. Clients connect again, and send again what was under way.
    public func breakConnections() { mail.post(.breakConnections) }

    /// Shows what the node's LNet has counted, and its NIDs. Called on the loop's thread.
    public func inspectNetwork(_ body: @escaping @Sendable (LNetCounters, [NID]) -> Void) {
        mail.post(.network { lnet, _ in body(lnet.counters, lnet.nids) })
    }

    /// The node's LNet, for its control socket and others who operate it.
    public var network: NetworkAccess {
        let mail = mail
        return NetworkAccess(desk: desk) { body in mail.post(.network(body)) }
    }

    /// Runs `body` on the loop's thread with the node, to look at it: be quick, and keep no copy.
    ///
    /// - Returns: false where the loop has ended; `body` is not called then.
    @discardableResult
    public func inspect(_ body: @escaping @Sendable (ServerNode, _ now: Ticks) -> Void) -> Bool {
        !isOver.isSet && mail.post(.inspect(body))
    }

    /// Ends at once, as a crash would: what is not committed is lost, and no client is told.
    package func abandon() { mail.post(.abandon) }

    // MARK: The store

    private static func openStore(
        _ options: Options, mail: Mailbox<ServerMail>, lock: StoreLock?
    ) throws(StoreError) -> DiskStore {
        try DiskStore.open(
            directory: options.storeDirectory, targetName: options.configuration.targetName,
            targetKind: options.configuration.kind.storeName, create: options.createsStore,
            lock: lock, claim: options.claim, options: options.storeOptions
        ) { mail.post(.commit($0)) }
    }

    /// Waits for the store's lock on a thread of its own and opens the store there, so that the
    /// loop goes on to park clients.
    private func waitForStore() throws(RuntimeError) {
        let (options, mail, isOver) = (options, mail, isOver)
        do {
            // Not joined: it sleeps in the kernel for as long as another holds the store.
            _ = try LoopThread(named: "store-wait") {
                do throws(StoreError) {
                    let lock = try StoreLock.wait(
                        directory: options.storeDirectory, for: options.claim,
                        shouldStop: { isOver.isSet })
                    if isOver.isSet { return }
                    let store = try Self.openStore(options, mail: mail, lock: lock)
                    mail.post(.store(StoreHandover(store)))
                } catch {
                    mail.post(.storeFailed(error))
                }
            }
        } catch {
            throw .system(error)
        }
    }
}

/// How a server's run ended.
public struct ServerExit: Sendable {
    public enum Reason: Sendable {
        /// Every client that could be told was; the store is clean.
        case stopped
        /// It never had the store.
        case neverServed
        /// Ended at once: the next start recovers.
        case abandoned
    }
    public var reason: Reason
    /// Nanoseconds from the decision to stop to the store being free for the next.
    public var handOverNs: UInt64
}

/// A flag that is set once. From any thread.
final class StopFlag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    /// Returns whether it was set before.
    @discardableResult
    func set() -> Bool { value.exchange(true, ordering: .acquiringAndReleasing) }
}

/// A store on its way from the thread that opened it to the loop that owns it from then on.
@safe
final class StoreHandover: @unchecked Sendable {
    // Made by one thread and taken by another, once; the mailbox between them orders the two.
    private var store: DiskStore?

    init(_ store: DiskStore) { self.store = store }

    func take() -> DiskStore? {
        let store = self.store
        self.store = nil
        return store
    }
}

/// What other threads send to a server's loop.
enum ServerMail: Sendable {
    case commit(CommitEvent)
    case store(StoreHandover)
    case storeFailed(StoreError)
    case stop(UpgradeStart)
    case abandon
    case breakConnections
    case network(@Sendable (inout LNetCore, Ticks) -> Void)
    case inspect(@Sendable (ServerNode, _ now: Ticks) -> Void)
}

extension TargetKind {
    /// As a store's identity spells it.
    var storeName: String { self == .mds ? "metadata" : "object" }
}
