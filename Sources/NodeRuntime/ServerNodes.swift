import EventLoop
import LNetCore
import NodeCore
import Primitives
import StorageCore
import Store
import WireFormat

/// One server and its store, as a reactor drives them.
struct ServerNodes: ~Copyable, NodeSet {
    private var node: ServerNode
    private var store: DiskStore?
    private let options: ServerProcess.Options
    private let mail: Mailbox<ServerMail>
    private let loop: EventLoop
    private var batch: [ServerMail] = []
    /// Groups for which the store's queue had no room.
    private var waitingGroups = Outbox<CommitGroup>()
    /// When a commit that failed is tried again.
    private var retryAt: Ticks?
    private var stopRequestedAt: Ticks?
    /// A clean stop that has not come about by then will not: the disk is full, for instance.
    private var stopBy: Ticks?
    /// When the disk is looked at next.
    private var sampleAt = Ticks.distantFuture
    /// Set once the node is done: from then on only what is left of its output goes out.
    private var drainUntil: Ticks?
    /// The store was let go of, or there never was one.
    private var isReleased = false
    private(set) var exit: Result<ServerExit, RuntimeError>
    private var hasFault = false

    /// How long a server that is done may still wait for its peers to take what it sent them.
    private static let drainTime = TickInterval.milliseconds(50)
    private static let retryTime = TickInterval.seconds(1)
    /// Writes of two such intervals may be counted as not free though they are on the disk already.
    private static let sampleTime = TickInterval.seconds(1)

    init(
        _ node: ServerNode, options: ServerProcess.Options, mail: Mailbox<ServerMail>,
        loop: EventLoop
    ) {
        self.node = node
        self.options = options
        self.mail = mail
        self.loop = loop
        exit = .success(ServerExit(reason: .abandoned, handOverNs: 0))
    }

    /// Gives the node its store.
    mutating func activate(_ store: DiskStore, _ moment: Moment) throws(RuntimeError) {
        do {
            try node.activate(store, now: moment.now, wall: moment.wall)
        } catch {
            store.abandon()
            throw .startRefused("\(error)")
        }
        self.store = store
        lookAtDisk(moment)
    }

    /// How much room there is: what clients may dirty depends on it.
    private mutating func lookAtDisk(_ moment: Moment) {
        sampleAt = moment.now + Self.sampleTime
        if let space = DiskSpace(at: options.storeDirectory) {
            node.setSpace(total: space.total, free: space.free)
        }
    }

    /// Lets go of the store as a crash would.
    mutating func abandonStore() {
        store?.abandon()
        store = nil
    }

    // MARK: NodeSet

    var nodeCount: Int { 1 }

    subscript(lnet index: Int) -> LNetCore {
        get { node.lnet }
        _modify { yield &node.lnet }
    }

    mutating func takeFault() -> Bool {
        defer { hasFault = false }
        return hasFault
    }

    var wish: ReactorWish { drainUntil == nil ? .run : .drain }

    var nextAttendance: Ticks {
        if let drainUntil { return drainUntil }
        return min(retryAt ?? .distantFuture, stopBy ?? .distantFuture, sampleAt)
    }

    mutating func nextDeadline(_ index: Int) -> Ticks? {
        drainUntil == nil ? node.dueNext() : nil
    }

    func hasEvents(_ index: Int) -> Bool { !node.lnet.events.isEmpty }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {
        if mail.drain(into: &batch) {
            dirty.mark(0)
            for item in batch { take(item, moment) }
            batch.removeAll(keepingCapacity: true)
        }
        if sampleAt <= moment.now { lookAtDisk(moment) }
        if let at = retryAt, at <= moment.now {
            retryAt = nil
            store?.retryCommit()
        }
        if let by = stopBy, by <= moment.now, drainUntil == nil, !isReleased {
            log(.warning, "has not come to a clean stop in time: the next start recovers")
            leaveUnclean()
        }
        if let until = drainUntil, until <= moment.now { loop.stop() }
    }

