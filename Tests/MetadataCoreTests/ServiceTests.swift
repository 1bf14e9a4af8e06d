import MetadataCore
import StorageCore
import Testing
import WireFormat

private let time = Timestamp(seconds: 5, nanoseconds: 6)

extension World {
    func mkdir(_ parent: FileID, _ name: FileName) -> FileID {
        let (_, body) = run(
            .mkdir(MkdirRequest(parent: parent, name: name, mode: 0o700, time: time)))
        guard case .attributes(let reply) = body else { return .none }
        return reply.attributes.file
    }

    func open(
        _ parent: FileID, _ name: FileName, _ flags: OpenFlags = [.write, .create],
        client: UInt32 = 0, stripeCount: UInt32 = 1
    ) -> OpenReply {
        let (_, body) = run(
            .open(
                OpenRequest(
                    parent: parent, name: name, flags: flags, mode: 0o600,
                    stripeCount: stripeCount, time: time)), client: client)
        guard case .open(let reply) = body else {
            return OpenReply(
                handle: 0, wasCreated: false,
                attributes: FileAttributes(
                    file: .none, type: .regular, mode: 0, linkCount: 0, modified: .zero,
                    changed: .zero, entryCount: 0), layout: .none)
        }
        return reply
    }

    func close(_ reply: OpenReply, client: UInt32 = 0) -> Status {
        run(
            .close(CloseRequest(file: reply.attributes.file, handle: reply.handle)),
            client: client
        ).status
    }

    func unlink(_ parent: FileID, _ name: FileName, isDirectory: Bool = false) -> Status {
        run(
            .unlink(
                UnlinkRequest(parent: parent, name: name, isDirectory: isDirectory, time: time))
        ).status
    }

    func rename(
        _ sourceParent: FileID, _ source: FileName, _ targetParent: FileID, _ target: FileName
    ) -> Status {
        run(
            .rename(
                RenameRequest(
                    sourceParent: sourceParent, sourceName: source, targetParent: targetParent,
                    targetName: target, time: time))
        ).status
    }

    func lookup(_ parent: FileID, _ path: [FileName]) -> (status: Status, file: FileID) {
        let (status, body) = run(.lookup(LookupRequest(parent: parent, path: path)))
        guard case .attributes(let reply) = body else { return (status, .none) }
        return (status, reply.attributes.file)
    }

    func file(_ parent: FileID, _ name: FileName) -> FileID {
        let reply = open(parent, name)
        _ = close(reply)
        return reply.attributes.file
    }
}

@Suite struct ServiceTests {
    @Test func `a lookup walks down a path and says where it ends`() {
        let world = World()
        let a = world.mkdir(.root, "a")
        let b = world.mkdir(a, "b")
        let f = world.file(b, "f")
        #expect(world.lookup(.root, ["a", "b", "f"]) == (.ok, f))
        #expect(world.lookup(a, []) == (.ok, a))
        #expect(world.lookup(.root, ["a", "x", "f"]).status == .noEntry)
        #expect(world.lookup(.root, ["a", "b", "f", "g"]).status == .notDirectory)
        #expect(world.lookup(.none, ["a"]).status == .noEntry)
        #expect(world.run(.ping).status == .notSupported)
    }

