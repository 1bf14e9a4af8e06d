import NodeCore
import Primitives
public import StorageCore
import WireFormat

/// A disk as the cores see it through the production store: slow, full, torn by a crash, or gone.
///
/// What the production store shows, this shows, and nothing else:
///
/// | on the disk | what the server sees |
/// |---|---|
/// | slow | the commit's report comes later |
/// | full, or an error while writing | `commitFailed`, and the same group again a second later |
/// | crash with a group under way | at the next start: the group is not there; or it is there, although nobody was told; or it is not, but bytes that it wrote over existing ones show, in part |
/// | a flipped bit, a byte that cannot be read | the read gives nothing, and `takeDamage` says so once |
///
/// A commit that was reported is never undone: object files are synced before the transaction that
/// names them, and LMDB swaps its root page last.
public final class SimulatedDisk: CommittedStore {
    public let contents: MemoryStore
    /// No group is committed while this stands.
    public var isFull = false
    /// Commits take so many times as long.
    public var slowness: UInt64 = 1
    /// Reads that still succeed before one meets damage, of which the store's checksums tell; the
    /// next time the same bytes are right again. Nil for no damage.
    public var readsBeforeDamage: Int?
    private var damage: StoreDamage?
    /// How often a read met damage.
    public private(set) var damageCount: UInt64 = 0

    public init(_ contents: MemoryStore = MemoryStore()) { self.contents = contents }

    /// True where this read meets damage.
    private func meets(_ found: StoreDamage) -> Bool {
        guard let left = readsBeforeDamage else { return false }
        readsBeforeDamage = left > 0 ? left - 1 : nil
        guard left == 0 else { return false }
        damageCount += 1
        if damage == nil { damage = found }
        return true
    }

    public func read(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
        if meets(.row(table, key: key)) { return nil }
        return contents.read(table, key)
    }

    public func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool
    ) {
        contents.scan(table, from: from, visit)
    }

    public func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8] {
        if meets(.object(id, offset: offset)) { return [UInt8](repeating: 0, count: count) }
        return contents.readObject(id, offset: offset, count: count)
    }

    public func takeDamage() -> StoreDamage? {
        defer { damage = nil }
        return damage ?? contents.takeDamage()
    }

    /// Bytes that a group wrote over committed ones, in place, before a crash: some of its object
    /// writes, cut to the committed length. The records still say what they said.
    func tear(_ group: CommitGroup, _ random: inout SplitMix64) {
        var torn = Transaction()
        // What was cut to nothing goes to a new file; what was cut shorter is worked out in whole.
        var cut: Set<ObjectID> = []
        for operation in group.operations {
            switch operation {
            case .truncateObject(let id, _), .removeObject(let id): cut.insert(id)
            case .put, .delete, .writeObject: break
            }
        }
        for operation in group.operations {
            guard case .writeObject(let id, let offset, let bytes) = operation,
                !cut.contains(id), random.oneIn(2)
            else { continue }
            let there = contents.readObject(id, offset: offset, count: bytes.count).count
            guard there > 0 else { continue }
            let count = 1 + random.below(there)
            torn.writeObject(id, offset: offset, bytes: Array(bytes[..<count]))
        }
        guard !torn.isEmpty else { return }
        var part = CommitGroup(id: group.id)
        part.append(torn)
        contents.commit(part)
    }
}

/// A group that the disk works at: only one at a time is under way.
struct CommitGroupInHand {
    var group: CommitGroup
}

extension SimulatedCluster {
    /// The disk on which a store's contents are: the same for every server that is given them.
    public func disk(of store: MemoryStore) -> SimulatedDisk {
        let id = ObjectIdentifier(store)
        if let known = disks[id] { return known }
        let disk = SimulatedDisk(store)
        disks[id] = disk
        return disk
    }

    /// The disk of a server's node.
    public func disk(_ index: Int) -> SimulatedDisk? { nodes[index].disk }

    static let commitRetryTime = TickInterval.seconds(1)

    func startCommit(_ index: Int, _ group: CommitGroup) {
        guard let disk = nodes[index].disk else { return }
        nodes[index].committing = CommitGroupInHand(group: group)
        var time = between(options.commitMin, options.commitMax) * disk.slowness
        if options.slowCommitOneIn > 0, random.oneIn(options.slowCommitOneIn) {
            counters.slowCommits += 1
            time = time * options.slowCommitFactor
        }
        schedule(.diskDone(node: index, life: nodes[index].life, group), at: now + time)
    }

    func diskDone(_ index: Int, _ life: Int, _ group: CommitGroup) {
        guard nodes[index].life == life, let disk = nodes[index].disk else { return }
        let fails =
            disk.isFull
            || options.commitFailureOneIn > 0 && random.oneIn(options.commitFailureOneIn)
        let time = clock(of: index)
        if fails {
            counters.commitFailures += 1
            note(7, index, group.id)
            let isFull = disk.isFull
            _ = withServer(index) {
                $0.commitFailed(
                    isFull ? "no space left on device" : "input/output error",
                    status: isFull ? .noSpace : .ioError, now: time)
            }
            schedule(
                .diskRetries(node: index, life: life, group), at: now + Self.commitRetryTime)
            return
        }
        counters.commits += 1
        note(6, index, group.id)
        nodes[index].committing = nil
        disk.contents.commit(group)
        _ = withServer(index) { $0.committed(group.id, now: time) }
    }

    /// The process died while a group was under way.
    func crash(_ disk: SimulatedDisk, _ group: CommitGroup) {
        switch random.below(4) {
        case 0 where !disk.isFull:
            // Everything is there, and nobody was told.
            counters.commitsKeptInCrash += 1
            disk.contents.commit(group)
        case 1:
            counters.commitsTornInCrash += 1
            disk.tear(group, &random)
        default:
            counters.commitsLostInCrash += 1
        }
    }
}
