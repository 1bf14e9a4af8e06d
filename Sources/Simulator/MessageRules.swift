public import Primitives

/// What a script does to a message.
public enum MessageFate {
    /// It is lost; its connection knows nothing of it.
    case drop
    /// It arrives in its turn, and once more so much later.
    case duplicate(after: TickInterval)
    /// It arrives so much later, overtaken by those behind it.
    case delay(TickInterval)
    /// It is lost with its connection: both ends are told.
    case reset
    /// Something else happens at this moment (a kill, a partition); the message goes its way as
    /// far as there still is one.
    case run((SimulatedCluster) -> Void)
}

/// A rule of a script: what becomes of some messages.
struct MessageRule {
    var id: Int
    var pattern: MessagePattern
    var from: Int?
    var to: Int?
    var moment: MessageMoment
    /// Matches to let pass before the first that is meant.
    var skip: Int
    /// Matches still to be dealt with.
    var left: Int
    var hits = 0
    var fate: MessageFate
}

extension SimulatedCluster {
    /// A rule by which `hits` and `removeRule` find it.
    public struct RuleID: Hashable, Sendable { let number: Int }

    /// Lets `fate` meet the next `count` messages of a pattern, after `skip` others, from and to
    /// certain nodes or any. Of several rules the oldest that matches acts, and only that.
    ///
    /// Drop, duplicate, delay and reset act when the message is sent; `run` may wait until it is
    /// `.arriving` or `.delivered`.
    @discardableResult
    public func intercept(
        _ pattern: MessagePattern, from: Int? = nil, to: Int? = nil, count: Int = 1, skip: Int = 0,
        at moment: MessageMoment = .sending, _ fate: MessageFate
    ) -> RuleID {
        network.nextRule += 1
        network.rules.append(
            MessageRule(
                id: network.nextRule, pattern: pattern, from: from, to: to, moment: moment,
                skip: skip, left: count, fate: fate))
        return RuleID(number: network.nextRule)
    }

    /// The next `count` messages of the pattern are lost.
    @discardableResult
    public func dropNext(
        _ pattern: MessagePattern, from: Int? = nil, to: Int? = nil, count: Int = 1, skip: Int = 0
    ) -> RuleID {
        intercept(pattern, from: from, to: to, count: count, skip: skip, .drop)
    }

    /// The next `count` messages of the pattern arrive a second time, so much later.
    @discardableResult
    public func duplicateNext(
        _ pattern: MessagePattern, from: Int? = nil, to: Int? = nil, count: Int = 1, skip: Int = 0,
        after interval: TickInterval = .milliseconds(1)
    ) -> RuleID {
        intercept(
            pattern, from: from, to: to, count: count, skip: skip, .duplicate(after: interval))
    }

    /// The next `count` messages of the pattern are so much later, and are overtaken.
    @discardableResult
    public func delayNext(
        _ pattern: MessagePattern, from: Int? = nil, to: Int? = nil, count: Int = 1, skip: Int = 0,
        by interval: TickInterval
    ) -> RuleID {
        intercept(pattern, from: from, to: to, count: count, skip: skip, .delay(interval))
    }

    /// Runs `body` when the next message of the pattern is sent, arrives, or was delivered: to
    /// kill a node, or part the network, at that very instant.
    @discardableResult
    public func onNext(
        _ pattern: MessagePattern, from: Int? = nil, to: Int? = nil, skip: Int = 0,
        at moment: MessageMoment = .arriving, _ body: @escaping (SimulatedCluster) -> Void
    ) -> RuleID {
        intercept(pattern, from: from, to: to, count: 1, skip: skip, at: moment, .run(body))
    }

    /// How many messages the rule has met.
    public func hits(_ rule: RuleID) -> Int {
        network.rules.first { $0.id == rule.number }?.hits ?? 0
    }

    public func removeRule(_ rule: RuleID) {
        network.rules.removeAll { $0.id == rule.number }
    }

    /// What a rule wants done with a message at a moment; the rule is used up by it.
    func fate(_ message: SimulatedMessage, at moment: MessageMoment) -> MessageFate? {
        for index in network.rules.indices {
            let rule = network.rules[index]
            guard rule.left > 0, rule.moment == moment, rule.from ?? message.from == message.from,
                rule.to ?? message.to == message.to, rule.pattern.matches(message)
            else { continue }
            if rule.skip > 0 {
                network.rules[index].skip -= 1
                continue
            }
            network.rules[index].left -= 1
            network.rules[index].hits += 1
            return rule.fate
        }
        return nil
    }
}
