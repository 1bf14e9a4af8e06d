internal import Glibc

/// The fabric of `Tools/rxe-fabric`, as a test finds it.
public enum RDMAFabric {
    /// Whether the fabric's two ends are promised to be there: what needs them then fails, and is
    /// not skipped.
    public static let isPromised: Bool = {
        guard let place = unsafe getenv("SLUICE_RXE") else { return false }
        // SAFETY: the environment is not changed while tests run.
        return ["host", "vm"].contains(unsafe String(cString: place))
    }()
}
