public import LNetCore
public import Primitives
import WireFormat

/// What a server keeps of the recovery that it is in.
struct RecoveryState: Sendable {
    /// What was on disk at the start: a replay at or below was executed before.
    var recoveredTransno = Transno.zero
    /// The next update in the order; a later one may be the next that anybody has (a gap).
    var nextTransno: UInt64 = 1
    var stageStart = Ticks.zero
    /// When silent clients are looked at; nil while the first client is still awaited.
    var deadline: Ticks?
    /// When whoever holds up the others is given up, from the first client on.
    var limit: Ticks?
    /// When whoever is not done is given up.
    var lastLimit: Ticks?
    /// The longest that a client says this target took to serve.
    var serviceEstimate = TickInterval.zero
    var evicted: [UInt32] = []
    /// Replays that wait for their turn.
    var queue = TransnoQueue()
    var queuedCount = 0
    /// Lock replays that wait for the end of the updates, in the order of their arrival.
    var locks: [SlotHandle] = []
    /// Clients by where they stand.
    var absentCount = 0
    var openingCount = 0
    var requestingCount = 0
    var lockingCount = 0
    /// Of the requesting ones, those with a replay in the queue.
    var readyCount = 0
}

/// A heap of queued replays by transno.
struct TransnoQueue: Sendable {
    struct Entry: Sendable, BitwiseCopyable {
        var transno: UInt64
        var slot: SlotHandle
    }

    private var heap: [Entry] = []

    var first: Entry? { heap.first }

    mutating func insert(_ entry: Entry) {
        heap.append(entry)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].transno < heap[parent].transno else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].transno < heap[least].transno {
                least = child
            }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}

extension RPCServer {
    // MARK: Requests of recovering clients

    mutating func recover(_ request: PendingRequest, lnet: inout LNetCore) {
        let index = request.export
        let flags = request.flags
        if case .ping? = request.body {
            if flags.contains(.lockReplayDone) {
                finalPing(request, lnet: &lnet)
            } else {
                send(.ok, .empty, .zero, nil, request, lnet: &lnet)
            }
            return
        }
        if case .openReplay? = request.body {
            exports[index].lastHeard = now
            exports[index].account.opens &+= 1
            enqueue(request, .executing)
            return
        }
        if request.isReplay {
            exports[index].lastHeard = now
            replay(request, lnet: &lnet)
            return
        }
        if !request.isUpdate, !flags.isDisjoint(with: [.requestReplayDone, .replay]) {
            exports[index].lastHeard = now
            switch exports[index].recovery {
            case .opens, .requests: setRecovery(.locks, of: index)
            case .none, .absent, .locks, .done: break
            }
            exports[index].account.locks &+= 1
            let isTime = stage == .lockReplay
            if let slot = enqueue(request, isTime ? .executing : .queued), !isTime {
                recovery.locks.append(slot)
            }
            advanceRecovery(lnet: &lnet)
            return
        }
        switch request.body {
        case .disconnect, .upgradeStatus, .upgradeStart, .upgradeOrder, .upgradeReceipts,
            .auditRead, .abortRecovery, .targetShow:
            enqueue(request, .executing)
        default:
            // New work waits at the client until everything old is back.
            refuse(request, .tryAgain, lnet: &lnet)
        }
    }

    @discardableResult
    private mutating func enqueue(
        _ request: PendingRequest, _ state: PendingRequest.State
    ) -> SlotHandle? {
        var request = request
        request.state = state
        let slot = insert(request)
        if state == .executing { execute(slot) }
        return slot
    }

