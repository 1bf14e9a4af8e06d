public import Primitives

/// The last things that happened, node by node: bounded, and readable afterwards.
public struct Timeline: Sendable {
    /// Lines kept of each node.
    public let capacity: Int
    private var rings: [[(at: Ticks, line: String)]] = []
    private var heads: [Int] = []
    private var names: [String] = []

    public init(capacity: Int = 40) { self.capacity = capacity }

    /// Notes a line of a node.
    public mutating func note(_ node: Int, _ line: String, at now: Ticks) {
        while rings.count <= node {
            rings.append([])
            heads.append(0)
            names.append("node \(rings.count - 1)")
        }
        if rings[node].count < capacity {
            rings[node].append((now, line))
        } else {
            rings[node][heads[node]] = (now, line)
            heads[node] = (heads[node] + 1) % capacity
        }
    }

    public mutating func name(_ node: Int, _ name: String) {
        note(node, "is \(name)", at: .zero)
        names[node] = name
    }

    /// Every node with its lines, oldest first. Times are seconds of the cluster.
    public var text: String {
        var lines: [String] = []
        for node in rings.indices where !rings[node].isEmpty {
            lines.append("-- \(names[node])")
            for step in rings[node].indices {
                let entry = rings[node][(heads[node] + step) % rings[node].count]
                if entry.at == .zero { continue }
                lines.append("   \(Self.seconds(entry.at))  \(entry.line)")
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Seconds with six digits behind the point.
    public static func seconds(_ time: Ticks) -> String {
        let micros = time.nanoseconds / 1000
        let part = String(micros % 1_000_000)
        return "\(micros / 1_000_000)." + String(repeating: "0", count: 6 - part.count) + part
    }
}
