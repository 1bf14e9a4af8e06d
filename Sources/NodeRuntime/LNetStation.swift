import EventLoop
package import LNetCore
package import Primitives
import VerbsTransport
import WireFormat

/// What uses a bare LNet node. Called on the loop's thread only.
package protocol LNetUser: AnyObject, Sendable {
    /// The loop begins to run.
    func began(_ lnet: inout LNetCore, now: Ticks)
    /// LNet tells something. Payload ranges are void after the next call that passes bytes in.
    func heard(_ event: LNetEvent, _ lnet: inout LNetCore, now: Ticks)
    /// Asked once per turn of the loop, which ends when it is true.
    var isDone: Bool { get }
}

/// One node with LNet and nothing above it, on a loop of its own: what the network's benchmarks
/// are made of. The loop, the transports and LNet are those of servers and clients.
@safe
package final class LNetStation: @unchecked Sendable {
    // Belongs to the thread that makes it and then to the one inside `run`.
    private let loop: EventLoop
    private var reactor: Reactor<StationNodes>

    /// Makes the node. Its incarnation is set to the time of day.
    ///
    /// - Parameters:
    ///   - spin: how long the loop polls after the last useful event before it sleeps.
    ///   - cpu: the processor that the loop's thread is pinned to.
    ///   - limit: the loop ends by itself after this long.
    package init(
        _ configuration: LNetConfiguration, user: any LNetUser, spin: TickInterval = .zero,
        cpu: Int? = nil, limit: TickInterval
    ) throws(RuntimeError) {
        SignalWatch.ignorePipe()
        var configuration = configuration
        configuration.incarnation = Host.realtimeNanoseconds
        for nid in [configuration.nid] + configuration.otherNIDs {
            guard nid.isServable else { throw .notServable(nid) }
        }
        do {
            loop = try EventLoop(spin: spin, cpu: cpu)
        } catch {
            throw .system(error)
        }
        reactor = try Reactor(
            StationNodes(
                lnet: LNetCore(configuration), user: user, loop: loop,
                endsAt: Host.monotonicNow + limit), on: loop)
    }

    /// Listens on the node's own addresses.
    package func listen() throws(RuntimeError) { try reactor.listen(0) }

    /// Runs on the calling thread until the user is done. False when the limit was reached before.
    package func run() throws(RuntimeError) -> Bool {
        reactor.core.nodes.begin()
        defer { reactor.close(on: loop) }
        do {
            try loop.run(&reactor)
        } catch {
            throw .system(error)
        }
        return reactor.core.nodes.user.isDone
    }
}

private struct StationNodes: ~Copyable, NodeSet {
    var lnet: LNetCore
    let user: any LNetUser
    let loop: EventLoop
    let endsAt: Ticks

    init(lnet: LNetCore, user: any LNetUser, loop: EventLoop, endsAt: Ticks) {
        self.lnet = lnet
        self.user = user
        self.loop = loop
        self.endsAt = endsAt
    }

    mutating func begin() { user.began(&lnet, now: Host.monotonicNow) }

    var nodeCount: Int { 1 }
    subscript(lnet node: Int) -> LNetCore {
        get { lnet }
        _modify { yield &lnet }
    }
    var wish: ReactorWish { .run }
    var nextAttendance: Ticks { endsAt }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {
        if moment.now >= endsAt { loop.stop() }
    }

    mutating func step(_ node: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        lnet.tick(moment.now)
        while let event = lnet.events.popFirst() {
            user.heard(event, &lnet, now: moment.now)
        }
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {
        if user.isDone, isFlushed { loop.stop() }
    }

    func nextDeadline(_ node: Int) -> Ticks? { lnet.nextDeadline }
    func hasEvents(_ node: Int) -> Bool { !lnet.events.isEmpty }
}
