import ClientCore
import LDLMCore
import NodeCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// What must hold at every step, at every stop, and in the end.
extension Simulation {
    // MARK: While it runs

    /// Looks at gates now and then.
    func inspect() {
        guard violation == nil else { return }
        for place in targets.indices {
            checkGates(place)
            checkExpiry(place)
        }
        let wait = TickInterval.microseconds(UInt64(random.below(300_000)) + 1_000)
        cluster.at(cluster.now + wait) { [unowned self] _ in inspect() }
    }

    /// A node was let work: which locks has a client, and where is a server now?
    func watch(_ node: Int) {
        guard node < targetOfNode.count else { return }
        if loadOfNode[node] >= 0 { return watchLocks(of: loadOfNode[node], on: node) }
        guard targetOfNode[node] >= 0,
            let phase = cluster.peekServer(node, { $0.phase })
        else { return }
        if coverage.note(phase, of: node) {
            note(node, "is \(phase)")
            if targets[targetOfNode[node]].node == node, phase == .committing || phase == .sealed {
                checkGates(targetOfNode[node])
            }
        }
    }

    /// What a client holds has changed with the step that it was let do.
    private func watchLocks(of load: Int, on node: Int) {
        while let (place, lock, info) = cluster.takeLockChange(node) {
            guard loads[load].isAlive, loads[load].node == node, !loads[load].isDoomed else {
                continue
            }
            guard let other = oracle.locks.set(lock, of: load, target: place, info), let info
            else { continue }
            fail(
                .conflictingLocks,
                "\(loads[load].uuid) has \(info.mode) \(info.policy) and "
                    + "\(loads[other.load].uuid) has \(other.info.mode) \(other.info.policy) on "
                    + "\(info.resource) of \(targets[place].name)")
        }
    }

    /// The book of locks, which changes led to, says what the clients themselves say. What a client
    /// that hangs was asked meanwhile has not been looked at yet.
    func auditLocks() {
        for (index, load) in loads.enumerated()
        where load.isAlive && !load.isDoomed && !cluster.isPaused(load.node) {
            var held: [Int: [LockBook.Holding]] = [:]
            for place in targets.indices {
                _ = cluster.peekClient(load.node) { client in
                    client.core.forEachLock(of: place) { info in
                        if let holding = LockBook.Holding(load: index, info) {
                            held[place, default: []].append(holding)
                        }
                    }
                }
            }
            let known = oracle.locks.holdings(of: index)
            for (place, holding) in known where held[place]?.contains(holding) != true {
                fail(.trap, "the oracle thinks that \(load.uuid) holds \(holding.info)")
            }
            if held.values.reduce(0, { $0 + $1.count }) != known.count {
                fail(.trap, "the oracle knows \(known.count) locks of \(load.uuid), not \(held)")
            }
        }
    }

    /// Invariant B, seen from both sides.
    private func checkGates(_ place: Int) {
        let site = targets[place]
        guard !site.isDown, !site.isSynchronous else { return }
        let state = cluster.peekServer(site.node) { ($0.phase, $0.instance) }
        guard let (phase, instance) = state else { return }
        guard phase == .committing || phase == .sealed || phase == .committed else { return }
        var standings: [String: UpgradeTarget.Standing] = [:]
        _ = cluster.peekServer(site.node) { server in
            server.forEachClient { standings[$0] = $1 }
        }
        for load in loads where load.isAlive && !load.isDoomed && load.hasUpgradeFeature {
            guard let standing = standings[load.uuid] else { continue }
            if standing == .granted {
                fail(.invariantB, "\(site.name) is \(phase) while \(load.uuid) is granted")
            }
            let mayBegin = cluster.peekClient(load.node) { client in
                let summary = client.core.summary(place)
                return client.core.isGateOpen(place) && summary.state == .full
                    && summary.instance == instance && !summary.isDisconnecting
            }
            if mayBegin == true, standing != .leftBehind {
                fail(
                    .invariantB,
                    "\(site.name) is \(phase) while the gate of \(load.uuid) (\(standing)) is open")
            }
        }
    }

