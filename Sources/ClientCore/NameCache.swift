import LDLMCore
import Primitives
import WireFormat

/// What a client keeps of names and attributes: each under one lock, and true as long as that is
/// held. Nothing has to be cleaned up when a lock goes: who is asked next sees that it is gone.
///
/// | kept                         | under a lock in mode PR on | bits           |
/// |------------------------------|----------------------------|----------------|
/// | that a name names a file     | that file                  | lookup         |
/// | that a name names nothing    | its directory              | update         |
/// | attributes and layout        | the file                   | update, perm   |
///
/// A client's own updates leave its locks alone: the server calls back the locks of others only.
/// So what an update of its own changes is forgotten by the client itself, when the request goes
/// out and again when its answer comes; and what an answer to an earlier request says of the same
/// files is not kept, since it may be older than the update. For that, files are told apart by 8
/// bits of a hash: two that meet there cost a message, never a wrong answer.
///
/// Bounded: the least recently used go. All operations are constant time per name.
struct NameCache: Sendable {
    private struct NameKey: Hashable, Sendable {
        var parent: FileID
        var name: FileName
    }

    private struct Name: Sendable {
        /// Nil where there is no such name.
        var file: FileID?
        var lock: SlotHandle
    }

    private struct Held: Sendable, BitwiseCopyable {
        var lock: SlotHandle
        var bits: InodeBits
        /// The request whose answer brought it.
        var number: UInt64
        /// The request that was sent last when it came.
        var arrival: UInt64

        /// What the answer to an older request says may be from before the lock was granted.
        func guards(_ wanted: InodeBits, said number: UInt64) -> Bool {
            bits.isSuperset(of: wanted) && (number == self.number || number > arrival)
        }
    }

    private struct Kept: Sendable {
        /// Locks on the file that came with answers, newest first; gone ones are not cleaned up.
        var first: Held
        var second: Held?
        var attributes: AttributesReply?
        /// Under which the attributes are true.
        var lock: SlotHandle
    }

    /// What is known of a name.
    enum Knowledge: Equatable {
        case unknown
        /// There is no such name.
        case absent(under: SlotHandle)
        case file(FileID, under: SlotHandle)
    }

    private var names: RecentTable<NameKey, Name>
    private var files: RecentTable<FileID, Kept>
    /// The number of the request that was sent last.
    private(set) var sequence: UInt64 = 0
    /// By hash of the file: own updates under way, and the request sent last before one ended.
    private var updatesUnderWay = [UInt16](repeating: 0, count: Self.bucketCount)
    private var barriers = [UInt64](repeating: 0, count: Self.bucketCount)

    private static let bucketCount = 256

    init(nameCountMax: Int, fileCountMax: Int) {
        names = RecentTable(countMax: nameCountMax)
        files = RecentTable(countMax: fileCountMax)
    }

    var nameCount: Int { names.count }
    var fileCount: Int { files.count }

    private static func bucket(_ file: FileID) -> Int {
        var mixer = SplitMix64(
            seed: file.sequence ^ UInt64(file.objectNumber) << 20 ^ UInt64(file.version) << 52)
        return Int(mixer.next() & 0xFF)
    }

    // MARK: Questions

    /// What is known of a name, with the lock under which it is true.
    mutating func lookup(
        _ parent: FileID, _ name: FileName, _ locks: LockClient
    ) -> Knowledge {
        let key = NameKey(parent: parent, name: name)
        guard let known = names.use(key) else { return .unknown }
        guard locks.covers(known.lock, known.file == nil ? .update : .lookup) else {
            names.remove(key)
            return .unknown
        }
        return known.file.map { .file($0, under: known.lock) } ?? .absent(under: known.lock)
    }

    /// Attributes and layout of a file, with the lock under which they are true.
    mutating func attributes(
        _ file: FileID, _ locks: LockClient
    ) -> (reply: AttributesReply, under: SlotHandle)? {
        guard let kept = files.use(file), let reply = kept.attributes else { return nil }
        guard locks.covers(kept.lock, .attributes) else {
            files.update(file) { $0.attributes = nil }
            return nil
        }
        return (reply, kept.lock)
    }

    /// A held lock on a file that covers the bits, and all that the answer to request `number` says.
    func lock(
        on file: FileID, covering bits: InodeBits, number: UInt64 = .max, _ locks: LockClient
    ) -> SlotHandle? {
        guard let kept = files.peek(file) else { return nil }
        if kept.first.guards(bits, said: number), locks.covers(kept.first.lock, bits) {
            return kept.first.lock
        }
        if let second = kept.second, second.guards(bits, said: number),
            locks.covers(second.lock, bits)
        {
            return second.lock
        }
        return nil
    }

