/// What a client appends to the file of all: a word that is written once and by nobody else.
struct SharedWord: Hashable, CustomStringConvertible {
    /// The client, and which of its lives.
    var number: Int
    var life: Int
    /// The operation that said it: no two have the same.
    var cookie: UInt64

    var description: String { "\(number).\(life).\(cookie)" }

    /// As it stands in the file.
    var bytes: [UInt8] { Array("\(self);".utf8) }

    /// Calls `body` for every word in a file's bytes. What is none is passed over.
    static func forEach(in bytes: [UInt8], _ body: (SharedWord) -> Void) {
        var parts: (UInt64, UInt64, UInt64) = (0, 0, 0)
        var dots = 0
        var digits = 0
        var isWord = true
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                digits += 1
                parts.2 = parts.2 &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
            case UInt8(ascii: "."):
                isWord = isWord && digits > 0 && dots < 2
                parts = (parts.1, parts.2, 0)
                dots += 1
                digits = 0
            case UInt8(ascii: ";"), 0:
                // Words of clients that died before the server had committed them leave holes.
                if byte != 0, isWord, dots == 2, digits > 0 {
                    body(
                        SharedWord(
                            number: Int(truncatingIfNeeded: parts.0),
                            life: Int(truncatingIfNeeded: parts.1), cookie: parts.2))
                }
                parts = (0, 0, 0)
                dots = 0
                digits = 0
                isWord = true
            default:
                isWord = false
            }
        }
    }
}
