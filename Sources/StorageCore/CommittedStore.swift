/// The last committed snapshot of a target: LMDB and files in production, memory in the simulator.
///
/// Owned by one thread, which is the only one that calls it.
public protocol CommittedStore: AnyObject {
    /// The value of a key, or nil.
    func read(_ table: Table, _ key: [UInt8]) -> [UInt8]?

    /// Visits keys not below `from` in ascending `memcmp` order until `visit` returns false.
    /// `visit` may read from the store; nothing commits meanwhile.
    func scan(
        _ table: Table, from: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) -> Bool)

    /// The committed bytes of an object from `offset` on: at most `count`, fewer at its end, none
    /// where there is no such object.
    func readObject(_ id: ObjectID, offset: UInt64, count: Int) -> [UInt8]

    /// The first damage that reads have met since the last call, and nil afterwards. Whoever acts
    /// upon what was read asks first.
    func takeDamage() -> StoreDamage?
}
