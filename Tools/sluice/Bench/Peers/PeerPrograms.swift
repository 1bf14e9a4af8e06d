import Foundation

/// Where the programs of others are, and which are not there.
struct PeerPrograms {
    /// Those that `Tools/bench-peers` built from Tools/peers.
    var directory: String?
    private(set) var missing: [String] = []

    init(directory: String?) { self.directory = directory }

    /// The program's path; nil, and noted, where it is not installed.
    mutating func find(_ program: String, for peer: String) -> String? {
        var folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
            .map(String.init)
        folders += ["/usr/sbin", "/usr/bin"]
        if let directory { folders.insert(directory, at: 0) }
        for folder in folders {
            let path = "\(folder)/\(program)"
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        note("\(peer) is left out: \(program) is not installed; Tools/bench-peers installs it")
        return nil
    }

    mutating func note(_ sentence: String) {
        guard !missing.contains(sentence) else { return }
        missing.append(sentence)
        Output.note(sentence)
    }
}
