import Testing
import WireFormat

@testable import Fabric

/// Machines that nobody has: one soft-RoCE device, and whatever else a test changes.
private enum Machines {
    static let process = FabricSurvey.Process(
        lockedBytesMax: .max, lockedBytesHardMax: .max, descriptorsMax: 1024,
        descriptorsHardMax: 1 << 20, mayAdministerNetwork: true, mayLockMemory: true,
        mayBindPrivilegedPorts: true)

    static let limits = FabricSurvey.Limits(
        mtuActiveBytes: 4096, mtuMaxBytes: 4096, messageBytesMax: 8 << 20, queuePairsMax: 1000,
        memoryRegionsMax: 1000, sharedReceivesMax: 1000)

    static func address(
        _ text: String, on interface: String, device: String? = nil, isUp: Bool = true
    ) -> FabricSurvey.Address {
        FabricSurvey.Address(
            address: text, interface: interface, isUp: isUp, isLoopback: interface == "lo",
            mtuBytes: 1500, device: device)
    }

    static func port(
        _ device: String, address: String, isActive: Bool = true,
        driver: FabricSurvey.Driver = .rxe
    ) -> FabricSurvey.Port {
        FabricSurvey.Port(
            device: device, number: 1, driver: driver, transport: "RoCE", linkLayer: "Ethernet",
            state: isActive ? "ACTIVE" : "DOWN", isActive: isActive, limits: limits,
            gids: [
                .init(
                    index: 0, type: "RoCE v2", value: "fe80::1", interface: "eth0", address: nil),
                .init(
                    index: 1, type: "RoCE v2", value: "::ffff:\(address)", interface: "eth0",
                    address: address),
            ], error: nil)
    }

    static func survey(
        ports: [FabricSurvey.Port], addresses: [FabricSurvey.Address],
        modules: [String: FabricSurvey.Module] = ["rdma_rxe": .loaded],
        isInitial: Bool? = true, process: FabricSurvey.Process = Machines.process
    ) -> FabricSurvey {
        FabricSurvey(
            kernel: "6.1.0-test", verbsProblem: ports.isEmpty ? "there is no RDMA device" : nil,
            ports: ports, addresses: addresses, modules: modules, isInitialNamespace: isInitial,
            process: process, registeredBytes: 38 << 20)
    }

    /// eth0 with rxe0, and the loopback interface.
    static func withDevice(isActive: Bool = true) -> FabricSurvey {
        survey(
            ports: [port("rxe0", address: "192.0.2.7", isActive: isActive)],
            addresses: [
                address("127.0.0.1", on: "lo"),
                address("192.0.2.7", on: "eth0", device: "rxe0"),
            ])
    }

    /// eth0 without a device.
    static func bare(
        _ modules: [String: FabricSurvey.Module] = ["rdma_rxe": .loaded], isInitial: Bool? = true,
        process: FabricSurvey.Process = Machines.process
    ) -> FabricSurvey {
        survey(
            ports: [],
            addresses: [address("127.0.0.1", on: "lo"), address("192.0.2.7", on: "eth0")],
            modules: modules, isInitial: isInitial, process: process)
    }
}

private let rdma = NID("192.0.2.7@o2ib")!
private let tcp = NID("192.0.2.7@tcp")!

@Suite struct DecisionTests {
    private func decide(
        _ wish: FabricWish, _ nids: [NID], _ survey: FabricSurvey,
        make: (String) -> String? = { _ in "the test makes none" }
    ) -> Result<FabricDecision, FabricRefusal> {
        do {
            return .success(try FabricDecision.make(wish, nids: nids, survey: survey, make: make))
        } catch {
            return .failure(error)
        }
    }

