import ArgumentParser
import ClientCore
import Store
import WireFormat

/// `sluice upgrade finalize`: the end of the way back.
struct UpgradeFinalizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "finalize",
        abstract: "End the way back: older builds may not have the store any more.",
        discussion: """
            With --target, of a target that serves: a build that does not speak the highest protocol \
            version of the one that serves now is refused the store from then on, forced or not. \
            With --store, of a store that nobody serves: it is converted to the newest format, \
            which a build that does not know it cannot open; --format 1 converts back, as long as \
            the target is not finalised.
            """)

    @Option(help: ArgumentHelp("The target.", valueName: "name"))
    var target: String?

    @Option(help: ArgumentHelp("The store of a target that is not served now.", valueName: "dir"))
    var store: String?

    @Option(help: ArgumentHelp("With --store: the format to convert to.", valueName: "n"))
    var format: UInt32?

    @OptionGroup var clusterOptions: ClusterOptions

    func validate() throws {
        guard (target == nil) != (store == nil) else {
            throw ValidationError("give --target, or --store with the store's directory")
        }
        guard format == nil || store != nil else {
            throw ValidationError("--format goes with --store")
        }
        if let format, !(1...StoreIdentity.currentFormat).contains(format) {
            throw ValidationError("--format must be from 1 to \(StoreIdentity.currentFormat)")
        }
    }

    func run() async throws {
        if let store { return try convert(store) }
        let file = try clusterOptions.load()
        let place = try file.index(of: target!)
        let client = try clusterOptions.client(for: file)
        let orders = TargetOrders(client: client, place: place)
        try await orders.give(UpgradeStart(.finalize))
        let status = try await orders.status()
        await client.close()
        let version = status.details?.finalized ?? status.versions.upperBound
        Output.line("\(target!): finalised; builds below protocol \(version) are refused its store")
    }

    private func convert(_ directory: String) throws {
        let wanted = format ?? StoreIdentity.currentFormat
        do {
            if wanted < StoreIdentity.currentFormat,
                let version = try StoreConversion.finalizedVersion(directory: directory)
            {
                throw Failure(
                    "the target of store \(directory) is finalised at protocol \(version): its "
                        + "store is not converted back")
            }
            let before = try StoreConversion.convert(directory: directory, to: wanted)
            Output.line(
                before == wanted
                    ? "\(directory): has format \(wanted) already"
                    : "\(directory): converted from format \(before) to \(wanted)")
        } catch let error as StoreError {
            throw Failure("\(error)")
        }
    }
}
