import CUsage

/// What threads used: the sum over both sides of a measurement.
struct Usage: Sendable {
    /// User and system time in ns.
    var cpuNs: UInt64 = 0
    /// Voluntary and involuntary context switches.
    var switches: UInt64 = 0
    /// Calls of malloc and its siblings.
    var allocations: UInt64 = 0

    /// What the calling thread has used since it was started.
    static func ofThread() -> Usage {
        var sample = usage_sample()
        // SAFETY: the out-parameter outlives the call.
        let status = unsafe usage_of_thread(&sample)
        precondition(status == 0, "a thread can ask what it has used")
        return Usage(
            cpuNs: sample.user_ns + sample.system_ns,
            switches: sample.voluntary_switches + sample.involuntary_switches,
            allocations: sample.allocations)
    }

    static func - (a: Usage, b: Usage) -> Usage {
        Usage(
            cpuNs: a.cpuNs - b.cpuNs, switches: a.switches - b.switches,
            allocations: a.allocations - b.allocations)
    }

    static func + (a: Usage, b: Usage) -> Usage {
        Usage(
            cpuNs: a.cpuNs + b.cpuNs, switches: a.switches + b.switches,
            allocations: a.allocations + b.allocations)
    }

    /// As figures of a run, per operation.
    func figures(operations: Int) -> [String: Double] {
        guard operations > 0 else { return [:] }
        var figures = [
            "cpuUsPerOp": Double(cpuNs) / 1000 / Double(operations),
            "switchesPerOp": Double(switches) / Double(operations),
        ]
        if usage_counts_allocations() != 0 {
            figures["allocationsPerOp"] = Double(allocations) / Double(operations)
        }
        return figures
    }

    /// As one word for a line between processes, and back.
    var word: String { "\(cpuNs)/\(switches)/\(allocations)" }

    init(cpuNs: UInt64 = 0, switches: UInt64 = 0, allocations: UInt64 = 0) {
        self.cpuNs = cpuNs
        self.switches = switches
        self.allocations = allocations
    }

    init?(word: some StringProtocol) {
        let numbers = word.split(separator: "/").compactMap { UInt64($0) }
        guard numbers.count == 3 else { return nil }
        self.init(cpuNs: numbers[0], switches: numbers[1], allocations: numbers[2])
    }
}
