import ClientCore
import Primitives
import WireFormat

/// What the end of an operation means, and whether it may be so.
extension Simulation {
    func finish(
        _ index: Int, _ current: LoadClient.Current, _ result: Result<FileResult, OperationError>
    ) {
        switch result {
        case .success(let value):
            succeed(index, current, value)
        case .failure(let error):
            // Taken back at the gate: nothing was formatted, nothing happened (R29).
            if error.status == .cancelled, current.isCancelled {
                undo(index, current)
                return
            }
            if case .lockRecord = current.step,
                error.status == .tryAgain || error.status == .deadlock
            {
                return
            }
            guard !loads[index].isDoomed else { return }
            // A part of it may have met the trouble long before the last part came to its end.
            let hadTrouble = diskTroubleUntil.contains { $0 > current.begun }
            if error.status == .stale, hadTrouble {
                // Damage, met when an open was replayed: the file has to be opened again.
                return giveUp(index, "an open met damage when it was replayed")
            }
            if error.status == .ioError || error.status == .noSpace, hadTrouble {
                coverage.diskRefusals += 1
                switch current.step {
                case .truncate, .append, .write, .say, .setRegister, .flush, .close:
                    // Several targets, of which some may have done it; and no second close.
                    giveUp(index, "a disk refused a part of \(LoadClient.brief(current.step))")
                default:
                    undo(index, current)
                }
                return
            }
            fail(
                .operationFailed,
                "\(loads[index].uuid): \(LoadClient.brief(current.step)) ends with \(error.status)")
        }
    }

    private func undo(_ index: Int, _ current: LoadClient.Current) {
        if case .setRegister(let register, let value) = current.step {
            oracle.registers[register].cancelWrite(value)
        }
    }

    private func succeed(_ index: Int, _ current: LoadClient.Current, _ value: FileResult) {
        switch (current.step, value) {
        case (.makeHome, .attributes(let attributes, _)):
            loads[index].home = attributes.file
        case (.create(let name), .opened(let handle, let attributes, _)):
            loads[index].files.append(
                LoadClient.File(name: name, id: attributes.file, handle: handle, bytes: []))
        case (.reopen(let file), .opened(let handle, _, _)):
            loads[index].files[file].handle = handle
        case (.append(let file, let bytes), _):
            loads[index].files[file].bytes += bytes
        case (.write(let file, let offset, let bytes), _):
            loads[index].files[file].bytes.replace(at: offset, with: bytes)
        case (.truncate(let file, let size), _):
            loads[index].files[file].bytes.removeLast(loads[index].files[file].bytes.count - size)
        case (.read(let file, let offset, let count), .bytes(let bytes)):
            let model = loads[index].files[file].bytes
            let end = min(model.count, offset + count)
            let expected = offset < end ? model[offset..<end] : []
            if bytes[...] != expected {
                fail(
                    .wrongBytes,
                    "\(loads[index].uuid) reads \(Self.difference(bytes, Array(expected))) of "
                        + "\(loads[index].files[file].name.text) from \(offset)")
            }
        case (.close(let file), _):
            loads[index].files[file].handle = nil
            if loads[index].files[file].isUnlinked { loads[index].files.remove(at: file) }
        case (.rename(let file, let name), _):
            loads[index].files[file].name = name
        case (.unlink(let file), _):
            loads[index].files[file].isUnlinked = true
            if loads[index].files[file].handle == nil { loads[index].files.remove(at: file) }
        case (.stat(let file), .attributes(_, let size)):
            if size != UInt64(loads[index].files[file].bytes.count) {
                fail(
                    .wrongBytes,
                    "\(loads[index].uuid) is told that \(loads[index].files[file].name.text) has "
                        + "\(size) bytes, not \(loads[index].files[file].bytes.count)")
            }
        case (.list, .entries(let entries, _)):
            checkListing(loads[index], entries.map(\.name.text))
        case (.makeDirectory(let name), _):
            loads[index].directories.append(name)
        case (.removeDirectory(let name), _):
            loads[index].directories.removeAll { $0 == name }
        case (.openShared(let generation), .opened(let handle, _, _)):
            loads[index].shared = handle
            loads[index].sharedGeneration = generation
        case (.say(let word), _):
            loads[index].words.append((loads[index].sharedGeneration, word))
        case (.hear(let known), .bytes(let bytes)):
            checkShared(bytes, known)
        case (.openRegister(let register), .opened(let handle, _, _)):
            loads[index].registers[register] = handle
        case (.setRegister(let register, let value), _):
            oracle.registers[register].endWrite(value, at: cluster.now)
        case (.getRegister(let register), .bytes(let bytes)):
            guard !loads[index].isDoomed else { return }
            let value = Oracle.decode(bytes)
            let isKnown = oracle.registers[register].read(
                value, by: Self.name(loads[index]), from: current.begun, to: cluster.now)
            if !isKnown {
                fail(.notLinearizable, "register \(register) reads \(bytes), which nobody wrote")
            }
        case (.lockRecord(let register, let parts, let isExclusive, _), _):
            recordLocked(index, register, parts, isExclusive: isExclusive)
        case (.unlockRecord, _), (.flush, _), (.chmod, _), (.discard, _):
            break
        default:
            fail(
                .operationFailed,
                "\(loads[index].uuid): \(LoadClient.brief(current.step)) gives \(value)")
        }
    }

    /// Where two runs of bytes differ first.
    static func difference(_ found: [UInt8], _ expected: [UInt8]) -> String {
        let place = zip(found, expected).enumerated().first { $1.0 != $1.1 }?.offset
        let from = place ?? min(found.count, expected.count)
        func part(_ bytes: [UInt8]) -> String {
            String(decoding: bytes.dropFirst(from).prefix(24), as: UTF8.self)
        }
        return "\(found.count) bytes for \(expected.count), and from \(from) on "
            + "\"\(part(found))\" for \"\(part(expected))\""
    }

    func checkListing(_ load: LoadClient, _ names: [String]) {
        let expected =
            (load.files.filter { !$0.isUnlinked }.map(\.name.text) + load.directories.map(\.text))
            .sorted()
        if names.sorted() != expected {
            fail(
                .acknowledgedUpdateLost,
                "the directory of \(load.uuid) lists \(names.sorted()), not \(expected)")
        }
    }

    /// Every word that was acknowledged before the read began, and whose client still lives, stands
    /// there once.
    func checkShared(_ bytes: [UInt8], _ known: [SharedWord]) {
        var counts: [SharedWord: Int] = [:]
        counts.reserveCapacity(known.count)
        for word in known { counts[word] = 0 }
        SharedWord.forEach(in: bytes) { word in
            // Another's words may stand there or not.
            if let index = counts.index(forKey: word) { counts.values[index] += 1 }
        }
        for word in known where counts[word] != 1 && stands(word) {
            let count = counts[word] ?? 0
            fail(
                count == 0 ? .acknowledgedUpdateLost : .updateRepeated,
                "\(word) stands \(count) times in the shared file")
        }
    }

    /// What this word's client was told still counts: it lives, or has left in order.
    private func stands(_ word: SharedWord) -> Bool {
        let load = loads[word.number]
        return load.isAlive && !load.isDoomed && load.life == word.life
            || oracle.departedWords.contains(word)
    }
}

extension [UInt8] {
    fileprivate mutating func replace(at offset: Int, with bytes: [UInt8]) {
        let end = offset + bytes.count
        if count < end { append(contentsOf: repeatElement(0, count: end - count)) }
        replaceSubrange(offset..<end, with: bytes)
    }
}
