import class Foundation.ProcessInfo
import Simulator

/// The simulator's cluster; with `TRACE` in the environment it prints what happens in it.
typealias Cluster = Scenario

extension Scenario {
    static let isTracing = ProcessInfo.processInfo.environment["TRACE"] != nil
}
