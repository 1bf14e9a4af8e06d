internal import WireFormat

/// An absolute path, taken apart.
struct FilePath {
    let text: String
    let names: [FileName]

    /// Throws what POSIX says of a path that is relative, too long or no text of names.
    init(_ text: String) throws(FileSystemError) {
        guard text.utf8.first == 0x2F else {
            throw FileSystemError(.invalid, path: text, detail: "paths begin with /")
        }
        var names: [FileName] = []
        for part in text.split(separator: "/", omittingEmptySubsequences: true) {
            if part == "." { continue }
            guard part.utf8.count <= FileName.byteCountMax else {
                throw FileSystemError(.nameTooLong, path: text)
            }
            guard let name = FileName(String(part)) else {
                throw FileSystemError(
                    .invalid, path: text, detail: "\(part) is not followed: name the file itself")
            }
            names.append(name)
        }
        guard names.count <= LookupRequest.nameCountMax else {
            throw FileSystemError(.nameTooLong, path: text)
        }
        self.text = text
        self.names = names
    }

    /// The directory's names and the last one; throws where the path names the root.
    func split(or status: Status) throws(FileSystemError) -> (parent: [FileName], name: FileName) {
        guard let name = names.last else { throw FileSystemError(status, path: text) }
        return (Array(names.dropLast()), name)
    }
}
