import LNetCore
import Primitives
import WireFormat

/// Connections and what goes over them.
extension SimulatedCluster {
    func end(_ node: Int, _ key: UInt64) -> NodeEnd {
        NodeEnd(node: node, key: key, life: nodes[node].life)
    }

    func isCurrent(_ end: NodeEnd) -> Bool { nodes[end.node].life == end.life }

    // MARK: Connecting

    /// A SYN goes out; what is lost is sent again after 1, 2, 4, 8 and 16 s, as TCP does. That
    /// belongs to the machine: a process that hangs does not keep it.
    func sendConnect(_ link: SlotHandle, to: UInt32, from: UInt32, tries: Int) {
        guard let ends = network.links[link], let origin = ends.a, isCurrent(origin) else {
            network.links.remove(link)
            return
        }
        let isLost =
            network.style(ends.nodeA, ends.nodeB) == .silent
            || byAddress[to].map { nodes[$0].isDark } ?? false
        if isLost {
            counters.swallowed += 1
            guard tries < 5 else { return }
            schedule(
                .connectRepeats(link: link, to: to, from: from, tries: tries + 1),
                at: now + .seconds(1 << UInt64(tries)))
        } else {
            send(
                .connectArrives(link: link, to: to, from: from, tries: tries), from: ends.nodeA,
                to: ends.nodeB)
        }
    }

    func connectArrives(_ link: SlotHandle, to: UInt32, from: UInt32, tries: Int) {
        guard let origin = network.links[link]?.a, isCurrent(origin) else {
            network.links.remove(link)
            return
        }
        guard let node = byAddress[to] else { return refuse(link, origin) }
        // The machine went down while it was on its way.
        if nodes[node].isDark { return sendConnect(link, to: to, from: from, tries: tries) }
        guard nodes[node].isAlive else { return refuse(link, origin) }
        if options.refuseOneIn > 0, random.oneIn(options.refuseOneIn) {
            counters.connectsRefused += 1
            return refuse(link, origin)
        }
        portCounter = portCounter &+ 1 | 1024
        let port = portCounter
        note(1, node, UInt64(from))
        let time = clock(of: node)
        let key = nodes[node].withLNet {
            $0.accepted(remoteAddress: from, remotePort: port, now: time)
        }
        guard let key else { return }
        let taken = end(node, key)
        network.links.update(link) { $0.b = taken }
        nodes[node].links[key] = link
        send(.established(link: link), from: node, to: origin.node)
        settle(node)
    }

    private func refuse(_ link: SlotHandle, _ origin: NodeEnd) {
        let node = network.links[link]?.nodeB ?? origin.node
        network.links.remove(link)
        send(.refused(origin), from: node, to: origin.node)
    }

    func established(_ link: SlotHandle) {
        guard let ends = network.links[link], !ends.isReset, let origin = ends.a, isCurrent(origin)
        else { return }
        note(2, origin.node, origin.key)
        let time = clock(of: origin.node)
        nodes[origin.node].withLNet { $0.established(origin.key, now: time) }
        settle(origin.node)
    }

    func refused(_ end: NodeEnd) {
        guard isCurrent(end) else { return }
        note(3, end.node, end.key)
        nodes[end.node].links[end.key] = nil
        let time = clock(of: end.node)
        nodes[end.node].withLNet { $0.closed(end.key, errno: 111, now: time) }
        settle(end.node)
    }

    // MARK: On the way

    /// Sends what is no LNet message (a connect, its answer, a close), as the way is.
    private func send(
        _ happening: Happening, from: Int, to: Int, notBefore: Ticks = .zero
    ) {
        switch network.style(from, to) {
        case .silent?:
            counters.swallowed += 1
        case .held?:
            counters.held += 1
            network.held.append((SimulatedNetwork.Way(from: from, to: to), happening))
        case nil:
            schedule(happening, at: max(now + latency(), notBefore, clogEnd(from, to)))
        }
    }

