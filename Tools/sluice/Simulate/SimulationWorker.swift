import Foundation
import Primitives
import Simulator

/// Runs seeds in this process and writes a line for each beginning and end, so that whoever
/// started it knows which seed it was that ended the process.
struct SimulationWorker {
    let command: SimulateCommand

    func run(_ range: SeedRange) {
        var coverage = Coverage()
        let watch = StepWatch(limit: command.wall)
        for seed in range.seeds {
            Output.line("begin \(seed)")
            watch.begin(seed)
            let clock = ContinuousClock()
            let start = clock.now
            let deadline = start + .seconds(command.wall)
            let simulation = Simulation(
                command.configuration(seed), keepsTimeline: command.stream)
            if command.stream {
                simulation.onLine = { node, time, line in
                    let text = line.replacingOccurrences(of: "\n", with: " | ")
                    Output.line("at \(node) \(time.nanoseconds) \(text)")
                }
                simulation.onName = { node, name in Output.line("name \(node) 0 \(name)") }
            }
            let wall = command.wall
            let outcome = simulation.run {
                clock.now > deadline ? "\(wall) s of wall time" : nil
            }
            watch.end()
            let spent = (clock.now - start).components
            let nanoseconds =
                spent.seconds * 1_000_000_000 + spent.attoseconds / 1_000_000_000
            coverage.merge(simulation.coverage)
            let verdict =
                outcome.violation != nil ? "violated" : outcome.limit != nil ? "limit" : "passed"
            let text = outcome.violation.map { "\($0)" } ?? outcome.limit ?? ""
            Output.line(
                "end \(seed) \(verdict) \(String(outcome.digest, radix: 16)) \(outcome.events) "
                    + "\(outcome.operations) \(outcome.passed.nanoseconds) \(nanoseconds) "
                    + text.replacingOccurrences(of: "\n", with: "\\n"))
            if command.untilViolation, outcome.violation != nil { break }
        }
        for row in coverage.rows { Output.line("cover \(row.count) \(row.name)") }
    }
}

/// A step that does not come to its end asks nobody for the time: then somebody else has to look.
private final class StepWatch: @unchecked Sendable {
    private let lock = NSLock()
    private let limit: Double
    // Guarded by `lock`.
    private var running: (seed: UInt64, since: ContinuousClock.Instant)?

    init(limit: Double) {
        self.limit = limit
        Thread.detachNewThread { [self] in
            while true {
                Thread.sleep(forTimeInterval: 1)
                look()
            }
        }
    }

    func begin(_ seed: UInt64) { lock.withLock { running = (seed, ContinuousClock.now) } }

    func end() { lock.withLock { running = nil } }

    private func look() {
        lock.withLock {
            guard let running, ContinuousClock.now - running.since > .seconds(limit + 10) else {
                return
            }
            Output.line(
                "end \(running.seed) limit 0 0 0 0 0 \(limit) s of wall time, within one step")
            Foundation.exit(0)
        }
    }
}

/// One child process with its lines.
final class ChildRun {
    struct Result {
        var violation: String?
        var limit: String?
    }

    /// What a seed came to, as a worker says it.
    struct SeedEnd {
        var seed: UInt64
        var verdict: String
        var digest: String
        var events: UInt64
        var operations: UInt64
        var virtualNanoseconds: UInt64
        var wallNanoseconds: UInt64
        var text: String
    }

    var onLine: (String) -> Void = { _ in }
    var onEnd: (SeedEnd) -> Void = { _ in }
    /// It came to a bad end, but not in the middle of a seed.
    var onFailure: (String) -> Void = { _ in }
    private let arguments: [String]
    private var running: UInt64?
    private var last: Result = Result()

    init(_ arguments: [String]) { self.arguments = ["simulate"] + arguments }

    /// Runs it to its end. A child that ended in the middle of a seed broke an invariant of the
    /// code.
    @discardableResult
    func run() -> Result {
        let process = Process()
        process.executableURL = URL(filePath: Machine.executablePath)
        process.arguments = arguments
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        do {
            try process.run()
        } catch {
            return Result(violation: "\(Machine.executablePath) cannot be started: \(error)")
        }
        // What it says when it traps is short; it is read while it runs so that no pipe fills.
        let words = ErrorTail()
        errors.fileHandleForReading.readabilityHandler = { words.append($0.availableData) }
        var rest = Data()
        while true {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            rest.append(data)
            while let end = rest.firstIndex(of: 0x0A) {
                take(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                rest = Data(rest[(end + 1)...])
            }
        }
        process.waitUntilExit()
        errors.fileHandleForReading.readabilityHandler = nil
        if running == nil, process.terminationStatus != 0 {
            onFailure("\(Violation.Property.trap.rawValue): \(words.line)")
        }
        if let seed = running {
            let text = "\(Violation.Property.trap.rawValue): \(words.line)"
            last = Result(violation: text)
            onEnd(
                SeedEnd(
                    seed: seed, verdict: "violated", digest: "", events: 0, operations: 0,
                    virtualNanoseconds: 0, wallNanoseconds: 0, text: text))
        }
        return last
    }

    private func take(_ line: String) {
        if line.hasPrefix("begin ") {
            running = UInt64(line.dropFirst(6))
        } else if line.hasPrefix("end ") {
            let parts = line.split(separator: " ", maxSplits: 8, omittingEmptySubsequences: false)
            guard parts.count >= 8, let seed = UInt64(parts[1]) else { return }
            running = nil
            let end = SeedEnd(
                seed: seed, verdict: String(parts[2]), digest: String(parts[3]),
                events: UInt64(parts[4]) ?? 0, operations: UInt64(parts[5]) ?? 0,
                virtualNanoseconds: UInt64(parts[6]) ?? 0, wallNanoseconds: UInt64(parts[7]) ?? 0,
                text: parts.count > 8
                    ? parts[8].replacingOccurrences(of: "\\n", with: "\n") : "")
            last = Result(
                violation: end.verdict == "violated" ? end.text : nil,
                limit: end.verdict == "limit" ? end.text : nil)
            onEnd(end)
        } else {
            onLine(line)
        }
    }
}

/// The end of what a process says on standard error, written by one thread and read by another.
private final class ErrorTail: @unchecked Sendable {
    private let lock = NSLock()
    private var data = Data()

    func append(_ more: Data) {
        lock.withLock {
            data.append(more)
            if data.count > 65_536 { data = Data(data.prefix(32_768)) }
        }
    }

    /// The sentence of a trap; else the first line.
    var line: String {
        let text = lock.withLock { String(decoding: data, as: UTF8.self) }
        let lines = text.split(separator: "\n")
        return String(
            lines.first { $0.contains("Fatal error") } ?? lines.first ?? "it said nothing")
    }
}
