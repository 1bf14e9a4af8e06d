import Foundation
import LNetCore
import NodeCore
import Primitives
import PtlRPCCore
import WireFormat

/// A server's counts in Prometheus's text format, version 0.0.4.
///
/// Written by hand: the counts live in the cores as plain numbers, and a metrics library would keep
/// a second copy of each.
struct ServerMetrics {
    private var text = ""

    /// All families of one server. Takes well under a millisecond; on the loop's thread.
    static func text(_ node: ServerNode, now: Ticks) -> String {
        var metrics = ServerMetrics()
        let account = node.account(TargetShowRequest(firstClient: .max), now: now)
        metrics.target(account)
        metrics.counts(account)
        metrics.requests(node.requestStatistics)
        metrics.commits(node.commitTimes)
        metrics.network(node.lnet.counters)
        return metrics.text
    }

    // MARK: Families

    private mutating func target(_ account: TargetShowReply) {
        family("sluice_target_info", "gauge", "The target and its instance; always 1.")
        sample(
            "sluice_target_info",
            [
                ("target", account.targetName), ("kind", account.kind.name),
                ("instance", "\(account.instance)"),
                ("protocol_min", "\(account.versions.lowerBound)"),
                ("protocol_max", "\(account.versions.upperBound)"),
            ], "1")
        gauge(
            "sluice_target_uptime_seconds", "Since the target got its store.",
            seconds(account.servedNs))
        family(
            "sluice_upgrade_phase", "gauge",
            "Where the target's upgrade stands: 1 for the phase that it is in.")
        for phase in UpgradePhase.allCases {
            sample(
                "sluice_upgrade_phase", [("phase", phase.name)], phase == account.phase ? "1" : "0")
        }
        family(
            "sluice_recovery_stage", "gauge",
            "How far the recovery is: 1 for the stage that it is in; serving where there is none.")
        for stage in TargetShowReply.Stage.allCases {
            sample(
                "sluice_recovery_stage",
                [("stage", stage.name.replacingOccurrences(of: " ", with: "_"))],
                stage == account.stage ? "1" : "0")
        }
        let recovery = account.recovery
        family("sluice_recovery_clients", "gauge", "Clients by where they stand in the recovery.")
        for (state, count) in [
            ("absent", recovery.absent), ("busy", recovery.busy), ("done", recovery.done),
        ] {
            sample("sluice_recovery_clients", [("state", state)], "\(count)")
        }
        gauge(
            "sluice_recovery_queued_replays", "Updates that wait for their turn.",
            "\(recovery.queued)")
        gauge("sluice_clients", "Clients that the target knows.", "\(recovery.clients)")
        gauge("sluice_locks", "Locks granted and waiting.", "\(account.locks.count)")
        gauge("sluice_locks_waiting", "Locks that wait.", "\(account.locks.waiting)")
        gauge(
            "sluice_locks_reserved", "Locks held for clients that are not back.",
            "\(account.locks.reserved)")
        gauge("sluice_lock_memory_bytes", "Memory of the lock tables.", "\(account.locks.bytes)")
        gauge("sluice_open_files", "Opens, of a metadata target.", "\(account.opens)")
        gauge(
            "sluice_last_transno", "The last update that was executed.",
            "\(account.lastTransno.rawValue)")
        gauge(
            "sluice_last_committed_transno", "The last update that is on disk.",
            "\(account.lastCommitted.rawValue)")
    }

    private mutating func counts(_ account: TargetShowReply) {
        for counter in TargetCounter.allCases {
            let (name, help) = counter.metric
            family("sluice_\(name)_total", "counter", help)
            sample("sluice_\(name)_total", [], "\(account[counter])")
        }
    }

    private mutating func requests(_ statistics: RequestStatistics) {
        let entries = statistics.entries.sorted { $0.opcode.rawValue < $1.opcode.rawValue }
        func label(_ entry: RequestStatistics.Entry) -> [(String, String)] {
            [("opcode", entry.opcode.label)]
        }
        family("sluice_request_errors_total", "counter", "Answers with an error, by opcode.")
        for entry in entries {
            sample("sluice_request_errors_total", label(entry), "\(entry.errors)")
        }
        family(
            "sluice_request_seconds", "histogram",
            "From a request's arrival to its answer, by opcode. The clock is read once per turn of "
                + "the loop: what is done within a turn counts as 0.")
        for entry in entries { histogram("sluice_request_seconds", label(entry), entry.times) }
    }

    private mutating func commits(_ times: TimeHistogram) {
        family(
            "sluice_commit_seconds", "histogram",
            "From handing a group of updates to the disk to the news that it is there.")
        histogram("sluice_commit_seconds", [], times)
    }

