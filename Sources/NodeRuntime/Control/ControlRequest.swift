import EventLoop
import Foundation

/// What an operator asks of a running node: `net show`, with arguments.
///
/// On the wire one JSON object, ended by the end of the sender's side; the answer likewise.
public struct ControlRequest: Codable, Hashable, Sendable {
    /// What it is about: `net`, `peer`, `route`, `client`.
    public var noun: String
    /// What is to be done with it: `show`, `add`.
    public var verb: String
    /// By the names of the command's options, without dashes.
    public var arguments: [String: String]
    /// A file's text, where the command has one.
    public var body: String

    public init(
        _ noun: String, _ verb: String, _ arguments: [String: String] = [:], body: String = ""
    ) {
        self.noun = noun
        self.verb = verb
        self.arguments = arguments
        self.body = body
    }

    /// What a node reads at most of a request, and a command of an answer.
    static let requestBytesMax = 1 << 20
    static let replyBytesMax = 64 << 20

    /// An argument that the verb cannot do without.
    public func required(_ name: String) throws(ControlError) -> String {
        guard let value = arguments[name], !value.isEmpty else {
            throw ControlError("\(noun) \(verb) needs --\(name)", errno: 22)
        }
        return value
    }

    /// A whole number in a range; nil where it was not given.
    public func number(
        _ name: String, in range: ClosedRange<Int>
    ) throws(ControlError) -> Int? {
        guard let text = arguments[name] else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw ControlError(
                "--\(name) is a number from \(range.lowerBound) to \(range.upperBound), not \(text)",
                errno: 22)
        }
        return value
    }
}

/// Why a node did not do what it was asked for: one sentence and an errno.
public struct ControlError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    /// Positive, as Linux numbers them.
    public var errno: Int32

    public init(_ description: String, errno: Int32) {
        self.description = description
        self.errno = errno
    }
}

/// An answer on the wire: a body, or why there is none.
struct ControlReply: Codable {
    var errno: Int32 = 0
    var error = ""
    var body = ""
}

/// Asks a running node through its control socket.
public struct ControlClient: Sendable {
    /// Where the node's socket is.
    public let path: String

    public init(path: String) { self.path = path }

    /// Sends a request and waits for the answer's text; YAML for most verbs.
    ///
    /// - Throws: `ControlError`, whether the node refuses or is not there.
    public func ask(
        _ request: ControlRequest, timeout: Duration = .seconds(30)
    ) throws(ControlError) -> String {
        let bytes: [UInt8]
        do throws(FabricError) {
            let socket = try LocalSocket(connectingTo: path)
            try socket.setTimeout(
                milliseconds: Int32(clamping: timeout.components.seconds * 1000 + 1000))
            let encoded = (try? JSONEncoder().encode(request)) ?? Data()
            try socket.send([UInt8](encoded))
            bytes = try socket.receive(limit: ControlRequest.replyBytesMax)
        } catch {
            throw Self.explain(error, path)
        }
        guard let reply = try? JSONDecoder().decode(ControlReply.self, from: Data(bytes)) else {
            throw ControlError(
                "what answers at \(path) is no node of ours, or it ended meanwhile", errno: 71)
        }
        guard reply.errno == 0 else { throw ControlError(reply.error, errno: reply.errno) }
        return reply.body
    }

    private static func explain(_ error: FabricError, _ path: String) -> ControlError {
        let text =
            switch error.errno {
            case 2:
                "no control socket at \(path): start the node with --control \(path), or name its"
            case 111: "nobody listens at \(path): the node that made it has ended"
            case 13: "\(path) belongs to another user: run as the one who runs the node"
            case 36: "\(path) is too long for a socket: at most 107 bytes"
            case 11: "the node at \(path) does not answer in time"
            default: "\(path): \(error)"
            }
        return ControlError(text, errno: error.errno)
    }
}
