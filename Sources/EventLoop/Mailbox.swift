internal import Synchronization

/// How other threads and asynchronous code hand inputs to a loop: many senders, one receiver, in
/// order.
///
/// A sender takes a lock for the time of one append and wakes the loop only when the box was empty;
/// the loop takes everything at once by swapping arrays, so both keep their memory.
public final class Mailbox<Element: Sendable>: Sendable {
    private let loop: EventLoop
    /// How many elements may wait.
    public let capacity: Int
    private let waiting = Lock<[Element]>([])
    /// Lets a turn that finds nothing leave without the lock. Written under it.
    private let hasMail = Atomic<Bool>(false)

    public init(for loop: EventLoop, capacity: Int = .max) {
        precondition(capacity > 0, "a mailbox holds something")
        self.loop = loop
        self.capacity = capacity
    }

    /// Puts an element behind those that wait. From any thread. False, and nothing done, when the
    /// box is full.
    @discardableResult
    public func post(_ element: Element) -> Bool {
        let (taken, first) = waiting.withLock { waiting in
            guard waiting.count < capacity else { return (false, false) }
            waiting.append(element)
            guard waiting.count == 1 else { return (true, false) }
            hasMail.store(true, ordering: .releasing)
            return (true, true)
        }
        if first { loop.wake() }
        return taken
    }

    /// Moves all that waits into `batch`, which must be empty; its memory becomes the box's. Called
    /// on the loop's thread, in `turn`. False when there was nothing.
    @discardableResult
    public func drain(into batch: inout [Element]) -> Bool {
        precondition(batch.isEmpty, "the last batch was dealt with")
        guard hasMail.load(ordering: .acquiring) else { return false }
        // The spare array goes in and the full one comes out: neither is copied.
        waiting.withLock { waiting in
            swap(&waiting, &batch)
            hasMail.store(false, ordering: .releasing)
        }
        return true
    }
}
