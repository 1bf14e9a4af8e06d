public import WireFormat

/// Whether an instance may start on a store, and how (R22, R26, R27, R30).
public enum StartGate {
    /// What the store says about the instance that used it last.
    public struct LastRun: Equatable, Sendable {
        /// The last instance that changed anything: it is noted with its first update, in the
        /// transaction that withdraws the clean record. Replies wait until that one is on disk, so that
        /// no acknowledged update ever stands beside a record that does not know it.
        public var instance: UInt64
        public var versions: ClosedRange<ProtocolVersion>
        public var storeFormat: UInt32
        /// Clients with a slot in the store, by UUID: who would be evicted by force.
        public var clients: [String]
        /// The operator has said that no build below this version may have the store any more.
        public var finalized: ProtocolVersion?

        public init(
            instance: UInt64, versions: ClosedRange<ProtocolVersion>, storeFormat: UInt32,
            clients: [String], finalized: ProtocolVersion? = nil
        ) {
            self.instance = instance
            self.versions = versions
            self.storeFormat = storeFormat
            self.clients = clients
            self.finalized = finalized
        }
    }

    public enum Decision: Equatable, Sendable {
        /// Nobody used this store before.
        case fresh
        /// The last stop was clean: serve at once, with the record's reservations.
        case clean(CleanRecord)
        /// An unclean stop, and nothing has changed: ordinary recovery.
        case recover
        /// Not on this store. The sentence says why, and what the choices are.
        case refused(String)
        /// By the operator's will, after an unclean stop and with another protocol: these lose their
        /// connections, and what they had not committed.
        case forced(evicting: [String])
    }

    /// `cleanRecord` is what stands in the store, or nil; it counts only if it is the last instance's.
    public static func decide(
        lastRun: LastRun?, cleanRecord: CleanRecord?, ownVersions: ClosedRange<ProtocolVersion>,
        ownFormats: ClosedRange<UInt32>, isForced: Bool
    ) -> Decision {
        guard let lastRun else { return .fresh }
        guard ownFormats.contains(lastRun.storeFormat) else {
            return .refused(
                "the store has format \(lastRun.storeFormat), this build reads and converts "
                    + "\(ownFormats.lowerBound) to \(ownFormats.upperBound): start a build that "
                    + "knows format \(lastRun.storeFormat). Force cannot help here.")
        }
        if let finalized = lastRun.finalized, ownVersions.upperBound < finalized {
            return .refused(
                "the upgrade to protocol \(finalized) is finalised and this build speaks "
                    + "\(spelled(ownVersions)): start a build that speaks \(finalized). "
                    + "Force cannot help here.")
        }
        if let cleanRecord, cleanRecord.instance == lastRun.instance {
            guard let problem = cleanRecord.contradiction else { return .clean(cleanRecord) }
            if isForced { return .recover }
            return .refused(
                "the clean record contradicts itself: \(problem). Choices: put the store back "
                    + "from a backup; or force the start, which recovers as after a crash.")
        }
        guard lastRun.versions != ownVersions else { return .recover }
        if isForced { return .forced(evicting: lastRun.clients) }
        let count = lastRun.clients.count
        return .refused(
            "the last instance (\(lastRun.instance)) spoke protocol \(spelled(lastRun.versions)) and "
                + "did not stop cleanly, this build speaks \(spelled(ownVersions)): \(count) "
                + "\(count == 1 ? "client" : "clients") may hold requests to replay in the old "
                + "protocol. Choices: start the old build on this store, let it recover and upgrade "
                + "it as announced; or force the start, which evicts "
                + (count == 0 ? "nobody" : named(lastRun.clients)) + ".")
    }

    private static func spelled(_ versions: ClosedRange<ProtocolVersion>) -> String {
        versions.lowerBound == versions.upperBound
            ? "\(versions.lowerBound)" : "\(versions.lowerBound) to \(versions.upperBound)"
    }

    /// All names where they fit a sentence; `forced(evicting:)` has every one.
    private static func named(_ clients: [String]) -> String {
        let shown = clients.prefix(10).joined(separator: ", ")
        return clients.count > 10 ? "\(shown) and \(clients.count - 10) more" : shown
    }
}
