import WireFormat

/// Interval trees over places of locks: which of many ranges meet one, in logarithmic time.
///
/// Treaps in one pool of nodes, ordered by start and place, each node with the greatest end and
/// the smallest mark below it (Cormen et al., Introduction to Algorithms, "Augmenting data
/// structures"). A mark is a number that a search can ask to be below a limit: the order of
/// arrival of waiters, and whether a granted lock was called back. Priorities are a hash of the
/// place, so that equal histories give equal trees.
struct IntervalTrees: Sendable {
    struct Node: BitwiseCopyable {
        var range: Extent
        var endMax: UInt64
        var mark: UInt64
        var markMin: UInt64
        var left: Int32 = -1
        var right: Int32 = -1
        var lock: Int32
    }

    private(set) var nodes: [Node] = []
    private var firstFree: Int32 = -1

    /// The place under which `lock` was inserted.
    mutating func insert(
        _ lock: Int32, range: Extent, mark: UInt64, into root: inout Int32
    ) -> Int32 {
        let fresh = Node(
            range: range, endMax: range.end, mark: mark, markMin: mark, lock: lock)
        let place: Int32
        if firstFree >= 0 {
            place = firstFree
            firstFree = nodes[Int(place)].left
            nodes[Int(place)] = fresh
        } else {
            place = Int32(nodes.count)
            nodes.growByAnEighth()
            nodes.append(fresh)
        }
        root = inserting(place, under: root)
        return place
    }

    /// Takes a node out of its tree and gives its place free.
    mutating func remove(_ place: Int32, from root: inout Int32) {
        root = removing(place, under: root)
        nodes[Int(place)].left = firstFree
        firstFree = place
    }

    /// Changes the mark of a node.
    mutating func setMark(_ place: Int32, _ mark: UInt64, under root: Int32) {
        nodes[Int(place)].mark = mark
        refreshPath(to: place, under: root)
    }

    /// The first lock in order of starts whose range meets `range`, whose mark is below `limit` and
    /// which `isMeant`; -1 where there is none.
    func first(
        under root: Int32, meeting range: Extent, below limit: UInt64,
        where isMeant: (Int32) -> Bool
    ) -> Int32 {
        guard root >= 0 else { return -1 }
        let node = nodes[Int(root)]
        guard node.endMax >= range.start, node.markMin < limit else { return -1 }
        let found = first(under: node.left, meeting: range, below: limit, where: isMeant)
        if found >= 0 { return found }
        guard node.range.start <= range.end else { return -1 }
        if node.range.end >= range.start, node.mark < limit, isMeant(node.lock) {
            return node.lock
        }
        return first(under: node.right, meeting: range, below: limit, where: isMeant)
    }

    /// The greatest end among the ranges that start before `start`; nil where there is none.
    func greatestEnd(under root: Int32, startingBefore start: UInt64) -> UInt64? {
        var at = root
        var greatest: UInt64?
        while at >= 0 {
            let node = nodes[Int(at)]
            guard node.range.start < start else {
                at = node.left
                continue
            }
            var end = node.range.end
            if node.left >= 0 { end = max(end, nodes[Int(node.left)].endMax) }
            greatest = max(greatest ?? 0, end)
            at = node.right
        }
        return greatest
    }

    /// The smallest start above `end`; nil where there is none.
    func smallestStart(under root: Int32, above end: UInt64) -> UInt64? {
        var at = root
        var smallest: UInt64?
        while at >= 0 {
            let node = nodes[Int(at)]
            if node.range.start > end {
                smallest = node.range.start
                at = node.left
            } else {
                at = node.right
            }
        }
        return smallest
    }

    // MARK: Parts

    private func priority(_ place: Int32) -> UInt32 {
        var hash = WordHash()
        hash.combine(UInt64(UInt32(bitPattern: nodes[Int(place)].lock)))
        return hash.value
    }

    private func precedes(_ a: Int32, _ b: Int32) -> Bool {
        let one = nodes[Int(a)]
        let other = nodes[Int(b)]
        return (one.range.start, one.lock) < (other.range.start, other.lock)
    }

    private mutating func refresh(_ place: Int32) {
        let node = nodes[Int(place)]
        var end = node.range.end
        var mark = node.mark
        if node.left >= 0 {
            end = max(end, nodes[Int(node.left)].endMax)
            mark = min(mark, nodes[Int(node.left)].markMin)
        }
        if node.right >= 0 {
            end = max(end, nodes[Int(node.right)].endMax)
            mark = min(mark, nodes[Int(node.right)].markMin)
        }
        nodes[Int(place)].endMax = end
        nodes[Int(place)].markMin = mark
    }

    private mutating func refreshPath(to place: Int32, under root: Int32) {
        guard root >= 0, root != place else {
            if root >= 0 { refresh(root) }
            return
        }
        refreshPath(
            to: place,
            under: precedes(place, root) ? nodes[Int(root)].left : nodes[Int(root)].right)
        refresh(root)
    }

    private mutating func inserting(_ place: Int32, under root: Int32) -> Int32 {
        guard root >= 0 else { return place }
        if priority(place) > priority(root) {
            let (left, right) = split(root, at: place)
            nodes[Int(place)].left = left
            nodes[Int(place)].right = right
            refresh(place)
            return place
        }
        if precedes(place, root) {
            nodes[Int(root)].left = inserting(place, under: nodes[Int(root)].left)
        } else {
            nodes[Int(root)].right = inserting(place, under: nodes[Int(root)].right)
        }
        refresh(root)
        return root
    }

    private mutating func split(_ root: Int32, at place: Int32) -> (left: Int32, right: Int32) {
        guard root >= 0 else { return (-1, -1) }
        if precedes(root, place) {
            let (left, right) = split(nodes[Int(root)].right, at: place)
            nodes[Int(root)].right = left
            refresh(root)
            return (root, right)
        }
        let (left, right) = split(nodes[Int(root)].left, at: place)
        nodes[Int(root)].left = right
        refresh(root)
        return (left, root)
    }

    private mutating func removing(_ place: Int32, under root: Int32) -> Int32 {
        precondition(root >= 0, "removed from a tree what is not in it")
        if root == place {
            return merge(nodes[Int(place)].left, nodes[Int(place)].right)
        }
        if precedes(place, root) {
            nodes[Int(root)].left = removing(place, under: nodes[Int(root)].left)
        } else {
            nodes[Int(root)].right = removing(place, under: nodes[Int(root)].right)
        }
        refresh(root)
        return root
    }

    private mutating func merge(_ left: Int32, _ right: Int32) -> Int32 {
        if left < 0 { return right }
        if right < 0 { return left }
        if priority(left) > priority(right) {
            nodes[Int(left)].right = merge(nodes[Int(left)].right, right)
            refresh(left)
            return left
        }
        nodes[Int(right)].left = merge(left, nodes[Int(right)].left)
        refresh(right)
        return right
    }
}
