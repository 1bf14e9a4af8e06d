public import StorageCore
public import WireFormat

/// Data objects: pools of precreated ones, the choice for a new file, and the log of those to go.
extension MetadataService {
    // MARK: - Pools

    /// The object targets of the file system from now on. New ones are usable at once; the pools
    /// of others are kept, and nothing is chosen from them.
    public mutating func configureObjectTargets(_ targetIndices: [UInt32]) {
        for index in pools.indices {
            pools[index].isConfigured = targetIndices.contains(pools[index].targetIndex)
        }
        for target in targetIndices where poolIndex(target) == nil {
            var pool = ObjectPool(targetIndex: target)
            pool.isConfigured = true
            pools.append(pool)
        }
        pools.sort { $0.targetIndex < $1.targetIndex }
        nextPool = 0
    }

    private func poolIndex(_ targetIndex: UInt32) -> Int? {
        pools.firstIndex { $0.targetIndex == targetIndex }
    }

    /// Whether new files get objects there: not while the target is upgraded or out of reach.
    public mutating func setTargetUsable(_ targetIndex: UInt32, _ isUsable: Bool) {
        if let index = poolIndex(targetIndex) { pools[index].isUsable = isUsable }
    }

    /// Objects ready to be handed out.
    public func objectsReady(targetIndex: UInt32) -> UInt64 {
        poolIndex(targetIndex).map { pools[$0].readyCount } ?? 0
    }

    /// Sets numbers aside and says what to ask the object targets for; call it after a create and
    /// after a commit. Apply the transaction, send the requests, report what comes of each with
    /// `objectsAvailable` or `precreateFailed`. At most one request per target is on its way.
    public mutating func precreate<B: CommittedStore>(
        in store: OverlayStore<B>, requests: inout [PrecreateRequest]
    ) -> Transaction {
        var transaction = Transaction()
        for index in pools.indices where pools[index].isConfigured && pools[index].isUsable {
            if pools[index].reserved - pools[index].available < configuration.reserveCount / 2 {
                pools[index].reserved += configuration.reserveCount
                putPool(index, into: &transaction)
            }
            guard !pools[index].isAsking, pools[index].readyCount < configuration.poolLowCount
            else { continue }
            let first = pools[index].available
            var count = min(
                configuration.precreateCount, UInt64(ObjectCreateRequest.countMax))
            if pools[index].reservedCommitted < first + count {
                // Only what is committed counts: the overlay would go with a crash.
                pools[index].reservedCommitted =
                    store.base.read(.meta, Keys.pool(pools[index].targetIndex))
                    .flatMap { ObjectPool(targetIndex: 0, decoding: $0) }?.reserved ?? 1
            }
            guard pools[index].reservedCommitted > first else { continue }
            count = min(count, pools[index].reservedCommitted - first)
            pools[index].isAsking = true
            requests.append(
                PrecreateRequest(
                    targetIndex: pools[index].targetIndex,
                    first: ObjectName(targetIndex: pools[index].targetIndex, number: first),
                    count: UInt32(count)))
        }
        return transaction
    }

    /// The objects of a request exist, committed on their server. Returns false, and takes none,
    /// where they are not the next ones: a late or repeated answer.
    @discardableResult
    public mutating func objectsAvailable(
        targetIndex: UInt32, first: ObjectName, count: UInt32
    ) -> Bool {
        guard let index = poolIndex(targetIndex) else { return false }
        let isNext =
            first == ObjectName(targetIndex: targetIndex, number: pools[index].available)
            && UInt64(count) <= pools[index].reserved - pools[index].available
        guard isNext, pools[index].isAsking else { return false }
        pools[index].isAsking = false
        pools[index].available += UInt64(count)
        return true
    }

    /// The request did not succeed; the same objects are asked for again.
    public mutating func precreateFailed(targetIndex: UInt32) {
        if let index = poolIndex(targetIndex) { pools[index].isAsking = false }
    }

    private func putPool(_ index: Int, into transaction: inout Transaction) {
        transaction.put(
            .meta, key: Keys.pool(pools[index].targetIndex), value: pools[index].encoded)
    }

    // MARK: - Choice

    /// Stripes for a new file, and the pools that they come from.
    struct StripeChoice {
        var layout: FileLayout = .none
        var poolIndices: [Int] = []
    }

