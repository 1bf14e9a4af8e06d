import LNetCore
import Primitives
import TestSupport
import WireFormat

/// What libFuzzer calls with every input. The first byte chooses what the rest is fed to.
///
/// A trap, a read out of bounds, a time-out, too much memory, or a failed precondition here is a
/// find.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let start = unsafe start, count > 0 else { return 0 }
    // SAFETY: libFuzzer lends `count` bytes for the call.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    let subject = Subject(rawValue: input[0] % UInt8(Subject.allCases.count))
    subject?.take(Array(input.dropFirst()))
    return 0
}

/// Who takes the input. The order is that of the corpus: new ones go to the end.
enum Subject: UInt8, CaseIterable {
    case acceptorRequest, hello, messageHeader, lnetHeader, pingInfo, selftest
    case o2ibMessage, o2ibReject
    case requestV1, requestV2, requestV3, replyV1, replyV2, replyV3, savedReply
    case tcpNode, o2ibNode
    case largeLNetHeader, largeNode

    func take(_ bytes: [UInt8]) {
        switch self {
        case .acceptorRequest:
            read(bytes, AcceptorRequest.init(parsing:)) { $0.encode(into: &$1) }
        case .hello:
            // The addresses of old nodes are read over and never written.
            read(
                bytes, SockLNDHello.init(parsing:), { $0.encode(into: &$1) }, isRoundTrip: false)
        case .messageHeader:
            read(bytes, SockLNDMessageHeader.init(parsing:)) { $0.encode(into: &$1) }
        case .lnetHeader:
            read(bytes, LNetHeader.init(parsing:)) { $0.encode(into: &$1) }
        case .pingInfo:
            // What METADATA says is passed over and never written.
            read(
                bytes, PingInfo.init(parsing:), { $0.encode(into: &$1) }, isRoundTrip: false)
        case .selftest:
            // Names that are no UTF-8 are read with replacement characters.
            read(
                bytes, SelftestMessage.init(parsing:), { $0.encode(into: &$1) }, isRoundTrip: false)
        case .o2ibMessage:
            read(
                bytes,
                { (span: RawSpan) throws(WireError) in
                    try O2IBLNDMessage(parsing: span, header: O2IBLNDHeader(parsing: span))
                },
                { $0.encode(into: &$1) }, isRoundTrip: false)
        case .o2ibReject:
            read(bytes, O2IBLNDReject.init(parsing:)) { $0.encode(into: &$1) }
        case .requestV1: request(bytes, .v1)
        case .requestV2: request(bytes, .v2)
        case .requestV3: request(bytes, .v3)
        case .replyV1: reply(bytes, .v1)
        case .replyV2: reply(bytes, .v2)
        case .replyV3: reply(bytes, .v3)
        case .savedReply:
            guard let saved = try? ReplyBody.restored(bytes) else { return }
            _ = saved.body.saved(
                as: saved.opcode, status: saved.status, preVersions: saved.preVersions)
        case .tcpNode: FuzzedNode.overTCP(bytes)
        case .o2ibNode: FuzzedNode.overRDMA(bytes)
        case .largeLNetHeader:
            read(bytes, LNetHeader.init(parsingLarge:)) { $0.encodeLarge(into: &$1) }
        case .largeNode: FuzzedNode.overTCP(bytes, isLarge: true)
        }
    }

    /// Reads a layout; what was read is no longer than its bytes, and reads the same when written.
    private func read<T: Equatable>(
        _ bytes: [UInt8], _ parse: (RawSpan) throws(WireError) -> T,
        _ write: (T, inout WireWriter) -> Void, isRoundTrip: Bool = true
    ) {
        guard let value = try? RawSpan.over(bytes, parse) else { return }
        var writer = WireWriter()
        write(value, &writer)
        // SelftestMessage is padded to one size, which was there to be read.
        precondition(writer.bytes.count <= bytes.count, "\(self) grew")
        guard isRoundTrip else { return }
        let again = try? RawSpan.over(writer.bytes, parse)
        precondition(again == value, "\(self) reads another value from what it wrote")
    }

    private func request(_ bytes: [UInt8], _ version: ProtocolVersion) {
        guard let request = try? decodedRequest(bytes, version) else { return }
        let again = encodedRequest(request, version)
        precondition(again.count <= bytes.count + 8 * LustreMessage.bufferCountMax, "it grew")
        if case .objectWrite(let body) = request, body.missingBulkBytes > 0 { return }
        precondition(
            (try? decodedRequest(again, version))?.withoutChecksums == request.withoutChecksums,
            "another request is read from what was written")
    }

    private func reply(_ bytes: [UInt8], _ version: ProtocolVersion) {
        guard let reply = try? decodedReply(bytes, version) else { return }
        let again = encodedReply(
            reply.body, to: reply.opcode, version, status: reply.status, trailer: reply.trailer)
        precondition(again.count <= bytes.count + 8 * LustreMessage.bufferCountMax, "it grew")
        if case .read(let body) = reply.body, body.travelsByBulk { return }
        precondition(
            (try? decodedReply(again, version))?.body.withoutChecksums
                == reply.body.withoutChecksums,
            "another reply is read from what was written")
    }
}
