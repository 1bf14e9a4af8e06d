import Primitives
import TestSupport
import Testing
import WireFormat

@Suite struct NIDTests {
    @Test func `the parts of a NID stand at Lustre's bits`() {
        let nid = NID(address: 0x0A01_0203, type: .o2ib, number: 7)
        #expect(nid.rawValue == 0x0005_0007_0A01_0203)
        #expect(nid.address == 0x0A01_0203 && nid.type == .o2ib && nid.number == 7)
        #expect(nid.network == 0x0005_0007)
        #expect(NID.any.rawValue == .max)
        #expect(NID.loopback.rawValue == 0x0009_0000_0000_0000)
        #expect(NetworkType.tcp.rawValue == 2 && NetworkType.o2ib.rawValue == 5)
        #expect(NetworkType.lo.rawValue == 9)
    }

    @Test func `good texts are read, and printed as an operator writes them`() {
        let good: [(String, UInt64, String)] = [
            ("127.0.1.7@tcp", 0x0002_0000_7F00_0107, "127.0.1.7@tcp"),
            ("127.0.1.7", 0x0002_0000_7F00_0107, "127.0.1.7@tcp"),
            ("10.0.0.1@tcp0", 0x0002_0000_0A00_0001, "10.0.0.1@tcp"),
            ("10.0.0.1@o2ib2", 0x0005_0002_0A00_0001, "10.0.0.1@o2ib2"),
            ("255.255.255.255@tcp65535", 0x0002_FFFF_FFFF_FFFF, "255.255.255.255@tcp65535"),
            ("0.0.0.0@o2ib", 0x0005_0000_0000_0000, "0.0.0.0@o2ib"),
            ("0@lo", 0x0009_0000_0000_0000, "0@lo"),
        ]
        for (text, raw, printed) in good {
            #expect(NID(text)?.rawValue == raw, "\(text)")
            #expect(NID(rawValue: raw).description == printed)
        }
    }

    @Test(arguments: [
        "", "@", "@tcp", "10.0.0.1@", "10.0.0@tcp", "10.0.0.1.2@tcp", "10.0.0.256@tcp",
        "10.0.0.-1@tcp", "10.0.0.+1@tcp", "10.0..1@tcp", "10.0.0.1@tcp@tcp", "10.0.0.1@ib",
        "10.0.0.1@tcp65536", "10.0.0.1@tcp+1", "10.0.0.1@tcp-1", "10.0.0.1@tcp 1", "10.0.0.1 @tcp",
        " 10.0.0.1@tcp", "10.0.0.1@lo", "1@lo", "10.0.0.1@TCP", "10.0.0.0x1@tcp", "<?>",
        "10.0.0.1@tcp1x", "10.0.0.١@tcp",
    ])
    func `bad texts are no NID`(text: String) { #expect(NID(text) == nil) }

    @Test func `what is printed of a random NID reads as the same NID`() {
        var messages = RandomMessages(seed: 4)
        for _ in 0..<500 {
            let nid = messages.nid()
            #expect(NID(nid.description) == nid)
        }
    }

    @Test func `a NID of a network we do not know is printed with its number`() {
        #expect(NID(rawValue: 0x0004_0003_0A00_0001).description == "10.0.0.1@<4:3>")
        #expect(NID.any.description == "<?>")
    }
}