    /// What stands at the source and at the target, and what comes of it.
    @Test func `rename replaces like by like, and empty directories only`() {
        enum Kind: CaseIterable { case absent, file, empty, full }
        for source in Kind.allCases {
            for target in Kind.allCases {
                for isSameParent in [true, false] {
                    let world = World()
                    let p = world.mkdir(.root, "p")
                    let q = isSameParent ? p : world.mkdir(.root, "q")
                    func make(_ kind: Kind, _ parent: FileID, _ name: FileName) -> FileID {
                        switch kind {
                        case .absent: return .none
                        case .file: return world.file(parent, name)
                        case .empty: return world.mkdir(parent, name)
                        case .full:
                            let directory = world.mkdir(parent, name)
                            _ = world.mkdir(directory, "x")
                            return directory
                        }
                    }
                    let moved = make(source, p, "s")
                    let replaced = make(target, q, "t")
                    let expected: Status =
                        switch (source, target) {
                        case (.absent, _): .noEntry
                        case (_, .absent), (.file, .file), (.empty, .empty), (.full, .empty): .ok
                        case (.file, _): .isDirectory
                        case (_, .file): .notDirectory
                        case (_, .full): .notEmpty
                        }
                    #expect(world.rename(p, "s", q, "t") == expected)
                    if expected == .ok {
                        #expect(world.lookup(q, ["t"]) == (.ok, moved))
                        #expect(world.lookup(p, ["s"]).status == .noEntry)
                        if replaced != .none {
                            #expect(world.run(.getattr(replaced)).status == .noEntry)
                        }
                    } else if target != .absent {
                        #expect(world.lookup(q, ["t"]) == (.ok, replaced))
                    }
                }
            }
        }
    }

    @Test func `a directory never moves below itself, and a rename to itself is nothing`() {
        let world = World()
        let a = world.mkdir(.root, "a")
        let b = world.mkdir(a, "b")
        let c = world.mkdir(b, "c")
        #expect(world.rename(.root, "a", a, "x") == .invalid)
        #expect(world.rename(.root, "a", c, "x") == .invalid)
        #expect(world.rename(a, "b", .root, "a") == .notEmpty)
        #expect(world.rename(a, "b", a, "b") == .ok)
        #expect(world.rename(b, "c", .root, "c") == .ok)
        #expect(world.rename(.root, "a", c, "a") == .ok)
        #expect(world.lookup(.root, ["c", "a", "b"]) == (.ok, b))
    }

    @Test func `a file without a name stays until its last close`() {
        let world = World()
        let first = world.open(.root, "f", client: 1)
        let second = world.open(.root, "f", [.read], client: 2)
        #expect(!second.wasCreated)
        #expect(world.unlink(.root, "f") == .ok)
        #expect(world.lookup(.root, ["f"]).status == .noEntry)
        #expect(world.run(.getattr(first.attributes.file)).status == .ok)
        #expect(world.close(first, client: 2) == .badHandle)
        #expect(world.close(first, client: 1) == .ok)
        #expect(world.close(first, client: 1) == .badHandle)
        #expect(world.rows(.destroyLog).isEmpty)
        #expect(world.close(second, client: 2) == .ok)
        #expect(world.run(.getattr(first.attributes.file)).status == .noEntry)
        #expect(world.rows(.destroyLog).count == 1)
    }

    @Test func `an eviction closes all of a file's opens and logs its objects once`() {
        let world = World()
        let reply = world.open(.root, "f", client: 1, stripeCount: 3)
        for _ in 0..<3 { _ = world.open(.root, "f", [.read], client: 1) }
        #expect(world.unlink(.root, "f") == .ok)
        world.end(1)
        #expect(world.service.openCount == 0)
        #expect(reply.layout.stripes.count == 3)
        #expect(world.rows(.destroyLog).count == 3)
        #expect(world.rows(.orphans).isEmpty)
    }

    @Test func `objects are destroyed only after the commit that logs them`() {
        let world = World()
        let file = world.open(.root, "f")
        _ = world.close(file)
        #expect(world.unlink(.root, "f") == .ok)
        let stripe = file.layout.stripes[0]
        func pending() -> [ObjectName] {
            world.service.pendingDestroys(
                targetIndex: stripe.targetIndex, limit: 10, in: world.store)
        }
        #expect(pending().isEmpty)
        world.commit()
        #expect(pending() == [stripe.object])
        world.store.apply(
            world.service.destroyed(
                targetIndex: stripe.targetIndex, objects: [stripe.object]))
        #expect(pending().isEmpty)
        world.commit()
        #expect(world.rows(.destroyLog).isEmpty)
    }

