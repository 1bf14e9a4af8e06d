import Primitives
import Testing

@testable import ClientCore

@Suite struct GrantAccountTests {
    @Test func `without an agreement there is always room`() {
        var account = GrantAccount()
        account.dirtied(1 << 40)
        #expect(account.has(1 << 40))
        account.connected(isOn: true, granted: 100)
        #expect(!account.has(1))
    }

    /// The target's side in three lines: what it has set aside is never below what the client
    /// believes, so that nothing that was dirtied is refused.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `what a client dirties is set aside at its target`(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var account = GrantAccount()
        var atTarget: UInt64 = 5000
        account.connected(isOn: true, granted: atTarget)
        var dirty = 0
        var underWay: [Int] = []
        for _ in 0..<3000 {
            switch random.below(6) {
            case 0, 1:
                let count = 1 + random.below(400)
                if account.has(count) {
                    account.dirtied(count)
                    dirty += count
                }
            case 2:
                let count = random.below(dirty + 1)
                account.dirtied(-count)
                dirty -= count
            case 3 where dirty > 0:
                underWay.append(dirty)
                dirty = 0
            case 4:
                guard let count = underWay.popLast() else { break }
                #expect(UInt64(count) <= atTarget, "seed \(seed)")
                let more = UInt64(random.below(count + 50))
                atTarget = atTarget - UInt64(count) + more
                account.written(count, more: more)
            case 5 where random.oneIn(10):
                account.connected(isOn: true, granted: atTarget)
            default: break
            }
            let outstanding = UInt64(dirty + underWay.reduce(0, +))
            #expect(account.outstanding == outstanding, "seed \(seed)")
            #expect(account.granted <= atTarget && outstanding <= atTarget, "seed \(seed)")
        }
        account.forgotten()
        #expect(account.available == 0 && account.outstanding == 0)
    }
}
