import CFabric
import EventLoop
import Foundation
import Primitives

/// Runs `body` on a thread of its own and waits for it without holding one.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            continuation.resume(with: Result(catching: body))
        }
    }
}

/// Pins the calling thread to a processor.
func pin(_ processor: Int) throws {
    let status = fabric_thread_pin(Int32(processor))
    guard status == 0 else {
        throw Failure(
            "processor \(processor) cannot be pinned to: \(Machine.errnoText(-status)); "
                + "try --no-pin")
    }
}

/// A temporary directory of a benchmark, which ends with it.
final class BenchDirectory: Sendable {
    let path: String

    init(_ name: String) throws {
        path = NSTemporaryDirectory() + "sluice-bench-\(name)-\(getpid())"
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true)
        } catch {
            throw Failure("\(path) cannot be made: \(error.localizedDescription)")
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

extension ChildServer {
    /// The line of its standard output that begins with `word`, once it is there.
    func awaitLine(_ word: String, seconds: Double = 20) async throws -> String {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            // Asked first: what it said before it ended counts.
            let end = poll()
            if let line = line(word) { return line }
            if let end { throw Failure("\(name) ended (\(end)): \(lastWords)") }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw Failure("\(name) was not \(word) within \(Int(seconds)) s: \(lastWords)")
    }
}
