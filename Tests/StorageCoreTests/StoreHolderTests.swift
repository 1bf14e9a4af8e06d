import Foundation
import StorageCore
import Store
import Testing

@Suite struct `Holding a store between hosts` {
    private func claim(_ host: String, fences: Bool? = nil) -> StoreClaim {
        var claim = StoreClaim(host: host, address: "192.0.2.7@tcp")
        if let fences { claim.fence = { _ in fences } }
        return claim
    }

    /// Rewrites the block as a host would leave it that was cut off from its store.
    private func leaveHeld(_ scratch: Scratch, by host: String) throws -> StoreHolder {
        var lock: StoreLock? = try StoreLock.take(directory: scratch.path, for: claim(host))
        let holder = try #require(try StoreHolder.read(directory: scratch.path))
        let bytes = try Data(contentsOf: URL(fileURLWithPath: scratch.path + "/holder"))
        lock = nil
        _ = lock
        try bytes.write(to: URL(fileURLWithPath: scratch.path + "/holder"))
        return holder
    }

    @Test func `the block says who holds it and that it was let go of`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        let before = try #require(try StoreHolder.read(directory: scratch.path))
        #expect(before.isReleased)
        do {
            let lock = try StoreLock.take(directory: scratch.path, for: claim("alpha"))
            let held = try #require(try StoreHolder.read(directory: lock.directory))
            #expect(held.host == "alpha" && held.address == "192.0.2.7@tcp")
            #expect(held.process == getpid() && !held.isReleased && held.term == before.term + 1)
        }
        let after = try #require(try StoreHolder.read(directory: scratch.path))
        #expect(after.isReleased && after.host == "alpha")
    }

    @Test func `another host's store is taken only once that host is fenced`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        let holder = try leaveHeld(scratch, by: "alpha")
        let refusal = StoreError.heldElsewhere(directory: scratch.path, holder: holder)
        for fences in [nil, false] as [Bool?] {
            #expect(throws: refusal) {
                try StoreLock.take(directory: scratch.path, for: claim("beta", fences: fences))
            }
        }
        let taken = try StoreLock.take(directory: scratch.path, for: claim("beta", fences: true))
        let now = try #require(try StoreHolder.read(directory: taken.directory))
        #expect(now.host == "beta" && now.term == holder.term + 1)
    }

    @Test func `the same host needs no fence after a crash`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        _ = try leaveHeld(scratch, by: "alpha")
        _ = try StoreLock.take(directory: scratch.path, for: claim("alpha"))
    }

    @Test func `a torn block is nobody's word, and a store without one is free`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        _ = try leaveHeld(scratch, by: "alpha")
        let path = scratch.path + "/holder"
        let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        for place in [0, 4, 8, 16, 28, 32, 33, 96, 200, 255] {
            var bytes = whole
            bytes[place] ^= 0x81
            try Data(bytes).write(to: URL(fileURLWithPath: path))
            #expect(try StoreHolder.read(directory: scratch.path) == nil, "byte \(place)")
        }
        for count in [0, 1, 128, 255] {
            try Data(whole.prefix(count)).write(to: URL(fileURLWithPath: path))
            #expect(try StoreHolder.read(directory: scratch.path) == nil, "\(count) bytes")
        }
        _ = try StoreLock.take(directory: scratch.path, for: claim("beta"))
    }

    @Test func `who lost the store commits nothing more and is told`() async throws {
        let scratch = Scratch()
        let told = Flag()
        var first = claim("alpha")
        first.onLost = { if $0.host == "beta" { told.set() } }
        let lock: StoreLock
        do {
            try scratch.open().close()
            lock = try StoreLock.take(directory: scratch.path, for: first)
        }
        var store = OverlayStore(
            base: try DiskStore.open(
                directory: scratch.path, targetName: "T0001", targetKind: "ost", create: false,
                lock: lock, onEvent: { _ in }))
        store.apply(put([1], [2]))
        try commitAll(&store)
        // As another host writes that does not see this one's flock.
        let other = Scratch()
        try other.open().close()
        _ = try leaveHeld(other, by: "beta")
        _ = try leaveHeld(other, by: "beta")
        _ = try leaveHeld(other, by: "beta")
        let bytes = try Data(contentsOf: URL(fileURLWithPath: other.path + "/holder"))
        try bytes.write(to: URL(fileURLWithPath: scratch.path + "/holder"))
        store.apply(put([1], [3]))
        #expect(throws: StoreError.self) { try commitAll(&store) }
        for _ in 0..<400 where !told.isSet { try await Task.sleep(for: .milliseconds(20)) }
        #expect(told.isSet)
        store.base.abandon()
        let after = try #require(try StoreHolder.read(directory: scratch.path))
        #expect(after.host == "beta" && !after.isReleased, "the other's block is left alone")
    }
}

private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false
    var isSet: Bool { lock.withLock { value } }
    func set() { lock.withLock { value = true } }
}
