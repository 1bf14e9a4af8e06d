import ClientCore
import NodeCore
import Primitives
import PtlRPCCore
import Simulator
import Testing
import WireFormat

/// Group F: version-based recovery. One client is lost; what did not depend on it is kept.
@Suite struct GroupFTests {
    /// Three clients: 0 and 2 come back, 1 is lost with what `steps` did.
    private static func lost(
        _ seed: UInt64, _ steps: (Scenario) throws -> Void
    ) throws -> Scenario {
        let cluster = try Scenario.held(seed, clients: 3, window: .seconds(15))
        try steps(cluster)
        cluster.lose(1)
        try cluster.crash()
        try cluster.awaitService()
        try cluster.awaitFull(0)
        try cluster.awaitFull(2)
        return cluster
    }

    @Test func `VB 2a 3a creating and removing names changes no version of the directory`() throws {
        let cluster = try Self.lost(1) {
            try $0.mkdir(0, "a")
            try $0.mkdir(1, "lost")
            try $0.mkdir(0, "b")
            try $0.unlink(0, "a", isDirectory: true)
        }
        #expect(try cluster.listing(0) == ["b"])
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `VB 3b an unlink depends on its directory's mode`() throws {
        let cluster = try Self.lost(2) {
            let directory = try $0.mkdir(0, "d")
            try $0.mkdir(0, "x", in: directory)
            try $0.commitAll()
            try $0.chmod(1, directory, 0o700)
            try $0.perform(
                $0.clients[0], .unlink(at: directory, FileName("x")!, isDirectory: true))
        }
        #expect(cluster.evicted == [0])
        let directory = try cluster.file(0, "d")
        #expect(try cluster.names(cluster.clients[0], in: directory) == ["x"])
    }

    @Test func `VB 4 a change of the mode depends on the one before, a change of times does not`()
        throws
    {
        let modes = try Self.lost(3) {
            let file = try $0.mkdir(0, "d")
            try $0.commitAll()
            try $0.chmod(1, file, 0o700)
            try $0.chmod(0, file, 0o711)
        }
        #expect(modes.evicted == [0])
        #expect(try modes.mode(0, "d") == 0o755)
        let times = try Self.lost(4) {
            let file = try $0.mkdir(0, "d")
            try $0.commitAll()
            try $0.chmod(1, file, 0o700)
            try $0.perform(
                $0.clients[0], .setattr(file, mode: nil, modified: Timestamp(seconds: 77)))
        }
        #expect(times.evicted.isEmpty && times.lostCount == 0)
    }

    @Test func `VB 4 setting times changes no version`() throws {
        let cluster = try Self.lost(5) {
            let file = try $0.mkdir(0, "d")
            try $0.commitAll()
            try $0.perform(
                $0.clients[1], .setattr(file, mode: nil, modified: Timestamp(seconds: 77)))
            try $0.chmod(0, file, 0o711)
        }
        #expect(cluster.evicted.isEmpty)
        #expect(try cluster.mode(0, "d") == 0o711)
    }

    @Test func `VB 6 a rename changes no directory's version, and depends on both`() throws {
        let free = try Self.lost(6) {
            let one = try $0.mkdir(0, "one")
            let two = try $0.mkdir(0, "two")
            try $0.mkdir(0, "x", in: one)
            try $0.mkdir(1, "y", in: one)
            try $0.commitAll()
            try $0.perform($0.clients[1], .rename(at: one, FileName("y")!, to: two, FileName("y")!))
            try $0.perform($0.clients[0], .rename(at: one, FileName("x")!, to: two, FileName("x")!))
            try $0.mkdir(2, "z", in: two)
        }
        #expect(free.evicted.isEmpty && free.lostCount == 0)
        let bound = try Self.lost(7) {
            let one = try $0.mkdir(0, "one")
            let two = try $0.mkdir(0, "two")
            try $0.mkdir(0, "x", in: one)
            try $0.commitAll()
            try $0.chmod(1, two, 0o700)
            try $0.perform($0.clients[0], .rename(at: one, FileName("x")!, to: two, FileName("x")!))
        }
        #expect(bound.evicted == [0])
        #expect(try bound.names(bound.clients[0], in: try bound.file(0, "one")) == ["x"])
    }

    /// First, lost, last: the last is kept where it does not depend on the lost one.
    @Test(arguments: 0..<7)
    func `VB 7 of three updates the last is kept if it does not need the lost one`(
        number: Int
    ) throws {
        let isBound = [false, true, true, false, true, true, true][number]
        let cluster = try Self.lost(10 + UInt64(number)) { cluster in
            try cluster.mkdir(0, "first")
            switch number {
            case 0:
                try cluster.mkdir(1, "other")
                try cluster.mkdir(0, "last")
            case 1:
                try cluster.mkdir(1, "x")
                try cluster.unlink(0, "x", isDirectory: true)
            case 2:
                try cluster.unlink(1, "first", isDirectory: true)
                try cluster.mkdir(0, "first")
            case 3:
                try cluster.rename(1, "home\(cluster.clients[1])", "moved")
                try cluster.mkdir(0, "last")
            case 4:
                try cluster.rename(1, "first", "second")
                try cluster.rename(0, "second", "third")
            case 5:
                try cluster.mkdir(1, "x")
                try cluster.rename(0, "x", "y")
            default:
                let inner = try cluster.mkdir(1, "x")
                try cluster.mkdir(0, "inside", in: inner)
            }
        }
        #expect(cluster.evicted == (isBound ? [0] : []))
        // Whatever was bound, the first one is there: it depended on nobody.
        #expect(try cluster.listing(2).contains("first"))
    }

    @Test func `VB 10b of three clients only the one with the gap is evicted`() throws {
        let cluster = try Self.lost(20) {
            let file = try $0.mkdir(2, "shared")
            try $0.commitAll()
            try $0.mkdir(0, "zero")
            try $0.chmod(1, file, 0o700)
            try $0.chmod(2, file, 0o711)
            try $0.mkdir(0, "more")
            try $0.mkdir(2, "two")
        }
        #expect(cluster.evicted == [2])
        #expect(
            Set(try cluster.listing(0)).isSuperset(of: ["zero", "more", "shared", "two"]),
            "what did not depend on the lost change is done, also by the client that goes")
        // The evicted one works on.
        try cluster.mkdir(2, "again")
    }

