import MetadataCore
import StorageCore
import Testing
import WireFormat

/// Recovery in orders that one client alone never gives.
@Suite struct RecoveryTests {
    /// The next instance, in recovery, with nothing replayed yet.
    private func crash(_ world: World) {
        world.instance += 1
        world.store = OverlayStore(base: world.memory)
        world.service = MetadataService(configuration: World.configuration(world.instance))
        world.start(afterCleanStop: false)
        world.service.recoveryStarted()
    }

    private func finish(_ world: World) {
        world.finishRecovery()
    }

    private func replay(_ world: World, _ reply: OpenReply, client: UInt32) -> Status {
        let request = OpenReplayRequest(
            file: reply.attributes.file, handle: reply.handle, flags: .write)
        return world.run(.openReplay(request), client: client).status
    }

    @Test func `an unlink replayed before another client's open leaves it the file`() {
        let world = World()
        let file = world.open(.root, "f", client: 1)
        world.commit()
        #expect(world.unlink(.root, "f") == .ok)
        let unlink = world.executed[1]
        crash(world)
        #expect(world.run(unlink.request, client: 0, isReplay: true).status == .ok)
        #expect(replay(world, file, client: 1) == .ok)
        finish(world)
        #expect(world.run(.getattr(file.attributes.file)).status == .ok)
        #expect(world.close(file, client: 1) == .ok)
        #expect(world.rows(.orphans).isEmpty)
    }

    @Test func `a close replayed before another client's open leaves it the file`() {
        let world = World()
        let first = world.open(.root, "f", client: 1)
        let second = world.open(.root, "f", client: 2)
        #expect(world.unlink(.root, "f") == .ok)
        world.commit()
        #expect(world.close(second, client: 2) == .ok)
        let close = world.executed[3]
        crash(world)
        #expect(replay(world, second, client: 2) == .ok)
        #expect(world.run(close.request, client: 2, isReplay: true).status == .ok)
        #expect(replay(world, first, client: 1) == .ok)
        finish(world)
        #expect(world.run(.getattr(first.attributes.file)).status == .ok)
        #expect(world.close(first, client: 1) == .ok)
        #expect(world.run(.getattr(first.attributes.file)).status == .noEntry)
    }

    @Test func `the id of a file that was lost with its client is not given again`() {
        for isFirst in [true, false] {
            let world = World()
            if !isFirst {
                _ = world.mkdir(.root, "a")
                world.commit()
            }
            let lost = world.mkdir(.root, "d")
            crash(world)
            finish(world)
            let next = world.mkdir(.root, "d")
            #expect(next != lost)
            #expect(next != .none)
        }
    }

    @Test func `an id that a replay brought is not given again`() {
        let world = World()
        let file = FileID(sequence: 0x2_0000_0400, objectNumber: 1)
        let mkdir = MkdirRequest(parent: .root, name: "d", mode: 0, time: .zero, file: file)
        #expect(world.run(.mkdir(mkdir), isReplay: true).status == .ok)
        #expect(world.mkdir(.root, "e") == FileID(sequence: 0x2_0000_0400, objectNumber: 2))
    }
}
