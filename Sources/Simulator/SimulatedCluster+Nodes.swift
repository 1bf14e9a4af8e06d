public import ClientCore
import LDLMCore
public import LNetCore
public import NodeCore
public import Primitives
public import StorageCore
public import WireFormat

extension SimulatedCluster {
    // MARK: Adding

    /// The LNet configuration of a node of this cluster: its seed is drawn, reconnects are quick.
    public func lnetConfiguration(_ nid: NID) -> LNetConfiguration {
        var configuration = LNetConfiguration(
            nid: nid, incarnation: now.nanoseconds + UInt64(nid.address),
            acceptPort:
                Self.acceptPort, privilegedPorts: false, seed: random.next())
        configuration.reconnectQuickly()
        configuration.peerCredits = 64
        return configuration
    }

    /// Adds a server on its own store and lets it serve, or leaves it a standby. A node of the
    /// same NID begins a new life.
    @discardableResult
    public func addServer(
        _ configuration: ServerConfiguration, store: MemoryStore, isStandby: Bool = false
    ) throws(StartRefusal) -> Int {
        let node = ServerNode(
            configuration, instance: Self.wallBase * 1000 + now.nanoseconds / 1_000_000)
        let index = place(configuration.lnet.nid)
        nodes[index].server = HeldServer(node)
        nodes[index].disk = disk(of: store)
        if !isStandby { try activate(index) }
        return index
    }

    /// Gives a standby its store.
    public func activate(_ index: Int) throws(StartRefusal) {
        guard let held = nodes[index].server, let disk = nodes[index].disk else {
            preconditionFailure("only a server with a store is activated")
        }
        let time = clock(of: index)
        let wall = Self.wall(at: time)
        // Out of the node while it starts: a start that fails leaves it as it was.
        var server = held.node
        try server.activate(disk, now: time, wall: wall)
        held.node = server
        settle(index)
    }

    /// Adds a client and lets it mount.
    @discardableResult
    public func addClient(_ configuration: ClientConfiguration, nid: NID) -> Int {
        let node = ClientNode(lnet: lnetConfiguration(nid), client: configuration)
        let index = place(nid)
        nodes[index].client = HeldClient(node)
        let time = clock(of: index)
        withClient(index) { $0.mount(now: time) }
        return index
    }

    /// The node of a NID, dead or alive; made where there is none yet.
    public func nodeIndex(of nid: NID) -> Int {
        if let known = byAddress[nid.address] { return known }
        nodes.append(SimulatedNode(address: nid.address))
        byAddress[nid.address] = nodes.count - 1
        return nodes.count - 1
    }

    /// The IPv4 address of a node, in host order.
    public func address(of index: Int) -> UInt32 { nodes[index].address }

    private func place(_ nid: NID) -> Int {
        let index = nodeIndex(of: nid)
        nodes[index].end()
        nodes[index].isDark = false
        return index
    }

    // MARK: Looking and changing

    /// A copy of a server to look at; nil where the node is none, or is dead.
    public func server(_ index: Int) -> ServerNode? { nodes[index].server?.node }

    /// A copy of a client to look at.
    public func client(_ index: Int) -> ClientNode? { nodes[index].client?.node }

    /// What a part of a server is, without a copy of the whole.
    public func peekServer<R>(_ index: Int, _ body: (borrowing ServerNode) -> R) -> R? {
        guard let held = nodes[index].server else { return nil }
        return held.look { body($0) }
    }

    /// What a part of a client is, without a copy of the whole.
    public func peekClient<R>(_ index: Int, _ body: (borrowing ClientNode) -> R) -> R? {
        guard let held = nodes[index].client else { return nil }
        return held.look { body($0) }
    }

    /// From now on `takeLockChange` tells of a client's locks: see `ClientCore.observeLocks`.
    func observeLocks(of index: Int) { nodes[index].client?.node.observeLocks() }

    /// The next lock of which what a client holds has changed: see `ClientCore.nextLockChange`.
    func takeLockChange(_ index: Int) -> (target: Int, lock: SlotHandle, ClientLockInfo?)? {
        nodes[index].client?.node.nextLockChange()
    }

    /// Changes a server, then lets it do what is due.
    public func withServer<R>(_ index: Int, _ body: (inout ServerNode) -> R) -> R? {
        guard let held = nodes[index].server else { return nil }
        let result = body(&held.node)
        settle(index)
        return result
    }

    /// Changes a client, then lets it do what is due.
    @discardableResult
    public func withClient<R>(_ index: Int, _ body: (inout ClientNode) -> R) -> R? {
        guard let held = nodes[index].client else { return nil }
        let result = body(&held.node)
        settle(index)
        return result
    }

    /// The node's own monotonic clock. The cluster's, unless `setClock` made it another.
    public func clock(of index: Int) -> Ticks { nodes[index].clock.local(now) }

    /// The node's own time of day.
    public func wall(of index: Int) -> Timestamp { Self.wall(at: clock(of: index)) }