    private mutating func finalPing(_ request: PendingRequest, lnet: inout LNetCore) {
        let index = request.export
        exports[index].lastHeard = now
        if let earlier = exports[index].finalPing { remove(earlier) }
        if exports[index].account.failed > 0 {
            // What it believes is no longer so: it begins anew. Only now, since what did not depend
            // on the lost updates has been replayed.
            send(.notConnected, .empty, .zero, nil, request, type: .error, lnet: &lnet)
            evict(index, .replayFailed(count: exports[index].account.failed))
            advanceRecovery(lnet: &lnet)
            return
        }
        if exports[index].recovery != .done, let summary = summary(of: index) {
            events.append(.replayed(summary))
        }
        exports[index].finalPing = enqueue(request, .queued)
        setRecovery(.done, of: index)
        advanceRecovery(lnet: &lnet)
    }

    /// An update that was executed by an earlier instance, and perhaps by this one.
    private mutating func replay(_ request: PendingRequest, lnet: inout LNetCore) {
        let index = request.export
        exports[index].makeSlots()
        let slot = exports[index].slots[Int(request.tag) - 1]
        if slot.state == .finished, slot.xid == request.xid {
            counters.replayedFromRecord += 1
            exports[index].account.fromRecord &+= 1
            sendSaved(slot, request, lnet: &lnet)
            noteShown(index, request.transno)
            noteReplaying(index, lnet: &lnet)
            return
        }
        if let earlier = exports[index].replayed.last(where: { $0.xid == request.xid }) {
            counters.replayedFromRecord += 1
            exports[index].account.fromRecord &+= 1
            sendSaved(earlier, request, lnet: &lnet)
            return
        }
        if request.transno <= recovery.recoveredTransno {
            // On disk, and its slot used again since: the client has had the answer.
            counters.replayedFromRecord += 1
            exports[index].account.fromRecord &+= 1
            send(.ok, .empty, request.transno, nil, request, lnet: &lnet)
            noteShown(index, request.transno)
            noteReplaying(index, lnet: &lnet)
            return
        }
        guard exports[index].recovery == .opens || exports[index].recovery == .requests,
            request.transno.rawValue >= recovery.nextTransno
        else {
            counters.violations += 1
            refuse(request, .protocolError, lnet: &lnet)
            return
        }
        setRecovery(.requests, of: index)
        if case .objectWrite(let write)? = request.body, write.missingBulkBytes > 0 {
            let matchBits = request.matchBits
            if let slot = enqueue(request, .fetching) {
                fetch(slot, matchBits, write.missingBulkBytes, lnet: &lnet)
            }
        } else if let slot = enqueue(request, .queued) {
            queue(slot)
        }
        advanceRecovery(lnet: &lnet)
    }

    private mutating func noteReplaying(_ index: UInt32, lnet: inout LNetCore) {
        if exports[index].recovery == .opens {
            setRecovery(.requests, of: index)
            advanceRecovery(lnet: &lnet)
        }
    }

    /// Puts a replay that is complete into the queue, once all before it have come.
    mutating func queue(_ slot: SlotHandle) {
        let found = requests.update(slot) { request -> (UInt32, Transno, Transno) in
            request.state = .queued
            return (request.export, request.predecessor, request.transno)
        }
        guard let (index, predecessor, transno) = found else { return }
        guard predecessor <= max(exports[index].shownTransno, recovery.recoveredTransno) else {
            exports[index].heldReplays.append(slot)
            return
        }
        order(slot, index, transno.rawValue)
        noteShown(index, transno)
    }

    /// Everything of the client up to `transno` has come: what was held for it goes on.
    private mutating func noteShown(_ index: UInt32, _ transno: Transno) {
        exports[index].shownTransno = max(exports[index].shownTransno, transno)
        var held = exports[index].heldReplays
        var hasMoved = !held.isEmpty
        while hasMoved {
            var rest: [SlotHandle] = []
            for slot in held {
                guard let request = requests[slot] else { continue }
                if request.predecessor > exports[index].shownTransno {
                    rest.append(slot)
                } else {
                    order(slot, index, request.transno.rawValue)
                    exports[index].shownTransno = max(
                        exports[index].shownTransno, request.transno)
                }
            }
            hasMoved = rest.count < held.count
            held = rest
        }
        exports[index].heldReplays = held
    }

