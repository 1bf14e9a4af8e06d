import NodeCore
import Primitives
import WireFormat

/// When which fault strikes whom.
extension Simulation {
    /// Begins every fault that comes by time.
    func plantFaults() {
        for fault in plan.faults where fault.unit == .perMinute { plant(fault) }
        if plan[.drift] > 0 { plantDrift() }
    }

    private func plant(_ fault: Fault) {
        // On average once in a minute's part; uniform up to twice that.
        let mean = 60e9 / plan[fault]
        let wait = UInt64(Double(random.next() % 1_000_000) / 1e6 * 2 * mean) + 1_000_000
        cluster.at(cluster.now + TickInterval(nanoseconds: wait)) { [unowned self] _ in
            guard isStorm, violation == nil else { return }
            strike(fault)
            plant(fault)
        }
    }

    private func plantDrift() {
        cluster.at(cluster.now + .milliseconds(300)) { [unowned self] _ in
            for node in loadOfNode.indices {
                guard Double(random.next() % 1000) / 1000 < plan[.drift] else { continue }
                let rate = Int64(random.below(100_001)) - 50_000
                cluster.setClock(of: node, partsPerMillion: rate)
                coverage.count(.drift)
            }
        }
    }

    private func strike(_ fault: Fault) {
        let place = random.below(targets.count)
        let node = targets[place].node
        switch fault {
        case .crash, .machine, .failover:
            guard !targets[place].isDown else { return }
            note(node, "\(fault.rawValue)")
            cluster.kill(node, isSilent: fault == .machine)
            if fault == .machine { trouble(node, .seconds(2)) }
            went(place, delay: restartDelay(), failsOver: fault == .failover)
            // Now and then two at once.
            if random.oneIn(4) {
                let other = random.below(targets.count)
                if !targets[other].isDown {
                    note(targets[other].node, "crash with another")
                    cluster.kill(targets[other].node)
                    went(other, delay: restartDelay())
                }
            }
        case .hang:
            let victim = random.oneIn(2) ? node : anyClientNode() ?? node
            let time = shortTime()
            note(victim, "hangs for \(time.inSeconds) s")
            trouble(victim, time)
            cluster.pause(victim, for: time)
        case .partition:
            partition(node)
        case .clog:
            guard let client = anyClientNode() else { return }
            let end = cluster.now + .milliseconds(UInt64(random.below(2000)))
            note(client, "clogged")
            trouble(client, .seconds(2))
            if random.oneIn(2) {
                cluster.clog(from: client, to: node, until: end)
            } else {
                cluster.clog(from: node, to: client, until: end)
            }
        case .fullDisk:
            let disk = cluster.disk(of: targets[place].store)
            note(node, "disk full")
            disk.isFull = true
            cluster.at(cluster.now + .milliseconds(UInt64(random.below(5000)))) {
                [unowned self] _ in
                disk.isFull = false
                note(targets[place].node, "disk has room")
            }
        case .damage:
            guard !targets[place].isDown else { return }
            cluster.disk(of: targets[place].store).readsBeforeDamage = random.below(30)
            diskTroubleUntil[place] = cluster.now + .seconds(600)
        case .clientDeath:
            let index = random.below(loads.count)
            guard loads[index].isAlive else { return }
            die(index, why: "dies")
        case .clientLeave:
            leave(random.below(loads.count))
        case .upgrade: announce(place, isMaintenance: false)
        case .group:
            note(node, "all targets at once")
            for place in targets.indices { announce(place, isMaintenance: false) }
        case .maintenance: announce(place, isMaintenance: true)
        case .abort: abort(place)
        case .loss, .duplicate, .reorder, .reset, .split, .refuse, .midStep, .drift, .slowDisk,
            .commitError, .cancel, .oldPeer, .site, .batch:
            return
        }
        coverage.count(fault)
    }

    private func shortTime() -> TickInterval {
        // Mostly short, at times up to 8 s.
        .milliseconds(UInt64(random.oneIn(3) ? random.below(8000) : random.below(400)) + 5)
    }

    private func anyClientNode() -> Int? {
        let alive = loads.filter(\.isAlive)
        return alive.isEmpty ? nil : alive[random.below(alive.count)].node
    }

    private func partition(_ server: Int) {
        let style: PartitionStyle = random.oneIn(2) ? .silent : .held
        let isOneWay = random.oneIn(3)
        let time = shortTime()
        var cut: [Int] = []
        var from: [Int] = []
        switch random.below(4) {
        case 0:
            // A server from everybody.
            cut = [server]
            from = loadOfNode.indices.filter { $0 != server }
        case 1:
            // A metadata server from an object server.
            cut = [targets[0].node]
            from = [targets[1 + random.below(targets.count - 1)].node]
        case 2:
            guard let client = anyClientNode() else { return }
            cut = [client]
            from = loadOfNode.indices.filter { $0 != client }
        default:
            guard let client = anyClientNode() else { return }
            cut = [client]
            from = [server]
        }
        if isOneWay, random.oneIn(2) { swap(&cut, &from) }
        note(cut[0], "\(style) partition\(isOneWay ? ", one way" : "") for \(time.inSeconds) s")
        for node in cut.count <= from.count ? cut : from { trouble(node, time) }
        cluster.partition(cut, from: from, isOneWay: isOneWay, style)
        cluster.at(cluster.now + time) { [unowned self] cluster in
            for node in cut.count <= from.count ? cut : from {
                cluster.heal(node)
                note(node, "healed")
            }
        }
    }

    /// For a while after it was cut off or hung, a node may be given up by others.
    func trouble(_ node: Int, _ time: TickInterval) {
        registerTrouble(node, until: cluster.now + time + .seconds(90))
    }

    private func registerTrouble(_ node: Int, until time: Ticks) {
        troubleUntil[node] = max(troubleUntil[node], time)
    }
}
