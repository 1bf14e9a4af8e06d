import ClientCore
import Foundation
import WireFormat
import Yams

/// A plan as its file has it, with everything that is wrong with it.
///
/// ```yaml
/// cluster: cluster.yaml        # beside this file; default: --cluster or SLUICE_CLUSTER
/// protocol: 1...2              # what the next instances speak; also at a server
/// defaults: {scheme: drain, cache: flush, reads: cached, late: leave-behind, deadline: 10,
///            expiry: 60, preflush: 2, pause-budget: 5}
/// servers:
///   - {target: ost0, next: 127.0.2.2@tcp}
///   - target: mdt0
///     after: [ost0]
///     standby: sluice serve mds --target mdt0 --store /srv/mdt0 --nid 127.0.1.2@tcp --standby
/// groups:
///   - [ost0, ost1]             # told to no client before all of them are sealed
/// budget: 30                   # seconds that clients may wait in all
/// ```
struct PlanFile {
    struct Problem: Comparable {
        var line: Int
        var text: String

        static func < (a: Self, b: Self) -> Bool { (a.line, a.text) < (b.line, b.text) }
    }

    let path: String
    /// Nil where the file is too wrong to be one.
    private(set) var plan: Plan?
    private(set) var problems: [Problem] = []
    /// What stands below `defaults` and at each server alike.
    private static let policyKeys = [
        "scheme", "cache", "reads", "late", "deadline", "expiry", "preflush", "pause-budget",
    ]

    init(path: String, clusterOptions: ClusterOptions) throws {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile {
            throw Failure("\(path): no such file")
        } catch {
            throw Failure("\(path): cannot be read as UTF-8 text")
        }
        self.path = path
        let directory = URL(filePath: path).deletingLastPathComponent()
        read(text) { name in
            guard let name else { return try clusterOptions.load() }
            let url = URL(filePath: name, relativeTo: directory)
            return try ClusterFile(path: url.path)
        }
    }

    /// For tests: the cluster is given.
    init(path: String, text: String, cluster: ClusterFile) {
        self.path = path
        read(text) { _ in cluster }
    }

    /// The plan, or everything that is wrong with it.
    func checked() throws -> Plan {
        guard problems.isEmpty, let plan else { throw Failure(problemText) }
        return plan
    }

    /// One line for each problem, in the order of the file.
    var problemText: String {
        problems.sorted().map { "\(path): line \($0.line): \($0.text)" }.joined(separator: "\n")
    }

    private mutating func report(_ node: Node?, _ text: String) {
        problems.append(Problem(line: node?.mark?.line ?? 1, text: text))
    }

    // MARK: Reading

    private mutating func read(_ text: String, _ loadCluster: (String?) throws -> ClusterFile) {
        let root: Node
        do {
            guard let node = try Yams.compose(yaml: text) else {
                return report(nil, "empty; a plan has the keys servers, groups, defaults, protocol")
            }
            root = node
        } catch let error as YamlError {
            problems.append(Self.problem(error))
            return
        } catch {
            return report(nil, "not YAML: \(error)")
        }
        let top = mapping(
            root, "the plan",
            keys: ["cluster", "protocol", "defaults", "servers", "groups", "budget"])
        let cluster: ClusterFile
        do {
            cluster = try loadCluster(top["cluster"]?.string)
        } catch {
            return report(top["cluster"] ?? root, "cluster: \(error)")
        }
        var defaults = Plan.Policies()
        if let node = top["defaults"] {
            takePolicies(mapping(node, "defaults", keys: Self.policyKeys), into: &defaults)
        }
        let versions = top["protocol"].flatMap { range($0) }
        guard let list = top["servers"]?.sequence, !list.isEmpty else {
            return report(top["servers"] ?? root, "servers: must be a list of one target or more")
        }
        var servers: [Plan.Server] = []
        for node in list {
            guard let server = server(node, cluster, defaults, versions) else { continue }
            if servers.contains(where: { $0.target == server.target }) {
                report(node, "target: \(server.target) stands twice")
            } else {
                servers.append(server)
            }
        }
        for server in servers {
            for rule in server.after where !servers.contains(where: { $0.target == rule.name }) {
                problems.append(
                    Problem(
                        line: rule.line,
                        text: "after: \(rule.name) is not in this plan"
                            + (cluster.targets.contains { $0.name == rule.name }
                                ? ": add it, or leave the rule away" : ", nor in \(cluster.path)")))
            }
        }
        let groups = top["groups"].map { self.groups($0, servers) } ?? []
        var budget: Double?
        if let node = top["budget"] { budget = seconds(node, "budget", in: 0.001...604_800) }
        checkVersions(servers, cluster)
        var cycle: [String] = []
        let steps = Plan.order(servers, groups, cycle: &cycle)
        if steps == nil {
            let first = servers.first { cycle[0].split(separator: "+").contains("\($0.target)") }
            problems.append(
                Problem(
                    line: first?.line ?? 1,
                    text: "after: \(cycle.joined(separator: " after ")) goes round in a circle"))
        }
        plan = Plan(
            path: path, cluster: cluster, servers: servers, groups: groups, budget: budget,
            steps: steps ?? [])
    }

