import ArgumentParser
import Foundation
import SluiceClient
import WireFormat

/// `sluice fs get`: a file of the cluster into a local one.
struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Copy a file out of the cluster.")

    @Argument(help: "The file in the cluster.")
    var path: String

    @Argument(help: "The local file; replaced where it exists.")
    var destination: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        // Beside the destination, and put in its place when all is there: never half a file.
        let partial = destination + ".partial-\(getpid())"
        guard FileManager.default.createFile(atPath: partial, contents: nil),
            let output = FileHandle(forWritingAtPath: partial)
        else { throw Failure("\(destination): \(Machine.errnoText())") }
        do {
            try await clusterOptions.withFileSystem { try await $0.copy(path, to: output) }
            try output.close()
        } catch {
            Machine.remove(partial)
            throw error
        }
        if let reason = Machine.rename(partial, to: destination) {
            Machine.remove(partial)
            throw Failure("\(destination): \(reason)")
        }
    }
}

/// `sluice fs cat`.
struct CatCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cat", abstract: "Print a file's bytes.")

    @Argument(help: "The file in the cluster.")
    var path: String

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        try await clusterOptions.withFileSystem { try await $0.copy(path, to: .standardOutput) }
    }
}

extension FileSystem {
    /// Writes all bytes of a file to a descriptor, in pieces.
    func copy(_ path: String, to output: FileHandle) async throws {
        let file = try await open(path, [.read])
        var offset: UInt64 = 0
        while true {
            let bytes = try await file.read(at: offset, count: 1 << 20)
            if bytes.isEmpty { break }
            do {
                try output.write(contentsOf: Data(bytes))
            } catch {
                throw Failure("writing \(path) out: \(error.localizedDescription)")
            }
            offset += UInt64(bytes.count)
        }
        try await file.close()
    }
}
