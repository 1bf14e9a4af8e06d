import NodeRuntime
import SluiceClient
import Testing
import WireFormat

@Suite(.timeLimit(.minutes(3)))
struct RuntimeFileTests {
    @Test func `every operation does over real sockets and a real disk what POSIX says`()
        async throws
    {
        let cluster = try RuntimeCluster()
        try cluster.startAll()
        let files = try await cluster.mount()

        try await files.mkdir("/a")
        try await files.mkdir("/a/b", mode: 0o700)
        #expect(try await files.stat("/a/b").type == .directory)
        #expect(try await files.stat("/a/b").mode == 0o700)
        await #expect(throws: FileSystemError(.exists, path: "/a")) {
            try await files.mkdir("/a")
        }

        let file = try await files.open(
            "/a/b/file", [.read, .write, .create], mode: 0o640, stripeCount: 2)
        #expect(file.wasCreated)
        let bytes = pattern(3_000_000, 1)
        try await file.write(bytes, at: 0)
        #expect(
            try await file.read(at: 1_000_000, count: 500_000)
                == bytes[1_000_000..<1_500_000].map { $0 })
        #expect(try await file.append([1, 2, 3]) == 3_000_000)
        try await file.flush()
        #expect(try await files.stat("/a/b/file").size == 3_000_003)
        try await file.truncate(to: 10)
        #expect(try await file.read(at: 0, count: 100) == Array(bytes[0..<10]))
        try await file.close()
        await #expect(throws: FileSystemError(.badHandle, path: "/a/b/file")) {
            try await file.read(at: 0, count: 1)
        }

        try await files.rename("/a/b/file", to: "/a/moved")
        await #expect(throws: FileSystemError(.noEntry, path: "/a/b/file")) {
            try await files.stat("/a/b/file")
        }
        try await files.setPermissions("/a/moved", 0o600)
        #expect(try await files.stat("/a/moved").mode == 0o600)
        let again = try await files.open("/a/moved")
        #expect(!again.wasCreated)
        #expect(try await again.read(at: 0, count: 100) == Array(bytes[0..<10]))
        try await again.close()

        #expect(try await files.list("/a").map(\.name.text) == ["b", "moved"])
        await #expect(throws: FileSystemError(.notEmpty, path: "/a")) {
            try await files.rmdir("/a")
        }
        try await files.unlink("/a/moved")
        try await files.rmdir("/a/b")
        try await files.rmdir("/a")
        #expect(try await files.list("/").isEmpty)

        await files.unmount()
        for target in cluster.description.targets {
            #expect(try cluster.stop(target.name)?.reason == .stopped)
        }
    }

    @Test func `two clients see each other's writes`() async throws {
        let cluster = try RuntimeCluster()
        try cluster.startAll()
        let one = try await cluster.mount(100)
        let two = try await cluster.mount(101)
        let mine = try await one.open("/shared", [.read, .write, .create])
        try await mine.write(pattern(5000, 7), at: 0)
        let yours = try await two.open("/shared", [.read, .write])
        #expect(try await yours.read(at: 0, count: 10_000) == pattern(5000, 7))
        #expect(try await yours.append([9]) == 5000)
        #expect(try await mine.read(at: 4999, count: 10) == [pattern(5000, 7)[4999], 9])
        await one.unmount()
        await two.unmount()
        try cluster.stopAll()
    }

    @Test func `a long directory comes in pages`() async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.startAll()
        let files = try await cluster.mount()
        let directory = try await files.mkdir("/many")
        try await withThrowingTaskGroup { group in
            for index in 0..<2500 {
                group.addTask { try await files.mkdir(name("d\(index)"), in: directory) }
            }
            try await group.waitForAll()
        }
        let names = try await files.list("/many").map(\.name.text)
        #expect(Set(names).count == 2500)
        #expect(names == names.sorted())
        await files.unmount()
        try cluster.stopAll()
    }

    @Test(arguments: ["relative", "", "/a/../b", "/" + String(repeating: "x", count: 256)])
    func `a path that is none is refused before anything is sent`(path: String) async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        // Nobody serves: what were sent would wait for ever.
        let fleet = try ClientFleet(cluster: cluster.description, nids: [cluster.nid(100)])
        try fleet.start()
        let files = FileSystem(Node(fleet: fleet, index: 0))
        await #expect(throws: FileSystemError.self) { try await files.stat(path) }
        fleet.stop()
        try fleet.join()
        // After its end a fleet answers at once.
        await #expect(throws: FileSystemError(.shutdown, path: "/")) {
            try await files.stat("/")
        }
    }
}
