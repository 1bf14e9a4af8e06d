import ClientCore
import Foundation
import NodeRuntime
import WireFormat
import Yams

/// A cluster as its file describes it.
///
/// ```yaml
/// accept-port: 10988        # optional; LNet's 988 without it
/// targets:
///   - {name: mdt0, kind: mds, index: 0, nids: [127.0.1.1@tcp, 127.0.1.2@tcp]}
///   - {name: ost0, kind: oss, index: 0, nids: [127.0.2.1@tcp, 192.0.2.7@o2ib]}
/// ```
struct ClusterFile: Equatable {
    var path: String
    var acceptPort: UInt16
    var targets: [ClientTarget]

    static let defaultAcceptPort: UInt16 = 988

    init(path: String) throws {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch let error as CocoaError where error.code == .fileReadNoSuchFile {
            throw Failure("\(path): no such file")
        } catch {
            throw Failure("\(path): cannot be read as UTF-8 text")
        }
        try self.init(path: path, text: text)
    }

    init(path: String, text: String) throws {
        self.path = path
        let root: Node
        do {
            guard let node = try Yams.compose(yaml: text) else {
                throw Failure("\(path): empty; a cluster file has the keys accept-port and targets")
            }
            root = node
        } catch let error as YamlError {
            throw Failure("\(path): not YAML: \(Self.brief(error))")
        }
        let reader = YAMLReader(path: path)
        let top = try reader.mapping(root, "the file", keys: ["accept-port", "targets"])
        if let port = top["accept-port"] {
            acceptPort = try reader.integer(port, "accept-port", in: 1...65535)
        } else {
            acceptPort = Self.defaultAcceptPort
        }
        guard let list = top["targets"] else { throw reader.failure(root, "targets", "missing") }
        guard let entries = list.sequence, !entries.isEmpty else {
            throw reader.failure(list, "targets", "must be a list of one target or more")
        }
        guard entries.count <= ClientConfiguration.targetCountMax else {
            throw reader.failure(
                list, "targets", "at most \(ClientConfiguration.targetCountMax) targets")
        }
        targets = []
        for entry in entries {
            let target = try reader.target(entry)
            if targets.contains(where: { $0.name == target.name }) {
                throw reader.failure(entry, "name", "\(target.name) is named twice")
            }
            if targets.contains(where: { $0.kind == target.kind && $0.index == target.index }) {
                throw reader.failure(
                    entry, "index", "\(target.index) belongs to two \(target.kind.name) targets")
            }
            targets.append(target)
        }
        guard targets.filter({ $0.kind == .mds }).count <= 1 else {
            throw reader.failure(list, "targets", "one metadata server at most")
        }
    }

    init(acceptPort: UInt16, targets: [ClientTarget]) {
        path = ""
        self.acceptPort = acceptPort
        self.targets = targets
    }

    /// The target's place in `targets`.
    func index(of name: String) throws -> Int {
        if let index = targets.firstIndex(where: { $0.name == name }) { return index }
        let known = targets.map(\.name).joined(separator: ", ")
        throw Failure("no target \(name) in \(path); there are \(known)")
    }

    /// The file's text, such that reading it gives the same cluster.
    var text: String {
        var text = "accept-port: \(acceptPort)\ntargets:\n"
        for target in targets {
            let nids = target.nids.map(\.description).joined(separator: ", ")
            text += "  - {name: \(target.name), kind: \(target.kind.name), "
            text += "index: \(target.index), nids: [\(nids)]}\n"
        }
        return text
    }

    var description: ClusterDescription {
        ClusterDescription(
            targets: targets.map {
                .init(name: $0.name, kind: $0.kind, index: $0.index, nids: $0.nids)
            }, acceptPort: acceptPort)
    }

    static func == (a: ClusterFile, b: ClusterFile) -> Bool {
        a.text == b.text
    }

    private static func brief(_ error: YamlError) -> String {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            "line \(mark.line): \(problem)"
        default:
            "\(error)".split(separator: "\n").first.map(String.init) ?? "\(error)"
        }
    }
}

/// Takes values out of YAML nodes; every refusal names file, line and key.
private struct YAMLReader {
    var path: String

    func failure(_ node: Node, _ key: String, _ problem: String) -> Failure {
        Failure("\(path): line \(node.mark?.line ?? 1): \(key): \(problem)")
    }

    func mapping(_ node: Node, _ what: String, keys: [String]) throws -> [String: Node] {
        guard let mapping = node.mapping else {
            throw failure(node, what, "must have the keys \(keys.joined(separator: ", "))")
        }
        var values: [String: Node] = [:]
        for (key, value) in mapping {
            guard let name = key.string, keys.contains(name) else {
                throw failure(
                    key, key.string ?? "?",
                    "unknown key; known are \(keys.joined(separator: ", "))")
            }
            guard values.updateValue(value, forKey: name) == nil else {
                throw failure(key, name, "stands twice")
            }
        }
        return values
    }

    func integer<Number: FixedWidthInteger>(
        _ node: Node, _ key: String, in range: ClosedRange<Number>
    ) throws -> Number {
        guard let text = node.string, let value = Number(text), range.contains(value) else {
            throw failure(
                node, key, "must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func target(_ node: Node) throws -> ClientTarget {
        let values = try mapping(node, "target", keys: ["name", "kind", "index", "nids"])
        func value(_ key: String) throws -> Node {
            guard let value = values[key] else { throw failure(node, key, "missing") }
            return value
        }
        let nameNode = try value("name")
        guard let name = nameNode.string, (1...39).contains(name.utf8.count),
            name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else {
            throw failure(nameNode, "name", "must be 1 to 39 printable characters without blanks")
        }
        let kindNode = try value("kind")
        guard let kind = kindNode.string.flatMap(TargetKind.init(argument:)) else {
            throw failure(kindNode, "kind", "must be mds or oss")
        }
        let index: UInt32 = try values["index"].map { try integer($0, "index", in: 0...65535) } ?? 0
        let nidsNode = try value("nids")
        guard let list = nidsNode.sequence, !list.isEmpty else {
            throw failure(nidsNode, "nids", "must be a list of one NID or more")
        }
        let nids = try list.map { entry in
            guard let text = entry.string, let nid = NID(text), nid != .loopback else {
                throw failure(
                    entry, "nids", "\(entry.string ?? "?") is no NID; one is 127.0.1.7@tcp")
            }
            return nid
        }
        return ClientTarget(name: name, kind: kind, index: index, nids: nids)
    }
}