    @Test func `VB 11a 11b creates and unlinks of many in one directory are independent`() throws {
        let cluster = try Scenario.held(21, clients: 4, window: .seconds(15))
        for round in 0..<5 {
            for client in 0..<4 { try cluster.mkdir(client, "c\(client).\(round)") }
        }
        for client in 0..<4 { try cluster.unlink(client, "c\(client).2", isDirectory: true) }
        cluster.lose(3)
        try cluster.crash()
        try cluster.awaitService()
        let expected = (0..<3).flatMap { client in
            [0, 1, 3, 4].map { "c\(client).\($0)" }
        }
        #expect(try cluster.listing(0).sorted() == expected.sorted())
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
    }

    @Test func `VB 13 a slow client is waited for before its gap is crossed`() throws {
        let cluster = try Scenario.held(22, clients: 2, window: .seconds(30))
        let file = try cluster.mkdir(0, "d")
        try cluster.commitAll()
        try cluster.chmod(1, file, 0o700)
        try cluster.chmod(0, file, 0o711)
        // Within the window, and later than everybody else.
        cluster.simulator.pause(cluster.clients[1], for: .seconds(20))
        try cluster.crash()
        try cluster.awaitService()
        #expect(cluster.evicted.isEmpty && cluster.lostCount == 0)
        #expect(try cluster.mode(0, "d") == 0o711)
    }
}