    // MARK: Requests and answers

    /// A request goes out: its number, by which `keep` knows how old its answer is.
    mutating func send() -> UInt64 {
        sequence += 1
        return sequence
    }

    /// A lock came with the answer to request `number`.
    mutating func granted(
        _ lock: SlotHandle, on file: FileID, bits: InodeBits, number: UInt64
    ) {
        let held = Held(lock: lock, bits: bits, number: number, arrival: sequence)
        let isKnown: Void? = files.update(file) { kept in
            if !bits.isSuperset(of: kept.first.bits) { kept.second = kept.first }
            kept.first = held
        }
        if isKnown == nil {
            files.set(file, Kept(first: held, second: nil, attributes: nil, lock: lock))
        }
    }

    /// Whether the answer to a request is not older than any update of this client's own.
    private func isNewest(_ file: FileID, _ number: UInt64, own: UInt16 = 0) -> Bool {
        let bucket = Self.bucket(file)
        return updatesUnderWay[bucket] == own && barriers[bucket] < number
    }

    /// The answer to request `number` says so; kept where a held lock covers it.
    mutating func keep(
        _ reply: AttributesReply, number: UInt64, _ locks: LockClient
    ) {
        guard isNewest(reply.attributes.file, number) else { return }
        insert(reply, number: number, locks)
    }

    private mutating func insert(
        _ reply: AttributesReply, number: UInt64, _ locks: LockClient
    ) {
        let file = reply.attributes.file
        guard let lock = lock(on: file, covering: .attributes, number: number, locks) else {
            return
        }
        files.update(file) {
            $0.attributes = reply
            $0.lock = lock
        }
    }

    /// The answer to request `number` says that a name names this file, or nothing.
    mutating func keep(
        _ parent: FileID, _ name: FileName, _ file: FileID?, number: UInt64, _ locks: LockClient
    ) {
        guard isNewest(parent, number) else { return }
        insert(parent, name, file, number: number, locks)
    }

    private mutating func insert(
        _ parent: FileID, _ name: FileName, _ file: FileID?, number: UInt64, _ locks: LockClient
    ) {
        let found =
            file == nil
            ? lock(on: parent, covering: .update, number: number, locks)
            : lock(on: file ?? parent, covering: .lookup, number: number, locks)
        guard let lock = found else { return }
        names.set(NameKey(parent: parent, name: name), Name(file: file, lock: lock))
    }

    // MARK: Own updates

    /// What an update of this client is about.
    struct Update: Sendable {
        /// Files that the request names by their ids.
        var files: [FileID] = []
        var names: [(parent: FileID, name: FileName)] = []
    }

    /// The update goes out.
    mutating func begin(_ update: Update) {
        for file in update.files { updatesUnderWay[Self.bucket(file)] += 1 }
        forget(update)
    }

    /// The update was answered, or will never be. `changed`: files that the answer names.
    /// - Returns: whether what the answer says is newer than all that this client did.
    @discardableResult
    mutating func end(_ update: Update, changed: [FileID], number: UInt64) -> Bool {
        forget(update)
        for file in changed { files.update(file) { $0.attributes = nil } }
        var isNewest = true
        for file in update.files {
            // Files of one update that meet in a bucket count there once each.
            let own = UInt16(
                update.files.count { Self.bucket($0) == Self.bucket(file) })
            if !self.isNewest(file, number, own: own) { isNewest = false }
        }
        for file in update.files {
            let bucket = Self.bucket(file)
            updatesUnderWay[bucket] -= 1
            barriers[bucket] = sequence
        }
        for file in changed { barriers[Self.bucket(file)] = sequence }
        return isNewest
    }

    /// What the answer to this client's own update `number` says of a name, where `end` said that
    /// nothing is newer.
    mutating func keepOwn(
        _ parent: FileID, _ name: FileName, _ file: FileID?, number: UInt64, _ locks: LockClient
    ) {
        insert(parent, name, file, number: number, locks)
    }

    /// Attributes from the answer to this client's own update `number`, where `end` said that
    /// nothing is newer.
    mutating func keepOwn(_ reply: AttributesReply, number: UInt64, _ locks: LockClient) {
        guard updatesUnderWay[Self.bucket(reply.attributes.file)] == 0 else { return }
        insert(reply, number: number, locks)
    }

    private mutating func forget(_ update: Update) {
        for file in update.files { files.update(file) { $0.attributes = nil } }
        for name in update.names {
            names.remove(NameKey(parent: name.parent, name: name.name))
        }
    }

    /// Nothing is known any more.
    mutating func removeAll() {
        names.removeAll()
        files.removeAll()
    }
}
