import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import StorageCore
import WireFormat

extension Scenario {
    /// Everything that was executed goes to disk: a new client's record has to be there before it
    /// is answered, and takes along what is open.
    func commitAll() throws {
        addClient(700 + clients.count)
        clients.removeLast()
        settle(.seconds(2))
    }

    /// Rows that wait for an object server to destroy what they name.
    func destroyLogCount() -> Int {
        var count = 0
        stores[0].scan(.destroyLog, from: []) { _, _ in
            count += 1
            return true
        }
        return count
    }

    /// The process of a client ends, and nobody takes its place.
    func lose(_ client: Int) { simulator.kill(clients[client]) }

    /// An administrator ends the recovery of a target.
    func abortRecovery(_ place: Int = 0) {
        let now = simulator.now
        _ = simulator.withServer(servers[place]) { $0.abortRecovery(now: now) }
        settle()
    }

    /// Submits one operation, lets `rule` lose a message of it, and waits for its end.
    func performLosing(
        _ client: Int, _ operation: FileOperation, _ pattern: MessagePattern
    ) throws -> Status {
        let rule = simulator.dropNext(pattern)
        let cookie = submit(clients[client], operation)
        let isDone = simulator.run(until: simulator.now + .seconds(60)) {
            self.result(self.clients[client], cookie) != nil
        }
        guard isDone, let result = result(clients[client], cookie) else {
            throw Stuck(description: "\(operation) does not end; \(state(clients[client]))")
        }
        guard simulator.hits(rule) == 1 else {
            throw Stuck(description: "no message was lost of \(operation)")
        }
        return result.status
    }
}
