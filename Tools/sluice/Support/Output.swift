import Foundation

/// Where commands write.
enum Output {
    /// One JSON object, keys in alphabetical order, so that two runs can be compared.
    static func json(_ value: some Encodable, pretty: Bool = true) throws {
        try FileHandle.standardOutput.write(contentsOf: encoded(value, pretty: pretty))
    }

    /// The bytes of one JSON object and the end of its last line.
    static func encoded(_ value: some Encodable, pretty: Bool = true) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
        var data = try encoder.encode(value)
        data.append(0x0A)
        return data
    }

    /// One line on standard output, at once: whoever reads a pipe must see it now.
    static func line(_ text: String) {
        try? FileHandle.standardOutput.write(contentsOf: Data((text + "\n").utf8))
    }

    /// Text that ends its own lines.
    static func text(_ text: String) {
        try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    }

    /// On standard error.
    static func note(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
    }
}
