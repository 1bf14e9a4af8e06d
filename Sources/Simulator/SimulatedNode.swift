import LNetCore
import NodeCore
import Primitives
import WireFormat

/// A server's core, at one place for its whole life: it is large, and a copy of it counts a reference
/// for every queue and table that it has.
final class HeldServer {
    var node: ServerNode

    init(_ node: ServerNode) { self.node = node }

    /// Looks at the core where it is: a plain read of a property would copy all of it.
    func look<R>(_ body: (inout ServerNode) -> R) -> R { body(&node) }
}

/// A client's core, likewise.
final class HeldClient {
    var node: ClientNode

    init(_ node: ClientNode) { self.node = node }

    /// Looks at the core where it is.
    func look<R>(_ body: (inout ClientNode) -> R) -> R { body(&node) }
}

/// One machine: its process, its disk, its clock and the ends of its connections.
final class SimulatedNode {
    let address: UInt32
    var server: HeldServer?
    var client: HeldClient?
    var disk: SimulatedDisk?
    /// Grows with each restart: what was meant for an earlier life is void.
    var life = 0
    var links: [UInt64: SlotHandle] = [:]
    var wakeAt = Ticks.distantFuture
    /// The machine is gone, not only the process: nobody answers for it.
    var isDark = false
    var isPaused = false
    /// Its process ends in the middle of its next step.
    var fallsInNextStep = false
    /// What happened while it hung, in order.
    var backlog: [SimulatedCluster.Happening] = []
    /// The group that the disk works at.
    var committing: CommitGroupInHand?
    var clock = DriftingClock()
    /// Until when its link and its processor are taken, where that is modelled.
    var busySending = Ticks.zero
    var busyReceiving = Ticks.zero

    init(address: UInt32) { self.address = address }

    var isAlive: Bool { server != nil || client != nil }

    func end() {
        server = nil
        client = nil
        life += 1
        links = [:]
        wakeAt = .distantFuture
        isPaused = false
        fallsInNextStep = false
        backlog = []
        committing = nil
    }

    func withLNet<R>(_ body: (inout LNetCore) -> R) -> R? {
        if let server { return body(&server.node.lnet) }
        if let client { return body(&client.node.lnet) }
        return nil
    }

    /// When its process has to be stepped next.
    func dueNext() -> Ticks? {
        if let server { return server.look { $0.dueNext() } }
        return client?.look { $0.dueNext() }
    }
}

/// One end of a connection.
struct NodeEnd {
    var node: Int
    var key: UInt64
    /// Keys mean something only to the life of the node that gave them.
    var life: Int
}

/// A node's clock against the cluster's: an offset, and parts per million by which it runs fast.
struct DriftingClock {
    var offset: Int64 = 0
    var partsPerMillion: Int64 = 0
    /// Where the drift began, in the cluster's time.
    var since = Ticks.zero

    var isTrue: Bool { offset == 0 && partsPerMillion == 0 }

    /// What the node reads when the cluster's time is `time`.
    func local(_ time: Ticks) -> Ticks {
        if isTrue { return time }
        let passed = Int64(clamping: (time - since).nanoseconds)
        let drift =
            passed / 1_000_000 * partsPerMillion + passed % 1_000_000 * partsPerMillion / 1_000_000
        return Ticks(
            nanoseconds: UInt64(max(0, Int64(clamping: time.nanoseconds) + offset + drift)))
    }

    /// The earliest time of the cluster, from `now` on, at which the node reads `time` or more.
    func global(_ time: Ticks, now: Ticks) -> Ticks {
        if isTrue || time == .distantFuture { return time }
        let wait = (time - local(now)).nanoseconds
        if wait == 0 { return now }
        // A clock that runs fast gets there sooner; a microsecond covers the roundings.
        let scale = UInt64(clamping: 1_000_000 + partsPerMillion)
        let (whole, part) = (wait / scale, wait % scale)
        return now + TickInterval(nanoseconds: whole * 1_000_000 + part * 1_000_000 / scale + 1000)
    }
}
