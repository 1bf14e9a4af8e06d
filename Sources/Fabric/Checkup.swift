/// What a machine lacks to run nodes well, and what to type to mend it.
public struct Checkup: Sendable, Equatable, Codable {
    public enum Grade: String, Sendable, Codable {
        case good
        /// Something works less well, or not at all that is not needed for TCP.
        case warning
        /// Nodes cannot run.
        case bad
    }

    public struct Finding: Sendable, Equatable, Codable {
        /// `memlock`, `modules`, `namespace`, `port`, `gid`, `firewall`, `open files`.
        public var subject: String
        public var grade: Grade
        /// What is so.
        public var says: String
        /// What to type or do; nil where nothing is to be done.
        public var remedy: String?
    }

    /// What only looking beyond the survey can tell.
    public struct Surroundings: Sendable, Equatable {
        /// Why nobody could listen on LNet's TCP port; nil where one could.
        public var portProblem: String?
        /// What filters packets: nil where that cannot be seen, empty where nothing does.
        public var filters: [String]?

        public init(portProblem: String?, filters: [String]?) {
            self.portProblem = portProblem
            self.filters = filters
        }
    }

    public var findings: [Finding]
    public var worst: Grade {
        if findings.contains(where: { $0.grade == .bad }) { return .bad }
        return findings.contains { $0.grade == .warning } ? .warning : .good
    }

    /// Judges a machine for nodes whose `accept_port` is `port`.
    public init(_ survey: FabricSurvey, port: UInt16, _ surroundings: Surroundings) {
        findings = [
            Self.memory(survey), Self.modules(survey), Self.namespace(survey),
            Self.ports(survey), Self.gids(survey),
            Self.listening(port, surroundings.portProblem),
            Self.firewall(port, surroundings.filters), Self.descriptors(survey),
        ]
    }

    private static func memory(_ survey: FabricSurvey) -> Finding {
        let process = survey.process
        let need = survey.registeredBytes >> 10
        if process.mayLockMemory {
            return Finding(
                subject: "memlock", grade: .good,
                says: "CAP_IPC_LOCK: locked memory is not limited", remedy: nil)
        }
        if process.lockedBytesMax >= survey.registeredBytes {
            return Finding(
                subject: "memlock", grade: .good,
                says: "\(kib(process.lockedBytesMax)) may be locked, \(need) KiB are needed",
                remedy: nil)
        }
        let canRaise = process.lockedBytesHardMax >= survey.registeredBytes
        return Finding(
            subject: "memlock", grade: .warning,
            says: "RLIMIT_MEMLOCK is \(kib(process.lockedBytesMax)), and a node with RDMA "
                + "registers \(need) KiB: it would use TCP",
            remedy: canRaise
                ? "ulimit -l \(need)"
                : "a line `* - memlock unlimited` in /etc/security/limits.d/sluice.conf and a new "
                    + "login, or LimitMEMLOCK=infinity in the service")
    }

    private static func kib(_ bytes: UInt64) -> String {
        bytes == .max ? "any amount" : "\(bytes >> 10) KiB"
    }

    private static func modules(_ survey: FabricSurvey) -> Finding {
        let needed = ["ib_core", "ib_uverbs", "rdma_cm", "rdma_ucm"]
        let absent = needed.filter { survey.modules[$0] ?? .missing == .missing }
        let asleep = needed.filter { survey.modules[$0] == .available }
        if !absent.isEmpty {
            return Finding(
                subject: "modules", grade: .warning,
                says: "kernel \(survey.kernel) lacks \(absent.joined(separator: ", ")): no RDMA",
                remedy: "boot a kernel that has them (Debian: linux-image-amd64, not -cloud), or "
                    + "try RDMA with Tools/rxe-fabric COMMAND")
        }
        if !asleep.isEmpty {
            return Finding(
                subject: "modules", grade: .warning,
                says: "not loaded: \(asleep.joined(separator: ", "))",
                remedy: "modprobe -a \(asleep.joined(separator: " "))")
        }
        if survey.modules["rdma_rxe"] ?? .missing == .missing, survey.ports.isEmpty {
            return Finding(
                subject: "modules", grade: .warning,
                says: "RDMA is there, but no device, and no rdma_rxe to make one",
                remedy: "boot a kernel with rdma_rxe, or add an adapter")
        }
        return Finding(
            subject: "modules", grade: .good, says: "those of RDMA are loaded", remedy: nil)
    }