    private static func problem(_ error: YamlError) -> Problem {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            Problem(line: mark.line, text: "not YAML: \(problem)")
        default:
            Problem(
                line: 1,
                text: "not YAML: "
                    + ("\(error)".split(separator: "\n").first.map(String.init) ?? "\(error)"))
        }
    }

    private mutating func mapping(
        _ node: Node, _ what: String, keys: [String]
    ) -> [String: Node] {
        guard let mapping = node.mapping else {
            report(node, "\(what): must have the keys \(keys.joined(separator: ", "))")
            return [:]
        }
        var values: [String: Node] = [:]
        for (key, value) in mapping {
            guard let name = key.string, keys.contains(name) else {
                report(
                    key,
                    "\(key.string ?? "?"): unknown key; known are \(keys.joined(separator: ", "))")
                continue
            }
            if values.updateValue(value, forKey: name) != nil {
                report(key, "\(name): stands twice")
            }
        }
        return values
    }

    private mutating func seconds(
        _ node: Node, _ key: String, in range: ClosedRange<Double>
    ) -> Double? {
        guard let text = node.string, let value = Double(text), range.contains(value) else {
            report(node, "\(key): must be seconds, from \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return value
    }

    private mutating func choice<Choice: RawRepresentable & CaseIterable>(
        _ node: Node, _ key: String, _ type: Choice.Type
    ) -> Choice? where Choice.RawValue == String {
        if let text = node.string, let value = Choice(rawValue: text) { return value }
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        report(node, "\(key): \(node.string ?? "this") is none of \(known)")
        return nil
    }

    private mutating func range(_ node: Node) -> ClosedRange<ProtocolVersion>? {
        if let text = node.string, let range = ProtocolRange(argument: text) {
            return range.versions
        }
        let known = ProtocolRange(ProtocolVersion.supported).text
        report(node, "protocol: \(node.string ?? "this") is no range of versions within \(known)")
        return nil
    }

    private mutating func takePolicies(
        _ values: [String: Node], into policies: inout Plan.Policies
    ) {
        if let node = values["scheme"] {
            policies.scheme = choice(node, "scheme", SchemeName.self) ?? policies.scheme
        }
        if let node = values["cache"] {
            policies.cache = choice(node, "cache", CachePolicyName.self) ?? policies.cache
        }
        if let node = values["reads"] {
            policies.reads = choice(node, "reads", ReadPolicyName.self) ?? policies.reads
        }
        if let node = values["late"] {
            policies.late = choice(node, "late", LatePolicyName.self) ?? policies.late
        }
        if let node = values["deadline"] {
            policies.deadline = seconds(node, "deadline", in: 0.001...86_400) ?? policies.deadline
        }
        if let node = values["expiry"] {
            policies.expiry = seconds(node, "expiry", in: 0.001...604_800)
        }
        if let node = values["preflush"] {
            policies.preflush = seconds(node, "preflush", in: 0...86_400) ?? policies.preflush
        }
        if let node = values["pause-budget"] {
            policies.pauseBudget =
                seconds(node, "pause-budget", in: 0...86_400) ?? policies.pauseBudget
        }
        if let expiry = policies.expiry, expiry <= policies.deadline {
            report(
                values["expiry"] ?? values["deadline"],
                "expiry: \(expiry) s is not beyond the deadline of \(policies.deadline) s")
        }
    }

    private mutating func server(
        _ node: Node, _ cluster: ClusterFile, _ defaults: Plan.Policies,
        _ versions: ClosedRange<ProtocolVersion>?
    ) -> Plan.Server? {
        let keys = ["target", "next", "protocol", "standby", "fallback", "after"] + Self.policyKeys
        let values = mapping(node, "server", keys: keys)
        guard let nameNode = values["target"], let name = nameNode.string else {
            report(values["target"] ?? node, "target: missing")
            return nil
        }
        var policies = defaults
        takePolicies(values, into: &policies)
        let ownVersions = values["protocol"].flatMap { range($0) } ?? versions
        var after: [(name: String, line: Int)] = []
        if let list = values["after"] {
            let entries = list.sequence.map(Array.init) ?? [list]
            for entry in entries {
                if let text = entry.string {
                    after.append((text, entry.mark?.line ?? list.mark?.line ?? 1))
                } else {
                    report(entry, "after: must be a target's name, or a list of them")
                }
            }
        }
        guard let place = cluster.targets.firstIndex(where: { $0.name == name }) else {
            let known = cluster.targets.map(\.name).joined(separator: ", ")
            report(nameNode, "target: no \(name) in \(cluster.path); there are \(known)")
            return nil
        }
        let nids = cluster.targets[place].nids
        var next: NID?
        if let nextNode = values["next"] {
            let known = nids.map(\.description).joined(separator: ", ")
            if let nid = nextNode.string.flatMap({ NID($0) }), nids.contains(nid) {
                next = nid
            } else {
                report(
                    nextNode,
                    "next: \(nextNode.string ?? "this") is no NID of \(name); it has \(known)")
            }
        }
        if next == nil, ownVersions == nil {
            report(node, "\(name): give protocol or next, or nobody can say when it is through")
        }
        if policies.scheme == .crash, values["fallback"] == nil, ownVersions != nil {
            report(
                node,
                "\(name): scheme crash with a protocol needs a fallback: a build of another "
                    + "range refuses a store that was not stopped cleanly")
        }
        return Plan.Server(
            line: node.mark?.line ?? 1, target: name, place: place, next: next,
            versions: ownVersions, standby: values["standby"]?.string,
            fallback: values["fallback"]?.string, after: after, policies: policies)
    }

    private mutating func groups(_ node: Node, _ servers: [Plan.Server]) -> [[Int]] {
        guard let list = node.sequence else {
            report(node, "groups: must be a list of lists of targets")
            return []
        }
        var groups: [[Int]] = []
        var seen: Set<Int> = []
        for entry in list {
            guard let names = entry.sequence, !names.isEmpty else {
                report(entry, "groups: must be a list of lists of targets")
                continue
            }
            var group: [Int] = []
            for name in names {
                guard let text = name.string,
                    let index = servers.firstIndex(where: { $0.target == text })
                else {
                    report(name, "groups: \(name.string ?? "this") is not in this plan")
                    continue
                }
                guard seen.insert(index).inserted else {
                    report(name, "groups: \(text) stands in two of them, or twice in one")
                    continue
                }
                if servers[index].policies.scheme != .drain {
                    report(
                        name,
                        "groups: \(text) has scheme \(servers[index].policies.scheme.rawValue); "
                            + "only drain can wait for others")
                }
                group.append(index)
            }
            for member in group {
                for rule in servers[member].after
                where group.contains(where: { servers[$0].target == rule.name }) {
                    problems.append(
                        Problem(
                            line: rule.line,
                            text: "after: \(servers[member].target) and \(rule.name) are in one "
                                + "group: they go together"))
                }
            }
            if !group.isEmpty { groups.append(group.sorted()) }
        }
        return groups
    }

    /// The metadata server is a client of the object servers: they need a version in common.
    private mutating func checkVersions(_ servers: [Plan.Server], _ cluster: ClusterFile) {
        guard
            let mds = servers.first(where: { cluster.targets[$0.place].kind == .mds }),
            let own = mds.versions
        else { return }
        for server in servers where cluster.targets[server.place].kind == .oss {
            guard let other = server.versions, !own.overlaps(other) else { continue }
            problems.append(
                Problem(
                    line: server.line,
                    text: "protocol: \(server.target) would speak \(ProtocolRange(other).text) and "
                        + "\(mds.target) \(ProtocolRange(own).text): nothing in common"))
        }
    }
}