    private mutating func order(_ slot: SlotHandle, _ index: UInt32, _ transno: UInt64) {
        recovery.queue.insert(TransnoQueue.Entry(transno: transno, slot: slot))
        recovery.queuedCount += 1
        exports[index].queuedReplayCount += 1
        if exports[index].queuedReplayCount == 1, exports[index].recovery == .requests {
            recovery.readyCount += 1
        }
    }

    /// Moves a client to another place of its recovery and keeps the counts right.
    mutating func setRecovery(_ new: Export.Recovery, of index: UInt32) {
        let old = exports[index].recovery
        guard old != new else { return }
        count(old, -1, isReady: exports[index].queuedReplayCount > 0)
        exports[index].recovery = new
        count(new, 1, isReady: exports[index].queuedReplayCount > 0)
    }

    private mutating func count(_ state: Export.Recovery, _ change: Int, isReady: Bool) {
        switch state {
        case .none, .done: break
        case .absent: recovery.absentCount += change
        case .opens: recovery.openingCount += change
        case .locks: recovery.lockingCount += change
        case .requests:
            recovery.requestingCount += change
            if isReady { recovery.readyCount += change }
        }
    }

    // MARK: Stages

    mutating func enter(_ next: RecoveryStage) {
        stage = next
        events.append(.recoveryStage(next))
        if next == .connecting || next == .serving { return }
        openWindow()
    }

    /// From now on every client has the whole window for this stage.
    ///
    /// A target that was slow to serve gets clients that are slow to come: the window grows by
    /// that, to the hard limit at most.
    mutating func openWindow() {
        recovery.stageStart = now
        if recovery.limit == nil {
            let limit = configuration.recoveryLimit
            recovery.limit = now + limit
            recovery.lastLimit = now + limit + limit
        }
        recovery.deadline = now + window
    }

    /// Goes as far as the clients allow.
    mutating func advanceRecovery(lnet: inout LNetCore) {
        while true {
            switch stage {
            case .connecting:
                guard recovery.absentCount == 0 else { return }
                enter(.openReplay)
            case .openReplay:
                guard recovery.openingCount == 0 else { return }
                enter(.requestReplay)
            case .requestReplay:
                executeReplays(lnet: &lnet)
                guard recovery.requestingCount == 0, recovery.queuedCount == 0 else { return }
                enter(.lockReplay)
                let locks = recovery.locks
                recovery.locks = []
                for slot in locks { execute(slot) }
            case .lockReplay:
                guard recovery.lockingCount == 0 else { return }
                finishRecovery(lnet: &lnet)
                return
            case .standby, .serving, .stopped:
                return
            }
        }
    }

    /// Executes what is next in the order. A gap is crossed only when every client that still
    /// replays has shown its next one: then nobody can have what is missing.
    private mutating func executeReplays(lnet: inout LNetCore) {
        while let first = recovery.queue.first {
            guard let request = requests[first.slot] else {
                recovery.queue.removeFirst()
                continue
            }
            guard
                first.transno <= recovery.nextTransno
                    || recovery.readyCount == recovery.requestingCount
                    || configuration.mutation.is(.replaysOutOfOrder)
            else { return }
            recovery.queue.removeFirst()
            recovery.queuedCount -= 1
            let index = request.export
            exports[index].queuedReplayCount -= 1
            if exports[index].queuedReplayCount == 0, exports[index].recovery == .requests {
                recovery.readyCount -= 1
            }
            guard first.transno >= recovery.nextTransno else {
                // Two clients claim one transno: the second is wrong.
                counters.violations += 1
                remove(first.slot)
                refuse(request, .protocolError, lnet: &lnet)
                continue
            }
            recovery.nextTransno = first.transno &+ 1
            exports[index].slots[Int(request.tag) - 1] = ReplySlot(
                state: .inProgress, xid: request.xid)
            counters.replayed += 1
            exports[index].account.noteExecuted(request.transno)
            execute(first.slot)
        }
    }

