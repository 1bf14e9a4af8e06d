internal import Dispatch
import EventLoop
public import LNetCore
public import Primitives
public import WireFormat

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
        /// Serve lnet_selftest on portals 50 to 52, and run its tests.
        public var selftest = false
        /// A file for all that its connections carry (pcap); nil for none.
        public var capturePath: String?
        /// Called on the loop's thread with a sentence when that file takes no more.
        public var captureEnded: @Sendable (String) -> Void = { _ in }

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
        var capture: PacketCapture?
        if let path = options.capturePath {
            capture = try PacketCapture(path: path, ended: options.captureEnded)
        }
        reactor = try Reactor(
            NetworkNodes(
                LNetCore(configuration), selftest: options.selftest, mail: mail, loop: loop),
            desk: desk, capture: capture, on: loop)
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

    // MARK: lnet_selftest

    /// Asks a node of lnet_selftest as its console, and waits: nil where no answer came in time.
    ///
    /// - Parameter destinations: to whom the test goes that a TEST request adds.
    public func askSelftest(
        _ nid: NID, destinations: [NID] = [], timeout: TickInterval = .seconds(10),
        _ body: @escaping @Sendable (_ reply: UInt64, _ bulk: UInt64) -> SelftestMessage.Body
    ) -> SelftestMessage.Body? {
        let answer = Lock<SelftestMessage.Body?>(nil)
        let done = DispatchSemaphore(value: 0)
        mail.post(
            .ask(nid, destinations, body) { outcome in
                answer.withLock { $0 = outcome }
                done.signal()
            })
        _ = done.wait(timeout: .now() + .nanoseconds(Int(timeout.nanoseconds)))
        return answer.withLock { $0 }
    }

    /// What this node's own tests came to: RPCs that ended well, and their round trips in ns.
    public func selftestResults() throws(ControlError) -> (completed: UInt64, roundTrips: [UInt32])
    {
        let result = Lock<(UInt64, [UInt32])?>(nil)
        let done = DispatchSemaphore(value: 0)
        mail.post(
            .results { completed, roundTrips in
                result.withLock { $0 = (completed, roundTrips) }
                done.signal()
            })
        guard done.wait(timeout: .now() + 10) == .success, let value = result.withLock({ $0 })
        else { throw ControlError("the node has ended, or its loop hangs", errno: 110) }
        return value
    }
}

/// What other threads send to the loop of a node that is nothing but LNet.
enum NetworkMail: Sendable {
    case network(@Sendable (inout LNetCore, Ticks) -> Void)
    case ask(
        NID, [NID], @Sendable (UInt64, UInt64) -> SelftestMessage.Body,
        @Sendable (SelftestMessage.Body?) -> Void)
    case results(@Sendable (UInt64, [UInt32]) -> Void)
    case stop
}

/// A node that is nothing but LNet, as a reactor drives it.
struct NetworkNodes: ~Copyable, NodeSet {
    private var lnet: LNetCore
    private let mail: Mailbox<NetworkMail>
    private let loop: EventLoop
    private var batch: [NetworkMail] = []
    private var selftest: SelftestNode?
    /// Who waits for the answers to a console's requests.
    private var asking: [UInt64: @Sendable (SelftestMessage.Body?) -> Void] = [:]
    private var nextAsk: UInt64 = 1

    init(
        _ lnet: LNetCore, selftest: Bool, mail: Mailbox<NetworkMail>, loop: EventLoop
    ) {
        self.lnet = lnet
        if selftest { self.selftest = SelftestNode(&self.lnet) }
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

    func nextDeadline(_ index: Int) -> Ticks? {
        guard let test = selftest?.nextDeadline else { return lnet.nextDeadline }
        return min(lnet.nextDeadline ?? .distantFuture, test)
    }

    func hasEvents(_ index: Int) -> Bool { !lnet.events.isEmpty }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {
        guard mail.drain(into: &batch) else { return }
        dirty.mark(0)
        for item in batch {
            switch item {
            case .network(let body): body(&lnet, moment.now)
            case .ask(let nid, let destinations, let body, let completion):
                guard selftest != nil else {
                    completion(nil)
                    continue
                }
                asking[nextAsk] = completion
                selftest!.ask(
                    nid, id: nextAsk, destinations: destinations, &lnet, now: moment.now, body)
                nextAsk += 1
            case .results(let completion):
                completion(selftest?.completedCount ?? 0, selftest?.roundTrips ?? [])
            case .stop: loop.stop()
            }
        }
        batch.removeAll(keepingCapacity: true)
    }

    mutating func step(_ index: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        lnet.tick(moment.now)
        guard selftest != nil else {
            // Nobody here awaits messages.
            while lnet.events.popFirst() != nil {}
            return
        }
        while let event = lnet.events.popFirst() {
            selftest!.take(event, &lnet, now: moment.now)
        }
        selftest!.tick(&lnet, now: moment.now)
        while let outcome = selftest!.outcomes.popFirst() {
            asking.removeValue(forKey: outcome.id)?(outcome.answer)
        }
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {}
}