    @Test func `an open is replayed as often as the client likes, and never for another`() {
        let world = World()
        let file = world.open(.root, "f", client: 1)
        let replay = OpenReplayRequest(
            file: file.attributes.file, handle: file.handle, flags: .write)
        #expect(world.run(.openReplay(replay), client: 1).status == .ok)
        #expect(world.run(.openReplay(replay), client: 2).status == .badHandle)
        #expect(world.service.openCount == 1)
        let unknown = OpenReplayRequest(file: .none, handle: 9, flags: .read)
        #expect(world.run(.openReplay(unknown), client: 1).status == .stale)
        let directory = OpenReplayRequest(file: .root, handle: 9, flags: .read)
        #expect(world.run(.openReplay(directory), client: 1).status == .isDirectory)
    }

    @Test func `a replayed create that finds its own result gives it again`() {
        let world = World()
        let created = world.open(.root, "f", [.write, .create, .exclusive], client: 1)
        let directory = world.mkdir(.root, "d")
        let before = [Table.inodes, .dirents, .meta].map { world.rows($0) }
        for entry in world.executed {
            let (status, body) = world.run(entry.request, client: entry.client, isReplay: true)
            #expect(status == .ok)
            switch body {
            case .open(let reply):
                #expect(reply.handle == created.handle)
                #expect(reply.attributes == created.attributes)
                #expect(reply.layout == created.layout)
            case .attributes(let reply): #expect(reply.attributes.file == directory)
            default: Issue.record("a create answers with what it created")
            }
        }
        #expect([Table.inodes, .dirents, .meta].map { world.rows($0) } == before)
        #expect(world.service.openCount == 1)
    }

    @Test func `a replay with ids that nobody gives is refused`() {
        let world = World()
        let foreign = [
            FileID(sequence: 0x2_0000_0400, objectNumber: 7, version: 1),
            FileID(sequence: 0x2_0000_03FF, objectNumber: 7),
            FileID(sequence: .max, objectNumber: .max),
            FileID(sequence: 0x2_0000_0400 + (1 << 20) - 1, objectNumber: .max),
        ]
        for file in foreign {
            let mkdir = MkdirRequest(
                parent: .root, name: "d", mode: 0, time: time, file: file)
            #expect(world.run(.mkdir(mkdir), isReplay: true).status == .invalid)
        }
        for number in [0, 1 << 48, .max] as [UInt64] {
            var open = OpenRequest(
                parent: .root, name: "f", flags: .create, mode: 0, stripeCount: 1, time: time)
            open.file = FileID(sequence: 0x2_0000_0400, objectNumber: 7)
            open.handle = 7
            open.layout = FileLayout(
                stripeSize: 1,
                stripes: [
                    .init(
                        targetIndex: 0,
                        object: ObjectName(sequence: 0x1_0001_0000, number: number))
                ])
            #expect(world.run(.open(open), isReplay: true).status == .invalid)
            open.layout = .none
            #expect(world.run(.open(open), isReplay: true).status == .stale)
        }
        #expect(world.rows(.dirents).isEmpty)
        #expect(world.service.openCount == 0)
    }

    @Test func `opens beyond the bound are refused and change nothing`() {
        let world = World()
        world.service = MetadataService(
            configuration: MetadataConfiguration(targetIndex: 0, instance: 2, openCountMax: 2))
        world.start(afterCleanStop: true)
        _ = world.open(.root, "f")
        _ = world.open(.root, "f", [.read])
        let request = OpenRequest(
            parent: .root, name: "g", flags: .create, mode: 0, stripeCount: 1, time: time)
        #expect(world.run(.open(request)).status == Status(rawValue: -24))
        #expect(world.lookup(.root, ["g"]).status == .noEntry)
    }

    @Test func `a readdir of no entries or too many is invalid`() {
        let world = World()
        for count in [0, 4097, .max] as [UInt32] {
            let request = ReaddirRequest(directory: .root, after: nil, entryCountMax: count)
            #expect(world.run(.readdir(request)).status == .invalid)
        }
        let file = world.file(.root, "f")
        let request = ReaddirRequest(directory: file, after: nil, entryCountMax: 1)
        #expect(world.run(.readdir(request)).status == .notDirectory)
    }
}
