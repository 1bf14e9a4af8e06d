public import StorageCore
public import WireFormat

/// Version-based recovery: what an update found, so that its replay finds the same or is refused.
///
/// Versions let a recovery cross the gap that a lost client leaves: what did not depend on the lost
/// updates is done again, what did is refused. They are told to the client with the reply and come
/// back in the replay; the store keeps only each file's own.
///
/// | update | told, in this order                                              |
/// |--------|------------------------------------------------------------------|
/// | mkdir  | parent; the name: absent                                         |
/// | open that creates | parent; the name: absent                              |
/// | unlink | parent; what the name stands for                                 |
/// | rename | source parent; target parent; what is moved; what is replaced    |
/// | link   | parent; the file; the name: absent                               |
/// | setattr of the mode | the file                                            |
/// | others | nothing: setting times, opening what is there and closing depend on no version |
///
/// A file's version is the update that made it or that changed its mode last. Creating and removing
/// entries does not change a directory's version, or two clients' creates in one directory would
/// depend on each other; what a name stands for is told instead. Object data has no versions: a
/// write says where and what, and does not depend on what was there.
extension MetadataService {
    /// What the update would find now; nothing for requests that depend on no version.
    public func versions<B: CommittedStore>(
        before request: RequestBody, in store: OverlayStore<B>
    ) -> PreVersions {
        switch request {
        case .mkdir(let mkdir):
            return PreVersions([
                version(of: mkdir.parent, in: store),
                version(of: mkdir.parent, mkdir.name, in: store),
            ])
        case .open(let open) where open.flags.contains(.create):
            let named = version(of: open.parent, open.name, in: store)
            // Opening what is there depends on the file being there, and a replay names it. One
            // that created a file carries its layout or its id.
            guard named == .absent || open.file != .none else { return PreVersions() }
            return PreVersions([version(of: open.parent, in: store), named])
        case .unlink(let unlink):
            return PreVersions([
                version(of: unlink.parent, in: store),
                version(of: unlink.parent, unlink.name, in: store),
            ])
        case .rename(let rename):
            return PreVersions([
                version(of: rename.sourceParent, in: store),
                version(of: rename.targetParent, in: store),
                version(of: rename.sourceParent, rename.sourceName, in: store),
                version(of: rename.targetParent, rename.targetName, in: store),
            ])
        case .link(let link):
            return PreVersions([
                version(of: link.parent, in: store),
                version(of: link.file, in: store),
                version(of: link.parent, link.name, in: store),
            ])
        case .setattr(let setattr) where setattr.mode != nil:
            return PreVersions([version(of: setattr.file, in: store)])
        default:
            return PreVersions()
        }
    }

    /// Whether a replay finds what its first execution found. Where nothing was told, as by a
    /// server or client that keeps no versions, nothing is compared.
    public static func isReplayable(told: PreVersions, found: PreVersions) -> Bool {
        (0..<PreVersions.count).allSatisfy {
            told[$0] == ObjectVersion.untold.rawValue || told[$0] == found[$0]
        }
    }

    private func version<B: CommittedStore>(
        of file: FileID, in store: OverlayStore<B>
    ) -> ObjectVersion {
        guard let found = try? find(file, in: store) else { return .absent }
        return ObjectVersion(found.inode.version)
    }

    private func version<B: CommittedStore>(
        of parent: FileID, _ name: FileName, in store: OverlayStore<B>
    ) -> ObjectVersion {
        guard let entry = try? dirent(parent, name, in: store) else { return .absent }
        return version(of: entry.file, in: store)
    }
}
