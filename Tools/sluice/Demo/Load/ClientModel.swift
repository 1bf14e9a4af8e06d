import WireFormat

/// What must be in the directory of one load client: everything that was acknowledged to it.
struct ClientModel {
    struct File {
        var name: FileName
        var file: FileID
        var bytes: [UInt8]
        var mode: UInt32
    }

    struct Directory {
        var name: FileName
        var file: FileID
    }

    /// The directory's own name, below the root.
    var name: FileName
    var directory = FileID.none
    /// A few of each, so that looking one up is a short walk.
    var files: [File] = []
    var directories: [Directory] = []
    /// How far the counter has come, and the chain of renames.
    var counter: UInt64 = 0
    var chainLength = 0
    /// Records that this client has appended to the file that it shares.
    var sharedCount = 0

    init(index: Int) { name = Name.client(index) }

    func file(_ name: FileName) -> File? { files.first { $0.name == name } }

    mutating func update(_ name: FileName, _ change: (inout File) -> Void) {
        guard let place = files.firstIndex(where: { $0.name == name }) else { return }
        change(&files[place])
    }

    /// All names, in the order of a listing.
    var listing: [FileName] {
        (files.map(\.name) + directories.map(\.name)).sorted {
            $0.bytes.lexicographicallyPrecedes($1.bytes)
        }
    }
}

/// The names that the load gives.
enum Name {
    static let shared = make("shared")
    static let log = make("log")
    static let counter = make("counter")

    static func client(_ index: Int) -> FileName { make("client\(padded(index, 5))") }
    static func file(_ number: Int) -> FileName { make("file\(number)") }
    static func directory(_ number: Int) -> FileName { make("dir\(number)") }
    static func chain(_ length: Int) -> FileName { make("chain.\(length)") }
    static func sharedFile(_ pair: Int) -> FileName { make("pair\(padded(pair, 5))") }

    private static func make(_ text: String) -> FileName {
        guard let name = FileName(text) else { preconditionFailure("names of the load are legal") }
        return name
    }
}

/// What is appended to shared files and logs: who wrote, and which of its records this is.
enum Record {
    static let byteCount = 24

    /// `c00012 r0000000042 ....\n`, with a digest of the rest in the last place.
    static func bytes(client: Int, number: Int) -> [UInt8] {
        var bytes = Array("c\(padded(client, 5)) r\(padded(number, 10)) ".utf8)
        let digest = bytes.reduce(UInt32(7)) { ($0 &* 31) &+ UInt32($1) } % 10_000
        bytes.append(contentsOf: padded(Int(digest), 4).utf8)
        bytes.append(0x0A)
        return bytes
    }

    /// Nil where the bytes are no whole record.
    static func parse(_ bytes: ArraySlice<UInt8>) -> (client: Int, number: Int)? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard bytes.count == byteCount, let client = Int(text.dropFirst().prefix(5)),
            let number = Int(text.dropFirst(8).prefix(10)),
            self.bytes(client: client, number: number) == Array(bytes)
        else { return nil }
        return (client, number)
    }
}

func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}

/// How many bytes are not what they should be; a missing or surplus byte is one that differs.
func differingByteCount(_ found: some Collection<UInt8>, _ expected: some Collection<UInt8>) -> Int
{
    var count = abs(found.count - expected.count)
    for (a, b) in zip(found, expected) where a != b { count += 1 }
    return count
}
