import Foundation
import Glibc

/// What others want of a plan's run, in files beside the plan, and who runs it.
///
/// The targets carry the state: these files only say that a run shall wait or end, and keep a second
/// run of the same plan away.
struct PlanControl {
    enum Wish: String {
        case pause
        case abort
    }

    let path: String

    private var wishPath: String { path + ".control" }
    private var lockPath: String { path + ".lock" }

    var wish: Wish? {
        let text = try? String(contentsOfFile: wishPath, encoding: .utf8)
        return text.flatMap {
            Wish(rawValue: $0.trimmingCharacters(in: .whitespacesAndNewlines))
        }
    }

    /// Says what is wanted; nil takes it back.
    func set(_ wish: Wish?) throws {
        guard let wish else {
            Machine.remove(wishPath)
            return
        }
        do {
            try (wish.rawValue + "\n").write(
                toFile: wishPath, atomically: true, encoding: .utf8)
        } catch {
            throw Failure("\(wishPath) cannot be written: \(error.localizedDescription)")
        }
    }

    /// Somebody runs the plan now.
    var isRunning: Bool {
        // SAFETY: the text lives for the call.
        let descriptor = unsafe open(lockPath, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return true }
        flock(descriptor, LOCK_UN)
        return false
    }

    /// Takes the plan for this process until it ends; the kernel lets go of it however that is.
    func take() throws {
        // SAFETY: the text lives for the call.
        let descriptor = unsafe open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw Failure("\(lockPath) cannot be opened: \(Machine.errnoText())")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw Failure(
                "another sluice upgrade run has \(path): wait for its end, or let it end with "
                    + "sluice upgrade abort \(path)")
        }
        // The descriptor stays open, and the lock with it.
    }
}
