import ArgumentParser
import ClientCore
import EventLoop
import Fabric
import Foundation
import Logging
import NodeCore
import NodeRuntime
import Primitives
import Store
import WireFormat

/// `sluice serve`: one server with one target, until SIGTERM.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run one server with one target until SIGTERM.",
        discussion: """
            Prints one line on standard output when clients are served:
              ready target=ost0 nid=127.0.2.1@tcp instance=… protocol=1...2 start=fresh
            with all its NIDs after nid=, separated by commas, and where start is fresh, clean or \
            recovering. A standby prints a line that begins with standby, waits until the one that holds the store lets it go, and then prints ready. \
            The log goes to standard error. SIGTERM stops cleanly: clients prepare, everything is \
            committed; a second SIGTERM ends at once, and the next start recovers.
            """)

    @Argument(help: "mds for a metadata server, oss for an object server.")
    var kind: TargetKind

    @Option(help: ArgumentHelp("The target's name.", valueName: "name"))
    var target: String

    @Option(help: ArgumentHelp("Where its store is; made if missing.", valueName: "dir"))
    var store: String

    @Option(
        name: .customLong("nid"),
        help: ArgumentHelp(
            "A NID to serve on, once for each network: on tcp, or on o2ib (RDMA).",
            valueName: "nid"))
    var nids: [NID]

    @OptionGroup var fabricOption: FabricOption

    @Option(help: ArgumentHelp("The target's index; default as in the cluster file, else 0."))
    var index: UInt32?

    @Option(
        name: .customLong("protocol"),
        help: ArgumentHelp("Protocol versions that this build speaks.", valueName: "range"))
    var protocolRange = ProtocolRange(ProtocolVersion.supported)

    @Flag(help: "Listen at once, but wait for the store.")
    var standby = false

    @Option(
        help: ArgumentHelp(
            "A standby takes the store from a holder that has been silent for this long, after it "
                + "was fenced. Default: never.", valueName: "s"))
    var takeOverAfter: Double?

    @Option(
        help: ArgumentHelp(
            "A shell command that succeeds only when the host $SLUICE_FENCE_HOST (process "
                + "$SLUICE_FENCE_PID, NID $SLUICE_FENCE_NID) can write no more. Without it only a "
                + "process of this host is ended.", valueName: "command"))
    var fence: String?

    @Option(help: ArgumentHelp("The name of this host, for the store. Default: the machine's."))
    var host: String?

    @Option(
        help: ArgumentHelp(
            "The cluster file; a metadata server finds its object servers there. "
                + "Default: the environment variable SLUICE_CLUSTER.", valueName: "file"))
    var cluster: String?

    @Option(
        help: ArgumentHelp(
            "LNet's accept_port. Default: as in the cluster file, else 988.", valueName: "port"))
    var acceptPort: UInt16?

    @Option(
        help: ArgumentHelp(
            "Listen for operators at this path: `sluice net --control`.", valueName: "path"))
    var control: String?

    @Option(
        help: ArgumentHelp(
            "Write what its connections carry to this file, for Wireshark; where the port is not "
                + "988, with its option -d tcp.port==PORT,lnet.", valueName: "file"))
    var pcap: String?

    @Option(help: ArgumentHelp("Commit at least this often.", valueName: "ms"))
    var commitInterval: UInt32 = 100

    @Option(help: ArgumentHelp("Commit when this much is uncommitted.", valueName: "MiB"))
    var uncommittedMax: UInt32 = 8

    @Option(
        help: ArgumentHelp(
            "A recovery waits this long for a client that is silent.", valueName: "s"))
    var recoveryWindow: UInt32 = 30

    @Option(
        help: ArgumentHelp("A recovery lasts no longer than this.", valueName: "s"))
    var recoveryLimit: UInt32 = 90

    @Option(
        help: ArgumentHelp(
            "Evict clients that say nothing for this long while others do; 0 for never.",
            valueName: "s"))
    var silenceMax: UInt32 = 150

    @Option(help: ArgumentHelp("Poll for this long before sleeping.", valueName: "us"))
    var spin: UInt32 = 0

    @Option(
        name: .customLong("cpu"),
        help: ArgumentHelp("Run the event loop on this processor only.", valueName: "n"))
    var processor: UInt16?

    @Option(help: ArgumentHelp("Stripes of new files have this size.", valueName: "bytes"))
    var stripeSize: UInt32 = 1 << 20

    @Flag(help: "Start on an unclean store with a changed protocol range all the same.")
    var force = false

    @Option(help: ArgumentHelp("Do without a feature: upgrade.", valueName: "feature"))
    var without: [FeatureName] = []

    @Option(
        help: ArgumentHelp(
            "Serve metrics for Prometheus at http://ADDR:PORT/metrics; [ADDR]:PORT for IPv6.",
            valueName: "addr:port"))
    var metrics: MetricsAddress?

    @Option(help: "Log lines of this level and above: debug, info, notice, warning or error.")
    var logLevel = LogLevel.info

    @Flag(help: "Keep a row per update, in its transaction, for checks.")
    var audit = false

    @Option(
        name: .customLong("break"),
        help: ArgumentHelp("lose, repeat or corrupt.", visibility: .hidden))
    var fault: FaultName?

    @Option(
        help: ArgumentHelp(
            "Write the stamps of an upgrade to this file when it ends, a line each: what, client, "
                + "ns of CLOCK_MONOTONIC at which the loop's turn began and ended.",
            valueName: "file"))
    var stamps: String?

    @Flag(help: ArgumentHelp("End when standard input ends.", visibility: .hidden))
    var supervised = false

    func validate() throws {
        let networks = Set(nids.map(\.network))
        guard networks.count == nids.count else {
            throw ValidationError("a node has one NID on each network")
        }
        guard uncommittedMax >= 1, recoveryWindow >= 1, recoveryLimit >= recoveryWindow else {
            throw ValidationError(
                "--uncommitted-max and --recovery-window must be above 0, and --recovery-limit at "
                    + "least as long as the window")
        }
        if let takeOverAfter {
            guard standby else { throw ValidationError("--take-over-after is for a --standby") }
            guard takeOverAfter >= 2, takeOverAfter <= 86_400 else {
                throw ValidationError(
                    "--take-over-after must be from 2 to 86400 seconds: a holder says each second "
                        + "that it lives")
            }
        }
        guard stripeSize >= 4096, stripeSize % 4096 == 0 else {
            throw ValidationError("--stripe-size must be a multiple of 4096")
        }
    }

    /// As swift-log names them.
    enum LogLevel: String, ExpressibleByArgument, CaseIterable {
        case debug, info, notice, warning, error

        var level: Logger.Level {
            switch self {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        }
    }

    enum FeatureName: String, ExpressibleByArgument, CaseIterable { case upgrade }

    func run() throws {
        let file = try clusterFile()
        let decision = try fabricOption.decide(nids)
        let options = try options(file, decision)
        let log = makeLog()
        if supervised { Self.endWithInput() }
        let server: ServerProcess
        do {
            server = try ServerProcess(options)
        } catch {
            throw Failure("\(target) cannot start: \(error)")
        }
        try SignalWatch.start { signal in
            log.notice("\(signal == .terminate ? "SIGTERM" : "SIGINT"): stopping")
            server.stop()
        }
        if let metrics {
            try MetricsServer.start(at: metrics, for: server) { log.error("\($0)") }
            log.notice("metrics at http://\(metrics.text)/metrics")
        }
        if standby {
            let names = decision.nids.map(\.description).joined(separator: ",")
            Output.line("standby target=\(target) nid=\(names) protocol=\(protocolRange.text)")
        }
        var router = ControlRouter()
        router.addNetwork(server.network)
        let operators: ControlServer?
        do {
            operators = try control.map { try ControlServer(path: $0, router) }
        } catch {
            throw Failure("\(target) cannot start: \(error)")
        }
        defer { operators?.stop() }
        let exit: ServerExit
        do {
            exit = try server.run()
        } catch {
            throw Failure("\(target) stopped: \(error)")
        }
        log.notice(
            "\(exit.reason), store free after \(Double(exit.handOverNs) / 1e6) ms")
    }

    private func clusterFile() throws -> ClusterFile? {
        let path = cluster ?? ProcessInfo.processInfo.environment["SLUICE_CLUSTER"]
        guard let path, !path.isEmpty else { return nil }
        return try ClusterFile(path: path)
    }

    private func options(
        _ file: ClusterFile?, _ decision: FabricDecision
    ) throws -> ServerProcess.Options {
        let own = decision.nids
        var description: ClusterDescription
        if let file {
            let known = file.targets[try file.index(of: target)]
            guard known.kind == kind else {
                throw Failure("\(target) is an \(known.kind.name) target in \(file.path)")
            }
            if let index, index != known.index {
                throw Failure("\(target) has index \(known.index) in \(file.path), not \(index)")
            }
            if let stranger = nids.first(where: { !known.nids.contains($0) }) {
                let nids = known.nids.map(\.description).joined(separator: ", ")
                throw Failure(
                    "\(stranger) is no NID of \(target) in \(file.path); there are \(nids)")
            }
            description = ClusterDescription(
                targets: file.description.targets, acceptPort: acceptPort ?? file.acceptPort)
            if kind == .mds { description = try description.reached(from: own) }
        } else {
            guard (1...39).contains(target.utf8.count) else {
                throw Failure("a target's name has 1 to 39 bytes")
            }
            description = ClusterDescription(
                targets: [.init(name: target, kind: kind, index: index ?? 0, nids: own)],
                acceptPort: acceptPort ?? ClusterFile.defaultAcceptPort)
        }
        var options: ServerProcess.Options
        do {
            options = try ServerProcess.Options(
                cluster: description, target: target, nid: own[0],
                otherNIDs: Array(own.dropFirst()), storeDirectory: store)
        } catch {
            throw Failure("\(error)")
        }
        options.createsStore = !standby
        options.isStandby = standby
        options.capturePath = pcap
        options.spin = .microseconds(UInt64(spin))
        options.cpu = processor.map(Int.init)
        options.configuration.versions = protocolRange.versions
        if without.contains(.upgrade) { options.configuration.features.remove(.upgrade) }
        options.configuration.commitInterval = .milliseconds(UInt64(commitInterval))
        options.configuration.uncommittedBytesMax = Int(uncommittedMax) << 20
        options.configuration.recoveryWindow = .seconds(UInt64(recoveryWindow))
        options.configuration.recoveryLimit = .seconds(UInt64(recoveryLimit))
        options.configuration.silenceMax = silenceMax == 0 ? nil : .seconds(UInt64(silenceMax))
        options.configuration.stripeSize = stripeSize
        options.configuration.keepsAudit = audit
        options.configuration.isForced = force
        options.configuration.fault = fault?.fault
        let log = makeLog()
        options.claim = StoreClaim(host: host, address: own[0].description)
        options.claim.silenceMaxMs = takeOverAfter.map { UInt64($0 * 1000) }
        if fence != nil || takeOverAfter != nil {
            let fence = Fence(
                command: fence, target: target, store: store, host: options.claim.host, log: log)
            options.claim.fence = { fence($0) }
        }
        options.log = { $0.write(to: log) }
        if let stamps {
            let keeper = StampKeeper(path: stamps)
            options.onUpgradeStamp = { keeper.take($0, at: $1, now: $2) }
        }
        let line = "target=\(target) nid=\(own.map(\.description).joined(separator: ","))"
        let range = protocolRange.text
        options.onServing = { instance, start in
            // Not before: what is refused is one sentence, also of a standby.
            log.notice("\(decision.line)")
            Output.line(
                "ready \(line) instance=\(instance) protocol=\(range) start=\(start.word)")
        }
        return options
    }

    private func makeLog() -> Logger {
        var log = Logger(label: target) { StreamLogHandler.standardError(label: $0) }
        log.logLevel = logLevel.level
        return log
    }

    /// A server that a demo started ends with the demo, however that ends.
    private static func endWithInput() {
        Thread.detachNewThread {
            var byte: UInt8 = 0
            while true {
                let count = unsafe read(STDIN_FILENO, &byte, 1)
                if count == 0 || count < 0 && errno != EINTR { _exit(1) }
            }
        }
    }
}

/// The deliberate faults, as one types them.
enum FaultName: String, ExpressibleByArgument, CaseIterable {
    case lose
    case `repeat`
    case corrupt

    var fault: DeliberateFault {
        switch self {
        case .lose: .lose
        case .repeat: .repeat
        case .corrupt: .corrupt
        }
    }
}

extension ServerStart {
    var word: String {
        switch self {
        case .fresh: "fresh"
        case .clean: "clean"
        case .recovering: "recovering"
        }
    }
}

extension ServerLine {
    /// The sentence, and what it is about as metadata.
    func write(to log: Logger) {
        let level: Logger.Level =
            switch self.level {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        guard level >= log.logLevel else { return }
        var metadata = Logger.Metadata()
        for field in fields where !field.value.isEmpty { metadata[field.name] = "\(field.value)" }
        log.log(level: level, "\(text)", metadata: metadata)
    }
}
