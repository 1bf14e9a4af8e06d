import LNetCore
import Primitives
import PtlRPCCore
import StorageCore
import UpgradeCore
import WireFormat

/// What a server does about a disk that is full, or that does not give back what it was given.
extension ServerNode {
    /// True where reading for the request met damage: it is answered with an I/O error, and what it
    /// would have done on the strength of what it read is dropped.
    mutating func meetsDamage(_ request: ServerRequest, now: Ticks) -> Bool {
        guard let damage = store?.base.takeDamage() else { return false }
        damageCount += 1
        log(.damage("\(damage)", opcode: request.body.opcode.name, xid: request.xid.rawValue))
        rpc.reply(
            request.token, status: .ioError, trailer: upgrade.trailer(for: request.export),
            lnet: &lnet, now: now)
        return true
    }

    /// While commits fail: a new update is refused with what the disk says, ENOSPC for a full one.
    /// Write-backs and what else passes the gate are executed as long as they find room in memory,
    /// and then left with the client, which keeps its bytes and sends them again. True where the
    /// request ends here.
    mutating func refusesForDisk(
        _ request: ServerRequest, _ kind: UpgradeTarget.RequestClass, now: Ticks
    ) -> Bool {
        guard let status = diskRefusal, let store else { return false }
        switch kind {
        case .replay:
            return false
        case .flush:
            guard store.uncommittedBytes > 4 * configuration.uncommittedBytesMax else {
                return false
            }
            rpc.refuse(
                request.token, .inProgress, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
        case .update:
            rpc.refuse(
                request.token, status, trailer: upgrade.trailer(for: request.export),
                lnet: &lnet, now: now)
        }
        diskRefusalCount += 1
        return true
    }

    /// Damage that was met outside of any request: the row or range counts as absent. True where
    /// there was some.
    @discardableResult
    mutating func noteDamage(_ work: String) -> Bool {
        guard let damage = store?.base.takeDamage() else { return false }
        damageCount += 1
        log(.damage("\(damage)", opcode: work, xid: 0))
        return true
    }

    /// Why a server does not start where reading its store met damage.
    static func refusal(_ damage: StoreDamage, of target: String) -> StartRefusal {
        StartRefusal(
            description: "the store of \(target) is damaged (\(damage)): look at it with "
                + "`sluice store check`, then put it back from a backup or format the target anew")
    }
}
