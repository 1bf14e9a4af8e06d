import ClientCore
import EventLoop
import NodeRuntime
import Primitives
import WireFormat

/// One client that keeps a number of empty requests under way at one target, from its own loop.
final class RPCAsker: FleetDriver, @unchecked Sendable {
    // Belongs to the fleet's loop but for `outcome`.

    struct Outcome: Sendable {
        var recorder: Recorder
        var seconds: Double
        var usage: Usage
        var failure: String?
    }

    let outcome = Lock<Outcome?>(nil)
    private let concurrency: Int
    private let duration: TickInterval
    private var recorder: Recorder
    private var sentAt: [Ticks]
    private var answered = 0
    private var began = Ticks.zero
    private var endsAt = Ticks.distantFuture
    private var usageBefore = Usage()
    private var isOver = false
    /// Calls before the first that counts.
    private static let skipped = 2000

    init(concurrency: Int, for duration: TickInterval, keepsRaw: Bool) {
        self.concurrency = concurrency
        self.duration = duration
        recorder = Recorder(keepsRaw: keepsRaw)
        sentAt = Array(repeating: .zero, count: concurrency)
    }

    func started(nodeCount: Int, now: Ticks, _ commands: inout FleetCommands) {
        commands.mount(node: 0)
    }

    func event(node: Int, _ event: ClientEvent, now: Ticks, _ commands: inout FleetCommands) {
        guard case .connected = event, answered == 0 else { return }
        for place in 0..<concurrency { call(place, &commands) }
    }

    private func call(_ place: Int, _ commands: inout FleetCommands) {
        sentAt[place] = Host.monotonicNow
        commands.submit(node: 0, .raw(target: 0, .ping), cookie: UInt64(place))
    }

    func completed(
        node: Int, cookie: UInt64, _ result: Result<FileResult, OperationError>, now: Ticks,
        _ commands: inout FleetCommands
    ) {
        guard !isOver else { return }
        if case .failure(let error) = result { return end(now, "\(error.status)") }
        let now = Host.monotonicNow
        answered += 1
        if answered == Self.skipped {
            usageBefore = .ofThread()
            began = now
            endsAt = now + duration
        } else if answered > Self.skipped {
            recorder.record(now - sentAt[Int(cookie)])
            if now >= endsAt { return end(now, nil) }
        }
        call(Int(cookie), &commands)
    }

    private func end(_ now: Ticks, _ failure: String?) {
        isOver = true
        let outcome = Outcome(
            recorder: recorder, seconds: (now - began).inSeconds,
            usage: .ofThread() - usageBefore, failure: failure)
        self.outcome.withLock { $0 = outcome }
    }
}
