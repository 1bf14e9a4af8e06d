import Primitives
import Testing

@testable import ClientCore

/// The same cache as one cell per byte: slow, and hard to get wrong.
private struct CellCache {
    struct Cell: Equatable {
        var byte: UInt8
        var state: ExtentCache.State
    }

    var cells: [Cell?]

    init(size: Int) { cells = [Cell?](repeating: nil, count: size) }

    mutating func insert(_ bytes: [UInt8], at offset: Int, dirty: Bool) {
        for (index, byte) in bytes.enumerated() {
            if dirty {
                cells[offset + index] = Cell(byte: byte, state: .dirty)
            } else if cells[offset + index] == nil {
                cells[offset + index] = Cell(byte: byte, state: .clean)
            }
        }
    }

    mutating func cut(_ range: Range<Int>) {
        for index in range.clamped(to: cells.indices) { cells[index] = nil }
    }

    mutating func turn(_ from: ExtentCache.State, to: ExtentCache.State?) {
        for index in cells.indices where cells[index]?.state == from {
            if let to { cells[index]?.state = to } else { cells[index] = nil }
        }
    }

    func read(_ range: Range<Int>) -> [UInt8]? {
        let found = cells[range].compactMap { $0?.byte }
        return found.count == range.count ? found : nil
    }

    func count(_ state: ExtentCache.State) -> Int { cells.count { $0?.state == state } }
}

@Suite struct ExtentCacheTests {
    private static let size = 600

    private func check(_ cache: ExtentCache, against model: CellCache) -> Bool {
        var seen = [CellCache.Cell?](repeating: nil, count: Self.size)
        var end: UInt64 = 0
        for run in cache.runs {
            guard !run.bytes.isEmpty, run.offset >= end, run.end <= UInt64(Self.size) else {
                return false
            }
            end = run.end
            for (index, byte) in run.bytes.enumerated() {
                seen[Int(run.offset) + index] = CellCache.Cell(byte: byte, state: run.state)
            }
        }
        return seen == model.cells && cache.dirtyByteCount == model.count(.dirty)
            && cache.byteCount == model.cells.count { $0 != nil }
            && cache.isWriting == (model.count(.writing) > 0)
            && cache.isClean == (model.count(.writing) + model.count(.dirty) == 0)
    }