    /// Whatever clients and operators do, an upgrade that does not get on is given up at its expiry.
    private func checkExpiry(_ place: Int) {
        let node = targets[place].node
        guard targets[place].standby != nil, !targets[place].isDown,
            let phase = cluster.peekServer(node, { $0.phase })
        else { return }
        if cluster.isPaused(node) {
            // It sees what time it is when it wakes.
            targets[place].upgradeLimit = max(
                targets[place].upgradeLimit, cluster.now + .seconds(1))
        }
        switch phase {
        case .announced, .gathering, .committing, .held:
            if cluster.now > targets[place].upgradeLimit {
                fail(.forgotten, "\(targets[place].name) is still \(phase)")
            }
        case .serving, .sealed, .committed, .stopped, .aborting, .recovering, .standby, .starting:
            break
        }
    }

    /// A message on its way: for the timeline, and invariant A.
    func met(_ moment: MessageMoment, _ message: SimulatedMessage) {
        switch moment {
        case .sending:
            note(message.from, "to \(nodeName(message.to)): \(message)")
            checkUpdate(message)
        case .arriving: note(message.to, "from \(nodeName(message.from)): \(message)")
        case .lost: note(message.from, "to \(nodeName(message.to)), lost: \(message)")
        case .delivered: break
        }
    }

    private func nodeName(_ node: Int) -> String {
        guard node < targetOfNode.count else { return "node \(node)" }
        if targetOfNode[node] >= 0 { return targets[targetOfNode[node]].name }
        return loadOfNode[node] >= 0 ? loads[loadOfNode[node]].uuid : "node \(node)"
    }

    /// After its receipt a client sends nothing new that changes anything.
    private func checkUpdate(_ message: SimulatedMessage) {
        guard case .request(let opcode) = message.kind,
            !message.flags.contains(.replay), !message.flags.contains(.resent),
            message.from < loadOfNode.count, message.to < targetOfNode.count,
            loadOfNode[message.from] >= 0, targetOfNode[message.to] >= 0
        else { return }
        switch opcode {
        case .mkdir, .open, .unlink, .rename, .setattr, .objectWrite, .objectPunch: break
        default: return
        }
        let place = targetOfNode[message.to]
        let load = loads[loadOfNode[message.from]]
        guard load.isAlive, targets[place].node == message.to else { return }
        let state = cluster.peekClient(message.from) { $0.core.upgradeState(of: place) }
        if case .prepared(let epoch)? = state {
            fail(
                .invariantA,
                "\(load.uuid) sends \(message) to \(targets[place].name) after its receipt for "
                    + "\(epoch)")
        }
    }

    // MARK: When a target ends

    /// Nobody may have been told of a commit that is not on the disk.
    func checkCommitted(_ place: Int) {
        let committed = Oracle.committedTransno(targets[place].store)
        for load in loads where load.isAlive {
            let told = cluster.peekClient(load.node) { $0.core.summary(place).lastCommitted }
            if let told, told.rawValue > committed {
                fail(
                    .committedTooEarly,
                    "\(load.uuid) was told that \(told.rawValue) is on the disk of "
                        + "\(targets[place].name), where \(committed) is the last")
            }
        }
    }

    /// A target stopped with a clean record: all that was acknowledged is in its store.
    func checkCleanStop(_ place: Int) {
        let store = targets[place].store
        for index in loads.indices where loads[index].isAlive && !loads[index].isDoomed {
            let xids = loads[index].acknowledged[place]
            for xid in xids[loads[index].checkedCount[place]...]
            where store.read(.audit, Oracle.auditKey(loads[index].uuid, xid)) == nil {
                return fail(
                    .cleanRecord,
                    "\(targets[place].name) has stopped clean without update x\(xid) of "
                        + loads[index].uuid)
            }
            loads[index].checkedCount[place] = xids.count
        }
    }

    // MARK: In the end

    /// Everything at rest and on disk: the stores against what clients were told, and a fresh
    /// client against their models.
    func verify() {
        auditLocks()
        for place in targets.indices { verifyAudit(place) }
        for (number, history) in oracle.registers.enumerated() {
            if let reason = history.violation() {
                fail(.notLinearizable, "register \(number): \(reason)")
            }
        }
        guard violation == nil else { return }
        readBack()
    }

