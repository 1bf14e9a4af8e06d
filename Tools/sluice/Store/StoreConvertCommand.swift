import ArgumentParser
import Store

/// `sluice store convert`: the step that makes an upgrade of the store final, or takes it back.
struct StoreConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert",
        abstract: "Change a store's format, forward or back.",
        discussion: """
            A build serves every older format as it finds it, so that the build before can have the \
            store back at any time. Converting ends that, until it is converted back. The store is \
            checked first, and one that is damaged is refused; a crash in between leaves the format \
            as it was. The target must not run.
            """)

    @Argument(help: ArgumentHelp("The store's directory.", valueName: "dir"))
    var directory: String

    @Option(
        help: ArgumentHelp("The format to have. Default: this build's own.", valueName: "format"))
    var to = StoreIdentity.currentFormat

    func validate() throws {
        guard (1...StoreIdentity.currentFormat).contains(to) else {
            throw ValidationError("--to must be from 1 to \(StoreIdentity.currentFormat)")
        }
    }

    func run() throws {
        do {
            let before = try StoreConversion.convert(directory: directory, to: to)
            Output.line(
                before == to
                    ? "\(directory) has format \(to) already"
                    : "\(directory) has format \(to) now; it had \(before)")
        } catch {
            throw Failure(error.description)
        }
    }
}
