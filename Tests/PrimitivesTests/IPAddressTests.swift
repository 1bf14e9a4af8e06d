import Primitives
import Testing

@Suite struct `addresses` {
    @Test(
        arguments: [
            ("10.1.2.3", 0, 0xffff_0a01_0203), ("::", 0, 0), ("::1", 0, 1),
            ("2001:db8::7", 0x2001_0db8_0000_0000, 7),
            ("fe80::1:0:0:2", 0xfe80 << 48, 0x1_0000_0000_0002),
            ("1:2:3:4:5:6:7:8", 0x0001_0002_0003_0004, 0x0005_0006_0007_0008),
            ("2001:db8:0:1:1:1:1:1", 0x2001_0db8_0000_0001, 0x0001_0001_0001_0001),
            ("1::", 1 << 48, 0),
        ] as [(String, UInt64, UInt64)])
    func `are read and written`(_ text: String, _ high: UInt64, _ low: UInt64) {
        let address = IPAddress(high: high, low: low)
        #expect(IPAddress(text) == address)
        #expect(address.description == text)
    }

    @Test func `other spellings mean the same`() {
        #expect(IPAddress("2001:DB8:0:0:0:0:0:7") == IPAddress("2001:db8::7"))
        #expect(IPAddress("::ffff:10.1.2.3") == IPAddress(v4: 0x0a01_0203))
        #expect(IPAddress("1:2:3:4:5:6:7::") == IPAddress("1:2:3:4:5:6:7:0"))
        #expect(IPAddress("64:ff9b::192.0.2.33") == IPAddress("64:ff9b::c000:221"))
    }

    @Test(arguments: [
        "", ":", ":::", "1:2", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7:8:9", "10.1.2",
        "10.1.2.256",
        "::10.1.2", "fe80::1%eth0", "1.2.3.4:5", "::1.2.3.4:5", "1:2:3:4:5:6:7:8::", ":1", "1:",
    ])
    func `what is none is refused`(_ text: String) { #expect(IPAddress(text) == nil) }
}
