import LDLMCore
import Primitives
import Testing
import WireFormat

@testable import ClientCore

/// A server in a few lines, and clients that cache; messages arrive in any order.
private struct NameWorld {
    enum Request {
        case locate(parent: Int, name: Int, cookies: [UInt64])
        case getattr(file: Int, cookie: UInt64)
        /// Binds the name to the file, or to nothing.
        case bind(parent: Int, name: Int, file: Int?)
        case setattr(file: Int)
    }
    enum Message {
        case request(client: Int, number: UInt64, Request)
        case reply(
            client: Int, number: UInt64, Request, found: Int?, stamp: Int?, [LockGrant],
            changed: [FileID])
        case callback(client: Int, cookie: UInt64, InodeBits)
    }
    struct ServerLock {
        var client: Int
        var cookie: UInt64
        var file: Int
        var bits: InodeBits
    }
    struct Client {
        var cache = NameCache(nameCountMax: 6, fileCountMax: 5)
        var locks = LockClient(unusedCountMax: 6)
    }

    var random: SplitMix64
    var clients = [Client](repeating: Client(), count: 3)
    var messages: [Message] = []
    /// Updates that wait for others' locks.
    var waiting: [(client: Int, number: UInt64, Request)] = []
    var locks: [ServerLock] = []
    var called: Set<UInt64> = []
    var names: [[Int?]] = Array(repeating: Array(repeating: nil, count: 3), count: 3)
    /// Attributes in one number.
    var stamps = [Int](repeating: 0, count: 6)
    /// Files that updates changed whose answers are under way: until then their client may see
    /// them as they were before.
    var unanswered: [(client: Int, number: UInt64, files: [FileID])] = []
    var serverCookie: UInt64 = 0
    var hitCount = 0
    var answerCount = 0

    static func file(_ index: Int) -> FileID {
        FileID(sequence: 0x2_0000_0400, objectNumber: UInt32(index + 1))
    }
    static func name(_ index: Int) -> FileName { FileName("n\(index)")! }
    static func attributes(_ index: Int, _ stamp: Int) -> AttributesReply {
        AttributesReply(
            attributes: FileAttributes(
                file: file(index), type: .regular, mode: 0, linkCount: 1, modified: .zero,
                changed: .zero, entryCount: UInt64(stamp)), layout: .none)
    }

    // MARK: The server

    private func touched(_ request: Request) -> [(Int, InodeBits)] {
        switch request {
        case .locate, .getattr: return []
        case .setattr(let file): return [(file, .attributes)]
        case .bind(let parent, let name, let file):
            var touched: [(Int, InodeBits)] = [(parent, .update)]
            if let old = names[parent][name] { touched.append((old, [.lookup, .update])) }
            if let file { touched.append((file, [.lookup, .update])) }
            return touched
        }
    }

    mutating func serve() {
        var index = 0
        while index < waiting.count {
            let (client, number, request) = waiting[index]
            var isBlocked = false
            for (file, bits) in touched(request) {
                for lock in locks
                where lock.file == file && !lock.bits.isDisjoint(with: bits)
                    && lock.client != client
                {
                    isBlocked = true
                    if called.insert(lock.cookie << 8 | UInt64(lock.client)).inserted {
                        messages.append(
                            .callback(client: lock.client, cookie: lock.cookie, bits))
                    }
                }
            }
            if isBlocked {
                index += 1
            } else {
                waiting.remove(at: index)
                execute(client, number, request)
            }
        }
    }

    private mutating func execute(_ client: Int, _ number: UInt64, _ request: Request) {
        var found: Int?
        var stamp: Int?
        var grants: [LockGrant] = []
        var changed: [FileID] = []
        func grant(_ file: Int, _ bits: InodeBits, _ cookie: UInt64) {
            let isWanted = waiting.contains {
                touched($0.2).contains { $0.0 == file && !$0.1.isDisjoint(with: bits) }
            }
            guard cookie != 0, !isWanted, !random.oneIn(5) else { return }
            serverCookie += 1
            locks.append(ServerLock(client: client, cookie: cookie, file: file, bits: bits))
            grants.append(
                LockGrant(
                    clientCookie: cookie, serverCookie: serverCookie, file: Self.file(file),
                    bits: bits))
        }
        switch request {
        case .locate(let parent, let name, let cookies):
            found = names[parent][name]
            stamp = found.map { stamps[$0] }
            grant(found ?? parent, found == nil ? .update : .everything, cookies[0])
        case .getattr(let file, let cookie):
            found = file
            stamp = stamps[file]
            grant(file, .everything, cookie)
        case .setattr(let file):
            stamps[file] += 1
            found = file
            stamp = stamps[file]
        case .bind(let parent, let name, let file):
            for (place, _) in touched(request) { stamps[place] += 1 }
            if let old = names[parent][name] { changed.append(Self.file(old)) }
            if let file { changed.append(Self.file(file)) }
            names[parent][name] = file
            unanswered.append((client, number, changed))
        }
        messages.append(
            .reply(
                client: client, number: number, request, found: found, stamp: stamp, grants,
                changed: changed))
    }