    private mutating func take(_ item: ServerMail, _ moment: Moment) {
        guard drainUntil == nil else {
            // The store came after all: it is for the next.
            if case .store(let handover) = item { handover.take()?.abandon() }
            return
        }
        switch item {
        case .commit(let event):
            guard let store else { return }
            switch event {
            case .committed, .growthNeeded:
                node.committed(store.refresh(), now: moment.now)
                submitWaiting()
            case .failed(_, let error):
                var status = Status.ioError
                if case .full = error { status = .noSpace }
                node.commitFailed("\(error)", status: status, now: moment.now)
                retryAt = moment.now + Self.retryTime
            }
        case .store(let handover):
            guard let store = handover.take() else { return }
            do {
                try activate(store, moment)
            } catch {
                end(.failure(error))
            }
        case .breakConnections:
            hasFault = true
        case .network(let body):
            body(&node.lnet, moment.now)
        case .inspect(let body):
            body(node, moment.now)
        case .storeFailed(let error):
            end(.failure(.store(error)))
        case .stop(let start):
            stopRequestedAt = moment.now
            if node.phase == .recovering {
                // There is no clean stop before the clients are back: the next start recovers too.
                log(.notice, "stops while it recovers: the next start takes that up again")
                return leaveUnclean()
            }
            stopBy = moment.now + .milliseconds(UInt64(start.deadlineMs) * 2) + .seconds(10)
            node.beginStop(start, now: moment.now)
        case .abandon:
            leaveUnclean()
        }
    }

    /// Ends without a clean record: clients replay to the next instance what was not committed.
    private mutating func leaveUnclean() {
        abandonStore()
        end(.success(ServerExit(reason: .abandoned, handOverNs: 0)))
    }

    private mutating func end(_ result: Result<ServerExit, RuntimeError>) {
        exit = result
        drainUntil = .zero
        loop.stop()
    }

    mutating func step(_ index: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        // Done: nothing that still comes in is for this instance.
        guard drainUntil == nil else { return }
        // Read again: what a turn received took its time, and receipts are stamped with this.
        node.step(now: Host.monotonicNow, wall: moment.wall)
        while let action = node.actions.popFirst() {
            switch action {
            case .commit(let group):
                waitingGroups.append(group)
                submitWaiting()
            case .serving(let instance, let start):
                options.onServing(instance, start)
                log(
                    .notice,
                    "serves \(node.configuration.targetName) at \(node.lnet.nid): \(start.line)",
                    [("event", "serving"), ("instance", "\(instance)")])
            case .releaseStore:
                releaseStore(moment)
            case .stop:
                finish(moment)
                return
            case .abandon:
                // Without a clean record; what was answered already still goes out.
                abandonStore()
                isReleased = true
                drainUntil = Host.monotonicNow + Self.drainTime
                return
            case .log(let line):
                options.log(ServerLine(line))
            case .upgrade(let event, let at):
                options.onUpgradeStamp?(event, at, Host.monotonicNow)
            }
        }
    }

    private mutating func submitWaiting() {
        guard let store else { return }
        while !waitingGroups.isEmpty, store.canSubmit, let group = waitingGroups.popFirst() {
            store.submit(group)
        }
    }

    /// The node is done. The store first: the next instance waits for nothing else. What is left of
    /// the output, which tells nobody anything that he needs, goes out afterwards.
    private mutating func finish(_ moment: Moment) {
        releaseStore(moment)
        drainUntil = Host.monotonicNow + Self.drainTime
    }

    /// Closes the store with all that was given to it; the next instance can have it then.
    private mutating func releaseStore(_ moment: Moment) {
        guard !isReleased else { return }
        isReleased = true
        var reason = ServerExit.Reason.neverServed
        if let store {
            reason = .stopped
            do {
                submitWaiting()
                while !waitingGroups.isEmpty {
                    try store.waitUntilCommitted()
                    submitWaiting()
                }
                try store.close()
            } catch {
                store.abandon()
                exit = .failure(.store(error))
                reason = .abandoned
            }
        }
        store = nil
        let handOver = Host.monotonicNow - (stopRequestedAt ?? moment.now)
        if case .success = exit {
            exit = .success(ServerExit(reason: reason, handOverNs: handOver.nanoseconds))
        }
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {
        if drainUntil != nil, isFlushed { loop.stop() }
    }

    private func log(
        _ level: ServerLine.Level, _ text: String, _ fields: [(name: String, value: String)] = []
    ) {
        options.log(ServerLine(level, text, fields))
    }
}
