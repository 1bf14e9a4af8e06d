/// The answer to one request of a batch.
public struct BatchAnswer: Equatable, Sendable {
    /// Of the request: says how the body is to be read.
    public var opcode: Opcode
    public var status: Status
    public var body: ReplyBody

    public init(opcode: Opcode, status: Status, body: ReplyBody) {
        self.opcode = opcode
        self.status = status
        self.body = body
    }
}

/// The one buffer of a batch: a head, then a `lustre_msg_v2` for each request, padded to 8.
///
/// As in Lustre's batch RPC (`struct batch_update_request`, lustre_idl.h) each message has its
/// operation in `lm_opc`; its other buffers are those that it has when it travels alone. Buffer 0
/// is empty in a request and holds the status in an answer, where the RPC's own header stands
/// otherwise. In version 3 and later; before it with `Features.batchedReplay`, of what is told after
/// a restart. Little-endian:
///
/// | offset | size | field    | meaning                                  |
/// |-------:|-----:|----------|------------------------------------------|
/// |      0 |    4 | magic    | 0x5A1CE00B request, 0x5A1CE00C answer    |
/// |      4 |    4 | count    | 1...64                                   |
/// |      8 |    8 | reserved | zero                                     |
/// |     16 |      | messages | one after another, each padded to 8      |
public enum Batch {
    static let requestMagic: UInt32 = 0x5A1C_E00B
    static let answerMagic: UInt32 = 0x5A1C_E00C
    /// Requests in one batch: with the longest of them, an enqueue, below 16 KiB.
    public static let countMax = 64

    static func encode(
        _ requests: [RequestBody], _ version: ProtocolVersion, into writer: inout WireWriter
    ) {
        encodeHead(requestMagic, requests.count, into: &writer)
        for request in requests {
            precondition(request.mayBeBatched, "what may stand in a batch")
            let start = writer.count
            var message = LustreMessageEncoder(
                bufferCount: request.bufferCount, opcode: request.opcode, into: &writer)
            message.buffer(into: &writer) { _ in }
            request.encodeBuffers(version, &message, into: &writer)
            writer.pad(to: 8, from: start)
        }
    }

    static func encode(
        _ answers: [BatchAnswer], _ version: ProtocolVersion, into writer: inout WireWriter
    ) {
        encodeHead(answerMagic, answers.count, into: &writer)
        for answer in answers {
            let start = writer.count
            let body = answer.status.isError ? .empty : answer.body
            var message = LustreMessageEncoder(
                bufferCount: body.bufferCount, opcode: answer.opcode, into: &writer)
            message.buffer(into: &writer) { $0.u32(UInt32(bitPattern: answer.status.rawValue)) }
            body.encodeBuffers(version, &message, into: &writer)
            writer.pad(to: 8, from: start)
        }
    }

    private static func encodeHead(
        _ magic: UInt32, _ count: Int, into writer: inout WireWriter
    ) {
        precondition((1...countMax).contains(count), "a batch holds 1 to 64 requests")
        writer.u32(magic)
        writer.u32(UInt32(count))
        writer.u64(0)
    }

    static func requests(
        from reader: inout WireReader, _ version: ProtocolVersion
    ) throws(WireError) -> [RequestBody] {
        var requests: [RequestBody] = []
        let count = try readHead(requestMagic, from: &reader)
        var bytes = try reader.view(reader.remaining)
        for _ in 0..<count {
            let message = try LustreMessage(parsing: bytes)
            guard message.length(0) == 0 else {
                throw .badLength(
                    field: "batch buffer 0", value: UInt64(message.length(0)), limit: 0)
            }
            // Before its body is read: a batch in a batch would be read without end.
            guard RequestBody.mayBeBatched(message.opcode) else {
                throw .badValue(field: "lm_opc", value: UInt64(message.opcode.rawValue))
            }
            let request = try RequestBody(
                opcode: message.opcode, message: message, bytes: bytes, version: version)
            guard request.mayBeBatched else {
                throw .badValue(field: "lm_opc", value: UInt64(message.opcode.rawValue))
            }
            requests.append(request)
            bytes = bytes.extracting(
                min(message.paddedByteCount, bytes.byteCount)..<bytes.byteCount)
        }
        guard bytes.byteCount == 0 else {
            throw .badLength(field: "batch", value: UInt64(bytes.byteCount), limit: 0)
        }
        return requests
    }

    static func answers(
        from reader: inout WireReader, _ version: ProtocolVersion
    ) throws(WireError) -> [BatchAnswer] {
        var answers: [BatchAnswer] = []
        let count = try readHead(answerMagic, from: &reader)
        var bytes = try reader.view(reader.remaining)
        for _ in 0..<count {
            let message = try LustreMessage(parsing: bytes)
            guard RequestBody.mayBeBatched(message.opcode) else {
                throw .badValue(field: "lm_opc", value: UInt64(message.opcode.rawValue))
            }
            var first = try message.reader(0, in: bytes)
            let status = Status(rawValue: Int32(bitPattern: try first.u32()))
            let body = try ReplyBody(
                opcode: message.opcode, status: status, message: message, bytes: bytes,
                version: version)
            answers.append(BatchAnswer(opcode: message.opcode, status: status, body: body))
            bytes = bytes.extracting(
                min(message.paddedByteCount, bytes.byteCount)..<bytes.byteCount)
        }
        guard bytes.byteCount == 0 else {
            throw .badLength(field: "batch", value: UInt64(bytes.byteCount), limit: 0)
        }
        return answers
    }

    private static func readHead(
        _ magic: UInt32, from reader: inout WireReader
    ) throws(WireError) -> Int {
        let found = try reader.u32()
        guard found == magic else { throw .badMagic(found) }
        let count = try reader.u32()
        guard (1...UInt32(countMax)).contains(count) else {
            throw .badLength(field: "batch", value: UInt64(count), limit: UInt64(countMax))
        }
        try reader.reserved(8)
        return Int(count)
    }
}

extension RequestBody {
    /// What reads, or tells what the client holds: it needs no transno, no modify slot, no bulk.
    public var mayBeBatched: Bool {
        if case .enqueue(let enqueue) = self, enqueue.receipt != nil { return false }
        return Self.mayBeBatched(opcode)
    }

    static func mayBeBatched(_ opcode: Opcode) -> Bool {
        switch opcode {
        case .ldlmEnqueue, .ldlmCancel, .openReplay, .getattr, .lookup, .objectGetattr: true
        default: false
        }
    }
}
