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

    /// Swift files below a folder, each with its lines.
    static func sources(_ folder: String) throws -> [(path: String, lines: [Substring])] {
        let base = root.appending(path: folder)
        let paths = try FileManager.default.subpathsOfDirectory(atPath: base.path)
            .filter { $0.hasSuffix(".swift") }.sorted()
        return try paths.map { path in
            let text = try String(contentsOf: base.appending(path: path), encoding: .utf8)
            return (
                "\(folder)/\(path)", text.split(separator: "\n", omittingEmptySubsequences: false)
            )
        }
    }

    /// Targets that Package.swift declares, tests left out.
    static func targets() throws -> Set<String> {
        let manifest = try text("Package.swift")
        var names: Set<String> = []
        for match in manifest.matches(of: /room\(\s*"([A-Za-z0-9]+)"/) {
            names.insert(String(match.1))
        }
        for match in manifest.matches(of: /\.(target|executableTarget)\(\s*name: "([A-Za-z0-9]+)"/)
        {
            names.insert(String(match.2))
        }
        return names
    }
}

/// The lines of a house that stand as long as somebody looks.
@Suite struct HouseTests {
    @Test(arguments: House.cores)
    func `a core imports cores, and nothing of the outside world`(_ core: String) throws {
        for (path, lines) in try House.sources("Sources/\(core)") {
            for (number, line) in lines.enumerated() {
                guard
                    let match = line.prefixMatch(
                        of:
                            /\s*(@[A-Za-z_()]+\s+)*((public|internal|package|private)\s+)?import\s+([A-Za-z_]+)/
                    )
                else { continue }
                #expect(
                    House.cores.contains(String(match.4)),
                    "\(path):\(number + 1) imports \(match.4)")
            }
        }
    }

    @Test(arguments: House.cores)
    func `a core reads no clock, logs nothing and draws no unseeded number`(
        _ core: String
    ) throws {
        let forbidden: [(Regex<Substring>, String)] = [
            (/\bDate\(/, "a date"), (/\bContinuousClock\b/, "a clock"),
            (/\bSuspendingClock\b/, "a clock"), (/\bSystemRandomNumberGenerator\b/, "randomness"),
            (/\bprint\(/, "output"), (/\bLogger\(/, "a logger"), (/\bTask\s*\{/, "a task"),
        ]
        for (path, lines) in try House.sources("Sources/\(core)") {
            for (number, line) in lines.enumerated() {
                let code = line.prefix { $0 != "\"" }.split(separator: "//").first ?? ""
                if line.drop(while: { $0 == " " }).hasPrefix("//") { continue }
                for (pattern, what) in forbidden {
                    #expect(
                        code.firstMatch(of: pattern) == nil,
                        "\(path):\(number + 1) has \(what): \(line)")
                }
                if code.firstMatch(of: /\.(random|randomElement|shuffled?)\(/) != nil {
                    #expect(
                        code.contains("using:"),
                        "\(path):\(number + 1) draws without a generator: \(line)")
                }
            }
        }
    }

    @Test func `third parties serve the command line alone`() throws {
        let third: Set<String> = ["ArgumentParser", "Logging", "Yams", "Histogram", "Numerics"]
        for (path, lines) in try House.sources("Sources") {
            for line in lines where line.contains("import ") {
                let module = line.split(separator: " ").last.map(String.init) ?? ""
                #expect(!third.contains(module), "\(path) imports \(module)")
            }
        }
    }

    @Test func `the picture in the README names exactly the targets of the package`() throws {
        let readme = try House.text("README.md")
        let fences = readme.components(separatedBy: "```")
        let picture = try #require(fences.first { $0.hasPrefix("house\n") })
        var drawn: Set<String> = []
        for line in picture.split(separator: "\n").dropFirst() {
            // Names stand to the left of two blanks and what they are about.
            let part = line.split(separator: "#").first ?? ""
            for match in part.matches(of: /[A-Za-z][A-Za-z0-9]+/) { drawn.insert(String(match.0)) }
        }
        drawn.subtract(["Tools", "Shell", "Core", "nothing", "below", "touches", "the", "world"])
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
        for (number, line) in lines.enumerated() where line.contains("        room(\"") {
            let before = lines[number - 1].drop { $0 == " " }
            #expect(before.hasPrefix("//"), "\(line)")
        }
    }
}
