import ClientCore
import NodeCore
public import Primitives
import PtlRPCCore
import StorageCore
import WireFormat

/// One seeded run: a cluster, its load, its faults, and the oracle that judges them.
///
/// ```
///   mount ---> storm: load, faults, upgrades ---> calm: faults stop, all ends ---> verify
///              |  oracle after every event         | liveness                      | everything read
/// ```
public final class Simulation {
    public let configuration: SimulationConfiguration
    public let plan: FaultPlan
    public internal(set) var violation: Violation?
    public internal(set) var coverage = Coverage()
    /// Kept only where it was asked for: it costs more than the run.
    public internal(set) var timeline: Timeline?
    /// Also gets every line of the timeline as it comes: for a run that traps.
    public var onLine: ((_ node: Int, _ at: Ticks, _ line: String) -> Void)?
    /// Gets the name of every node when it becomes another.
    public var onName: ((_ node: Int, _ name: String) -> Void)?

    let cluster: SimulatedCluster
    var random: SplitMix64
    var targets: [TargetSite] = []
    var loads: [LoadClient] = []
    /// Which load runs on a node; -1 for none.
    var loadOfNode: [Int] = []
    var targetOfNode: [Int] = []
    var oracle: Oracle
    var nextCookie: UInt64 = 1
    var clientNumber = 0
    /// Load and faults go on.
    var isStorm = true
    var operationCount: UInt64 = 0
    var cancelledCount: UInt64 = 0
    var troubleUntil: [Ticks] = []
    /// Until when a target may answer with what its disk says.
    var diskTroubleUntil: [Ticks]
    var sharedGeneration = 0
    var sharedWords = 0
    var valueCounter: UInt64 = 0

    /// - Parameter keepsTimeline: note what happens, for a person to read.
    public init(_ configuration: SimulationConfiguration, keepsTimeline: Bool = false) {
        precondition((2...64).contains(configuration.serverCount), "2 to 64 servers")
        precondition(configuration.clientCount > 0, "somebody works")
        self.configuration = configuration
        plan = configuration.plan()
        random = SplitMix64(seed: configuration.seed &* 0x9E37_79B9 ^ 0x51)
        var options = SimulatedCluster.Options()
        options.resetOneIn = plan.oneIn(.reset)
        options.splitOneIn = plan.oneIn(.split)
        options.refuseOneIn = plan.oneIn(.refuse)
        options.messageLossOneIn = plan.oneIn(.loss)
        options.messageDuplicateOneIn = plan.oneIn(.duplicate)
        options.messageDelayOneIn = plan.oneIn(.reorder)
        options.slowCommitOneIn = plan.oneIn(.slowDisk)
        options.commitFailureOneIn = plan.oneIn(.commitError)
        options.crashMidStepOneIn = plan.oneIn(.midStep)
        options.batchOneIn = plan.oneIn(.batch)
        if random.oneIn(4) { options.latencyMax = .milliseconds(5) }
        cluster = SimulatedCluster(seed: configuration.seed, options: options)
        diskTroubleUntil = Array(repeating: .zero, count: configuration.serverCount)
        oracle = Oracle(
            targetCount: configuration.serverCount,
            registerCount: max(1, min(configuration.clientCount / 2, 16)))
        if keepsTimeline { timeline = Timeline() }
        cluster.onServer = { [unowned self] in heard($0, $1) }
        cluster.onClient = { [unowned self] in heard($0, $1) }
        cluster.onDeath = { [unowned self] node in
            // It may have died while it was started: that is to come to its end first.
            cluster.at(cluster.now) { [unowned self] _ in
                let place = targetOfNode[node]
                guard place >= 0, targets[place].node == node, !targets[place].isDown else {
                    return
                }
                went(place, delay: restartDelay())
            }
        }
        cluster.onSettled = { [unowned self] in watch($0) }
        if keepsTimeline || configuration.seed % 4 == 0 {
            cluster.onMessage = { [unowned self] in met($0, $1) }
        }
    }

    /// What a run came to.
    public struct Outcome: Sendable {
        public var seed: UInt64
        public var violation: Violation?
        /// The limit that ended the run before its time; nil for none.
        public var limit: String?
        public var digest: UInt64
        public var events: UInt64
        public var operations: UInt64
        public var cancelled: UInt64
        /// Virtual time from beginning to end.
        public var passed: TickInterval
        public var faults: SimulatedCluster.FaultCounters
    }

    /// Runs to the end, to the first violation, or until `mustStop`, which is asked now and then,
    /// says why.
    public func run(mustStop: () -> String? = { nil }) -> Outcome {
        let begin = cluster.now
        var limit: String?
        var countdown = 0
        func isOver() -> Bool {
            if violation != nil || limit != nil { return true }
            countdown -= 1
            guard countdown < 0 else { return false }
            countdown = 2000
            if cluster.eventCount > configuration.eventLimit {
                limit = "\(configuration.eventLimit) events"
            }
            if let reason = mustStop() { limit = reason }
            return limit != nil
        }
        setUp()
        _ = cluster.run(until: begin + configuration.duration, isOver)
        if !isOver() {
            calm()
            let end = cluster.now + configuration.calmLimit
            _ = cluster.run(until: end) { isOver() || self.isAtRest() }
            if !isOver(), !isAtRest() { fail(.notLive, restlessness()) }
        }
        if !isOver() {
            // What was acknowledged reaches the disks; what is written back behind the operations may
            // still be on its way, over a connection that has to be made again.
            let end = cluster.now + configuration.calmLimit
            _ = cluster.run(until: end) { isOver() || self.isWrittenBack() }
            if !isOver(), !isWrittenBack() { fail(.notLive, restlessness()) }
            if !isOver() { _ = cluster.run(until: cluster.now + .seconds(3), isOver) }
            if !isOver() { verify() }
        }
        collectCoverage()
        return Outcome(
            seed: configuration.seed, violation: violation, limit: limit, digest: cluster.digest,
            events: cluster.eventCount, operations: operationCount, cancelled: cancelledCount,
            passed: cluster.now - begin, faults: cluster.counters)
    }

