import ClientCore
import EventLoop
import Foundation
import Primitives
import WireFormat

extension StressRun {
    private static let ranges = ["1...1", "1...2", "1...3"]

    /// Upgrades one target after the other until the time is over.
    func upgradeUntilOver() async throws {
        defer { isOver = true }
        while now < end, report.incidents.completed < upgradeCountMax ?? .max {
            let place = upgradeRandom.below(seats.count)
            while seats[place].isBusy { try await idle(milliseconds: 10) }
            seats[place].isBusy = true
            try await upgrade(place)
            seats[place].isBusy = false
            if let otherBuild, upgradeRandom.oneIn(4) { try await visit(with: otherBuild) }
            try await idle(milliseconds: upgradeRandom.below(600))
        }
    }

    /// One upgrade or downgrade, to its end or back, whatever happens meanwhile.
    private func upgrade(_ place: Int) async throws {
        let old = seats[place]
        let next = Build(
            protocols: Self.ranges[upgradeRandom.below(Self.ranges.count)], nid: 1 - old.build.nid,
            program: upgradeRandom.oneIn(2) ? otherBuild : nil)
        let scheme: UpgradeScheme = upgradeRandom.oneIn(4) ? .sync : .drain
        let policy: DeadlinePolicy = upgradeRandom.oneIn(2) ? .wait : .leaveBehind
        let callsOffAfter =
            faults.contains(.abort) && upgradeRandom.oneIn(6) ? upgradeRandom.below(150) : nil
        let isBreather = upgradeRandom.oneIn(2)

        guard try await comesToServe(place) else { return }
        let standby = try cluster.start(
            place, nid: next.nid, protocols: next.protocols, standby: true, program: next.program)
        while standby.line("standby") == nil, standby.poll() == nil {
            try await idle(milliseconds: 5)
        }
        if isBreather { try await idle(milliseconds: 30) }
        let traced = loaded.driver.progress.withLock(\.traceCount)
        loaded.driver.orders.withLock { $0.begins = (place, now, scheme == .drain) }
        try await loaded.wait("the clients are watched", seconds: 30) { $0.traceCount > traced }
        let order = UpgradeStart(
            scheme: scheme, deadlinePolicy: policy, deadlineMs: 20_000, expiryMs: 60_000,
            next: standby.nid)
        say(
            "\(name(place)): \(scheme.name) from \(spelled(old.build)) to \(spelled(next)), "
                + "late clients: \(policy)")
        if scheme == .drain { report.incidents.drains += 1 } else { report.incidents.syncs += 1 }
        let isOrdered: Bool
        do {
            try await loaded.give(order, to: place)
            isOrdered = true
        } catch {
            // Killed, hung, or recovering meanwhile.
            say("\(name(place)): not ordered: \(error)")
            isOrdered = false
        }
        var isCalledOff = !isOrdered
        if let callsOffAfter, isOrdered {
            try await idle(milliseconds: callsOffAfter)
            isCalledOff = true
        }
        try await settle(place, standby, next, isCalledOff: isCalledOff)
        loaded.driver.orders.withLock { $0.endsTrace = true }
        if scheme == .drain, seats[place].server === standby, !isCalledOff {
            finishedTraces.append(traced)
        }
    }

    /// Whether a target comes to serve; false where its server was killed, and starts again.
    private func comesToServe(_ place: Int) async throws -> Bool {
        let limit = now + .seconds(150)
        while now < limit {
            if seats[place].server.poll() != nil {
                try await start(place, oneOf: [seats[place].build])
            }
            // Briefly: a server that is killed meanwhile is started by nobody else.
            let answer = try? await loaded.send(.upgradeStatus, to: place, within: .seconds(1))
            if case .upgradeStatus(let status)? = answer, status.phase == .serving { return true }
            try await idle(milliseconds: 20)
        }
        throw Failure(
            "\(name(place)) did not come to serve in 150 s; the administrator's client:\n"
                + loaded.administratorStanding)
    }

