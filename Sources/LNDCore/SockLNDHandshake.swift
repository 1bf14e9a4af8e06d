public import Primitives
public import WireFormat

/// Who we are in every hello of one lifetime.
public struct SockLNDIdentity: Sendable {
    public var process: ProcessID
    /// Wall clock in ns at the start of the interface; the same on every connection.
    public var incarnation: UInt64

    public init(process: ProcessID, incarnation: UInt64) {
        self.process = process
        self.incarnation = incarnation
    }
}

/// What a node knows about a peer when a hello from it arrives.
public struct SockLNDPeerView: Sendable {
    /// We are connecting to this peer ourselves.
    public var isConnecting: Bool
    /// Connections of the type that the hello asks for (from our viewpoint).
    public var connectionsOfType: Int
    /// The incarnation on the peer's connections; nil when it has none.
    public var incarnation: UInt64?

    public init(isConnecting: Bool, connectionsOfType: Int, incarnation: UInt64?) {
        self.isConnecting = isConnecting
        self.connectionsOfType = connectionsOfType
        self.incarnation = incarnation
    }
}

/// What a passive side does with a hello (`ksocknal_create_conn`, socklnd.c).
public enum SockLNDVerdict: Equatable, Sendable {
    case accept
    /// Answer NONE; the other connections of the peer stay.
    case refuse(SockLNDFault)
    /// Answer NONE and close all other connections of the peer: it restarted.
    case refuseAndCloseOthers

    /// The verdict on a hello from `peer`. A race is won by the greater NID's attempt, so that
    /// both ends decide alike; nothing is refused only because of an attempt that lost.
    public static func on(
        _ hello: SockLNDHello, from peer: NID, to own: NID, view: SockLNDPeerView,
        connectionsPerType: Int
    ) -> SockLNDVerdict {
        if let incarnation = view.incarnation, incarnation != hello.sourceIncarnation {
            return .refuseAndCloseOthers
        }
        if view.isConnecting, peer < own { return .refuse(.lostRace) }
        if view.connectionsOfType >= connectionsPerType { return .refuse(.duplicate) }
        return .accept
    }
}

extension SockLNDHello {
    /// Who the sender counts as, given where its connection comes from; nil for a stranger.
    ///
    /// With `privilegedPorts` a reserved source port vouches for the hello, and anybody else is a
    /// userspace process named by its socket (`ksocknal_recv_hello`). Without, the address in the
    /// NID must be the socket's.
    public func identity(
        remoteAddress: IPAddress, remotePort: UInt16, network: UInt32, privilegedPorts: Bool
    ) -> ProcessID? {
        guard source.nid != .any, source.nid.network == network else { return nil }
        if privilegedPorts {
            if remotePort < 1024 { return source }
            let nid = NID(ip: remoteAddress, type: source.nid.type, number: source.nid.number)
            return ProcessID(nid: nid, pid: UInt32(remotePort) | ProcessID.userFlag)
        }
        guard source.nid.ip == remoteAddress, source.pid != ProcessID.anyPID else {
            return nil
        }
        return source
    }
}
