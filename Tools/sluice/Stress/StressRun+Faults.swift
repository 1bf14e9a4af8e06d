import Foundation
import Primitives

extension StressRun {
    /// Does harm at random moments until the upgrades are over.
    func harmUntilOver() async throws {
        let kinds = faults.filter { $0 != .abort }
        guard !kinds.isEmpty, faultsPerMinute > 0 else { return }
        defer { end = min(end, now) }
        let meanMs = Int(60_000 / faultsPerMinute)
        while true {
            // Between nothing and twice the mean.
            let pause = now + .milliseconds(UInt64(faultRandom.below(2 * meanMs + 1)))
            while now < pause, !isOver { try await idle(milliseconds: 20) }
            if isOver { return }
            let place = faultRandom.below(seats.count)
            switch kinds[faultRandom.below(kinds.count)] {
            case .kill: try await kill(place)
            case .hang: try await hang(place)
            case .reset:
                say("all connections break")
                report.incidents.resets += 1
                loaded.breakConnections()
            case .restart: try await restart(place)
            case .abort: break
            }
        }
    }

    /// One of a target's processes, the standby of an upgrade among them.
    private func victim(_ place: Int) -> ChildServer? {
        let living = cluster.living(place)
        return living.isEmpty ? nil : living[faultRandom.below(living.count)]
    }

    private func kill(_ place: Int) async throws {
        guard let server = victim(place) else { return }
        if server === seats[place].server {
            report.incidents.kills += 1
            say("\(name(place)): killed")
        } else {
            report.incidents.standbysKilled += 1
            say("\(name(place)): its standby is killed")
        }
        // Who replaces the server sees to what happens next.
        guard !seats[place].isBusy else { return server.send(SIGKILL) }
        seats[place].isBusy = true
        server.send(SIGKILL)
        while server.poll() == nil { try await idle(milliseconds: 2) }
        try await idle(milliseconds: faultRandom.below(1_000))
        try await start(place, oneOf: [seats[place].build])
        seats[place].isBusy = false
    }

    private func hang(_ place: Int) async throws {
        guard let server = victim(place) else { return }
        let length = faultRandom.oneIn(4) ? faultRandom.below(6_000) : faultRandom.below(500)
        report.incidents.hangs += 1
        say("\(name(place)): stopped for \(length) ms")
        server.send(SIGSTOP)
        try await idle(milliseconds: length)
        server.send(SIGCONT)
    }

    private func restart(_ place: Int) async throws {
        guard !seats[place].isBusy else { return }
        seats[place].isBusy = true
        report.incidents.restarts += 1
        say("\(name(place)): stops cleanly and starts again")
        let server = seats[place].server
        server.send(SIGTERM)
        let limit = now + .seconds(60)
        while server.poll() == nil {
            guard now < limit else {
                throw Failure("\(name(place)) did not stop within 60 s: \(server.lastWords)")
            }
            try await idle(milliseconds: 5)
        }
        try await start(place, oneOf: [seats[place].build])
        seats[place].isBusy = false
    }
}
