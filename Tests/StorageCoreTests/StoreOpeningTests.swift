import Foundation
import StorageCore
import Store
import Testing

@Suite struct `Opening a store` {
    @Test func `one server at a time holds it`() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        #expect(scratch.refusal() == .inUse(directory: scratch.path, holder: getpid()))
        #expect(throws: StoreError.inUse(directory: scratch.path, holder: getpid())) {
            try StoreLock.wait(directory: scratch.path, timeoutMs: 5)
        }
        try store.close()
        #expect(scratch.refusal() == nil)
    }

    @Test func `a standby gets the lock when the holder lets go`() async throws {
        let scratch = Scratch()
        let path = scratch.path
        var store = OverlayStore(base: try scratch.open())
        store.apply(put([1], [2]))
        let standby = Thread.start { try StoreLock.wait(directory: path) }
        let impatient = Thread.start { try StoreLock.wait(directory: path, timeoutMs: 2) }
        await #expect(throws: StoreError.self) { try await impatient.value }
        try commitAll(&store)
        try store.base.close()
        let lock = try await standby.value
        let taken = try DiskStore.open(
            directory: path, targetName: "T0001", targetKind: "ost", create: false, lock: lock,
            onEvent: { _ in })
        #expect(taken.read(.meta, [1]) == [2])
        #expect(scratch.refusal() != nil, "the standby holds it now")
        try taken.close()
    }

    @Test func `where there is none, one is made only when asked for`() throws {
        let scratch = Scratch()
        #expect(scratch.refusal() == .noStore(directory: scratch.path))
        #expect(scratch.refusal(create: true) == nil)
        #expect(scratch.refusal() == nil)
        #expect(scratch.refusal(create: true) == nil, "one that is there is opened")
    }

    @Test func `a store of another target or kind is refused`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        #expect(
            scratch.refusal("T0002")
                == .wrongTarget(
                    directory: scratch.path, found: "T0001", foundKind: "ost", wanted: "T0002",
                    wantedKind: "ost"))
        #expect(scratch.refusal(kind: "mdt") != nil)
    }

    @Test func `a newer format and unknown features are refused`() throws {
        let newer = Scratch()
        var options = DiskStore.Options()
        options.newStoreFormat = 3
        options.supportedFormat = 3
        try newer.open(options: options).close()
        #expect(
            newer.refusal() == .newerFormat(directory: newer.path, found: 3, supported: 2))
        #expect(newer.refusal(options: options) == nil, "the build that wrote it reads it")
        let featured = Scratch()
        options = DiskStore.Options()
        options.newStoreFeatures = 4
        // A creation goes through; from then on the build is the older one.
        try featured.open(options: options).close()
        #expect(featured.refusal() == .unknownFeatures(directory: featured.path, bits: 4))
    }

    @Test func `a file that is no database is refused and left alone`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        let database = URL(fileURLWithPath: scratch.path + "/store.mdb")
        let garbage = Data((0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        try garbage.write(to: database)
        guard case .corrupt = scratch.refusal(create: true) else {
            Issue.record("garbage was taken for a database")
            return
        }
        #expect(try Data(contentsOf: database) == garbage)
    }

    @Test func `a database cut short anywhere is refused, or whole`() throws {
        let scratch = Scratch()
        var store = OverlayStore(base: try scratch.open())
        for number in UInt8(0)..<60 {
            store.apply(put([number], [UInt8](repeating: number, count: 700)))
        }
        try commitAll(&store)
        try store.base.close()
        let database = URL(fileURLWithPath: scratch.path + "/store.mdb")
        let whole = try Data(contentsOf: database)
        var refusals = 0
        var length = whole.count
        while length > 1 {
            length -= 1_500
            if length < 1 { length = 1 }
            try whole.prefix(length).write(to: database)
            switch scratch.refusal() {
            case .corrupt: refusals += 1
            case nil: #expect(length > whole.count / 2, "\(length) of \(whole.count) bytes")
            case let other?: Issue.record("\(other) at \(length) of \(whole.count) bytes")
            }
        }
        #expect(refusals > 10)
        try Data().write(to: database)
        #expect(scratch.refusal() == .noStore(directory: scratch.path))
    }

    @Test func `metadata without objects and objects without metadata are refused`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        let files = FileManager.default
        try files.moveItem(atPath: scratch.path + "/objects/7f", toPath: scratch.path + "/7f")
        #expect(scratch.refusal() == .objectsMissing(path: scratch.path + "/objects/7f"))
        try files.moveItem(atPath: scratch.path + "/objects", toPath: scratch.path + "/elsewhere")
        #expect(scratch.refusal() == .objectsMissing(path: scratch.path + "/objects"))
        try files.moveItem(atPath: scratch.path + "/elsewhere", toPath: scratch.path + "/objects")
        try files.moveItem(atPath: scratch.path + "/7f", toPath: scratch.path + "/objects/7f")
        #expect(scratch.refusal() == nil)
        try files.removeItem(atPath: scratch.path + "/store.mdb")
        #expect(
            scratch.refusal(create: true)
                == .metadataMissing(path: scratch.path + "/store.mdb"))
    }

    @Test(.enabled(if: getuid() != 0, "root may read everything"))
    func `a directory of somebody else is refused`() throws {
        let scratch = Scratch()
        try scratch.open().close()
        _ = unsafe chmod(scratch.path, 0)
        defer { _ = unsafe chmod(scratch.path, 0o700) }
        #expect(scratch.refusal() == .denied(path: scratch.path + "/lock"))
    }

    @Test func `every refusal is one sentence that names the thing`() {
        let errors: [StoreError] = [
            .inUse(directory: "/s", holder: 7), .inUse(directory: "/s", holder: nil),
            .noStore(directory: "/s"),
            .wrongTarget(
                directory: "/s", found: "a", foundKind: "ost", wanted: "b", wantedKind: "mdt"),
            .newerFormat(directory: "/s", found: 9, supported: 1),
            .unknownFeatures(directory: "/s", bits: 4), .corrupt(path: "/s/x", detail: "d"),
            .metadataMissing(path: "/s/x"), .objectsMissing(path: "/s/o"), .denied(path: "/s"),
            .full(path: "/s"), .system(path: "/s", call: "read", code: -5),
        ]
        for error in errors {
            let text = error.description
            #expect(text.contains("/s") && text.count > 20, "\(text)")
            #expect(!text.hasSuffix(".") && !text.contains("\n"), "\(text)")
        }
    }
}

extension Thread {
    /// A result that a thread of its own works out, blocking as it likes.
    static func start<R: Sendable>(
        _ body: @escaping @Sendable () throws -> R
    ) -> Task<R, any Error> {
        Task {
            try await withCheckedThrowingContinuation { continuation in
                Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
            }
        }
    }
}
