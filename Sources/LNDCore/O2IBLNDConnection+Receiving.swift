import Primitives
import WireFormat

extension O2IBLNDConnection {
    // MARK: What we hear

    /// A message came in; its buffer is posted again when the call is over.
    public mutating func receive(_ bytes: RawSpan) -> Step {
        guard phase == .open else { return .nothing }
        let header: O2IBLNDHeader
        let message: O2IBLNDMessage
        do throws(WireError) {
            header = try O2IBLNDHeader(parsing: bytes)
            if let fault = stranger(header) { return fail(fault) }
            guard header.checksum == 0 || Self.isIntact(bytes, header) else {
                return fail(.badChecksum)
            }
            message = try O2IBLNDMessage(parsing: bytes, header: header)
        } catch {
            return fail(fault(error))
        }
        guard takeCredits(header.credits) else { return fail(.creditsOverreturned) }
        switch message {
        case .connectRequest, .connectAck:
            return fail(.badKind)
        case .noop:
            return .nothing
        case .immediate(let lnet):
            guard spendPeerCredit() else { return fail(.creditsOverspent) }
            giveBack()
            return .message(
                lnet, payload: O2IBLNDHeader.immediateOffset..<Int(header.byteCount))
        case .putRequest(let lnet, let cookie):
            guard spendPeerCredit() else { return fail(.creditsOverspent) }
            // Only what has a payload is offered (`kiblnd_recv` accepts PUT and REPLY).
            guard lnet.payloadLength > 0 else { return fail(.badHeader) }
            let transfer = transfers.insert(
                O2IBLNDTransfer(
                    phase: .received, user: 0, peerCookie: cookie,
                    byteCount: Int(lnet.payloadLength), isPut: true))
            return .putOffered(lnet, transfer: transfer.rawValue)
        case .putNak(let cookie, let status):
            return putNak(cookie, status)
        case .putAck(let source, let sink, let descriptor):
            return putAck(source, sink, descriptor)
        case .putDone(let cookie, let status):
            return putDone(cookie, status)
        case .getRequest(let lnet, let cookie, let descriptor):
            guard spendPeerCredit() else { return fail(.creditsOverspent) }
            guard case .get = lnet.body else { return fail(.badHeader) }
            guard descriptor.fragments.count <= Int(parameters.maxFragments) else {
                return fail(.badDescriptor)
            }
            giveBack()
            let byteCount = descriptor.totalBytes
            let transfer = transfers.insert(
                O2IBLNDTransfer(
                    phase: .requested, user: 0, peerCookie: cookie, byteCount: byteCount,
                    isPut: false, descriptor: descriptor))
            return .getAsked(lnet, transfer: transfer.rawValue, byteCount: byteCount)
        case .getDone(let cookie, let status):
            return getDone(cookie, status)
        }
    }

    private mutating func fail(_ fault: O2IBLNDFault) -> Step {
        close()
        return .fault(fault)
    }

    /// Whose message it is not.
    private func stranger(_ header: O2IBLNDHeader) -> O2IBLNDFault? {
        guard header.source == peer, header.destination == identity.nid else { return .wrongPeer }
        guard header.sourceStamp == peerIncarnation,
            header.destinationStamp == identity.incarnation
        else { return .wrongStamp }
        return nil
    }

    private func fault(_ error: WireError) -> O2IBLNDFault {
        switch error {
        case .badMagic: .badMagic
        case .badVersion: .badVersion
        case .badValue(let field, _):
            field == "kib_msg.ibm_type"
                ? .badKind : field.hasPrefix("kib_rdma") ? .badDescriptor : .badHeader
        case .badLength(let field, _, _):
            field.hasPrefix("kib_rdma")
                ? .badDescriptor : field.hasPrefix("lnet") ? .badHeader : .badLength
        case .truncated: .badLength
        case .reservedBitsSet, .unexpected: .badHeader
        }
    }

    private mutating func putNak(_ cookie: UInt64, _ status: Int32) -> Step {
        let handle = SlotHandle(rawValue: cookie)
        guard transfers[handle]?.phase == .offered, let removed = transfers.remove(handle) else {
            return fail(.unknownCookie)
        }
        returnReserved()
        return .putRefused(user: removed.user, status: min(0, status))
    }

    private mutating func putAck(
        _ source: UInt64, _ sink: UInt64, _ descriptor: O2IBLNDDescriptor
    ) -> Step {
        let handle = SlotHandle(rawValue: source)
        guard let current = transfers[handle], current.phase == .offered else {
            return fail(.unknownCookie)
        }
        // The sink says how much it takes by the size of its memory; more than there is, is wrong.
        guard descriptor.totalBytes <= current.byteCount,
            descriptor.fragments.count <= Int(parameters.maxFragments)
        else { return fail(.badDescriptor) }
        returnReserved()
        transfers.update(handle) {
            $0.phase = .acknowledged
            $0.peerCookie = sink
            $0.descriptor = descriptor
        }
        return .putAcknowledged(
            user: current.user, transfer: source, byteCount: descriptor.totalBytes)
    }

    private mutating func putDone(_ cookie: UInt64, _ status: Int32) -> Step {
        let handle = SlotHandle(rawValue: cookie)
        guard let current = transfers[handle], current.phase == .granted else {
            return fail(.unknownCookie)
        }
        guard Int(status) <= current.byteCount else { return fail(.badLength) }
        transfers.remove(handle)
        giveBack()
        return .putDone(user: current.user, status: status)
    }

    private mutating func getDone(_ cookie: UInt64, _ status: Int32) -> Step {
        let handle = SlotHandle(rawValue: cookie)
        guard let current = transfers[handle], current.phase == .asked else {
            return fail(.unknownCookie)
        }
        guard Int(status) <= current.byteCount else { return fail(.badLength) }
        transfers.remove(handle)
        returnReserved()
        return .getDone(user: current.user, status: status)
    }

    /// `kiblnd_cksum`: rotate left and add, over the message with a checksum of 0; never 0. Bytes
    /// count as signed on x86 kernels before 6.2 and as unsigned later: either is taken.
    static func isIntact(_ bytes: RawSpan, _ header: O2IBLNDHeader) -> Bool {
        var unsigned: UInt32 = 0
        var signed: UInt32 = 0
        for offset in 0..<Int(header.byteCount) {
            let byte: UInt8 = (12..<16).contains(offset) ? 0 : bytes.littleEndian(at: offset)
            unsigned = (unsigned << 1 | unsigned >> 31) &+ UInt32(byte)
            signed =
                (signed << 1 | signed >> 31)
                &+ UInt32(bitPattern: Int32(Int8(bitPattern: byte)))
        }
        return header.checksum == max(1, unsigned) || header.checksum == max(1, signed)
    }
}
