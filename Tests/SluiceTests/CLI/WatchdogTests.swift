import EventLoop
import Foundation
import Testing

@testable import sluice

@Suite struct WatchdogTests {
    @Test func `it names the phase in which time ran out, and is silent once it was stopped`() {
        let told = Lock<[String]>([])
        let stopped = Watchdog(seconds: 0.3) { phase in told.withLock { $0.append("late \(phase)") }
        }
        stopped.enter("one")
        stopped.stop()
        let expires = Watchdog(seconds: 0.3) { phase in told.withLock { $0.append(phase) } }
        expires.enter("two")
        expires.enter("three")
        for _ in 0..<200 where told.withLock(\.isEmpty) { usleep(20_000) }
        usleep(200_000)
        #expect(told.withLock { $0 } == ["three"])
    }
}
