import ArgumentParser
import ClientCore
import Foundation
import NodeRuntime
import SluiceClient
import WireFormat

/// `sluice fs`: files of a running cluster.
struct FileSystemCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fs",
        abstract: "Use the files of a running cluster.",
        discussion: """
            Paths are absolute in the cluster, such as /a/b. While a server is being upgraded these \
            commands wait for it; where SLUICE_CLIENT_CONTROL names a path, the command listens there \
            for `sluice client show --control` meanwhile.
            """,
        subcommands: [
            ListCommand.self, MakeDirectoryCommand.self, PutCommand.self, GetCommand.self,
            CatCommand.self, RemoveCommand.self, MoveCommand.self, StatCommand.self,
        ])
}

extension ClusterOptions {
    /// Mounts the cluster, runs `body`, and unmounts: what was written is on its servers then.
    func withFileSystem<R: Sendable>(
        _ body: (FileSystem) async throws -> R
    ) async throws -> R {
        let file = try load()
        let own = try clientNIDs(for: file)
        let cluster = try file.description.reached(from: own)
        var options = ClientFleet.Options()
        options.otherNIDs = [own[0]: Array(own.dropFirst())]
        let system: FileSystem
        do {
            system = try await FileSystem.mount(
                cluster, nid: own[0], timeout: .seconds(timeout), options: options)
        } catch let error as FileSystemError where error.status == .timedOut {
            let nids = file.targets.flatMap(\.nids).map(\.description).joined(separator: ", ")
            throw Failure(
                "cannot mount \(file.path): no answer within \(Report.seconds(.seconds(timeout))) from "
                    + "\(nids), port \(file.acceptPort); do its servers run?")
        } catch {
            throw Failure("cannot mount \(file.path): \(error)")
        }
        let operators = try Self.answerOperators(for: system)
        defer { operators?.stop() }
        do {
            let result = try await body(system)
            await system.unmount()
            return result
        } catch let error as FileSystemError {
            await system.unmount()
            throw Failure(error.description)
        } catch {
            await system.unmount()
            throw error
        }
    }
}

extension ClusterOptions {
    /// Lets this client be asked while it runs, where SLUICE_CLIENT_CONTROL names a path for it.
    private static func answerOperators(for system: FileSystem) throws -> ControlServer? {
        let path = ProcessInfo.processInfo.environment["SLUICE_CLIENT_CONTROL"] ?? ""
        guard !path.isEmpty else { return nil }
        var router = ControlRouter()
        router.addClients(system.node.fleet)
        router.addNetwork(system.node.fleet.network(of: system.node.index))
        do {
            return try ControlServer(path: path, router)
        } catch {
            throw Failure("\(error)")
        }
    }
}

extension FileType {
    var word: String { self == .directory ? "directory" : "file" }
}

/// A file's attributes as `--json` prints them.
struct StatusReport: Encodable {
    var path: String
    var type: String
    var size: UInt64
    var mode: String
    var links: UInt32
    var modified: Double
    var changed: Double
    var entries: UInt64?
    var fid: String

    init(_ status: FileStatus, path: String) {
        self.path = path
        type = status.type.word
        size = status.size
        mode = "0" + String(status.mode, radix: 8)
        links = status.linkCount
        modified = Self.seconds(status.modified)
        changed = Self.seconds(status.changed)
        entries = status.type == .directory ? status.entryCount : nil
        fid = status.file.description
    }

    private static func seconds(_ time: Timestamp) -> Double {
        Double(time.seconds) + Double(time.nanoseconds) / 1e9
    }
}
