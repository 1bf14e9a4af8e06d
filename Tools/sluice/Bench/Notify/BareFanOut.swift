import CFabric
import EventLoop
import Foundation
import Glibc
import Primitives
import WireFormat

/// What a notification costs without any protocol: one process writes to many sockets and reads an
/// answer from each, another answers them all. Both wait in epoll.
@safe
final class BareFanOut {
    /// What an announcement and a receipt have on the wire with every header, so that the kernel moves
    /// as much: measured with strace on an upgrade in protocol 3 with an empty cache.
    static let noticeBytes = 528
    static let answerBytes = 320

    private let poller: Int32
    private var sockets: [Int32] = []
    private let events: UnsafeMutablePointer<fabric_event>
    private let buffer: UnsafeMutableRawPointer
    private let child: ChildServer
    private static let batch = 256

    /// Connects `count` clients of a process of their own.
    init(count: Int, directory: String, processors: (Int, Int)?) async throws {
        let listener = fabric_socket_create()
        defer { close(listener) }
        _ = fabric_socket_set_no_delay(listener, 1)
        let address = NetBench.loopback(13)
        let bound = fabric_socket_bind(listener, address.address, 0)
        guard bound == 0, fabric_socket_listen(listener, 4096) == 0 else {
            throw Failure("\(address): \(Machine.errnoText(-bound))")
        }
        var own = fabric_endpoint()
        // SAFETY: the out-parameter outlives the call.
        _ = unsafe fabric_socket_local_endpoint(listener, &own)
        poller = fabric_poller_create()
        unsafe events = .allocate(capacity: Self.batch)
        unsafe events.initialize(
            repeating: fabric_event(token: 0, readiness: 0, reserved: 0), count: Self.batch)
        unsafe buffer = .allocate(byteCount: 4096, alignment: 64)
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 4096)
        var arguments = [
            "bench", "fan-out-clients", "--count", "\(count)", "--address", address.description,
            "--port", "\(own.port)",
        ]
        if let processors { arguments += ["--cpu", "\(processors.1)"] }
        child = try ChildServer(
            name: "the clients of the bare fan-out", nid: address, arguments: arguments,
            directory: directory, label: "fan-out.\(count)")
        let limit = ContinuousClock.now + .seconds(30)
        while sockets.count < count {
            var peer = fabric_endpoint()
            // SAFETY: the out-parameter outlives the call.
            let accepted = unsafe fabric_socket_accept(listener, &peer)
            if accepted < 0 {
                guard accepted == -EAGAIN, ContinuousClock.now < limit, child.poll() == nil else {
                    throw Failure("the bare fan-out has no clients: \(child.lastWords)")
                }
                try await Task.sleep(for: .milliseconds(1))
                continue
            }
            let added = fabric_poller_add(
                poller, accepted, Readiness.readable.rawValue, UInt64(sockets.count))
            guard added == 0 else { throw Failure("epoll: \(Machine.errnoText(-added))") }
            sockets.append(accepted)
        }
    }

    deinit {
        for socket in sockets { close(socket) }
        close(poller)
        unsafe events.deallocate()
        unsafe buffer.deallocate()
    }

    /// One fan-out: when each client's answer was there, since the first byte was sent.
    func run() throws -> Recorder {
        var recorder = Recorder()
        var left = [Int](repeating: Self.answerBytes, count: sockets.count)
        let began = Host.monotonicNow
        for socket in sockets {
            // SAFETY: the buffer holds that many bytes.
            let taken = unsafe fabric_socket_send(socket, buffer, Self.noticeBytes)
            guard taken == Self.noticeBytes else { throw Failure("a notice was not taken whole") }
        }
        var missing = sockets.count
        while missing > 0 {
            // SAFETY: the batch has the capacity that is passed.
            let count = unsafe fabric_poller_wait(
                poller, 10_000_000_000, events, Int32(Self.batch))
            guard count > 0 else { throw Failure("a client of the bare fan-out does not answer") }
            for index in 0..<Int(count) {
                // SAFETY: the kernel filled `count` events.
                let client = Int(unsafe events[index].token)
                // SAFETY: the buffer has that size.
                let received = unsafe fabric_socket_receive(sockets[client], buffer, 4096)
                guard received > 0 else { throw Failure("a client of the bare fan-out is gone") }
                left[client] -= received
                if left[client] == 0 {
                    recorder.record(Host.monotonicNow - began)
                    missing -= 1
                }
            }
        }
        return recorder
    }
}
