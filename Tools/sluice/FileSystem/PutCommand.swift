import ArgumentParser
import Foundation
import SluiceClient
import WireFormat

/// `sluice fs put`: a local file into the cluster.
struct PutCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "put", abstract: "Copy a local file into the cluster.")

    @Argument(help: "The local file; - for standard input.")
    var source: String

    @Argument(help: "The file in the cluster; replaced where it exists.")
    var path: String

    @Option(help: ArgumentHelp("Spread a new file over this many object servers.", valueName: "n"))
    var stripes: UInt32 = 1

    @OptionGroup var clusterOptions: ClusterOptions

    func run() async throws {
        // Opened first: a source that cannot be read leaves the cluster as it was.
        let input = try Self.open(source)
        try await clusterOptions.withFileSystem { system in
            let file = try await system.open(
                path, [.read, .write, .create], stripeCount: stripes)
            if !file.wasCreated { try await file.truncate(to: 0) }
            var offset: UInt64 = 0
            while true {
                let data: Data
                do {
                    data = try input.read(upToCount: 1 << 20) ?? Data()
                } catch {
                    throw Failure("\(source): \(Machine.errnoText())")
                }
                if data.isEmpty { break }
                try await file.write([UInt8](data), at: offset)
                offset += UInt64(data.count)
            }
            try await file.flush()
            try await file.close()
        }
    }

    private static func open(_ source: String) throws -> FileHandle {
        if source == "-" { return .standardInput }
        let attributes = try? FileManager.default.attributesOfItem(atPath: source)
        guard attributes?[.type] as? FileAttributeType != .typeDirectory else {
            throw Failure("\(source): is a directory")
        }
        guard let handle = FileHandle(forReadingAtPath: source) else {
            throw Failure("\(source): \(Machine.errnoText())")
        }
        return handle
    }
}
