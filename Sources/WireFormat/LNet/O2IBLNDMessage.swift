/// An o2iblnd message behind its header. Source: the union of `struct kib_msg` (o2iblnd-idl.h).
///
/// Offsets count from the beginning of the message; LNet headers are little-endian.
///
/// | kind                      | body                                                            |
/// |---------------------------|-----------------------------------------------------------------|
/// | CONNREQ, CONNACK          | parameters 8 @48                                                |
/// | NOOP                      | -                                                               |
/// | IMMEDIATE                 | lnet_hdr 72 @48, payload @120                                   |
/// | PUT_REQ                   | lnet_hdr 72 @48, cookie 8 @120                                  |
/// | PUT_ACK                   | source cookie 8 @48, sink cookie 8 @56, descriptor @64          |
/// | GET_REQ                   | lnet_hdr 72 @48, cookie 8 @120, descriptor @128                 |
/// | PUT_NAK, PUT_DONE, GET_DONE | cookie 8 @48, status 4 @56                                    |
public enum O2IBLNDMessage: Hashable, Sendable {
    case connectRequest(O2IBLNDParameters)
    case connectAck(O2IBLNDParameters)
    case noop
    case immediate(LNetHeader)
    case putRequest(LNetHeader, cookie: UInt64)
    /// A sink refuses: a negative errno, or 0 where it wants nothing of it.
    case putNak(cookie: UInt64, status: Int32)
    case putAck(sourceCookie: UInt64, sinkCookie: UInt64, O2IBLNDDescriptor)
    /// Bytes written, or a negative errno.
    case putDone(cookie: UInt64, status: Int32)
    case getRequest(LNetHeader, cookie: UInt64, O2IBLNDDescriptor)
    case getDone(cookie: UInt64, status: Int32)

    public var kind: O2IBLNDHeader.Kind {
        switch self {
        case .connectRequest: .connectRequest
        case .connectAck: .connectAck
        case .noop: .noop
        case .immediate: .immediate
        case .putRequest: .putRequest
        case .putNak: .putNak
        case .putAck: .putAck
        case .putDone: .putDone
        case .getRequest: .getRequest
        case .getDone: .getDone
        }
    }

    /// Reads what stands behind `header`, which was parsed from the same bytes.
    public init(parsing bytes: RawSpan, header: O2IBLNDHeader) throws(WireError) {
        let message = bytes.extracting(0..<Int(header.byteCount))
        switch header.kind {
        case .connectRequest: self = .connectRequest(O2IBLNDParameters(parsing: message, at: 48))
        case .connectAck: self = .connectAck(O2IBLNDParameters(parsing: message, at: 48))
        case .noop: self = .noop
        case .immediate:
            let lnet = try LNetHeader(parsing: message.extracting(48..<120))
            guard Int(lnet.payloadLength) == message.byteCount - 120 else {
                throw .badLength(
                    field: "lnet_hdr.payload_length", value: UInt64(lnet.payloadLength),
                    limit: UInt64(message.byteCount - 120))
            }
            self = .immediate(lnet)
        case .putRequest:
            self = .putRequest(
                try LNetHeader(parsing: message.extracting(48..<120)),
                cookie: message.littleEndian(at: 120))
        case .putAck:
            self = .putAck(
                sourceCookie: message.littleEndian(at: 48),
                sinkCookie: message.littleEndian(at: 56),
                try O2IBLNDDescriptor(parsing: message, at: 64))
        case .getRequest:
            self = .getRequest(
                try LNetHeader(parsing: message.extracting(48..<120)),
                cookie: message.littleEndian(at: 120),
                try O2IBLNDDescriptor(parsing: message, at: 128))
        case .putNak:
            self = .putNak(
                cookie: message.littleEndian(at: 48), status: message.littleEndian(at: 56))
        case .putDone:
            self = .putDone(
                cookie: message.littleEndian(at: 48), status: message.littleEndian(at: 56))
        case .getDone:
            self = .getDone(
                cookie: message.littleEndian(at: 48), status: message.littleEndian(at: 56))
        }
    }

    /// Bytes of the message without an immediate payload.
    public var encodedSize: Int {
        switch self {
        case .putAck(_, _, let descriptor): 64 + descriptor.encodedSize
        case .getRequest(_, _, let descriptor): 128 + descriptor.encodedSize
        default: kind.byteCountMin
        }
    }

    /// Writes what stands behind the header; an immediate payload follows it.
    public func encode(into writer: inout WireWriter) {
        switch self {
        case .connectRequest(let parameters), .connectAck(let parameters):
            parameters.encode(into: &writer)
        case .noop:
            break
        case .immediate(let header):
            header.encode(into: &writer)
        case .putRequest(let header, let cookie):
            header.encode(into: &writer)
            writer.u64(cookie)
        case .putAck(let sourceCookie, let sinkCookie, let descriptor):
            writer.u64(sourceCookie)
            writer.u64(sinkCookie)
            descriptor.encode(into: &writer)
        case .getRequest(let header, let cookie, let descriptor):
            header.encode(into: &writer)
            writer.u64(cookie)
            descriptor.encode(into: &writer)
        case .putNak(let cookie, let status), .putDone(let cookie, let status),
            .getDone(let cookie, let status):
            writer.u64(cookie)
            writer.u32(UInt32(bitPattern: status))
        }
    }
}