    /// Lets a node's clock run fast or slow from now on, by so many parts per million (below a
    /// million in size). It goes on from what it reads now.
    public func setClock(of index: Int, partsPerMillion: Int64) {
        precondition(abs(partsPerMillion) < 1_000_000, "a clock does not stand still")
        let reading = clock(of: index)
        nodes[index].clock = DriftingClock(
            offset: Int64(clamping: reading.nanoseconds) - Int64(clamping: now.nanoseconds),
            partsPerMillion: partsPerMillion, since: now)
        // Timers stand by the old clock: look at once.
        if nodes[index].isAlive {
            nodes[index].wakeAt = now
            schedule(.wake(node: index, life: nodes[index].life), at: now)
        }
    }

    // MARK: Dying, hanging

    /// The process is gone in this instant, with everything that was not committed. Its peers are
    /// told by resets; of a machine that is gone with it (`isSilent`) nobody hears anything.
    ///
    /// What becomes of a group on its way to the disk is chance: nothing of it is there, all of it,
    /// or torn (see `SimulatedDisk`).
    public func kill(_ index: Int, isSilent: Bool = false) {
        let node = nodes[index]
        guard node.isAlive else { return }
        counters.kills += 1
        let keys = node.links.keys.sorted()
        if isSilent {
            node.isDark = true
        } else {
            for key in keys { disconnect(end(index, key)) }
        }
        if let group = node.committing?.group, let disk = node.disk { crash(disk, group) }
        node.end()
    }

    /// The server's process ends in the middle of its next step: what that step changed is lost with
    /// it, and nothing that it was about to send or commit leaves it.
    public func crashInNextStep(_ index: Int) { nodes[index].fallsInNextStep = true }

    /// The process ends in order, after `ServerAction.stop`: as the production shell does, it first
    /// waits for what it has handed to the disk.
    public func stop(_ index: Int) {
        if let hand = nodes[index].committing, let disk = nodes[index].disk {
            disk.contents.commit(hand.group)
            nodes[index].committing = nil
        }
        for key in nodes[index].links.keys.sorted() { disconnect(end(index, key)) }
        nodes[index].end()
    }

    /// The node does nothing from now on, and answers nothing; its connections stand. What
    /// arrives waits for `resume`.
    public func pause(_ index: Int) {
        guard nodes[index].isAlive, !nodes[index].isPaused else { return }
        counters.pauses += 1
        nodes[index].isPaused = true
    }

    /// A node that hung goes on, with everything that has arrived meanwhile at once.
    public func resume(_ index: Int) {
        let node = nodes[index]
        guard node.isPaused else { return }
        node.isPaused = false
        let backlog = node.backlog
        node.backlog = []
        for happening in backlog { schedule(happening, at: now) }
        settle(index)
    }

    /// Hangs for so long.
    public func pause(_ index: Int, for interval: TickInterval) {
        guard nodes[index].isAlive else { return }
        pause(index)
        let life = nodes[index].life
        at(now + interval) { if $0.nodes[index].life == life { $0.resume(index) } }
    }

    public func isPaused(_ index: Int) -> Bool { nodes[index].isPaused }

    // MARK: Letting it work

    /// Lets a node do what is due and carries out what it wants.
    func settle(_ index: Int) {
        let node = nodes[index]
        guard !node.isPaused else { return }
        let time = node.clock.local(now)
        let wall = Self.wall(at: time)
        if let held = node.server {
            held.node.step(now: time, wall: wall)
            if node.fallsInNextStep
                || options.crashMidStepOneIn > 0 && random.oneIn(options.crashMidStepOneIn)
            {
                counters.midStepCrashes += 1
                return fall(index)
            }
            carryOut(index)
            let life = node.life
            while node.life == life, let action = held.node.actions.popFirst() {
                if case .commit(let group) = action { startCommit(index, group) }
                onServer(index, action)
            }
            onSettled?(index)
        } else if let held = node.client {
            held.node.step(now: time, wall: wall)
            carryOut(index)
            let life = node.life
            while node.life == life, let event = held.node.nextEvent() {
                onClient(index, event)
            }
            if node.life == life { onSettled?(index) }
        } else {
            return
        }
        guard let due = node.dueNext() else { return }
        let deadline = node.clock.global(due, now: now)
        if deadline < node.wakeAt {
            node.wakeAt = max(deadline, now + .microseconds(1))
            schedule(.wake(node: index, life: node.life), at: node.wakeAt)
        }
    }

    /// Lets a node come to what it has received with what happens there next.
    func settleSoon(_ index: Int) {
        let node = nodes[index]
        let at = now + between(.microseconds(1), options.batchMax)
        guard at < node.wakeAt else { return }
        node.wakeAt = at
        schedule(.wake(node: index, life: node.life), at: at)
    }

    /// Dies in the middle of a step: nothing that it wanted done is done. `onDeath` hears of it.
    private func fall(_ index: Int) {
        kill(index)
        onServer(index, .log(.fault("the process ended in the middle of a step")))
        onDeath(index)
    }
}
