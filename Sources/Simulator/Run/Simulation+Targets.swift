import ClientCore
import NodeCore
import Primitives
import StorageCore
import WireFormat

/// Targets: started, stopped, killed, upgraded.
extension Simulation {
    var clientTargets: [ClientTarget] {
        targets.map { site in
            ClientTarget(
                name: site.name, kind: site.place == 0 ? .mds : .oss,
                index: UInt32(max(0, site.place - 1)),
                nids: [site.nid(partner: false), site.nid(partner: true)])
        }
    }

    private func serverConfiguration(
        _ place: Int, partner: Bool, versions: ClosedRange<ProtocolVersion>
    ) -> ServerConfiguration {
        var server = ServerConfiguration(
            targetName: targets[place].name, kind: place == 0 ? .mds : .oss,
            targetIndex: UInt32(max(0, place - 1)),
            lnet: cluster.lnetConfiguration(targets[place].nid(partner: partner)),
            seed: random.next())
        server.versions = versions
        server.keepsAudit = true
        server.mutation = configuration.mutation
        server.stripeSize = 64 << 10
        if place == 0 { server.objectTargets = Array(clientTargets.dropFirst()) }
        return server
    }

    private func makeServer(
        _ place: Int, partner: Bool, versions: ClosedRange<ProtocolVersion>
    ) -> Int {
        do {
            let node = try cluster.addServer(
                serverConfiguration(place, partner: partner, versions: versions),
                store: targets[place].store, isStandby: true)
            registerNode(node, target: place)
            arm(node)
            name(node, "\(targets[place].name)\(partner ? " (partner)" : "")")
            return node
        } catch {
            preconditionFailure("a standby reads no store")
        }
    }

    /// Fault sites fire in some runs.
    func arm(_ node: Int) {
        guard plan[.site] > 0 else { return }
        let sites = FaultSites(seed: random.next(), oneIn: plan.oneIn(.site))
        _ = cluster.withServer(node) { $0.arm(sites) }
        cluster.withClient(node) { $0.arm(sites) }
    }

    func restartDelay() -> TickInterval { .milliseconds(UInt64(5 + random.below(1500))) }

    /// Nobody holds the store any more; somebody will.
    func went(_ place: Int, delay: TickInterval, failsOver: Bool = false) {
        targets[place].isDown = true
        targets[place].hasStoppedClean = false
        diskTroubleUntil[place] = min(diskTroubleUntil[place], cluster.now + .seconds(10))
        checkCommitted(place)
        let starts = targets[place].starts
        if failsOver { targets[place].isPartner.toggle() }
        cluster.at(cluster.now + delay) { [unowned self] _ in
            if targets[place].isDown, targets[place].starts == starts { start(place) }
        }
    }

    /// Starts the target: the standby where there is one, a process of the same build otherwise.
    func start(_ place: Int, isFirst: Bool = false) {
        let site = targets[place]
        if let standby = site.standby {
            targets[place].standby = nil
            if cluster.peekServer(standby.node, { $0.phase }) == .standby, take(place, standby) {
                return
            }
            cluster.kill(standby.node)
        }
        guard violation == nil else { return }
        let versions = targets[place].versions
        let node = makeServer(place, partner: targets[place].isPartner, versions: versions)
        guard cluster.peekServer(node, { $0.phase }) == .standby else {
            // It died in its very first step.
            return went(place, delay: restartDelay())
        }
        do {
            try cluster.activate(node)
            began(place, node, versions)
        } catch {
            guard diskTroubleUntil[place] > cluster.now else {
                return fail(.startRefused, "\(site.name) in versions \(versions): \(error)")
            }
            // It met damage: whoever supervises tries again.
            cluster.kill(node)
            let starts = targets[place].starts
            cluster.at(cluster.now + .seconds(1)) { [unowned self] _ in
                if targets[place].isDown, targets[place].starts == starts { start(place) }
            }
        }
    }

    /// The standby takes the store, or is refused it.
    private func take(
        _ place: Int, _ standby: (node: Int, versions: ClosedRange<ProtocolVersion>)
    ) -> Bool {
        let site = targets[place]
        // A store of which no group has reached the disk is new, whoever had it.
        var isEmpty = true
        site.store.scan(.meta, from: [0]) { _, _ in
            isEmpty = false
            return false
        }
        // The group with the clean record may have reached the disk although nobody was told.
        var hasRecord = false
        site.store.scan(.reservations, from: [0]) { _, _ in
            hasRecord = true
            return false
        }
        do {
            try cluster.activate(standby.node)
        } catch {
            note(standby.node, "refused: \(error)")
            coverage.refusedStarts += 1
            if site.hasStoppedClean || standby.versions == site.versions,
                diskTroubleUntil[place] <= cluster.now
            {
                fail(.startRefused, "\(site.name): \(error)")
            }
            return false
        }
        if !site.hasStoppedClean, !hasRecord, !isEmpty, standby.versions != site.versions,
            site.wasUsed
        {
            fail(.startAccepted, "\(site.name) from \(site.versions) to \(standby.versions)")
        }
        began(place, standby.node, standby.versions)
        return true
    }

