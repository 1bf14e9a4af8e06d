import ClientCore
import WireFormat

/// Orders to one target, and what it says of itself.
struct TargetOrders: Sendable {
    let client: ClusterClient
    let place: Int

    var name: String { client.file.targets[place].name }
    var nids: [NID] { client.file.targets[place].nids }

    /// Gives an order; throws the target's own sentence where it is refused.
    @discardableResult
    func give(_ order: UpgradeStart) async throws -> UpgradeEpoch {
        let reply: ReplyBody
        do {
            reply = try await client.send(.upgradeOrder(order), to: place)
        } catch let refusal as ClusterClient.Refusal {
            return try await giveToOlder(order, refusal)
        }
        guard case .upgradeAnswer(let answer) = reply else {
            throw Failure("\(name) answered something else")
        }
        guard answer.isTaken else {
            throw Failure(
                "\(name) is \(answer.phase.name) and does not \(order.action.verb): "
                    + answer.sentence)
        }
        return answer.epoch
    }

    /// A build that does not know the order: it may know the older one, which says less.
    private func giveToOlder(
        _ order: UpgradeStart, _ refusal: ClusterClient.Refusal
    ) async throws -> UpgradeEpoch {
        var order = order
        // Better than nothing: without it the stragglers are waited for behind shut gates.
        order.preflushMs = 0
        guard order.isPlain else {
            throw Failure(
                "\(name) runs a build that knows no pause budget, read policy, hold or \"finalize\" "
                    + "(\(refusal.status)): do without, or upgrade it first")
        }
        do {
            switch try await client.send(.upgradeStart(order), to: place) {
            case .upgradeStarted(let epoch): return epoch
            default: return .none
            }
        } catch let refusal as ClusterClient.Refusal {
            let phase = try await status().phase
            throw Failure(
                "\(name) is \(phase.name) and does not \(order.action.verb) (\(refusal.status)): "
                    + "ask again when it is serving")
        }
    }

    func status() async throws -> UpgradeStatusReply {
        guard case .upgradeStatus(let reply) = try await client.send(.upgradeStatus, to: place)
        else { throw Failure("\(name) answered something else") }
        return reply
    }

    /// Where the target comes back: what was asked for, else the NID of a pair that it is not on
    /// now. A target that was upgraded before stands on its second one.
    func destination(_ wanted: NID?) async throws -> NID? {
        if let wanted {
            guard nids.contains(wanted) else {
                throw Failure("\(wanted) is no NID of \(name): clients would not find it there")
            }
            return wanted
        }
        guard nids.count == 2, let now = await client.currentNID(of: place) else { return nil }
        return nids.first { $0 != now }
    }

    /// Every row that the target has, a page at a time.
    func receipts() async throws -> UpgradeReceiptsReply {
        var all: UpgradeReceiptsReply?
        while true {
            let after = all?.rows.last?.uuid ?? ""
            guard
                case .upgradeReceipts(let page) = try await client.send(
                    .upgradeReceipts(after: after), to: place)
            else { throw Failure("\(name) answered something else") }
            if all == nil { all = page } else { all?.rows += page.rows }
            if page.isEnd || page.rows.isEmpty { return all! }
        }
    }

    /// Asks until `isTrue`, at most for `seconds`; nil where it did not come true.
    func wait(
        seconds: Double, every interval: Duration = .milliseconds(50),
        _ isTrue: (UpgradeStatusReply) -> Bool
    ) async throws -> UpgradeStatusReply? {
        let limit = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < limit {
            if let now = try? await status(), isTrue(now) { return now }
            try await Task.sleep(for: interval)
        }
        return nil
    }
}

extension UpgradeAction {
    /// After "does not".
    var verb: String {
        switch self {
        case .start: "begin an upgrade"
        case .abort: "give one up"
        case .proceed: "go on"
        case .finalize: "finalise"
        }
    }
}
