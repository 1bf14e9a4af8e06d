/// What a stress run came to. Field for field the JSON object that `sluice stress --json` prints.
struct StressReport: Encodable {
    /// What was done to the targets, and how it ended.
    struct Incidents: Encodable {
        var drains = 0
        var syncs = 0
        /// Upgrades that ended with the new build serving.
        var completed = 0
        /// Upgrades that a fault kept from their end: the build before serves.
        var fellBack = 0
        var aborted = 0
        var downgrades = 0
        var kills = 0
        var hangs = 0
        var resets = 0
        var restarts = 0
        var standbysKilled = 0
        /// New builds that did not take an unclean store.
        var refusals = 0
        /// Files that a client of the other build wrote and read.
        var visits = 0
    }

    var verdict = "failed"
    var seed: UInt64
    var clients: Int
    var seconds: Double
    var incidents = Incidents()
    var operations: UInt64 = 0
    var acknowledgedUpdates: UInt64 = 0
    var lostUpdates: UInt64 = 0
    var duplicatedUpdates: UInt64 = 0
    var corruptBytes: UInt64 = 0
    var clientErrors: UInt64 = 0
    /// As the load's clients noticed; a visitor that was killed with its server is forgotten rightly.
    var evictions: UInt64 = 0
    /// Operations that were taken back at a gate; each was begun again.
    var cancellations: UInt64 = 0
    /// Of clients that waited, over all drains that came to their end.
    var pauseMs: DemoReport.Percentiles?
    var samples: [String] = []

    var faults: [String] {
        var faults: [String] = []
        func check(_ count: UInt64, _ what: String) {
            if count > 0 { faults.append("\(count) \(what)") }
        }
        check(lostUpdates, "acknowledged updates lost")
        check(duplicatedUpdates, "updates executed more than once")
        check(corruptBytes, "bytes wrong")
        check(clientErrors, "errors seen by clients")
        check(evictions, "evictions")
        if acknowledgedUpdates == 0 { faults.append("no update was acknowledged") }
        if incidents.completed == 0 { faults.append("no upgrade came to its end") }
        return faults
    }

    var text: String {
        var table = TextTable("what", "times")
        table.add("upgrades that ended with the new build", "\(incidents.completed)")
        table.add("  of them to an older protocol", "\(incidents.downgrades)")
        table.add("upgrades that fell back after a fault", "\(incidents.fellBack)")
        table.add("upgrades called off", "\(incidents.aborted)")
        table.add("ordered with scheme drain", "\(incidents.drains)")
        table.add("ordered with scheme sync", "\(incidents.syncs)")
        table.add("servers killed", "\(incidents.kills)")
        table.add("standbys killed", "\(incidents.standbysKilled)")
        table.add("builds that refused an unclean store", "\(incidents.refusals)")
        table.add("servers stopped for a while", "\(incidents.hangs)")
        table.add("clean restarts of the same build", "\(incidents.restarts)")
        table.add("times all connections broke", "\(incidents.resets)")
        table.add("operations taken back at a gate", "\(cancellations)")
        if incidents.visits > 0 {
            table.add("visits of the other build's client", "\(incidents.visits)")
        }
        var lines = [
            "\(clients) clients, \(Int(seconds.rounded())) s, seed \(seed).", "", table.text, "",
            "operations             \(operations)",
            "acknowledged updates   \(acknowledgedUpdates)",
            "lost updates           \(lostUpdates)",
            "duplicated updates     \(duplicatedUpdates)",
            "corrupt bytes          \(corruptBytes)",
            "client errors          \(clientErrors)",
            "evictions              \(evictions)",
        ]
        if let pauseMs {
            let three = [pauseMs.p50, pauseMs.p99, pauseMs.max].map(Report.ms)
            lines.append("pause of a drain       \(three.joined(separator: "/")) ms p50/p99/max")
        }
        lines.append("")
        for sample in samples { lines.append("  \(sample)") }
        lines.append(
            faults.isEmpty
                ? "PASSED: every acknowledged update is there, exactly once, with the right bytes."
                : "FAILED: " + faults.joined(separator: ", ") + ".")
        return lines.joined(separator: "\n")
    }
}
