public import WireFormat

/// What a target leaves behind with its last group commit: proof that nothing has to be replayed, and
/// what the next instance needs to give everybody back what they had.
///
/// It counts only for the instance after `instance`, and is withdrawn with that one's first update.
public struct CleanRecord: Equatable, Sendable {
    /// What is known of a client at the seal.
    public enum Account: Equatable, Sendable {
        /// It said itself that nothing can need to be sent again.
        case receipt(UpgradeReceipt)
        /// It connected during the upgrade and never sent an update.
        case bornPrepared
        /// Every update of it was committed before its reply: it may only have resends.
        case synchronous
        /// It was left behind at the deadline, or was gone: all that it was answered is on disk.
        case absent
        /// It was not here in this instance at all; the entry is an earlier record's.
        case carriedForward
    }

    public struct Client: Equatable, Sendable {
        public var uuid: String
        public var exportIndex: UInt32
        public var nid: NID
        /// Only clean stops lie between this instance of the target and the record's next one.
        public var sinceInstance: UInt64
        public var account: Account

        public init(
            uuid: String, exportIndex: UInt32, nid: NID, sinceInstance: UInt64, account: Account
        ) {
            self.uuid = uuid
            self.exportIndex = exportIndex
            self.nid = nid
            self.sinceInstance = sinceInstance
            self.account = account
        }

        /// The entry for the next record, of a client that did not come back before it.
        public var carriedForward: Client {
            var copy = self
            copy.account = .carriedForward
            return copy
        }
    }

    public var epoch: UpgradeEpoch
    public var instance: UInt64
    public var versions: ClosedRange<ProtocolVersion>
    public var storeFormat: UInt32
    public var lastTransno: Transno
    public var targetName: String
    public var clients: [Client]
    /// Granted locks and open handles, each in the form of who reads it back.
    public var lockReservations: [[UInt8]]
    public var openReservations: [[UInt8]]
    /// Whom the next instance tells that it is up, beside the clients' own NIDs.
    public var nids: [NID]

    public init(
        epoch: UpgradeEpoch, instance: UInt64, versions: ClosedRange<ProtocolVersion>,
        storeFormat: UInt32, lastTransno: Transno, targetName: String, clients: [Client] = [],
        lockReservations: [[UInt8]] = [], openReservations: [[UInt8]] = [], nids: [NID] = []
    ) {
        self.epoch = epoch
        self.instance = instance
        self.versions = versions
        self.storeFormat = storeFormat
        self.lastTransno = lastTransno
        self.targetName = targetName
        self.clients = clients
        self.lockReservations = lockReservations
        self.openReservations = openReservations
        self.nids = nids
    }

    /// What cannot be true together, in words: every receipt speaks of this upgrade or of an earlier
    /// one. Nil where all is well.
    public var contradiction: String? {
        for client in clients {
            if case .receipt(let receipt) = client.account, receipt.epoch > epoch {
                return "\(client.uuid) gave its receipt for upgrade \(receipt.epoch), and the "
                    + "record is of \(epoch)"
            }
            if client.sinceInstance > instance {
                return "\(client.uuid) is of instance \(client.sinceInstance), and the record of "
                    + "\(instance)"
            }
        }
        return nil
    }

    /// How the instance after a clean start takes a client (R22). Linear: load entries into slots.
    ///
    /// `lastInstance`: the instance of the target that the client was last connected to.
    public func mode(forUUID uuid: String, lastInstance: UInt64) -> ConnectReply.Mode {
        guard let client = clients.first(where: { $0.uuid == uuid }) else { return .fresh }
        return client.mode(lastInstance: lastInstance)
    }
}

extension CleanRecord.Client {
    /// How the instance after a clean start takes this client.
    public func mode(lastInstance: UInt64) -> ConnectReply.Mode {
        // A crash lies between: what it was told may not have come to disk.
        guard lastInstance >= sinceInstance else { return .recovering }
        switch account {
        case .receipt, .bornPrepared, .absent, .carriedForward: return .cleanRecord
        // Without the feature it knows nothing of records: saved replies answer its resends.
        case .synchronous: return .recovering
        }
    }
}

extension UpgradeTarget {
    /// What the clean record says of a client; nil for an index that nobody has.
    public func account(of client: UInt32) -> CleanRecord.Account? {
        switch standing(of: client) {
        case .vacant: nil
        case .synchronous: .synchronous
        case .bornPrepared: .bornPrepared
        case .leftBehind: .absent
        case .prepared: receipt(of: client).map { .receipt($0) } ?? .bornPrepared
        // Scheme `sync`: it kept its lock, and every update was committed before its reply.
        case .granted: .absent
        }
    }
}
