/// The bytes of one message in each version, written as `CompactHex` does. Never edited: a message
/// that is to look otherwise gets a new version.
struct GoldenBytes {
    var v1: String
    var v2: String
    var v3: String

    /// Version 3 spells it as version 2 does, unless it says otherwise.
    init(v1: String, v2: String, v3: String? = nil) {
        self.v1 = v1
        self.v2 = v2
        self.v3 = v3 ?? v2
    }

    /// A message that all versions spell alike.
    init(both text: String) { self.init(v1: text, v2: text) }
}
