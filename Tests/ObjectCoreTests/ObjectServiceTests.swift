import ObjectCore
import Primitives
import StorageCore
import Testing
import WireFormat

/// One object target over a store in memory.
private struct Target {
    var memory = MemoryStore()
    var store: OverlayStore<MemoryStore>
    let service = ObjectService(targetIndex: 2)

    init() { store = OverlayStore(base: memory) }

    @discardableResult
    mutating func run(_ request: RequestBody) -> (status: Status, body: ReplyBody) {
        var transaction = Transaction()
        let result = service.execute(request, in: store, into: &transaction)
        guard case .reply(let status, let body) = result else { return (.ioError, .empty) }
        if !status.isError {
            if !request.isUpdate { #expect(transaction.isEmpty, "a read writes nothing") }
            store.apply(transaction)
        }
        return (status, body)
    }

    mutating func commit() {
        guard let group = store.takeGroup() else { return }
        memory.commit(group)
        store.committed(group.id)
    }

    mutating func crash() { store = OverlayStore(base: memory) }

    mutating func bytes(_ object: ObjectName, _ offset: UInt64, _ count: UInt32) -> [UInt8]? {
        let (status, body) = run(
            .objectRead(ObjectReadRequest(object: object, offset: offset, byteCount: count)))
        guard status == .ok, case .read(let reply) = body else { return nil }
        return reply.data
    }
}

private func name(_ number: UInt64) -> ObjectName { ObjectName(targetIndex: 2, number: number) }

private func write(
    _ number: UInt64, _ offset: UInt64, _ data: [UInt8], _ seconds: Int64 = 1
) -> RequestBody {
    .objectWrite(
        ObjectWriteRequest(
            object: name(number), offset: offset, time: Timestamp(seconds: seconds), data: data))
}

private func punch(_ number: UInt64, _ size: UInt64, _ seconds: Int64 = 1) -> RequestBody {
    .objectPunch(
        ObjectPunchRequest(
            object: name(number), size: size, time: Timestamp(seconds: seconds)))
}

private func create(_ first: UInt64, _ count: UInt32) -> RequestBody {
    .objectCreate(ObjectCreateRequest(first: name(first), count: count))
}

@Suite struct ObjectServiceTests {
    @Test func `creating a range leaves the objects that exist alone`() {
        var target = Target()
        #expect(target.run(create(1, 4)).status == .ok)
        target.run(write(2, 0, [1, 2, 3], 7))
        #expect(target.run(create(1, 8)).status == .ok)
        #expect(
            target.service.attributes(of: name(2), in: target.store)
                == ObjectAttributes(size: 3, modified: Timestamp(seconds: 7)))
        #expect(
            target.service.attributes(of: name(8), in: target.store)
                == ObjectAttributes(size: 0, modified: .zero))
        #expect(target.service.attributes(of: name(9), in: target.store) == nil)
    }

    @Test func `objects that do not exist are no entry, and destroying them is fine`() {
        var target = Target()
        #expect(target.run(write(1, 0, [1])).status == .noEntry)
        #expect(target.run(punch(1, 9)).status == .noEntry)
        #expect(target.run(.objectGetattr(name(1))).status == .noEntry)
        #expect(
            target.run(
                .objectRead(ObjectReadRequest(object: name(1), offset: 0, byteCount: 1))
            ).status == .noEntry)
        let destroy = ObjectDestroyRequest(objects: [name(1), name(2), name(1)])
        #expect(target.run(.objectDestroy(destroy)).status == .ok)
        target.run(create(1, 1))
        #expect(target.run(.objectDestroy(destroy)).status == .ok)
        #expect(target.run(.objectGetattr(name(1))).status == .noEntry)
    }

    @Test func `an object of another target is refused, and so is an operation on names`() {
        var target = Target()
        let other = ObjectName(targetIndex: 3, number: 1)
        #expect(
            target.run(.objectCreate(ObjectCreateRequest(first: other, count: 1))).status
                == .invalid)
        #expect(
            target.run(.objectDestroy(ObjectDestroyRequest(objects: [other]))).status == .invalid)
        #expect(target.run(.getattr(.root)).status == .notSupported)
        #expect(target.run(create(.max, 2)).status == .invalid)
    }

    @Test func `a range beyond the store's bound is too big`() {
        var target = Target()
        target.run(create(1, 1))
        #expect(target.run(write(1, .max, [1])).status == .tooBig)
        #expect(target.run(write(1, StoreLimits.objectOffsetMax, [1])).status == .tooBig)
        #expect(target.run(punch(1, StoreLimits.objectOffsetMax + 1)).status == .tooBig)
        #expect(target.run(punch(1, StoreLimits.objectOffsetMax)).status == .ok)
        #expect(target.bytes(name(1), StoreLimits.objectOffsetMax - 2, 8) == [0, 0])
        #expect(target.bytes(name(1), .max, 8) == [])
    }

    @Test func `the time of an object is its latest, in whatever order requests come`() {
        var target = Target()
        target.run(create(1, 1))
        target.run(write(1, 0, [1], 9))
        target.run(write(1, 0, [2], 4))
        target.run(punch(1, 0, 5))
        let found = target.service.attributes(of: name(1), in: target.store)
        #expect(found == ObjectAttributes(size: 0, modified: Timestamp(seconds: 9)))
    }

    @Test func `writing nothing lengthens nothing`() {
        var target = Target()
        target.run(create(1, 1))
        #expect(target.run(write(1, 100, [])).status == .ok)
        #expect(target.service.attributes(of: name(1), in: target.store)?.size == 0)
    }

    @Test func `an object that was destroyed and created again is empty`() {
        var target = Target()
        target.run(create(1, 1))
        target.run(write(1, 0, [1, 2, 3]))
        target.commit()
        target.run(.objectDestroy(ObjectDestroyRequest(objects: [name(1)])))
        target.run(create(1, 1))
        target.run(punch(1, 3))
        #expect(target.bytes(name(1), 0, 9) == [0, 0, 0])
        target.commit()
        #expect(target.bytes(name(1), 0, 9) == [0, 0, 0])
    }

    @Test func `a record that a later format extended keeps what was added`() throws {
        var target = Target()
        target.run(create(1, 1))
        let key = ObjectID(sequence: name(1).sequence, number: 1).key
        var extended = try #require(target.store.read(.objects, key))
        extended[0] = 2
        extended += [0xAB, 0xCD]
        var transaction = Transaction()
        transaction.put(.objects, key: key, value: extended)
        target.store.apply(transaction)
        #expect(target.run(write(1, 0, [5])).status == .ok)
        let after = try #require(target.store.read(.objects, key))
        #expect(after[0] == 2)
        #expect(after.suffix(2) == [0xAB, 0xCD])
        for length in 0..<24 {
            var transaction = Transaction()
            transaction.put(.objects, key: key, value: Array(after.prefix(length)))
            target.store.apply(transaction)
            #expect(target.run(.objectGetattr(name(1))).status == .ioError)
        }
    }

    @Test func `the stored record is what it was in the first release`() {
        var target = Target()
        target.run(create(1, 1))
        target.run(
            .objectWrite(
                ObjectWriteRequest(
                    object: name(1), offset: 1,
                    time: Timestamp(seconds: 0x0102, nanoseconds: 0x0304), data: [9])))
        let key: [UInt8] = [0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]
        #expect(
            target.store.read(.objects, key) == [
                1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0,
            ])
    }

    /// Arrays of bytes; what was executed since the last commit is done again after a crash.
    @Test(arguments: UInt64(1)...20)
    func `random operations, crashes and replays give what arrays give`(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var target = Target()
        var model: [UInt64: [UInt8]] = [:]
        var uncommitted: [RequestBody] = []
        for _ in 0..<500 {
            let number = UInt64(1 + generator.below(4))
            let offset = generator.below(200)
            var request: RequestBody?
            switch generator.below(12) {
            case 0...4:
                let data = (0..<generator.below(60)).map { _ in
                    UInt8(1 + generator.below(255))
                }
                request = write(number, UInt64(offset), data)
                if var bytes = model[number], !data.isEmpty {
                    let missing = offset + data.count - bytes.count
                    if missing > 0 { bytes += Array(repeating: 0, count: missing) }
                    bytes.replaceSubrange(offset..<(offset + data.count), with: data)
                    model[number] = bytes
                }
            case 5...6:
                request = punch(number, UInt64(offset))
                if let bytes = model[number] {
                    let missing = max(0, offset - bytes.count)
                    model[number] =
                        Array(bytes.prefix(offset)) + Array(repeating: 0, count: missing)
                }
            case 7:
                request = create(number, 2)
                for fresh in [number, number + 1] where model[fresh] == nil { model[fresh] = [] }
            case 8 where generator.oneIn(3):
                request = .objectDestroy(ObjectDestroyRequest(objects: [name(number)]))
                model[number] = nil
            case 9:
                target.commit()
                uncommitted = []
            case 10:
                target.crash()
                for request in uncommitted { target.run(request) }
            default:
                break
            }
            if let request {
                let isKnown = target.run(request).status == .ok
                if isKnown { uncommitted.append(request) }
            }
            let from = generator.below(220)
            let count = generator.below(100)
            let expected = model[number].map { Array($0.dropFirst(from).prefix(count)) }
            #expect(
                target.bytes(name(number), UInt64(from), UInt32(count)) == expected,
                "seed \(seed)")
            let size = target.service.attributes(of: name(number), in: target.store)?.size
            #expect(size == model[number].map { UInt64($0.count) }, "seed \(seed)")
        }
    }
}
