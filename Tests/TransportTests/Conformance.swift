import Foundation
import LNetCore
import Primitives
import Testing
import WireFormat

/// What every transport does, whatever it is made of.
enum Conformance: String, CaseIterable, CustomTestStringConvertible, Sendable {
    case putOfEverySize, getOfEverySize, getIntoBuffers, putIntoBuffers, tooLong
    case registeredMemory, unmatched, thousandsBothWays, creditExhaustion, connectRace
    case brokenConnections, deathInEveryPhaseOfAPut, deathInEveryPhaseOfAGet
    case memoryExhaustion, ping

    var testDescription: String { rawValue }

    /// All, or those that SLUICE_CONFORMANCE names, separated by commas.
    static let chosen: [Conformance] = {
        guard let names = ProcessInfo.processInfo.environment["SLUICE_CONFORMANCE"] else {
            return allCases
        }
        return names.split(separator: ",").compactMap { Conformance(rawValue: String($0)) }
    }()

    /// Around every limit: nothing, inline, IMMEDIATE, pages, socket buffers, the longest message.
    static let sizes = [
        0, 1, 63, 64, 65, 295, 296, 297, 511, 512, 927, 928, 929, 1023, 1024, 3959, 3960, 3975,
        3976, 3977, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 262_143,
        262_145, 1_048_575, 1_048_576,
    ]

    /// A bed of the transport; what it is told differs from check to check.
    typealias MakeBed = (_ memoryBytes: Int, @escaping (inout LNetConfiguration) -> Void) throws
        -> any Bed

    func run(_ make: MakeBed) throws {
        switch self {
        case .putOfEverySize: try putOfEverySize(try make(16 << 20) { _ in })
        case .getOfEverySize: try getOfEverySize(try make(16 << 20) { _ in })
        case .getIntoBuffers: try getIntoBuffers(try make(16 << 20) { _ in })
        case .putIntoBuffers: try putIntoBuffers(try make(16 << 20) { _ in })
        case .tooLong: try tooLong(try make(16 << 20) { _ in })
        case .registeredMemory: try registeredMemory(try make(16 << 20) { _ in })
        case .unmatched: try unmatched(try make(16 << 20) { _ in })
        case .thousandsBothWays: try thousandsBothWays(try make(16 << 20) { _ in })
        case .creditExhaustion: try creditExhaustion(try make(16 << 20) { $0.peerCredits = 1 })
        case .connectRace: try connectRace(try make(16 << 20) { _ in })
        case .brokenConnections: try brokenConnections(try make(16 << 20) { _ in })
        case .deathInEveryPhaseOfAPut: try death(try make(16 << 20) { _ in }, ofGet: false)
        case .deathInEveryPhaseOfAGet: try death(try make(16 << 20) { _ in }, ofGet: true)
        case .memoryExhaustion: try memoryExhaustion(try make(4 << 20) { $0.peerCredits = 64 })
        case .ping: try ping(try make(16 << 20) { _ in })
        }
    }

    private func putOfEverySize(_ bed: any Bed) throws {
        let free = bed.freeMemory
        bed.listen(1)
        for (index, size) in Self.sizes.enumerated() {
            bed.put(from: 0, UInt64(index), pattern(size, UInt64(index)), ack: UInt64(index))
        }
        let count = Self.sizes.count
        try bed.expect(
            bed.count(0) { if case .ack = $0 { true } else { false } } == count
                && bed.count(1) { if case .put = $0 { true } else { false } } == count,
            "every PUT arrives and is acknowledged")
        for event in bed.events[1] {
            guard case .put(4, let bits, let bytes, _, let rlength) = event else { continue }
            let size = Self.sizes[Int(bits)]
            #expect(rlength == size)
            #expect(same(bytes, pattern(size, bits)), "size \(size)")
        }
        for event in bed.events[0] {
            if case .ack(let cookie, let mlength) = event {
                #expect(mlength == Self.sizes[Int(cookie)])
            }
        }
        try bed.expectQuiet(free: free)
    }

