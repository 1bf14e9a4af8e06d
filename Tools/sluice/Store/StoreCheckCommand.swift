import ArgumentParser
import Store

/// `sluice store check`: reads everything and names what is wrong.
struct StoreCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Read a store from end to end and name everything that is wrong with it.",
        discussion: """
            The target must not run; nothing is changed. Every page of the database is walked, every \
            row compared with its checksum, every object file with its record and, unless --quick, \
            every block of it with its checksum. (Format 1 has no checksums: of it only the \
            structure, lengths and missing files are found.)

            Exit status: 0 when all is sound; 2 when the store is damaged, with a line on standard \
            output for each thing that is; 1 when it cannot be looked at: it is in use, there is \
            none, it is of a newer format, or the arguments are wrong.

            What a server does about each of these when it starts:
              torn or missing page, damaged root   refuses: put the store back from a backup
              row that does not match              starts; the row reads as an I/O error, others not
              object block that does not match     the same, for reads of that block
              object file missing or cut           the same, for reads of what is missing
              row read at the start is damaged     refuses
              newer format or unknown feature      refuses: start the newer build
              older format                         serves it as it is; `sluice store convert` ends that
              clean-up that a crash interrupted    repairs: does it before anybody is served
              object file that no record names     leaves it: it only costs space
            """)

    @Argument(help: ArgumentHelp("The store's directory.", valueName: "dir"))
    var directory: String

    @Flag(help: "Do not read the bytes of objects.")
    var quick = false

    @OptionGroup var output: JSONOption

    private struct Report: Encodable {
        var isSound: Bool
        var findings: [String]
        /// None where the store cannot be read at all.
        var summary: StoreSummary?
    }

    func run() throws {
        var findings: [String] = []
        var count = 0
        let summary: StoreSummary?
        do {
            summary = try StoreCheck.run(directory: directory, readsObjects: !quick) { line in
                count += 1
                if output.json {
                    // Bounded: a store may be damaged in a million places.
                    if findings.count < 10_000 { findings.append(line) }
                } else {
                    Output.line("damaged: \(line)")
                }
            }
        } catch {
            guard error.isDamage else { throw Failure(error.description) }
            if output.json { findings.append(error.description) }
            if !output.json { Output.line("damaged: \(error.description)") }
            count += 1
            summary = nil
        }
        if output.json {
            try Output.json(Report(isSound: count == 0, findings: findings, summary: summary))
        } else {
            if let summary { Output.line(summary.text) }
            Output.line(
                count == 0
                    ? "sound: nothing is wrong"
                    : "damaged: \(count) \(count == 1 ? "finding" : "findings")")
        }
        if count > 0 { throw ExitCode(2) }
    }
}

extension StoreError {
    /// Something in the store is not what it must be, as against a store that cannot be looked at.
    fileprivate var isDamage: Bool {
        switch self {
        case .corrupt, .metadataMissing, .objectsMissing: true
        case .inUse, .heldElsewhere, .noStore, .wrongTarget, .newerFormat, .unknownFeatures,
            .denied, .full,
            .system:
            false
        }
    }
}

extension StoreSummary {
    fileprivate var text: String {
        var lines = [
            "store      \(directory)",
            "target     \(target) (\(kind)), format \(format), features 0x"
                + String(features, radix: 16),
            "state      " + (isClean ? "stopped cleanly" : "the next start recovers")
                + ", \(commits) commits"
                + (pendingCleanups > 0 ? ", \(pendingCleanups) clean-ups to do" : ""),
            "pages      \(pagesInUse) of \(pages) in use, \(pageBytes) bytes each",
            "objects    \(objects), \(objectBytes) bytes"
                + (strayFiles > 0 ? ", \(strayFiles) files that no record names" : ""), "",
        ]
        var table = TextTable("table", "rows", "bytes")
        for entry in tables { table.add(entry.name, "\(entry.rows)", "\(entry.bytes)") }
        lines.append(table.text)
        return lines.joined(separator: "\n")
    }
}