    @Test func `auto takes RDMA before TCP, and both where both are named`() throws {
        let decision = try decide(.auto, [tcp, rdma], Machines.withDevice()).get()
        #expect(decision.nids == [rdma, tcp])
        #expect(
            decision.line
                == "fabric auto: verbs for 192.0.2.7@o2ib (rxe0, soft-RoCE); tcp for 192.0.2.7@tcp")
    }

    @Test func `auto goes on over TCP and says why not RDMA`() throws {
        let decision = try decide(.auto, [rdma, tcp], Machines.withDevice(isActive: false)).get()
        #expect(decision.nids == [tcp])
        #expect(
            decision.line
                == "fabric auto: tcp for 192.0.2.7@tcp; not verbs for 192.0.2.7@o2ib: port 1 of "
                + "rxe0 is DOWN, not ACTIVE")
    }

    @Test func `a node that is only on RDMA fails with the reason`() {
        for wish in [FabricWish.auto, .verbs] {
            guard case .failure(let refusal) = decide(wish, [rdma], Machines.bare([:])) else {
                Issue.record("\(wish) had something")
                continue
            }
            #expect(
                refusal.description.contains(
                    "module rdma_rxe is not among those of kernel 6.1.0-test"), "\(refusal)")
        }
    }

    @Test func `verbs leaves TCP out, tcp leaves RDMA out, and each insists`() throws {
        let survey = Machines.withDevice()
        #expect(try decide(.verbs, [tcp, rdma], survey).get().nids == [rdma])
        #expect(try decide(.tcp, [tcp, rdma], survey).get().nids == [tcp])
        #expect(throws: FabricRefusal.self) { try decide(.verbs, [tcp], survey).get() }
        #expect(throws: FabricRefusal.self) { try decide(.tcp, [rdma], survey).get() }
    }

    @Test func `a soft-RoCE device is made where one can be, and only then`() throws {
        var made: [String] = []
        let decision = try decide(.auto, [rdma], Machines.bare()) {
            made.append($0)
            return nil
        }.get()
        #expect(made == ["eth0"])
        #expect(decision.nids == [rdma])
        made = []
        _ = decide(.tcp, [tcp], Machines.bare()) {
            made.append($0)
            return nil
        }
        _ = decide(.auto, [tcp], Machines.bare()) {
            made.append($0)
            return nil
        }
        #expect(made.isEmpty)
    }

    @Test func `what keeps a device from being made is said`() throws {
        var process = Machines.process
        process.mayAdministerNetwork = false
        let cases: [(FabricSurvey, String)] = [
            (Machines.bare(["rdma_rxe": .missing]), "rdma_rxe is not among"),
            (Machines.bare(isInitial: false), "not the initial network namespace"),
            (Machines.bare(process: process), "that needs CAP_NET_ADMIN"),
        ]
        for (survey, reason) in cases {
            guard case .unusable(let why) = survey.verdict(on: rdma.address) else {
                Issue.record("\(reason): was usable")
                continue
            }
            #expect(why.contains(reason), "\(why)")
        }
        let failed = try decide(.auto, [rdma, tcp], Machines.bare()).get()
        #expect(failed.line.contains("soft-RoCE on eth0 was not made: the test makes none"))
    }

    @Test func `too little memory that may be locked is a reason, but not with CAP_IPC_LOCK`() {
        var survey = Machines.withDevice()
        survey.process.lockedBytesMax = 64 << 10
        #expect(survey.verdict(on: rdma.address) == .usable(device: "rxe0", .rxe))
        survey.process.mayLockMemory = false
        guard case .unusable(let why) = survey.verdict(on: rdma.address) else {
            Issue.record("usable")
            return
        }
        #expect(why.hasPrefix("RLIMIT_MEMLOCK is 64 KiB, and a node with RDMA registers 38912 KiB"))
    }

    @Test func `a port without the address's GID is not used`() {
        var survey = Machines.withDevice()
        survey.ports[0].gids.removeLast()
        #expect(
            survey.verdict(on: rdma.address)
                == .unusable("rxe0 has no RoCE v2 GID of 192.0.2.7"))
    }

    @Test func `loopback and foreign addresses have no RDMA`() {
        let survey = Machines.withDevice()
        #expect(
            survey.verdict(on: NID("127.0.0.1@o2ib")!.address)
                == .unusable("127.0.0.1 is a loopback address, which no RDMA device has"))
        #expect(
            survey.verdict(on: NID("127.9.9.9@o2ib")!.address)
                == .unusable("127.9.9.9 is a loopback address, which no RDMA device has"))
        #expect(
            survey.verdict(on: NID("203.0.113.1@o2ib")!.address)
                == .unusable("203.0.113.1 is no address of this machine"))
    }
}