    private mutating func network(_ counters: LNetCounters) {
        func byType(_ name: String, _ help: String, _ counts: LNetCounters.ByType) {
            family(name, "counter", help)
            for (type, count) in [
                ("put", counts.put), ("get", counts.get), ("ack", counts.ack),
                ("reply", counts.reply),
            ] {
                sample(name, [("type", type)], "\(count)")
            }
        }
        byType("sluice_lnet_sent_total", "LNet messages sent, by type.", counters.sent)
        byType("sluice_lnet_received_total", "LNet messages received, by type.", counters.received)
        family(
            "sluice_lnet_drops_total", "counter", "LNet messages that came to nothing, by cause.")
        for drop in LNetCounters.Drop.allCases {
            sample("sluice_lnet_drops_total", [("cause", "\(drop)".snake)], "\(counters[drop])")
        }
        for (name, help, count) in [
            ("sent_bytes", "Payload bytes sent.", counters.sendLength),
            ("received_bytes", "Payload bytes received.", counters.receiveLength),
            ("dropped_bytes", "Payload bytes dropped.", counters.dropLength),
            ("connections_opened", "Connections made.", counters.connectionsOpened),
            ("connections_lost", "Connections lost.", counters.connectionsLost),
            ("connect_failures", "Attempts to connect that failed.", counters.connectFailures),
            ("response_timeouts", "Answers that did not come.", counters.responseTimeouts),
            ("protocol_errors", "Connections that a peer's error ended.", counters.errors),
        ] {
            family("sluice_lnet_\(name)_total", "counter", help)
            sample("sluice_lnet_\(name)_total", [], "\(count)")
        }
    }

    // MARK: The format

    private mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    private mutating func gauge(_ name: String, _ help: String, _ value: String) {
        family(name, "gauge", help)
        sample(name, [], value)
    }

    private mutating func sample(
        _ name: String, _ labels: [(String, String)], _ value: String
    ) {
        text += name
        if !labels.isEmpty {
            text += "{"
            text += labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
            text += "}"
        }
        text += " \(value)\n"
    }

    private mutating func histogram(
        _ name: String, _ labels: [(String, String)], _ times: TimeHistogram
    ) {
        var sum: UInt64 = 0
        for index in 0..<TimeHistogram.classCount {
            sum += times[index]
            let bound = TimeHistogram.bound(index).map { seconds($0.nanoseconds) } ?? "+Inf"
            sample(name + "_bucket", labels + [("le", bound)], "\(sum)")
        }
        sample(name + "_sum", labels, seconds(times.sum.nanoseconds))
        sample(name + "_count", labels, "\(times.count)")
    }

    private func seconds(_ nanoseconds: UInt64) -> String { "\(Double(nanoseconds) / 1e9)" }

    private static func escaped(_ value: String) -> String {
        value.replacingOccurrences(of: "\\", with: "\\\\")
            .replacingOccurrences(of: "\"", with: "\\\"")
            .replacingOccurrences(of: "\n", with: "\\n")
    }
}

extension Opcode {
    /// `object write` is `object_write`.
    fileprivate var label: String {
        name.replacingOccurrences(of: " ", with: "_").lowercased()
    }
}

extension String {
    /// `lockTimeouts` is `lock_timeouts`, `blockingASTs` is `blocking_asts`.
    fileprivate var snake: String {
        var text = ""
        var wasLower = false
        for character in self {
            if character.isUppercase, wasLower { text += "_" }
            wasLower = character.isLowercase
            text += character.lowercased()
        }
        return text
    }
}

extension TargetCounter {
    /// The metric's name without prefix and suffix, and its help.
    fileprivate var metric: (name: String, help: String) {
        let help =
            switch self {
            case .requests: "Requests that arrived."
            case .replies: "Replies sent, early ones among them."
            case .connects: "Connects of clients."
            case .connectsRefused: "Connects refused."
            case .malformed: "Messages that do not parse."
            case .notConnected: "Requests with a handle that their sender does not have."
            case .foreignHandles: "Of those, handles of other clients."
            case .obsolete: "Requests of older connections or with XIDs from the past: dropped."
            case .duplicates: "Requests that were being executed when they came again."
            case .refused: "Requests told to come again or refused."
            case .violations: "Requests that no honest client sends."
            case .unexpectedReplays: "Replays for an export that is not in recovery."
            case .replayed: "Updates executed again in recovery."
            case .replayedFromRecord: "Replays that were on record already."
            case .replaysFailed: "Replays that could not be done again."
            case .versionMismatches: "Replays that told other versions than were found."
            case .resent: "Updates answered from saved replies."
            case .evictions: "Clients evicted."
            case .earlyReplies: "Early replies sent."
            case .batches: "Messages that held several requests."
            case .bulkFetched: "Bulk transfers fetched from clients."
            case .bulkSent: "Bulk transfers sent to clients."
            case .bulkAborted: "Bulk transfers that came to nothing."
            case .callbacks: "Requests sent to clients."
            case .callbacksResent: "Requests to clients sent again."
            case .callbacksFailed: "Requests to clients that were never answered."
            case .lockEnqueues: "Locks asked for."
            case .lockGrants: "Locks granted."
            case .lockCancels: "Locks given back."
            case .lockConverts: "Locks converted."
            case .lockRefusals: "Locks refused."
            case .unknownLockCookies: "Cookies that name no lock: given back, or never given."
            case .foreignLockCookies: "Cookies of other clients' locks."
            case .lockFaults: "Requests about locks that no honest client sends."
            case .blockingASTs: "Blocking ASTs."
            case .completionASTs: "Completion ASTs."
            case .glimpseASTs: "Glimpse ASTs."
            case .lockTimeouts: "Locks that were not given back in time."
            case .locksReplayed: "Locks made again from replays."
            case .commits: "Groups of updates that reached the disk."
            case .commitFailures: "Commits that failed."
            case .damages: "Requests that met damage in the store."
            case .diskRefusals: "Updates refused while the disk took no commits."
            }
        return ("\(self)".snake, help)
    }
}