    private func verifyAudit(_ place: Int) {
        let store = targets[place].store
        func check(_ uuid: String, _ xids: [UInt64]) {
            for xid in xids where store.read(.audit, Oracle.auditKey(uuid, xid)) == nil {
                return fail(
                    .acknowledgedUpdateLost, "x\(xid) of \(uuid) on \(targets[place].name)")
            }
        }
        for load in loads where load.isAlive && !load.isDoomed {
            check(load.uuid, load.acknowledged[place])
        }
        for item in oracle.departedClients where !oracle.deadUUIDs.contains(item.uuid) {
            check(item.uuid, item.acknowledged[place])
        }
        store.scan(.audit, from: [0]) { key, value in
            guard value.first == 1 else {
                let uuid = String(decoding: key.prefix { $0 != 0 }, as: UTF8.self)
                let xid = key.suffix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                fail(
                    .updateRepeated,
                    "x\(xid) of \(uuid) on \(targets[place].name), \(value.first ?? 0) times")
                return false
            }
            return true
        }
    }

    /// A client that has seen nothing of it reads every file.
    private func readBack() {
        var configuration = ClientConfiguration(
            uuid: "reader", targets: clientTargets, seed: random.next(),
            wallSeconds: UInt64(cluster.wall.seconds))
        configuration.xidStart = UInt64(cluster.wall.seconds) << 20
        let nid = NID(address: 0x0A02_0001, type: .tcp)
        let node = cluster.addClient(configuration, nid: nid)
        registerNode(node)
        name(node, "reader")
        var results: [UInt64: Result<FileResult, OperationError>] = [:]
        let before = cluster.onClient
        cluster.onClient = { index, event in
            if index == node, case .completed(let cookie, let result) = event {
                results[cookie] = result
            }
            before(index, event)
        }
        func perform(_ operation: FileOperation) -> FileResult? {
            nextCookie += 1
            let cookie = nextCookie
            let (time, wall) = (cluster.clock(of: node), cluster.wall(of: node))
            cluster.withClient(node) {
                _ = $0.submit(operation, cookie: cookie, wall: wall, now: time)
            }
            _ = cluster.run(until: cluster.now + .seconds(120)) {
                results[cookie] != nil || self.violation != nil
            }
            switch results.removeValue(forKey: cookie) {
            case .success(let result)?: return result
            case .failure(let error)?: fail(.operationFailed, "reader: \(operation): \(error)")
            case nil: fail(.notLive, "reader: \(operation) does not end")
            }
            return nil
        }
        for load in loads where load.isAlive && !load.isDoomed {
            guard let home = load.home else { continue }
            guard
                case .entries(let entries, _)? = perform(
                    .readdir(home, after: nil, entryCountMax: 1000))
            else { return }
            checkListing(load, entries.map(\.name.text))
            for file in load.files where !file.isUnlinked {
                guard
                    case .opened(let handle, _, _)? = perform(
                        .open(at: home, file.name, [.read], mode: 0, stripeCount: 1)),
                    case .bytes(let bytes)? = perform(
                        .read(handle, offset: 0, byteCount: 1 << 20))
                else { return }
                if bytes != file.bytes {
                    fail(
                        .wrongBytes,
                        "\(file.name.text) of \(load.uuid) reads "
                            + Self.difference(bytes, file.bytes))
                }
                _ = perform(.close(handle))
            }
        }
        for generation in 0...sharedGeneration where violation == nil {
            let known = oracle.words(of: loads, in: generation)
            guard !known.isEmpty else { continue }
            guard
                case .opened(let handle, _, _)? = perform(
                    .open(
                        at: .root, FileName("shared\(generation)")!, [.read], mode: 0,
                        stripeCount: 1)),
                case .bytes(let bytes)? = perform(.read(handle, offset: 0, byteCount: 1 << 20))
            else { return }
            checkShared(bytes, known)
        }
    }
}
