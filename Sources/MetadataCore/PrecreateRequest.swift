public import WireFormat

/// Objects that an object target is to create ahead of their use.
public struct PrecreateRequest: Hashable, Sendable {
    public var targetIndex: UInt32
    public var first: ObjectName
    public var count: UInt32

    public init(targetIndex: UInt32, first: ObjectName, count: UInt32) {
        self.targetIndex = targetIndex
        self.first = first
        self.count = count
    }
}
