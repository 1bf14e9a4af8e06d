import ClientCore
import WireFormat

/// One operation of a chore, with what its success means for the model.
enum Step {
    /// Opens a file of the client's directory; with `.exclusive` the model gains it.
    case open(FileName, OpenFlags, mode: UInt32, stripes: UInt32)
    case write(FileName, offset: Int, [UInt8])
    case append(FileName, [UInt8])
    case truncate(FileName, Int)
    case flush
    /// Reads all of the file and compares.
    case read(FileName)
    case close
    case unlink(FileName)
    case rename(FileName, FileName)
    case setMode(FileName, UInt32)
    case stat(FileName)
    case makeDirectory(FileName)
    case removeDirectory(FileName)
    case list(after: FileName?, found: [FileName])

    /// The counter: what was read plus one is written.
    case increment

    /// The log, which stays open all the time.
    case openLog
    case appendLog
    case readLog
    case closeLog

    /// A file that stays open after its name is gone.
    case keepOpen(FileName)
    case readKept
    case closeKept

    /// The file that two clients append to, which stays open too.
    case openShared
    case appendShared
    case closeShared

    case makeOwnDirectory
}