    private func began(_ place: Int, _ node: Int, _ versions: ClosedRange<ProtocolVersion>) {
        targets[place].node = node
        // A standby that takes over after a failover is where it was put, not where the failover led.
        let nid = NID(address: cluster.address(of: node), type: .tcp)
        targets[place].isPartner = nid == targets[place].nid(partner: true)
        targets[place].versions = versions
        targets[place].isDown = false
        targets[place].isSynchronous = false
        targets[place].starts += 1
        note(node, "serves in versions \(versions)")
    }

    // MARK: Orders

    /// Announces a stop, with a standby that waits for the store.
    func announce(_ place: Int, isMaintenance: Bool) {
        let site = targets[place]
        guard !site.isDown, site.standby == nil,
            cluster.peekServer(site.node, { $0.phase }) == .serving
        else { return }
        var versions = site.versions
        if !isMaintenance {
            let highest = ProtocolVersion.supported.upperBound.rawValue
            let drawn = UInt16(random.below(Int(highest))) + 1
            versions = .v1...ProtocolVersion(rawValue: drawn)
        }
        let standby = makeServer(place, partner: !site.isPartner, versions: versions)
        targets[place].standby = (standby, versions)
        let scheme: UpgradeScheme = random.oneIn(6) ? .sync : .drain
        targets[place].isSynchronous = scheme == .sync
        let caches: [CachePolicy] = [.flush, .flush, .keep, .clean]
        let policies: [DeadlinePolicy] = [.leaveBehind, .leaveBehind, .wait, .abort]
        let start = UpgradeStart(
            scheme: scheme, cachePolicy: caches[random.below(4)],
            deadlinePolicy: policies[random.below(4)],
            deadlineMs: [500, 2_000, 10_000][random.below(3)],
            expiryMs: [5_000, 60_000][random.below(2)], next: site.nid(partner: !site.isPartner))
        note(site.node, "ordered: \(start)")
        // Clocks run slower by a twentieth at most.
        targets[place].upgradeLimit =
            cluster.now + .milliseconds(UInt64(start.expiryMs) * 21 / 20) + .seconds(1)
        order(site.node, start)
        if plan[.abort] > 0, random.oneIn(4) {
            cluster.at(cluster.now + .microseconds(UInt64(random.below(20_000)))) {
                [unowned self] _ in abort(place)
            }
        }
    }

    func abort(_ place: Int) {
        guard !targets[place].isDown, targets[place].standby != nil else { return }
        note(targets[place].node, "ordered: abort")
        order(targets[place].node, UpgradeStart(isAbort: true))
    }

    private func order(_ node: Int, _ start: UpgradeStart) {
        let time = cluster.clock(of: node)
        _ = cluster.withServer(node) { $0.beginStop(start, now: time) }
    }

    /// The target does not stop after all: nobody waits for its store any more.
    private func dismissStandby(_ place: Int) {
        guard let standby = targets[place].standby else { return }
        targets[place].standby = nil
        cluster.at(cluster.now + .microseconds(1)) { $0.kill(standby.node) }
    }

    // MARK: What servers say

    func heard(_ node: Int, _ action: ServerAction) {
        let place = targetOfNode[node]
        guard place >= 0 else { return }
        switch action {
        case .commit, .upgrade, .releaseStore, .abandon: break
        case .serving(_, let start):
            note(node, "\(start)")
            coverage.note(start)
            targets[place].wasUsed = true
        case .stop:
            note(node, "stops")
            guard node == targets[place].node else { return }
            coverage.cleanStops += 1
            let delay = TickInterval.microseconds(UInt64(random.below(50_000)) + 1_000)
            cluster.at(cluster.now) { [unowned self] cluster in
                guard node == targets[place].node, !targets[place].isDown else { return }
                cluster.stop(node)
                went(place, delay: delay)
                targets[place].hasStoppedClean = true
                checkCleanStop(place)
            }
        case .log(let line):
            note(node, "\(line)")
            guard node == targets[place].node else { return }
            switch line {
            case .commitFailed:
                diskTroubleUntil[place] = cluster.now + .seconds(600)
            case .commitsAgain:
                diskTroubleUntil[place] = cluster.now + .seconds(1)
            case .damage:
                // The answer may be lost, and come again after a time-out and a reconnect.
                diskTroubleUntil[place] = cluster.now + .seconds(30)
                coverage.damages += 1
            case .upgrade(let text):
                if text.hasPrefix("upgrade given up") || text.hasPrefix("upgrade refused") {
                    coverage.aborts += 1
                    if cluster.peekServer(node, { $0.phase.isOnItsWay }) != true {
                        dismissStandby(place)
                    }
                }
            case .evicted(let uuid, let reason, _):
                evicted(uuid, by: place, reason)
            // What else operators may read is in the timeline.
            default: break
            }
        }
    }
}

extension UpgradePhase {
    /// The upgrade in hand can still come to its end.
    var isOnItsWay: Bool {
        switch self {
        case .announced, .gathering, .committing, .sealed, .held, .committed, .stopped: true
        case .serving, .aborting, .recovering, .standby, .starting: false
        }
    }
}
