import ArgumentParser
import FlyingFox
import FlyingSocks
import Foundation
import NodeRuntime

/// Where metrics are served: `127.0.0.1:9464`, `[::1]:9464`, or `:9464` for every address.
struct MetricsAddress: ExpressibleByArgument {
    var text: String
    private var host: String
    private var port: UInt16

    init?(argument: String) {
        guard let colon = argument.lastIndex(of: ":"),
            let port = UInt16(argument[argument.index(after: colon)...]), port > 0
        else { return nil }
        var host = String(argument[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        text = argument
        self.host = host
        self.port = port
        guard (try? address()) != nil else { return nil }
    }

    /// For the HTTP server; throws where the host is no address.
    fileprivate func address() throws -> any SocketAddress {
        if host.isEmpty { return sockaddr_in6.inet6(port: port) }
        if host.contains(":") { return try sockaddr_in6.inet6(ip6: host, port: port) }
        return try sockaddr_in.inet(ip4: host, port: port)
    }
}

/// An HTTP server with one page, which the server's loop is asked for at every request.
enum MetricsServer {
    /// Returns when it listens, and throws why it cannot.
    ///
    /// - Parameter failed: told when it ends later on; the target serves on without it.
    static func start(
        at place: MetricsAddress, for server: ServerProcess,
        failed: @escaping @Sendable (String) -> Void
    ) throws {
        let http = HTTPServer(address: try place.address(), logger: .disabled)
        let began = DispatchSemaphore(value: 0)
        let refusal = RefusalBox()
        Task {
            await http.appendRoute("GET /metrics") { _ in
                guard let text = await page(of: server) else {
                    return HTTPResponse(
                        statusCode: .serviceUnavailable, body: Data("the loop is busy\n".utf8))
                }
                return HTTPResponse(
                    statusCode: .ok,
                    headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                    body: Data(text.utf8))
            }
            do {
                try await http.run()
            } catch {
                refusal.note("\(error)")
                began.signal()
                failed("metrics at \(place.text) ended: \(error)")
            }
        }
        Task {
            try? await http.waitUntilListening(timeout: 5)
            began.signal()
        }
        began.wait()
        if let reason = refusal.text {
            throw Failure(
                "metrics cannot be served at \(place.text) (\(reason)): name another address or port"
            )
        }
    }

    private static func page(of server: ServerProcess) async -> String? {
        await withCheckedContinuation { continuation in
            let isAsked = server.inspect { node, now in
                continuation.resume(returning: ServerMetrics.text(node, now: now))
            }
            if !isAsked { continuation.resume(returning: nil) }
        }
    }

    private final class RefusalBox: @unchecked Sendable {
        private let lock = NSLock()
        private var reason: String?

        func note(_ text: String) { lock.withLock { reason = text } }
        var text: String? { lock.withLock { reason } }
    }
}
