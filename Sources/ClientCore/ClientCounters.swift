/// How often a client's cache was of use, and what it cost where it was not.
public struct ClientCounters: Equatable, Sendable {
    /// Lookups and stats that were answered without a message.
    public internal(set) var nameHits: UInt64 = 0
    /// Lookups and stats for which the metadata server was asked.
    public internal(set) var nameMisses: UInt64 = 0
    /// Reads that were answered without a message.
    public internal(set) var readHits: UInt64 = 0
    /// Reads for which an object server was asked.
    public internal(set) var readMisses: UInt64 = 0
    /// Bytes that were read ahead of their use.
    public internal(set) var readAheadBytes: UInt64 = 0
    /// Reads that waited for bytes that were on their way already.
    public internal(set) var readAheadWaits: UInt64 = 0
    /// Writes that went to their server at once, because no room was set aside for them.
    public internal(set) var writesThrough: UInt64 = 0

    public init() {}
}