    private func clogEnd(_ from: Int, _ to: Int) -> Ticks {
        guard !network.clogs.isEmpty else { return .zero }
        let way = SimulatedNetwork.Way(from: from, to: to)
        guard let end = network.clogs[way] else { return .zero }
        if end <= now { network.clogs[way] = nil } else { counters.held += 1 }
        return end
    }

    /// Carries out what a node wants of its connections.
    func carryOut(_ index: Int) {
        let node = nodes[index]
        while let action = node.withLNet({ $0.actions.popFirst() }) ?? nil {
            switch action {
            case .o2ib:
                // The simulated network is a TCP one.
                break
            case .pause, .resume, .listen, .unlisten:
                // These nodes are no routers and keep their interfaces.
                break
            case .connect(let key, let from, let to, _, _):
                let (from, to) = (from.v4, to.v4)
                let other = byAddress[to] ?? index
                let link = network.links.insert(
                    SimulatedNetwork.Link(a: end(index, key), nodeA: index, nodeB: other))
                node.links[key] = link
                sendConnect(link, to: to, from: from, tries: 0)
            case .close(let key):
                disconnect(end(index, key))
            case .flush(let key):
                flush(index, key)
            }
        }
    }

    private func flush(_ index: Int, _ key: UInt64) {
        var bytes: [UInt8] = []
        nodes[index].withLNet { lnet in
            _ = lnet.withOutput(key) { span in
                bytes.append(span)
                return span.byteCount
            }
        }
        guard !bytes.isEmpty, let handle = nodes[index].links[key],
            let link = network.links[handle]
        else { return }
        let toA = !(link.a?.node == index && link.a?.key == key)
        let other = toA ? link.nodeA : link.nodeB
        guard readsStreams else {
            tell(.sending, bytes, from: index, to: other)
            return send(bytes, nil, on: handle, toA: toA, from: index, to: other)
        }
        // A flush takes all there is: whole messages.
        var offset = 0
        while offset < bytes.count {
            let message = parse(bytes, at: offset, from: index, to: other)
            let part = Array(bytes[offset..<(offset + message.byteCount)])
            offset += message.byteCount
            send(part, message, on: handle, toA: toA)
            // A rule may have ended the sender, or its connection.
            guard nodes[index].links[key] == handle else { return }
        }
    }

    /// Whether single messages go their own ways. Who only listens changes nothing.
    private var readsStreams: Bool { !network.rules.isEmpty || options.touchesMessages }

    private func parse(
        _ bytes: [UInt8], at offset: Int, from: Int, to: Int
    ) -> SimulatedMessage {
        let message = RawSpan.over(bytes) {
            SimulatedMessage(parsing: $0.extracting(offset...), from: from, to: to)
        }
        guard let message else {
            preconditionFailure("a flush begins and ends with a message")
        }
        return message
    }

    /// Tells a listener of every message in a run of bytes.
    private func tell(_ moment: MessageMoment, _ bytes: [UInt8], from: Int, to: Int) {
        guard let onMessage else { return }
        var offset = 0
        while offset < bytes.count {
            let message = parse(bytes, at: offset, from: from, to: to)
            offset += message.byteCount
            onMessage(moment, message)
        }
    }

