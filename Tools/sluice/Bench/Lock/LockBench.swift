import LDLMCore
import Primitives
import WireFormat

/// The lock server alone, in this process, beside the locks that it holds.
final class LockBench {
    enum Kind: String, CaseIterable {
        /// Each pair on a resource that nobody else has a lock on.
        case own = "pairs-own"
        /// All pairs on one resource that every owner holds a lock on.
        case shared = "pairs-shared"
    }

    static let ownerCount = 1000
    private static let shared = ResourceID(1, 9)
    private static let page = LockPolicy.extent(Extent(start: 0, end: 4095))
    /// So many pairs are one sample: reading the clock would weigh as much as a pair.
    private static let sampleCount = 500

    private var server = LockServer(LockServerConfiguration(instance: 1))
    private let lockCount: Int
    private var number = 0
    /// Grants per second while the table filled.
    let fillRate: Double
    /// Of the server's tables, for each lock with its resource.
    let bytesPerLock: Double
    /// The same with what the tables have set aside for growth.
    let reservedBytesPerLock: Double

    /// Fills the server: each lock on a resource of its own.
    init(locks lockCount: Int) {
        self.lockCount = lockCount
        let clock = ContinuousClock()
        let began = clock.now
        for place in 0..<lockCount {
            _ = server.enqueue(
                owner: Self.owner(place), resource: ResourceID(UInt64(place), 7), mode: .pr,
                policy: Self.page, clientCookie: UInt64(place), now: .zero)
        }
        fillRate = Double(lockCount) / (clock.now - began).seconds
        precondition(server.count == lockCount, "nothing is in the way of these locks")
        let memory = server.memoryByteCount
        bytesPerLock = Double(memory.inUse) / Double(lockCount)
        reservedBytesPerLock = Double(memory.reserved) / Double(lockCount)
        number = lockCount
        for holder in 0..<Self.ownerCount {
            _ = server.enqueue(
                owner: Self.owner(holder), resource: Self.shared, mode: .pr, policy: Self.page,
                clientCookie: UInt64(number), now: .zero)
            number += 1
        }
    }

    private static func owner(_ number: Int) -> LockOwner {
        LockOwner(index: UInt32(number % ownerCount), generation: 1)
    }

    /// `pairs` enqueues, each with its cancel.
    func run(_ kind: Kind, pairs: Int, keepsRaw: Bool) -> BenchResult.Run {
        var recorder = Recorder(keepsRaw: keepsRaw)
        let clock = ContinuousClock()
        let began = clock.now
        var last = began
        var done = 0
        while done < pairs {
            let count = min(Self.sampleCount, pairs - done)
            for _ in 0..<count { pair(kind) }
            done += count
            let now = clock.now
            recorder.record(UInt64((now - last).seconds * 1e9) / UInt64(count))
            last = now
        }
        precondition(
            server.count == lockCount + Self.ownerCount, "every pair left nothing behind")
        precondition(server.actions.isEmpty, "nobody was in anybody's way")
        return recorder.run(
            unit: .us, figures: ["perSecond": Double(pairs) / (last - began).seconds])
    }

    private func pair(_ kind: Kind) {
        let owner = Self.owner(number)
        let result: EnqueueResult
        switch kind {
        case .own:
            result = server.enqueue(
                owner: owner, resource: ResourceID(UInt64(number), 8), mode: .pw,
                policy: Self.page, clientCookie: UInt64(number), now: .zero)
        case .shared:
            result = server.enqueue(
                owner: owner, resource: Self.shared, mode: .pr, policy: Self.page,
                clientCookie: UInt64(number), now: .zero)
        }
        server.cancel(result.lock, owner: owner, now: .zero)
        number += 1
    }
}

extension Duration {
    var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