    private mutating func finishRecovery(lnet: inout LNetCore) {
        recovery.deadline = nil
        recovery.limit = nil
        recovery.lastLimit = nil
        let evicted = recovery.evicted
        recovery.evicted = []
        recovery.serviceEstimate = .zero
        recovery.queue = TransnoQueue()
        stage = .serving
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            guard exports[index].recovery != .none else { continue }
            setRecovery(.none, of: index)
            exports[index].replayed = []
            exports[index].heldReplays = []
            exports[index].shownTransno = .zero
            exports[index].lastHeard = now
            exports[index].freeSlots()
            guard let slot = exports[index].finalPing, let ping = requests[slot] else { continue }
            exports[index].finalPing = nil
            remove(slot)
            send(.ok, .empty, .zero, nil, ping, lnet: &lnet)
        }
        events.append(.recoveryStage(.serving))
        events.append(.recoveryFinished(evicted: evicted))
    }

    // MARK: The window

    /// Evicts those who hold up the others and were silent for the window.
    mutating func windowExpired(lnet: inout LNetCore) {
        recovery.deadline = nil
        var next: Ticks?
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            guard isAwaited(index) else { continue }
            let since = max(recovery.stageStart, exports[index].lastHeard)
            if since + window <= now {
                evict(index, .recoveryWindow(stage))
            } else {
                let due = since + window
                next = min(next ?? due, due)
            }
        }
        let before = stage
        advanceRecovery(lnet: &lnet)
        if stage == before, isRecovering {
            recovery.deadline = next ?? now + window
        }
    }

    private var window: TickInterval {
        let over = recovery.serviceEstimate.nanoseconds
        return min(
            configuration.recoveryWindow + TickInterval(nanoseconds: over + over / 4),
            max(configuration.recoveryWindow, configuration.recoveryLimit))
    }

    /// Ends the recovery: who has not finished his part is evicted, what he had queued is dropped,
    /// everybody else is served. Does nothing outside a recovery.
    public mutating func abortRecovery(lnet: inout LNetCore, now: Ticks) {
        self.now = now
        endRecovery(.recoveryAborted, lnet: &lnet)
    }

    /// The hard limit has passed: whoever holds up the others goes, however often he is heard from.
    /// Those that wait for their turn get a window more, until twice the limit.
    mutating func limitExpired(lnet: inout LNetCore) {
        guard let last = recovery.lastLimit, now < last else {
            return endRecovery(.recoveryLimit(stage), lnet: &lnet)
        }
        recovery.limit = min(last, now + window)
        for index in 0..<UInt32(exports.placeCount)
        where exports.contains(index) && isAwaited(index) {
            evict(index, .recoveryLimit(stage))
        }
        advanceRecovery(lnet: &lnet)
    }

    private mutating func endRecovery(_ reason: EvictionReason, lnet: inout LNetCore) {
        guard isRecovering else { return }
        for index in 0..<UInt32(exports.placeCount) where exports.contains(index) {
            switch exports[index].recovery {
            case .none, .done: break
            case .absent, .opens, .requests, .locks: evict(index, reason)
            }
        }
        // Nobody is left to wait for: through the stages at once.
        advanceRecovery(lnet: &lnet)
    }

    /// Whether this stage waits for the client, and not for its owner here.
    private func isAwaited(_ index: UInt32) -> Bool {
        let export = exports[index]
        switch stage {
        case .connecting: return export.recovery == .absent
        case .openReplay: return export.recovery == .opens && export.requests.isEmpty
        case .requestReplay: return export.recovery == .requests && !isServed(export)
        case .lockReplay: return export.recovery == .locks && !isServed(export)
        case .standby, .serving, .stopped: return false
        }
    }

    /// True where something of the client is queued or with the owner. A bulk transfer is the
    /// client's to complete.
    private func isServed(_ export: Export) -> Bool {
        export.requests.contains {
            guard let state = requests[$0]?.state else { return false }
            return state == .queued || state == .executing
        }
    }
}