    private func getOfEverySize(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let source = pattern(1 << 20, 9)
        bed.with(1) { lnet, _ in
            _ = lnet.attach(
                portal: 5, matchBits: 7,
                MemoryDescriptor(
                    memory: .buffer(source), options: [.get, .manageRemote, .truncate]),
                cookie: 70)
        }
        let target = bed.nids[1]
        bed.with(0) { lnet, now in
            for (index, size) in Self.sizes.enumerated() {
                // From different places, so that a mistake in the offset shows.
                let offset = min((1 << 20) - size, index * 31)
                lnet.get(
                    from: target, portal: 5, matchBits: 7, offset: UInt32(offset), length: size,
                    cookie: UInt64(index), now: now)
            }
        }
        let count = Self.sizes.count
        try bed.expect(
            bed.count(0) { if case .reply = $0 { true } else { false } } == count,
            "every GET is answered")
        for event in bed.events[0] {
            guard case .reply(let cookie, let length, let bytes) = event else { continue }
            let size = Self.sizes[Int(cookie)]
            let offset = min((1 << 20) - size, Int(cookie) * 31)
            #expect(length == size)
            #expect(same(bytes, Array(source[offset..<(offset + size)])), "size \(size)")
        }
        #expect(bed.count(1) { if case .get(70, _) = $0 { true } else { false } } == count)
        try bed.expectQuiet(free: free)
    }

    private func getIntoBuffers(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let source = pattern(100_000, 3)
        bed.with(1) { lnet, _ in
            _ = lnet.attach(
                portal: 5, matchBits: 7,
                MemoryDescriptor(
                    memory: .buffer(source), options: [.get, .manageRemote, .truncate]),
                cookie: 70)
        }
        let target = bed.nids[1]
        for size in [10, 3976, 3977, 100_000, 200_000] {
            bed.events[0].removeAll()
            let handle = bed.with(0) { lnet, now in
                lnet.get(
                    from: target, portal: 5, matchBits: 7, length: size,
                    into: .buffer([UInt8](repeating: 0xAA, count: size)), cookie: 1, now: now)
            }
            // A shorter answer than asked for: the rest of the sink stays as it is.
            let length = min(size, source.count)
            try bed.expect(
                bed.events[0].contains {
                    if case .reply(1, length, _) = $0 { true } else { false }
                },
                "a GET of \(size) is answered")
            let taken = bed.with(0) { lnet, _ in lnet.takeBuffer(handle!) }
            #expect(taken?.prefix(length).elementsEqual(source.prefix(length)) == true)
            #expect(taken?.dropFirst(length).allSatisfy { $0 == 0xAA } == true)
        }
        try bed.expectQuiet(free: free)
    }

    private func putIntoBuffers(_ bed: any Bed) throws {
        let free = bed.freeMemory
        for size in [100, 5000, 70_000] {
            let entry = bed.with(1) { lnet, _ in
                lnet.attach(
                    portal: 6, matchBits: 8,
                    MemoryDescriptor(
                        memory: .buffer([UInt8](repeating: 0, count: 2 * size)),
                        options: [.put, .truncate]),
                    cookie: 80)
            }
            // Two fit and a half: the third is clipped, the fourth takes no byte at all.
            for index in 0..<4 {
                bed.events[0].removeAll()
                bed.put(
                    from: 0, 8, pattern(index == 1 ? size / 2 : size, UInt64(index)), ack: 5,
                    portal: 6)
                try bed.expect(
                    bed.count(0) { if case .ack = $0 { true } else { false } } == 1, "PUT \(index)")
            }
            #expect(bed.events[0].contains(.ack(5, 0)))
            let bytes = bed.with(1) { lnet, _ in lnet.takeBuffer(entry) }
            let expected =
                pattern(size, 0) + pattern(size / 2, 1)
                + pattern(size, 2).prefix(2 * size - size - size / 2)
            #expect(same(bytes ?? [], expected), "size \(size)")
        }
        try bed.expectQuiet(free: free)
    }

