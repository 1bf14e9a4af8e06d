import ArgumentParser
import Fabric
import Foundation
import Glibc

/// `sluice doctor`: what this machine lacks, and what to type to mend it.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check this machine, and say what to type to mend it.",
        discussion: """
            Looks at locked memory, kernel modules, network namespace, RDMA ports and GIDs, LNet's \
            port, packet filters and open files. Nothing is changed. Exit status 1 where a node \
            cannot run at all; what is missing for RDMA alone is a warning, for TCP does without.
            """)

    @Option(help: ArgumentHelp("LNet's accept_port.", valueName: "port"))
    var acceptPort: UInt16 = ClusterFile.defaultAcceptPort

    @OptionGroup var output: JSONOption

    func validate() throws {
        guard acceptPort >= 2 else { throw ValidationError("--accept-port must be above 1") }
    }

    private struct Report: Encodable {
        var verdict: Checkup.Grade
        var findings: [Checkup.Finding]
    }

    func run() throws {
        let checkup = Checkup(
            FabricSurvey.take(), port: acceptPort,
            Checkup.Surroundings(
                portProblem: Self.portProblem(acceptPort), filters: Self.filters()))
        if output.json {
            try Output.json(Report(verdict: checkup.worst, findings: checkup.findings))
        } else {
            let width = checkup.findings.map(\.subject.count).max() ?? 0
            for finding in checkup.findings {
                let mark =
                    switch finding.grade {
                    case .good: "ok  "
                    case .warning: "warn"
                    case .bad: "BAD "
                    }
                let name = finding.subject.padding(
                    toLength: width, withPad: " ", startingAt: 0)
                Output.line("\(mark)  \(name)  \(finding.says)")
                if let remedy = finding.remedy {
                    Output.line(String(repeating: " ", count: width + 8) + "-> \(remedy)")
                }
            }
        }
        guard checkup.worst != .bad else { throw ExitCode.failure }
    }

    /// Why nobody could listen there now.
    private static func portProblem(_ port: UInt16) -> String? {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { return "no socket to be had: \(Machine.errnoText())" }
        defer { close(socket) }
        var yes: Int32 = 1
        // SAFETY: the option is an Int32 that outlives the call.
        unsafe setsockopt(
            socket, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        // SAFETY: the struct is an IPv4 socket address of the size that is passed.
        let bound = unsafe withUnsafePointer(to: &name) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard bound == 0, listen(socket, 1) == 0 else {
            return "TCP port \(port) cannot be listened on: \(Machine.errnoText())"
        }
        return nil
    }

    /// Names of what filters packets; nil where that cannot be seen.
    private static func filters() -> [String]? {
        let modules = (try? String(contentsOfFile: "/proc/modules", encoding: .utf8)) ?? ""
        let hasNFT =
            modules.contains("nf_tables ")
            || FileManager.default.fileExists(atPath: "/sys/module/nf_tables")
        let tables = try? String(contentsOfFile: "/proc/net/ip_tables_names", encoding: .utf8)
        var found = (tables ?? "").split(separator: "\n").map { "iptables table \($0)" }
        guard hasNFT else {
            return tables == nil && geteuid() != 0 && !modules.isEmpty ? nil : found
        }
        guard geteuid() == 0, let rules = output(of: ["nft", "list", "ruleset"]) else {
            return found.isEmpty ? nil : found
        }
        var table = ""
        for line in rules.split(separator: "\n") {
            if line.hasPrefix("table ") { table = String(line.dropLast(2)) }
            if line.contains("hook input") { found.append("nftables \(table), hook input") }
        }
        return found
    }

    private static func output(of command: [String]) -> String? {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = command
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return nil }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return nil }
        return String(decoding: data, as: UTF8.self)
    }
}
