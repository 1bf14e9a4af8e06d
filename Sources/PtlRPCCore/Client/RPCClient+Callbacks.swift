public import LNetCore
public import Primitives
public import WireFormat

extension RPCClient {
    /// A server's request on the lock callback portal.
    mutating func callbackArrived(_ put: LNetEvent.Put, _ lnet: LNetCore) {
        let parsed: (PtlRPCBody, RequestBody, Int?)?
        do {
            parsed = try lnet.withPayload(put.payload) { bytes throws(WireError) in
                let message = try LustreMessage(parsing: bytes)
                var reader = try message.reader(0, in: bytes)
                let header = try PtlRPCBody(from: &reader)
                guard header.type == .request else {
                    throw .badValue(field: "pb_type", value: UInt64(header.type.rawValue))
                }
                let index = findImport(header.handle, put.initiator.nid)
                let body = try RequestBody(
                    opcode: header.opcode, message: message, bytes: bytes,
                    version: index.map { imports[$0].version } ?? configuration.versions.upperBound)
                return (header, body, index)
            }
        } catch {
            callbackErrors &+= 1
            return
        }
        guard let (header, body, found) = parsed else { return }
        var index = found
        if case .targetUp(let up) = body {
            index = imports.firstIndex { $0.targetName == up.targetName } ?? found
        } else if let found, header.connectionCount < imports[found].connectionCount {
            // Of a connection that is over: the server sends it again on the one that stands.
            imports[found].counters.lateCallbacks &+= 1
            return
        }
        events.append(
            .callback(
                import: index,
                token: CallbackToken(
                    nid: put.initiator.nid, xid: XID(rawValue: put.matchBits),
                    opcode: header.opcode, connectionCount: header.connectionCount,
                    handle: header.handle,
                    version: index.map { imports[$0].version }
                        ?? configuration.versions.upperBound),
                body: body))
    }

    /// By the handle that the import gave at connect, from wherever its target may be: the import may
    /// have lost the connection, and try the next place, while the server believes in it still. Else by
    /// the server's node, if only one of the imports lives there.
    private func findImport(_ handle: UInt64, _ nid: NID) -> Int? {
        let index = handle &- configuration.clientHandle
        if index < UInt64(imports.count),
            imports[Int(index)].endpoints.contains(where: { $0.nid == nid })
        {
            return Int(index)
        }
        var found: Int?
        for index in imports.indices where imports[index].nid == nid {
            guard found == nil else { return nil }
            found = index
        }
        return found
    }

    /// Answers a server's request.
    public mutating func answer(
        _ callback: CallbackToken, status: Status, body: ReplyBody, lnet: inout LNetCore,
        now: Ticks
    ) {
        var header = PtlRPCBody()
        header.type = .reply
        header.opcode = callback.opcode
        header.status = status
        header.handle = callback.handle
        header.connectionCount = callback.connectionCount
        writer.removeAll()
        body.encode(header: header, version: callback.version, into: &writer)
        // Lost answers are asked for again by the server.
        _ = RawSpan.over(writer.bytes) {
            lnet.put(
                to: callback.nid, portal: ServicePortal.lockCallbackReply,
                matchBits: callback.xid.rawValue, payload: $0, now: now)
        }
    }
}
