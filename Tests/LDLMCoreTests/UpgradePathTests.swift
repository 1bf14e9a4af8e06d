import LDLMCore
import Primitives
import Testing
import WireFormat

@Suite struct AdmissionLockTests {
    private let admission = ResourceID.admission(1)

    @Test func `EX is granted exactly when every client has prepared, and newcomers queue`() {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(1)))
        var held: [SlotHandle] = []
        for index in 0..<UInt32(50) {
            let result = server.plain(client(index), .cr, 1, on: admission)
            #expect(result.outcome == .granted)
            held.append(result.lock)
        }
        server.suspendBlockingASTs(now: epoch)
        let ex = server.plain(.local, .ex, 0, on: admission)
        #expect(ex.outcome == .waiting)
        let notices = server.takeActions()
        #expect(notices.count == 50)
        #expect(notices.called.count == 50)
        #expect(server.nextDeadline == nil)

        // A newcomer is born prepared.
        #expect(server.plain(client(99), .cr, 1, on: admission).outcome == .waiting)
        for index in 0..<UInt32(50) {
            #expect(server.takeActions().isEmpty)
            #expect(server.holders(admission).count == Int(50 - index))
            server.cancel(held[Int(index)], owner: client(index), now: seconds(2))
            if index == 49 { #expect(server.takeActions() == [.granted(ex.lock)]) }
            let receipt = server.plain(client(index), .cr, 2, on: admission)
            #expect(receipt.outcome == .waiting)
        }
        server.tick(now: seconds(1000))
        #expect(server.takeActions().isEmpty)
        #expect(server.nextDeadline == nil)

        // Only an abort grants, and then everybody.
        server.cancel(ex.lock, owner: .local, now: seconds(3))
        let granted = server.takeActions()
        #expect(granted.count == 51)
        #expect(granted.completed.count == 51)
        #expect(server.waitingCount == 0)
    }

    @Test func `a client left behind loses its lock and EX is granted`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.plain(client(1), .cr, 1, on: admission)
        let ex = server.plain(.local, .ex, 0, on: admission)
        _ = server.takeActions()
        server.removeAll(client(1), now: epoch)
        #expect(server.takeActions() == [.granted(ex.lock)])
    }

    @Test func `admission is granted while others replay after a crash`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        server.beginRecovery()
        #expect(server.plain(client(1), .cr, 1, on: admission).outcome == .granted)
        #expect(server.plain(client(1), .pr, 2).outcome == .waiting)
    }
}

