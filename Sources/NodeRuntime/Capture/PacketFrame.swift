internal import Primitives
internal import TCPTransport

/// Records of a pcap file: frames of Ethernet as they would have been seen on a wire.
///
/// | layer | what is made up |
/// |---|---|
/// | Ethernet | addresses `02:00` and the four bytes of the IPv4 address |
/// | IPv4 | identification 0, TTL 64 |
/// | TCP | sequence numbers from 0, window 65535 << 14, segments of up to 61,440 bytes |
/// | RoCEv2 (UDP 4791) | queue pair and packet sequence numbers, ICRC 0 |
///
/// Ports, addresses, payload and checksums are as they have to be. A connection begins with the
/// handshake, ends with FIN or RST, and has no segment that only acknowledges.
struct PacketFrame {
    /// RFC 9293, section 3.1.
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let finish = Flags(rawValue: 1)
        static let synchronize = Flags(rawValue: 2)
        static let reset = Flags(rawValue: 4)
        static let push = Flags(rawValue: 8)
        static let acknowledge = Flags(rawValue: 16)
    }

    /// Opcodes of reliable connections (InfiniBand specification, table 38).
    private enum Opcode: UInt8 {
        case sendOnly = 0x04
        case writeFirst = 0x06
        case writeMiddle = 0x07
        case writeLast = 0x08
        case writeOnly = 0x0a
    }

    /// Records that are not written yet.
    var bytes: [UInt8] = []

    static let segmentMax = 61_440
    private static let linkSize = 14
    private static let addressSize = 20
    private static let udpPort: UInt16 = 4791
    /// What a queue pair puts into one packet of an RDMA WRITE.
    private static let packetMax = 4096

    /// The file's header: version 2.4, times in ns, Ethernet. In this machine's byte order, which
    /// readers know by the magic.
    mutating func beginFile() {
        native(0xa1b2_3c4d)
        native(UInt32(2) | UInt32(4) << 16)
        native(0)
        native(0)
        native(262_144)
        native(1)
    }

    // MARK: TCP

    mutating func segment(
        from source: Endpoint, to destination: Endpoint, sequence: UInt32, acknowledged: UInt32,
        _ flags: Flags, _ payload: RawSpan?, at time: UInt64
    ) {
        let isOpening = flags.contains(.synchronize)
        let headerSize = isOpening ? 28 : 20
        let total = headerSize + (payload?.byteCount ?? 0)
        if source.address.isV4 {
            begin(total, at: time)
            network(6, from: source.address.v4, to: destination.address.v4, total)
        } else {
            begin(total + 20, at: time)
            network(6, from: source.address, to: destination.address, total)
        }
        let start = bytes.count
        big(source.port)
        big(destination.port)
        big(sequence)
        big(flags.contains(.acknowledge) ? acknowledged : 0)
        bytes.append(UInt8(headerSize / 4) << 4)
        bytes.append(flags.rawValue)
        big(UInt16.max)
        big(UInt16(0))
        big(UInt16(0))
        if isOpening {
            bytes += [2, 4]
            big(UInt16(Self.segmentMax))
            bytes += [3, 3, 14, 1]  // Window scale, and one NOP.
        }
        if let payload { append(payload) }
        var sum = InternetChecksum()
        for address in [source.address, destination.address] {
            if !address.isV4 { for word in address.words.dropLast() { sum.add(word) } }
            sum.add(address.v4)
        }
        sum.add(UInt32(6) << 16 | UInt32(total))
        sum.add(bytes[start...])
        patch(sum.value, at: start + 16)
    }

    // MARK: RoCEv2

    /// One SEND Only packet.
    mutating func message(
        from source: UInt32, to destination: UInt32, pair: UInt32, sequence: UInt32,
        _ payload: RawSpan, at time: UInt64
    ) {
        let padding = -payload.byteCount & 3
        let total = 8 + 12 + payload.byteCount + padding + 4
        begin(total, at: time)
        transport(.sendOnly, source, destination, total, padding, pair, sequence)
        append(payload)
        for _ in 0..<(padding + 4) { bytes.append(0) }
    }

    /// The packets of an RDMA WRITE, each cut off before its data. Returns how many.
    mutating func write(
        from source: UInt32, to destination: UInt32, pair: UInt32, sequence: UInt32,
        byteCount: Int, address: UInt64, key: UInt32, at time: UInt64
    ) -> Int {
        let count = max(1, (byteCount + Self.packetMax - 1) / Self.packetMax)
        for index in 0..<count {
            let length = min(Self.packetMax, byteCount - index * Self.packetMax)
            let isFirst = index == 0
            let opcode: Opcode =
                if count == 1 {
                    .writeOnly
                } else if isFirst {
                    .writeFirst
                } else {
                    index == count - 1 ? .writeLast : .writeMiddle
                }
            let padding = -length & 3
            let header = 8 + 12 + (isFirst ? 16 : 0)
            let total = header + length + padding + 4
            begin(total, captured: header, at: time)
            transport(
                opcode, source, destination, total, padding, pair, sequence &+ UInt32(index))
            if isFirst {
                big(UInt32(truncatingIfNeeded: address >> 32))
                big(UInt32(truncatingIfNeeded: address))
                big(key)
                big(UInt32(byteCount))
            }
        }
        return count
    }

    /// UDP's header and the base transport header.
    private mutating func transport(
        _ opcode: Opcode, _ source: UInt32, _ destination: UInt32, _ total: Int, _ padding: Int,
        _ pair: UInt32, _ sequence: UInt32
    ) {
        network(17, from: source, to: destination, total)
        big(0xc000 | UInt16(truncatingIfNeeded: pair & 0x3fff))
        big(Self.udpPort)
        big(UInt16(total))
        big(UInt16(0))  // No checksum, as RoCEv2 has it.
        bytes.append(opcode.rawValue)
        bytes.append(UInt8(padding) << 4)
        big(UInt16.max)
        big(pair & 0xff_ffff)
        big(sequence & 0xff_ffff)
    }

    // MARK: Below

    /// A record's header and Ethernet's.
    private mutating func begin(_ total: Int, captured: Int? = nil, at time: UInt64) {
        let frame = Self.linkSize + Self.addressSize
        native(UInt32(truncatingIfNeeded: time / 1_000_000_000))
        native(UInt32(truncatingIfNeeded: time % 1_000_000_000))
        native(UInt32(frame + (captured ?? total)))
        native(UInt32(frame + total))
    }

    /// Ethernet's and IPv4's headers; `total` is what follows them.
    /// Ethernet's and IPv6's header, which is 20 bytes longer than IPv4's.
    private mutating func network(
        _ protocolNumber: UInt8, from source: IPAddress, to destination: IPAddress, _ total: Int
    ) {
        for address in [destination, source] {
            big(UInt16(0x0200))
            big(address.v4)
        }
        big(UInt16(0x86dd))
        big(UInt32(6) << 28)
        big(UInt16(total))
        bytes.append(protocolNumber)
        bytes.append(64)
        for address in [source, destination] {
            for word in address.words { big(word) }
        }
    }

    private mutating func network(
        _ protocolNumber: UInt8, from source: UInt32, to destination: UInt32, _ total: Int
    ) {
        for address in [destination, source] {
            big(UInt16(0x0200))
            big(address)
        }
        big(UInt16(0x0800))
        let start = bytes.count
        big(UInt16(0x4500))
        big(UInt16(Self.addressSize + total))
        big(UInt32(0x4000))  // Don't fragment.
        bytes.append(64)
        bytes.append(protocolNumber)
        big(UInt16(0))
        big(source)
        big(destination)
        var sum = InternetChecksum()
        sum.add(bytes[start...])
        patch(sum.value, at: start + 10)
    }

    private mutating func native(_ value: UInt32) {
        for shift: UInt32 in [0, 8, 16, 24] {
            bytes.append(UInt8(truncatingIfNeeded: value.littleEndian >> shift))
        }
    }

    private mutating func big(_ value: UInt16) {
        bytes.append(UInt8(value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    private mutating func big(_ value: UInt32) {
        big(UInt16(value >> 16))
        big(UInt16(truncatingIfNeeded: value))
    }

    private mutating func patch(_ value: UInt16, at place: Int) {
        bytes[place] = UInt8(value >> 8)
        bytes[place + 1] = UInt8(truncatingIfNeeded: value)
    }

    private mutating func append(_ payload: RawSpan) {
        // SAFETY: the view bounds the bytes for the call.
        unsafe payload.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }
}

/// The checksum of IPv4, TCP and UDP (RFC 1071).
struct InternetChecksum {
    private var sum: UInt64 = 0

    mutating func add(_ value: UInt32) {
        sum &+= UInt64(value >> 16) &+ UInt64(value & 0xffff)
    }

    /// Bytes from an even place on.
    mutating func add(_ bytes: ArraySlice<UInt8>) {
        var sum = sum
        unsafe bytes.withUnsafeBytes { raw in
            var place = 0
            // SAFETY: both loads end within the buffer.
            while place + 4 <= raw.count {
                sum &+= UInt64(
                    unsafe raw.loadUnaligned(fromByteOffset: place, as: UInt32.self).bigEndian)
                place += 4
            }
            if place < raw.count {
                var last: UInt32 = 0
                for offset in 0..<4 {
                    last =
                        last << 8
                        | (place + offset < raw.count ? UInt32(unsafe raw[place + offset]) : 0)
                }
                sum &+= UInt64(last)
            }
        }
        self.sum = sum
    }

    var value: UInt16 {
        var rest = sum
        while rest > 0xffff { rest = rest >> 16 &+ rest & 0xffff }
        return ~UInt16(truncatingIfNeeded: rest)
    }
}

extension IPAddress {
    /// In the order of the wire.
    fileprivate var words: [UInt32] {
        [
            UInt32(truncatingIfNeeded: high >> 32), UInt32(truncatingIfNeeded: high),
            UInt32(truncatingIfNeeded: low >> 32), UInt32(truncatingIfNeeded: low),
        ]
    }
}
