import ClientCore
import Primitives
import WireFormat

/// One client of a simulation: what it has done, and what must be there for it.
struct LoadClient {
    /// A file of its own: nobody else writes it.
    struct File {
        var name: FileName
        var id: FileID
        var handle: FileHandle?
        var bytes: [UInt8]
        /// Its name is gone; it lives as long as it is open.
        var isUnlinked = false
    }

    /// What is under way, with what its success means.
    enum Step {
        case makeHome
        case create(FileName)
        case reopen(Int)
        case append(Int, [UInt8])
        case write(Int, offset: Int, [UInt8])
        case truncate(Int, Int)
        case read(Int, offset: Int, count: Int)
        case close(Int)
        case flush
        case rename(Int, FileName)
        case unlink(Int)
        case stat(Int)
        case chmod
        case list
        case makeDirectory(FileName)
        case removeDirectory(FileName)
        case openShared(generation: Int)
        case say(SharedWord)
        case hear(known: [SharedWord])
        case openRegister(Int)
        case setRegister(Int, UInt64)
        case getRegister(Int)
        /// Record locks on parts of a register's file, first to last.
        case lockRecord(Int, ClosedRange<Int>, isExclusive: Bool, waits: Bool)
        case unlockRecord(Int, ClosedRange<Int>)
        case discard
    }

    /// A step as a timeline shows it: data by their size.
    static func brief(_ step: Step) -> String {
        switch step {
        case .append(let file, let data): "append(\(file), \(data.count) bytes)"
        case .write(let file, let offset, let data):
            "write(\(file), offset: \(offset), \(data.count) bytes)"
        default: "\(step)"
        }
    }

    enum RecordMode { case none, shared, exclusive }

    /// Parts of a register's file that can be locked.
    static let recordCount = 8

    struct Current {
        var step: Step
        var cookie: UInt64
        var begun: Ticks
        var isCancelled = false
    }

    let number: Int
    var node = -1
    var life = 0
    var uuid = ""
    var isAlive = false
    var isLeaving = false
    /// A server has given it up, or soon will: it is replaced.
    var isDoomed = false
    var hasUpgradeFeature = true
    var home: FileID?
    var homeName = FileName("h")!
    var created = 0
    var files: [File] = []
    var directories: [FileName] = []
    var current: Current?
    var shared: FileHandle?
    var sharedGeneration = -1
    var registers: [FileHandle?] = []
    /// What it has locked with record locks, by register and part.
    var records: [[RecordMode]] = []
    /// Acknowledged updates by target: XIDs.
    var acknowledged: [[UInt64]] = []
    /// Of them, those that a clean stop has been checked for.
    var checkedCount: [Int] = []
    /// Words of its own that stand in shared files, by the file, the newest last.
    var words: [(generation: Int, word: SharedWord)] = []

    init(number: Int) { self.number = number }
}
