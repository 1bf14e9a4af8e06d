internal import CFabric
import EventLoop
import Foundation

/// The control socket of a running node: a Unix socket that only its owner may use.
///
/// A thread accepts; each request has a thread of its own, at most eight at a time, so that one
/// who says nothing holds up nobody. The file goes with `stop`.
@safe
public final class ControlServer: @unchecked Sendable {
    // Every stored property is immutable but what the locks guard.
    public let path: String
    private let descriptor: Int32
    private let router: ControlRouter
    private let isOver = StopFlag()
    private let inUse = Lock(0)
    private let thread = Lock<LoopThread?>(nil)

    private static let requestsMax = 8
    /// A request comes at once; who is silent for longer is no command of ours.
    private static let timeoutMs: Int32 = 5_000

    /// Listens at `path`; a file that a node left there when it was killed is replaced.
    public init(path: String, _ router: ControlRouter) throws(ControlError) {
        self.path = path
        self.router = router
        // SAFETY: the shim reads the texts for the calls.
        var status = unsafe fabric_local_listen(path, 16)
        if status == -98 {
            let found = unsafe fabric_local_connect(path)
            if found >= 0 {
                _ = fabric_descriptor_close(found)
                throw ControlError(
                    "\(path) is the control socket of a node that runs: name another", errno: 98)
            }
            guard unsafe fabric_local_remove(path) == 0 else {
                throw ControlError("\(path) is there and no socket: name another", errno: 17)
            }
            status = unsafe fabric_local_listen(path, 16)
        }
        guard status >= 0 else {
            throw ControlError(
                "the control socket \(path) cannot be made: "
                    + FabricError.text(forErrno: -status), errno: -status)
        }
        descriptor = status
        do {
            let accepting = try LoopThread(named: "control") { self.accept() }
            thread.withLock { $0 = accepting }
        } catch {
            _ = fabric_descriptor_close(descriptor)
            throw ControlError("\(error)", errno: error.errno)
        }
    }

    /// Ends the socket and removes its file. Requests that are under way are answered still.
    public func stop() {
        guard !isOver.set() else { return }
        _ = fabric_local_shutdown(descriptor)
        let accepting = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        accepting?.join()
        _ = fabric_descriptor_close(descriptor)
        // SAFETY: the shim reads the text for the call.
        _ = unsafe fabric_local_remove(path)
    }

    private func accept() {
        while !isOver.isSet {
            let accepted = fabric_local_accept(descriptor)
            if isOver.isSet {
                if accepted >= 0 { _ = fabric_descriptor_close(accepted) }
                return
            }
            guard accepted >= 0 else {
                // Out of descriptors, say: not for ever, and not in a hot loop.
                Thread.sleep(forTimeInterval: 0.05)
                continue
            }
            let isFree = inUse.withLock { count in
                guard count < Self.requestsMax else { return false }
                count += 1
                return true
            }
            guard isFree else {
                _ = fabric_descriptor_close(accepted)
                continue
            }
            Thread.detachNewThread {
                self.serve(LocalSocket(descriptor: accepted))
                self.inUse.withLock { $0 -= 1 }
            }
        }
    }

    private func serve(_ socket: consuming LocalSocket) {
        do throws(FabricError) {
            try socket.setTimeout(milliseconds: Self.timeoutMs)
            let bytes = try socket.receive(limit: ControlRequest.requestBytesMax)
            var reply = ControlReply()
            do {
                let request = try JSONDecoder().decode(ControlRequest.self, from: Data(bytes))
                reply.body = try router.answer(request)
            } catch let error as ControlError {
                reply = ControlReply(errno: error.errno, error: error.description)
            } catch is DecodingError {
                reply = ControlReply(errno: 22, error: "that was no request")
            } catch {
                reply = ControlReply(errno: 5, error: "\(error)")
            }
            try socket.send([UInt8]((try? JSONEncoder().encode(reply)) ?? Data()))
        } catch {
            // The command ended before its answer: nobody is left to tell.
            return
        }
    }
}
