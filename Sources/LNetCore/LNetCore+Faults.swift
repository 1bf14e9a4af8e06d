public import Primitives
public import WireFormat

/// Faults that an operator asked for.
extension LNetCore {
    static let faultRulesMax = 256

    /// Adds a rule behind the others; false where there are too many.
    public mutating func addFault(_ rule: LNetFaultRule) -> Bool {
        guard faults.count < Self.faultRulesMax else { return false }
        faults.append(rule)
        return true
    }

    /// Deletes the rules that `isGone` names. Returns how many.
    @discardableResult
    public mutating func deleteFaults(where isGone: (LNetFaultRule) -> Bool) -> Int {
        let before = faults.count
        faults.removeAll(where: isGone)
        return before - faults.count
    }

    /// Begins the counting anew.
    public mutating func resetFaults(where isMeant: (LNetFaultRule) -> Bool) {
        for index in faults.indices where isMeant(faults[index]) { faults[index].reset() }
    }

    public var faultRules: [LNetFaultRule] { faults }

    /// Breaks the open connections to peers whose NIDs match, as a fault of the network would:
    /// sockets and queue pairs. What was under way on them is lost, and sent again by whoever wants
    /// an answer; the next message connects anew.
    ///
    /// - Parameter destination: `NID.any` for all; an address of 255.255.255.255 for all of a
    ///   network.
    /// - Returns: how many connections that were.
    public mutating func breakConnections(to destination: NID = .any, now: Ticks) -> Int {
        advance(now)
        var count = 0
        for handle in peers.handles {
            guard let peer = peers[handle], !peer.open.isEmpty,
                LNetFaultRule.matches(destination, peer.process.nid)
            else { continue }
            for raw in [peer.open.control, peer.open.bulkIn, peer.open.bulkOut] where raw != 0 {
                count += 1
            }
            loseConnections(handle, LNetErrno.connectionReset, except: nil)
        }
        return count
    }

    enum Fate {
        case pass
        case fail(LNetStatus)
        case hold(TickInterval)
    }

    /// What the rules say of a message that is to be sent.
    mutating func fateOfSending(_ header: LNetHeader) -> Fate {
        for index in faults.indices {
            switch faults[index].effect {
            case .drop:
                guard faults[index].healthErrors != 0, faults[index].hits(header, now: now),
                    let status = faults[index].status
                else { continue }
                return .fail(status)
            case .delay(let latency):
                guard faults[index].hits(header, now: now) else { continue }
                return .hold(latency)
            }
        }
        return .pass
    }

    /// Whether the rules drop a message that came in.
    mutating func dropsReceived(_ header: LNetHeader) -> Bool {
        for index in faults.indices
        where faults[index].effect == .drop && faults[index].healthErrors == 0 {
            if faults[index].hits(header, now: now) { return true }
        }
        return false
    }

    /// How long the rules hold a message that came in.
    mutating func holdsReceived(_ header: LNetHeader) -> TickInterval? {
        for index in faults.indices {
            guard case .delay(let latency) = faults[index].effect,
                faults[index].hits(header, now: now)
            else { continue }
            return latency
        }
        return nil
    }

    /// Keeps a message for a time.
    mutating func hold(_ message: HeldMessage, _ latency: TickInterval) {
        guard heldMessages.count < configuration.lazyMessagesMax else { return }
        let handle = heldMessages.insert(message)
        timers.insert(.held(message: handle), at: now + latency)
    }

    /// The time of a held message is over.
    mutating func heldDue(_ handle: SlotHandle) {
        guard let message = heldMessages.remove(handle) else { return }
        switch message {
        case .sending(let message, let path):
            if !transmit(message, to: path, isPastFaults: true) {
                failed(message, .localDropped, on: path)
            }
        case .received(let receiving, let payload):
            let from = arena.count
            arena.append(contentsOf: payload)
            finish(receiving, payload: from..<arena.count)
        }
    }
}

/// A message that a fault rule delays.
enum HeldMessage: Sendable {
    case sending(WaitingMessage, path: SlotHandle)
    case received(Receiving, payload: [UInt8])
}
