public import ClientCore
public import WireFormat

/// Which targets make up a file system and where they are found: what all its nodes agree on.
public struct ClusterDescription: Equatable, Sendable {
    /// One target and the NIDs of the nodes that may serve it.
    public struct Target: Equatable, Sendable {
        public var name: String
        public var kind: TargetKind
        /// Index of an object target in layouts; of a metadata target in its file ids.
        public var index: UInt32
        /// Where it may be found, the partner's NID among them, in the order in which to try.
        public var nids: [NID]

        public init(name: String, kind: TargetKind, index: UInt32, nids: [NID]) {
            self.name = name
            self.kind = kind
            self.index = index
            self.nids = nids
        }
    }

    public var targets: [Target]
    /// `accept_port`: where every node of this network listens.
    public var acceptPort: UInt16
    /// Whether source ports below 1024 vouch for a peer.
    public var privilegedPorts: Bool

    public init(targets: [Target], acceptPort: UInt16 = 988, privilegedPorts: Bool? = nil) {
        self.targets = targets
        self.acceptPort = acceptPort
        self.privilegedPorts = privilegedPorts ?? (acceptPort == 988)
    }

    public func target(named name: String) -> Target? { targets.first { $0.name == name } }

    /// The place of a target in the lists that clients and operations name targets by.
    public func place(ofTarget name: String) -> Int? {
        targets.firstIndex { $0.name == name }
    }

    /// All targets, as a client is told of them.
    public var clientTargets: [ClientTarget] {
        targets.map {
            ClientTarget(name: $0.name, kind: $0.kind, index: $0.index, nids: $0.nids)
        }
    }
}
