import ArgumentParser
import CFabric
import EventLoop
import Foundation
import Glibc
import NodeRuntime
import Primitives
import WireFormat

/// `sluice bench net-peer`: the other side of a network benchmark, as a process of its own.
struct NetPeerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net-peer", abstract: "The answering side of `sluice bench net`.",
        shouldDisplay: false)

    @Option var kind: String
    @Option var wait: String
    @Option var nid: NID
    @Option var acceptPort: UInt16
    @Option var cpu: Int?

    func run() throws {
        guard let kind = NetBenchKind(rawValue: kind), let wait = NetBenchWait(rawValue: wait)
        else { throw ValidationError("no such kind or wait") }
        Self.endWithInput()
        let usage: Usage
        if kind.isLNet {
            let user = LNetAnswerer()
            do {
                let station = try LNetStation(
                    NetBenchSize.configuration(nid, acceptPort: acceptPort), user: user,
                    spin: wait.spin, cpu: cpu, limit: .seconds(600))
                try station.listen()
                Output.line("ready \(acceptPort)")
                _ = try station.run()
            } catch {
                throw Failure("\(error)")
            }
            usage = user.usage
        } else {
            let listener = fabric_socket_create()
            let bound = fabric_socket_bind(listener, nid.address, 0)
            guard bound == 0, fabric_socket_listen(listener, 1) == 0 else {
                throw Failure("\(nid): \(Machine.errnoText(-bound))")
            }
            var own = fabric_endpoint()
            // SAFETY: the out-parameter outlives the call.
            _ = unsafe fabric_socket_local_endpoint(listener, &own)
            Output.line("ready \(own.port)")
            if let cpu { _ = fabric_thread_pin(Int32(cpu)) }
            let socket = try BareSocket(acceptedFrom: listener, wait: wait)
            usage = BareAnswerer.run(kind, socket)
        }
        Output.line("usage \(usage.word)")
    }

    /// Ends the process when whoever started it is gone.
    static func endWithInput() {
        Thread.detachNewThread {
            var byte: UInt8 = 0
            // SAFETY: there is room for the byte that is asked for.
            while unsafe read(0, &byte, 1) > 0 {}
            _exit(0)
        }
    }
}
