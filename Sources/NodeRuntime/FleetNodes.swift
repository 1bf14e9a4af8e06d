import ClientCore
import EventLoop
import LNetCore
import NodeCore
import Primitives
import WireFormat

/// Many clients, as a reactor drives them.
struct FleetNodes: ~Copyable, NodeSet {
    private var nodes: [ClientNode]
    private let options: ClientFleet.Options
    private let mail: Mailbox<FleetMail>
    private let completions: FleetCompletions
    private let loop: EventLoop
    private var batch: [FleetMail] = []
    /// Which operation of its node a submitter's handle became; by the handle's index.
    private var running: [Running] = []
    private var finished: [(SlotHandle, Result<FileResult, OperationError>)] = []
    private var unmounts: [[@Sendable () -> Void]]
    private var commands = FleetCommands()
    /// What the driver submitted last, by node.
    private var driven: [SlotHandle]
    private var hasFault = false

    private struct Running: BitwiseCopyable {
        var handle: SlotHandle
        var node: Int
        var operation: SlotHandle
    }

    init(
        _ nodes: [ClientNode], options: ClientFleet.Options, mail: Mailbox<FleetMail>,
        completions: FleetCompletions, loop: EventLoop
    ) {
        self.nodes = nodes
        self.options = options
        self.mail = mail
        self.completions = completions
        self.loop = loop
        unmounts = Array(repeating: [], count: nodes.count)
        driven = Array(repeating: SlotHandle(index: 0, generation: 0), count: nodes.count)
    }

    mutating func begin(_ moment: Moment, _ dirty: inout DirtyNodes) {
        options.driver?.started(nodeCount: nodes.count, now: moment.now, &commands)
        carryOut(moment, &dirty)
    }

    /// ESHUTDOWN.
    static let shutdownErrno: Int32 = 108

    /// The end of the loop: whoever waits is told so.
    mutating func end() {
        completions.deliver(finished)
        finished.removeAll()
        completions.close(.shutdown)
        // From here on nothing is posted that somebody waits for.
        if mail.drain(into: &batch) {
            for item in batch {
                switch item {
                case .unmount(let node, let completion): unmounts[node].append(completion)
                case .mount, .mountAll, .submit, .cancel, .inspect, .inspectAll,
                    .breakConnections, .network, .stop:
                    break
                }
            }
            batch.removeAll()
        }
        for node in nodes.indices {
            for unmount in unmounts[node] { unmount() }
            unmounts[node].removeAll()
        }
    }

    // MARK: NodeSet

    var nodeCount: Int { nodes.count }

    subscript(lnet node: Int) -> LNetCore {
        get { nodes[node].lnet }
        _modify { yield &nodes[node].lnet }
    }

    var wish: ReactorWish { .run }

    mutating func takeFault() -> Bool {
        defer { hasFault = false }
        return hasFault
    }

    var nextAttendance: Ticks { commands.nextTimer }

    mutating func nextDeadline(_ node: Int) -> Ticks? { nodes[node].dueNext() }

    func hasEvents(_ node: Int) -> Bool { !nodes[node].lnet.events.isEmpty }

    mutating func attend(_ moment: Moment, _ dirty: inout DirtyNodes) {
        if mail.drain(into: &batch) {
            // Taken out for the time of the loop, which changes the rest of the set.
            var items: [FleetMail] = []
            swap(&items, &batch)
            for item in items { take(item, moment, &dirty) }
            items.removeAll(keepingCapacity: true)
            swap(&items, &batch)
        }
        if let driver = options.driver, commands.nextTimer <= moment.now {
            commands.nextTimer = .distantFuture
            driver.timerFired(now: moment.now, &commands)
            carryOut(moment, &dirty)
        }
    }

