public import WireFormat

/// Who we are in every message of one lifetime on one interface.
public struct O2IBLNDIdentity: Sendable, BitwiseCopyable {
    public var nid: NID
    /// Wall clock in ns at the start of the interface.
    public var incarnation: UInt64

    public init(nid: NID, incarnation: UInt64) {
        self.nid = nid
        self.incarnation = incarnation
    }
}

/// What a node knows about a peer when its request to connect arrives.
public struct O2IBLNDPeerView: Sendable, BitwiseCopyable {
    /// We are connecting to this peer ourselves.
    public var isConnecting: Bool
    /// The incarnation on the peer's connections; nil when it has none.
    public var incarnation: UInt64?

    public init(isConnecting: Bool, incarnation: UInt64?) {
        self.isConnecting = isConnecting
        self.incarnation = incarnation
    }
}

/// A request to connect that could be read: who asks, and for what.
public struct O2IBLNDRequest: Sendable, Equatable, BitwiseCopyable {
    public var source: NID
    public var incarnation: UInt64
    public var parameters: O2IBLNDParameters

    public init(source: NID, incarnation: UInt64, parameters: O2IBLNDParameters) {
        self.source = source
        self.incarnation = incarnation
        self.parameters = parameters
    }
}

/// What a passive side does with a request (`kiblnd_passive_connect`, o2iblnd_cb.c).
public enum O2IBLNDVerdict: Sendable, Equatable {
    case accept(O2IBLNDRequest)
    /// Reject, for the protocol's reason; the fault is what is counted.
    case reject(O2IBLNDReject.Reason, O2IBLNDFault)

    /// Reads a request's private data, which the connection manager may have padded.
    ///
    /// Checks in the order in which Lustre does: size, magic, version, kind, destination, the
    /// stamp of our incarnation, queue depth, fragments, message size.
    public static func read(
        _ privateData: RawSpan, to own: O2IBLNDIdentity, limits: O2IBLNDParameters
    ) -> O2IBLNDVerdict {
        let header: O2IBLNDHeader
        let message: O2IBLNDMessage
        do throws(WireError) {
            header = try O2IBLNDHeader(parsing: privateData)
            message = try O2IBLNDMessage(parsing: privateData, header: header)
        } catch {
            switch error {
            case .badMagic: return .reject(.fatal, .badMagic)
            case .badVersion: return .reject(.incompatible, .badVersion)
            case .badValue: return .reject(.fatal, .badKind)
            case .truncated, .badLength, .reservedBitsSet, .unexpected:
                return .reject(.fatal, .badPrivateData)
            }
        }
        guard case .connectRequest(let asked) = message else {
            return .reject(.fatal, .badKind)
        }
        guard header.destination == own.nid else { return .reject(.fatal, .wrongNID) }
        guard header.destinationStamp == 0 || header.destinationStamp == own.incarnation else {
            return .reject(.stale, .staleRequest)
        }
        guard header.source.network == own.nid.network, header.source != own.nid else {
            return .reject(.fatal, .stranger)
        }
        guard asked.queueDepth > 0, asked.queueDepth <= limits.queueDepth else {
            return .reject(.queueDepth, .badQueueDepth)
        }
        guard asked.maxFragments > 0, asked.maxFragments <= limits.maxFragments else {
            return .reject(.fragments, .badFragments)
        }
        // Too short for a message of one fragment would be no use, either.
        guard asked.maxMessageBytes <= limits.maxMessageBytes, asked.maxMessageBytes >= 256 else {
            return .reject(.fatal, .badMessageSize)
        }
        return .accept(
            O2IBLNDRequest(
                source: header.source, incarnation: header.sourceStamp, parameters: asked))
    }

    /// The verdict on a request that is well formed. A race is won by the greater NID's request, so
    /// that both ends decide alike, but not for ever: `races` counts those rejected in a row.
    public static func on(
        _ request: O2IBLNDRequest, to own: O2IBLNDIdentity, view: O2IBLNDPeerView, races: Int
    ) -> O2IBLNDVerdict {
        if let incarnation = view.incarnation, incarnation != request.incarnation {
            return .reject(.stale, .peerRestarted)
        }
        if view.isConnecting, request.source < own.nid, races < racesMax {
            return .reject(.connectionRace, .lostRace)
        }
        return .accept(request)
    }

    /// MAX_CONN_RACES_BEFORE_ABORT.
    public static let racesMax = 20
}
