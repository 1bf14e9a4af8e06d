public import StorageCore
internal import WireFormat

/// Opens: given by requests, kept over restarts, taken away with their clients.
extension MetadataService {
    /// Nil where a new file needs objects that are not there yet.
    mutating func open<B: CommittedStore>(
        _ request: OpenRequest, client: UInt32, isReplay: Bool, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) -> OpenReply? {
        let isNamed = isReplay && request.file != .none
        // A replay is about the file that its first execution opened, whatever its name is now.
        if isNamed, let found = try find(request.file, in: store) {
            return try grant(
                request, client: client, isReplay: true, file: request.file, inode: found.inode)
        }
        var parent = try directory(request.parent, in: store)
        if let entry = try dirent(request.parent, request.name, in: store) {
            // The file that the replay is about went with the client that created it.
            if isNamed { throw Refusal(.stale) }
            if request.flags.isSuperset(of: [.create, .exclusive]) { throw Refusal(.exists) }
            return try grant(
                request, client: client, isReplay: isReplay, file: entry.file,
                inode: try existing(entry.file, in: store).inode)
        }
        guard request.flags.contains(.create) else { throw Refusal(.noEntry) }
        let fresh = try newFile(carried: request.file, isReplay: isReplay)
        var stripes = StripeChoice()
        if isNamed {
            // A replay without a layout did not create the file that it opened.
            if request.layout.stripes.isEmpty, pools.contains(where: \.isConfigured) {
                throw Refusal(.stale)
            }
            guard request.layout.stripes.allSatisfy({ isPlausible($0) }) else {
                throw Refusal(.invalid)
            }
            stripes.layout = request.layout
        } else {
            guard let choice = chooseStripes(asked: request.stripeCount) else { return nil }
            stripes = choice
        }
        var inode = Inode.regular(
            mode: request.mode, layout: stripes.layout, time: request.time)
        inode.version = transno
        var reply = try grant(
            request, client: client, isReplay: isReplay, file: fresh.file, inode: inode)
        reply.wasCreated = true
        // Nothing below refuses: memory may change.
        if isNamed {
            for stripe in stripes.layout.stripes { takeReplayed(stripe, into: &transaction) }
        } else {
            take(stripes, into: &transaction)
        }
        nextFile = fresh.nextFile
        putNextFile(into: &transaction)
        parent.entryCount += 1
        parent.touch(request.time)
        put(inode, of: fresh.file, into: &transaction)
        put(parent, of: request.parent, into: &transaction)
        transaction.put(
            .dirents, key: Keys.entry(request.parent, request.name),
            value: Dirent(type: .regular, file: fresh.file).encoded)
        return reply
    }

    /// Enters the open. The last step that may refuse.
    private mutating func grant(
        _ request: OpenRequest, client: UInt32, isReplay: Bool, file: FileID, inode: Inode
    ) throws(Refusal) -> OpenReply {
        guard inode.type == .regular else { throw Refusal(.isDirectory) }
        let handle: UInt64
        if isReplay, request.handle != 0 {
            handle = request.handle
            try reopen(handle, file: file, client: client, flags: request.flags)
        } else {
            guard opens.count < configuration.openCountMax else {
                throw Refusal(.tooManyOpenFiles)
            }
            handle = nextHandle()
            opens.insert(handle: handle, file: file, client: client, flags: request.flags)
        }
        return OpenReply(
            handle: handle, wasCreated: false, attributes: inode.attributes(of: file),
            layout: inode.layout)
    }

    /// Enters an open under the handle that it had; one that is there already stays.
    private mutating func reopen(
        _ handle: UInt64, file: FileID, client: UInt32, flags: OpenFlags
    ) throws(Refusal) {
        if let open = opens.open(handle) {
            guard open.client == client, open.file == file else { throw Refusal(.badHandle) }
            opens.claim(handle)
        } else {
            opens.insert(handle: handle, file: file, client: client, flags: flags)
        }
    }

    private mutating func nextHandle() -> UInt64 {
        var handle: UInt64
        repeat {
            lastHandle &+= 1
            handle = (configuration.instance & 0xFFFF_FFFF) << 32 | UInt64(lastHandle)
        } while lastHandle == 0 || opens.open(handle) != nil
        return handle
    }

    mutating func openReplay<B: CommittedStore>(
        _ request: OpenReplayRequest, client: UInt32, in store: OverlayStore<B>
    ) throws(Refusal) {
        guard request.handle != 0 else { throw Refusal(.badHandle) }
        guard let found = try find(request.file, in: store) else { throw Refusal(.stale) }
        guard found.inode.type == .regular else { throw Refusal(.isDirectory) }
        try reopen(
            request.handle, file: request.file, client: client, flags: request.flags)
    }

