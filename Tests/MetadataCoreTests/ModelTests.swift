import MetadataCore
import Primitives
import StorageCore
import Testing
import WireFormat

@Suite struct ModelTests {
    /// One random operation on both; the statuses agree.
    private func step(_ world: World, _ model: inout Model, _ random: inout RandomOperations) {
        let (request, client) = random.next(model)
        let touched = world.service.touched(by: request, in: world.store)
        let before = model
        let (status, body) = world.run(request, client: client)
        #expect(status == model.execute(request, client: client, reply: body), "\(request)")
        check(touched, before, model, request, body)
        if random.generator.oneIn(40) {
            let gone = UInt32(random.generator.below(3))
            world.end(gone)
            // Nobody replays for a client that is gone: its closes are as good as committed.
            world.commit()
            world.clientOpens = world.clientOpens.filter { $0.value.client != gone }
            model.clientGone(gone)
        }
        if random.generator.oneIn(6) { world.pump(answers: !random.generator.oneIn(3)) }
        if random.generator.oneIn(12) { world.destroyPending(limit: 3) }
        if random.generator.oneIn(25) { world.commit() }
    }

    /// Everything that a client may keep and that the request changed was said to be changed.
    private func check(
        _ touched: [TouchedFile], _ before: Model, _ after: Model, _ request: RequestBody,
        _ body: ReplyBody
    ) {
        var bits: [FileID: InodeBits] = [:]
        for item in touched { bits[item.file] = item.bits }
        #expect(bits.count == touched.count, "each file once")
        #expect(touched.map(\.file) == touched.map(\.file).sorted())
        var changed: Set<FileID> = []
        for (file, old) in before.nodes {
            guard let new = after.nodes[file] else {
                // Without a name nobody finds it any more: its last close may take it.
                if old.names > 0 { #expect(bits[file]?.contains(.update) == true, "\(request)") }
                continue
            }
            if before.attributes(file) != after.attributes(file) {
                #expect(bits[file]?.contains(.update) == true, "\(request)")
                changed.insert(file)
            }
            if old.mode != new.mode { #expect(bits[file]?.contains(.perm) == true) }
            for (name, child) in old.children where new.children[name] != child {
                #expect(bits[child]?.contains(.lookup) == true, "\(request)")
            }
            for name in new.children.keys where old.children[name] == nil {
                #expect(bits[file]?.contains(.update) == true, "\(request)")
            }
        }
        // Whoever sends an unlink or a rename learns which files it was about.
        if case .changed(let reply) = body, request.opcode != .link {
            let named: Set<FileID> =
                switch request {
                case .unlink(let body): [body.parent]
                case .rename(let body): [body.sourceParent, body.targetParent]
                default: []
                }
            #expect(changed.subtracting(named).isSubset(of: reply.files), "\(request)")
        }
    }

    @Test(arguments: UInt64(1)...12)
    func `random operations give what the model gives`(seed: UInt64) {
        var random = RandomOperations(seed: seed)
        let world = World()
        var model = Model()
        for _ in 0..<600 { step(world, &model, &random) }
        world.pump()
        world.compare(model, &random.generator)
        world.checkObjects(model)
    }

    @Test(arguments: UInt64(1)...16)
    func `replay after a crash gives the state from before it`(seed: UInt64) {
        var random = RandomOperations(seed: seed &* 7919)
        let world = World()
        var model = Model()
        for _ in 0..<6 {
            for _ in 0..<(20 + random.generator.below(120)) { step(world, &model, &random) }
            let before = [Table.inodes, .dirents, .orphans].map { world.rows($0) }
            let log = Set(world.rows(.destroyLog).keys)
            // A second crash in the middle of recovery changes nothing.
            if random.generator.oneIn(3) {
                world.crashAndRecover(finish: false)
                if random.generator.oneIn(2) { world.commit() }
            }
            world.crashAndRecover()
            let after = [Table.inodes, .dirents, .orphans].map { world.rows($0) }
            #expect(before == after, "seed \(seed)")
            #expect(log.isSubset(of: world.rows(.destroyLog).keys), "seed \(seed)")
            world.compare(model, &random.generator)
        }
        world.commit()
        for _ in 0..<3 {
            world.pump()
            world.commit()
        }
        world.checkObjects(model)
        world.destroyPending(limit: 100_000)
        world.commit()
        #expect(world.rows(.destroyLog).isEmpty)
        world.checkObjects(model)
    }

    @Test(arguments: UInt64(1)...8)
    func `a clean restart keeps every open and every object`(seed: UInt64) throws {
        var random = RandomOperations(seed: seed &* 104_729)
        let world = World()
        var model = Model()
        for _ in 0..<4 {
            for _ in 0..<150 { step(world, &model, &random) }
            world.pump()
            world.commit()
            let record = OpenReservation.encode(world.service.openReservations())
            world.instance += 1
            world.store = OverlayStore(
                base: world.memory, lastCommittedTransno: world.transno)
            world.service = MetadataService(
                configuration: World.configuration(world.instance))
            world.start(afterCleanStop: true)
            world.service.install(try OpenReservation.decode(record))
            world.finishRecovery()
            world.compare(model, &random.generator)
            // One client stays away; the others claim what they had.
            let absent = UInt32(random.generator.below(3))
            for (handle, open) in model.opens.sorted(by: { $0.key < $1.key })
            where open.client != absent {
                let replay = OpenReplayRequest(
                    file: open.file, handle: handle, flags: .read)
                #expect(world.run(.openReplay(replay), client: open.client).status == .ok)
            }
            for client in UInt32(0)..<3 {
                world.store.apply(
                    world.service.dropReservations(of: client, in: world.store))
            }
            world.clientOpens = world.clientOpens.filter { $0.value.client != absent }
            model.clientGone(absent)
            world.compare(model, &random.generator)
            world.commit()
            world.unanswered = []
        }
        world.pump()
        world.commit()
        world.pump()
        world.checkObjects(model)
    }
}