    private func send(
        _ bytes: [UInt8], _ message: SimulatedMessage, on handle: SlotHandle, toA: Bool
    ) {
        let (from, to) = (message.from, message.to)
        onMessage?(.sending, message)
        if case .handshake = message.kind {
            return send(bytes, message, on: handle, toA: toA, from: from, to: to)
        }
        switch fate(message, at: .sending) {
        case .drop?:
            counters.messagesLost += 1
            onMessage?(.lost, message)
            return
        case .duplicate(let interval)?:
            counters.messagesDuplicated += 1
            schedule(
                .bytes(link: handle, toA: toA, bytes, message), at: now + latency() + interval)
        case .delay(let interval)?:
            counters.messagesDelayed += 1
            schedule(
                .bytes(link: handle, toA: toA, bytes, message), at: now + latency() + interval)
            return
        case .reset?:
            counters.resets += 1
            onMessage?(.lost, message)
            return reset(handle)
        case .run(let body)?:
            body(self)
        case nil:
            if options.messageLossOneIn > 0, random.oneIn(options.messageLossOneIn) {
                counters.messagesLost += 1
                onMessage?(.lost, message)
                return
            }
            if options.messageDuplicateOneIn > 0, random.oneIn(options.messageDuplicateOneIn) {
                counters.messagesDuplicated += 1
                schedule(
                    .bytes(link: handle, toA: toA, bytes, message),
                    at: now + latency() + between(.zero, options.messageDelayMax))
            }
            if options.messageDelayOneIn > 0, random.oneIn(options.messageDelayOneIn) {
                counters.messagesDelayed += 1
                schedule(
                    .bytes(link: handle, toA: toA, bytes, message),
                    at: now + latency() + between(.zero, options.messageDelayMax))
                return
            }
        }
        send(bytes, message, on: handle, toA: toA, from: from, to: to)
    }

    private func send(
        _ bytes: [UInt8], _ message: SimulatedMessage?, on handle: SlotHandle, toA: Bool,
        from: Int, to: Int
    ) {
        switch network.style(from, to) {
        case .silent?:
            counters.swallowed += 1
            if let message { onMessage?(.lost, message) }
            return
        case .held?:
            counters.held += 1
            network.held.append(
                (
                    SimulatedNetwork.Way(from: from, to: to),
                    .bytes(link: handle, toA: toA, bytes, message)
                ))
            return
        case nil:
            break
        }
        guard let link = network.links[handle] else { return }
        var time = max(
            departure(bytes.count, from) + latency(), toA ? link.lastToA : link.lastToB,
            clogEnd(from, to))
        if options.processorTime > .zero {
            time = max(time, nodes[to].busyReceiving) + options.processorTime
            nodes[to].busyReceiving = time
        }
        network.links.update(handle) { if toA { $0.lastToA = time } else { $0.lastToB = time } }
        schedule(.bytes(link: handle, toA: toA, bytes, message), at: time)
    }

    /// When the last byte has left a node, which sends one thing after the other.
    private func departure(_ byteCount: Int, _ from: Int) -> Ticks {
        guard options.bytesPerSecond > 0 || options.processorTime > .zero else { return now }
        var time = max(now, nodes[from].busySending) + options.processorTime
        if options.bytesPerSecond > 0 {
            time =
                time
                + TickInterval(
                    nanoseconds: UInt64(byteCount) * 1_000_000_000 / options.bytesPerSecond)
        }
        nodes[from].busySending = time
        return time
    }

    // MARK: Arriving

