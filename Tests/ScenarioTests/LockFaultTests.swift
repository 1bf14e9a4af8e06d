import ClientCore
import NodeCore
import Primitives
import Simulator
import Testing
import WireFormat

/// What no honest client says about locks is refused with the protocol's error, changes nothing,
/// and is counted.
@Suite struct LockFaultTests {
    private static let object = ResourceID(0x1_0001_0000, 1)

    private func status(
        _ cluster: Scenario, _ client: Int, _ body: RequestBody, at place: Int = 1
    ) -> Status? {
        let cookie = cluster.submit(cluster.clients[client], .raw(target: place, body))
        return cluster.outcome(client, cookie)?.lockStatus
    }

    private func enqueue(
        _ mode: LockMode?, _ policy: LockPolicy, flags: LockFlags = [], cancelling: [UInt64] = []
    ) -> RequestBody {
        var descriptor = LockDescriptor(
            resource: Self.object, requestedMode: mode ?? .pr, policy: policy)
        if mode == nil { descriptor.requestedMode = nil }
        return .enqueue(
            EnqueueRequest(
                request: .enqueue(
                    cookie: 0xABCD, flags: flags, descriptor: descriptor, cancelling: cancelling)))
    }

    @Test func `another client's locks are not a stranger's to cancel, convert or give early`()
        throws
    {
        let (cluster, files) = try Scenario.shared(401) { $0.writebackDelay = .seconds(300) }
        try cluster.write(0, files[0], 1)
        let before = cluster.lockCount(1)
        let instance = cluster.simulator.server(cluster.servers[1])?.instance ?? 0
        // Every cookie that the server can have given for its first locks.
        var cookies: [UInt64] = []
        for place in UInt64(0)..<8 {
            for generation in UInt64(0)..<4 {
                cookies.append((2 * generation + 1) << 32 | (instance & 0xFF) << 24 | place)
            }
        }
        let cancel = status(cluster, 1, .cancel(.cancel(cookies: cookies)))
        let faults = cluster.simulator.server(cluster.servers[1])?.lockFaults ?? 0
        #expect(faults > 0)
        #expect(cancel != nil)
        for cookie in cookies {
            let descriptor = LockDescriptor(
                resource: Self.object, requestedMode: .nl, grantedMode: .nl,
                policy: .extent(.whole))
            let answer = status(
                cluster, 1, .convert(.convert(cookie: cookie, descriptor: descriptor)))
            #expect(answer == .stale || answer == .protocolError || answer == .ok)
        }
        _ = status(
            cluster, 1,
            enqueue(.nl, .extent(Extent(start: 1, end: 2)), cancelling: Array(cookies.prefix(20))))
        // The first client's lock and what it wrote under it are untouched.
        #expect(cluster.lockCount(1) >= before - 1)
        #expect(try cluster.read(cluster.clients[0], files[0], 0, 1) == [1])
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 1) == [1])
        #expect(cluster.evictions(1) == 0)
    }

    @Test func `cookies that were never given name nothing`() throws {
        let (cluster, _) = try Scenario.shared(402, clients: 1)
        let before = cluster.lockCount(1)
        for cookie: UInt64 in [0, 1, 1 << 32, .max, 0xDEAD_BEEF_0000_0001] {
            #expect(status(cluster, 0, .cancel(.cancel(cookie: cookie))) == .stale)
        }
        #expect(cluster.lockCount(1) == before)
        let counters = cluster.simulator.server(cluster.servers[1])?.lockFaults
        #expect(counters == 0)
        // Harmless, and seen by an operator all the same.
        let asked = cluster.submit(
            cluster.clients[0], .raw(target: 1, .targetShow(TargetShowRequest())))
        guard case .success(.reply(.target(let account)))? = cluster.outcome(0, asked) else {
            Issue.record("no account of the target")
            return
        }
        #expect(account[.unknownLockCookies] == 5)
        #expect(account[.foreignLockCookies] == 0)
        #expect(account.clients.contains { !$0.flags.contains(.observer) })
    }

    @Test func `a size that cannot be read is no size of 0`() throws {
        let (cluster, files) = try Scenario.shared(404, clients: 2)
        try cluster.write(0, files[0], 7)
        let disk = try #require(cluster.simulator.disk(cluster.servers[1]))
        // The reader's lock waits for the writer's.
        let reading = cluster.submit(
            cluster.clients[1], .read(files[1], offset: 0, byteCount: 1))
        cluster.simulator.onNext(.request(.ldlmCancel), to: cluster.servers[1]) { _ in
            disk.readsBeforeDamage = 0
        }
        #expect(cluster.outcome(1, reading)?.lockStatus == .ioError)
        #expect(disk.damageCount == 1)
        #expect(try cluster.read(cluster.clients[1], files[1], 0, 1) == [7])
        #expect(cluster.evictions(1) == 0)
    }

    @Test func `absurd modes, ranges and flags are refused`() throws {
        let (cluster, _) = try Scenario.shared(403, clients: 1)
        let before = cluster.lockCount(1)
        let backwards = LockPolicy.extent(Extent(start: 9, end: 8))
        #expect(status(cluster, 0, enqueue(.pr, backwards)) == .invalid)
        #expect(status(cluster, 0, enqueue(nil, .extent(.whole))) == .protocolError)
        #expect(
            status(cluster, 0, enqueue(.cr, .flock(.whole, owner: 1, pid: 1))) == .invalid)
        #expect(status(cluster, 0, enqueue(.pr, .bits([]))) == .invalid)
        for flag: LockFlags in [.astSent, .flockDeadlock, .noTimeout, .lockChanged, .discardData] {
            let answer = status(cluster, 0, enqueue(.pr, .extent(.whole), flags: flag))
            #expect(answer == .protocolError, "\(flag)")
        }
        #expect(cluster.lockCount(1) == before)
        #expect(cluster.simulator.server(cluster.servers[1])?.lockFaults == 6)
        #expect(cluster.evictions(1) == 0)
    }
}
