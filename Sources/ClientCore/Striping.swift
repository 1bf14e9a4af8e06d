import WireFormat

/// Where a range of a file lies in the file's objects.
struct StripePiece {
    /// Index into the layout's stripes.
    var stripe: Int
    /// Offset within the object.
    var objectOffset: UInt64
    /// Offset within the file's range that was asked for.
    var rangeOffset: Int
    var byteCount: Int

    /// Within the object.
    var range: Extent { Extent(offset: objectOffset, byteCount: UInt64(byteCount)) }
}

extension FileLayout {
    /// The pieces of `offset ..< offset + byteCount`, in the order of the file.
    ///
    /// RAID 0: stripe unit k lies in object k mod n, at unit k div n of that object.
    func pieces(offset: UInt64, byteCount: Int) -> [StripePiece] {
        guard !stripes.isEmpty, byteCount > 0 else { return [] }
        let size = UInt64(stripeSize)
        let count = UInt64(stripes.count)
        var pieces: [StripePiece] = []
        var done = 0
        while done < byteCount {
            let position = offset + UInt64(done)
            let unit = position / size
            let within = position % size
            let length = min(byteCount - done, Int(size - within))
            let stripe = Int(unit % count)
            let objectOffset = unit / count * size + within
            if let last = pieces.last, last.stripe == stripe,
                last.objectOffset + UInt64(last.byteCount) == objectOffset
            {
                pieces[pieces.count - 1].byteCount += length
            } else {
                pieces.append(
                    StripePiece(
                        stripe: stripe, objectOffset: objectOffset, rangeOffset: done,
                        byteCount: length))
            }
            done += length
        }
        return pieces
    }

    /// Where the bytes of a range of the file lie in the object of `stripe`: side by side. Nil where
    /// none of them does.
    func objectRange(stripe: Int, offset: UInt64, byteCount: Int) -> Extent? {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(max(0, byteCount)))
        let from = objectSize(stripe: stripe, fileSize: offset)
        let upTo = objectSize(stripe: stripe, fileSize: overflow ? .max : end)
        return from < upTo ? Extent(start: from, end: upTo - 1) : nil
    }

    /// Offsets are signed where they meet the system.
    static let fileSizeMax = UInt64(Int64.max)

    /// The file's size when the object of `stripe` ends at `objectSize` and no other reaches further.
    func fileSize(stripe: Int, objectSize: UInt64) -> UInt64 {
        guard objectSize > 0 else { return 0 }
        let size = UInt64(stripeSize)
        let lastByte = objectSize - 1
        // The size is a peer's word: what no file can have reads as the greatest that one can.
        let (units, overflow) = (lastByte / size).multipliedReportingOverflow(
            by: UInt64(stripes.count))
        guard !overflow else { return Self.fileSizeMax }
        let (unit, unitOverflow) = units.addingReportingOverflow(UInt64(stripe))
        let (start, startOverflow) = unit.multipliedReportingOverflow(by: size)
        guard !unitOverflow, !startOverflow, start < Self.fileSizeMax - lastByte % size else {
            return Self.fileSizeMax
        }
        return start + lastByte % size + 1
    }

    /// How long the object of `stripe` is in a file of `fileSize` bytes without holes at its end.
    func objectSize(stripe: Int, fileSize: UInt64) -> UInt64 {
        let size = UInt64(stripeSize)
        let count = UInt64(stripes.count)
        let fullUnits = fileSize / size
        let rest = fileSize % size
        let mine = fullUnits / count + (UInt64(stripe) < fullUnits % count ? 1 : 0)
        return mine * size + (fullUnits % count == UInt64(stripe) ? rest : 0)
    }
}
