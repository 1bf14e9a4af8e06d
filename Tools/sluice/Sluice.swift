import ArgumentParser
import Dispatch
import Foundation

@main
enum Program {
    /// A server runs on the main thread, from which every other thread inherits its blocked
    /// signals; the other commands are tasks.
    static func main() {
        do {
            var command = try Sluice.parseAsRoot()
            guard let task = command as? any AsyncParsableCommand else {
                try command.run()
                Foundation.exit(0)
            }
            run(task)
        } catch {
            Sluice.exit(withError: error)
        }
    }

    private static func run(_ command: sending any AsyncParsableCommand) -> Never {
        Task {
            var command = command
            do {
                try await command.run()
                Foundation.exit(0)
            } catch {
                Sluice.exit(withError: error)
            }
        }
        dispatchMain()
    }
}

struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "Upgrade the servers of a running storage cluster under load.",
        discussion: """
            A cluster is one metadata server and some object servers, each a process of its own, \
            reached over TCP or RDMA by LNet's socklnd and o2iblnd protocols. `sluice demo` shows all of it in one \
            command; the others are the parts.

            The cluster file that most commands need names every target and where it is found:

              accept-port: 10988
              targets:
                - {name: mdt0, kind: mds, index: 0, nids: [127.0.1.1@tcp, 127.0.1.2@tcp]}
                - {name: ost0, kind: oss, index: 0, nids: [127.0.2.1@tcp, 127.0.2.2@tcp]}
            """,
        version: "sluice 0.1.0",
        subcommands: [
            ServeCommand.self, FileSystemCommand.self, UpgradeCommand.self,
            MaintenanceCommand.self, NetCommand.self, TargetCommand.self, ClientCommand.self,
            StoreCommand.self, BenchCommand.self, ReportCommand.self, DemoCommand.self,
            StressCommand.self, SimulateCommand.self, FabricCommand.self, DoctorCommand.self,
        ])
}
