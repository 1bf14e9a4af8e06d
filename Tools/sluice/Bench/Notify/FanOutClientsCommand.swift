import ArgumentParser
import CFabric
import EventLoop
import Foundation
import Glibc
import WireFormat

/// `sluice bench fan-out-clients`: the clients of a bare fan-out, all in this process.
@safe
struct FanOutClientsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fan-out-clients", abstract: "The clients of a bare fan-out.",
        shouldDisplay: false)

    @Option var count: Int
    @Option var address: NID
    @Option var port: UInt16
    @Option var cpu: Int?

    func run() throws {
        NetPeerCommand.endWithInput()
        do { try Host.raiseDescriptorLimit() } catch { throw Failure("\(error)") }
        let poller = fabric_poller_create()
        var sockets: [Int32] = []
        for index in 0..<count {
            let socket = fabric_socket_create()
            _ = fabric_socket_set_no_delay(socket, 1)
            let status = fabric_socket_connect(socket, address.address, port)
            guard status == 0 || status == -EINPROGRESS else {
                throw Failure("connect: \(Machine.errnoText(-status))")
            }
            _ = fabric_poller_add(poller, socket, Readiness.readable.rawValue, UInt64(index))
            sockets.append(socket)
        }
        if let cpu { _ = fabric_thread_pin(Int32(cpu)) }
        var heard = [Int](repeating: 0, count: count)
        let batch = 256
        unsafe withUnsafeTemporaryAllocation(of: fabric_event.self, capacity: batch) { events in
            unsafe withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 64) { buffer in
                while true {
                    // SAFETY: the batch has the capacity that is passed.
                    let ready = unsafe fabric_poller_wait(
                        poller, -1, events.baseAddress!, Int32(batch))
                    for index in 0..<max(0, Int(ready)) {
                        // SAFETY: the kernel filled `ready` events.
                        let client = Int(unsafe events[index].token)
                        // SAFETY: the buffer has that size.
                        let received = unsafe fabric_socket_receive(
                            sockets[client], buffer.baseAddress!, 4096)
                        if received == 0 { return }
                        heard[client] += max(0, received)
                        if heard[client] >= BareFanOut.noticeBytes {
                            heard[client] -= BareFanOut.noticeBytes
                            // SAFETY: the buffer holds that many bytes.
                            _ = unsafe fabric_socket_send(
                                sockets[client], buffer.baseAddress!, BareFanOut.answerBytes)
                        }
                    }
                }
            }
        }
    }
}
