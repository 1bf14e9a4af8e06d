import LDLMCore
import Primitives
import Testing
import WireFormat

@testable import Simulator

/// What the oracle keeps beside the clients: its books say what a look at everything would.
@Suite struct OracleTests {
    private func info(
        _ place: UInt32, _ resource: UInt64, _ mode: LockMode, _ policy: LockPolicy = .plain,
        _ state: ClientLockInfo.State = .granted
    ) -> ClientLockInfo {
        var cache = LockClient()
        guard case .pending(let lock) = cache.acquire(ResourceID(1), .pr, .plain, operation: 1),
            var info = cache.info(lock)
        else { preconditionFailure("a lock that nobody has is asked for") }
        info.handle = SlotHandle(index: place, generation: 1)
        info.resource = ResourceID(resource)
        info.mode = mode
        info.policy = policy
        info.state = state
        return info
    }

    private func set(
        _ book: inout LockBook, _ load: Int, target: Int = 0, _ info: ClientLockInfo
    ) -> Int? {
        book.set(info.handle, of: load, target: target, info)?.load
    }

    private func extent(_ start: UInt64, _ end: UInt64) -> LockPolicy {
        .extent(Extent(start: start, end: end), group: 0)
    }

    @Test func `a lock that another client's excludes is found when it is granted`() {
        var book = LockBook()
        #expect(set(&book, 0, info(0, 7, .pw, extent(0, 99))) == nil)
        #expect(set(&book, 1, info(0, 7, .pr, extent(50, 60))) == 0)
        #expect(set(&book, 0, info(1, 7, .pr, extent(0, 99))) == nil, "it is the same client")
    }

    @Test func `locks elsewhere, of other bytes, or not yet granted exclude nobody`() {
        var book = LockBook()
        #expect(set(&book, 0, info(0, 7, .pw, extent(0, 99))) == nil)
        #expect(set(&book, 1, info(0, 7, .pw, extent(100, 200))) == nil)
        #expect(set(&book, 2, info(0, 8, .pw, extent(0, 99))) == nil)
        #expect(set(&book, 3, target: 1, info(0, 7, .pw, extent(0, 99))) == nil)
        #expect(set(&book, 4, info(0, 7, .pw, extent(0, 99), .waiting)) == nil)
        #expect((0...4).map { book.holdings(of: $0).count } == [1, 1, 1, 1, 0])
    }

    @Test func `what is given back or forgotten excludes nobody any more`() {
        var book = LockBook()
        let first = info(0, 7, .ex)
        #expect(set(&book, 0, first) == nil)
        #expect(book.set(first.handle, of: 0, target: 0, nil) == nil)
        #expect(set(&book, 1, info(0, 7, .ex)) == nil)
        book.forget(1)
        #expect(book.holdings(of: 1).count == 0)
        #expect(set(&book, 2, info(0, 7, .ex)) == nil)
        // Being written back is still being held.
        #expect(set(&book, 2, info(0, 7, .ex, .plain, .cancelling)) == nil)
        #expect(set(&book, 3, info(0, 7, .pr)) == 2)
    }

    @Test func `words are read back as they were written, and nothing else is one`() {
        let words = [
            SharedWord(number: 0, life: 0, cookie: 7),
            SharedWord(number: 31, life: 4, cookie: 18_446_744_073_709_551_615),
        ]
        func found(_ bytes: [UInt8]) -> [SharedWord] {
            var all: [SharedWord] = []
            SharedWord.forEach(in: bytes) { all.append($0) }
            return all
        }
        #expect(found(words[0].bytes + words[1].bytes) == words)
        #expect(found(Array("0.0.7".utf8)).isEmpty, "it has no end")
        #expect(found(Array("0.7;0..7;.0.7;0.0.;0.0.0.7;0.0.x7;\0.0.7;".utf8)).isEmpty)
        #expect(found([0, 59] + words[1].bytes) == [words[1]])
    }

    @Test func `coverage has a row for every state of an import`() {
        let names = Coverage().rows.map(\.name)
        #expect(names.contains("import IDLE") && names.contains("import CLOSED"))
        #expect(Set(names).count == names.count)
    }
}
