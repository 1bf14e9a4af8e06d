import LNetCore
import Primitives
import VerbsTransport
import WireFormat

/// The nodes of a reactor that something happened to since they were stepped last.
///
/// A node is stepped once per turn of the loop, however many messages came in for it: that is where
/// batching comes from.
struct DirtyNodes {
    private var flags: [Bool]
    private(set) var list: [Int] = []
    private var spare: [Int] = []

    init(nodeCount: Int) { flags = Array(repeating: false, count: nodeCount) }

    var isEmpty: Bool { list.isEmpty }

    mutating func mark(_ node: Int) {
        guard !flags[node] else { return }
        flags[node] = true
        list.append(node)
    }

    /// Takes the marked nodes; those marked from here on wait for the next turn. Give `batch` back
    /// with `recycle`, so that both lists keep their memory.
    mutating func take() -> [Int] {
        var batch: [Int] = []
        swap(&batch, &spare)
        swap(&batch, &list)
        for node in batch { flags[node] = false }
        return batch
    }

    mutating func recycle(_ batch: consuming [Int]) {
        batch.removeAll(keepingCapacity: true)
        spare = batch
    }
}

/// The instant of a turn, on both clocks.
struct Moment {
    var now: Ticks
    /// The time of day, read when it is asked for: most turns need none.
    var wall: Timestamp { .now }
}

/// What a reactor drives: one server, or many clients, each with an LNet of its own.
protocol NodeSet: ~Copyable {
    var nodeCount: Int { get }

    /// The node's LNet, changed in place.
    subscript(lnet node: Int) -> LNetCore { get set }

    /// Takes what other threads sent, and does what is due for the set as a whole; once per turn,
    /// before nodes are stepped.
    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes)

    /// Does everything that is due for one node and passes on what it wants, except LNet's actions.
    mutating func step(_ node: Int, _ moment: Moment, _ dirty: inout DirtyNodes)

    /// Tells other threads what came of the turn; after the nodes' output went out.
    ///
    /// - Parameter isFlushed: no output waits for room in the kernel.
    mutating func conclude(_ moment: Moment, isFlushed: Bool)

    /// When the node must be stepped next; nil while nothing happens by itself.
    mutating func nextDeadline(_ node: Int) -> Ticks?

    /// LNet has told the node something that it has not taken yet.
    func hasEvents(_ node: Int) -> Bool

    /// When `attend` is needed next, beside mail.
    var nextAttendance: Ticks { get }

    /// What to do about the sockets; asked once per turn.
    var wish: ReactorWish { get }

    /// Whether every connection shall break now, as a fault of the network would break it: queue
    /// pairs and sockets. Asked once per turn, and true once per fault.
    mutating func takeFault() -> Bool

    /// How RDMA is used, where it is.
    var verbsOptions: VerbsTransport.Options { get }
}

extension NodeSet where Self: ~Copyable {
    mutating func takeFault() -> Bool { false }
    var verbsOptions: VerbsTransport.Options { VerbsTransport.Options() }
}

/// What a set of nodes wants of its sockets.
enum ReactorWish {
    case run
    /// Take no new connections and send what is left; the set ends the loop itself.
    case drain
}
