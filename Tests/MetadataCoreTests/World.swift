import MetadataCore
import Primitives
import StorageCore
import Testing
public import WireFormat

/// A metadata target with object targets and clients around it, which can crash.
final class World {
    struct Executed {
        var transno: UInt64
        var client: UInt32
        /// With the ids of the reply.
        var request: RequestBody
    }

    struct ClientOpen {
        var client: UInt32
        var file: FileID
        var flags: OpenFlags
        var openTransno: UInt64
        var closeTransno: UInt64?
    }

    let memory = MemoryStore()
    var store: OverlayStore<MemoryStore>
    var service: MetadataService
    var instance: UInt64 = 1
    var transno: UInt64 = 0
    let targets: [UInt32]
    /// What clients would replay.
    var executed: [Executed] = []
    var clientOpens: [UInt64: ClientOpen] = [:]
    /// On the object servers: what exists, and what was destroyed.
    var objects: Set<ObjectName> = []
    var destroyedObjects: [ObjectName] = []
    var owners: [ObjectName: FileID] = [:]
    var fileIDs: Set<FileID> = []
    var unanswered: [PrecreateRequest] = []

    init(targets: [UInt32] = [0, 1, 3]) {
        self.targets = targets
        store = OverlayStore(base: memory)
        service = MetadataService(configuration: World.configuration(1))
        start(afterCleanStop: true)
    }

    static func configuration(_ instance: UInt64) -> MetadataConfiguration {
        var configuration = MetadataConfiguration(targetIndex: 0, instance: instance)
        // Small, so that tests come to every edge of it.
        configuration.poolLowCount = 4
        configuration.precreateCount = 6
        configuration.reserveCount = 16
        return configuration
    }

    func start(afterCleanStop isClean: Bool) {
        service.configureObjectTargets(targets)
        store.apply(service.load(from: store, afterCleanStop: isClean))
        commit()
    }

    func commit() {
        guard let group = store.takeGroup() else { return }
        memory.commit(group)
        store.committed(group.id)
    }

    /// Asks for objects and answers; destroys what is due.
    func pump(answers: Bool = true) {
        store.apply(service.precreate(in: store, requests: &unanswered))
        for request in unanswered where answers {
            for offset in 0..<UInt64(request.count) {
                let object = ObjectName(
                    sequence: request.first.sequence, number: request.first.number + offset)
                #expect(owners[object] == nil, "an object in use is not created again")
                objects.insert(object)
            }
            let isTaken = service.objectsAvailable(
                targetIndex: request.targetIndex, first: request.first, count: request.count)
            #expect(isTaken)
        }
        if answers { unanswered = [] }
    }

    func destroyPending(limit: Int = 1000) {
        for target in targets {
            let due = service.pendingDestroys(targetIndex: target, limit: limit, in: store)
            for object in due {
                objects.remove(object)
                destroyedObjects.append(object)
            }
            store.apply(service.destroyed(targetIndex: target, objects: due))
        }
    }

    @discardableResult
    func run(
        _ request: RequestBody, client: UInt32 = 0, isReplay: Bool = false
    ) -> (status: Status, body: ReplyBody) {
        for _ in 0..<4 {
            var transaction = Transaction()
            let result = service.execute(
                request, client: client, isReplay: isReplay, in: store, into: &transaction)
            switch result {
            case .waitForObjects:
                #expect(transaction.isEmpty)
                pump()
                commit()
                pump()
            case .reply(let status, let body):
                if !status.isError {
                    if request.isUpdate, !isReplay {
                        transno += 1
                        remember(request, client: client, body)
                    }
                    if !request.isUpdate { #expect(transaction.isEmpty) }
                    transaction.transno = request.isUpdate ? transno : 0
                    store.apply(transaction)
                }
                return (status, body)
            }
        }
        Issue.record("no object ever came")
        return (.ioError, .empty)
    }

    private func remember(_ request: RequestBody, client: UInt32, _ body: ReplyBody) {
        var request = request
        switch (request, body) {
        case (.mkdir(var mkdir), .attributes(let reply)):
            mkdir.file = reply.attributes.file
            #expect(fileIDs.insert(mkdir.file).inserted, "no file id is given twice")
            request = .mkdir(mkdir)
        case (.open(var open), .open(let reply)):
            open.file = reply.attributes.file
            open.handle = reply.handle
            open.layout = reply.wasCreated ? reply.layout : .none
            if reply.wasCreated {
                #expect(fileIDs.insert(open.file).inserted, "no file id is given twice")
                for stripe in reply.layout.stripes {
                    #expect(
                        owners.updateValue(open.file, forKey: stripe.object) == nil,
                        "no object is given twice")
                    #expect(objects.contains(stripe.object), "objects in use exist")
                }
            }
            request = .open(open)
            #expect(clientOpens[reply.handle] == nil, "no handle is given twice")
            clientOpens[reply.handle] = ClientOpen(
                client: client, file: open.file, flags: open.flags, openTransno: transno)
        case (.close(let close), _):
            clientOpens[close.handle]?.closeTransno = transno
        default:
            break
        }
        executed.append(Executed(transno: transno, client: client, request: request))
    }

