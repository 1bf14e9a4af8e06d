import Primitives

/// What the clients saw of one upgrade, in their clock.
struct Trace {
    let target: Int
    /// Just before the order was sent, or the process was killed.
    var began: Ticks
    let isAnnounced: Bool
    /// By client; zero where it did not happen.
    var gateShut: [Ticks]
    var receipt: [Ticks]
    var committed: [Ticks]
    var firstWaited: [Ticks]
    /// The operation that waited first has come to its end.
    var waitEnded: [Ticks]
    var firstAcknowledged: [Ticks]
    /// Connected to the next instance, and through with its replays.
    var isBack: [Bool]
    /// When it was.
    var backAt: [Ticks]
    var backCount = 0
    /// The longest operation that was under way while the target was gone, for each client.
    var longestOperation: [TickInterval]
    let oldInstances: [UInt64]
    var lastOfOld = Ticks.zero
    var firstOfNew = Ticks.zero
    var ended = Ticks.zero

    init(target: Int, began: Ticks, isAnnounced: Bool, oldInstances: [UInt64]) {
        self.target = target
        self.began = began
        self.isAnnounced = isAnnounced
        self.oldInstances = oldInstances
        let count = oldInstances.count
        gateShut = Array(repeating: .zero, count: count)
        receipt = gateShut
        committed = gateShut
        firstWaited = gateShut
        waitEnded = gateShut
        firstAcknowledged = gateShut
        isBack = Array(repeating: false, count: count)
        backAt = gateShut
        longestOperation = Array(repeating: .zero, count: count)
    }

    mutating func back(_ client: Int, at now: Ticks) {
        guard !isBack[client] else { return }
        backAt[client] = now
        isBack[client] = true
        backCount += 1
    }

    /// Milliseconds from the order to a moment, for the clients that had it.
    func sinceOrder(_ moments: [Ticks]) -> [Double] {
        moments.filter { $0 != .zero }.map { ($0 - began).inMilliseconds }
    }

    /// Milliseconds for which each client that had to wait waited.
    ///
    /// Announced: from the first operation at the shut gate to its end. Crash: the longest operation that was under way while the target was gone.
    var pauses: [Double] {
        guard isAnnounced else {
            return longestOperation.filter { $0 != .zero }.map(\.inMilliseconds)
        }
        return sinceFirstWaited(waitEnded)
    }

    /// From the first operation at the shut gate to the first update that the next instance
    /// acknowledged; of data, that is the next write-back.
    var updateGaps: [Double] { isAnnounced ? sinceFirstWaited(firstAcknowledged) : [] }

    private func sinceFirstWaited(_ moments: [Ticks]) -> [Double] {
        firstWaited.indices.compactMap { client in
            guard firstWaited[client] != .zero, moments[client] != .zero else { return nil }
            return (moments[client] - firstWaited[client]).inMilliseconds
        }
    }

    /// From the last update that the old instance acknowledged to the first of the new one.
    var blackoutMs: Double? {
        guard lastOfOld != .zero, firstOfNew != .zero else { return nil }
        return (firstOfNew - lastOfOld).inMilliseconds
    }
}
