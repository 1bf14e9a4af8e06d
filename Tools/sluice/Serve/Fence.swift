import EventLoop
import Foundation
import Logging
import Primitives
import Store

/// How a standby makes sure that whoever holds the store will write no more.
struct Fence: Sendable {
    /// For `/bin/sh`; nil: processes of this host only, by SIGKILL.
    var command: String?
    var target: String
    var store: String
    var host: String
    var log: Logger

    /// A fence command may take this long.
    static let secondsMax = 30.0

    /// Whether the holder is certain to write no more. Blocks the calling thread.
    func callAsFunction(_ holder: StoreHolder) -> Bool {
        guard let command else {
            guard holder.host == host else {
                log.warning(
                    "\(holder) has the store and is another host: name a fence command with --fence"
                )
                return false
            }
            let isGone = StoreLock.killHolder(directory: store)
            log.warning(
                isGone
                    ? "\(holder) was silent, and has been killed"
                    : "\(holder) was silent, was killed, and does not end")
            return isGone
        }
        log.warning("fencing \(holder)")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command]
        process.environment = ProcessInfo.processInfo.environment.merging([
            "SLUICE_FENCE_HOST": holder.host, "SLUICE_FENCE_PID": "\(holder.process)",
            "SLUICE_FENCE_NID": holder.address, "SLUICE_FENCE_TARGET": target,
        ]) { $1 }
        // Standard output is for the lines that a supervisor waits for.
        process.standardOutput = Foundation.FileHandle.standardError
        process.standardInput = Foundation.FileHandle.nullDevice
        do {
            try process.run()
        } catch {
            log.error("the fence command cannot be started: \(error.localizedDescription)")
            return false
        }
        let limit = ContinuousClock.now + .seconds(Self.secondsMax)
        while process.isRunning {
            if ContinuousClock.now > limit {
                process.terminate()
                log.error("the fence command did not end within \(Int(Self.secondsMax)) s")
                return false
            }
            Thread.sleep(forTimeInterval: 0.005)
        }
        let status = process.terminationStatus
        if status != 0 {
            log.error("the fence command failed (\(status)): the store is not taken from \(holder)")
        }
        return status == 0
    }
}
