import EventLoop
public import LNetCore
import Primitives
import WireFormat

/// A node that is nothing but LNet: it answers pings, and does what its operator asks.
@safe
public final class NetworkNode: @unchecked Sendable {
    // Every stored property is immutable or locked but `reactor`, which belongs to the thread that
    // makes the node and then to the one that runs it.
    private let loop: EventLoop
    private let mail: Mailbox<NetworkMail>
    private let desk = NetworkDesk()
    private var reactor: Reactor<NetworkNodes>
    private let thread = Lock<LoopThread?>(nil)
    private let failure = Lock<RuntimeError?>(nil)

    public struct Options: Sendable {
        /// How long the loop polls after the last useful event before it sleeps, in µs.
        public var spinMicroseconds: UInt64 = 0
        /// The processor that the loop's thread is pinned to.
        public var cpu: Int?
        /// Accept connections.
        public var listens = true

        public init() {}
    }

    /// Makes the node and lets it listen. Its incarnation is the time of day.
    public init(
        _ configuration: LNetConfiguration, options: Options = Options()
    ) throws(RuntimeError) {
        SignalWatch.ignorePipe()
        var configuration = configuration
        for nid in [configuration.nid] + configuration.otherNIDs {
            guard nid.isServable else { throw .notServable(nid) }
        }
        configuration.incarnation = Host.realtimeNanoseconds
        do {
            try Host.raiseDescriptorLimit()
            loop = try EventLoop(
                spin: Host.cpuCount > 1 ? .microseconds(options.spinMicroseconds) : .zero,
                cpu: options.cpu)
        } catch {
            throw .system(error)
        }
        mail = Mailbox(for: loop)
        reactor = try Reactor(
            NetworkNodes(LNetCore(configuration), mail: mail, loop: loop), desk: desk, on: loop)
        if options.listens { try reactor.listen(0) }
    }

    /// The node's LNet, from any other thread.
    public var network: NetworkAccess {
        let mail = mail
        return NetworkAccess(desk: desk) { body in mail.post(.network(body)) }
    }

    /// Runs the loop on the calling thread until `stop`.
    public func run() throws(RuntimeError) {
        defer {
            desk.close()
            reactor.close(on: loop)
        }
        do {
            try loop.run(&reactor)
        } catch {
            throw .system(error)
        }
    }

    /// Runs the loop on a thread of its own until `stop`; `join` waits for the end.
    public func start(named name: String = "lnet") throws(RuntimeError) {
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

    /// Ends the loop. From any thread.
    public func stop() { mail.post(.stop) }
}

/// What other threads send to the loop of a node that is nothing but LNet.
enum NetworkMail: Sendable {
    case network(@Sendable (inout LNetCore, Ticks) -> Void)
    case stop
}

/// A node that is nothing but LNet, as a reactor drives it.
struct NetworkNodes: ~Copyable, NodeSet {
    private var lnet: LNetCore
    private let mail: Mailbox<NetworkMail>
    private let loop: EventLoop
    private var batch: [NetworkMail] = []

    init(_ lnet: LNetCore, mail: Mailbox<NetworkMail>, loop: EventLoop) {
        self.lnet = lnet
        self.mail = mail
        self.loop = loop
    }

    var nodeCount: Int { 1 }

    subscript(lnet index: Int) -> LNetCore {
        get { lnet }
        _modify { yield &lnet }
    }

    var wish: ReactorWish { .run }
    var nextAttendance: Ticks { .distantFuture }

    func nextDeadline(_ index: Int) -> Ticks? { lnet.nextDeadline }
    func hasEvents(_ index: Int) -> Bool { !lnet.events.isEmpty }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {
        guard mail.drain(into: &batch) else { return }
        dirty.mark(0)
        for item in batch {
            switch item {
            case .network(let body): body(&lnet, moment.now)
            case .stop: loop.stop()
            }
        }
        batch.removeAll(keepingCapacity: true)
    }

    mutating func step(_ index: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        lnet.tick(moment.now)
        // Nobody here awaits messages.
        while lnet.events.popFirst() != nil {}
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {}
}
