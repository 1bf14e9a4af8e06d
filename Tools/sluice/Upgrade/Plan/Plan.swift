import WireFormat

/// An upgrade of many targets: which, how, and in which order.
struct Plan {
    struct Server {
        /// Where it stands in the file.
        var line: Int
        var target: String
        /// The target's place in the cluster.
        var place: Int
        /// Where it comes back; nil for the other NID of a pair, or the same one.
        var next: NID?
        /// What the next instance speaks; nil where that is not said: then `next` tells when it is done.
        var versions: ClosedRange<ProtocolVersion>?
        /// A command line that starts the next instance as a standby.
        var standby: String?
        /// A command line that starts the old build again, where the standby is refused.
        var fallback: String?
        /// Targets that have to be through before.
        var after: [(name: String, line: Int)] = []
        var policies: Policies
    }

    struct Policies {
        var scheme = SchemeName.drain
        var cache = CachePolicyName.flush
        var reads = ReadPolicyName.cached
        var late = LatePolicyName.leaveBehind
        var deadline = 10.0
        var expiry: Double?
        var preflush = 2.0
        var pauseBudget = 0.0

        var expirySeconds: Double { expiry ?? deadline * 2 + 30 }

        func order(next: NID?, holds: Bool) -> UpgradeStart {
            let scheme: UpgradeScheme =
                switch scheme {
                case .drain: .drain
                case .sync: .sync
                case .crash: .crash
                }
            var order = UpgradeStart(
                scheme: scheme, cachePolicy: cache.policy, deadlinePolicy: late.policy,
                deadlineMs: PolicyOptions.milliseconds(deadline),
                expiryMs: PolicyOptions.milliseconds(expirySeconds), next: next ?? NID(rawValue: 0))
            order.preflushMs = scheme == .drain ? PolicyOptions.milliseconds(preflush) : 0
            order.pauseBudgetMs = PolicyOptions.milliseconds(pauseBudget)
            order.readPolicy = reads.policy
            order.holds = holds
            return order
        }
    }

    var path: String
    var cluster: ClusterFile
    var servers: [Server]
    /// Servers, by their place in `servers`, that no client is told of before all are sealed.
    var groups: [[Int]]
    /// Seconds for which all steps together may let clients wait; nil for no limit.
    var budget: Double?
    /// What is done one after the other: a server, or a group.
    var steps: [[Int]]
}

extension Plan {
    /// Puts servers in an order in which every rule holds: as they stand in the file, as far as the
    /// rules allow. Nil where they go round in a circle, which `cycle` then names.
    static func order(
        _ servers: [Server], _ groups: [[Int]], cycle: inout [String]
    ) -> [[Int]]? {
        var groupOf = Array(repeating: -1, count: servers.count)
        for (number, group) in groups.enumerated() {
            for member in group { groupOf[member] = number }
        }
        var units: [[Int]] = []
        for index in servers.indices {
            if groupOf[index] < 0 {
                units.append([index])
            } else if groups[groupOf[index]].first == index {
                units.append(groups[groupOf[index]])
            }
        }
        var unitOf = Array(repeating: 0, count: servers.count)
        for (number, unit) in units.enumerated() { for member in unit { unitOf[member] = number } }
        var before: [Set<Int>] = units.map { unit in
            Set(
                unit.flatMap { servers[$0].after }.compactMap { rule in
                    servers.firstIndex { $0.target == rule.name }.map { unitOf[$0] }
                })
        }
        var steps: [[Int]] = []
        var left = Array(units.indices)
        while let place = left.firstIndex(where: { before[$0].isEmpty }) {
            let unit = left.remove(at: place)
            steps.append(units[unit])
            for other in left { before[other].remove(unit) }
        }
        guard let first = left.first else { return steps }
        // Every unit that is left waits for one that is left: going from one to the next meets one
        // again.
        var way = [first]
        while true {
            let next = before[way[way.count - 1]].filter { left.contains($0) }.min()!
            if let start = way.firstIndex(of: next) {
                cycle = (way[start...] + [next]).map { unit in
                    units[unit].map { servers[$0].target }.joined(separator: "+")
                }
                return nil
            }
            way.append(next)
        }
    }
}
