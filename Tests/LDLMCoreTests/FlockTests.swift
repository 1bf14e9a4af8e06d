import LDLMCore
import Primitives
import Testing
import WireFormat

extension LockServer {
    /// A record lock of process `tag` at client `owner`.
    fileprivate mutating func flock(
        _ owner: UInt32, _ tag: UInt64, _ mode: LockMode, _ start: UInt64, _ end: UInt64,
        _ cookie: UInt64, on resource: UInt64 = 1, flags: LockFlags = []
    ) -> EnqueueResult {
        enqueue(
            owner: client(owner), resource: ResourceID(resource), mode: mode,
            policy: .flock(Extent(start: start, end: end), owner: tag, pid: UInt32(tag)),
            clientCookie: cookie, flags: flags, now: epoch)
    }

    /// The granted record locks on a resource by start, as `mode start-end`.
    fileprivate func ranges(_ resource: UInt64 = 1) -> [String] {
        holders(ResourceID(resource)).sorted { $0.policy.range.start < $1.policy.range.start }
            .map { "\($0.mode) \($0.policy.range.start)-\($0.policy.range.end)" }
    }
}

@Suite struct FlockTests {
    @Test func `what an owner locks replaces, splits and joins what it had`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        #expect(server.flock(1, 7, .pw, 10, 29, 1).outcome == .granted)
        #expect(server.flock(1, 7, .pr, 15, 19, 2).outcome == .granted)
        #expect(server.ranges() == ["PW 10-14", "PR 15-19", "PW 20-29"])
        #expect(server.flock(1, 7, .pw, 15, 19, 3).outcome == .granted)
        #expect(server.ranges() == ["PW 10-29"])
        // Adjacent ones of one mode are one.
        #expect(server.flock(1, 7, .pw, 30, 39, 4).policy.range == Extent(start: 10, end: 39))
        #expect(server.ranges() == ["PW 10-39"])
        #expect(server.flock(1, 7, .nl, 20, 24, 5).outcome == .granted)
        #expect(server.ranges() == ["PW 10-19", "PW 25-39"])
        #expect(server.flock(1, 7, .nl, 0, .max, 6).outcome == .granted)
        #expect(server.count == 0)
        // An unlock of nothing is none the worse.
        #expect(server.flock(1, 7, .nl, 0, .max, 7).outcome == .granted)
        #expect(server.takeActions().isEmpty)
        #expect(server.holders(ResourceID(1)).isEmpty)
    }

    @Test func `another owner waits, is refused, or asks who is in the way`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.flock(1, 7, .pw, 0, 9, 1)
        // The same process number at another client is another owner.
        #expect(server.flock(2, 7, .pr, 5, 5, 2, flags: .blockNoWait).outcome == .wouldBlock)
        let test = server.flock(2, 7, .pr, 5, 5, 3, flags: .testLock)
        #expect(test.outcome == .tested)
        #expect(test.mode == .pw)
        #expect(test.policy == .flock(Extent(start: 0, end: 9), owner: 7, pid: 7))
        let free = server.flock(2, 7, .pw, 10, .max, 4, flags: .testLock)
        #expect(free.mode == .nl)
        let waiting = server.flock(2, 7, .pr, 5, 12, 5)
        #expect(waiting.outcome == .waiting)
        // Nobody is called back for a record lock, and the same question has the same answer.
        expectSameAnswer(server.flock(2, 7, .pr, 5, 12, 5), as: waiting)
        #expect(server.takeActions().isEmpty)
        #expect(server.nextDeadline == nil)
        _ = server.flock(1, 7, .nl, 0, 4, 6)
        #expect(server.takeActions().isEmpty)
        _ = server.flock(1, 7, .pr, 5, 9, 7)
        #expect(server.takeActions().completed == [5])
        #expect(server.waitingCount == 0)
        // A waiter may leave.
        let other = server.flock(3, 1, .pw, 0, 20, 8)
        #expect(server.cancel(other.lock, owner: client(3), now: epoch) == .done(ResourceID(1)))
        #expect(server.waitingCount == 0)
    }

    @Test func `a granted record lock is given up by its range, not by its cookie`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.flock(1, 7, .pw, 0, 99, 1)
        _ = server.flock(2, 7, .pw, 100, 199, 2)
        let waiting = server.flock(1, 7, .pw, 100, 199, 3)
        #expect(waiting.outcome == .waiting)
        _ = server.flock(2, 7, .nl, 100, 199, 4)
        // Granted, it has become one with what its owner had before: that would go with it.
        #expect(server.takeActions().completed == [3])
        #expect(server.cancel(waiting.lock, owner: client(1), now: epoch) == .unknown)
        #expect(server.flock(2, 7, .pw, 0, 0, 5, flags: .blockNoWait).outcome == .wouldBlock)
        _ = server.flock(1, 7, .nl, 100, 199, 6)
        #expect(server.flock(2, 7, .pw, 0, 0, 7, flags: .blockNoWait).outcome == .wouldBlock)
        #expect(server.flock(2, 7, .pw, 100, 199, 8, flags: .blockNoWait).outcome == .granted)
    }

    @Test func `whoever would wait for itself is refused, over several files and owners`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        for owner in UInt32(1)...4 {
            _ = server.flock(owner, 1, .pw, 0, 9, 1, on: UInt64(owner))
        }
        #expect(server.flock(1, 1, .pw, 0, 0, 2, on: 2).outcome == .waiting)
        #expect(server.flock(2, 1, .pw, 0, 0, 2, on: 3).outcome == .waiting)
        #expect(server.flock(3, 1, .pr, 0, 0, 2, on: 4).outcome == .waiting)
        let circle = server.flock(4, 1, .pr, 9, 12, 2, on: 1)
        #expect(circle.outcome == .refused(.deadlock))
        #expect(server.count == 7)
        // Without a circle it may wait, and everybody comes in turn.
        #expect(server.flock(4, 1, .pr, 10, 12, 3, on: 1).outcome == .granted)
        _ = server.flock(4, 1, .nl, 0, .max, 4, on: 4)
        #expect(server.takeActions().completed == [2])
        server.removeAll(client(3), now: epoch)
        #expect(server.takeActions().completed == [2])
    }

    @Test func `a waiter that comes to close a circle later is told so`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        // Owner 2 has two threads: one will wait for 1 on file 2, one waits on file 1.
        _ = server.flock(1, 1, .pw, 0, 0, 1, on: 2)
        _ = server.flock(3, 1, .pw, 0, 0, 1, on: 1)
        #expect(server.flock(2, 1, .pw, 0, 0, 2, on: 1).outcome == .waiting)
        #expect(server.flock(2, 1, .pw, 0, 0, 3, on: 2).outcome == .waiting)
        #expect(server.flock(1, 1, .pw, 0, 0, 4, on: 1).outcome == .waiting)
        _ = server.flock(3, 1, .nl, 0, 0, 5, on: 1)
        let actions = server.takeActions()
        // 2 gets file 1; 1 waits for 2 from then on, which waits for 1.
        #expect(actions.completed.sorted() == [2, 4])
        for case .completionAST(_, let owner, _, let granted, let flags) in actions {
            #expect(flags == (owner == client(1) ? .flockDeadlock : []))
            #expect((granted.grantedMode == nil) == (owner == client(1)))
        }
        #expect(server.waitingCount == 1)
    }

    @Test func `who leaves no room for a split is refused before anything changes`() {
        var server = LockServer(LockServerConfiguration(instance: 1, lockCountMax: 4))
        for index in UInt64(0)..<3 {
            #expect(
                server.flock(1, 7, .pw, 100 * index, 100 * index + 9, index).outcome == .granted)
        }
        #expect(server.flock(1, 7, .pw, 500, 509, 9).outcome == .refused(.full))
        #expect(server.flock(1, 7, .nl, 105, 105, 9).outcome == .refused(.full))
        #expect(server.count == 3)
        var configuration = LockServerConfiguration(instance: 1)
        configuration.ownerLockCountMax = 2
        var bounded = LockServer(configuration)
        #expect(bounded.flock(1, 7, .pw, 0, 9, 1).outcome == .granted)
        #expect(bounded.flock(1, 8, .pw, 20, 29, 2).outcome == .granted)
        #expect(bounded.flock(1, 9, .pw, 40, 49, 3).outcome == .refused(.full))
        #expect(bounded.flock(2, 9, .pw, 40, 49, 3).outcome == .granted)
    }

    /// Every byte of a small file with its owner and mode, and waiters in order of arrival.
    private struct NaiveFile {
        struct Asked {
            var cookie: UInt64
            var owner: Int
            var isWrite: Bool
            var range: ClosedRange<Int>
        }
        /// By byte and owner: 0 nothing, 1 read, 2 write.
        var held = [[Int]](repeating: [Int](repeating: 0, count: 4), count: 40)
        var waiting: [Asked] = []

        func conflicts(_ asked: Asked) -> Bool {
            asked.range.contains { byte in
                (0..<4).contains { other in
                    other != asked.owner
                        && (held[byte][other] == 2 || (held[byte][other] == 1 && asked.isWrite))
                }
            }
        }

        mutating func set(_ asked: Asked, _ value: Int) {
            for byte in asked.range { held[byte][asked.owner] = value }
        }

        /// Who can be granted is, in order of arrival, until nobody can.
        mutating func serve() -> [UInt64] {
            var granted: [UInt64] = []
            while let index = waiting.firstIndex(where: { !conflicts($0) }) {
                let asked = waiting.remove(at: index)
                set(asked, asked.isWrite ? 2 : 1)
                granted.append(asked.cookie)
            }
            return granted
        }
    }

    @Test(arguments: UInt64(1)...40)
    func `record locks are those of the naive model, byte by byte`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var server = LockServer(LockServerConfiguration(instance: 1))
        var model = NaiveFile()
        for step in UInt64(1)...400 {
            let owner = random.below(4)
            // An owner that waits does nothing else: so there are no circles in one file of
            // which each owner asks for one range at a time.
            if model.waiting.contains(where: { $0.owner == owner }) { continue }
            let first = random.below(40)
            let last = min(39, first + random.below(12))
            let asked = NaiveFile.Asked(
                cookie: step, owner: owner, isWrite: random.oneIn(2), range: first...last)
            var granted: [UInt64] = []
            if random.oneIn(3) {
                let result = server.flock(
                    UInt32(owner / 2), UInt64(owner), .nl, UInt64(first), UInt64(last), step)
                #expect(result.outcome == .granted)
                model.set(asked, 0)
            } else {
                let result = server.flock(
                    UInt32(owner / 2), UInt64(owner), asked.isWrite ? .pw : .pr, UInt64(first),
                    UInt64(last), step)
                switch result.outcome {
                case .granted:
                    #expect(!model.conflicts(asked), "seed \(seed) step \(step)")
                    model.set(asked, asked.isWrite ? 2 : 1)
                case .waiting:
                    #expect(model.conflicts(asked), "seed \(seed) step \(step)")
                    model.waiting.append(asked)
                case .refused(.deadlock):
                    #expect(model.conflicts(asked), "seed \(seed) step \(step)")
                default:
                    Issue.record("\(result.outcome) is no answer here, seed \(seed)")
                }
            }
            let expected = model.serve()
            for case .completionAST(_, _, let cookie, _, let flags) in server.takeActions() {
                if flags == .flockDeadlock {
                    model.waiting.removeAll { $0.cookie == cookie }
                } else {
                    granted.append(cookie)
                }
            }
            #expect(granted.sorted() == expected.sorted(), "seed \(seed) step \(step)")
            var bytes = [[Int]](repeating: [Int](repeating: 0, count: 4), count: 40)
            for info in server.holders(ResourceID(1)) {
                guard case .flock(let range, let owner, _) = info.policy else { continue }
                for byte in range.start...range.end {
                    #expect(bytes[Int(byte)][Int(owner)] == 0, "held twice, seed \(seed)")
                    bytes[Int(byte)][Int(owner)] = info.mode == .pw ? 2 : 1
                }
            }
            #expect(bytes == model.held, "seed \(seed) step \(step)")
        }
    }
}