    /// One object from each of as many targets as asked for, and usable, in turn. Nil where not
    /// all of them have one. Nothing changes yet.
    func chooseStripes(asked: UInt32) -> StripeChoice? {
        var choice = StripeChoice()
        let configuredCount = pools.count { $0.isConfigured }
        if configuredCount == 0 { return choice }
        let usableCount = pools.count { $0.isConfigured && $0.isUsable }
        if usableCount == 0 { return nil }
        let wanted = min(Int(max(1, asked)), usableCount, FileLayout.stripeCountMax)
        choice.layout.stripeSize = configuration.stripeSize
        for step in 0..<pools.count where choice.poolIndices.count < wanted {
            let index = (nextPool + step) % pools.count
            guard pools[index].isReady else { continue }
            choice.poolIndices.append(index)
            choice.layout.stripes.append(
                FileLayout.Stripe(
                    targetIndex: pools[index].targetIndex,
                    object: ObjectName(
                        targetIndex: pools[index].targetIndex, number: pools[index].position)))
        }
        return choice.poolIndices.count == wanted ? choice : nil
    }

    /// The chosen objects are a file's: the pools move on, in the file's own transaction.
    mutating func take(_ choice: StripeChoice, into transaction: inout Transaction) {
        for index in choice.poolIndices {
            pools[index].position += 1
            putPool(index, into: &transaction)
            nextPool = (index + 1) % pools.count
        }
    }

    /// A stripe that this target could have given.
    func isPlausible(_ stripe: FileLayout.Stripe) -> Bool {
        stripe.object.number > 0 && stripe.object.number < ObjectPool.numberMax
            && stripe.object
                == ObjectName(targetIndex: stripe.targetIndex, number: stripe.object.number)
    }

    /// A replay names an object: it is a file's again, and never handed out from now on.
    mutating func takeReplayed(
        _ stripe: FileLayout.Stripe, into transaction: inout Transaction
    ) {
        let number = stripe.object.number
        if let index = poolIndex(stripe.targetIndex), pools[index].position <= number {
            // Ids below would stay behind unused.
            for skipped in pools[index].position..<min(number, pools[index].reserved) {
                logDestroy(
                    stripe.targetIndex,
                    ObjectName(targetIndex: stripe.targetIndex, number: skipped),
                    into: &transaction)
            }
            pools[index].position = number + 1
            if number >= pools[index].available { pools[index].isAsking = false }
            pools[index].available = max(pools[index].available, number + 1)
            pools[index].reserved = max(pools[index].reserved, number + 1)
            putPool(index, into: &transaction)
        }
        // The start after the crash took it for a leftover.
        transaction.delete(
            .destroyLog, key: Keys.destroy(stripe.targetIndex, stripe.object))
    }

    // MARK: - Destroy log

    func logDestroy(
        _ targetIndex: UInt32, _ object: ObjectName, into transaction: inout Transaction
    ) {
        transaction.put(.destroyLog, key: Keys.destroy(targetIndex, object), value: [1])
    }

    func logDestroys(of inode: Inode, into transaction: inout Transaction) {
        for stripe in inode.layout.stripes {
            logDestroy(stripe.targetIndex, stripe.object, into: &transaction)
        }
    }

    /// Objects of a target whose destruction is committed and not yet answered, ascending. None
    /// during recovery: a replay may still name one that the start took for a leftover.
    public func pendingDestroys<B: CommittedStore>(
        targetIndex: UInt32, limit: Int, in store: OverlayStore<B>
    ) -> [ObjectName] {
        var objects: [ObjectName] = []
        guard !isRecovering, limit > 0 else { return objects }
        let prefix = Keys.destroyPrefix(targetIndex)
        store.base.scan(.destroyLog, from: prefix) { key, _ in
            guard key.starts(with: prefix) else { return false }
            // Answered already, though that is not committed.
            if store.read(.destroyLog, key) != nil, let object = Keys.destroyedObject(in: key) {
                objects.append(object)
            }
            return objects.count < limit
        }
        return objects
    }

    /// The object target destroyed these: they leave the log.
    public func destroyed(targetIndex: UInt32, objects: [ObjectName]) -> Transaction {
        var transaction = Transaction()
        for object in objects {
            transaction.delete(.destroyLog, key: Keys.destroy(targetIndex, object))
        }
        return transaction
    }
}
