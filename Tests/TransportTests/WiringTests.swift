import LNDCore
import LNetCore
import Primitives
import TestSupport
import Testing
import WireFormat

@testable import NodeRuntime

/// A node uses the place of a connection again at once: the order to close the old one may come
/// after the new one is there.
@Suite struct `The table of a node's connections` {
    private let old = SlotHandle(index: 5, generation: 3).rawValue
    private let new = SlotHandle(index: 5, generation: 5).rawValue

    private func link(_ key: UInt64, _ connection: Int) -> Wiring<Int>.Link {
        .init(node: 0, key: key, connection: connection)
    }

    @Test func `a connection whose place is used again is handed out to be closed`() throws {
        var wiring = Wiring<Int>(nodeCount: 1)
        let first = try #require(wiring.insert(link(old, 1)).handle)
        wiring.setBlocked(first, true)
        let second = wiring.insert(link(new, 2))
        #expect(second.displaced?.connection == 1 && second.displaced?.handle == first)
        #expect(wiring.find(0, new) == second.handle)
        #expect(wiring.find(0, old) == nil)
        #expect(wiring.links[first] == nil)
        #expect(wiring.links.count == 1 && wiring.blockedCount == 0)
    }

    @Test func `an order to connect that its node took back is not carried out`() {
        var wiring = Wiring<Int>(nodeCount: 1)
        let second = wiring.insert(link(new, 2))
        let first = wiring.insert(link(old, 1))
        #expect(first.handle == nil && first.displaced == nil)
        #expect(wiring.find(0, new) == second.handle)
    }

    @Test func `places of different nodes and of free places are not mixed up`() throws {
        var wiring = Wiring<Int>(nodeCount: 2)
        let first = try #require(wiring.insert(link(old, 1)).handle)
        #expect(wiring.insert(.init(node: 1, key: new, connection: 2)).displaced == nil)
        wiring.remove(first)
        #expect(wiring.insert(link(new, 3)).displaced == nil)
    }
}