    private func tooLong(_ bed: any Bed) throws {
        bed.listen(1)
        bed.put(from: 0, 1, [UInt8](repeating: 0, count: (1 << 20) + 1), ack: 3)
        try bed.expect(bed.events[0].contains(.failed(3, 90)), "a PUT beyond 1 MiB fails at once")
        #expect(bed.events[1].isEmpty)
    }

    private func registeredMemory(_ bed: any Bed) throws {
        guard bed.isRDMA else { return }
        let free = bed.freeMemory
        let source = try #require(bed.reserve(0, 300_000))
        let sink = try #require(bed.reserve(1, 300_000))
        let bytes = pattern(300_000, 5)
        bed.fill(0, source, bytes)
        bed.with(1) { lnet, _ in
            _ = lnet.attach(
                portal: 7, matchBits: 1,
                MemoryDescriptor(
                    memory: .registered(sink), options: [.put, .get, .manageRemote]),
                cookie: 90)
        }
        let target = bed.nids[1]
        bed.with(0) { lnet, now in
            let peer = lnet.peer(for: target)
            lnet.put(
                to: peer, portal: 7, matchBits: 1, offset: 1000, registered: source,
                range: 2000..<202_000, ackCookie: 1, now: now)
            // A small one goes as a message, to the same memory.
            lnet.put(
                to: peer, portal: 7, matchBits: 1, offset: 250_000, payload: [1, 2, 3],
                ackCookie: 2, now: now)
        }
        try bed.expect(
            bed.events[0].contains(.ack(1, 200_000)) && bed.events[0].contains(.ack(2, 3)),
            "PUTs from and into registered memory")
        let landed = bed.read(1, sink, 300_000)
        #expect(same(Array(landed[1000..<201_000]), Array(bytes[2000..<202_000])))
        #expect(Array(landed[250_000..<250_003]) == [1, 2, 3])

        let back = try #require(bed.reserve(0, 200_000))
        bed.with(0) { lnet, now in
            lnet.get(
                from: target, portal: 7, matchBits: 1, offset: 1000, length: 200_000,
                into: .registered(back), cookie: 4, now: now)
            lnet.get(
                from: target, portal: 7, matchBits: 1, offset: 250_000, length: 3, cookie: 5,
                now: now)
        }
        try bed.expect(
            bed.events[0].contains { if case .reply(4, 200_000, _) = $0 { true } else { false } }
                && bed.events[0].contains(.reply(5, 3, [1, 2, 3])),
            "GETs from registered memory")
        #expect(same(bed.read(0, back, 200_000), Array(bytes[2000..<202_000])))
        bed.release(0, back)
        bed.release(0, source)
        bed.release(1, sink)
        try bed.expectQuiet(free: free)
    }

    private func unmatched(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let target = bed.nids[1]
        // To where nothing is attached: dropped, and later messages arrive.
        bed.put(from: 0, 1, pattern(10, 1))
        bed.put(from: 0, 1, pattern(50_000, 1))
        if bed.isRDMA {
            bed.with(0) { lnet, now in
                _ = lnet.get(
                    from: target, portal: 9, matchBits: 1, length: 50_000, cookie: 6, now: now)
            }
            try bed.expect(bed.events[0].contains(.failed(6, 61)), "a bulk GET of nothing fails")
        }
        bed.listen(1, portal: 11)
        bed.put(from: 0, 2, [9], ack: 8, portal: 11)
        try bed.expect(bed.events[0].contains(.ack(8, 1)), "later messages arrive")
        try bed.expect(
            bed.with(1) { lnet, _ in lnet.counters[.noMatch] } >= 2, "drops are counted")
        try bed.expectQuiet(free: free)
    }

