/// The place of an element in a `SlotTable`, safe to hand to a peer: a stale one is recognised.
@frozen
public struct SlotHandle: Hashable, Sendable, BitwiseCopyable {
    public var index: UInt32
    /// Odd while the slot is in use; each removal and each insertion advance it.
    public var generation: UInt32

    @inlinable
    public init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// Generation in the high half, index in the low half. Never 0 for a live slot.
    @inlinable
    public var rawValue: UInt64 { UInt64(generation) << 32 | UInt64(index) }

    @inlinable
    public init(rawValue: UInt64) {
        index = UInt32(truncatingIfNeeded: rawValue)
        generation = UInt32(truncatingIfNeeded: rawValue >> 32)
    }
}

/// Elements at stable places, found by handle in constant time; freed places are used again.
///
/// Lookup of a handle that was removed, or that nobody ever gave, is `nil`, so a handle may come
/// from a peer's bytes. Memory grows to the greatest number of elements held at once.
public struct SlotTable<Element> {
    @usableFromInline
    struct Slot {
        @usableFromInline var generation: UInt32
        @usableFromInline var nextFree: Int32
        @usableFromInline var element: Element?

        @usableFromInline
        init(generation: UInt32, nextFree: Int32, element: Element?) {
            self.generation = generation
            self.nextFree = nextFree
            self.element = element
        }
    }

    @usableFromInline var slots: [Slot] = []
    @usableFromInline var firstFree: Int32 = -1
    @usableFromInline var elementCount = 0

    /// Elements in the table.
    @inlinable
    public var count: Int { elementCount }

    @inlinable
    public init() {}

    /// One more than the highest index ever used; for iteration by `handle(at:)`.
    @inlinable
    public var slotCount: Int { slots.count }

    @inlinable
    public mutating func insert(_ element: Element) -> SlotHandle {
        elementCount += 1
        if firstFree >= 0 {
            let index = Int(firstFree)
            firstFree = slots[index].nextFree
            slots[index].generation &+= 1
            slots[index].element = element
            return SlotHandle(index: UInt32(index), generation: slots[index].generation)
        }
        slots.append(Slot(generation: 1, nextFree: -1, element: element))
        return SlotHandle(index: UInt32(slots.count - 1), generation: 1)
    }

    @inlinable
    public func contains(_ handle: SlotHandle) -> Bool {
        Int(handle.index) < slots.count && handle.generation & 1 == 1
            && slots[Int(handle.index)].generation == handle.generation
    }

    /// The handle of the element at `index`, or nil where that place is free.
    @inlinable
    public func handle(at index: Int) -> SlotHandle? {
        guard index < slots.count, slots[index].generation & 1 == 1 else { return nil }
        return SlotHandle(index: UInt32(index), generation: slots[index].generation)
    }

    /// Bytes of the places, used and free, with the room that is kept for more; without what the
    /// elements refer to. Constant time.
    public var heldBytes: Int { slots.capacity * MemoryLayout<Slot>.stride }

    /// Handles of all elements in order of their places.
    @inlinable
    public var handles: [SlotHandle] { (0..<slots.count).compactMap { handle(at: $0) } }

    @inlinable
    @discardableResult
    public mutating func remove(_ handle: SlotHandle) -> Element? {
        guard contains(handle) else { return nil }
        let index = Int(handle.index)
        let element = slots[index].element
        slots[index].element = nil
        slots[index].generation &+= 1
        slots[index].nextFree = firstFree
        firstFree = Int32(index)
        elementCount -= 1
        return element
    }

    /// The element at a live handle; nil for a stale one.
    @inlinable
    public subscript(handle: SlotHandle) -> Element? {
        contains(handle) ? slots[Int(handle.index)].element : nil
    }

    /// Changes the element in place. Returns nil without calling `body` when the handle is stale.
    @inlinable
    @discardableResult
    public mutating func update<R>(_ handle: SlotHandle, _ body: (inout Element) -> R) -> R? {
        guard contains(handle) else { return nil }
        return body(&slots[Int(handle.index)].element!)
    }
}

extension SlotTable: Sendable where Element: Sendable {}
extension SlotTable.Slot: Sendable where Element: Sendable {}
