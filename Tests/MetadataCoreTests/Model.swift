import MetadataCore
import WireFormat

/// The file system as dictionaries: what the service is checked against.
struct Model {
    struct Node {
        var type: FileType
        var mode: UInt32
        /// Of a file: its names.
        var names = 1
        var modified: Timestamp
        var changed: Timestamp
        var accessed: Timestamp
        var created: Timestamp
        var children: [String: FileID] = [:]
        var layout: FileLayout = .none

        init(type: FileType, mode: UInt32, time: Timestamp, layout: FileLayout = .none) {
            self.type = type
            self.mode = mode
            modified = time
            changed = time
            accessed = time
            created = time
            self.layout = layout
        }
    }

    struct Open {
        var client: UInt32
        var file: FileID
    }

    var nodes: [FileID: Node] = [
        .root: Node(type: .directory, mode: 0o755, time: .zero)
    ]
    var opens: [UInt64: Open] = [:]
    /// Objects of files that are gone.
    var destroyed: Set<ObjectName> = []

    func attributes(_ file: FileID) -> FileAttributes? {
        guard let node = nodes[file] else { return nil }
        let subdirectories = node.children.values.count { nodes[$0]?.type == .directory }
        let links = node.type == .directory ? 2 + subdirectories : node.names
        return FileAttributes(
            file: file, type: node.type, mode: node.mode, linkCount: UInt32(links),
            modified: node.modified, changed: node.changed,
            entryCount: UInt64(node.children.count), accessed: node.accessed,
            created: node.created)
    }

    private func isBelow(_ file: FileID, _ top: FileID) -> Bool {
        file == top || nodes[top]!.children.values.contains { isBelow(file, $0) }
    }

    private mutating func touch(_ file: FileID, _ time: Timestamp) {
        nodes[file]!.modified = time
        nodes[file]!.changed = time
    }

    private func directoryStatus(_ file: FileID) -> Status {
        guard let node = nodes[file] else { return .noEntry }
        return node.type == .directory ? .ok : .notDirectory
    }

    private mutating func destroyIfUnused(_ file: FileID) {
        guard let node = nodes[file], node.names == 0,
            !opens.values.contains(where: { $0.file == file })
        else { return }
        destroyed.formUnion(node.layout.stripes.map(\.object))
        nodes[file] = nil
    }

    private func replaceStatus(_ old: FileID, by type: FileType) -> Status {
        let node = nodes[old]!
        if node.type != type { return type == .directory ? .notDirectory : .isDirectory }
        return node.children.isEmpty ? .ok : .notEmpty
    }

    private mutating func drop(_ file: FileID, _ time: Timestamp) {
        if nodes[file]!.type == .directory {
            nodes[file] = nil
        } else {
            nodes[file]!.names -= 1
            nodes[file]!.changed = time
            destroyIfUnused(file)
        }
    }

    mutating func clientGone(_ client: UInt32) {
        for (handle, open) in opens where open.client == client {
            opens[handle] = nil
            destroyIfUnused(open.file)
        }
    }

    /// The status that is due; where it is ok, the effect, with the ids that the reply gave.
    mutating func execute(_ request: RequestBody, client: UInt32, reply: ReplyBody) -> Status {
        switch request {
        case .getattr(let file):
            return nodes[file] == nil ? .noEntry : .ok
        case .setattr(let setattr):
            guard let node = nodes[setattr.file] else { return .noEntry }
            let later = Timestamp(
                seconds: node.changed.seconds, nanoseconds: node.changed.nanoseconds + 1)
            nodes[setattr.file]!.changed = max(
                later, setattr.time ?? setattr.modified ?? .zero)
            if let accessed = setattr.accessed { nodes[setattr.file]!.accessed = accessed }
            if let mode = setattr.mode { nodes[setattr.file]!.mode = mode }
            if let modified = setattr.modified { nodes[setattr.file]!.modified = modified }
        case .mkdir(let mkdir):
            let status = directoryStatus(mkdir.parent)
            if status != .ok { return status }
            if nodes[mkdir.parent]!.children[mkdir.name.text] != nil { return .exists }
            guard case .attributes(let body) = reply else { return .ok }
            nodes[body.attributes.file] = Node(
                type: .directory, mode: mkdir.mode, time: mkdir.time)
            nodes[mkdir.parent]!.children[mkdir.name.text] = body.attributes.file
            touch(mkdir.parent, mkdir.time)
        case .open(let open):
            let status = directoryStatus(open.parent)
            if status != .ok { return status }
            let existing = nodes[open.parent]!.children[open.name.text]
            if let existing {
                if open.flags.contains(.create), open.flags.contains(.exclusive) {
                    return .exists
                }
                if nodes[existing]!.type == .directory { return .isDirectory }
            } else if !open.flags.contains(.create) {
                return .noEntry
            }
            guard case .open(let body) = reply else { return .ok }
            if existing == nil {
                nodes[body.attributes.file] = Node(
                    type: .regular, mode: open.mode, time: open.time, layout: body.layout)
                nodes[open.parent]!.children[open.name.text] = body.attributes.file
                touch(open.parent, open.time)
            }
            opens[body.handle] = Open(
                client: client, file: existing ?? body.attributes.file)
        case .close(let close):
            guard let open = opens[close.handle], open.client == client,
                open.file == close.file
            else { return .badHandle }
            opens[close.handle] = nil
            destroyIfUnused(close.file)
        case .unlink(let unlink):
            var status = directoryStatus(unlink.parent)
            if status != .ok { return status }
            guard let file = nodes[unlink.parent]!.children[unlink.name.text] else {
                return .noEntry
            }
            status = replaceStatus(file, by: unlink.isDirectory ? .directory : .regular)
            if status != .ok { return status }
            nodes[unlink.parent]!.children[unlink.name.text] = nil
            touch(unlink.parent, unlink.time)
            drop(file, unlink.time)
        case .rename(let rename):
            return move(rename)
        case .link(let link):
            let status = directoryStatus(link.parent)
            if status != .ok { return status }
            guard let node = nodes[link.file], node.type == .directory || node.names > 0 else {
                return .noEntry
            }
            if node.type == .directory { return Status(rawValue: -1) }
            if nodes[link.parent]!.children[link.name.text] != nil { return .exists }
            nodes[link.parent]!.children[link.name.text] = link.file
            nodes[link.file]!.names += 1
            nodes[link.file]!.changed = max(node.changed, link.time)
            touch(link.parent, link.time)
        default:
            return .notSupported
        }
        return .ok
    }

    private mutating func move(_ rename: RenameRequest) -> Status {
        for parent in [rename.sourceParent, rename.targetParent] {
            let status = directoryStatus(parent)
            if status != .ok { return status }
        }
        guard let moved = nodes[rename.sourceParent]!.children[rename.sourceName.text] else {
            return .noEntry
        }
        let old = nodes[rename.targetParent]!.children[rename.targetName.text]
        if old == moved { return .ok }
        if nodes[moved]!.type == .directory, isBelow(rename.targetParent, moved) {
            return .invalid
        }
        if let old {
            let status = replaceStatus(old, by: nodes[moved]!.type)
            if status != .ok { return status }
        }
        nodes[rename.sourceParent]!.children[rename.sourceName.text] = nil
        nodes[rename.targetParent]!.children[rename.targetName.text] = moved
        touch(rename.sourceParent, rename.time)
        touch(rename.targetParent, rename.time)
        nodes[moved]!.changed = rename.time
        if let old { drop(old, rename.time) }
        return .ok
    }
}
