import LNetCore
import NodeCore
import NodeRuntime
import Primitives
import SluiceClient
import Store
import Testing
import WireFormat

@Suite(.timeLimit(.minutes(1)))
struct RuntimeErrorTests {
    private func failure(_ options: ServerProcess.Options) -> RuntimeError? {
        do {
            _ = try ServerProcess(options)
            return nil
        } catch {
            return error
        }
    }

    @Test func `a store that is not there is named`() throws {
        let cluster = try RuntimeCluster()
        var options = try cluster.options("meta")
        options.createsStore = false
        let sentence = try #require(failure(options)).description
        #expect(sentence.contains("there is no store in \(cluster.directory)/meta"))
    }

    @Test func `a store that a server holds is refused to another`() throws {
        let cluster = try RuntimeCluster()
        try cluster.start("meta")
        let error = try #require(failure(try cluster.options("meta", partner: true)))
        guard case .store(.inUse) = error else {
            Issue.record("\(error)")
            return
        }
        try cluster.stop("meta")
    }

    @Test func `a store of another target is refused`() throws {
        let cluster = try RuntimeCluster()
        try cluster.start("object0")
        try cluster.stop("object0")
        var options = try cluster.options("object1")
        options.storeDirectory = "\(cluster.directory)/object0"
        let error = try #require(failure(options))
        guard case .store(.wrongTarget) = error else {
            Issue.record("\(error)")
            return
        }
    }

    @Test func `an address where another listens, or that is not here, is named`() throws {
        let cluster = try RuntimeCluster()
        try cluster.start("object0")
        var options = try cluster.options("object1")
        let taken = try #require(cluster.description.target(named: "object0")).nids[0]
        options.configuration.lnet.nid = taken
        #expect(try #require(failure(options)).description.hasPrefix("\(taken) port"))
        let foreign = try #require(NID("192.0.2.1@tcp"))
        options.configuration.lnet.nid = foreign
        #expect(
            try #require(failure(options)).description.contains("is no address of this machine"))
        try cluster.stop("object0")
        #expect(throws: RuntimeError.self) {
            try ServerProcess.Options(
                cluster: cluster.description, target: "nobody", nid: taken, storeDirectory: "/x")
        }
    }

    @Test func `a file system that nobody serves says so when its time is over`() async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        await #expect(throws: FileSystemError.self) {
            try await FileSystem.mount(
                cluster.description, nid: cluster.nid(100), timeout: .milliseconds(300))
        }
    }

    @Test func `a ping is answered by whoever listens, and fails where nobody does`() async throws {
        let cluster = try RuntimeCluster(objectServerCount: 1)
        try cluster.start("object0")
        let fleet = try ClientFleet(
            pingingFrom: cluster.nid(100), acceptPort: cluster.description.acceptPort)
        try fleet.start()
        let there = try #require(cluster.description.target(named: "object0")).nids[0]
        let answer = await ping(fleet, there)
        #expect(try answer.get().info.interfaces.first?.nid == there)
        let nobody = await ping(fleet, cluster.nid(200))
        #expect(throws: PingFailure.self) { try nobody.get() }
        fleet.stop()
        try fleet.join()
        try cluster.stop("object0")
    }

    private func ping(
        _ fleet: ClientFleet, _ nid: NID
    ) async -> Result<PingAnswer, PingFailure> {
        await withCheckedContinuation { continuation in
            fleet.ping(nid, timeout: .seconds(2)) { continuation.resume(returning: $0) }
        }
    }
}
