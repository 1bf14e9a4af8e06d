import Primitives
import StorageCore
import WireFormat

/// What the oracle keeps beside the clients' own models.
struct Oracle {
    var registers: [RegisterHistory]
    var locks = LockBook()
    var deadUUIDs: Set<String> = []
    /// Clients that left in order: what they were told stays true.
    var departedClients: [(uuid: String, acknowledged: [[UInt64]])] = []
    var departedWords: Set<SharedWord> = []
    private var departedByGeneration: [Int: [SharedWord]] = [:]

    init(targetCount: Int, registerCount: Int) {
        registers = Array(repeating: RegisterHistory(), count: registerCount)
    }

    mutating func forgot(client: Int, uncommittedSince: Ticks) {
        for index in registers.indices {
            registers[index].forget(writesOf: client, uncommittedSince: uncommittedSince)
        }
    }

    mutating func departed(_ load: LoadClient) {
        departedClients.append((load.uuid, load.acknowledged))
        for item in load.words {
            departedWords.insert(item.word)
            departedByGeneration[item.generation, default: []].append(item.word)
        }
    }

    /// Words that are acknowledged now and must stand in a shared file from now on.
    func words(of loads: [LoadClient], in generation: Int) -> [SharedWord] {
        var words = departedByGeneration[generation] ?? []
        for load in loads where load.isAlive && !load.isDoomed {
            // A client goes from one file to the next, and never back.
            for item in load.words.reversed() {
                if item.generation < generation { break }
                if item.generation == generation { words.append(item.word) }
            }
        }
        return words
    }

    static func encode(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }

    /// Nothing was written yet: 0.
    static func decode(_ bytes: [UInt8]) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The key of an audit row: UUID, a zero byte, the XID big-endian (NodeCore).
    static func auditKey(_ uuid: String, _ xid: UInt64) -> [UInt8] {
        var key = Array(uuid.utf8)
        key.append(0)
        for shift in stride(from: 56, through: 0, by: -8) {
            key.append(UInt8(truncatingIfNeeded: xid >> UInt64(shift)))
        }
        return key
    }

    /// The last transno that is on a disk.
    static func committedTransno(_ store: MemoryStore) -> UInt64 {
        (store.read(.meta, Array("transno".utf8)) ?? []).reversed().reduce(0) {
            $0 << 8 | UInt64($1)
        }
    }
}
