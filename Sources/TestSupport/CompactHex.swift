/// Bytes as text for golden literals: hexadecimal digits, with a run of zeros as `(count)`.
///
/// `d30bd00b(20)01` is four bytes, twenty zeros, and a one. White space counts for nothing.
public enum CompactHex {
    /// The bytes that `text` stands for. Traps on anything else: the literal is ours.
    public static func bytes(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        var high: UInt8?
        var zeroCount: Int?
        for character in text where !character.isWhitespace {
            switch character {
            case "(":
                precondition(high == nil, "a run begins between two bytes")
                zeroCount = 0
            case ")":
                bytes.append(contentsOf: repeatElement(0, count: zeroCount ?? 0))
                zeroCount = nil
            default:
                guard let digit = character.hexDigitValue else {
                    preconditionFailure("no hexadecimal digit: \(character)")
                }
                if let count = zeroCount {
                    zeroCount = count * 10 + digit
                } else if let first = high {
                    bytes.append(first << 4 | UInt8(digit))
                    high = nil
                } else {
                    high = UInt8(digit)
                }
            }
        }
        precondition(high == nil && zeroCount == nil, "the text ends within a byte")
        return bytes
    }

    /// The text of `bytes`, for the one who writes a new literal down.
    public static func text(_ bytes: [UInt8]) -> String {
        var text = ""
        var index = 0
        while index < bytes.count {
            var end = index
            while end < bytes.count, bytes[end] == 0 { end += 1 }
            if end - index >= 3 {
                text += "(\(end - index))"
                index = end
            } else {
                let digits = String(bytes[index], radix: 16)
                text += digits.count == 1 ? "0" + digits : digits
                index += 1
            }
        }
        return text
    }
}
