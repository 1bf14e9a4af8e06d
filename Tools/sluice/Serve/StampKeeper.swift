import EventLoop
import Foundation
import Primitives
import UpgradeCore

/// Keeps the stamps of an upgrade on the target's side and writes them when it ends: writing them
/// as they come would be in the way of what they measure.
final class StampKeeper: Sendable {
    private let path: String
    private let text = Lock("")

    init(path: String) { self.path = path }

    func take(_ event: UpgradeEvent, at: Ticks, now: Ticks) {
        let name: String
        var client = "-"
        switch event {
        case .accepted: name = "accepted"
        case .noticesQueued: name = "queued"
        case .receipt(let index):
            name = "receipt"
            client = "\(index)"
        case .leftBehind(let index):
            name = "left-behind"
            client = "\(index)"
        case .allPrepared: name = "prepared"
        case .backlogCommitted: name = "backlog"
        case .sealed: name = "sealed"
        case .held: name = "held"
        case .committed: name = "committed"
        case .stopped: name = "stopped"
        case .aborted: name = "aborted"
        case .serving: name = "serving"
        }
        let isLast = name == "stopped" || name == "serving"
        let path = path
        text.withLock { text in
            text += "\(name) \(client) \(at.nanoseconds) \(now.nanoseconds)\n"
            guard isLast else { return }
            do {
                try Data(text.utf8).write(to: URL(filePath: path), options: .atomic)
            } catch {
                Output.note("\(path) cannot be written: \(error.localizedDescription)")
            }
            text = ""
        }
    }
}