    /// Waits until one of the two builds serves and the other has gone; starts what has to be started.
    private func settle(
        _ place: Int, _ standby: ChildServer, _ next: Build, isCalledOff: Bool
    ) async throws {
        let old = seats[place]
        let began = now
        let limit = now + .seconds(150)
        var isRefused = false
        var ordersAbort = isCalledOff
        while now < limit {
            let oldEnd = old.server.poll()
            let standbyEnd = standby.poll()
            if standbyEnd == nil, standby.line("ready") != nil {
                seats[place].server = standby
                seats[place].build = next
                cluster.replaceCurrent(place, by: standby)
                report.incidents.completed += 1
                if next.protocols < old.build.protocols { report.incidents.downgrades += 1 }
                say("\(name(place)): done in \(Report.ms((now - began).inMilliseconds)) ms")
                return
            }
            if standbyEnd == .exited(1), !isRefused {
                isRefused = true
                report.incidents.refusals += 1
                say("\(name(place)): the next build ended: \(standby.lastWords)")
            }
            if oldEnd != nil, standbyEnd != nil {
                try await start(place, oneOf: [old.build, next])
                report.incidents.fellBack += 1
                return
            }
            // Without a standby the upgrade is called off, as a supervisor would.
            if standbyEnd != nil { ordersAbort = true }
            if oldEnd == nil, ordersAbort, try await isBackToServing(place) {
                standby.send(SIGTERM)
                let patience = now + .seconds(10)
                while standby.poll() == nil {
                    if now > patience { standby.send(SIGKILL) }
                    try await idle(milliseconds: 5)
                }
                // Who answered may have been the standby, which had just taken over.
                guard old.server.poll() == nil else { continue }
                if isCalledOff {
                    report.incidents.aborted += 1
                    say("\(name(place)): called off")
                } else {
                    report.incidents.fellBack += 1
                    say("\(name(place)): serves on without its standby")
                }
                return
            }
            try await idle(milliseconds: 5)
        }
        throw Failure(
            "\(name(place)): after 150 s neither build serves; old: \(old.server.lastWords); "
                + "new: \(standby.lastWords)")
    }

    /// Asks a target to call its upgrade off; whether it serves, and has none.
    private func isBackToServing(_ place: Int) async throws -> Bool {
        // Refused where it is too late for it, or where nothing is left to call off.
        try? await loaded.give(UpgradeStart(.abort), to: place)
        let answer = try? await loaded.send(.upgradeStatus, to: place, within: .seconds(1))
        guard case .upgradeStatus(let status)? = answer else { return false }
        return status.phase == .serving
    }

    // MARK: The other build's client

    /// A client of another build writes a file, reads it back and removes it.
    private func visit(with program: String) async throws {
        let number = report.incidents.visits
        let local = "\(cluster.directory)/visit"
        let path = "/visit\(number)"
        var bytes: [UInt8] = []
        for _ in 0..<(1 + upgradeRandom.below(40_000)) {
            bytes.append(UInt8(truncatingIfNeeded: upgradeRandom.next()))
        }
        try Data(bytes).write(to: URL(fileURLWithPath: local))
        // A new client is let in when no recovery goes on: with kills about, that may take a while.
        let steps = [
            ["fs", "put", local, path], ["fs", "get", path, local + ".back"], ["fs", "rm", path],
        ]
        let limit = now + .seconds(180)
        for arguments in steps {
            while true {
                if arguments[1] == "get" { Machine.remove(local + ".back") }
                let status = try await run(program, arguments + ["--cluster", cluster.file.path])
                if status == 0 { break }
                guard now < limit else {
                    throw Failure("the other build's sluice \(arguments[1]) ended with \(status)")
                }
            }
        }
        let back = try Data(contentsOf: URL(fileURLWithPath: local + ".back"))
        guard back == Data(bytes) else {
            throw Failure("the other build's client read other bytes than it wrote")
        }
        report.incidents.visits += 1
    }

    private func run(_ program: String, _ arguments: [String]) async throws -> Int32 {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        try process.run()
        let limit = now + .seconds(120)
        while process.isRunning {
            if now > limit { process.terminate() }
            try await idle(milliseconds: 5)
        }
        return process.terminationStatus
    }
}
