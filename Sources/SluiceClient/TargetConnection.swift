import ClientCore
public import NodeRuntime
public import WireFormat

/// Administration of one target, over a client node: orders and questions past all caches.
public struct TargetConnection: Sendable {
    public let name: String
    private let node: Node
    private let place: Int

    /// - Parameter cluster: what the node's client was made with; its targets are in that order.
    public init(
        _ node: Node, cluster: ClusterDescription, target name: String
    ) throws(RuntimeError) {
        guard let place = cluster.place(ofTarget: name) else { throw .unknownTarget(name) }
        self.name = name
        self.node = node
        self.place = place
    }

    /// Orders an upgrade, or, with `isAbort`, to give one up. Returns its epoch; `.none` for an abort
    /// that nothing answers to by name.
    @discardableResult
    public func upgradeStart(_ start: UpgradeStart) async throws(FileSystemError) -> UpgradeEpoch {
        switch try await request(.upgradeStart(start)) {
        case .upgradeStarted(let epoch): return epoch
        case .empty: return .none
        default: throw FileSystemError(.protocolError, path: name)
        }
    }

    /// The target's account of itself and of its clients.
    public func upgradeStatus() async throws(FileSystemError) -> UpgradeStatusReply {
        guard case .upgradeStatus(let status) = try await request(.upgradeStatus) else {
            throw FileSystemError(.protocolError, path: name)
        }
        return status
    }

    /// Every row of the target's audit table, a page at a time.
    public func audit() async throws(FileSystemError) -> [AuditRow] {
        var rows: [AuditRow] = []
        while true {
            let reply = try await request(
                .auditRead(
                    AuditReadRequest(
                        afterClient: rows.last?.clientUUID ?? "",
                        afterXID: rows.last?.xid ?? XID(rawValue: 0))))
            guard case .audit(let page) = reply else {
                throw FileSystemError(.protocolError, path: name)
            }
            rows.append(contentsOf: page.rows)
            if page.isEnd || page.rows.isEmpty { return rows }
        }
    }

    /// One request of any kind.
    public func request(_ body: RequestBody) async throws(FileSystemError) -> ReplyBody {
        switch await node.perform(.raw(target: place, body)) {
        case .success(.reply(let reply)): return reply
        case .success: throw FileSystemError(.protocolError, path: name)
        case .failure(let error): throw FileSystemError(error.status, path: name)
        }
    }
}
