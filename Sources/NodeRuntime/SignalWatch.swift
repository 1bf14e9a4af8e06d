internal import EventLoop
internal import Glibc

/// Signals that end a process, delivered as calls on a thread of their own.
public enum SignalWatch {
    public enum Signal: Sendable {
        /// SIGTERM.
        case terminate
        /// SIGINT, as from a terminal's Ctrl-C.
        case interrupt
    }

    /// Blocks SIGTERM and SIGINT in this thread, and those that it starts later, and ignores SIGPIPE.
    ///
    /// To be called once, from `main`, before any other thread is started: a thread that does not
    /// block a signal is a thread that it may end. `body` is called for every signal, one at a time.
    public static func start(_ body: @escaping @Sendable (Signal) -> Void) throws(RuntimeError) {
        ignorePipe()
        let set = watched
        // SAFETY: the set outlives the call; the old one is not asked for.
        unsafe withUnsafePointer(to: set) { set in
            let status = unsafe pthread_sigmask(SIG_BLOCK, set, nil)
            precondition(status == 0, "blocking two signals cannot fail")
        }
        do {
            // The thread ends with the process: nobody joins it.
            _ = try LoopThread(named: "signals") {
                var set = watched
                while true {
                    var signal: Int32 = 0
                    // SAFETY: both outlive the call.
                    guard unsafe sigwait(&set, &signal) == 0 else { continue }
                    body(signal == SIGTERM ? .terminate : .interrupt)
                }
            }
        } catch {
            throw .system(error)
        }
    }

    /// A write to a connection that the peer ended is an error to handle, not a reason to end.
    public static func ignorePipe() {
        _ = signal(SIGPIPE, SIG_IGN)
    }

    private static var watched: sigset_t {
        var set = sigset_t()
        // SAFETY: the set outlives the calls.
        unsafe sigemptyset(&set)
        unsafe sigaddset(&set, SIGTERM)
        unsafe sigaddset(&set, SIGINT)
        return set
    }
}