    private mutating func take(_ item: FleetMail, _ moment: Moment, _ dirty: inout DirtyNodes) {
        switch item {
        case .mount(let node):
            nodes[node].mount(now: moment.now)
            dirty.mark(node)
        case .mountAll:
            for node in nodes.indices {
                nodes[node].mount(now: moment.now)
                dirty.mark(node)
            }
        case .unmount(let node, let completion):
            unmounts[node].append(completion)
            nodes[node].unmount(now: moment.now)
            dirty.mark(node)
        case .submit(let node, let operation, let handle):
            let place = nodes[node].submit(
                operation, cookie: handle.rawValue, wall: moment.wall, now: moment.now)
            note(Running(handle: handle, node: node, operation: place))
            dirty.mark(node)
        case .cancel(let handle):
            let index = Int(handle.index)
            guard index < running.count, running[index].handle == handle else { return }
            let node = running[index].node
            nodes[node].cancel(running[index].operation, now: moment.now)
            dirty.mark(node)
        case .inspect(let node, let body):
            body(nodes[node].core)
        case .inspectAll(let body):
            body(nodes, moment.now)
        case .breakConnections:
            hasFault = true
        case .network(let node, let body):
            body(&nodes[node].lnet, moment.now)
            dirty.mark(node)
        case .stop:
            loop.stop()
        }
    }

    private mutating func note(_ entry: Running) {
        while running.count <= Int(entry.handle.index) {
            let none = SlotHandle(index: 0, generation: 0)
            running.append(Running(handle: none, node: 0, operation: none))
        }
        running[Int(entry.handle.index)] = entry
    }

    mutating func step(_ node: Int, _ moment: Moment, _ dirty: inout DirtyNodes) {
        nodes[node].step(now: moment.now, wall: moment.wall)
        while let event = nodes[node].nextEvent() { pass(event, of: node, moment) }
        // What the driver asks of this node goes out with the rest of its output.
        carryOut(moment, &dirty)
    }

    private mutating func pass(_ event: ClientEvent, of node: Int, _ moment: Moment) {
        switch event {
        case .completed(let cookie, let result):
            if cookie & FleetCommands.driverBit != 0 {
                options.driver?.completed(
                    node: node, cookie: cookie & ~FleetCommands.driverBit, result,
                    now: moment.now, &commands)
            } else {
                finished.append((SlotHandle(rawValue: cookie), result))
            }
            return
        case .unmounted:
            let waiting = unmounts[node]
            unmounts[node].removeAll()
            for completion in waiting { completion() }
        case .acknowledged, .stamp, .connected, .disconnected, .evicted, .writeLost, .updateLost,
            .refused:
            break
        }
        options.driver?.event(node: node, event, now: moment.now, &commands)
        options.onEvent?(node, event, moment.now)
    }

    /// Does what the driver asked for. Nodes that it touches are stepped in the next turn.
    private mutating func carryOut(_ moment: Moment, _ dirty: inout DirtyNodes) {
        guard !commands.commands.isEmpty else { return }
        for index in commands.commands.indices {
            switch commands.commands[index] {
            case .submit(let node, let operation, let cookie):
                driven[node] = nodes[node].submit(
                    operation, cookie: cookie | FleetCommands.driverBit, wall: moment.wall,
                    now: moment.now)
                dirty.mark(node)
            case .cancel(let node):
                nodes[node].cancel(driven[node], now: moment.now)
                dirty.mark(node)
            case .mount(let node):
                nodes[node].mount(now: moment.now)
                dirty.mark(node)
            case .unmount(let node):
                nodes[node].unmount(now: moment.now)
                dirty.mark(node)
            }
        }
        commands.commands.removeAll(keepingCapacity: true)
    }

    mutating func conclude(_ moment: Moment, isFlushed: Bool) {
        guard !finished.isEmpty else { return }
        completions.deliver(finished)
        finished.removeAll(keepingCapacity: true)
    }
}

extension ReactorCore<FleetNodes> {
    /// Lets the driver begin; before the loop's first turn.
    mutating func begin(_ moment: Moment) { nodes.begin(moment, &dirty) }
}