    func arrive(
        _ bytes: [UInt8], _ message: SimulatedMessage?, on link: SlotHandle, toA: Bool
    ) {
        guard let ends = network.links[link], !ends.isReset else { return }
        guard let end = toA ? ends.a : ends.b, isCurrent(end) else {
            // Whoever was there is gone: its machine says so, if there is one.
            return answerStranger(ends, toA: toA)
        }
        if let message {
            if case .run(let body)? = fate(message, at: .arriving) {
                body(self)
                guard isCurrent(end), !nodes[end.node].isPaused else {
                    return arrive(bytes, nil, on: link, toA: toA)
                }
            }
            counters.messages += 1
        }
        counters.deliveries += 1
        counters.bytes += UInt64(bytes.count)
        note(4, end.node, UInt64(bytes.count))
        if options.resetOneIn > 0, random.oneIn(options.resetOneIn) {
            counters.resets += 1
            if let message { onMessage?(.lost, message) }
            return reset(link)
        }
        let (sender, receiver) = toA ? (ends.nodeB, ends.nodeA) : (ends.nodeA, ends.nodeB)
        if let message {
            onMessage?(.arriving, message)
        } else {
            tell(.arriving, bytes, from: sender, to: receiver)
        }
        let time = clock(of: end.node)
        let node = nodes[end.node]
        if options.splitOneIn > 0, random.oneIn(options.splitOneIn) {
            counters.splits += 1
            let step = max(1, bytes.count / 7)
            var offset = 0
            while offset < bytes.count {
                let upper = min(bytes.count, offset + step)
                _ = node.withLNet { lnet in
                    RawSpan.over(bytes) {
                        lnet.received(end.key, $0.extracting(offset..<upper), now: time)
                    }
                }
                offset = upper
            }
        } else {
            _ = node.withLNet { lnet in
                RawSpan.over(bytes) { lnet.received(end.key, $0, now: time) }
            }
        }
        if options.batchOneIn > 0, random.oneIn(options.batchOneIn) {
            counters.batches += 1
            settleSoon(end.node)
        } else {
            settle(end.node)
        }
        if let message {
            onMessage?(.delivered, message)
            if case .run(let body)? = fate(message, at: .delivered) { body(self) }
        } else {
            tell(.delivered, bytes, from: sender, to: receiver)
        }
    }

    /// Bytes for a connection that only their sender still believes in are answered by a reset.
    private func answerStranger(_ ends: SimulatedNetwork.Link, toA: Bool) {
        let receiver = toA ? ends.nodeA : ends.nodeB
        let sender = toA ? ends.nodeB : ends.nodeA
        guard !nodes[receiver].isDark, let believer = toA ? ends.b : ends.a else { return }
        send(.closed(believer, errno: 104), from: receiver, to: sender)
    }

    // MARK: Ending

    func closed(_ end: NodeEnd, errno: Int32) {
        guard isCurrent(end), let link = leave(end) else { return }
        if network.links[link]?.isReset == false { network.links.remove(link) }
        note(5, end.node, end.key)
        let time = clock(of: end.node)
        nodes[end.node].withLNet { $0.closed(end.key, errno: errno, now: time) }
        settle(end.node)
    }

    /// One end closes: what is under way to it is lost, the other hears of the close after what
    /// is under way to it.
    func disconnect(_ end: NodeEnd) {
        guard let handle = leave(end), let link = network.links[handle], !link.isReset else {
            return
        }
        if let a = link.a {
            send(.closed(a, errno: 104), from: end.node, to: a.node, notBefore: link.lastToA)
        } else if let b = link.b {
            send(.closed(b, errno: 104), from: end.node, to: b.node, notBefore: link.lastToB)
        }
    }

    /// Neither end gets what is under way to it, and both are told.
    func reset(_ handle: SlotHandle) {
        guard
            let link = network.links.update(
                handle,
                { link -> SimulatedNetwork.Link in
                    link.isReset = true
                    return link
                })
        else { return }
        if let a = link.a { schedule(.closed(a, errno: 104), at: now + latency()) }
        if let b = link.b { schedule(.closed(b, errno: 104), at: now + latency()) }
    }

    /// Takes an end off its link. Nil where it is off already.
    private func leave(_ end: NodeEnd) -> SlotHandle? {
        guard let handle = nodes[end.node].links.removeValue(forKey: end.key) else { return nil }
        let isEmpty = network.links.update(handle) {
            if $0.a?.node == end.node, $0.a?.key == end.key { $0.a = nil } else { $0.b = nil }
            return $0.a == nil && $0.b == nil
        }
        if isEmpty == true { network.links.remove(handle) }
        return handle
    }
}

extension [UInt8] {
    /// Appends the bytes of a span.
    fileprivate mutating func append(_ span: RawSpan) {
        unsafe span.withUnsafeBytes { raw in
            // SAFETY: `raw` views the span for the call.
            unsafe append(contentsOf: raw)
        }
    }
}
