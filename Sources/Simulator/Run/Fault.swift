/// Everything that a simulation lets go wrong, by the name that the command line knows.
public enum Fault: String, CaseIterable, Sendable {
    case loss, duplicate, reorder, reset, split, refuse
    case partition, clog
    case crash, machine, failover
    case midStep = "crash-mid-step"
    case hang, drift
    case slowDisk = "slow-disk"
    case fullDisk = "full-disk"
    case commitError = "commit-error"
    case damage
    case clientDeath = "client-death"
    case clientLeave = "client-leave"
    case cancel
    case upgrade, group, abort, maintenance
    case oldPeer = "old-peer"
    case site
    case batch

    /// What a rate means.
    public enum Unit: Sendable {
        /// The share of messages, connects, commits, steps, operations or nodes that it strikes.
        case share
        /// Times in a minute of virtual time, in the whole cluster.
        case perMinute
    }

    public var unit: Unit {
        switch self {
        case .loss, .duplicate, .reorder, .reset, .split, .refuse, .midStep, .slowDisk,
            .commitError, .cancel, .oldPeer, .drift, .site, .batch:
            .share
        case .partition, .clog, .crash, .machine, .failover, .hang, .fullDisk, .damage,
            .clientDeath, .clientLeave, .upgrade, .group, .abort, .maintenance:
            .perMinute
        }
    }

    /// The rate when it is on and nobody says otherwise.
    public var usualRate: Double {
        switch self {
        case .loss: 0.001
        case .duplicate: 0.002
        case .reorder: 0.005
        case .reset: 0.002
        case .split: 0.05
        case .refuse: 0.05
        case .partition, .clog: 4
        case .crash: 4
        case .machine, .failover: 2
        case .midStep: 0.0002
        case .hang: 3
        case .drift: 0.5
        case .slowDisk: 0.02
        case .fullDisk: 1
        case .commitError: 0.01
        case .damage: 1
        case .clientDeath, .clientLeave: 2
        case .cancel: 0.05
        case .upgrade: 6
        case .group: 1
        case .abort: 2
        case .maintenance: 1
        case .oldPeer: 0.3
        case .site: 0.01
        case .batch: 0.1
        }
    }

    /// One line for those who choose.
    public var explanation: String {
        switch self {
        case .loss: "an LNet message is lost, silently"
        case .duplicate: "an LNet message arrives twice"
        case .reorder: "an LNet message is overtaken by others"
        case .reset: "a connection breaks while something arrives on it"
        case .split: "bytes arrive in pieces"
        case .refuse: "a connect is refused although somebody listens"
        case .partition: "nodes cannot reach each other, one way or both, for up to 8 s"
        case .clog: "what one node sends another is held for up to 2 s"
        case .crash: "a server process dies and comes back"
        case .machine: "a server's machine dies: nobody is told"
        case .failover: "a server dies and its partner takes the store"
        case .midStep: "a server dies in the middle of a step"
        case .hang: "a process does nothing for up to 8 s"
        case .drift: "a node's clock runs fast or slow, by up to a twentieth"
        case .slowDisk: "a commit takes a hundred times as long"
        case .fullDisk: "a disk takes nothing for up to 5 s"
        case .commitError: "a commit fails and is tried again"
        case .damage: "a read meets a flipped bit or an unreadable byte"
        case .clientDeath: "a client dies and another takes its place"
        case .clientLeave: "a client unmounts and another takes its place"
        case .cancel: "the caller takes an operation back"
        case .upgrade: "an announced upgrade or downgrade of one target"
        case .group: "all targets are upgraded or downgraded at the same time"
        case .abort: "an announced upgrade is given up again"
        case .maintenance: "an announced stop and a start of the same build"
        case .oldPeer: "a client or server without the newest version or the upgrade feature"
        case .site: "a named fault site in production code fires"
        case .batch: "what arrives is looked at with what comes next, as in a busy loop's turn"
        }
    }
}

/// Which faults strike a run, and how often.
public struct FaultPlan: Sendable, Equatable {
    private var rates: [Double]

    /// None.
    public init() { rates = Array(repeating: 0, count: Fault.allCases.count) }

    /// Every fault at its usual rate.
    public static var every: FaultPlan {
        var plan = FaultPlan()
        for fault in Fault.allCases { plan[fault] = fault.usualRate }
        return plan
    }

    public subscript(_ fault: Fault) -> Double {
        get { rates[Self.place(fault)] }
        set { rates[Self.place(fault)] = newValue }
    }

    private static func place(_ fault: Fault) -> Int {
        // Declaration order; there are few.
        Fault.allCases.firstIndex(of: fault)!
    }

    /// One in how many; 0 for never.
    func oneIn(_ fault: Fault) -> UInt64 {
        let rate = self[fault]
        return rate > 0 ? max(1, UInt64(1 / rate)) : 0
    }

    /// Those that are on.
    public var faults: [Fault] { Fault.allCases.filter { self[$0] > 0 } }
}
