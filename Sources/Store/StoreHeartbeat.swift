internal import Glibc

/// Writes once a second that its store is held, on a thread of its own, until it is let go of.
///
/// It only tells: that a heart does not beat is a reason to fence, and no proof that nobody writes.
final class StoreHeartbeat: @unchecked Sendable {
    // Guarded by `monitor`.
    private let monitor = Monitor()
    private var holder: StoreHolder
    private var isOver = false
    /// Another wrote its name over this holder's.
    private var isLost = false
    // Immutable after init, used by whoever holds the monitor.
    private let file: File
    private let onLost: (@Sendable (StoreHolder) -> Void)?

    /// Microseconds from one look at the clock to the next: how long letting go may have to wait.
    private static let step: UInt32 = 20_000
    private static let stepsPerBeat = 50

    /// Writes the first beat, synced, and starts the thread.
    init(
        _ holder: StoreHolder, file: File, onLost: (@Sendable (StoreHolder) -> Void)?
    ) throws(FileError) {
        self.holder = holder
        self.file = file
        self.onLost = onLost
        try Self.write(holder, file)
        try file.syncData()
        var thread = pthread_t()
        // SAFETY: the thread consumes the reference that is retained for it here.
        let context = unsafe Unmanaged.passRetained(self)
        let result = unsafe pthread_create(
            &thread, nil,
            { raw in
                guard let raw = unsafe raw else { return nil }
                unsafe Unmanaged<StoreHeartbeat>.fromOpaque(raw).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            unsafe context.release()
            throw FileError(code: -result, call: "the start of the heartbeat")
        }
        pthread_detach(thread)
    }

    private static func write(_ holder: StoreHolder, _ file: File) throws(FileError) {
        let bytes = holder.encoded
        try file.write(bytes, start: 0, count: bytes.count, offset: 0)
    }

    private func run() {
        var steps = 0
        while true {
            usleep(Self.step)
            steps += 1
            let taker: StoreHolder? = monitor.locked {
                if isOver { return nil }
                guard steps % Self.stepsPerBeat == 0 else { return nil }
                return beat()
            }
            if let taker { onLost?(taker) }
            if monitor.locked({ isOver || isLost }) { return }
        }
    }

    /// Who took the store meanwhile, if anybody did. Only with the monitor.
    private func beat() -> StoreHolder? {
        if let taker = taker() {
            isLost = true
            return taker
        }
        holder.beat += 1
        // A disk that takes no beat takes no commit either, which says so.
        try? Self.write(holder, file)
        return nil
    }

    private func taker() -> StoreHolder? {
        guard let bytes = try? file.read(offset: 0, count: StoreHolder.encodedSize),
            let found = StoreHolder(bytes)
        else { return nil }
        return found.term == holder.term && found.host == holder.host ? nil : found
    }

    /// Another host that took the store meanwhile, as the disk says now; nil while it is this
    /// holder's. One read of 256 bytes; from any thread.
    var otherHolder: StoreHolder? { monitor.locked { isOver ? nil : taker() } }

    /// Says that the store is let go of, where it is still this holder's; the thread ends.
    func end() {
        monitor.locked {
            guard !isOver else { return }
            isOver = true
            guard !isLost, taker() == nil else { return }
            holder.isReleased = true
            // Not synced, for the next holder waits: where it is lost, a host has to be fenced that is gone.
            try? Self.write(holder, file)
        }
        file.close()
    }
}
