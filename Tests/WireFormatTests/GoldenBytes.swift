/// The bytes of one message in each version, written as `CompactHex` does. Never edited: a message
/// that is to look otherwise gets a new version.
struct GoldenBytes {
    var v1: String
    var v2: String

    init(v1: String, v2: String) {
        self.v1 = v1
        self.v2 = v2
    }

    /// A message that both versions spell alike.
    init(both text: String) { self.init(v1: text, v2: text) }
}
