import Foundation

/// Many seeds in several processes, and what they came to together.
final class SimulationFleet: @unchecked Sendable {
    private let command: SimulateCommand
    private let seeds: SeedRange
    // Guarded by `lock`: what the threads that wait for children share.
    private let lock = NSLock()
    private var nextSeed: UInt64
    private var passed = 0
    private(set) var limited = 0
    private(set) var failures: [UInt64] = []
    /// Processes that came to a bad end behind their last seed.
    private(set) var accidents = 0
    private var reasons: [UInt64: String] = [:]
    private var events: UInt64 = 0
    private var operations: UInt64 = 0
    private var virtualNanoseconds: UInt64 = 0
    private var wallNanoseconds: UInt64 = 0
    private var digestLines: [UInt64: String] = [:]
    private var coverNames: [String] = []
    private var cover: [String: UInt64] = [:]

    init(command: SimulateCommand, seeds: SeedRange) {
        self.command = command
        self.seeds = seeds
        nextSeed = seeds.seeds.lowerBound
    }

    /// Seeds are handed out in blocks, so that nobody is left with all the slow ones.
    private func takeBlock(_ size: UInt64) -> SeedRange? {
        lock.withLock {
            guard nextSeed <= seeds.seeds.upperBound, nextSeed >= seeds.seeds.lowerBound else {
                return nil
            }
            let last = min(seeds.seeds.upperBound, nextSeed + (size - 1))
            let block = SeedRange(nextSeed...last)
            nextSeed = last &+ 1
            if nextSeed == 0 { nextSeed = seeds.seeds.upperBound &+ 1 }
            return block
        }
    }

    func run() {
        let jobs = command.jobs ?? max(1, ProcessInfo.processInfo.activeProcessorCount)
        let size = max(1, min(50, UInt64(seeds.seeds.count) / UInt64(jobs * 4)))
        let group = DispatchGroup()
        for _ in 0..<min(jobs, seeds.seeds.count) {
            group.enter()
            Thread.detachNewThread { [self] in
                while let block = takeBlock(size) { run(block) }
                group.leave()
            }
        }
        group.wait()
        failures.sort()
    }

    /// One block; after a seed that ended the process the rest of the block goes on.
    private func run(_ block: SeedRange) {
        var from = block.seeds.lowerBound
        while from <= block.seeds.upperBound {
            var last = from
            let child = ChildRun(
                command.arguments
                    + ["--worker", "--seeds", "\(from)..\(block.seeds.upperBound)"])
            child.onEnd = { [self] end in
                last = end.seed
                note(end)
            }
            child.onLine = { [self] line in
                let parts = line.split(separator: " ", maxSplits: 2)
                guard parts.count == 3, parts[0] == "cover", let count = UInt64(parts[1]) else {
                    return
                }
                lock.withLock {
                    let name = String(parts[2])
                    if cover[name] == nil { coverNames.append(name) }
                    cover[name, default: 0] += count
                }
            }
            child.onFailure = { [self] text in
                lock.withLock {
                    accidents += 1
                    Output.line("seeds \(from)..\(last): \(text)")
                }
            }
            child.run()
            guard last < .max else { return }
            from = last + 1
        }
    }

    private func note(_ end: ChildRun.SeedEnd) {
        lock.withLock {
            events += end.events
            operations += end.operations
            virtualNanoseconds += end.virtualNanoseconds
            wallNanoseconds += end.wallNanoseconds
            if command.digests {
                digestLines[end.seed] = "\(end.seed) \(end.digest) \(end.events)"
            }
            switch end.verdict {
            case "passed": passed += 1
            case "limit":
                limited += 1
                Output.line("SEED=\(end.seed) stopped by a limit: \(end.text)")
            default:
                failures.append(end.seed)
                reasons[end.seed] = end.text
                Output.line("SEED=\(end.seed) breaks: \(end.text)")
            }
        }
    }

    var report: String {
        let wall = Double(wallNanoseconds) / 1e9
        let virtual = Double(virtualNanoseconds) / 1e9
        var lines = digestLines.sorted { $0.key < $1.key }.map(\.value)
        lines.append(
            "\(passed) of \(seeds.seeds.count) seeds passed, \(failures.count) broke a promise, "
                + "\(limited) stopped by a limit")
        lines.append(
            "\(operations) operations, \(events) events, \(Self.rounded(virtual / 3600, 2)) h of "
                + "virtual time in \(Self.rounded(wall, 1)) s of work: "
                + "\(Int(Double(events) / max(wall, 1e-9))) events and "
                + "\(Int(virtual / max(wall, 1e-9))) cluster-seconds per second and core")
        let faults = cover.filter { $0.key.hasPrefix("fault ") }.values.reduce(0, +)
        lines.append("\(faults) faults injected")
        return lines.joined(separator: "\n")
    }

    static func rounded(_ value: Double, _ digits: Int) -> String {
        String(format: "%.\(digits)f", value)
    }

    var coverageReport: String {
        var table = TextTable("reached", "times")
        for name in coverNames where cover[name, default: 0] > 0 {
            table.add(name, "\(cover[name, default: 0])")
        }
        let never = coverNames.filter { cover[$0, default: 0] == 0 }
        return table.text + "\nnever reached: "
            + (never.isEmpty ? "nothing of it" : never.joined(separator: ", "))
    }
}
