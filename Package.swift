// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

/// A target of the house: its one-line purpose stands beside its name in the list below.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func proof(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["TestSupport"], swiftSettings: strict)
}

let package = Package(
    name: "sluice",
    products: [
        .executable(name: "sluice", targets: ["sluice"]),
        .library(name: "SluiceClient", targets: ["SluiceClient"]),
    ],
    traits: [
        .trait(name: "RDMA", description: "Links libibverbs and librdmacm."),
        .default(enabledTraits: ["RDMA"]),
    ],
    dependencies: [
        // Only the command line and the control socket use what others have written.
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
        .package(url: "https://github.com/swhitty/FlyingFox", exact: "0.27.1"),
    ],
    targets: [
        // C: the contract of each is its one header.
        // Sockets, epoll, wake-ups, pinning, RDMA verbs and its connections, flat and free of policy.
        .target(
            name: "CFabric", path: "CModules/CFabric", publicHeadersPath: "include",
            cSettings: [.define("FABRIC_RDMA", .when(traits: ["RDMA"]))],
            linkerSettings: [
                .linkedLibrary("ibverbs", .when(traits: ["RDMA"])),
                .linkedLibrary("rdmacm", .when(traits: ["RDMA"])),
            ]),
        // LMDB behind opaque handles and negative error numbers.
        .target(
            name: "CLMDB", path: "CModules/CLMDB", publicHeadersPath: "include",
            linkerSettings: [.linkedLibrary("lmdb")]),

        // What a thread used, for benchmarks: processor time, switches, allocations.
        .target(name: "CUsage", path: "CModules/CUsage", publicHeadersPath: "include"),

        // Core: values without I/O, clocks, logs or unseeded randomness.
        // Ticks, ids, seeded random, slot tables, queues of actions.
        room("Primitives"),
        // What every byte on the wire means: layouts, byte order, typed messages, versions.
        room("WireFormat", ["Primitives"]),
        // How one transport connection talks: socklnd's acceptor, hello and framing.
        room("LNDCore", ["Primitives", "WireFormat"]),
        // How nodes exchange messages: NIDs, portals, match entries, PUT and GET, credits.
        room("LNetCore", ["Primitives", "WireFormat", "LNDCore"]),
        // How requests survive: imports, exports, XIDs, transnos, resend, replay, versions.
        room("PtlRPCCore", ["Primitives", "WireFormat", "LNetCore"]),
        // Who may touch what: lock resources, modes, conflicts, callbacks, replay.
        room("LDLMCore", ["Primitives", "WireFormat"]),
        // How a target drains, hands over and comes back: announce, gate, receipts, commit notice.
        room("UpgradeCore", ["Primitives", "WireFormat"]),
        // What a service reads and writes: tables, transactions, the overlay over the last commit.
        room("StorageCore", ["Primitives"]),
        // What the metadata server does with names, attributes and opens.
        room("MetadataCore", ["Primitives", "WireFormat", "StorageCore"]),
        // What an object server does with objects and their bytes.
        room("ObjectCore", ["Primitives", "WireFormat", "StorageCore"]),
        // What a client keeps and does: operations, locks, write-back cache, the gate.
        room(
            "ClientCore",
            ["Primitives", "WireFormat", "LNetCore", "PtlRPCCore", "LDLMCore", "UpgradeCore"]),
        // What one node is: the cores of a server or a client, composed.
        room(
            "NodeCore",
            [
                "Primitives", "WireFormat", "LNDCore", "LNetCore", "PtlRPCCore", "LDLMCore",
                "UpgradeCore", "StorageCore", "MetadataCore", "ObjectCore", "ClientCore",
            ]),

        // Shell: threads, sockets, disks, clocks.
        // One thread that polls descriptors, timers and mailboxes.
        room("EventLoop", ["CFabric", "Primitives"]),
        // Many non-blocking TCP connections on one event loop.
        room("TCPTransport", ["CFabric", "EventLoop", "Primitives"]),
        // Reliable RDMA connections, their completions and registered memory on one event loop.
        room("VerbsTransport", ["CFabric", "EventLoop", "Primitives"]),
        // Which ways to send a machine has, which one is taken, and why not the others.
        room("Fabric", ["CFabric", "EventLoop", "VerbsTransport", "Primitives", "WireFormat"]),
        // The disk: LMDB and object files, group commits on a thread of their own.
        room("Store", ["CLMDB", "CFabric", "Primitives", "StorageCore"]),
        // A server or many clients as a running process.
        room(
            "NodeRuntime",
            [
                .product(name: "Yams", package: "Yams"), "CFabric", "EventLoop", "TCPTransport",
                "VerbsTransport", "Store", "NodeCore",
                "Primitives", "WireFormat", "LNDCore", "LNetCore", "StorageCore", "UpgradeCore",
                "ClientCore",
                "PtlRPCCore", "LDLMCore",
            ]),
        // The async Swift API of the file system.
        room(
            "SluiceClient", ["NodeRuntime", "NodeCore", "ClientCore", "WireFormat", "Primitives"]),
        // The same cores in one deterministic process.
        room(
            "Simulator",
            [
                "NodeCore", "Primitives", "WireFormat", "LNDCore", "LNetCore", "StorageCore",
                "ClientCore", "PtlRPCCore", "LDLMCore", "UpgradeCore",
            ]),
        // Generators and checkers that tests share.
        room("TestSupport", ["Primitives", "WireFormat"]),

        // Tools.
        .executableTarget(
            name: "sluice",
            dependencies: [
                "SluiceClient", "NodeRuntime", "ClientCore", "NodeCore", "PtlRPCCore", "LNetCore",
                "EventLoop", "Simulator", "CUsage", "CFabric", "UpgradeCore", "LDLMCore",
                "MetadataCore", "StorageCore", "Fabric",
                "Store", "WireFormat", "Primitives",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Yams", package: "Yams"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "FlyingFox", package: "FlyingFox"),
            ],
            path: "Tools/sluice", swiftSettings: strict),

        // Tests mirror the house.
        proof("PrimitivesTests", ["Primitives"]),
        proof("WireFormatTests", ["WireFormat"]),
        proof("LNDCoreTests", ["LNDCore"]),
        proof("LNetCoreTests", ["LNetCore"]),
        proof("PtlRPCCoreTests", ["PtlRPCCore", "LNetCore"]),
        proof("LDLMCoreTests", ["LDLMCore"]),
        proof("UpgradeCoreTests", ["UpgradeCore"]),
        proof("StorageCoreTests", ["StorageCore", "Store", "CLMDB"]),
        proof("MetadataCoreTests", ["MetadataCore", "StorageCore"]),
        proof("ObjectCoreTests", ["ObjectCore", "StorageCore"]),
        proof("ClientCoreTests", ["ClientCore", "LDLMCore"]),
        proof("VerbsTransportTests", ["VerbsTransport", "EventLoop"]),
        proof("FabricTests", ["Fabric"]),
        // One suite for every transport: in memory, TCP, RDMA.
        proof(
            "TransportTests",
            ["NodeRuntime", "VerbsTransport", "TCPTransport", "EventLoop", "LNetCore", "LNDCore"]),
        proof("TCPTransportTests", ["TCPTransport", "EventLoop"]),
        proof(
            "NodeCoreTests",
            [
                "NodeCore", "Simulator", "ClientCore", "LDLMCore", "LNetCore", "PtlRPCCore",
                "StorageCore",
            ]),
        proof(
            "SimulatorTests",
            [
                "Simulator", "NodeCore", "ClientCore", "LDLMCore", "StorageCore", "LNetCore",
                "WireFormat", "Primitives",
            ]),
        proof(
            "ScenarioTests",
            [
                "Simulator", "NodeCore", "ClientCore", "LDLMCore", "PtlRPCCore", "StorageCore",
                "WireFormat", "Primitives",
            ]),
        proof("HouseTests", []),
        proof(
            "SluiceTests",
            [
                "SluiceClient", "sluice", "VerbsTransport", .product(name: "Yams", package: "Yams"),
            ]),
    ]
)

// Only with the fuzzer's own main, which Tools/fuzz/run brings.
if Context.environment["SLUICE_FUZZ"] != nil {
    package.targets.append(
        // Random bytes for every decoder, and for whole LNet nodes.
        .target(
            name: "Fuzz",
            dependencies: ["Primitives", "WireFormat", "LNDCore", "LNetCore", "TestSupport"],
            path: "Tools/fuzz", exclude: ["corpus.txt", "run"], swiftSettings: strict))
}
