import Primitives
import Testing
import WireFormat

@testable import NodeCore

@Suite struct SpaceLedgerTests {
    @Test func `without a look at the disk room is not limited`() {
        var ledger = SpaceLedger()
        #expect(ledger.fits(1 << 40, of: 3))
        #expect(ledger.connect(3, claim: 0, isSameInstance: false) == SpaceLedger.grantMax)
        #expect(ledger.written(100, by: 3, wantsMore: true) == 100)
    }

    /// Clients that keep to their grants, one that does not, samples now and then, reconnects with
    /// claims that are too high: whatever is admitted fits on the disk, and nobody's grant is refused.
    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func `what is set aside is there, and no more is written than fits`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var ledger = SpaceLedger()
        let total: UInt64 = 64 << 20
        var used: UInt64 = 0
        ledger.sample(total: total, free: total)
        for _ in 0..<4000 {
            let export = UInt32(random.below(5))
            switch random.below(8) {
            case 0:
                ledger.sample(total: total, free: total - used)
            case 1:
                let claim = random.oneIn(3) ? UInt64(random.below(200 << 20)) : 0
                let isSame = random.oneIn(2)
                let granted = ledger.connect(export, claim: claim, isSameInstance: isSame)
                #expect(granted == ledger.granted(to: export))
            case 2 where random.oneIn(6):
                ledger.remove(export)
                #expect(ledger.granted(to: export) == 0)
            case 3:
                // Past its grant.
                let count = random.below(4 << 20)
                if ledger.fits(count, of: export) {
                    used += UInt64(count)
                    _ = ledger.written(count, by: export, wantsMore: false)
                }
            default:
                let count = random.below(Int(min(ledger.granted(to: export), 1 << 20)) + 1)
                #expect(ledger.fits(count, of: export), "seed \(seed): a grant is a promise")
                used += UInt64(count)
                _ = ledger.written(count, by: export, wantsMore: true)
            }
            #expect(used <= total, "seed \(seed)")
            let granted = (0..<5 as Range<UInt32>).reduce(0) { $0 + ledger.granted(to: $1) }
            #expect(ledger.grantedTotal == granted && granted <= total - used, "seed \(seed)")
        }
        #expect(used > total / 2, "seed \(seed): room is of use")
        let status = ledger.status
        #expect(status.blocksAvailable <= status.blocksFree)
        #expect(status.blocksFree * 4096 <= total - used)
    }
}