    mutating func close<B: CommittedStore>(
        _ request: CloseRequest, client: UInt32, isReplay: Bool, in store: OverlayStore<B>,
        into transaction: inout Transaction
    ) throws(Refusal) {
        guard let open = opens.open(request.handle) else {
            // The handle went with the last instance: that it is gone is all a close wants.
            if isReplay { return }
            throw Refusal(.badHandle)
        }
        guard open.client == client, open.file == request.file else {
            throw Refusal(.badHandle)
        }
        try end(open, in: store, into: &transaction)
    }

    /// Takes an open away, and its file where it stayed for this open only.
    private mutating func end<B: CommittedStore>(
        _ open: OpenTable.Open, in store: OverlayStore<B>, into transaction: inout Transaction
    ) throws(Refusal) {
        if !isRecovering, opens.openCount(open.file) == 1,
            let bytes = store.read(.orphans, Keys.file(open.file))
        {
            guard let inode = Inode(decoding: bytes) else { throw Refusal(.ioError) }
            transaction.delete(.orphans, key: Keys.file(open.file))
            logDestroys(of: inode, into: &transaction)
        }
        _ = opens.remove(open.handle)
    }

    // MARK: - Clients

    /// What the client has open, to be closed after its disconnect or eviction.
    public func openHandles(of client: UInt32) -> [UInt64] { opens.handles(of: client) }

    /// Closes opens whose client is gone; those that are closed already are passed over.
    public mutating func end<B: CommittedStore>(
        _ handles: some Sequence<UInt64>, in store: OverlayStore<B>
    ) -> Transaction {
        endAll(handles, in: store)
    }

    private mutating func endAll<B: CommittedStore>(
        _ handles: some Sequence<UInt64>, in store: OverlayStore<B>
    ) -> Transaction {
        var transaction = Transaction()
        for handle in handles {
            guard let open = opens.open(handle) else { continue }
            do throws(Refusal) {
                try end(open, in: store, into: &transaction)
            } catch {
                // A record that cannot be read keeps its row; the open goes all the same.
                _ = opens.remove(handle)
            }
        }
        return transaction
    }

    // MARK: - Hand-over

    /// What the clean record promises: every open, reserved ones included, by handle.
    public func openReservations() -> [OpenReservation] {
        opens.all.map {
            OpenReservation(
                client: $0.client, file: $0.file, handle: $0.handle, flags: $0.flags)
        }
    }

    /// Takes the promises of a clean record over, under the export indices of this run. Files stay
    /// until `openReplay` claims them or `dropReservations` gives them up.
    public mutating func install(_ reservations: [OpenReservation]) {
        for reservation in reservations where opens.open(reservation.handle) == nil {
            opens.insert(
                handle: reservation.handle, file: reservation.file, client: reservation.client,
                flags: reservation.flags, isReserved: true)
        }
    }

    /// Closes what was reserved for the client and not claimed.
    public mutating func dropReservations<B: CommittedStore>(
        of client: UInt32, in store: OverlayStore<B>
    ) -> Transaction {
        endAll(opens.handles(of: client, reservedOnly: true), in: store)
    }

    // MARK: - Recovery

    /// Clients come back and say what they had: nothing is destroyed meanwhile.
    public mutating func recoveryStarted() { isRecovering = true }

    /// Everybody who comes back is back: files without a name that nobody has open may go. Also
    /// right after a clean start, when reservations are installed. `removeOrphans` follows.
    public mutating func recoveryFinished() { isRecovering = false }

    /// Removes files without a name that nobody has open, looking at no more than `countMax` of
    /// them from `key` on (empty for the first).
    ///
    /// - Returns: what to apply, and where to go on; nil at the end.
    public func removeOrphans<B: CommittedStore>(
        from key: [UInt8], countMax: Int, in store: OverlayStore<B>
    ) -> (transaction: Transaction, next: [UInt8]?) {
        var transaction = Transaction()
        var seen = 0
        var next: [UInt8]?
        store.scan(.orphans, from: key) { key, value in
            guard seen < countMax else {
                next = key
                return false
            }
            seen += 1
            if let file = Keys.file(in: key), opens.openCount(file) == 0,
                let inode = Inode(decoding: value)
            {
                transaction.delete(.orphans, key: key)
                logDestroys(of: inode, into: &transaction)
            }
            return true
        }
        return (transaction, next)
    }
}
