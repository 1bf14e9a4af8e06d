import EventLoop
import LNetCore
import Primitives
import WireFormat

extension ControlRouter {
    /// Answers lnetctl's nouns and verbs for a node's LNet.
    public mutating func addNetwork(_ network: NetworkAccess) {
        addInterfaceVerbs(network)
        addPeerVerbs(network)
        addRouteVerbs(network)
        addFaultVerbs(network)
        addSettingVerbs(network)
        addDocumentVerbs(network)
    }

    static func nid(_ text: some StringProtocol) throws(ControlError) -> NID {
        guard let nid = NID(String(text)) else {
            throw ControlError("\(text) is no NID such as 192.0.2.7@tcp", errno: 22)
        }
        return nid
    }

    static func nids(_ text: String) throws(ControlError) -> [NID] {
        var nids: [NID] = []
        for part in text.split(separator: ",") { nids.append(try nid(part)) }
        guard !nids.isEmpty else { throw ControlError("name at least one NID", errno: 22) }
        return nids
    }
}

/// Words for an errno.
enum FabricText {
    static func of(_ errno: Int32) -> String { FabricError.text(forErrno: errno) }
}

extension NetworkAccess {
    /// Runs a change on the node's loop, which carries out what follows from it before this
    /// returns.
    func change(
        _ body: @escaping @Sendable (inout LNetCore, Ticks) -> Int32
    ) throws(ControlError) -> Int32 {
        let errno = try with(body)
        // A second visit comes after the turn in which the first one's actions were carried out.
        _ = try with { _, _ in 0 }
        return errno
    }
}
