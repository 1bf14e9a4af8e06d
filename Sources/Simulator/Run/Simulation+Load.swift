import ClientCore
import NodeCore
import Primitives
import WireFormat

/// Clients: their lives, and what they do.
extension Simulation {
    // MARK: Lives

    /// The next life of a client: on the same node and of the same name, or on another.
    func begin(life: Int, of index: Int, isRestart: Bool) {
        guard violation == nil else { return }
        var load = loads[index]
        let wasNode = load.node
        if !isRestart || load.uuid.isEmpty {
            clientNumber += 1
            load.uuid = "client-\(clientNumber)"
        }
        let nid =
            isRestart && wasNode >= 0
            ? nidOfNode(wasNode) : NID(address: 0x0A01_0000 + UInt32(clientNumber), type: .tcp)
        load = renewed(load, life: life)
        var client = ClientConfiguration(
            uuid: load.uuid, targets: clientTargets, seed: random.next(),
            wallSeconds: UInt64(cluster.wall.seconds))
        // Milliseconds on the scale of seconds << 20: lives may follow one another fast.
        client.xidStart =
            UInt64(cluster.wall.seconds) << 20
            + UInt64(cluster.wall.nanoseconds / 1_000_000) << 10
        client.reportsUpdates = true
        client.mutation = configuration.mutation
        client.writebackDelay = .milliseconds([5, 100, 500][random.below(3)])
        if random.oneIn(4) { client.dirtyByteCountMax = 64 << 10 }
        if random.oneIn(4) { client.cacheByteCountMax = 64 << 10 }
        if random.oneIn(4) { client.unusedLockCountMax = 2 }
        // Some leave object servers where they hold nothing, and come back.
        if load.number % 4 == 3 {
            client.idleTimeout = .milliseconds(200)
            client.unusedLockCountMax = 2
        }
        if Double(random.next() % 1000) / 1000 < plan[.oldPeer] {
            if random.oneIn(2) {
                client.features = []
            } else {
                client.versions = .v1 ... .v1
            }
            coverage.count(.oldPeer)
        }
        load.hasUpgradeFeature = client.features.contains(.upgrade)
        loads[index] = load
        let node = cluster.nodeIndex(of: nid)
        registerNode(node, load: index)
        loads[index].node = node
        loads[index].isAlive = true
        name(node, load.uuid)
        note(node, "life \(life), versions \(client.versions)")
        cluster.addClient(client, nid: nid)
        cluster.observeLocks(of: node)
        arm(node)
        next(index)
    }

    private func nidOfNode(_ node: Int) -> NID {
        NID(address: cluster.address(of: node), type: .tcp)
    }

    private func renewed(_ old: LoadClient, life: Int) -> LoadClient {
        var load = LoadClient(number: old.number)
        load.uuid = old.uuid
        load.life = life
        load.homeName = FileName("c\(old.number).\(life)")!
        load.registers = Array(repeating: nil, count: oracle.registers.count)
        load.records = Array(
            repeating: Array(repeating: .none, count: LoadClient.recordCount),
            count: oracle.registers.count)
        load.acknowledged = Array(repeating: [], count: targets.count)
        load.checkedCount = Array(repeating: 0, count: targets.count)
        return load
    }

    /// A client is gone in an instant. What it had not written back, or the servers had not
    /// committed, may be gone with it.
    func die(_ index: Int, why: String) {
        guard loads[index].isAlive else { return }
        let load = loads[index]
        note(load.node, why)
        collectSites(load.node)
        cluster.kill(load.node, isSilent: random.oneIn(3))
        loads[index].isAlive = false
        oracle.locks.forget(index)
        oracle.forgot(client: Self.name(load), uncommittedSince: uncommittedSince)
        oracle.deadUUIDs.insert(load.uuid)
        replace(index)
    }

    /// What was written before is on the disks: a slow one takes a second, one that refuses to commit
    /// as long as it does.
    private var uncommittedSince: Ticks {
        let isTroubled = diskTroubleUntil.contains { $0 > cluster.now }
        let reach = TickInterval.seconds(isTroubled ? 60 : 2)
        return Ticks(
            nanoseconds: cluster.now.nanoseconds - min(cluster.now.nanoseconds, reach.nanoseconds))
    }

    private func replace(_ index: Int) {
        let life = loads[index].life + 1
        // A name that was given up for lost stays unused: what it was told is void.
        let isRestart = random.oneIn(2)
        let delay = TickInterval.milliseconds(UInt64(random.below(300)) + 2)
        cluster.at(cluster.now + delay) { [unowned self] _ in
            if !loads[index].isAlive { begin(life: life, of: index, isRestart: isRestart) }
        }
    }

