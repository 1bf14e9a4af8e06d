import LNDCore
import Primitives
public import WireFormat

/// One LNet message between two nodes, as far as its headers tell: what scripts match and
/// timelines show.
public struct SimulatedMessage: Sendable {
    public enum Kind: Hashable, Sendable {
        /// A PUT with a request of the RPC layer; its reply or refusal.
        case request(Opcode)
        case reply(Opcode)
        /// A PUT with anything else: bulk data of a read.
        case put(portal: UInt32)
        case get
        /// The data of a GET.
        case data
        case ack
        /// Acceptor request and hello; a NOOP.
        case handshake
        case keepalive
    }

    public var kind: Kind
    /// Nodes, by their index in the cluster.
    public var from: Int
    public var to: Int
    /// Framing included.
    public var byteCount: Int
    public var xid: XID = .zero
    public var transno: Transno = .zero
    public var status: Status = .ok
    public var flags: MessageFlags = []

    /// The message that begins `bytes`. Nil where they are none that is known.
    init?(parsing bytes: RawSpan, from: Int, to: Int) {
        self.from = from
        self.to = to
        guard bytes.byteCount >= 8 else { return nil }
        switch bytes.littleEndian(at: 0, as: UInt32.self) {
        case AcceptorRequest.magic:
            kind = .handshake
            byteCount = AcceptorRequest.encodedSize
        case SockLNDHello.magic:
            guard bytes.byteCount >= SockLNDHello.encodedSize else { return nil }
            kind = .handshake
            byteCount =
                SockLNDHello.encodedSize + 4 * Int(bytes.littleEndian(at: 52, as: UInt32.self))
        case SockLNDMessageHeader.Kind.noop.rawValue:
            kind = .keepalive
            byteCount = SockLNDMessageHeader.encodedSize
        case SockLNDMessageHeader.Kind.lnet.rawValue:
            let start = SockLNDMessageHeader.encodedSize
            guard bytes.byteCount >= start + LNetHeader.encodedSize,
                let header = try? LNetHeader(parsing: bytes.extracting(start...))
            else { return nil }
            byteCount = start + LNetHeader.encodedSize + Int(header.payloadLength)
            switch header.body {
            case .ack: kind = .ack
            case .get: kind = .get
            case .reply: kind = .data
            case .put(_, let matchBits, _, let portal, _):
                kind = .put(portal: portal)
                xid = XID(rawValue: matchBits)
                guard byteCount <= bytes.byteCount else { return nil }
                readRPC(bytes.extracting((start + LNetHeader.encodedSize)..<byteCount))
            }
        default:
            return nil
        }
        guard byteCount <= bytes.byteCount else { return nil }
    }

    private mutating func readRPC(_ payload: RawSpan) {
        guard payload.byteCount >= LustreMessage.fixedSize,
            payload.littleEndian(at: 8, as: UInt32.self) == LustreMessage.magic
        else { return }
        let count = payload.littleEndian(at: 0, as: UInt32.self)
        guard (1...UInt32(LustreMessage.bufferCountMax)).contains(count) else { return }
        let body = LustreMessage.headerSize(bufferCount: Int(count))
        guard payload.byteCount >= body + PtlRPCBody.encodedSizeMin,
            let type = MessageType(rawValue: payload.littleEndian(at: body + 8))
        else { return }
        let opcode = Opcode(rawValue: payload.littleEndian(at: body + 16))
        kind = type == .request ? .request(opcode) : .reply(opcode)
        status = Status(rawValue: payload.littleEndian(at: body + 20))
        transno = Transno(rawValue: payload.littleEndian(at: body + 48))
        flags = MessageFlags(rawValue: payload.littleEndian(at: body + 56))
    }
}

extension SimulatedMessage: CustomStringConvertible {
    public var description: String {
        var text: String
        switch kind {
        case .request(let opcode): text = opcode.name
        case .reply(let opcode): text = "\(opcode.name) reply"
        case .put(let portal): text = "put to portal \(portal)"
        case .get: text = "get"
        case .data: text = "data"
        case .ack: text = "ack"
        case .handshake: text = "handshake"
        case .keepalive: text = "keepalive"
        }
        if xid != .zero { text += " x\(xid.rawValue)" }
        if transno != .zero { text += " t\(transno.rawValue)" }
        if status != .ok { text += " (\(status))" }
        if flags.contains(.resent) { text += " resent" }
        if flags.contains(.replay) { text += " replay" }
        return text
    }
}

/// Which messages a script means.
public struct MessagePattern: Sendable {
    private let isMeant: @Sendable (SimulatedMessage) -> Bool

    public init(_ isMeant: @escaping @Sendable (SimulatedMessage) -> Bool) {
        self.isMeant = isMeant
    }

    public func matches(_ message: SimulatedMessage) -> Bool { isMeant(message) }

    /// Every LNet message; handshakes and keepalives are none.
    public static let any = MessagePattern {
        switch $0.kind {
        case .handshake, .keepalive: false
        default: true
        }
    }
    public static let anyRequest = MessagePattern {
        if case .request = $0.kind { true } else { false }
    }
    public static let anyReply = MessagePattern {
        if case .reply = $0.kind { true } else { false }
    }
    /// GETs, their data, PUTs of data, and ACKs.
    public static let bulk = MessagePattern {
        switch $0.kind {
        case .get, .data, .put, .ack: true
        default: false
        }
    }

    public static func request(_ opcode: Opcode) -> MessagePattern {
        MessagePattern { $0.kind == .request(opcode) }
    }

    public static func reply(_ opcode: Opcode) -> MessagePattern {
        MessagePattern { $0.kind == .reply(opcode) }
    }

    /// Those of this pattern for which `condition` holds too.
    public func and(
        _ condition: @escaping @Sendable (SimulatedMessage) -> Bool
    ) -> MessagePattern {
        MessagePattern { self.matches($0) && condition($0) }
    }
}

/// When in its life a message is met.
public enum MessageMoment: Sendable {
    /// It leaves its sender.
    case sending
    /// It is about to reach its receiver.
    case arriving
    /// Its receiver has done with it what it does at once, its own messages sent.
    case delivered
    /// The network has lost it.
    case lost
}
