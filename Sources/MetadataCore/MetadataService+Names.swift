internal import StorageCore
internal import WireFormat

/// Attributes and names.
extension MetadataService {
    func attributes<B: CommittedStore>(
        of file: FileID, in store: OverlayStore<B>
    ) throws(Refusal) -> AttributesReply {
        let inode = try existing(file, in: store).inode
        return AttributesReply(attributes: inode.attributes(of: file), layout: inode.layout)
    }

    func lookup<B: CommittedStore>(
        _ request: LookupRequest, in store: OverlayStore<B>
    ) throws(Refusal) -> AttributesReply {
        var file = request.parent
        for name in request.path {
            _ = try directory(file, in: store)
            guard let entry = try dirent(file, name, in: store) else { throw Refusal(.noEntry) }
            file = entry.file
        }
        return try attributes(of: file, in: store)
    }

    func readdir<B: CommittedStore>(
        _ request: ReaddirRequest, in store: OverlayStore<B>
    ) throws(Refusal) -> ReaddirReply {
        guard (1...UInt32(ReaddirReply.entryCountMax)).contains(request.entryCountMax) else {
            throw Refusal(.invalid)
        }
        _ = try directory(request.directory, in: store)
        var reply = ReaddirReply(entries: [], isEnd: true)
        var isDamaged = false
        store.scan(
            .dirents, prefix: Keys.file(request.directory),
            after: request.after.map { Keys.entry(request.directory, $0) }
        ) { key, value in
            if reply.entries.count == Int(request.entryCountMax) {
                reply.isEnd = false
                return false
            }
            guard let name = Keys.name(in: key), let entry = Dirent(decoding: value) else {
                isDamaged = true
                return false
            }
            reply.entries.append(
                DirectoryEntry(name: name, file: entry.file, type: entry.type))
            return true
        }
        if isDamaged { throw Refusal(.ioError) }
        if request.wantsAttributes {
            for index in reply.entries.indices {
                let file = reply.entries[index].file
                reply.entries[index].attributes = try existing(file, in: store).inode
                    .attributes(of: file)
            }
        }
        return reply
    }

    /// The time of change is that of the request; of one before version 3, which has none, the time
    /// that it sets. Always at least a nanosecond after the last change: so a change shows, and a
    /// replay gives the same.
    func setattr<B: CommittedStore>(
        _ request: SetattrRequest, in store: OverlayStore<B>, into transaction: inout Transaction
    ) throws(Refusal) -> AttributesReply {
        var (inode, isOrphan) = try existing(request.file, in: store)
        if let mode = request.mode {
            inode.mode = mode & 0o7777
            inode.version = transno
        }
        if let modified = request.modified { inode.modified = modified }
        if let accessed = request.accessed { inode.accessed = accessed }
        inode.changed = max(
            request.time ?? request.modified ?? inode.changed, inode.changed.successor)
        transaction.put(
            isOrphan ? .orphans : .inodes, key: Keys.file(request.file), value: inode.encoded)
        return AttributesReply(
            attributes: inode.attributes(of: request.file), layout: inode.layout)
    }

    mutating func mkdir<B: CommittedStore>(
        _ request: MkdirRequest, isReplay: Bool, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) -> AttributesReply {
        if isReplay, request.file != .none, let found = try find(request.file, in: store) {
            guard found.inode.type == .directory else { throw Refusal(.exists) }
            return AttributesReply(
                attributes: found.inode.attributes(of: request.file), layout: .none)
        }
        var parent = try directory(request.parent, in: store)
        guard try dirent(request.parent, request.name, in: store) == nil else {
            throw Refusal(.exists)
        }
        let fresh = try newFile(carried: request.file, isReplay: isReplay)
        var inode = Inode.directory(in: request.parent, mode: request.mode, time: request.time)
        inode.version = transno
        parent.linkCount += 1
        parent.entryCount += 1
        parent.touch(request.time)
        nextFile = fresh.nextFile
        putNextFile(into: &transaction)
        put(inode, of: fresh.file, into: &transaction)
        put(parent, of: request.parent, into: &transaction)
        transaction.put(
            .dirents, key: Keys.entry(request.parent, request.name),
            value: Dirent(type: .directory, file: fresh.file).encoded)
        return AttributesReply(attributes: inode.attributes(of: fresh.file), layout: .none)
    }

    /// Gives the file that lost a name.
    func unlink<B: CommittedStore>(
        _ request: UnlinkRequest, in store: OverlayStore<B>, into transaction: inout Transaction
    ) throws(Refusal) -> [FileID] {
        var parent = try directory(request.parent, in: store)
        guard let entry = try dirent(request.parent, request.name, in: store) else {
            throw Refusal(.noEntry)
        }
        try checkReplaceable(
            entry, by: request.isDirectory ? .directory : .regular, in: store)
        if entry.type == .directory { parent.linkCount -= 1 }
        parent.entryCount -= 1
        parent.touch(request.time)
        transaction.delete(.dirents, key: Keys.entry(request.parent, request.name))
        put(parent, of: request.parent, into: &transaction)
        try dropLink(of: entry.file, time: request.time, in: store, into: &transaction)
        return [entry.file]
    }

