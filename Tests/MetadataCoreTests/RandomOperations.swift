import Primitives
import WireFormat

/// Requests that collide often: few names, few directories, some that are wrong.
struct RandomOperations {
    var generator: SplitMix64
    private var time: Int64 = 1000

    init(seed: UInt64) { generator = SplitMix64(seed: seed) }

    private mutating func name() -> FileName {
        // Bytes, not characters, decide the order.
        let names = ["a", "b", "bb", "c", "ä", "Z"]
        return FileName(names[generator.below(names.count)])!
    }

    private mutating func now() -> Timestamp {
        time += 1
        return Timestamp(seconds: time, nanoseconds: UInt32(generator.below(1000)))
    }

    private mutating func file(_ model: Model, _ isWanted: (Model.Node) -> Bool) -> FileID {
        if generator.oneIn(20) { return FileID(sequence: 0x2_0000_0400, objectNumber: 9999) }
        let isAny = generator.oneIn(10)
        let files = model.nodes.filter { isAny || isWanted($0.value) }.keys.sorted()
        return files.isEmpty ? .root : files[generator.below(files.count)]
    }

    private mutating func directory(_ model: Model) -> FileID {
        file(model) { $0.type == .directory }
    }

    mutating func next(_ model: Model) -> (request: RequestBody, client: UInt32) {
        let client = UInt32(generator.below(3))
        let parent = directory(model)
        switch generator.below(18) {
        case 0...1:
            return (
                .mkdir(
                    MkdirRequest(
                        parent: parent, name: name(), mode: UInt32(generator.below(0o10000)),
                        time: now())), client
            )
        case 2...6:
            var flags: OpenFlags = generator.oneIn(4) ? [.read] : [.write, .create]
            if generator.oneIn(4) { flags.insert(.exclusive) }
            return (
                .open(
                    OpenRequest(
                        parent: parent, name: name(), flags: flags,
                        mode: UInt32(generator.below(0o10000)),
                        stripeCount: UInt32(generator.below(6)), time: now())), client
            )
        case 7...9:
            let handles = model.opens.keys.sorted()
            guard !handles.isEmpty, !generator.oneIn(12) else {
                return (.close(CloseRequest(file: parent, handle: 77)), client)
            }
            let handle = handles[generator.below(handles.count)]
            let open = model.opens[handle]!
            let owner = generator.oneIn(10) ? client : open.client
            return (.close(CloseRequest(file: open.file, handle: handle)), owner)
        case 10...11:
            return (
                .unlink(
                    UnlinkRequest(
                        parent: parent, name: name(), isDirectory: generator.oneIn(3),
                        time: now())), client
            )
        case 12...14:
            return (
                .rename(
                    RenameRequest(
                        sourceParent: parent, sourceName: name(),
                        targetParent: directory(model), targetName: name(), time: now())),
                client
            )
        case 15...16:
            return (
                .link(
                    LinkRequest(
                        file: file(model) { $0.type == .regular }, parent: parent, name: name(),
                        time: now())), client
            )
        default:
            return (
                .setattr(
                    SetattrRequest(
                        file: file(model) { _ in true },
                        mode: generator.oneIn(2) ? UInt32(generator.below(0o10000)) : nil,
                        modified: generator.oneIn(2) ? now() : nil,
                        accessed: generator.oneIn(2) ? now() : nil,
                        time: generator.oneIn(2) ? now() : nil)), client
            )
        }
    }
}
