import EventLoop
import MetadataCore
import Primitives
import PtlRPCCore
import StorageCore
import Store
import WireFormat

/// A store of its own, and a metadata service over a copy in memory that makes its transactions
/// beforehand, each with a row for its reply: nothing but the store is in its time.
final class StoreAlone {
    private let disk: DiskStore
    private var overlay: OverlayStore<DiskStore>
    private var service = MetadataService(
        configuration: MetadataConfiguration(targetIndex: 0, instance: 1))
    private var memory = OverlayStore(base: MemoryStore())
    private var transno: UInt64 = 0

    init(directory: String) throws {
        do {
            disk = try DiskStore.open(
                directory: directory, targetName: "alone", targetKind: "mds", create: true
            ) { _ in }
        } catch {
            throw Failure("\(directory): \(error)")
        }
        overlay = OverlayStore(base: disk)
        let first = service.load(from: memory, afterCleanStop: true)
        memory.apply(first)
        overlay.apply(first)
    }

    deinit { disk.abandon() }

    /// Commits the updates, one of each client at a time. A sample is what an update waited.
    func run(
        _ name: String, clients: Int, perClient: Int, keepsRaw: Bool
    ) throws -> BenchResult.Run {
        let transactions = try prepare(name, clients, perClient)
        var recorder = Recorder(keepsRaw: keepsRaw)
        var next = 0
        var groups = 0
        let began = Host.monotonicNow
        var last = began
        while next < transactions.count {
            let end = min(transactions.count, next + clients)
            for transaction in transactions[next..<end] { overlay.apply(transaction) }
            guard let group = overlay.takeGroup() else {
                preconditionFailure("what was applied is due")
            }
            disk.submit(group)
            do {
                overlay.committed(try disk.waitUntilCommitted())
            } catch {
                throw Failure("\(disk.directory): \(error)")
            }
            groups += 1
            let now = Host.monotonicNow
            for _ in next..<end { recorder.record(now - last) }
            last = now
            next = end
        }
        let count = Double(transactions.count)
        return recorder.run(
            unit: .us,
            figures: [
                "perSecond": count / (last - began).inSeconds,
                "updatesPerGroup": count / Double(groups),
            ])
    }

    /// The updates in the order in which clients that go in step would send them.
    private func prepare(
        _ name: String, _ clients: Int, _ perClient: Int
    ) throws -> [Transaction] {
        var all: [Transaction] = []
        all.reserveCapacity(clients * perClient)
        for step in 0..<perClient {
            for client in 0..<clients {
                transno += 1
                service.transno = transno
                var transaction = Transaction(transno: transno)
                let body = RequestBody.mkdir(
                    MkdirRequest(
                        parent: .root, name: MetadataBed.name(name, client, step), mode: 0o755,
                        time: .zero))
                let result = service.execute(
                    body, client: UInt32(client), isReplay: false, in: memory,
                    into: &transaction)
                guard case .reply(.ok, let reply) = result else {
                    throw Failure("the metadata service gave \(result)")
                }
                memory.apply(transaction)
                transaction.put(
                    .replyData, key: ReplyRecord.key(index: UInt32(client), tag: 1),
                    value: [UInt8](repeating: 0, count: ReplyRecord.headerSize)
                        + reply.saved(as: .mkdir, status: .ok))
                all.append(transaction)
            }
        }
        return all
    }
}
