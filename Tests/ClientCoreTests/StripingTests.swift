import Primitives
import Testing
import WireFormat

@testable import ClientCore

@Suite struct StripingTests {
    private func layout(stripeSize: UInt32, count: Int) -> FileLayout {
        FileLayout(
            stripeSize: stripeSize,
            stripes: (0..<count).map {
                FileLayout.Stripe(
                    targetIndex: UInt32($0), object: ObjectName(targetIndex: 0, number: 1))
            })
    }

    /// Where one byte of a file lies, counted by hand.
    private func place(_ position: UInt64, _ layout: FileLayout) -> (stripe: Int, offset: UInt64) {
        let size = UInt64(layout.stripeSize)
        let round = size * UInt64(layout.stripes.count)
        let inRound = position % round
        return (Int(inRound / size), position / round * size + inRound % size)
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func `what a range of a file covers in an object is one range, that of its pieces`(
        seed: UInt64
    ) {
        var random = SplitMix64(seed: seed)
        let layout = layout(
            stripeSize: UInt32(1 + random.below(40)), count: 1 + random.below(5))
        for _ in 0..<30 {
            let offset = UInt64(random.below(1_000))
            let byteCount = random.below(300)
            let pieces = layout.pieces(offset: offset, byteCount: byteCount)
            for stripe in layout.stripes.indices {
                let mine = pieces.filter { $0.stripe == stripe }
                let range = layout.objectRange(
                    stripe: stripe, offset: offset, byteCount: byteCount)
                #expect(range?.start == mine.first?.range.start)
                #expect(range?.end == mine.last?.range.end)
            }
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func `pieces are what counting byte by byte gives`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let layout = layout(
            stripeSize: UInt32(1 + random.below(40)), count: 1 + random.below(5))
        for _ in 0..<30 {
            let offset = UInt64(random.below(1_000))
            let byteCount = 1 + random.below(300)
            let pieces = layout.pieces(offset: offset, byteCount: byteCount)
            var done = 0
            for (index, piece) in pieces.enumerated() {
                #expect(piece.rangeOffset == done && piece.byteCount > 0)
                for byte in 0..<piece.byteCount {
                    let expected = place(offset + UInt64(done + byte), layout)
                    guard expected.stripe == piece.stripe,
                        expected.offset == piece.objectOffset + UInt64(byte)
                    else {
                        Issue.record("seed \(seed): byte \(done + byte) lies elsewhere")
                        return
                    }
                }
                if index > 0, pieces[index - 1].stripe == piece.stripe {
                    #expect(
                        pieces[index - 1].objectOffset + UInt64(pieces[index - 1].byteCount)
                            != piece.objectOffset, "pieces that touch are one")
                }
                done += piece.byteCount
            }
            #expect(done == byteCount)
        }
    }

    @Test func `one stripe is one piece, however long`() {
        let pieces = layout(stripeSize: 10, count: 1).pieces(offset: 5, byteCount: 1_000)
        #expect(pieces.count == 1 && pieces[0].objectOffset == 5 && pieces[0].byteCount == 1_000)
    }

    @Test func `no bytes, and no stripes, are no pieces`() {
        #expect(layout(stripeSize: 10, count: 2).pieces(offset: 3, byteCount: 0).isEmpty)
        #expect(FileLayout.none.pieces(offset: 0, byteCount: 5).isEmpty)
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func `sizes of objects and of the file follow from each other`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let layout = layout(
            stripeSize: UInt32(1 + random.below(20)), count: 1 + random.below(5))
        for size in (0..<200 as Range<UInt64>) {
            var counted = [UInt64](repeating: 0, count: layout.stripes.count)
            for position in 0..<size {
                let place = place(position, layout)
                counted[place.stripe] = max(counted[place.stripe], place.offset + 1)
            }
            var greatest: UInt64 = 0
            for stripe in layout.stripes.indices {
                let objectSize = layout.objectSize(stripe: stripe, fileSize: size)
                #expect(objectSize == counted[stripe])
                let fileSize = layout.fileSize(stripe: stripe, objectSize: objectSize)
                #expect(fileSize <= size)
                greatest = max(greatest, fileSize)
                // The last byte of an object lies where its file size says.
                if fileSize > 0 {
                    let last = place(fileSize - 1, layout)
                    #expect(last.stripe == stripe && last.offset == objectSize - 1)
                }
            }
            #expect(greatest == size, "the furthest object tells the file's size")
        }
    }

    @Test func `a size that no file can have reads as the greatest that one can`() {
        let wide = layout(stripeSize: 1 << 20, count: 64)
        let greatest = UInt64(Int64.max)
        #expect(wide.fileSize(stripe: 63, objectSize: .max) == greatest)
        #expect(wide.fileSize(stripe: 0, objectSize: 1 << 58) == greatest)
        #expect(wide.fileSize(stripe: 0, objectSize: 1 << 56) < greatest)
        let narrow = layout(stripeSize: .max, count: 1)
        #expect(narrow.fileSize(stripe: 0, objectSize: .max) == greatest)
        #expect(narrow.fileSize(stripe: 0, objectSize: greatest) == greatest)
        #expect(narrow.fileSize(stripe: 0, objectSize: greatest - 1) == greatest - 1)
        #expect(layout(stripeSize: 1, count: 1).fileSize(stripe: 0, objectSize: 7) == 7)
    }
}
