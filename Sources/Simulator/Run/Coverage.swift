import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import WireFormat

/// What the runs of some seeds have reached, so that what they never reached can be listed.
public struct Coverage: Sendable, Equatable {
    /// Times that each fault came about, in the order of `Fault.allCases`.
    public internal(set) var faults = [UInt64](repeating: 0, count: Fault.allCases.count)
    /// Transitions between a server's phases: from * phaseCount + to.
    public internal(set) var transitions = [UInt64](
        repeating: 0, count: Coverage.phaseCount * Coverage.phaseCount)
    /// States that imports were seen in, by their number.
    public internal(set) var importStates = [UInt64](
        repeating: 0, count: Coverage.importStateCount)
    public internal(set) var freshStarts: UInt64 = 0
    public internal(set) var cleanStarts: UInt64 = 0
    public internal(set) var recoveries: UInt64 = 0
    public internal(set) var refusedStarts: UInt64 = 0
    public internal(set) var cleanStops: UInt64 = 0
    public internal(set) var aborts: UInt64 = 0
    public internal(set) var evictions: UInt64 = 0
    public internal(set) var connects: UInt64 = 0
    /// Operations that a full or failing disk refused, and reads that met damage.
    public internal(set) var diskRefusals: UInt64 = 0
    public internal(set) var damages: UInt64 = 0
    /// How often each fault site fired, by its number.
    public internal(set) var sites = [UInt64](repeating: 0, count: FaultSite.allCases.count)
    public internal(set) var replayed: UInt64 = 0
    public internal(set) var resent: UInt64 = 0

    static let phaseCount = UpgradePhase.allCases.count
    /// One more than the highest number of a state.
    static let importStateCount = 1 + Int(ImportState.allCases.map(\.rawValue).max() ?? 0)
    private var lastPhases: [UInt8] = []

    public init() {}

    mutating func count(_ fault: Fault, _ number: UInt64 = 1) {
        faults[Fault.allCases.firstIndex(of: fault)!] += number
    }

    mutating func note(_ start: ServerStart) {
        switch start {
        case .fresh: freshStarts += 1
        case .clean: cleanStarts += 1
        case .recovering: recoveries += 1
        }
    }

    /// True where the phase is another than that which was seen last.
    mutating func note(_ phase: UpgradePhase, of node: Int) -> Bool {
        while lastPhases.count <= node { lastPhases.append(UpgradePhase.starting.rawValue) }
        let last = lastPhases[node]
        guard last != phase.rawValue else { return false }
        lastPhases[node] = phase.rawValue
        transitions[Int(last) * Self.phaseCount + Int(phase.rawValue)] += 1
        return true
    }

    /// Adds what another run has reached.
    public mutating func merge(_ other: Coverage) {
        for index in faults.indices { faults[index] += other.faults[index] }
        for index in transitions.indices { transitions[index] += other.transitions[index] }
        for index in importStates.indices { importStates[index] += other.importStates[index] }
        freshStarts += other.freshStarts
        cleanStarts += other.cleanStarts
        recoveries += other.recoveries
        refusedStarts += other.refusedStarts
        cleanStops += other.cleanStops
        aborts += other.aborts
        evictions += other.evictions
        connects += other.connects
        diskRefusals += other.diskRefusals
        damages += other.damages
        for index in sites.indices { sites[index] += other.sites[index] }
        replayed += other.replayed
        resent += other.resent
    }

    /// Every counter with its name, in a fixed order: how runs in other processes are added up.
    public var rows: [(name: String, count: UInt64)] {
        var rows: [(String, UInt64)] = []
        for (fault, count) in zip(Fault.allCases, faults) {
            rows.append(("fault \(fault.rawValue)", count))
        }
        for from in UpgradePhase.allCases {
            for to in UpgradePhase.allCases where from != to {
                let count = transitions[Int(from.rawValue) * Self.phaseCount + Int(to.rawValue)]
                if count > 0 || Self.expected.contains([from, to]) {
                    rows.append(("phase \(from.name) to \(to.name)", count))
                }
            }
        }
        for state in ImportState.allCases {
            rows.append(("import \(state.name)", importStates[Int(state.rawValue)]))
        }
        rows += [
            ("start fresh", freshStarts), ("start clean", cleanStarts),
            ("start recovering", recoveries), ("start refused", refusedStarts),
            ("clean stops", cleanStops), ("aborts and refusals", aborts),
            ("evictions", evictions), ("connects", connects), ("requests replayed", replayed),
            ("requests resent", resent), ("operations refused for a disk", diskRefusals),
            ("damages met", damages),
        ]
        for (site, count) in zip(FaultSite.allCases, sites) { rows.append(("site \(site)", count)) }
        return rows
    }

    /// Transitions that the design knows (upgrade protocol, section 4).
    static let expected: Set<[UpgradePhase]> = [
        [.starting, .standby], [.standby, .serving], [.standby, .recovering],
        [.recovering, .serving], [.serving, .announced], [.announced, .gathering],
        [.gathering, .committing], [.committing, .sealed], [.sealed, .committed],
        [.committed, .stopped], [.announced, .aborting], [.gathering, .aborting],
        [.committing, .aborting], [.aborting, .serving],
    ]
}

extension Simulation {
    /// The sites that a process has fired, before it ends.
    func collectSites(_ node: Int) {
        guard plan[.site] > 0 else { return }
        let hits =
            cluster.peekServer(node) { $0.siteHits }
            ?? cluster.peekClient(node) { $0.core.siteHits }
        for (index, count) in (hits ?? []).enumerated() { coverage.sites[index] += count }
    }

    /// What is counted elsewhere while a run goes on.
    func collectCoverage() {
        let done = cluster.counters
        for (fault, count) in [
            (Fault.loss, done.messagesLost), (.duplicate, done.messagesDuplicated),
            (.reorder, done.messagesDelayed), (.reset, done.resets), (.split, done.splits),
            (.refuse, done.connectsRefused), (.slowDisk, done.slowCommits),
            (.commitError, done.commitFailures), (.midStep, done.midStepCrashes),
            (.batch, done.batches),
        ] { coverage.count(fault, count) }
        for node in loadOfNode.indices { collectSites(node) }
        coverage.count(.site, coverage.sites.reduce(0, +))
        for load in loads where load.isAlive {
            _ = cluster.peekClient(load.node) { client in
                for place in targets.indices {
                    for entry in client.core.summary(place).history.entries {
                        coverage.importStates[Int(entry.state.rawValue)] += 1
                    }
                }
            }
        }
        for site in targets {
            guard let counters = cluster.peekServer(site.node, { $0.rpcCounters }) else { continue }
            coverage.replayed += counters.replayed
            coverage.resent += counters.resent
        }
    }
}
