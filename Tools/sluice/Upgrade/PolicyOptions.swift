import ArgumentParser
import WireFormat

/// How a target is brought down, as one types it.
enum SchemeName: String, ExpressibleByArgument, CaseIterable {
    case drain
    case sync
    case crash
}

/// What happens to clients that are not prepared at the deadline, as one types it.
enum LatePolicyName: String, ExpressibleByArgument, CaseIterable {
    case wait
    case leaveBehind = "leave-behind"
    case abort

    var policy: DeadlinePolicy {
        switch self {
        case .wait: .wait
        case .leaveBehind: .leaveBehind
        case .abort: .abort
        }
    }
}

enum CachePolicyName: String, ExpressibleByArgument, CaseIterable {
    case keep
    case flush
    case clean

    var policy: CachePolicy {
        switch self {
        case .keep: .keep
        case .flush: .flush
        case .clean: .clean
        }
    }
}

enum ReadPolicyName: String, ExpressibleByArgument, CaseIterable {
    case cached
    case wait

    var policy: ReadPolicy { self == .cached ? .cached : .wait }
}

/// What every order that shuts gates has.
struct PolicyOptions: ParsableArguments {
    @Option(
        help: """
            What clients do with their caches first: keep leaves what is dirty for the next \
            instance, flush writes it back, clean also gives unused locks up.
            """)
    var cache = CachePolicyName.flush

    @Option(
        help: """
            What becomes of reads meanwhile: cached lets those go on that a valid lock covers, \
            wait stops all.
            """)
    var reads = ReadPolicyName.cached

    @Option(help: ArgumentHelp("How long clients may take to prepare.", valueName: "s"))
    var deadline = 10.0

    @Option(help: "What happens to clients that are not prepared by then.")
    var late = LatePolicyName.leaveBehind

    @Option(
        help: ArgumentHelp(
            "Clients flush first, with their gates open, for at most this long (and half of the "
                + "deadline): who does not is counted out or waited for before anybody pauses. 0: "
                + "no.", valueName: "s"))
    var preflush = 2.0

    @Option(
        help: ArgumentHelp(
            "The target gives up by itself before a gate has been shut for this long, as long as "
                + "it can. 0: no limit.", valueName: "s"))
    var pauseBudget = 0.0

    func validate() throws {
        guard deadline > 0, deadline <= 86_400 else {
            throw ValidationError("--deadline must be above 0 and at most 86400 seconds")
        }
        guard preflush >= 0, preflush <= 86_400 else {
            throw ValidationError("--preflush must be from 0 to 86400 seconds")
        }
        guard pauseBudget >= 0, pauseBudget <= 86_400 else {
            throw ValidationError("--pause-budget must be from 0 to 86400 seconds")
        }
    }

    /// The order's expiry, where none is given: well beyond everything that is allowed for.
    var expiryDefault: Double { deadline * 2 + 30 }

    func order(scheme: UpgradeScheme, expiry: Double, next: NID?) -> UpgradeStart {
        UpgradeStart(
            scheme: scheme, cachePolicy: cache.policy, deadlinePolicy: late.policy,
            deadlineMs: Self.milliseconds(deadline), expiryMs: Self.milliseconds(expiry),
            next: next ?? NID(rawValue: 0),
            preflushMs: scheme == .drain ? Self.milliseconds(preflush) : 0,
            pauseBudgetMs: Self.milliseconds(pauseBudget), readPolicy: reads.policy)
    }

    static func milliseconds(_ seconds: Double) -> UInt32 {
        UInt32(clamping: Int((seconds * 1000).rounded()))
    }
}