    func fail(_ property: Violation.Property, _ detail: String) {
        if violation == nil {
            violation = Violation(property, detail)
            note(0, "VIOLATION \(property.rawValue): \(detail)")
        }
    }

    /// Writes into the timeline where there is one.
    func note(_ node: Int, _ line: @autoclosure () -> String) {
        guard timeline != nil else { return }
        let text = line()
        timeline!.note(node, text, at: cluster.now)
        onLine?(node, cluster.now, text)
    }

    func name(_ node: Int, _ name: String) {
        timeline?.name(node, name)
        onName?(node, name)
    }

    // MARK: Making the cluster

    private func setUp() {
        for place in 0..<configuration.serverCount {
            var site = TargetSite(place: place)
            site.versions = drawVersions()
            targets.append(site)
        }
        for place in targets.indices { start(place, isFirst: true) }
        // Clients come one after the other, some of them late.
        for index in 0..<configuration.clientCount {
            loads.append(LoadClient(number: index))
            let delay = TickInterval.milliseconds(UInt64(random.below(200)))
            cluster.at(cluster.now + delay) { [unowned self] _ in
                begin(life: 0, of: index, isRestart: false)
            }
        }
        plantFaults()
        cluster.at(cluster.now + .milliseconds(20)) { [unowned self] _ in inspect() }
    }

    func registerNode(_ node: Int, load: Int = -1, target: Int = -1) {
        while loadOfNode.count <= node {
            loadOfNode.append(-1)
            targetOfNode.append(-1)
            troubleUntil.append(.zero)
        }
        loadOfNode[node] = load
        targetOfNode[node] = target
    }

    func drawVersions() -> ClosedRange<ProtocolVersion> {
        let all = ProtocolVersion.supported
        let highest = UInt16(random.below(Int(all.upperBound.rawValue))) + 1
        return .v1...ProtocolVersion(rawValue: highest)
    }

    // MARK: The end

    /// Faults stop: what is broken is mended, and nothing new begins.
    private func calm() {
        isStorm = false
        note(0, "faults stop")
        auditLocks()
        cluster.options = cluster.options.withoutFaults
        cluster.heal()
        for node in 0..<loadOfNode.count { cluster.resume(node) }
        for site in targets {
            let disk = cluster.disk(of: site.store)
            disk.isFull = false
            disk.readsBeforeDamage = nil
        }
    }

    /// Nothing is under way any more, and every gate is open.
    private func isAtRest() -> Bool {
        // What costs least comes first: this is asked after every event.
        for index in targets.indices where targets[index].isDown || targets[index].standby != nil {
            return false
        }
        for index in loads.indices where loads[index].isAlive {
            if loads[index].current != nil || loads[index].isLeaving { return false }
        }
        for index in targets.indices {
            guard cluster.peekServer(targets[index].node, { $0.phase }) == .serving else {
                return false
            }
        }
        for index in loads.indices where loads[index].isAlive {
            let isOpen = cluster.peekClient(loads[index].node) { client in
                // One that has left an idle target gets its grant when it needs it again.
                targets.indices.allSatisfy {
                    client.core.isGateOpen($0) || client.core.summary($0).state == .idle
                }
            }
            guard isOpen == true else { return false }
        }
        return true
    }

    /// No client has an update under way that is not answered.
    private func isWrittenBack() -> Bool {
        loads.allSatisfy { load in
            guard load.isAlive else { return true }
            return cluster.peekClient(load.node) { client in
                targets.indices.allSatisfy { client.core.summary($0).updatesInFlight == 0 }
            } ?? true
        }
    }

    private func restlessness() -> String {
        var lines: [String] = []
        for site in targets {
            let phase = cluster.peekServer(site.node) { $0.phase }
            lines.append(
                "target \(site.place): \(phase.map { "\($0)" } ?? "none")"
                    + "\(site.isDown ? " down" : "")\(site.standby != nil ? " upgrading" : "")")
        }
        for load in loads where load.isAlive {
            let text = cluster.peekClient(load.node) { client -> String in
                targets.indices.map {
                    "\(client.core.summary($0).state.name) gate \(client.core.isGateOpen($0))"
                }.joined(separator: ", ") + "; "
                    + client.core.operationDescriptions.joined(separator: ", ").prefix(600)
            }
            let isIdle = load.current == nil && !load.isLeaving
            lines.append("client \(load.uuid)\(isIdle ? " idle" : ""): \(text ?? "gone")")
        }
        return lines.joined(separator: "\n")
    }
}
