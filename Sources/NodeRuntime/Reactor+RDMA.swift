import EventLoop
import LNDCore
import LNetCore
import Primitives
import VerbsTransport
import WireFormat

/// Connections over RDMA: what LNet wants of them, and what they tell.
extension ReactorCore where Nodes: ~Copyable {
    static func carryOut(
        _ action: O2IBAction, _ lnet: inout LNetCore, _ node: Int,
        _ rdma: inout Wiring<VerbsRef>, _ reservations: inout SlotTable<Reservation>,
        _ verbs: inout VerbsTransport, _ capture: PacketCapture?, now: Ticks
    ) {
        switch action {
        case .connect(let key, let from, let to, let port, let privileged, let privateData):
            let insertion = rdma.insert(
                .init(node: node, key: key, connection: VerbsRef(rawValue: 0)))
            if let old = insertion.displaced {
                verbs.close(old.connection)
                capture?.closedPair(old.handle.rawValue)
            }
            guard let handle = insertion.handle else { return }
            let connection = verbs.connect(
                id: handle.rawValue, from: from, to: to, port: port, privileged: privileged,
                privateData: privateData)
            rdma.links.update(handle) { $0.connection = connection }
            capture?.openedPair(handle.rawValue, local: from, peer: to)
        case .close(let key):
            guard let handle = rdma.find(node, key), let link = rdma.links[handle] else { return }
            verbs.close(link.connection)
            capture?.closedPair(handle.rawValue)
            rdma.remove(handle)
        case .flush(let key):
            guard let handle = rdma.find(node, key) else { return }
            send(&lnet, handle, &rdma, &verbs, capture)
        case .reserve(let request, let byteCount, let isSource):
            let waiting = reservations.insert(Reservation(node: node, request: request))
            let slot = verbs.reserve(byteCount, isSource: isSource, request: waiting.rawValue)
            guard let slot else { return }
            reservations.remove(waiting)
            lnet.bulkGranted(request, slot, now: now) { verbs.fill(slot, from: $0) }
        case .collect(let request, let slot, let byteCount):
            verbs.withSlot(slot, byteCount: byteCount) {
                lnet.bulkCollected(request, $0, now: now)
            }
        case .store(let slot, let offset, let bytes):
            RawSpan.over(bytes) { verbs.fill(slot, at: offset, from: $0) }
        case .release(let slot):
            verbs.release(slot)
        }
    }

    static func send(
        _ lnet: inout LNetCore, _ handle: SlotHandle, _ rdma: inout Wiring<VerbsRef>,
        _ verbs: inout VerbsTransport, _ capture: PacketCapture?
    ) {
        guard let link = rdma.links[handle], verbs.canSend(link.connection) else { return }
        let tookAll = lnet.withO2IBWork(link.key) { work, frame in
            switch work {
            case .write(let local, let byteCount, let remote, let key):
                let isPosted = verbs.write(
                    link.connection, from: local, byteCount: byteCount, to: remote,
                    remoteKey: key)
                if isPosted {
                    capture?.wrote(
                        handle.rawValue, byteCount: Int(byteCount), to: remote, key: key)
                }
                return isPosted
            case .message(let work, let tells):
                let isPosted = verbs.send(link.connection, frame, work: work, tells: tells)
                if isPosted { capture?.message(handle.rawValue, frame, isOurs: true) }
                return isPosted
            }
        }
        verbs.commit()
        rdma.setBlocked(handle, !tookAll)
    }
}

extension ReactorCore: VerbsTransportHandler where Nodes: ~Copyable {
    mutating func requested(
        _ request: VerbsRequest, privateData: RawSpan, on transport: inout VerbsTransport
    ) -> UInt64 {
        let (node, own) = listener(request.listenerTag)
        let answer = nodes[lnet: node].o2ibRequested(
            privateData, remoteAddress: request.peerAddress, remotePort: request.peerPort,
            on: own, now: loop.now)
        dirty.mark(node)
        switch answer {
        case .accept(let key, let acknowledgement):
            let insertion = rdma.insert(
                .init(node: node, key: key, connection: request.connection))
            if let old = insertion.displaced {
                transport.close(old.connection)
                capture?.closedPair(old.handle.rawValue)
            }
            guard let handle = insertion.handle else {
                transport.reject(request.connection, privateData: [])
                return 0
            }
            capture?.openedPair(
                handle.rawValue, local: own.address, peer: request.peerAddress)
            transport.accept(request.connection, privateData: acknowledgement)
            return handle.rawValue
        case .reject(let reason):
            transport.reject(request.connection, privateData: reason)
            return 0
        }
    }

    mutating func established(
        _ connection: VerbsRef, word: UInt64, privateData: RawSpan, remoteKey: UInt32,
        on transport: inout VerbsTransport
    ) {
        guard let link = rdma.links[SlotHandle(rawValue: word)] else { return }
        nodes[lnet: link.node].o2ibEstablished(
            link.key, privateData: privateData, remoteKey: remoteKey, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func refused(
        _ connection: VerbsRef, word: UInt64, reason: Int32, privateData: RawSpan,
        on transport: inout VerbsTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = rdma.links[handle] else { return }
        capture?.closedPair(word)
        rdma.remove(handle)
        nodes[lnet: link.node].o2ibRefused(
            link.key, reason: reason, privateData: privateData, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func received(
        _ connection: VerbsRef, word: UInt64, bytes: RawSpan, on transport: inout VerbsTransport
    ) {
        guard let link = rdma.links[SlotHandle(rawValue: word)] else { return }
        capture?.message(word, bytes, isOurs: false)
        nodes[lnet: link.node].o2ibReceived(link.key, bytes, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func completed(
        _ connection: VerbsRef, word: UInt64, work: UInt64, on transport: inout VerbsTransport
    ) {
        guard let link = rdma.links[SlotHandle(rawValue: word)] else { return }
        nodes[lnet: link.node].o2ibCompleted(link.key, work: work, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func writable(
        _ connection: VerbsRef, word: UInt64, on transport: inout VerbsTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = rdma.links[handle] else { return }
        Self.send(&nodes[lnet: link.node], handle, &rdma, &transport, capture)
        dirty.mark(link.node)
    }

    mutating func closed(
        _ connection: VerbsRef, word: UInt64, failure: VerbsFailure,
        on transport: inout VerbsTransport
    ) {
        let handle = SlotHandle(rawValue: word)
        guard let link = rdma.links[handle] else { return }
        capture?.closedPair(word)
        rdma.remove(handle)
        nodes[lnet: link.node].o2ibClosed(
            link.key, errno: failure.errno, status: failure.status, now: loop.now)
        dirty.mark(link.node)
    }

    mutating func granted(
        _ slot: BulkSlot, request: UInt64, on transport: inout VerbsTransport
    ) {
        guard let waiting = reservations.remove(SlotHandle(rawValue: request)) else {
            transport.release(slot)
            return
        }
        nodes[lnet: waiting.node].bulkGranted(waiting.request, slot, now: loop.now) {
            transport.fill(slot, from: $0)
        }
        dirty.mark(waiting.node)
    }
}