    @Test(arguments: 0..<40 as Range<UInt64>)
    func `random use agrees with one cell per byte`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var cache = ExtentCache()
        var model = CellCache(size: Self.size)
        for step in 0..<600 {
            let offset = random.below(Self.size)
            let count = random.below(min(Self.size - offset, random.oneIn(5) ? 400 : 24) + 1)
            switch random.below(16) {
            case 0..<4:
                let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                cache.insert(bytes, at: UInt64(offset), dirty: true)
                model.insert(bytes, at: offset, dirty: true)
            case 4..<7:
                let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                cache.insert(bytes, at: UInt64(offset), dirty: false)
                model.insert(bytes, at: offset, dirty: false)
            case 7:
                // Appends, as a program that writes a file from front to back.
                var place = offset
                for _ in 0..<6 where place + 10 < Self.size {
                    let bytes = (0..<random.below(10)).map { _ in UInt8(step & 0xFF) }
                    cache.insert(bytes, at: UInt64(place), dirty: true)
                    model.insert(bytes, at: place, dirty: true)
                    place += bytes.count
                }
            case 8:
                cache.cut(from: UInt64(offset), to: UInt64(offset + count))
                model.cut(offset..<(offset + count))
            case 9 where random.oneIn(3):
                cache.cut(from: UInt64(offset), to: .max)
                model.cut(offset..<Self.size)
            case 10:
                let pieceMax = 1 + random.below(random.oneIn(2) ? 20 : 1_000)
                let pieces = cache.takeDirty(pieceMax: pieceMax)
                expect(pieces, areDirtyIn: model, pieceMax: pieceMax)
                model.turn(.dirty, to: .writing)
            case 11:
                cache.finishWriting()
                model.turn(.writing, to: .clean)
            case 12:
                cache.rewindWriting()
                model.turn(.writing, to: .dirty)
            case 13 where random.oneIn(3):
                cache.dropClean()
                model.turn(.clean, to: nil)
            case 14 where random.oneIn(20):
                cache.removeAll()
                model = CellCache(size: Self.size)
            default:
                let range = offset..<(offset + count)
                #expect(cache.read(offset: UInt64(offset), byteCount: count) == model.read(range))
                var target = [UInt8](repeating: 0xEE, count: count)
                cache.overlay(onto: &target, offset: UInt64(offset))
                #expect(target == model.cells[range].map { $0?.byte ?? 0xEE })
            }
            guard check(cache, against: model) else {
                Issue.record("seed \(seed), step \(step): the cache is not the model")
                return
            }
        }
    }

    private func expect(
        _ pieces: [(offset: UInt64, bytes: [UInt8])], areDirtyIn model: CellCache, pieceMax: Int
    ) {
        var taken = [UInt8?](repeating: nil, count: Self.size)
        var end: UInt64 = 0
        for piece in pieces {
            #expect(piece.offset >= end && !piece.bytes.isEmpty && piece.bytes.count <= pieceMax)
            end = piece.offset + UInt64(piece.bytes.count)
            for (index, byte) in piece.bytes.enumerated() {
                taken[Int(piece.offset) + index] = byte
            }
        }
        #expect(taken == model.cells.map { $0?.state == .dirty ? $0?.byte : nil })
    }

    @Test func `bytes that are being written and change are dirty again, and stay so`() {
        var cache = ExtentCache()
        cache.insert([1, 2, 3, 4], at: 0, dirty: true)
        #expect(cache.takeDirty(pieceMax: 100).count == 1)
        cache.insert([9, 9], at: 1, dirty: true)
        #expect(cache.dirtyByteCount == 2 && cache.isWriting)
        cache.finishWriting()
        #expect(cache.dirtyByteCount == 2 && !cache.isWriting)
        #expect(cache.read(offset: 0, byteCount: 4) == [1, 9, 9, 4])
        let second = cache.takeDirty(pieceMax: 100)
        #expect(second.map(\.offset) == [1] && second.map(\.bytes) == [[9, 9]])
    }

    @Test func `bytes from the server fill gaps and replace nothing`() {
        var cache = ExtentCache()
        cache.insert([7, 7], at: 2, dirty: true)
        cache.insert([8], at: 6, dirty: false)
        cache.insert([UInt8](repeating: 1, count: 10), at: 0, dirty: false)
        #expect(cache.read(offset: 0, byteCount: 10) == [1, 1, 7, 7, 1, 1, 8, 1, 1, 1])
        #expect(cache.dirtyByteCount == 2 && cache.byteCount == 10)
    }

    @Test func `appends join one run up to its bound, then begin another`() {
        var cache = ExtentCache()
        let block = [UInt8](repeating: 5, count: 400_000)
        for index in 0..<3 { cache.insert(block, at: UInt64(index * 400_000), dirty: true) }
        #expect(cache.runs.map(\.bytes.count) == [800_000, 400_000])
        let pieces = cache.takeDirty(pieceMax: 1 << 20)
        #expect(pieces.map(\.bytes.count) == [800_000, 400_000])
        #expect(cache.dirtyByteCount == 0 && cache.byteCount == 1_200_000)
    }

    @Test func `runs that touch are written together, longer ones in pieces`() {
        var cache = ExtentCache()
        cache.insert([2, 2], at: 2, dirty: true)
        cache.insert([1, 1], at: 0, dirty: true)
        #expect(cache.runs.count == 2)
        let together = cache.takeDirty(pieceMax: 4)
        #expect(together.map(\.bytes) == [[1, 1, 2, 2]])
        cache.rewindWriting()
        #expect(cache.dirtyByteCount == 4)
        let apart = cache.takeDirty(pieceMax: 1)
        #expect(apart.map(\.offset) == [0, 1, 2, 3])
    }

    @Test func `nothing inserted and nothing read is nothing`() {
        var cache = ExtentCache()
        cache.insert([], at: 5, dirty: true)
        #expect(cache.runs.isEmpty && cache.isClean)
        #expect(cache.read(offset: 0, byteCount: 0) == [])
        #expect(cache.read(offset: 0, byteCount: 1) == nil)
    }
}
