public import WireFormat

/// An open that a clean record promises to its owner beyond the restart.
public struct OpenReservation: Hashable, Sendable {
    /// The owner's export index. Indices of two runs differ: the caller of `install` translates.
    public var client: UInt32
    public var file: FileID
    public var handle: UInt64
    public var flags: OpenFlags

    public init(client: UInt32, file: FileID, handle: UInt64, flags: OpenFlags) {
        self.client = client
        self.file = file
        self.handle = handle
        self.flags = flags
    }

    private static let format: UInt8 = 1

    /// A format byte and 3 zeros, then 32 bytes each: client (4), flags (4), handle (8),
    /// file (8, 4, 4). Little-endian.
    public static func encode(_ reservations: [OpenReservation]) -> [UInt8] {
        var writer = WireWriter(capacity: 4 + 32 * reservations.count)
        writer.u8(format)
        writer.zeros(3)
        for reservation in reservations {
            writer.u32(reservation.client)
            writer.u32(reservation.flags.rawValue)
            writer.u64(reservation.handle)
            writer.u64(reservation.file.sequence)
            writer.u32(reservation.file.objectNumber)
            writer.u32(reservation.file.version)
        }
        return writer.bytes
    }

    /// Reads what `encode` wrote.
    public static func decode(_ bytes: [UInt8]) throws(WireError) -> [OpenReservation] {
        try RawSpan.over(bytes) { (span: RawSpan) throws(WireError) -> [OpenReservation] in
            var reader = WireReader(span)
            let format = try reader.u8()
            guard format == Self.format else {
                throw .badValue(field: "reservation format", value: UInt64(format))
            }
            try reader.reserved(3)
            var reservations: [OpenReservation] = []
            reservations.reserveCapacity(reader.remaining / 32)
            while reader.remaining > 0 {
                let client = try reader.u32()
                let flags = OpenFlags(rawValue: try reader.u32())
                let handle = try reader.u64()
                let file = FileID(
                    sequence: try reader.u64(), objectNumber: try reader.u32(),
                    version: try reader.u32())
                reservations.append(
                    OpenReservation(client: client, file: file, handle: handle, flags: flags))
            }
            return reservations
        }
    }
}