    /// Everything since the last commit is lost; clients replay it to the next instance.
    func crashAndRecover(finish: Bool = true) {
        instance += 1
        let lastCommitted = store.lastCommittedTransno
        store = OverlayStore(base: memory, lastCommittedTransno: lastCommitted)
        service = MetadataService(configuration: World.configuration(instance))
        unanswered = []
        start(afterCleanStop: false)
        service.recoveryStarted()
        let kept = clientOpens.filter {
            $0.value.openTransno <= lastCommitted
                && ($0.value.closeTransno ?? .max) > lastCommitted
        }
        for (handle, open) in kept.sorted(by: { $0.key < $1.key }) {
            let replay = OpenReplayRequest(file: open.file, handle: handle, flags: open.flags)
            // Telling it twice changes nothing.
            for _ in 0..<2 {
                let (status, _) = run(.openReplay(replay), client: open.client)
                #expect(status == .ok, "an open is kept over a crash")
            }
        }
        let last = transno
        for entry in executed where entry.transno > lastCommitted {
            transno = entry.transno
            let (status, _) = run(entry.request, client: entry.client, isReplay: true)
            #expect(status == .ok, "a replay of \(entry.request) succeeds")
        }
        transno = last
        for target in targets {
            #expect(service.pendingDestroys(targetIndex: target, limit: 9, in: store).isEmpty)
        }
        if finish { finishRecovery() }
    }

    /// Files without a name go, a few at a time.
    func finishRecovery() {
        service.recoveryFinished()
        var key: [UInt8]? = []
        while let from = key {
            let part = service.removeOrphans(from: from, countMax: 3, in: store)
            store.apply(part.transaction)
            key = part.next
        }
    }

    /// A client is gone for good.
    func end(_ client: UInt32) {
        store.apply(service.end(service.openHandles(of: client), in: store))
    }

    func rows(_ table: Table) -> [[UInt8]: [UInt8]] {
        var rows: [[UInt8]: [UInt8]] = [:]
        store.scan(table, from: []) { key, value in
            rows[key] = value
            return true
        }
        return rows
    }

    /// Everything a client can see equals the model.
    func compare(_ model: Model, _ generator: inout SplitMix64) {
        for (file, node) in model.nodes {
            let (status, body) = run(.getattr(file))
            #expect(status == .ok)
            guard case .attributes(let reply) = body else { continue }
            #expect(reply.attributes == model.attributes(file))
            #expect(reply.layout == node.layout)
            guard node.type == .directory else { continue }
            let sorted = node.children.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            let listed = list(file, pageSize: UInt32(1 + generator.below(4)))
            #expect(listed.map(\.name.text) == sorted.map(\.key))
            #expect(listed.map(\.file) == sorted.map(\.value))
            #expect(listed.map(\.type) == sorted.map { model.nodes[$0.value]!.type })
        }
        #expect(rows(.inodes).count == model.nodes.values.count { $0.names > 0 })
        #expect(rows(.orphans).count == model.nodes.values.count { $0.names == 0 })
        #expect(
            rows(.dirents).count == model.nodes.values.reduce(0) { $0 + $1.children.count })
        #expect(service.openCount == model.opens.count)
    }

    func list(_ directory: FileID, pageSize: UInt32) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        while true {
            let (status, body) = run(
                .readdir(
                    ReaddirRequest(
                        directory: directory, after: entries.last?.name,
                        entryCountMax: pageSize)))
            guard status == .ok, case .readdir(let reply) = body else { return entries }
            #expect(reply.entries.count <= pageSize)
            entries += reply.entries
            if reply.isEnd { return entries }
            #expect(reply.entries.count == pageSize)
        }
    }

    /// Every object that exists is a file's, or in the log, or ready in a pool; and those that the
    /// model lost are in the log or destroyed.
    func checkObjects(_ model: Model) {
        let live = Set(model.nodes.values.flatMap { $0.layout.stripes.map(\.object) })
        var logged: Set<ObjectName> = []
        for key in rows(.destroyLog).keys {
            let number = key[12..<20].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            logged.insert(ObjectName(targetIndex: UInt32(key[3]), number: number))
        }
        let gone = logged.union(destroyedObjects)
        #expect(live.isDisjoint(with: gone), "no file's object is destroyed")
        #expect(live.isSubset(of: objects))
        #expect(model.destroyed.isSubset(of: gone), "objects of files that are gone go")
        let others = objects.subtracting(live).subtracting(logged)
        let ready = targets.reduce(0) { $0 + Int(service.objectsReady(targetIndex: $1)) }
        #expect(others.count == ready, "what is neither used nor to go is ready")
        for object in others { #expect(owners[object] == nil) }
    }
}

extension FileName: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self.init(text)! }
}
