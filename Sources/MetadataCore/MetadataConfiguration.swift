/// What a metadata target is told when it starts.
public struct MetadataConfiguration: Sendable {
    /// Which metadata target this is; its file ids come from sequences of its own.
    public var targetIndex: UInt32
    /// Grows with each start over the same store: handles of different runs never meet.
    public var instance: UInt64
    /// Bytes of one stripe of a new file; positive.
    public var stripeSize: UInt32
    /// Opens at once, over all clients. Replayed opens are admitted beyond it.
    public var openCountMax: Int
    /// A pool with fewer objects than this asks for more.
    public var poolLowCount: UInt64 = 64
    /// Objects asked for at once; at most `ObjectCreateRequest.countMax`.
    public var precreateCount: UInt64 = 256
    /// Object numbers set aside in one write, ahead of the requests that use them: a request goes
    /// out only for numbers whose reservation is committed, and creates must not wait for that.
    public var reserveCount: UInt64 = 2048

    public init(
        targetIndex: UInt32, instance: UInt64, stripeSize: UInt32 = 1 << 20,
        openCountMax: Int = 1 << 20
    ) {
        precondition(targetIndex < 4095, "each metadata target has a range of sequences")
        precondition(stripeSize > 0, "a stripe has bytes")
        self.targetIndex = targetIndex
        self.instance = instance
        self.stripeSize = stripeSize
        self.openCountMax = openCountMax
    }
}