@Suite struct SuspensionTests {
    @Test func `while suspended conflicts just wait, timers stand still, and then it goes on`() {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(10)))
        _ = server.plain(client(1), .pr, 1, on: ResourceID(1))
        _ = server.plain(client(1), .pr, 2, on: ResourceID(2))
        let third = server.plain(client(1), .pr, 3, on: ResourceID(3))
        _ = server.plain(client(2), .ex, 11, on: ResourceID(1))
        #expect(server.takeActions().called == [1])
        #expect(server.nextDeadline == seconds(10))

        server.suspendBlockingASTs(now: seconds(4))
        #expect(server.plain(client(2), .ex, 12, on: ResourceID(2)).outcome == .waiting)
        let gone = server.plain(client(2), .ex, 13, on: ResourceID(3))
        #expect(gone.outcome == .waiting)
        #expect(server.takeActions().isEmpty)
        #expect(server.nextDeadline == nil)
        server.tick(now: seconds(500))
        #expect(server.takeActions().isEmpty)
        server.cancel(gone.lock, owner: client(2), now: seconds(500))

        server.resumeBlockingASTs(now: seconds(1004))
        #expect(server.takeActions().called == [2])
        #expect(server.info(third.lock)?.isCalledBack == false)
        #expect(server.nextDeadline == seconds(1010))
        server.tick(now: seconds(1010))
        #expect(server.takeActions().expired == [1])
        #expect(server.nextDeadline == seconds(1014))
        // A lock whose waiter had gone is called back by the next one.
        _ = server.plain(client(2), .ex, 14, on: ResourceID(3), now: seconds(1011))
        #expect(server.takeActions().called == [3])
    }

    @Test func `a lock granted while suspended is called back afterwards`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let first = server.plain(client(1), .ex, 1)
        _ = server.plain(client(2), .ex, 2)
        _ = server.plain(client(3), .ex, 3)
        _ = server.takeActions()
        server.suspendBlockingASTs(now: epoch)
        server.cancel(first.lock, owner: client(1), now: epoch)
        let actions = server.takeActions()
        #expect(actions.completed == [2])
        guard case .completionAST(_, _, _, _, let flags) = actions[0] else { return }
        #expect(flags == [])
        server.resumeBlockingASTs(now: epoch)
        #expect(server.takeActions().called == [2])
    }

    @Test func `after the seal nothing is granted, converted or cancelled`() {
        var server = LockServer(LockServerConfiguration(instance: 1))
        let held = server.plain(client(1), .pw, 1)
        let waiting = server.plain(client(2), .pr, 2)
        _ = server.takeActions()
        server.seal()
        #expect(server.plain(client(3), .pr, 3, on: ResourceID(7)).outcome == .sealed)
        #expect(server.plain(client(1), .pw, 1).outcome == .sealed)
        #expect(server.cancel(held.lock, owner: client(1), now: epoch) == .sealed)
        #expect(server.cancel(waiting.lock, owner: client(2), now: epoch) == .sealed)
        #expect(server.downgrade(held.lock, owner: client(1), to: .pr, now: epoch) == .sealed)
        #expect(server.removeAll(client(1), now: epoch) == false)
        server.tick(now: seconds(1_000_000))
        #expect(server.nextDeadline == nil)
        #expect(server.takeActions().isEmpty)
        #expect(server.count == 2)
        server.unseal()
        #expect(server.cancel(held.lock, owner: client(1), now: epoch) == .done(ResourceID(1)))
        #expect(server.takeActions().completed == [2])
    }
}

@Suite struct ReservationTests {
    /// A server after a clean restart that holds `reservations`, keys being client indices.
    private func restarted(_ reservations: [ReservedLock]) -> LockServer {
        var server = LockServer(LockServerConfiguration(instance: 1, callbackTimeout: .seconds(10)))
        for reservation in reservations {
            let owner = client(UInt32(reservation.ownerKey))
            #expect(server.install(reservation, owner: owner) == true)
        }
        return server
    }

    private func before() -> (LockServer, [ReservedLock]) {
        var server = LockServer(LockServerConfiguration(instance: 1))
        _ = server.range(client(1), .pw, 0, 99, 1, flags: .noExpansion)
        _ = server.range(client(2), .pw, 100, 199, 2)
        _ = server.plain(client(1), .pr, 3, on: ResourceID(2))
        _ = server.plain(client(2), .ex, 4, on: ResourceID(2))
        _ = server.plain(client(3), .cr, 5, on: .admission(1))
        _ = server.plain(.local, .pr, 0, on: ResourceID(3))
        return (server, server.reservations { UInt64($0.index) })
    }

