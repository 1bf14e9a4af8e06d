import EventLoop
import Glibc
import Primitives
import Testing

/// A loop's owner made of a closure, for tests without sockets.
private struct Turns: EventHandler {
    var turn: (EventLoop) -> Ticks
    var readied: [(UInt64, Readiness)] = []

    mutating func ready(_ token: UInt64, _ readiness: Readiness, on loop: EventLoop) {
        readied.append((token, readiness))
    }
    mutating func turn(on loop: EventLoop) -> Ticks { turn(loop) }
}

@Suite struct EventLoopTests {
    @Test(arguments: [TickInterval.zero, .microseconds(50)])
    func `another thread's mail ends a sleep`(spin: TickInterval) throws {
        let loop = try EventLoop(spin: spin)
        let mailbox = Mailbox<Int>(for: loop)
        let thread = try LoopThread(named: "sender") {
            usleep(20_000)
            mailbox.post(42)
        }
        var batch: [Int] = []
        var turns = Turns { loop in
            if mailbox.drain(into: &batch) { loop.stop() }
            return .distantFuture
        }
        try loop.run(&turns)
        thread.join()
        #expect(batch == [42])
        #expect(turns.readied.isEmpty, "the loop's own wake-up is not the handler's")
    }

    @Test func `mail of one sender keeps its order and none is lost`() throws {
        let loop = try EventLoop()
        let mailbox = Mailbox<(sender: Int, number: Int)>(for: loop)
        let senderCount = 4
        let letterCount = 5000
        var threads: [LoopThread] = []
        for sender in 0..<senderCount {
            threads.append(
                try LoopThread(named: "sender \(sender)") {
                    for number in 0..<letterCount {
                        mailbox.post((sender, number))
                        // Now and then long enough for the loop to fall asleep.
                        if number % 500 == 0 { usleep(1000) }
                    }
                })
        }
        var next = Array(repeating: 0, count: senderCount)
        var batch: [(sender: Int, number: Int)] = []
        var inOrder = true
        var turns = Turns { loop in
            mailbox.drain(into: &batch)
            for letter in batch {
                if letter.number != next[letter.sender] { inOrder = false }
                next[letter.sender] += 1
            }
            batch.removeAll(keepingCapacity: true)
            if next.reduce(0, +) == senderCount * letterCount { loop.stop() }
            return .distantFuture
        }
        try loop.run(&turns)
        for thread in threads { thread.join() }
        #expect(inOrder)
        #expect(next == Array(repeating: letterCount, count: senderCount))
    }

    @Test func `a full mailbox refuses`() throws {
        let loop = try EventLoop()
        let mailbox = Mailbox<Int>(for: loop, capacity: 2)
        #expect(mailbox.post(1))
        #expect(mailbox.post(2))
        #expect(!mailbox.post(3))
        var batch: [Int] = []
        #expect(mailbox.drain(into: &batch))
        #expect(batch == [1, 2])
        batch.removeAll()
        #expect(!mailbox.drain(into: &batch))
        #expect(mailbox.post(4))
    }

    @Test func `a loop that is awake is woken without a system call`() throws {
        let loop = try EventLoop()
        var count = 0
        var turns = Turns { loop in
            count += 1
            if count == 10 { loop.stop() }
            loop.wake()
            loop.wake()
            return .distantFuture
        }
        try loop.run(&turns)
        #expect(count == 10, "every wake brought about a turn")
        #expect(loop.counters.sleeps == 0)
        #expect(loop.counters.wakeups == 0)
    }

    @Test func `a loop wakes for its deadline, not before, and may run again`() throws {
        let loop = try EventLoop()
        for _ in 0..<3 {
            var deadline: Ticks?
            var early = 0
            var turns = Turns { loop in
                guard let due = deadline else {
                    deadline = loop.now + .microseconds(1500)
                    return deadline!
                }
                guard loop.now >= due else {
                    early += 1
                    return due
                }
                loop.stop()
                return .distantFuture
            }
            try loop.run(&turns)
            #expect(early <= 1, "at most the stop of the run before may be in the way")
        }
        #expect(loop.counters.sleeps >= 3)
    }

    @Test func `a stop before the run ends it at once`() throws {
        let loop = try EventLoop()
        loop.stop()
        var count = 0
        var turns = Turns { _ in
            count += 1
            return .distantFuture
        }
        try loop.run(&turns)
        #expect(count == 1)
    }

    @Test func `readiness is reported for as long as it lasts`() throws {
        let loop = try EventLoop()
        var ends: [Int32] = [0, 0]
        try #require(unsafe pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        try loop.add(ends[0], .readable, token: 77)
        #expect(unsafe write(ends[1], [UInt8(1)], 1) == 1)
        var count = 0
        var turns = Turns { loop in
            count += 1
            if count == 4 { loop.stop() }
            return .distantFuture
        }
        try loop.run(&turns)
        #expect(turns.readied.count == 3)
        #expect(turns.readied.allSatisfy { $0.0 == 77 && $0.1 == .readable })
        try loop.modify(ends[0], [], token: 77)
        try loop.remove(ends[0])
        let failure = #expect(throws: FabricError.self) { try loop.remove(ends[0]) }
        #expect(failure?.errno == ENOENT)
        #expect(loop.counters.events == 3)
    }

    @Test func `a lock lets one thread in at a time`() throws {
        let lock = Lock(0)
        let threads = try (0..<4).map { index in
            try LoopThread(named: "adder \(index)") {
                for _ in 0..<10_000 { lock.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(lock.withLock { $0 } == 40_000)
    }

    @Test func `the host answers`() throws {
        let limit = try Host.raiseDescriptorLimit()
        #expect(try Host.raiseDescriptorLimit() == limit)
        #expect(Host.cpuCount >= 1)
        let before = Host.monotonicNow
        #expect(Host.monotonicNow >= before)
        // 2020-01-01: a clock that was never set would show.
        #expect(Host.realtimeNanoseconds > 1_577_836_800_000_000_000)
    }

    @Test func `a loop that cannot be pinned says so`() throws {
        let loop = try EventLoop(cpu: 100_000)
        var turns = Turns { _ in .distantFuture }
        let failure = #expect(throws: FabricError.self) { try loop.run(&turns) }
        #expect(failure?.call == "pthread_setaffinity_np")
        #expect(failure?.errno == EINVAL)
    }
}