    /// A client unmounts as soon as it has nothing under way; another takes its place.
    func leave(_ index: Int) {
        guard loads[index].isAlive, !loads[index].isLeaving, !loads[index].isDoomed else { return }
        loads[index].isLeaving = true
        if loads[index].current == nil { unmount(index) }
    }

    private func unmount(_ index: Int) {
        let node = loads[index].node
        note(node, "unmounts")
        // From here on its record locks may go to others.
        loads[index].records = renewed(loads[index], life: 0).records
        let time = cluster.clock(of: node)
        cluster.withClient(node) { $0.unmount(now: time) }
    }

    private func left(_ index: Int) {
        let load = loads[index]
        guard load.isAlive, load.isLeaving else { return }
        oracle.departed(load)
        cluster.kill(load.node)
        loads[index].isAlive = false
        oracle.locks.forget(index)
        replace(index)
    }

    /// A server has given a client up. It is void from here on, where that was to be expected.
    func evicted(_ uuid: String, by place: Int, _ reason: String) {
        guard let index = loads.firstIndex(where: { $0.uuid == uuid && $0.isAlive }) else {
            return
        }
        evict(index, "by \(targets[place].name), \(reason)", server: targets[place].node)
    }

    private func evict(_ index: Int, _ reason: String, server: Int) {
        guard !loads[index].isDoomed else { return }
        coverage.evictions += 1
        let isExcused =
            troubleUntil[loads[index].node] > cluster.now
            || server >= 0 && troubleUntil[server] > cluster.now
        guard isExcused else {
            return fail(.evicted, "\(loads[index].uuid) \(reason)")
        }
        giveUp(index, "evicted \(reason)")
    }

    /// What this client was told is void from here on: it is replaced.
    func giveUp(_ index: Int, _ reason: String) {
        guard !loads[index].isDoomed else { return }
        loads[index].isDoomed = true
        oracle.locks.forget(index)
        let life = loads[index].life
        note(loads[index].node, reason)
        oracle.forgot(
            client: Self.name(loads[index]), uncommittedSince: uncommittedSince)
        cluster.at(cluster.now + .milliseconds(UInt64(random.below(50)))) { [unowned self] _ in
            if loads[index].isAlive, loads[index].life == life { die(index, why: "is replaced") }
        }
    }

    /// A number for a client's life, for histories.
    static func name(_ load: LoadClient) -> Int { load.number << 16 | load.life }

    // MARK: What clients say

    func heard(_ node: Int, _ event: ClientEvent) {
        let index = node < loadOfNode.count ? loadOfNode[node] : -1
        guard index >= 0, loads[index].isAlive, loads[index].node == node else { return }
        switch event {
        case .completed(let cookie, let result):
            guard let current = loads[index].current, current.cookie == cookie else { return }
            loads[index].current = nil
            operationCount += 1
            note(node, "\(LoadClient.brief(current.step)) ends: \(Self.brief(result))")
            finish(index, current, result)
            if loads[index].isLeaving { unmount(index) } else { pause(index) }
        case .acknowledged(let target, let xid):
            loads[index].acknowledged[target].append(xid.rawValue)
        case .stamp(let target, let stamp, _, _):
            note(node, "\(targets[target].name): \(stamp)")
        case .connected(let target, let version, let instance):
            note(node, "\(targets[target].name): connected, version \(version), \(instance)")
            coverage.connects += 1
        case .disconnected(let target):
            note(node, "\(targets[target].name): disconnected")
        case .evicted(let target):
            evict(index, "from \(targets[target].name)", server: targets[target].node)
        case .writeLost(let target, let object, let status, let count):
            guard !loads[index].isDoomed else { return }
            if diskTroubleUntil[target] > cluster.now {
                return giveUp(index, "a write-back met damage")
            }
            fail(
                .acknowledgedUpdateLost,
                "\(loads[index].uuid): \(count) bytes of \(object) on \(targets[target].name) "
                    + "cannot be written back: \(status)")
        case .updateLost(let target, let opcode, let xid, let transno, let status):
            guard !loads[index].isDoomed else { return }
            if diskTroubleUntil[target] > cluster.now {
                return giveUp(index, "an update met damage when it was replayed")
            }
            fail(
                .acknowledgedUpdateLost,
                "\(loads[index].uuid): \(opcode.name) x\(xid.rawValue) t\(transno.rawValue) on "
                    + "\(targets[target].name) cannot be replayed: \(status)")
        case .refused(let target, let status):
            guard !loads[index].isDoomed else { return }
            fail(
                .operationFailed,
                "\(loads[index].uuid) is refused by \(targets[target].name): \(status)")
        case .unmounted:
            left(index)
        }
    }