    private static func namespace(_ survey: FabricSurvey) -> Finding {
        switch survey.isInitialNamespace {
        case true:
            Finding(
                subject: "namespace", grade: .good, says: "the initial network namespace",
                remedy: nil)
        case false:
            Finding(
                subject: "namespace", grade: .warning,
                says: "not the initial network namespace: soft-RoCE works in no other",
                remedy: "run outside the container, or with its network set to the host's")
        default:
            Finding(
                subject: "namespace", grade: .warning,
                says: "/proc/sys is not there: whether this is the initial network namespace is "
                    + "not known", remedy: "mount /proc")
        }
    }

    private static func ports(_ survey: FabricSurvey) -> Finding {
        guard !survey.ports.isEmpty else {
            let interface = survey.addresses.first { address in
                survey.creationProblem(on: address.interface) == nil
            }
            return Finding(
                subject: "port", grade: .warning,
                says: survey.verbsProblem ?? "there is no RDMA device",
                remedy: interface.map {
                    "rdma link add rxe_\($0.interface) type rxe netdev \($0.interface)"
                        + " (a node with a NID on o2ib does it by itself)"
                })
        }
        let down = survey.ports.filter { !$0.isActive }
        guard !down.isEmpty else {
            return Finding(
                subject: "port", grade: .good,
                says: survey.ports.map { "\($0.device) port \($0.number) is ACTIVE" }
                    .joined(separator: ", "), remedy: nil)
        }
        let names = down.map { "port \($0.number) of \($0.device) is \($0.error ?? $0.state)" }
        let interfaces = Set(
            survey.addresses.filter { address in
                down.contains { $0.device == address.device }
            }.map(\.interface)
        ).union(Set(down.flatMap { $0.gids.compactMap(\.interface) })).sorted()
        return Finding(
            subject: "port", grade: .warning, says: names.joined(separator: ", "),
            remedy: interfaces.isEmpty
                ? "look at the cable and the switch, and at `rdma link`"
                : interfaces.map { "ip link set \($0) up" }.joined(separator: "; "))
    }

    private static func gids(_ survey: FabricSurvey) -> Finding {
        let active = survey.ports.filter { $0.isActive && $0.transport == "RoCE" }
        guard !active.isEmpty else {
            return Finding(
                subject: "gid", grade: .good, says: "no active RoCE port that would need one",
                remedy: nil)
        }
        let without = active.filter { port in
            !port.gids.contains { $0.type == "RoCE v2" && $0.address != nil }
        }
        guard let first = without.first else {
            let used = active.map { port in
                let gid = port.gids.first { $0.type == "RoCE v2" && $0.address != nil }
                return "\(port.device) index \(gid?.index ?? 0) \(gid?.address ?? "")"
            }
            return Finding(
                subject: "gid", grade: .good, says: used.joined(separator: ", "), remedy: nil)
        }
        let interface = first.gids.compactMap(\.interface).first ?? "INTERFACE"
        return Finding(
            subject: "gid", grade: .warning,
            says: "\(first.device) has no RoCE v2 GID of an IPv4 address",
            remedy: "ip address add 192.0.2.7/24 dev \(interface)")
    }

    private static func listening(_ port: UInt16, _ problem: String?) -> Finding {
        Finding(
            subject: "accept port", grade: problem == nil ? .good : .bad,
            says: problem ?? "TCP port \(port) can be listened on",
            remedy: problem == nil
                ? nil
                : port < 1024
                    ? "run as root or with CAP_NET_BIND_SERVICE, or choose accept-port 10988"
                    : "choose another accept-port, or stop who listens there: ss -ltnp")
    }

    private static func firewall(_ port: UInt16, _ filters: [String]?) -> Finding {
        guard let filters else {
            return Finding(
                subject: "firewall", grade: .warning,
                says: "whether packets are filtered is not seen from here",
                remedy: "as root: nft list ruleset; let in tcp port \(port), and udp port 4791 "
                    + "for RoCE v2")
        }
        return Finding(
            subject: "firewall", grade: filters.isEmpty ? .good : .warning,
            says: filters.isEmpty
                ? "nothing filters packets" : "rules filter: \(filters.joined(separator: ", "))",
            remedy: filters.isEmpty
                ? nil : "see that they let in tcp port \(port), and udp port 4791 for RoCE v2")
    }

    private static func descriptors(_ survey: FabricSurvey) -> Finding {
        let (soft, hard) = (survey.process.descriptorsMax, survey.process.descriptorsHardMax)
        // A server holds up to three connections of each client and some hundred files.
        let isEnough = hard >= 4096
        return Finding(
            subject: "open files", grade: isEnough ? .good : .warning,
            says: "\(soft) open files, and nodes raise it to \(hard): enough for about "
                + "\(max(0, (Int(clamping: hard) - 256) / 3)) clients of a server",
            remedy: isEnough
                ? nil : "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in the service")
    }
}
