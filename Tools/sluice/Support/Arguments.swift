public import ArgumentParser
import ClientCore
import Fabric
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
            "This client's NID, one for each network. Default, for each network of the cluster: "
                + "a random 127.64.0.0/10 address on loopback, else the address from which its "
                + "first server is reached.", valueName: "nid"))
    var nid: [NID] = []

    @OptionGroup var fabricOption: FabricOption

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
        try ClusterClient(file, nids: try clientNIDs(for: file), timeout: .seconds(timeout))
    }

    /// The NIDs under which this process is to be known, one for each network that it uses.
    func clientNIDs(for file: ClusterFile) throws -> [NID] {
        let theirs = file.targets.flatMap(\.nids)
        var candidates = nid
        if candidates.isEmpty {
            for nid in theirs where !candidates.contains(where: { $0.network == nid.network }) {
                candidates.append(try Machine.clientNID(toReach: nid))
            }
        }
        let decision = try fabricOption.decide(candidates)
        // One per network; on the others there is nothing to say.
        if theirs.contains(where: { $0.type == .o2ib }) { Output.note(decision.line) }
        return decision.nids
    }
}

struct JSONOption: ParsableArguments {
    @Flag(name: .long, help: "Print one JSON object on standard output instead of text.")
    var json = false
}