    @Test func `the record holds what clients have granted, and no admission lock`() {
        let (_, reservations) = before()
        let pw = { ReservedLock(resource: ResourceID(1), mode: .pw, policy: $0, ownerKey: $1) }
        #expect(
            reservations == [
                pw(.extent(Extent(start: 0, end: 99)), 1),
                ReservedLock(resource: ResourceID(2), mode: .pr, policy: .plain, ownerKey: 1),
                pw(.extent(Extent(start: 100, end: .max)), 2),
            ])
    }

    @Test func `who conflicts waits without an AST until the owner has come and given back`() {
        let (_, reservations) = before()
        var server = restarted(reservations)
        #expect(server.reservedCount == 3)
        #expect(server.reservations { UInt64($0.index) } == reservations)
        #expect(server.plain(client(3), .ex, 9, on: ResourceID(2)).outcome == .waiting)
        #expect(server.takeActions().isEmpty)
        let replay = server.enqueueReplay(
            owner: client(1), resource: ResourceID(2), mode: .pr, policy: .plain,
            clientCookie: 3, isGranted: true, now: seconds(5))
        #expect(replay.outcome == .granted)
        #expect(replay.flags.contains(.astSent))
        #expect(server.takeActions().called == [3])
        #expect(server.nextDeadline == seconds(15))
        // Again: the same answer.
        let again = server.enqueueReplay(
            owner: client(1), resource: ResourceID(2), mode: .pr, policy: .plain,
            clientCookie: 3, isGranted: true, now: seconds(5))
        expectSameAnswer(again, as: replay)
        server.cancel(replay.lock, owner: client(1), now: seconds(6))
        #expect(server.takeActions().completed == [9])
        #expect(server.reservedCount == 2)
    }

    @Test func `an absent owner loses a wanted lock at the callback time, and only that one`() {
        let (_, reservations) = before()
        var server = restarted(reservations)
        #expect(server.nextDeadline == nil)
        _ = server.plain(client(3), .ex, 9, on: ResourceID(2), now: seconds(5))
        #expect(server.nextDeadline == seconds(15))
        server.tick(now: seconds(15))
        let actions = server.takeActions()
        #expect(actions.count == 2)
        guard case .reservationExpired(let owner, let lock) = actions[0] else {
            Issue.record("the reservation should have expired")
            return
        }
        #expect(owner == client(1))
        #expect(lock.resource.id == ResourceID(2))
        #expect(actions.completed == [9])
        #expect(server.reservedCount == 2)
        // It comes back and is told.
        let late = server.enqueueReplay(
            owner: client(1), resource: ResourceID(2), mode: .pr, policy: .plain,
            clientCookie: 3, isGranted: true, now: seconds(16))
        #expect(late.outcome == .refused(.notReserved))
    }

    @Test func `a grant that was lost on its way is claimed by who still waits for it`() {
        let (_, reservations) = before()
        var server = restarted(reservations)
        let replay = server.enqueueReplay(
            owner: client(2), resource: ResourceID(1), mode: .pw,
            policy: .extent(Extent(start: 100, end: 199)), clientCookie: 2, isGranted: false,
            now: epoch)
        #expect(replay.outcome == .granted)
        #expect(replay.policy.range == Extent(start: 100, end: .max))
        let waiting = server.enqueueReplay(
            owner: client(2), resource: ResourceID(2), mode: .ex, policy: .plain,
            clientCookie: 4, isGranted: false, now: epoch)
        #expect(waiting.outcome == .waiting)
        #expect(server.takeActions().isEmpty)
        // Client 1 will not come.
        #expect(server.releaseUnclaimed(client(1), now: epoch) == true)
        #expect(server.takeActions().completed == [4])
        #expect(server.reservedCount == 0)
        #expect(server.count(of: client(1)) == 0)
    }

    @Test func `a reserved cookie is nobody's to cancel, and a damaged record is refused`() {
        let (_, reservations) = before()
        var server = restarted(reservations)
        for info in server.locks(of: client(1)) {
            #expect(info.isReserved)
            #expect(server.cancel(info.handle, owner: client(1), now: epoch) == .notOwner)
        }
        #expect(server.install(reservations[0], owner: client(5)) == false)
        let bad = ReservedLock(
            resource: ResourceID(8), mode: .pr, policy: .extent(Extent(start: 2, end: 1)),
            ownerKey: 1)
        #expect(server.install(bad, owner: client(5)) == false)
    }

    @Test func `after a crash what clients hold is believed, and others wait until all have come`()
    {
        var server = LockServer(LockServerConfiguration(instance: 1))
        server.beginRecovery()
        let replay = { (server: inout LockServer, owner: UInt32, mode: LockMode, held: Bool) in
            server.enqueueReplay(
                owner: client(owner), resource: ResourceID(1), mode: mode, policy: .plain,
                clientCookie: UInt64(owner), isGranted: held, now: epoch
            ).outcome
        }
        #expect(replay(&server, 1, .pr, true) == .granted)
        #expect(replay(&server, 3, .ex, false) == .waiting)
        #expect(replay(&server, 2, .pr, true) == .granted)
        #expect(replay(&server, 4, .ex, true) == .refused(.conflictingReplay))
        #expect(server.plain(client(5), .pr, 5, on: ResourceID(2)).outcome == .waiting)
        #expect(server.takeActions().isEmpty)
        server.finishRecovery(now: epoch)
        let actions = server.takeActions()
        #expect(actions.called.sorted() == [1, 2])
        #expect(actions.completed == [5])
    }
}
