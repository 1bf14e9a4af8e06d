import Foundation

/// A file's bytes, searched fast enough for the whole house in a second or two.
///
/// Searching is Foundation's; a regular expression over every line takes twenty times as long.
struct SourceText {
    let path: String
    private let data: Data

    init(path: String, data: Data) {
        self.path = path
        self.data = data
    }

    /// A place where a text was found: its line, and what stands before it in that line.
    struct Hit {
        let number: Int
        let line: String
        let before: String

        /// Behind `//`: prose, not code.
        var isComment: Bool { before.contains("//") }
        /// Between quotation marks, as far as one line tells.
        var isQuoted: Bool { before.count { $0 == "\"" } % 2 == 1 }
    }

    /// Every place of `text`; with `isWord` only where no letter, digit or `_` touches its ends.
    func hits(_ text: String, isWord: Bool = false) -> [Hit] {
        let wanted = Data(text.utf8)
        var hits: [Hit] = []
        var from = data.startIndex
        while let range = data.range(of: wanted, in: from..<data.endIndex) {
            from = range.upperBound
            if isWord {
                if range.lowerBound > data.startIndex,
                    Self.isWordByte(data[range.lowerBound - 1]), Self.isWordByte(wanted[0])
                {
                    continue
                }
                if range.upperBound < data.endIndex, Self.isWordByte(data[range.upperBound]),
                    Self.isWordByte(wanted[wanted.count - 1])
                {
                    continue
                }
            }
            hits.append(hit(range.lowerBound))
        }
        return hits
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F: true
        default: false
        }
    }

    private func hit(_ place: Int) -> Hit {
        let start = data[..<place].lastIndex(of: 0x0A).map { $0 + 1 } ?? data.startIndex
        let end = data[place...].firstIndex(of: 0x0A) ?? data.endIndex
        let number = data[..<place].count { $0 == 0x0A } + 1
        return Hit(
            number: number, line: String(decoding: data[start..<end], as: UTF8.self),
            before: String(decoding: data[start..<place], as: UTF8.self))
    }

    /// The modules that it imports, each with the line.
    var imports: [(module: String, number: Int)] {
        hits("import ", isWord: true).compactMap { hit in
            let known: Set<Substring> = ["public", "package", "internal", "private", "fileprivate"]
            let isImport = hit.before.split(separator: " ").allSatisfy {
                known.contains($0) || $0.hasPrefix("@")
            }
            guard isImport, let module = hit.line.split(separator: " ").last else { return nil }
            return (String(module.split(separator: ".")[0]), hit.number)
        }
    }
}