    // MARK: Clients

    private func update(_ request: Request) -> NameCache.Update? {
        switch request {
        case .locate, .getattr: nil
        case .setattr(let file): NameCache.Update(files: [Self.file(file)])
        case .bind(let parent, let name, _):
            NameCache.Update(
                files: [Self.file(parent)], names: [(Self.file(parent), Self.name(name))])
        }
    }

    mutating func act(_ index: Int) {
        let parent = random.below(3)
        let name = random.below(3)
        let request: Request
        switch random.below(8) {
        case 0...2:
            check(index, parent, name)
            request = .locate(
                parent: parent, name: name, cookies: [clients[index].locks.expect().rawValue])
        case 3...4:
            let file = random.below(6)
            let held = clients[index].cache.lock(
                on: Self.file(file), covering: .everything, clients[index].locks)
            request = .getattr(
                file: file, cookie: held == nil ? clients[index].locks.expect().rawValue : 0)
        case 5...6:
            request = .bind(
                parent: parent, name: name, file: random.oneIn(2) ? 3 + random.below(3) : nil)
        default:
            request = .setattr(file: random.below(6))
        }
        let number = clients[index].cache.send()
        if let update = update(request) { clients[index].cache.begin(update) }
        messages.append(.request(client: index, number: number, request))
    }

    /// Whatever the cache says is so.
    mutating func check(_ index: Int, _ parent: Int, _ name: Int) {
        answerCount += 1
        let locks = clients[index].locks
        switch clients[index].cache.lookup(Self.file(parent), Self.name(name), locks) {
        case .unknown: break
        case .absent:
            hitCount += 1
            #expect(names[parent][name] == nil, "client \(index): \(parent)/\(name) is absent")
        case .file(let file, _):
            hitCount += 1
            #expect(names[parent][name].map(Self.file) == file, "client \(index)")
        }
        let own = unanswered.filter { $0.client == index }.flatMap(\.files)
        for file in 0..<6 where !own.contains(Self.file(file)) {
            if let kept = clients[index].cache.attributes(Self.file(file), locks) {
                hitCount += 1
                #expect(
                    kept.reply == Self.attributes(file, stamps[file]),
                    "client \(index): attributes of \(file)")
            }
        }
    }

    private mutating func receive(
        _ index: Int, _ number: UInt64, _ request: Request, _ found: Int?, _ stamp: Int?,
        _ grants: [LockGrant], _ changed: [FileID]
    ) {
        var isNewest = false
        unanswered.removeAll { $0.client == index && $0.number == number }
        if let update = update(request) {
            isNewest = clients[index].cache.end(update, changed: changed, number: number)
        }
        for grant in grants {
            let lock = SlotHandle(rawValue: grant.clientCookie)
            let result = clients[index].locks.bring(
                lock, ResourceID(grant.file), grant.bits, serverCookie: grant.serverCookie)
            if result == .applied {
                clients[index].cache.granted(
                    lock, on: grant.file, bits: grant.bits, number: number)
            }
        }
        let locks = clients[index].locks
        switch request {
        case .locate(let parent, let name, let cookies):
            clients[index].cache.keep(
                Self.file(parent), Self.name(name), found.map(Self.file), number: number, locks)
            for cookie in cookies {
                clients[index].locks.giveUpExpected(SlotHandle(rawValue: cookie))
            }
        case .getattr(_, let cookie):
            clients[index].locks.giveUpExpected(SlotHandle(rawValue: cookie))
        case .bind(let parent, let name, let file):
            if isNewest {
                clients[index].cache.keepOwn(
                    Self.file(parent), Self.name(name), file.map(Self.file), number: number,
                    locks)
            }
        case .setattr(let file):
            if isNewest, let stamp {
                clients[index].cache.keepOwn(
                    Self.attributes(file, stamp), number: number, locks)
            }
        }
        if update(request) == nil, let found, let stamp {
            clients[index].cache.keep(Self.attributes(found, stamp), number: number, locks)
        }
    }

    private mutating func dropAtServer(_ client: Int, _ cookie: UInt64, _ bits: InodeBits) {
        for place in locks.indices
        where locks[place].client == client && locks[place].cookie == cookie {
            locks[place].bits.subtract(bits)
        }
        locks.removeAll { $0.bits.isEmpty }
        called.remove(cookie << 8 | UInt64(client))
    }

    /// What the lock caches want: here a message to the server takes no time.
    mutating func settle(_ index: Int) {
        while let action = clients[index].locks.actions.popFirst() {
            switch action {
            case .flushAndCancel(let lock):
                dropAtServer(index, lock.rawValue, .known)
                clients[index].locks.flushed(lock)
            case .dropBits(let lock, _):
                clients[index].locks.bitsDropped(lock)
            case .convert(let lock, _, let kept):
                dropAtServer(index, lock.rawValue, InodeBits.known.subtracting(kept))
                clients[index].locks.convertReply(lock, isDone: true)
            default:
                break
            }
        }
    }

    mutating func deliver() {
        guard !messages.isEmpty else { return }
        let message = messages.remove(at: random.below(messages.count))
        switch message {
        case .request(let client, let number, let request):
            if case .locate = request {
                execute(client, number, request)
            } else if case .getattr = request {
                execute(client, number, request)
            } else {
                waiting.append((client, number, request))
            }
        case .reply(
            let client, let number, let request, let found, let stamp, let grants, let changed):
            receive(client, number, request, found, stamp, grants, changed)
        case .callback(let client, let cookie, let bits):
            let lock = SlotHandle(rawValue: cookie)
            if clients[client].locks.giveUpExpected(lock) {
                dropAtServer(client, cookie, .known)
            } else {
                let wanted = LockDescriptor(
                    resource: ResourceID(0), requestedMode: .ex, grantedMode: nil,
                    policy: .inodeBits(bits.rawValue, other: bits.rawValue, group: 0, initiator: 0))
                let result = clients[client].locks.blockingAST(
                    clientCookie: cookie, wanted: wanted)
                if result == .unknown { dropAtServer(client, cookie, .known) }
            }
        }
    }
}

