import ClientCore
import Primitives

extension Demo {
    /// The upgrades as `sluice report` reads them: every client's stamps, pauses, throughput.
    var result: BenchResult {
        var result = BenchResult("demo", runs: 1, warmUp: 0, pinning: "not pinned")
        result.timelines = []
        for (place, trace) in driver.traces.enumerated() where place < orderedAt.count {
            let began = orderedAt[place]
            let name = cluster.file.targets[trace.target].name
            var pauses = Recorder()
            for pause in trace.pauses { pauses.record(UInt64(pause * 1e6)) }
            if pauses.count > 0 {
                result.series.append(
                    BenchResult.Series(
                        name: "pause-\(name)",
                        parameters: ["clients": "\(trace.gateShut.count)", "target": name],
                        unit: .ms, runs: [pauses.run(unit: .ms)]))
            }
            func since(_ at: Ticks) -> Double? { at > began ? (at - began).inMilliseconds : nil }
            // From half a second before the order to half a second after everybody was back.
            let slice = LoadDriver.sliceLength
            let half = TickInterval.milliseconds(500)
            let from = Ticks(nanoseconds: began.nanoseconds - half.nanoseconds)
            let end = (trace.backAt.max() ?? began) + half
            let first = Int((from - driver.sliceOrigin).nanoseconds / slice.nanoseconds)
            let last = min(
                driver.slices.count,
                Int((end - driver.sliceOrigin).nanoseconds / slice.nanoseconds))
            let origin =
                driver.sliceOrigin
                + TickInterval(nanoseconds: UInt64(first) * slice.nanoseconds)
            result.timelines?.append(
                UpgradeTimeline(
                    name: name, scheme: trace.isAnnounced ? "drain" : "crash",
                    clients: trace.gateShut.indices.map { client in
                        UpgradeTimeline.Client(
                            gateShut: since(trace.gateShut[client]),
                            receiptGiven: since(trace.receipt[client]),
                            committed: since(trace.committed[client]),
                            gateOpened: since(trace.backAt[client]),
                            firstWaited: since(trace.firstWaited[client]),
                            firstUpdate: since(trace.firstAcknowledged[client]))
                    },
                    throughput: first < last ? driver.slices[first..<last].map { Int($0) } : [],
                    fromMs: origin > began
                        ? (origin - began).inMilliseconds : -(began - origin).inMilliseconds,
                    intervalMs: slice.inMilliseconds))
        }
        return result
    }
}