    private static func brief(_ result: Result<FileResult, OperationError>) -> String {
        switch result {
        case .success(.bytes(let bytes)): "\(bytes.count) bytes"
        case .success(.entries(let entries, _)): "\(entries.count) entries"
        case .success: "done"
        case .failure(let error): "\(error.status)"
        }
    }

    // MARK: What they do

    private func pause(_ index: Int) {
        guard isStorm else { return }
        // Uniform around the mean, which is what a rate of operations leaves between two.
        let mean = 1e9 / configuration.operationsPerSecond
        let wait = UInt64(Double(random.next() % 1_000_000) / 1e6 * 2 * mean)
        let life = loads[index].life
        cluster.at(cluster.now + TickInterval(nanoseconds: wait)) { [unowned self] _ in
            if loads[index].life == life { next(index) }
        }
    }

    private func next(_ index: Int) {
        let load = loads[index]
        guard isStorm, load.isAlive, load.current == nil, !load.isDoomed, !load.isLeaving,
            violation == nil
        else { return }
        guard let home = load.home else {
            return submit(
                index, .makeHome, .mkdir(at: .root, load.homeName, mode: 0o700))
        }
        guard let (step, operation) = choose(index, load, home) else { return pause(index) }
        submit(index, step, operation)
    }

    private func submit(_ index: Int, _ step: LoadClient.Step, _ operation: FileOperation) {
        nextCookie += 1
        let cookie = nextCookie
        let node = loads[index].node
        loads[index].current = LoadClient.Current(step: step, cookie: cookie, begun: cluster.now)
        if case .setRegister(let register, let value) = step {
            oracle.registers[register].beginWrite(
                value, by: Self.name(loads[index]), at: cluster.now)
        }
        note(node, LoadClient.brief(step))
        let time = cluster.clock(of: node)
        let wall = cluster.wall(of: node)
        let handle = cluster.withClient(node) {
            $0.submit(operation, cookie: cookie, wall: wall, now: time)
        }
        if case .lockRecord(_, _, _, waits: true) = step, let handle {
            giveUp(handle, of: index, cookie: cookie)
            return
        }
        guard let handle, loads[index].current?.cookie == cookie, plan[.cancel] > 0,
            Double(random.next() % 10_000) / 10_000 < plan[.cancel]
        else { return }
        cluster.at(cluster.now + .microseconds(UInt64(random.below(20_000)))) {
            [unowned self] cluster in
            guard loads[index].current?.cookie == cookie, loads[index].node == node else { return }
            let now = cluster.clock(of: node)
            loads[index].current?.isCancelled = true
            if cluster.withClient(node, { $0.cancel(handle, now: now) }) == true {
                cancelledCount += 1
                coverage.count(.cancel)
            } else if loads[index].current?.cookie == cookie {
                loads[index].current?.isCancelled = false
            }
        }
    }

    /// A step that this client can do now.
    private func choose(
        _ index: Int, _ load: LoadClient, _ home: FileID
    ) -> (LoadClient.Step, FileOperation)? {
        let open = load.files.indices.filter { load.files[$0].handle != nil }
        switch random.below(34) {
        case 0...2:
            guard load.files.count < 12 else { return nil }
            loads[index].created += 1
            let name = FileName("f\(load.created)")!
            return (
                .create(name),
                .open(
                    at: home, name, [.read, .write, .create, .exclusive], mode: 0o600,
                    stripeCount: UInt32(1 + random.below(targets.count - 1)))
            )
        case 3...8:
            return change(load, open)
        case 9...11:
            guard !open.isEmpty else { return nil }
            let file = open[random.below(open.count)]
            let isWhole = random.oneIn(2)
            let offset = isWhole ? 0 : random.below(load.files[file].bytes.count + 1)
            let count = isWhole ? 1 << 20 : random.below(5000)
            return (
                .read(file, offset: offset, count: count),
                .read(load.files[file].handle!, offset: UInt64(offset), byteCount: count)
            )
        case 12:
            guard let file = open.first, open.count > 2 else { return nil }
            return (.close(file), .close(load.files[file].handle!))
        case 13:
            guard !open.isEmpty else { return nil }
            return (.flush, .flush(load.files[open[random.below(open.count)]].handle!))
        case 14, 15:
            return rename(load, home)
        case 16:
            guard let file = load.files.indices.first(where: { !load.files[$0].isUnlinked }),
                load.files.count > 3
            else { return nil }
            return (
                .unlink(file), .unlink(at: home, load.files[file].name, isDirectory: false)
            )
        case 17:
            guard let file = load.files.indices.last(where: { !load.files[$0].isUnlinked })
            else { return nil }
            return (.stat(file), .stat(at: home, path: [load.files[file].name]))
        case 18:
            return (.chmod, .setattr(home, mode: 0o750, modified: nil))
        case 19:
            return (.list, .readdir(home, after: nil, entryCountMax: 1000))
        case 20:
            if let name = load.directories.first, load.directories.count > 2 {
                return (.removeDirectory(name), .unlink(at: home, name, isDirectory: true))
            }
            loads[index].created += 1
            let name = FileName("d\(load.created)")!
            return (.makeDirectory(name), .mkdir(at: home, name, mode: 0o700))
        case 21:
            guard
                let file = load.files.indices.first(where: {
                    load.files[$0].handle == nil && !load.files[$0].isUnlinked
                })
            else { return nil }
            return (
                .reopen(file),
                .open(
                    at: home, load.files[file].name, [.read, .write], mode: 0, stripeCount: 1)
            )
        case 22...25:
            return share(index, load)
        case 26, 27:
            return lockRecord(index, load)
        default:
            return register(load)
        }
    }