    private func thousandsBothWays(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let count = 2000
        for node in 0..<2 { bed.listen(node) }
        for node in 0..<2 {
            var random = SplitMix64(seed: UInt64(node) + 11)
            for index in 0..<count {
                let size = random.oneIn(50) ? random.below(30_000) : random.below(600)
                bed.put(
                    from: node, UInt64(index), pattern(size, UInt64(index)), ack: UInt64(index))
            }
        }
        for node in 0..<2 {
            try bed.expect(
                bed.count(node) { if case .ack = $0 { true } else { false } } == count,
                "node \(node) has all its acknowledgements")
            var seen: Set<UInt64> = []
            for event in bed.events[node] {
                guard case .put(_, let bits, let bytes, _, _) = event else { continue }
                #expect(seen.insert(bits).inserted, "message \(bits) came once")
                if bytes.count < 100 { #expect(bytes == pattern(bytes.count, bits)) }
            }
            #expect(seen.count == count)
        }
        try bed.expectQuiet(free: free)
    }

    private func creditExhaustion(_ bed: any Bed) throws {
        let free = bed.freeMemory
        bed.listen(1)
        for index in 0..<300 {
            bed.put(
                from: 0, UInt64(index), pattern(index % 10 == 0 ? 9000 : 20, 1),
                ack: UInt64(index))
        }
        try bed.expect(
            bed.count(0) { if case .ack = $0 { true } else { false } } == 300,
            "one credit is enough to go on with")
        try bed.expectQuiet(free: free)
    }

    private func connectRace(_ bed: any Bed) throws {
        for node in 0..<2 { bed.listen(node) }
        for node in 0..<2 { bed.put(from: node, 1, [UInt8(node)], ack: 1) }
        // The loser's first message may fail with its attempt; the second goes.
        for node in 0..<2 {
            try bed.expect(
                bed.events[node].contains(.ack(1, 1))
                    || bed.count(node) { if case .failed = $0 { true } else { false } } > 0,
                "node \(node) hears of its first message")
            if !bed.events[node].contains(.ack(1, 1)) {
                bed.put(from: node, 2, [7], ack: 2)
                try bed.expect(bed.events[node].contains(.ack(2, 1)), "node \(node) gets through")
            }
        }
        try bed.expectNoStrays()
    }

    private func brokenConnections(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let count: UInt64 = 120
        bed.listen(1)
        var random = SplitMix64(seed: 5)
        var left = Set(0..<count)
        var breaks = 0
        for index in 0..<count {
            bed.put(from: 0, index, pattern(index % 7 == 0 ? 40_000 : 200, index), ack: index)
        }
        var rounds = 0
        while !left.isEmpty {
            rounds += 1
            try #require(rounds < 4000, "\(bed.name): what was lost is sent again and arrives")
            bed.step(1 + random.below(40))
            if breaks < 8 {
                bed.breakConnections()
                breaks += 1
            }
            let heard = bed.events[0]
            bed.events[0].removeAll()
            for event in heard {
                switch event {
                case .ack(let cookie, _): left.remove(cookie)
                case .failed(let cookie, _):
                    // As a user does who wants it to arrive: send it again.
                    if left.contains(cookie) {
                        bed.put(
                            from: 0, cookie, pattern(cookie % 7 == 0 ? 40_000 : 200, cookie),
                            ack: cookie)
                    }
                default: break
                }
            }
        }
        var arrived: Set<UInt64> = []
        for event in bed.events[1] {
            guard case .put(_, let bits, let bytes, _, _) = event else { continue }
            arrived.insert(bits)
            #expect(same(bytes, pattern(bits % 7 == 0 ? 40_000 : 200, bits)))
        }
        #expect(arrived.count == Int(count))
        try bed.expectQuiet(free: free)
    }

    /// Node 1 dies at every step of a bulk transfer and comes back: node 0 is told, both go on, and
    /// no memory is lost.
    private func death(_ bed: any Bed, ofGet: Bool) throws {
        let free = bed.freeMemory
        let source = pattern(200_000, 4)
        func attach() {
            bed.listen(1)
            bed.with(1) { lnet, _ in
                _ = lnet.attach(
                    portal: 5, matchBits: 7,
                    MemoryDescriptor(
                        memory: .buffer(source), options: [.get, .manageRemote, .truncate]),
                    cookie: 70)
            }
        }
        attach()
        let target = bed.nids[1]
        var outcomes = [0, 0]
        for phase in 0..<28 {
            // A connection stands before, so that the phases are those of the transfer.
            bed.events = [[], []]
            for attempt: UInt64 in 0..<100 {
                bed.put(from: 0, 1, [1], ack: 1000 + attempt)
                try bed.expect(
                    bed.events[0].contains(.ack(1000 + attempt, 1))
                        || bed.count(0) { if case .failed = $0 { true } else { false } } > 0,
                    "phase \(phase): the first word is answered")
                if bed.events[0].contains(.ack(1000 + attempt, 1)) { break }
                bed.events[0].removeAll()
            }
            bed.events = [[], []]
            if ofGet {
                bed.with(0) { lnet, now in
                    _ = lnet.get(
                        from: target, portal: 5, matchBits: 7, length: source.count, cookie: 42,
                        now: now)
                }
            } else {
                bed.put(from: 0, 42, source, ack: 42)
            }
            bed.step(phase)
            for event in bed.events[1] {
                if case .put(_, 42, let bytes, _, _) = event { #expect(same(bytes, source)) }
            }
            bed.restart(1)
            attach()
            try bed.expect(
                bed.count(0) {
                    switch $0 {
                    case .ack(42, _), .reply(42, _, _), .failed(42, _): true
                    default: false
                    }
                } == 1, "phase \(phase): the transfer ends, once")
            for event in bed.events[0] {
                switch event {
                case .ack(42, let mlength):
                    // It was taken whole; its user may have died before it heard of it.
                    #expect(mlength == source.count)
                    outcomes[0] += 1
                case .reply(42, let length, let bytes):
                    #expect(length == source.count && same(bytes, source))
                    outcomes[0] += 1
                case .failed(42, _): outcomes[1] += 1
                default: break
                }
            }
            try bed.expectQuiet(free: free)
        }
        #expect(outcomes[1] > 0, "\(bed.name): some phases came before the end, \(outcomes)")
    }

    private func memoryExhaustion(_ bed: any Bed) throws {
        let free = bed.freeMemory
        let source = pattern(1 << 20, 8)
        for node in 0..<2 {
            bed.listen(node)
            bed.with(node) { lnet, _ in
                _ = lnet.attach(
                    portal: 5, matchBits: 7,
                    MemoryDescriptor(memory: .buffer(source), options: [.get, .manageRemote]),
                    cookie: 70)
            }
        }
        // Many times what there is, both ways at once, PUTs and GETs.
        let count = 12
        for node in 0..<2 {
            let target = bed.nids[1 - node]
            for index in 0..<count {
                bed.put(from: node, UInt64(index), source, ack: UInt64(index))
                bed.with(node) { lnet, now in
                    _ = lnet.get(
                        from: target, portal: 5, matchBits: 7, length: 1 << 20,
                        cookie: UInt64(100 + index), now: now)
                }
            }
        }
        for node in 0..<2 {
            try bed.expect(
                bed.count(node) { if case .ack(_, 1 << 20) = $0 { true } else { false } } == count
                    && bed.count(node) {
                        if case .reply(_, 1 << 20, _) = $0 { true } else { false }
                    } == count, "node \(node) has all its answers")
            for event in bed.events[node] {
                if case .reply(_, _, let bytes) = event { #expect(same(bytes, source)) }
                if case .put(_, _, let bytes, _, _) = event { #expect(same(bytes, source)) }
            }
        }
        try bed.expectQuiet(free: free)
    }

    private func ping(_ bed: any Bed) throws {
        let target = bed.nids[1]
        bed.with(0) { lnet, now in _ = lnet.ping(target, timeout: .seconds(30), now: now) }
        try bed.expect(bed.events[0].contains(.pinged(0)), "a ping is answered")
    }
}