    /// Another name for a file that has one. A directory has no second.
    func link<B: CommittedStore>(
        _ request: LinkRequest, in store: OverlayStore<B>, into transaction: inout Transaction
    ) throws(Refusal) {
        var parent = try directory(request.parent, in: store)
        var (inode, isOrphan) = try existing(request.file, in: store)
        guard inode.type != .directory else { throw Refusal(.notPermitted) }
        // A file without a name is on its way out.
        guard !isOrphan else { throw Refusal(.noEntry) }
        guard try dirent(request.parent, request.name, in: store) == nil else {
            throw Refusal(.exists)
        }
        guard inode.linkCount < Inode.linkCountMax else { throw Refusal(.tooManyLinks) }
        inode.linkCount += 1
        inode.changed = max(request.time, inode.changed)
        parent.entryCount += 1
        parent.touch(request.time)
        put(inode, of: request.file, into: &transaction)
        put(parent, of: request.parent, into: &transaction)
        transaction.put(
            .dirents, key: Keys.entry(request.parent, request.name),
            value: Dirent(type: inode.type, file: request.file).encoded)
    }

    /// Gives the file that has another name now, and the one that lost it.
    func rename<B: CommittedStore>(
        _ request: RenameRequest, in store: OverlayStore<B>, into transaction: inout Transaction
    ) throws(Refusal) -> [FileID] {
        var source = try directory(request.sourceParent, in: store)
        var target = try directory(request.targetParent, in: store)
        guard let moved = try dirent(request.sourceParent, request.sourceName, in: store) else {
            throw Refusal(.noEntry)
        }
        let replaced = try dirent(request.targetParent, request.targetName, in: store)
        // Two names of one file: both stay, as POSIX has it.
        if replaced?.file == moved.file { return [] }
        let isSameParent = request.sourceParent == request.targetParent
        if moved.type == .directory, !isSameParent {
            try checkOutside(moved.file, request.targetParent, in: store)
        }
        if let replaced {
            try checkReplaceable(replaced, by: moved.type, in: store)
        }
        var inode = try existing(moved.file, in: store).inode
        inode.changed = request.time
        if moved.type == .directory {
            inode.parent = request.targetParent
            if replaced != nil { target.linkCount -= 1 }
            if !isSameParent {
                source.linkCount -= 1
                target.linkCount += 1
            }
        }
        if isSameParent {
            if replaced != nil { target.entryCount -= 1 }
        } else {
            source.entryCount -= 1
            source.touch(request.time)
            if replaced == nil { target.entryCount += 1 }
            put(source, of: request.sourceParent, into: &transaction)
        }
        target.touch(request.time)
        put(target, of: request.targetParent, into: &transaction)
        put(inode, of: moved.file, into: &transaction)
        transaction.delete(
            .dirents, key: Keys.entry(request.sourceParent, request.sourceName))
        transaction.put(
            .dirents, key: Keys.entry(request.targetParent, request.targetName),
            value: moved.encoded)
        if let replaced {
            try dropLink(of: replaced.file, time: request.time, in: store, into: &transaction)
            return [moved.file, replaced.file]
        }
        return [moved.file]
    }

    /// A name goes, or is taken by another file: only like for like, and only empty directories.
    private func checkReplaceable<B: CommittedStore>(
        _ entry: Dirent, by type: FileType, in store: OverlayStore<B>
    ) throws(Refusal) {
        switch (entry.type, type) {
        case (.regular, .regular): break
        case (.regular, .directory): throw Refusal(.notDirectory)
        case (.directory, .regular): throw Refusal(.isDirectory)
        case (.directory, .directory):
            guard try existing(entry.file, in: store).inode.entryCount == 0 else {
                throw Refusal(.notEmpty)
            }
        }
    }

    /// Walks up from `directory` to the root: `moved` must not be on the way.
    private func checkOutside<B: CommittedStore>(
        _ moved: FileID, _ directory: FileID, in store: OverlayStore<B>
    ) throws(Refusal) {
        var place = directory
        while place != .root {
            if place == moved { throw Refusal(.invalid) }
            place = try self.directory(place, in: store).parent
        }
    }

    /// One name less. A file that had its last one goes with its objects, or stays without a name
    /// while somebody has, or may yet turn out to have, it open.
    private func dropLink<B: CommittedStore>(
        of file: FileID, time: Timestamp, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        var inode = try existing(file, in: store).inode
        let key = Keys.file(file)
        if inode.type == .directory {
            transaction.delete(.inodes, key: key)
            return
        }
        inode.linkCount -= 1
        inode.changed = time
        if inode.linkCount > 0 {
            put(inode, of: file, into: &transaction)
            return
        }
        transaction.delete(.inodes, key: key)
        if isRecovering || opens.openCount(file) > 0 {
            transaction.put(.orphans, key: key, value: inode.encoded)
        } else {
            logDestroys(of: inode, into: &transaction)
        }
    }
}

extension Inode {
    /// A directory's entries changed.
    mutating func touch(_ time: Timestamp) {
        modified = time
        changed = time
    }
}

extension Timestamp {
    /// A nanosecond later.
    var successor: Timestamp {
        nanoseconds < 999_999_999
            ? Timestamp(seconds: seconds, nanoseconds: nanoseconds + 1)
            : Timestamp(seconds: seconds &+ 1)
    }
}
