import WireFormat

/// One clear sentence for whoever typed the command; the exit status becomes 1.
struct Failure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