@Suite struct WaysTests {
    @Test func `every way is listed, the best first, with its reason`() {
        var survey = Machines.withDevice()
        survey.ports.append(
            Machines.port("mlx5_0", address: "198.51.100.1", isActive: false, driver: .hardware))
        let ways = survey.ways
        #expect(
            ways.map(\.name) == [
                "mlx5_0 port 1", "rxe0 port 1", "soft-RoCE on eth0", "soft iWARP", "tcp on lo",
                "tcp on eth0",
            ])
        #expect(ways.map(\.isUsed) == [false, true, false, false, true, true])
        #expect(ways[0].reason == "port 1 of mlx5_0 is DOWN, not ACTIVE")
        #expect(ways[1].nids == ["192.0.2.7@o2ib"])
        #expect(ways[2].reason == "eth0 has an RDMA device")
        #expect(ways.allSatisfy { !$0.reason.isEmpty })
    }

    @Test func `this machine can be looked at, whatever it has`() {
        let survey = FabricSurvey.take()
        #expect(!survey.ways.isEmpty)
        #expect(survey.ways.allSatisfy { !$0.reason.isEmpty && !$0.name.isEmpty })
        #expect(survey.addresses.contains { $0.address == "127.0.0.1" })
        #expect(survey.ports.isEmpty == (survey.verbsProblem != nil))
    }
}

@Suite struct CheckupTests {
    private func finding(_ subject: String, in checkup: Checkup) throws -> Checkup.Finding {
        try #require(checkup.findings.first { $0.subject == subject })
    }

    @Test func `a machine with everything is good`() {
        var survey = Machines.withDevice()
        for name in ["ib_core", "ib_uverbs", "rdma_cm", "rdma_ucm"] {
            survey.modules[name] = .loaded
        }
        let checkup = Checkup(survey, port: 988, .init(portProblem: nil, filters: []))
        #expect(checkup.worst == .good)
        #expect(checkup.findings.allSatisfy { $0.remedy == nil })
    }

    @Test func `what is missing comes with what to type`() throws {
        var survey = Machines.bare(["rdma_rxe": .available])
        for name in ["ib_core", "ib_uverbs", "rdma_cm", "rdma_ucm"] {
            survey.modules[name] = .available
        }
        survey.process.mayLockMemory = false
        survey.process.lockedBytesMax = 64 << 10
        survey.process.descriptorsHardMax = 1024
        let checkup = Checkup(
            survey, port: 988,
            .init(
                portProblem: "TCP port 988 cannot be listened on: Permission denied", filters: nil))
        #expect(checkup.worst == .bad)
        #expect(try finding("memlock", in: checkup).remedy == "ulimit -l 38912")
        #expect(
            try finding("modules", in: checkup).remedy
                == "modprobe -a ib_core ib_uverbs rdma_cm rdma_ucm")
        #expect(try finding("accept port", in: checkup).remedy?.contains("10988") == true)
        #expect(try finding("open files", in: checkup).remedy?.contains("ulimit -Hn") == true)
        #expect(try finding("firewall", in: checkup).remedy?.contains("udp port 4791") == true)
        for finding in checkup.findings where finding.grade != .good {
            #expect(finding.remedy != nil || finding.subject == "port", "\(finding.subject)")
        }
    }

    @Test func `a port that is down and a missing GID name the interface to mend`() throws {
        let down = Checkup(
            Machines.withDevice(isActive: false), port: 988, .init(portProblem: nil, filters: []))
        #expect(try finding("port", in: down).remedy == "ip link set eth0 up")
        var survey = Machines.withDevice()
        survey.ports[0].gids.removeLast()
        let checkup = Checkup(survey, port: 988, .init(portProblem: nil, filters: []))
        #expect(try finding("gid", in: checkup).remedy == "ip address add 192.0.2.7/24 dev eth0")
    }
}
