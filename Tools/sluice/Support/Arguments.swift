public import ArgumentParser
import ClientCore
import Foundation
public import WireFormat

extension NID: ExpressibleByArgument {
    /// `127.0.1.7@tcp`; without `@` the network is tcp.
    public init?(argument: String) { self.init(argument) }
}

extension TargetKind: ExpressibleByArgument {
    public init?(argument: String) {
        switch argument {
        case "mds": self = .mds
        case "oss": self = .oss
        default: return nil
        }
    }

    public static var allValueStrings: [String] { ["mds", "oss"] }

    var name: String { self == .mds ? "mds" : "oss" }
}

/// A closed range of protocol versions as one types it: `1...2`, or `2` for `2...2`.
struct ProtocolRange: ExpressibleByArgument, Equatable {
    var versions: ClosedRange<ProtocolVersion>

    init(_ versions: ClosedRange<ProtocolVersion>) { self.versions = versions }

    init?(argument: String) {
        let ends = argument.split(separator: "...", omittingEmptySubsequences: false)
        guard ends.count == 1 || ends.count == 2, let low = UInt16(ends[0]),
            let high = UInt16(ends[ends.count - 1]), low <= high
        else { return nil }
        let range = ProtocolVersion(rawValue: low)...ProtocolVersion(rawValue: high)
        guard ProtocolVersion.supported.contains(range.lowerBound),
            ProtocolVersion.supported.contains(range.upperBound)
        else { return nil }
        versions = range
    }

    var defaultValueDescription: String { text }
    var text: String { "\(versions.lowerBound.rawValue)...\(versions.upperBound.rawValue)" }
}

/// How every command finds the cluster.
struct ClusterOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The cluster file (YAML). Default: the environment variable SLUICE_CLUSTER.",
            valueName: "file"))
    var cluster: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "This client's NID. Default: a random 127.64.0.0/10 address for a cluster on loopback, "
                + "else the address from which the first server is reached.", valueName: "nid"))
    var nid: NID?

    @Option(help: ArgumentHelp("Wait this long for a server that does not answer.", valueName: "s"))
    var timeout = 20.0

    func validate() throws {
        guard timeout > 0, timeout <= 86_400 else {
            throw ValidationError("--timeout must be above 0 and at most 86400 seconds")
        }
    }

    func load() throws -> ClusterFile {
        let path = cluster ?? ProcessInfo.processInfo.environment["SLUICE_CLUSTER"]
        guard let path, !path.isEmpty else {
            throw Failure("no cluster file: give --cluster FILE or set SLUICE_CLUSTER")
        }
        return try ClusterFile(path: path)
    }

    /// A client for requests past the file system.
    func client(for file: ClusterFile) throws -> ClusterClient {
        try ClusterClient(file, nid: try clientNID(for: file), timeout: .seconds(timeout))
    }

    /// The NID under which this process is to be known.
    func clientNID(for file: ClusterFile) throws -> NID {
        try nid ?? Machine.clientNID(toReach: file.targets[0].nids[0])
    }
}

struct JSONOption: ParsableArguments {
    @Flag(name: .long, help: "Print one JSON object on standard output instead of text.")
    var json = false
}
