import LNetCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// Orders of an operator: each is done, or refused with the state, the reason and what to do.
extension ServerNode {
    static let finalizedKey = Array("finalized".utf8)

    /// `wantsSentence`: the sender knows opcode "upgrade order" and reads its answer.
    mutating func takeOrder(
        _ request: ServerRequest, _ order: UpgradeStart, wantsSentence: Bool, now: Ticks
    ) {
        pendingOrder = (request.token, wantsSentence)
        if isRecovering, let refusal = Self.refusalWhileRecovering(order.action) {
            log(.upgrade("\(order.action.name) refused: \(refusal)"))
            return answerOrder(.none, refusal: refusal, now: now)
        }
        if order.action == .finalize, upgrade.phase == .serving {
            return finalize(now: now)
        }
        feed(.start(order, isRecovering: isRecovering), now: now)
        // What is given up says nothing of its own, nor does what is given up already.
        if pendingOrder != nil { answerOrder(upgrade.lastEpoch, refusal: nil, now: now) }
    }

    private static func refusalWhileRecovering(_ action: UpgradeAction) -> UpgradeRefusal? {
        switch action {
        case .start: .recovering
        case .abort: .nothingToAbort(.recovering)
        case .proceed: .nothingToProceed(.recovering)
        case .finalize: .notServing(.recovering)
        }
    }

    mutating func answerOrder(_ epoch: UpgradeEpoch, refusal: UpgradeRefusal?, now: Ticks) {
        guard let order = pendingOrder else { return }
        pendingOrder = nil
        guard order.wantsSentence else {
            rpc.reply(
                order.token, status: refusal == nil ? .ok : .busy,
                body: refusal == nil ? .upgradeStarted(epoch) : .empty, lnet: &lnet, now: now)
            return
        }
        rpc.reply(
            order.token, status: .ok,
            body: .upgradeAnswer(
                UpgradeAnswer(
                    isTaken: refusal == nil, phase: phase, epoch: epoch,
                    sentence: refusal?.description ?? "")),
            lnet: &lnet, now: now)
    }

    /// From now on the store is for builds that speak what this one speaks: the way back by
    /// downgrade ends when the row is on disk, which the answer waits for.
    private mutating func finalize(now: Ticks) {
        guard let order = pendingOrder else { return }
        pendingOrder = nil
        let version = configuration.versions.upperBound
        let answer = UpgradeAnswer(isTaken: true, phase: phase, epoch: .none)
        if let known = finalized, known >= version {
            rpc.reply(
                order.token, status: .ok, body: .upgradeAnswer(answer), lnet: &lnet, now: now)
            return
        }
        finalized = version
        var writer = WireWriter(capacity: 2)
        writer.u16(version.rawValue)
        var transaction = Transaction()
        transaction.put(.meta, key: Self.finalizedKey, value: writer.bytes)
        apply(&transaction, now: now)
        log(.upgrade("finalised: builds below protocol \(version) may not have the store"))
        afterOpenGroup.append(.order(order.token, answer))
        wantsCommit = true
    }

    static func finalized(in store: StoreBox) -> ProtocolVersion? {
        guard let bytes = store.read(.meta, finalizedKey), bytes.count == 2 else { return nil }
        return ProtocolVersion(rawValue: UInt16(bytes[0]) | UInt16(bytes[1]) << 8)
    }

    // MARK: Receipts

    /// What is known of clients, from `after` on in the order of their names: from the clean record
    /// that this instance started from, or of the upgrade in hand.
    func receipts(after: String) -> UpgradeReceiptsReply {
        let isLive = upgrade.phase != .serving && !isRecovering
        var rows: [UpgradeReceiptsReply.Row] = []
        if isLive {
            rpc.forEachExport { summary in
                guard !summary.isObserver, summary.uuid > after else { return }
                let kind: UpgradeReceiptsReply.Kind =
                    switch upgrade.standing(of: summary.index) {
                    case .vacant: .carriedForward
                    case .synchronous: .synchronous
                    case .granted: .missing
                    case .prepared: .receipt
                    case .bornPrepared: .bornPrepared
                    case .leftBehind: .absent
                    }
                rows.append(
                    UpgradeReceiptsReply.Row(
                        uuid: summary.uuid, nid: summary.nid, kind: kind, hasReturned: false,
                        receipt: upgrade.receipt(of: summary.index)))
            }
        } else if let record = startRecord {
            for client in record.clients where client.uuid > after {
                var receipt: UpgradeReceipt?
                let kind: UpgradeReceiptsReply.Kind
                switch client.account {
                case .receipt(let given):
                    kind = .receipt
                    receipt = given
                case .bornPrepared: kind = .bornPrepared
                case .synchronous: kind = .synchronous
                case .absent: kind = .absent
                case .carriedForward: kind = .carriedForward
                }
                let summary = rpc.summary(of: client.exportIndex)
                rows.append(
                    UpgradeReceiptsReply.Row(
                        uuid: client.uuid, nid: client.nid, kind: kind,
                        hasReturned: summary?.uuid == client.uuid && summary?.isAbsent == false,
                        receipt: receipt))
            }
        }
        rows.sort { $0.uuid < $1.uuid }
        let countMax = UpgradeReceiptsReply.rowCountMax
        let isEnd = rows.count <= countMax
        if !isEnd { rows.removeLast(rows.count - countMax) }
        return UpgradeReceiptsReply(
            isLive: isLive, epoch: isLive ? upgrade.epoch : startRecord?.epoch ?? .none,
            lastTransno: isLive
                ? Transno(rawValue: nextTransno - 1) : startRecord?.lastTransno ?? .zero,
            rows: rows, isEnd: isEnd)
    }
}
