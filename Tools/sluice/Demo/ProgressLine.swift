import EventLoop
import Foundation

/// One line on a terminal that is written over and over; nothing where there is no terminal.
final class ProgressLine: Sendable {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let isOpen = Lock(false)

    func show(_ text: String) {
        guard isTerminal else { return }
        isOpen.withLock { $0 = true }
        // To the start of the line, the text, and away with what is left of the last one.
        write("\r" + text.prefix(100) + "\u{1B}[K")
    }

    func end() {
        let wasOpen = isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
}
