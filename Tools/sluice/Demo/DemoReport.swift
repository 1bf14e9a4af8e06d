import Histogram

/// What a demo came to. Field for field the JSON object that `sluice demo --json` prints.
struct DemoReport: Encodable {
    struct Percentiles: Encodable {
        var p50: Double
        var p99: Double
        var max: Double

        /// Nil where nobody had it. Milliseconds to three digits of precision.
        init?(_ values: [Double]) {
            guard !values.isEmpty else { return nil }
            var histogram = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
            // In microseconds, since the histogram holds whole numbers.
            for value in values { histogram.record(UInt64((value * 1000).rounded())) }
            p50 = Double(histogram.valueAtPercentile(50)) / 1000
            p99 = Double(histogram.valueAtPercentile(99)) / 1000
            max = Double(histogram.max) / 1000
        }
    }

    struct Rates: Encodable {
        var before: Double
        var during: Double
        var after: Double
    }

    struct Upgrade: Encodable {
        var target: String
        var scheme: String
        var fromProtocol: Int
        var toProtocol: Int
        /// t3 − t0: from the order to each client's shut gate.
        var notificationMs: Percentiles?
        /// t4 − t0, as the clients know it: from the order to each client's receipt.
        var receiptMs: Percentiles?
        var preparedMs: Double?
        var committedMs: Double?
        var pauseMs: Percentiles?
        var pausedClients: Int
        /// From the first operation that waited to the first update acknowledged after.
        var updateGapMs: Percentiles?
        var blackoutMs: Double?
        var replayed: UInt64
        var resent: UInt64
        var opsPerSecond: Rates
        /// Why the new build did not take the store; only of scheme crash.
        var refusal: String?
    }

    struct Memory: Encodable {
        var serverPeakKiB: Int
        var demoPeakKiB: Int
    }

    struct Descriptors: Encodable {
        var serverPeak: Int
        var demoPeak: Int
    }

    var verdict = "failed"
    var scheme: String
    var seed: UInt64
    var clients: Int
    var seconds: Double
    var operations: UInt64 = 0
    var acknowledgedUpdates: UInt64 = 0
    var lostUpdates: UInt64 = 0
    var duplicatedUpdates: UInt64 = 0
    var corruptBytes: UInt64 = 0
    var clientErrors: UInt64 = 0
    var evictions: UInt64 = 0
    var opsPerSecond = Rates(before: 0, during: 0, after: 0)
    var upgrades: [Upgrade] = []
    var memory = Memory(serverPeakKiB: 0, demoPeakKiB: 0)
    var fileDescriptors = Descriptors(serverPeak: 0, demoPeak: 0)
    /// Only of a run whose servers were told to do wrong.
    var injectedFaults: UInt64?
    /// A few of the things that went wrong, in words.
    var samples: [String] = []

    /// What makes the verdict, beside "something was done at all".
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
        if scheme == DemoScheme.crash.rawValue, upgrades.allSatisfy({ $0.replayed == 0 }) {
            faults.append("no request was replayed after a crash")
        }
        return faults
    }

    var text: String {
        func rate(_ value: Double) -> String { String(Int(value.rounded())) }
        func three(_ values: Percentiles?) -> String {
            guard let values else { return "-" }
            return [values.p50, values.p99, values.max].map(Report.ms).joined(separator: "/")
        }
        func one(_ value: Double?) -> String { value.map(Report.ms) ?? "-" }
        var table = TextTable(
            "target", "protocol", "told t3-t0", "receipt t4-t0", "prepared", "committed", "pause",
            "blackout", "replayed", "resent", "ops/s before/during/after")
        for upgrade in upgrades {
            table.add(
                upgrade.target, "\(upgrade.fromProtocol) to \(upgrade.toProtocol)",
                three(upgrade.notificationMs), three(upgrade.receiptMs), one(upgrade.preparedMs),
                one(upgrade.committedMs), three(upgrade.pauseMs), one(upgrade.blackoutMs),
                "\(upgrade.replayed)", "\(upgrade.resent)",
                [
                    upgrade.opsPerSecond.before, upgrade.opsPerSecond.during,
                    upgrade.opsPerSecond.after,
                ]
                .map(rate).joined(separator: "/"))
        }
        var lines = [
            "Scheme \(scheme), \(clients) clients, seed \(seed). Times in ms, as p50/p99/max over "
                + "clients where there are three.", "", table.text, "",
        ]
        for upgrade in upgrades {
            if let refusal = upgrade.refusal {
                lines.append("\(upgrade.target): the new build did not start: \(refusal)")
            }
        }
        lines += [
            "operations             \(operations)",
            "ops/s                  \(rate(opsPerSecond.before)) before, "
                + "\(rate(opsPerSecond.during)) during, \(rate(opsPerSecond.after)) after",
            "acknowledged updates   \(acknowledgedUpdates)",
            "lost updates           \(lostUpdates)",
            "duplicated updates     \(duplicatedUpdates)",
            "corrupt bytes          \(corruptBytes)",
            "client errors          \(clientErrors)",
            "evictions              \(evictions)",
        ]
        if let injectedFaults { lines.append("injected faults        \(injectedFaults)") }
        lines += [
            "peak memory            \(memory.serverPeakKiB / 1024) MiB per server, "
                + "\(memory.demoPeakKiB / 1024) MiB for all clients",
            "peak descriptors       \(fileDescriptors.serverPeak) per server, "
                + "\(fileDescriptors.demoPeak) for all clients", "",
        ]
        for sample in samples { lines.append("  \(sample)") }
        lines.append(
            faults.isEmpty
                ? "PASSED: every acknowledged update is there, exactly once, with the right bytes."
                : "FAILED: " + faults.joined(separator: ", ") + ".")
        return lines.joined(separator: "\n")
    }
}
