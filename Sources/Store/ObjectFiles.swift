internal import Glibc
internal import Primitives
internal import StorageCore

/// Which file holds an object's bytes.
///
/// An object gets a new incarnation when it is created and when it is cut to nothing and written
/// again: its new bytes go to a new file, and a committed file is never emptied under its record.
struct FileID: Hashable, Sendable {
    var object: ObjectID
    var incarnation: UInt64

    /// `objects/xx/SEQUENCE-NUMBER.INCARNATION` in hexadecimal; xx is the number's last byte.
    var path: String {
        let last = UInt8(truncatingIfNeeded: object.number)
        return "\(Layout.objectsName)/\(Layout.hex(last))/"
            + "\(String(object.sequence, radix: 16))-\(String(object.number, radix: 16))"
            + ".\(String(incarnation, radix: 16))"
    }
}

/// Names within a store's directory.
struct Layout: Sendable {
    static let databaseName = "store.mdb"
    static let objectsName = "objects"

    let directory: String

    var database: String { "\(directory)/\(Self.databaseName)" }
    var objects: String { "\(directory)/\(Self.objectsName)" }

    func path(_ file: FileID) -> String { "\(directory)/\(file.path)" }

    /// One of the 256 directories below `objects`.
    func objectDirectory(_ byte: UInt8) -> String { "\(objects)/\(Self.hex(byte))" }

    /// The directory that a file's entry stands in.
    func objectDirectory(of file: FileID) -> String {
        objectDirectory(UInt8(truncatingIfNeeded: file.object.number))
    }

    static func hex(_ byte: UInt8) -> String {
        (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
}

/// Open object files, a bounded number of them. Owned by one thread.
///
/// Direct-mapped: a file has one place, and whoever needs the place closes what was there.
final class ObjectFiles {
    private struct Place {
        var id: FileID
        var file: File
    }

    private let layout: Layout
    private let flags: Int32
    private var places: [Place?]

    init(layout: Layout, flags: Int32, capacity: Int) {
        precondition(capacity > 0, "a cache has places")
        self.layout = layout
        self.flags = flags
        places = Array(repeating: nil, count: capacity)
    }

    deinit { closeAll() }

    private func index(_ id: FileID) -> Int {
        var mixer = SplitMix64(
            seed: id.object.sequence &* 31 &+ id.object.number &* 7 &+ id.incarnation)
        return mixer.below(places.count)
    }

    /// The open file; open until the next call.
    func open(_ id: FileID, alsoFlags: Int32 = 0) throws(FileError) -> File {
        let index = index(id)
        if let place = places[index] {
            if place.id == id, alsoFlags == 0 { return place.file }
            place.file.close()
            places[index] = nil
        }
        let file = try File(layout.path(id), flags | alsoFlags)
        places[index] = Place(id: id, file: file)
        return file
    }

    /// The open file, made anew where it is gone: what it had is then missing by its checksums.
    func openOrMake(_ id: FileID) throws(FileError) -> File {
        do {
            return try open(id)
        } catch {
            guard error.code == -ENOENT else { throw error }
            return try open(id, alsoFlags: O_CREAT)
        }
    }

    /// Closes the file if it is open.
    func forget(_ id: FileID) {
        let index = index(id)
        if let place = places[index], place.id == id {
            place.file.close()
            places[index] = nil
        }
    }

    func closeAll() {
        for index in places.indices {
            places[index]?.file.close()
            places[index] = nil
        }
    }
}
