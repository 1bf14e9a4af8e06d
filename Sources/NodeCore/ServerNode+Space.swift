import LDLMCore
import LNetCore
import ObjectCore
import PtlRPCCore
import Primitives
import WireFormat

/// Room on the disk: set aside for clients before they dirty bytes, and told by `statfs`.
extension ServerNode {
    /// The shell looked at the disk: bytes in all, and bytes that are free. To be called from time
    /// to time, once a second or so; before the first call room is not limited.
    public mutating func setSpace(total: UInt64, free: UInt64) {
        space.sample(total: total, free: free)
    }

    /// What a connecting client may dirty from now on, for the answer to its connect.
    mutating func addGrant(
        to reply: inout ConnectReply, for export: UInt32, _ request: ConnectRequest
    ) {
        guard case .object = service, !request.isObserver,
            reply.features.contains(.grants)
        else { return }
        let granted = space.connect(
            export, claim: UInt64(request.connectData.grant),
            isSameInstance: reply.mode == .sameInstance)
        reply.connectData.grant = UInt32(clamping: granted)
        // OBD_CONNECT_GRANT.
        reply.connectData.flags |= 0x8
    }

    /// Whether there is room for an update. A replay was admitted when it was new.
    func hasRoom(for request: ServerRequest) -> Bool {
        guard case .objectWrite(let write) = request.body, !request.isReplay else { return true }
        return space.fits(write.data.count, of: request.export)
    }

    /// Counts a write that was executed; the answer says what is set aside for the next.
    mutating func account(_ request: ServerRequest, _ body: ReplyBody) -> ReplyBody {
        guard case .objectWrite(let write) = request.body else { return body }
        let wantsMore =
            rpc.features(of: request.export).contains(.grants) && !request.isReplay && !isSealed
        let more = space.written(write.data.count, by: request.export, wantsMore: wantsMore)
        return wantsMore ? .written(WriteReply(grant: more)) : body
    }
}
