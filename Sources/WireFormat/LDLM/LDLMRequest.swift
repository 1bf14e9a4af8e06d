/// The body of enqueue, cancel, convert and of every AST: `struct ldlm_request`, 88 + 8n bytes.
///
/// | offset | size | field                                        |
/// |-------:|-----:|----------------------------------------------|
/// |      0 |    4 | flags                                        |
/// |      4 |    4 | lock count                                   |
/// |      8 |   80 | descriptor                                   |
/// |     88 |   8n | handles, two at least, whatever count says   |
///
/// Enqueue: handle 0 is the client's cookie, those behind it are server cookies to cancel first,
/// and the count includes handle 0. Cancel: all are server cookies. AST: handle 0 is the client's
/// cookie, handle 1 the server's, and the count is 0 or 1.
///
/// The first two handles stand in the struct, so that the common messages allocate nothing.
public struct LDLMRequest: Hashable, Sendable {
    public var flags: LockFlags
    public private(set) var lockCount: UInt32
    public var descriptor: LockDescriptor
    public private(set) var handle0: UInt64
    public private(set) var handle1: UInt64
    /// Handles from the third on.
    public private(set) var moreHandles: [UInt64]

    /// Handles beyond this many do not fit the one page that Lustre gives to the request.
    public static let handleCountMax = 500

    /// The smallest encoding: two handles.
    public static let encodedSizeMin = 104

    public var encodedSize: Int { 104 + 8 * moreHandles.count }

    /// An enqueue that cancels the locks of `cancelling` (server cookies) before it.
    public static func enqueue(
        cookie: UInt64, flags: LockFlags, descriptor: LockDescriptor, cancelling: [UInt64] = []
    ) -> LDLMRequest {
        precondition(cancelling.count < handleCountMax, "too many early cancels for one enqueue")
        return LDLMRequest(
            flags: flags, lockCount: UInt32(1 + cancelling.count), descriptor: descriptor,
            handle0: cookie, handle1: cancelling.first ?? 0,
            moreHandles: cancelling.count > 1 ? [UInt64](cancelling.dropFirst()) : [])
    }

    /// A cancel of one lock by the server's cookie.
    public static func cancel(cookie: UInt64) -> LDLMRequest {
        LDLMRequest(
            flags: [], lockCount: 1, descriptor: .none, handle0: cookie, handle1: 0,
            moreHandles: [])
    }

    /// A cancel of several locks by the server's cookies, at most `handleCountMax`.
    public static func cancel(cookies: [UInt64]) -> LDLMRequest {
        precondition(cookies.count <= handleCountMax, "too many locks for one cancel")
        return LDLMRequest(
            flags: [], lockCount: UInt32(cookies.count), descriptor: .none,
            handle0: cookies.first ?? 0, handle1: cookies.count > 1 ? cookies[1] : 0,
            moreHandles: cookies.count > 2 ? [UInt64](cookies.dropFirst(2)) : [])
    }

    /// A convert of the lock with the server's cookie to what `descriptor` says.
    public static func convert(cookie: UInt64, descriptor: LockDescriptor) -> LDLMRequest {
        LDLMRequest(
            flags: [], lockCount: 1, descriptor: descriptor, handle0: cookie, handle1: 0,
            moreHandles: [])
    }

    /// The replay of one lock to the next instance of its target: the client's cookie, what it
    /// holds or waits for, and nothing to cancel. Stands by itself, so that a batch can carry many.
    public static func replay(cookie: UInt64, descriptor: LockDescriptor) -> LDLMRequest {
        enqueue(
            cookie: cookie,
            flags: descriptor.grantedMode == nil
                ? [.replay, .blockWait] : [.replay, .blockGranted],
            descriptor: descriptor)
    }

    /// A blocking, completion or glimpse AST.
    public static func callback(
        clientCookie: UInt64, serverCookie: UInt64, flags: LockFlags, descriptor: LockDescriptor
    ) -> LDLMRequest {
        LDLMRequest(
            flags: flags, lockCount: 1, descriptor: descriptor, handle0: clientCookie,
            handle1: serverCookie, moreHandles: [])
    }

    /// Calls `body` for the server cookies that an enqueue says to cancel first.
    public func forEachEarlyCancel(_ body: (UInt64) -> Void) {
        if lockCount > 1 { body(handle1) }
        for handle in moreHandles { body(handle) }
    }

    /// Calls `body` for the server cookies of a cancel.
    public func forEachCancel(_ body: (UInt64) -> Void) {
        if lockCount > 0 { body(handle0) }
        if lockCount > 1 { body(handle1) }
        for handle in moreHandles { body(handle) }
    }

    public static func decode(from reader: inout WireReader) throws(WireError) -> LDLMRequest {
        let flags = LockFlags(rawValue: try reader.u32())
        let count = try reader.u32()
        guard count <= UInt32(handleCountMax) else {
            throw .badLength(
                field: "lock_count", value: UInt64(count), limit: UInt64(handleCountMax))
        }
        let descriptor = try LockDescriptor.decode(from: &reader)
        var request = LDLMRequest(
            flags: flags, lockCount: count, descriptor: descriptor, handle0: try reader.u64(),
            handle1: try reader.u64(), moreHandles: [])
        if count > 2 {
            let more = Int(count) - 2
            // Before the memory is taken: a count that the bytes do not back costs nothing.
            guard reader.remaining >= 8 * more else {
                throw .truncated(
                    need: reader.offset + 8 * more, have: reader.offset + reader.remaining)
            }
            request.moreHandles.reserveCapacity(more)
            for _ in 0..<more { request.moreHandles.append(try reader.u64()) }
        }
        return request
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(flags.rawValue)
        writer.u32(lockCount)
        descriptor.encode(into: &writer)
        writer.u64(handle0)
        writer.u64(handle1)
        for handle in moreHandles { writer.u64(handle) }
    }
}
