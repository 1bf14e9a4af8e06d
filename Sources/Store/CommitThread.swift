internal import Glibc
internal import StorageCore

/// Something that the loop should look at: whatever it is, call `DiskStore.refresh()` there.
public enum CommitEvent: Sendable {
    /// Every group up to and with this one is durable.
    case committed(UInt64)
    /// The groups up to and with this one are not committed, and are kept. Nothing more is
    /// committed until `DiskStore.retryCommit()`.
    case failed(UInt64, StoreError)
    /// The database must grow before it can go on; `refresh()` does it.
    case growthNeeded
}

/// Counts since the store was opened.
public struct StoreStatistics: Equatable, Sendable {
    /// LMDB transactions.
    public var commits: UInt64 = 0
    /// Groups in them: more than one each when the disk is slower than the loop.
    public var groups: UInt64 = 0
    public var transactions: UInt64 = 0
    public var objectBytes: UInt64 = 0
    public var filesWritten: UInt64 = 0
    /// Waiting for object data to be on the disk.
    public var objectSyncNanoseconds: UInt64 = 0
    /// Writing and syncing the database.
    public var databaseNanoseconds: UInt64 = 0
    public var failures: UInt64 = 0
    public var mapGrowths: UInt64 = 0
}

/// The thread that commits. Everything that waits for the disk happens here.
final class CommitThread: @unchecked Sendable {
    private enum Stop { case no, whenDrained, now }

    // Guarded by `monitor`: what the loop and the thread share.
    private let monitor = Monitor()
    /// Groups not committed, oldest first; the thread takes a copy and removes what is durable.
    private var queue: [CommitGroup] = []
    private var committedThrough: UInt64 = 0
    private var failure: StoreError?
    private var needsGrowth = false
    private var stop = Stop.no
    private var counts = StoreStatistics()

    // Owned by the thread from `start` to its end.
    private let committer: Committer
    private let heartbeat: StoreHeartbeat
    private let onEvent: @Sendable (CommitEvent) -> Void
    /// Groups at the head of the queue that are durable but for their clean-up.
    private var durableCount = 0

    private let queueMax: Int
    // Owned by the loop.
    private var thread: pthread_t?

    init(
        committer: Committer, heartbeat: StoreHeartbeat, queueMax: Int,
        onEvent: @escaping @Sendable (CommitEvent) -> Void
    ) {
        precondition(queueMax > 0, "a queue holds something")
        self.committer = committer
        self.heartbeat = heartbeat
        self.queueMax = queueMax
        self.onEvent = onEvent
    }

    func start() throws(StoreError) {
        var started = pthread_t()
        // SAFETY: the thread consumes the reference that is retained for it here.
        let context = unsafe Unmanaged.passRetained(self)
        let result = unsafe pthread_create(
            &started, nil,
            { raw in
                guard let raw = unsafe raw else { return nil }
                unsafe Unmanaged<CommitThread>.fromOpaque(raw).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            unsafe context.release()
            throw StoreError(code: -result, path: "commit thread", call: "the start")
        }
        thread = started
    }

    // MARK: Called by the loop

    var canSubmit: Bool { monitor.locked { queue.count < queueMax } }

    func submit(_ group: CommitGroup) {
        monitor.locked {
            precondition(queue.count < queueMax, "ask canSubmit before a group is taken")
            precondition(
                group.id > (queue.last?.id ?? committedThrough), "groups come in their order")
            queue.append(group)
            monitor.wakeAll()
        }
    }

    var status: (committedThrough: UInt64, needsGrowth: Bool, failure: StoreError?) {
        monitor.locked { (committedThrough, needsGrowth, failure) }
    }

    var statistics: StoreStatistics { monitor.locked { counts } }

    /// The map has grown, or could not.
    func growthDone(_ error: StoreError?) {
        monitor.locked {
            needsGrowth = false
            failure = error
            if error == nil { counts.mapGrowths += 1 }
            monitor.wakeAll()
        }
    }

    func retry() {
        monitor.locked {
            failure = nil
            monitor.wakeAll()
        }
    }

    /// Sleeps until the queue is empty, a commit failed, or the map must grow.
    func waitWhileCommitting() {
        monitor.locked {
            while !queue.isEmpty, failure == nil, !needsGrowth { monitor.wait() }
        }
    }

    /// Ends the thread; a commit that is under way is brought to its end. What is queued is left.
    func finish() {
        guard let running = thread else { return }
        monitor.locked {
            stop = .now
            monitor.wakeAll()
        }
        pthread_join(running, nil)
        thread = nil
    }

    // MARK: The thread

    private func run() {
        // Signals are for the threads that wait for them.
        var everySignal = sigset_t()
        unsafe sigfillset(&everySignal)
        unsafe pthread_sigmask(SIG_BLOCK, &everySignal, nil)
        while true {
            let batch: [CommitGroup] = monitor.locked {
                while stop == .no, queue.isEmpty || failure != nil || needsGrowth {
                    monitor.wait()
                }
                return stop == .no ? queue : []
            }
            guard let last = batch.last else { break }
            onEvent(attempt(batch, last))
        }
        committer.closeFiles()
    }

    private func attempt(_ batch: [CommitGroup], _ last: CommitGroup) -> CommitEvent {
        // Fencing is what keeps two hosts from one store; this is for the day on which it did not.
        if let holder = heartbeat.otherHolder {
            return failed(
                last.id, .heldElsewhere(directory: committer.layout.directory, holder: holder))
        }
        do throws(CommitFailure) {
            if durableCount > 0 {
                try committer.cleanUp()
                let through = batch[durableCount - 1].id
                finished(batch.prefix(durableCount), CommitCosts())
                return .committed(through)
            }
            let costs = try committer.commit(batch[...])
            finished(batch[...], costs)
            return .committed(last.id)
        } catch {
            switch error {
            case .mapFull:
                monitor.locked {
                    needsGrowth = true
                    monitor.wakeAll()
                }
                return .growthNeeded
            case .failed(let reason):
                return failed(last.id, reason)
            case .cleanupFailed(let reason):
                if durableCount == 0 { durableCount = batch.count }
                return failed(batch[durableCount - 1].id, reason)
            }
        }
    }

    private func finished(_ groups: ArraySlice<CommitGroup>, _ costs: CommitCosts) {
        durableCount = 0
        monitor.locked {
            queue.removeFirst(groups.count)
            committedThrough = groups.last?.id ?? committedThrough
            counts.commits += 1
            counts.groups += UInt64(groups.count)
            for group in groups { counts.transactions += UInt64(group.transactionCount) }
            counts.objectBytes += costs.objectBytes
            counts.filesWritten += costs.filesWritten
            counts.objectSyncNanoseconds += costs.syncNanoseconds
            counts.databaseNanoseconds += costs.databaseNanoseconds
            monitor.wakeAll()
        }
    }

    private func failed(_ group: UInt64, _ reason: StoreError) -> CommitEvent {
        monitor.locked {
            failure = reason
            counts.failures += 1
            monitor.wakeAll()
        }
        return .failed(group, reason)
    }
}
