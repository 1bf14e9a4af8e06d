import ClientCore
import Primitives
import WireFormat

/// One client of the load: a seeded sequence of chores, one operation at a time, each checked
/// against the model. Without I/O; `LoadDriver` submits what it asks for.
struct LoadClient {
    let index: Int
    var model: ClientModel
    var tally = Tally()

    /// What this client has come to.
    struct Tally {
        var operations: UInt64 = 0
        var errors: UInt64 = 0
        var corruptBytes: UInt64 = 0
        /// Operations that were taken back at a gate, and begun again.
        var cancellations: UInt64 = 0
        var samples: [String] = []
    }

    private var random: SplitMix64
    private var steps: [Step] = []
    private var position = 0
    private let sharedDirectory: FileID
    private let isCancelled: Bool
    private var handle: FileHandle?
    private var logHandle: FileHandle?
    private var sharedHandle: FileHandle?
    private var kept: (handle: FileHandle, bytes: [UInt8])?
    private var nextNumber = 0
    private var logCount = 0
    private(set) var isStopping = false
    private(set) var isAtRest = false

    /// After so many errors a client stops: more would tell nothing new.
    static let errorCountMax: UInt64 = 20
    private static let fileCountMax = 10
    private static let directoryCountMax = 4
    private static let fileSizeMax = 256 << 10
    private static let sampleCountMax = 3

