import Primitives
import Testing
import WireFormat

@testable import UpgradeCore

/// Every input in every state: it is taken, dropped by name, or an error that names both.
@Suite struct PairTests {
    static let epoch = UpgradeEpoch(instance: 1, counter: 1)
    static let notice = UpgradeNotice(
        epoch: epoch, scheme: .drain, cachePolicy: .flush, deadlinePolicy: .wait, isPreflush: false,
        deadlineMs: 1, expectedPauseMs: 1, next: .loopback)
    static let receipt = UpgradeReceipt(
        epoch: epoch, lastXID: .zero, lastTransno: .zero, openCount: 0, flushedBytes: 0)

    static let targetInputs: [UpgradeTarget.Input] = [
        .start(UpgradeStart(), isRecovering: false), .start(UpgradeStart(), isRecovering: true),
        .start(UpgradeStart(isAbort: true), isRecovering: false), .abort(.operator),
        .clientAdmitted(client: 0, hasFeature: true, isReconnect: true),
        .clientAdmitted(client: 0, hasFeature: false, isReconnect: true),
        .clientAdmitted(client: 5, hasFeature: true, isReconnect: false),
        .clientAdmitted(client: 0, hasFeature: true, isReconnect: false),
        .clientGone(client: 0), .clientGone(client: 9), .receipt(client: 0, receipt),
        .receipt(client: 9, receipt), .progress(client: 0, epoch), .progress(client: 9, .none),
        .noticeDelivered(client: 0, epoch), .noticeDelivered(client: 9, epoch), .exclusiveGranted,
        .exclusiveReleased, .backlogCommitted, .recordCommitted(lastCommitted: .zero),
        .recordFailed, .commitNoticeDelivered(client: 0, epoch), .tick, .proceed,
        .recordWithdrawn, .start(UpgradeStart(.proceed), isRecovering: false),
        .start(UpgradeStart(.finalize), isRecovering: false),
    ]

    static let held: [UpgradeTarget.Input] = [
        .start(UpgradeStart(holds: true), isRecovering: false), .receipt(client: 0, receipt),
        .exclusiveGranted, .backlogCommitted, .recordCommitted(lastCommitted: .zero),
    ]

    /// One client, and the events that lead to each state.
    static let targetPaths: [(UpgradePhase, [UpgradeTarget.Input])] = [
        (.serving, []),
        (.announced, [targetInputs[0]]),
        (.gathering, [targetInputs[0], .noticeDelivered(client: 0, epoch)]),
        (.committing, [targetInputs[0], .receipt(client: 0, receipt), .exclusiveGranted]),
        (
            .sealed,
            [targetInputs[0], .receipt(client: 0, receipt), .exclusiveGranted, .backlogCommitted]
        ),
        (
            .committed,
            [
                targetInputs[0], .receipt(client: 0, receipt), .exclusiveGranted,
                .backlogCommitted, .recordCommitted(lastCommitted: .zero),
            ]
        ),
        (
            .stopped,
            [
                targetInputs[0], .receipt(client: 0, receipt), .exclusiveGranted,
                .backlogCommitted, .recordCommitted(lastCommitted: .zero),
                .commitNoticeDelivered(client: 0, epoch),
            ]
        ),
        (.aborting, [targetInputs[0], .abort(.operator)]),
        (.held, held),
        (.aborting, held + [.abort(.operator)]),
    ]

    @Test func `every input is placed in every state of a target`() throws {
        var actions = Outbox<UpgradeTarget.Action>()
        var faults: [String] = []
        for (phase, path) in Self.targetPaths {
            for input in Self.targetInputs {
                var target = UpgradeTarget(instance: 1)
                let admit = UpgradeTarget.Input.clientAdmitted(
                    client: 0, hasFeature: true, isReconnect: false)
                for event in [admit] + path {
                    try target.step(event, now: Ticks(nanoseconds: 1), into: &actions)
                }
                #expect(target.phase == phase)
                let before = target.state
                do {
                    try target.step(input, now: Ticks(nanoseconds: 2), into: &actions)
                } catch {
                    #expect(target.state == before)
                    faults.append("\(phase.name) \(error.event)")
                }
            }
        }
        #expect(faults.contains("committing exclusiveReleased"))
        #expect(faults.contains("serving recordCommitted"))
        #expect(faults.contains("announced exclusiveGranted"))
        #expect(faults.contains("committed recordFailed"))
        #expect(faults.contains("held recordFailed"))
        #expect(faults.contains("held recordWithdrawn"))
        #expect(!faults.contains("aborting exclusiveGranted"))
    }

    @Test func `every input is placed in every state of a client`() throws {
        let reply = ConnectReply(
            version: .v1, features: [], mode: .fresh, admission: .granted, instance: 1,
            epoch: .none, admissionLock: 0, lastCommitted: .zero, notice: nil)
        let commit = CommitNotice(epoch: Self.epoch, lastCommitted: .zero, next: .loopback)
        let inputs: [UpgradeClient.Input] = [
            .notice(Self.notice, ast: 1, isIdle: true), .notice(Self.notice, ast: 1, isIdle: false),
            .trailer(ReplyTrailer(epoch: Self.epoch, admission: .revoking)),
            .operationsDrained(Self.epoch), .flushed(Self.epoch, bytes: 1),
            .receiptDelivered(Self.epoch), .granted(Self.epoch), .commitNotice(commit),
            .disconnected, .left, .connectStarted, .connected(reply), .recovered,
            .targetUp(TargetUp(targetName: "t", instance: 2, nid: .loopback)), .tick,
        ]
        let full: [UpgradeClient.Input] = [.connectStarted, .connected(reply), .recovered]
        let paths: [(UpgradeClient.State, [UpgradeClient.Input])] = [
            (.disconnected, []), (.connecting, [.connectStarted]),
            (.replaying, [.connectStarted, .connected(reply)]), (.open, full),
            (.closing(Self.epoch), full + [inputs[1]]), (.prepared(Self.epoch), full + [inputs[0]]),
            (.committed(Self.epoch), full + [inputs[0], .commitNotice(commit)]),
        ]
        var actions = Outbox<UpgradeClient.Action>()
        var faults: [String] = []
        for (state, path) in paths {
            for input in inputs {
                var client = UpgradeClient()
                for event in path { try client.step(event, now: .zero, into: &actions) }
                #expect(client.state == state)
                do {
                    try client.step(input, now: Ticks(nanoseconds: 5), into: &actions)
                } catch {
                    #expect(client.state == state)
                    faults.append(error.description)
                }
            }
        }
        // Connected while connected; recovered without a connection.
        #expect(faults.count == 6)
    }
}
