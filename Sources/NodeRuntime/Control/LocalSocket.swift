internal import CFabric
import EventLoop

/// A stream between two processes of this machine: whole messages, each ended by the end of a side.
struct LocalSocket: ~Copyable {
    private let descriptor: Int32

    init(descriptor: Int32) { self.descriptor = descriptor }

    /// Connects to the node that listens at `path`.
    init(connectingTo path: String) throws(FabricError) {
        // SAFETY: the shim reads the text for the call.
        descriptor = try FabricError.check(unsafe fabric_local_connect(path), "connect")
    }

    deinit { _ = fabric_descriptor_close(descriptor) }

    /// Waits at most this long for each piece.
    func setTimeout(milliseconds: Int32) throws(FabricError) {
        try FabricError.check(fabric_local_set_timeout(descriptor, milliseconds), "setsockopt")
    }

    /// Sends everything, then tells the other side that this was all.
    func send(_ bytes: [UInt8]) throws(FabricError) {
        var sent = 0
        while sent < bytes.count {
            let status = unsafe bytes.withUnsafeBytes { raw in
                // SAFETY: the range lies within the array, which lives for the call.
                unsafe fabric_socket_send(
                    descriptor, raw.baseAddress! + sent, raw.count - sent)
            }
            guard status >= 0 else { throw FabricError(call: "send", errno: Int32(-status)) }
            sent += status
        }
        try FabricError.check(fabric_socket_shutdown_send(descriptor), "shutdown")
    }

    /// All that the other side sends, to its end; throws EMSGSIZE beyond `limit` bytes.
    func receive(limit: Int) throws(FabricError) -> [UInt8] {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let status = unsafe piece.withUnsafeMutableBytes { raw in
                // SAFETY: the shim writes at most `count` bytes of the array.
                unsafe fabric_socket_receive(descriptor, raw.baseAddress!, raw.count)
            }
            guard status >= 0 else { throw FabricError(call: "recv", errno: Int32(-status)) }
            if status == 0 { return bytes }
            guard bytes.count + status <= limit else {
                throw FabricError(call: "recv", errno: 90)
            }
            bytes += piece[..<status]
        }
    }
}
