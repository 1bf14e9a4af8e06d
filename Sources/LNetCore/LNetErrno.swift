/// Error numbers in events, as Linux numbers them; positive.
public enum LNetErrno {
    public static let noEntry: Int32 = 2
    public static let busy: Int32 = 16
    public static let exists: Int32 = 17
    public static let invalid: Int32 = 22
    public static let protocolError: Int32 = 71
    public static let messageTooLong: Int32 = 90
    public static let connectionReset: Int32 = 104
    public static let noBufferSpace: Int32 = 105
    public static let timedOut: Int32 = 110
    public static let connectionRefused: Int32 = 111
    public static let hostUnreachable: Int32 = 113
    public static let stale: Int32 = 116
}
