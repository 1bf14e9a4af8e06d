public import Primitives
public import WireFormat

/// How often each kind of request was answered, and how long the answers took.
///
/// A node reads its clock once per turn of its loop, so what is done within a turn counts as
/// nothing: the times are those that requests waited for disks, bulk data, locks and each other.
public struct RequestStatistics: Sendable {
    public struct Entry: Sendable {
        public var opcode: Opcode
        /// Answers, refusals among them.
        public internal(set) var count: UInt64 = 0
        /// Answers with an error.
        public internal(set) var errors: UInt64 = 0
        /// From arrival to answer.
        public internal(set) var times = TimeHistogram()
    }

    /// In the order in which the opcodes were first seen.
    public private(set) var entries: [Entry] = []
    /// By the opcode's place: 1 + index in `entries`; 0 while it was not seen.
    private var places = [UInt8](repeating: 0, count: Self.placeCount)

    private static let placeCount = 512

    init() {}

    /// Lustre's opcodes up to 400 and ours from 3001 on, folded into one small table; all that is
    /// unknown shares the last place.
    private static func place(_ opcode: Opcode) -> Int {
        switch opcode.rawValue {
        case 0..<128: Int(opcode.rawValue)
        case 400: 128
        case 3001..<3320: Int(opcode.rawValue) - 3001 + 129
        default: placeCount - 1
        }
    }

    mutating func note(_ opcode: Opcode, _ status: Status, _ elapsed: TickInterval) {
        let place = Self.place(opcode)
        if places[place] == 0 {
            guard entries.count < 255 else { return }
            entries.append(Entry(opcode: opcode))
            places[place] = UInt8(entries.count)
        }
        let index = Int(places[place]) - 1
        entries[index].count &+= 1
        if status.isError { entries[index].errors &+= 1 }
        entries[index].times.add(elapsed)
    }
}