    /// - Parameter isCancelled: whether operations are taken back now and then, which is no error.
    init(index: Int, seed: UInt64, sharedDirectory: FileID, isCancelled: Bool = false) {
        self.isCancelled = isCancelled
        self.index = index
        self.sharedDirectory = sharedDirectory
        model = ClientModel(index: index)
        random = SplitMix64(seed: seed &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
        steps = [
            .makeOwnDirectory, .open(Name.counter, Self.making, mode: 0o600, stripes: 1),
            .write(Name.counter, offset: 0, Self.counterBytes(0)), .close,
            .open(Name.chain(0), Self.making, mode: 0o644, stripes: 1),
            .write(Name.chain(0), offset: 0, Array("a chain of renames".utf8)), .close, .openLog,
            .appendLog, .openShared, .appendShared,
        ]
    }

    private static let making: OpenFlags = [.read, .write, .create, .exclusive]

    /// 20 digits, so that every count has the same length.
    static func counterBytes(_ value: UInt64) -> [UInt8] {
        let digits = String(value)
        return Array((String(repeating: "0", count: 20 - digits.count) + digits).utf8)
    }

    /// Asks the client to close what it has open and rest, once its chore is done.
    mutating func stop() { isStopping = true }

    /// The operation to submit next; nil when the client is at rest, or still idles in its set-up.
    mutating func next() -> FileOperation? {
        while true {
            while position < steps.count {
                if let operation = operation(for: steps[position]) { return operation }
                position += 1
            }
            guard !isAtRest else { return nil }
            handle = nil
            position = 0
            if isStopping || tally.errors >= Self.errorCountMax {
                isAtRest = true
                steps = []
                if kept != nil { steps += [.readKept, .closeKept] }
                if logHandle != nil { steps += [.readLog, .closeLog] }
                if sharedHandle != nil { steps.append(.closeShared) }
            } else {
                steps = chore()
            }
        }
    }

    /// What the operation that `next` gave came to.
    mutating func take(_ result: Result<FileResult, OperationError>) {
        let step = steps[position]
        switch result {
        case .success(let value):
            tally.operations += 1
            position += 1
            apply(step, value)
        case .failure(let error) where isCancelled && error.status == .cancelled:
            // It has had no effect: the same once more. The model would show it otherwise.
            tally.cancellations += 1
        case .failure(let error):
            note("\(name(of: step)): \(error.status)")
            abandonChore()
        }
    }

    /// The operation under way; nil for a client at rest.
    var operationName: String? { position < steps.count ? name(of: steps[position]) : nil }

    var isSetUp: Bool { sharedHandle != nil || tally.errors > 0 }

    // MARK: Operations

    private func operation(for step: Step) -> FileOperation? {
        let at = model.directory
        switch step {
        case .makeOwnDirectory:
            return .mkdir(at: .root, model.name, mode: 0o755)
        case .open(let name, let flags, let mode, let stripes):
            return .open(at: at, name, flags, mode: mode, stripeCount: stripes)
        case .write(_, let offset, let bytes):
            return handle.map { .write($0, offset: UInt64(offset), bytes) }
        case .append(_, let bytes): return handle.map { .append($0, bytes) }
        case .truncate(_, let size): return handle.map { .truncate($0, size: UInt64(size)) }
        case .flush: return handle.map { .flush($0) }
        case .read(let name):
            let expected = model.file(name)?.bytes.count ?? 0
            return handle.map { .read($0, offset: 0, byteCount: expected + 64) }
        case .close: return handle.map { .close($0) }
        case .unlink(let name): return .unlink(at: at, name, isDirectory: false)
        case .rename(let name, let new): return .rename(at: at, name, to: at, new)
        case .setMode(let name, let mode):
            return model.file(name).map { .setattr($0.file, mode: mode, modified: nil) }
        case .stat(let name): return .stat(at: at, path: [name])
        case .makeDirectory(let name): return .mkdir(at: at, name, mode: 0o755)
        case .removeDirectory(let name): return .unlink(at: at, name, isDirectory: true)
        case .list(let after, _): return .readdir(at, after: after, entryCountMax: 64)
        case .increment:
            return handle.map {
                .write($0, offset: 0, Self.counterBytes(model.counter + 1))
            }
        case .openLog:
            return .open(at: at, Name.log, Self.making, mode: 0o644, stripeCount: 2)
        case .appendLog:
            return logHandle.map { .append($0, Record.bytes(client: index, number: logCount)) }
        case .readLog:
            let expected = model.file(Name.log)?.bytes.count ?? 0
            return logHandle.map { .read($0, offset: 0, byteCount: expected + 64) }
        case .closeLog: return logHandle.map { .close($0) }
        case .keepOpen(let name): return .unlink(at: at, name, isDirectory: false)
        case .readKept:
            return kept.map { .read($0.handle, offset: 0, byteCount: $0.bytes.count + 64) }
        case .closeKept: return kept.map { .close($0.handle) }
        case .openShared:
            return .open(
                at: sharedDirectory, Name.sharedFile(index / 2), [.read, .write, .create],
                mode: 0o644, stripeCount: 1)
        case .appendShared:
            return sharedHandle.map {
                .append($0, Record.bytes(client: index, number: model.sharedCount))
            }
        case .closeShared: return sharedHandle.map { .close($0) }
        }
    }

    // MARK: What an answer means

    private mutating func apply(_ step: Step, _ value: FileResult) {
        switch (step, value) {
        case (.makeOwnDirectory, .attributes(let attributes, _)):
            model.directory = attributes.file
        case (.open(let name, let flags, let mode, _), .opened(let handle, let attributes, _)):
            self.handle = handle
            if flags.contains(.exclusive) {
                model.files.append(
                    ClientModel.File(name: name, file: attributes.file, bytes: [], mode: mode))
            }
        case (.write(let name, let offset, let bytes), _):
            model.update(name) { Self.write(bytes, at: offset, into: &$0.bytes) }
        case (.append(let name, let bytes), .offset(let offset)):
            let expected = model.file(name)?.bytes.count ?? 0
            if offset != UInt64(expected) {
                note("append to \(name) landed at \(offset) instead of \(expected)")
            }
            model.update(name) { $0.bytes += bytes }
        case (.truncate(let name, let size), _):
            model.update(name) { file in
                if size <= file.bytes.count {
                    file.bytes.removeLast(file.bytes.count - size)
                } else {
                    file.bytes += repeatElement(0, count: size - file.bytes.count)
                }
            }
        case (.read(let name), .bytes(let bytes)):
            compare(bytes, model.file(name)?.bytes ?? [], name.text)
        case (.close, _): handle = nil
        case (.unlink(let name), _): model.files.removeAll { $0.name == name }
        case (.rename(let name, let new), _):
            model.files.removeAll { $0.name == new }
            model.update(name) { $0.name = new }
            model.chainLength += 1
        case (.setMode(let name, let mode), _): model.update(name) { $0.mode = mode }
        case (.stat(let name), .attributes(let attributes, let size)):
            guard let file = model.file(name) else { break }
            if attributes.file != file.file || size != UInt64(file.bytes.count)
                || attributes.mode != file.mode
            {
                note(
                    "stat of \(name): \(attributes.file) mode \(attributes.mode) size \(size) "
                        + "instead of \(file.file) mode \(file.mode) size \(file.bytes.count)")
            }
        case (.makeDirectory(let name), .attributes(let attributes, _)):
            model.directories.append(ClientModel.Directory(name: name, file: attributes.file))
        case (.removeDirectory(let name), _): model.directories.removeAll { $0.name == name }
        case (.list(_, let before), .entries(let entries, let isEnd)):
            let found = before + entries.map(\.name)
            if isEnd || entries.isEmpty {
                let sorted = found.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
                if sorted != model.listing { note("a listing differs from what was acknowledged") }
            } else {
                steps.insert(.list(after: entries.last?.name, found: found), at: position)
            }
        case (.increment, _):
            model.counter += 1
            let bytes = Self.counterBytes(model.counter)
            model.update(Name.counter) { $0.bytes = bytes }
        case (.openLog, .opened(let handle, let attributes, _)):
            logHandle = handle
            model.files.append(
                ClientModel.File(
                    name: Name.log, file: attributes.file, bytes: [], mode: 0o644))
        case (.appendLog, _):
            let bytes = Record.bytes(client: index, number: logCount)
            logCount += 1
            model.update(Name.log) { $0.bytes += bytes }
        case (.readLog, .bytes(let bytes)):
            compare(bytes, model.file(Name.log)?.bytes ?? [], "log")
        case (.closeLog, _): logHandle = nil
        case (.keepOpen(let name), _):
            if let handle, let file = model.file(name) { kept = (handle, file.bytes) }
            handle = nil
            model.files.removeAll { $0.name == name }
        case (.readKept, .bytes(let bytes)):
            compare(bytes, kept?.bytes ?? [], "a file without a name")
        case (.closeKept, _): kept = nil
        case (.openShared, .opened(let handle, _, _)): sharedHandle = handle
        case (.appendShared, _): model.sharedCount += 1
        case (.closeShared, _): sharedHandle = nil
        case (.flush, _): break
        default: note("\(name(of: step)) was answered by something else")
        }
    }

    static func write(_ bytes: [UInt8], at offset: Int, into file: inout [UInt8]) {
        if file.count < offset + bytes.count {
            file += repeatElement(0, count: offset + bytes.count - file.count)
        }
        file.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
    }

    private mutating func compare(_ found: [UInt8], _ expected: [UInt8], _ what: String) {
        guard found != expected else { return }
        let count = differingByteCount(found, expected)
        tally.corruptBytes += UInt64(count)
        sample(
            "\(count) bytes of \(what) differ (\(found.count) read, \(expected.count) expected)")
    }

    private mutating func note(_ text: String) {
        tally.errors += 1
        sample(text)
    }

    private mutating func sample(_ text: String) {
        if tally.samples.count < Self.sampleCountMax {
            tally.samples.append("\(model.name): \(text)")
        }
    }

    /// What is left of a chore after an error is left out, but its file is closed.
    private mutating func abandonChore() {
        let wasClosing = if case .close = steps[position] { true } else { false }
        // Nothing goes on without the parts that every chore needs.
        let isVital = !isSetUpComplete
        steps = handle != nil && !wasClosing ? [.close] : []
        position = 0
        if wasClosing { handle = nil }
        if isAtRest {
            if kept != nil { kept = nil }
            logHandle = nil
            sharedHandle = nil
        }
        if isVital { tally.errors = max(tally.errors, Self.errorCountMax) }
    }

    private var isSetUpComplete: Bool { sharedHandle != nil || isAtRest }

    private func name(of step: Step) -> String {
        let text = "\(step)"
        return String(text.prefix { $0 != "(" })
    }

    // MARK: Chores

    private mutating func chore() -> [Step] {
        switch random.below(100) {
        case ..<8: return create()
        case ..<24: return [.appendLog]
        case ..<30:
            return withFile { client, file in
                let bytes = client.bytes(client.random.below(400) + 1)
                return file.bytes.count + bytes.count <= Self.fileSizeMax
                    ? [.append(file.name, bytes)] : [.truncate(file.name, 0)]
            }
        case ..<40:
            return withFile { client, file in
                let offset = client.random.below(file.bytes.count + 1)
                let bytes = client.bytes(client.random.below(2_000) + 1)
                return [.write(file.name, offset: offset, bytes)]
            }
        case ..<52: return withFile { _, file in [.read(file.name)] }
        case ..<62:
            return [
                .open(Name.counter, [.read, .write], mode: 0, stripes: 1), .read(Name.counter),
                .increment, .close,
            ]
        case ..<70:
            return [.rename(Name.chain(model.chainLength), Name.chain(model.chainLength + 1))]
        case ..<76:
            guard let file = anyFile() else { return create() }
            return [.unlink(file.name)]
        case ..<81: return directoryChore()
        case ..<85:
            guard let file = anyFile() else { return create() }
            return [.setMode(file.name, 0o400 | UInt32(random.below(0o400))), .stat(file.name)]
        case ..<88:
            return withFile { client, file in
                [.truncate(file.name, client.random.below(file.bytes.count + 1_000)), .flush]
            }
        case ..<91: return [.list(after: nil, found: [])]
        case ..<95:
            guard let file = anyFile() else { return create() }
            return [.stat(file.name)]
        case ..<97:
            if kept != nil { return [.readKept, .closeKept] }
            guard let file = anyFile() else { return create() }
            return [.open(file.name, [.read, .write], mode: 0, stripes: 1), .keepOpen(file.name)]
        case ..<98: return [.readLog]
        default: return [.appendShared]
        }
    }

    private mutating func create() -> [Step] {
        guard model.files.count < Self.fileCountMax else {
            guard let file = anyFile() else { return [.appendLog] }
            return [.unlink(file.name)]
        }
        let name = Name.file(nextNumber)
        nextNumber += 1
        let size: Int =
            switch random.below(20) {
            case ..<14: random.below(4 << 10) + 1
            case ..<19: random.below(16 << 10) + 1
            default: random.below(128 << 10) + (64 << 10)
            }
        var steps: [Step] = [
            .open(name, Self.making, mode: 0o644, stripes: UInt32(random.below(2) + 1)),
            .write(name, offset: 0, bytes(size)),
        ]
        if random.oneIn(3) { steps.append(.flush) }
        steps.append(.close)
        return steps
    }

    private mutating func directoryChore() -> [Step] {
        if model.directories.count < Self.directoryCountMax, !random.oneIn(3) {
            nextNumber += 1
            return [.makeDirectory(Name.directory(nextNumber))]
        }
        guard !model.directories.isEmpty else { return [.appendLog] }
        return [.removeDirectory(model.directories[random.below(model.directories.count)].name)]
    }

    /// A chore on an open file: open, what `body` gives, close.
    private mutating func withFile(
        _ body: (inout LoadClient, ClientModel.File) -> [Step]
    ) -> [Step] {
        guard let file = anyFile() else { return create() }
        return [.open(file.name, [.read, .write], mode: 0, stripes: 1)]
            + body(&self, file) + [.close]
    }

    /// One of the plain files: not the log, the counter or the chain.
    private mutating func anyFile() -> ClientModel.File? {
        let plain = model.files.indices.filter { model.files[$0].name.text.hasPrefix("file") }
        guard !plain.isEmpty else { return nil }
        return model.files[plain[random.below(plain.count)]]
    }

    private mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 7)
        while bytes.count < count {
            var word = random.next()
            for _ in 0..<8 {
                bytes.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}
