import Foundation
import Testing

/// The package's own files, read as text.
enum House {
    static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    static let cores = [
        "Primitives", "WireFormat", "LNDCore", "LNetCore", "PtlRPCCore", "LDLMCore",
        "UpgradeCore", "StorageCore", "MetadataCore", "ObjectCore", "ClientCore", "NodeCore",
    ]

    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// Swift files below a folder, in alphabetical order.
    static func sources(_ folder: String) throws -> [SourceText] {
        let base = root.appending(path: folder)
        let paths = try FileManager.default.subpathsOfDirectory(atPath: base.path)
            .filter { $0.hasSuffix(".swift") }.sorted()
        return try paths.map {
            SourceText(
                path: "\(folder)/\($0)", data: try Data(contentsOf: base.appending(path: $0)))
        }
    }

    /// Targets that Package.swift declares, tests left out.
    static func targets() throws -> Set<String> {
        let manifest = try text("Package.swift")
        var names: Set<String> = []
        for opening in ["room(", ".target(", ".executableTarget("] {
            for part in manifest.components(separatedBy: opening).dropFirst() {
                // The name is the first thing quoted; where none follows at once, it is a helper.
                let start = part.drop { $0 == " " || $0 == "\n" }
                let quoted = start.hasPrefix("name: ") ? start.dropFirst(6) : start
                guard quoted.first == "\"" else { continue }
                names.insert(String(quoted.dropFirst().prefix { $0 != "\"" }))
            }
        }
        return names
    }
}

/// The lines of a house that stand as long as somebody looks.
@Suite struct HouseTests {
    @Test(arguments: House.cores)
    func `a core imports cores, and nothing of the outside world`(_ core: String) throws {
        let sources = try House.sources("Sources/\(core)")
        #expect(!sources.isEmpty)
        for source in sources {
            for (module, number) in source.imports {
                #expect(
                    House.cores.contains(module), "\(source.path):\(number) imports \(module)")
            }
        }
    }

    @Test(arguments: House.cores)
    func `a core reads no clock, logs nothing and draws no unseeded number`(
        _ core: String
    ) throws {
        let forbidden = [
            ("Date(", "a date"), ("ContinuousClock", "a clock"), ("SuspendingClock", "a clock"),
            ("SystemRandomNumberGenerator", "randomness"), ("print(", "output"),
            ("Logger(", "a logger"), ("Task {", "a task"), ("Task{", "a task"),
        ]
        for source in try House.sources("Sources/\(core)") {
            for (text, what) in forbidden {
                for hit in source.hits(text, isWord: true) where !hit.isComment && !hit.isQuoted {
                    Issue.record("\(source.path):\(hit.number) has \(what): \(hit.line)")
                }
            }
            for draw in [".random(", ".randomElement(", ".shuffle(", ".shuffled("] {
                for hit in source.hits(draw) where !hit.isComment && !hit.isQuoted {
                    #expect(
                        hit.line.contains("using:"),
                        "\(source.path):\(hit.number) draws without a generator: \(hit.line)")
                }
            }
        }
    }

    @Test func `what is forbidden would be found`() {
        let source = SourceText(
            path: "x",
            data: Data(
                """
                @testable public import Foundation
                import struct Glibc.stat
                let now = Date() // Date(
                let text = "Date("
                let update = UpDate()
                """.utf8))
        #expect(source.imports.map(\.module) == ["Foundation", "Glibc"])
        let hits = source.hits("Date(", isWord: true).filter { !$0.isComment && !$0.isQuoted }
        #expect(hits.map(\.number) == [3])
    }

    /// What a shell serves operators with may be others' work; data paths and cores are our own.
    @Test func `third parties serve the command line and what answers operators`() throws {
        let third: Set<String> = [
            "ArgumentParser", "Logging", "Yams", "Histogram", "Numerics", "FlyingFox",
        ]
        for source in try House.sources("Sources")
        where !source.path.contains("/NodeRuntime/Control/") {
            for (module, _) in source.imports {
                #expect(!third.contains(module), "\(source.path) imports \(module)")
            }
        }
    }

    @Test func `the picture in the README names exactly the targets of the package`() throws {
        let readme = try House.text("README.md")
        let fences = readme.components(separatedBy: "```")
        let picture = try #require(fences.first { $0.hasPrefix("house\n") })
        var drawn: Set<String> = []
        for line in picture.split(separator: "\n").dropFirst() where !line.hasPrefix("-") {
            // Names stand to the left of what they are about; a storey's own name is indented less.
            let part = line.prefix { $0 != "#" }
            for word in part.split(separator: " ") { drawn.insert(String(word)) }
        }
        drawn.subtract(["Tools", "Shell", "Core", "C"])
        #expect(try drawn == House.targets())
    }

    @Test func `the top level is the one that was agreed`() throws {
        let allowed: Set<String> = [
            "Package.swift", "Sources", "Tests", "CModules", "Tools", "README.md",
        ]
        let found = try FileManager.default.contentsOfDirectory(atPath: House.root.path)
            .filter { !$0.hasPrefix(".") && $0 != "Package.resolved" }
        #expect(Set(found) == allowed)
    }

    @Test func `ci runs the command that the README gives`() throws {
        #expect(try House.text(".ci/run").contains("exec Tools/test"))
        #expect(try House.text("README.md").contains("\nTools/test\n"))
    }

    @Test func `every target has its purpose in one line`() throws {
        let lines = try House.text("Package.swift").split(separator: "\n")
        for (number, line) in lines.enumerated()
        where line.hasPrefix("        room(") || line.hasPrefix("        .target(") {
            let before = lines[number - 1].drop { $0 == " " }
            #expect(before.hasPrefix("//"), "\(line)")
        }
    }
}