    private func change(
        _ load: LoadClient, _ open: [Int]
    ) -> (LoadClient.Step, FileOperation)? {
        guard !open.isEmpty else { return nil }
        let file = open[random.below(open.count)]
        let size = load.files[file].bytes.count
        let handle = load.files[file].handle!
        if size > 0, random.oneIn(8) {
            let cut = random.below(size)
            return (.truncate(file, cut), .truncate(handle, size: UInt64(cut)))
        }
        var bytes = Array("\(load.number).\(nextCookie);".utf8)
        if random.oneIn(6) {
            // Long enough for bulk, and at times for several stripes.
            let head = bytes
            let length = random.oneIn(4) ? 80_000 : 18_000
            while bytes.count < length { bytes += head }
        }
        if random.oneIn(3), size < 400_000 {
            let offset = random.below(size + 1)
            return (
                .write(file, offset: offset, bytes), .write(handle, offset: UInt64(offset), bytes)
            )
        }
        guard size < 400_000 else { return (.truncate(file, 0), .truncate(handle, size: 0)) }
        return (.append(file, bytes), .append(handle, bytes))
    }

    private func rename(_ load: LoadClient, _ home: FileID) -> (LoadClient.Step, FileOperation)? {
        let named = load.files.indices.filter { !load.files[$0].isUnlinked }
        guard !named.isEmpty else { return nil }
        let file = named[random.below(named.count)]
        let name = FileName("n\(nextCookie)")!
        return (
            .rename(file, name), .rename(at: home, load.files[file].name, to: home, name)
        )
    }

    /// A word of its own for the file of all, or a look whether what was said is there.
    private func share(_ index: Int, _ load: LoadClient) -> (LoadClient.Step, FileOperation)? {
        guard let handle = load.shared, load.sharedGeneration == sharedGeneration else {
            if let old = load.shared {
                loads[index].shared = nil
                return (.discard, .close(old))
            }
            return (
                .openShared(generation: sharedGeneration),
                .open(
                    at: .root, FileName("shared\(sharedGeneration)")!, [.read, .write, .create],
                    mode: 0o600, stripeCount: UInt32(targets.count - 1))
            )
        }
        if random.oneIn(2) {
            let word = SharedWord(number: load.number, life: load.life, cookie: nextCookie)
            sharedWords += 1
            if sharedWords > 150 {
                sharedWords = 0
                sharedGeneration += 1
            }
            return (.say(word), .append(handle, word.bytes))
        }
        let known = oracle.words(of: loads, in: load.sharedGeneration)
        return (.hear(known: known), .read(handle, offset: 0, byteCount: 1 << 20))
    }

    private func register(_ load: LoadClient) -> (LoadClient.Step, FileOperation)? {
        let register = random.below(oracle.registers.count)
        // Three lie in one file each, in different parts of it: within a page, behind it, and in
        // another object.
        let offset: UInt64 = [0, 5_000, 70_000][register % 3]
        guard let handle = load.registers[register] else {
            return (
                .openRegister(register),
                .open(
                    at: .root, FileName("registers\(register / 3)")!, [.read, .write, .create],
                    mode: 0o600, stripeCount: UInt32(targets.count - 1))
            )
        }
        if random.oneIn(3) {
            valueCounter += 1
            return (
                .setRegister(register, valueCounter),
                .write(handle, offset: offset, Oracle.encode(valueCounter))
            )
        }
        return (.getRegister(register), .read(handle, offset: offset, byteCount: 8))
    }
}
