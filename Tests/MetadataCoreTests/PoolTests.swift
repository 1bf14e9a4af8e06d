import MetadataCore
import StorageCore
import Testing
import WireFormat

/// Object targets 0, 1 and 3; pools ask below 4, for 6, out of chunks of 16.
@Suite struct PoolTests {
    private func ask(_ world: World) -> [PrecreateRequest] {
        var requests: [PrecreateRequest] = []
        world.store.apply(world.service.precreate(in: world.store, requests: &requests))
        return requests
    }

    private func request(_ target: UInt32, _ first: UInt64, _ count: UInt32) -> PrecreateRequest {
        PrecreateRequest(
            targetIndex: target, first: ObjectName(targetIndex: target, number: first),
            count: count)
    }

    private func execute(_ world: World, _ name: FileName, stripeCount: UInt32) -> MetadataResult {
        var transaction = Transaction()
        let open = OpenRequest(
            parent: .root, name: name, flags: .create, mode: 0, stripeCount: stripeCount,
            time: .zero)
        let result = world.service.execute(
            .open(open), client: 0, isReplay: false, in: world.store, into: &transaction)
        if result == .waitForObjects { #expect(transaction.isEmpty) }
        world.store.apply(transaction)
        return result
    }

    private func targets(_ result: MetadataResult) -> [UInt32]? {
        guard case .reply(.ok, .open(let reply)) = result else { return nil }
        return reply.layout.stripes.map(\.targetIndex)
    }

    @Test func `objects are asked for once their numbers are committed as set aside`() {
        let world = World()
        #expect(ask(world).isEmpty)
        #expect(ask(world).isEmpty)
        world.commit()
        #expect(ask(world) == [request(0, 1, 6), request(1, 1, 6), request(3, 1, 6)])
        #expect(ask(world).isEmpty, "one request per target is on its way")
        world.service.precreateFailed(targetIndex: 1)
        #expect(ask(world) == [request(1, 1, 6)])
    }

    @Test func `late, repeated and foreign answers add nothing`() {
        let world = World()
        _ = ask(world)
        world.commit()
        _ = ask(world)
        func answer(_ target: UInt32, _ first: ObjectName, _ count: UInt32) -> Bool {
            world.service.objectsAvailable(targetIndex: target, first: first, count: count)
        }
        #expect(!answer(0, ObjectName(targetIndex: 1, number: 1), 6))
        #expect(!answer(0, ObjectName(targetIndex: 0, number: 2), 6))
        #expect(!answer(0, ObjectName(targetIndex: 0, number: 1), 17))
        #expect(!answer(9, ObjectName(targetIndex: 9, number: 1), 6))
        #expect(answer(0, ObjectName(targetIndex: 0, number: 1), 6))
        #expect(!answer(0, ObjectName(targetIndex: 0, number: 1), 6))
        #expect(!answer(0, ObjectName(targetIndex: 0, number: 7), 6))
        #expect(world.service.objectsReady(targetIndex: 0) == 6)
        #expect(world.service.objectsReady(targetIndex: 9) == 0)
    }

    @Test func `a create waits where there is no object, and changes nothing`() {
        let world = World()
        let before = world.rows(.meta)
        #expect(execute(world, "f", stripeCount: 1) == .waitForObjects)
        #expect(world.rows(.meta) == before)
        #expect(world.rows(.dirents).isEmpty)
        #expect(world.service.openCount == 0)
        world.pump()
        world.commit()
        world.pump()
        #expect(targets(execute(world, "f", stripeCount: 1)) == [0])
    }

    @Test func `targets take turns, and one that is not usable is left out`() {
        let world = World()
        world.pump()
        world.commit()
        world.pump()
        #expect(targets(execute(world, "a", stripeCount: 0)) == [0])
        #expect(targets(execute(world, "b", stripeCount: 2)) == [1, 3])
        #expect(targets(execute(world, "c", stripeCount: 64)) == [0, 1, 3])
        world.service.setTargetUsable(0, false)
        #expect(targets(execute(world, "d", stripeCount: 3)) == [1, 3])
        world.service.setTargetUsable(1, false)
        #expect(targets(execute(world, "e", stripeCount: 1)) == [3])
        world.service.setTargetUsable(3, false)
        #expect(execute(world, "f", stripeCount: 1) == .waitForObjects)
        world.service.setTargetUsable(1, true)
        #expect(targets(execute(world, "f", stripeCount: 1)) == [1])
    }

    @Test func `without object targets files have no objects`() {
        let world = World(targets: [])
        #expect(targets(execute(world, "f", stripeCount: 4)) == [])
        world.service.configureObjectTargets([5])
        #expect(execute(world, "g", stripeCount: 4) == .waitForObjects)
    }

    @Test func `a pool that ran low asks for the next objects`() {
        let world = World()
        world.pump()
        world.commit()
        world.pump()
        for name in ["a", "b"] as [FileName] { _ = execute(world, name, stripeCount: 3) }
        #expect(ask(world).isEmpty)
        _ = execute(world, "c", stripeCount: 3)
        #expect(ask(world) == [request(0, 7, 6), request(1, 7, 6), request(3, 7, 6)])
    }

    @Test func `after a crash the rest of a pool is destroyed, and never used`() throws {
        let world = World()
        world.pump()
        world.commit()
        world.pump()
        guard case .reply(.ok, .open(let first)) = execute(world, "a", stripeCount: 1) else {
            Issue.record("there are objects")
            return
        }
        world.commit()
        world.crashAndRecover()
        world.commit()
        let due = world.service.pendingDestroys(targetIndex: 0, limit: 100, in: world.store)
        #expect(first.layout.stripes[0].object.number == 1)
        #expect(due.map(\.number) == Array(2...16))
        _ = ask(world)
        world.commit()
        #expect(ask(world)[0] == request(0, 17, 6))
    }
}
