import ArgumentParser

@main
struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "Upgrade the servers of a running storage cluster under load.",
        discussion: """
            A cluster is one metadata server and some object servers, each a process of its own, \
            reached over TCP by LNet's socklnd protocol. `sluice demo` shows all of it in one \
            command; the others are the parts.
            """,
        version: "0.1.0",
        subcommands: []
    )
}
