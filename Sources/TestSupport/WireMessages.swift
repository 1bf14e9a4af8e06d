public import WireFormat

/// A request as it travels.
public func encodedRequest(
    _ body: RequestBody, _ version: ProtocolVersion, header: PtlRPCBody = PtlRPCBody()
) -> [UInt8] {
    var writer = WireWriter()
    body.encode(header: header, version: version, into: &writer)
    return writer.bytes
}

/// Reads a whole request: container, header, body.
public func decodedRequest(
    _ bytes: [UInt8], _ version: ProtocolVersion
) throws(WireError) -> RequestBody {
    try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> RequestBody in
        let message = try LustreMessage(parsing: span)
        var reader = try message.reader(0, in: span)
        let header = try PtlRPCBody(from: &reader)
        return try RequestBody(
            opcode: header.opcode, message: message, bytes: span, version: version)
    }
}

/// A reply to a request of `opcode` as it travels.
public func encodedReply(
    _ body: ReplyBody, to opcode: Opcode, _ version: ProtocolVersion, status: Status = .ok,
    trailer: ReplyTrailer? = nil
) -> [UInt8] {
    var header = PtlRPCBody()
    header.type = .reply
    header.opcode = opcode
    header.status = status
    var writer = WireWriter()
    body.encode(header: header, version: version, trailer: trailer, into: &writer)
    return writer.bytes
}

/// What a requester reads from a whole reply.
public struct DecodedReply: Equatable {
    public var opcode: Opcode
    public var status: Status
    public var body: ReplyBody
    public var trailer: ReplyTrailer?
}

/// Reads a whole reply: container, header, body, trailer.
public func decodedReply(
    _ bytes: [UInt8], _ version: ProtocolVersion
) throws(WireError) -> DecodedReply {
    try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> DecodedReply in
        let message = try LustreMessage(parsing: span)
        var reader = try message.reader(0, in: span)
        let header = try PtlRPCBody(from: &reader)
        let body = try ReplyBody(
            opcode: header.opcode, status: header.status, message: message, bytes: span,
            version: version)
        return DecodedReply(
            opcode: header.opcode, status: header.status, body: body,
            trailer: ReplyTrailer(body: body, message: message, bytes: span))
    }
}

extension RequestBody {
    /// The checksum is known to the one who reads only.
    public var withoutChecksums: RequestBody {
        guard case .objectWrite(var body) = self else { return self }
        body.checksum = 0
        return .objectWrite(body)
    }
}

extension ReplyBody {
    /// The checksum is known to the one who reads only.
    public var withoutChecksums: ReplyBody {
        guard case .read(var body) = self else { return self }
        body.checksum = 0
        return .read(body)
    }
}
