/// Why a message failed, as far as health is concerned: `LNET_MSG_STATUS_*`.
@frozen
public enum LNetStatus: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    case localInterrupt = 1
    case localDropped = 2
    case localAborted = 3
    case localNoRoute = 4
    case localError = 5
    case localTimeout = 6
    case remoteError = 7
    case remoteDropped = 8
    case remoteTimeout = 9
    case networkTimeout = 10

    /// What a connection's errno says.
    init(errno: Int32) {
        switch errno {
        // EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, EACCES
        case 99, 100, 101, 13: self = .localDropped
        case LNetErrno.timedOut: self = .networkTimeout
        case LNetErrno.noBufferSpace: self = .localAborted
        default: self = .remoteDropped
        }
    }

    /// Whether the message may be sent again on another way.
    public var isResendable: Bool {
        switch self {
        case .localInterrupt, .localDropped, .localAborted, .localNoRoute, .localTimeout,
            .remoteDropped:
            true
        case .localError, .remoteError, .remoteTimeout, .networkTimeout: false
        }
    }

    var lowersLocal: Bool { rawValue <= 6 || self == .networkTimeout }
    var lowersRemote: Bool { rawValue >= 7 }

    /// As lnetctl spells it: `local_interrupt`.
    public var name: String {
        switch self {
        case .localInterrupt: "local_interrupt"
        case .localDropped: "local_dropped"
        case .localAborted: "local_aborted"
        case .localNoRoute: "local_no_route"
        case .localError: "local_error"
        case .localTimeout: "local_timeout"
        case .remoteError: "remote_error"
        case .remoteDropped: "remote_dropped"
        case .remoteTimeout: "remote_timeout"
        case .networkTimeout: "network_timeout"
        }
    }

    /// What is told to whom the message belonged to.
    var errno: Int32 {
        switch self {
        case .localInterrupt, .localDropped, .localAborted: LNetErrno.noBufferSpace
        case .localNoRoute: LNetErrno.hostUnreachable
        case .localError, .remoteError: 5
        case .localTimeout, .remoteTimeout, .networkTimeout: LNetErrno.timedOut
        case .remoteDropped: LNetErrno.connectionReset
        }
    }
}
