/// A first-in, first-out queue that keeps its memory: how cores hand actions and events upward.
///
/// Appending and taking are constant time; once it has grown to its working size it allocates no more.
public struct Outbox<Element> {
    @usableFromInline var elements: [Element?] = []
    @usableFromInline var head = 0

    @inlinable
    public init() {}

    @inlinable
    public var isEmpty: Bool { head == elements.count }
    @inlinable
    public var count: Int { elements.count - head }

    /// The element that `popFirst` takes next.
    @inlinable
    public var first: Element? { head < elements.count ? elements[head] : nil }

    @inlinable
    public mutating func append(_ element: Element) { elements.append(element) }

    @inlinable
    public mutating func popFirst() -> Element? {
        guard head < elements.count else { return nil }
        if head == elements.count - 1 {
            let last = elements.removeLast()
            if head > 0 {
                elements.removeAll(keepingCapacity: head < 4096)
                head = 0
            }
            return last
        }
        let element = elements[head]
        elements[head] = nil
        head += 1
        if head >= 1024, head * 2 >= elements.count {
            elements.removeFirst(head)
            head = 0
        }
        return element
    }

    @inlinable
    public mutating func removeAll() {
        elements.removeAll(keepingCapacity: true)
        head = 0
    }
}

extension Outbox: Sendable where Element: Sendable {}
