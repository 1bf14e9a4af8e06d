internal import CFabric

/// A named thread of the operating system that runs one closure, to be joined once.
public struct LoopThread: Sendable {
    private let handle: UInt64

    /// Starts a thread. The system shows the first 15 bytes of `name`.
    ///
    /// The body is `@Sendable` and thereby belongs to no actor: a closure that inherited the main
    /// actor would trap here.
    public init(
        named name: String, _ body: @escaping @Sendable () -> Void
    ) throws(FabricError) {
        // SAFETY: the box is retained for the thread, which takes it over; given back when none
        // started.
        let box = unsafe Unmanaged.passRetained(Body(body))
        var handle: UInt64 = 0
        let status = unsafe fabric_thread_create(
            name, enterThread, unsafe box.toOpaque(), &handle)
        guard status == 0 else {
            unsafe box.release()
            throw FabricError(call: "pthread_create", errno: -status)
        }
        self.handle = handle
    }

    /// Waits until the closure has returned. Once per thread.
    public func join() {
        let status = fabric_thread_join(handle)
        precondition(status == 0, "a thread is joined once, and not by itself")
    }
}

private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

private func enterThread(_ context: UnsafeMutableRawPointer?) {
    // SAFETY: `context` is the box that the initializer retained for this one call.
    unsafe Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
}