@Suite struct NameCacheTests {
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `whatever the cache says is so, whatever order messages come in`(seed: UInt64) {
        var world = NameWorld(random: SplitMix64(seed: seed))
        for _ in 0..<1500 {
            if world.random.oneIn(3) { world.act(world.random.below(3)) }
            world.deliver()
            for index in 0..<3 { world.settle(index) }
            world.serve()
            let index = world.random.below(3)
            world.check(index, world.random.below(3), world.random.below(3))
        }
        #expect(world.hitCount > world.answerCount / 50, "seed \(seed): it caches something")
        for client in world.clients {
            #expect(client.cache.nameCount <= 6 && client.cache.fileCount <= 5)
        }
    }

    @Test func `the least recently used goes first`() {
        var table = RecentTable<Int, Int>(countMax: 3)
        for key in 1...3 { #expect(table.set(key, key * 10) == nil) }
        #expect(table.use(1) == 10)
        #expect(table.peek(2) == 20)
        let gone = table.set(4, 40)
        #expect(gone?.key == 2 && gone?.value == 20)
        #expect(table.remove(3) == 30 && table.remove(3) == nil)
        #expect(table.set(5, 50) == nil && table.count == 3)
        table.update(5) { $0 += 1 }
        #expect(table.use(5) == 51)
        table.removeAll()
        #expect(table.count == 0 && table.use(1) == nil)
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `a table of recent things is as a list says`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var table = RecentTable<Int, Int>(countMax: 1 + random.below(8))
        var list: [(key: Int, value: Int)] = []
        for step in 0..<2000 {
            let key = random.below(14)
            let place = list.firstIndex { $0.key == key }
            switch random.below(4) {
            case 0:
                #expect(table.use(key) == place.map { list[$0].value }, "seed \(seed)")
                if let place { list.append(list.remove(at: place)) }
            case 1:
                #expect(table.remove(key) == place.map { list.remove(at: $0).value })
            default:
                table.set(key, step)
                if let place { list.remove(at: place) }
                list.append((key, step))
                if list.count > table.countMax { list.removeFirst() }
            }
            #expect(table.count == list.count, "seed \(seed)")
        }
    }
}
