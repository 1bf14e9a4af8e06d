/// What kind of resource and which: `struct ldlm_resource_desc`, 40 bytes.
///
/// | offset | size | field |
/// |-------:|-----:|-------|
/// |      0 |    4 | type  |
/// |      4 |    4 | zero  |
/// |      8 |   32 | name  |
@frozen
public struct ResourceDescriptor: Hashable, Sendable, BitwiseCopyable {
    public var type: LockType
    public var id: ResourceID

    @inlinable
    public init(type: LockType, id: ResourceID) {
        self.type = type
        self.id = id
    }

    /// Bytes on the wire.
    public static let encodedSize = 40

    public static func decode(
        from reader: inout WireReader
    ) throws(WireError) -> ResourceDescriptor {
        let type = LockType(rawValue: try reader.u32())
        switch type {
        case .none, .plain, .extent, .flock, .inodeBits: break
        default: throw .badValue(field: "lr_type", value: UInt64(type.rawValue))
        }
        _ = try reader.u32()
        return ResourceDescriptor(type: type, id: try .decode(from: &reader))
    }

    public func encode(into writer: inout WireWriter) {
        writer.u32(type.rawValue)
        writer.u32(0)
        id.encode(into: &writer)
    }
}

/// A lock as a peer sees it: `struct ldlm_lock_desc`, 80 bytes.
///
/// | offset | size | field                             |
/// |-------:|-----:|-----------------------------------|
/// |      0 |   40 | resource                          |
/// |     40 |    4 | requested mode, 0 for none        |
/// |     44 |    4 | granted mode, 0 while not granted |
/// |     48 |   32 | policy                            |
@frozen
public struct LockDescriptor: Hashable, Sendable, BitwiseCopyable {
    public var resource: ResourceDescriptor
    public var requestedMode: LockMode?
    public var grantedMode: LockMode?
    public var policy: LockPolicy

    /// A description of a lock on `resource`; its type follows from the policy.
    public init(
        resource: ResourceID, requestedMode: LockMode, grantedMode: LockMode? = nil,
        policy: LockPolicy
    ) {
        self.resource = ResourceDescriptor(type: policy.type, id: resource)
        self.requestedMode = requestedMode
        self.grantedMode = grantedMode
        self.policy = policy
    }

    private init(nothing: Void) {
        resource = ResourceDescriptor(type: .none, id: ResourceID(0))
        requestedMode = nil
        grantedMode = nil
        policy = .plain
    }

    /// All zero: what a cancel carries.
    public static let none = LockDescriptor(nothing: ())

    /// Bytes on the wire.
    public static let encodedSize = 80

    public static func decode(from reader: inout WireReader) throws(WireError) -> LockDescriptor {
        var descriptor = LockDescriptor.none
        descriptor.resource = try .decode(from: &reader)
        descriptor.requestedMode = try mode(reader.u32(), field: "l_req_mode")
        descriptor.grantedMode = try mode(reader.u32(), field: "l_granted_mode")
        descriptor.policy = try .decode(from: &reader, type: descriptor.resource.type)
        return descriptor
    }

    private static func mode(_ raw: UInt32, field: String) throws(WireError) -> LockMode? {
        if raw == 0 { return nil }
        guard let mode = LockMode(rawValue: raw) else {
            throw .badValue(field: field, value: UInt64(raw))
        }
        return mode
    }

    public func encode(into writer: inout WireWriter) {
        resource.encode(into: &writer)
        writer.u32(requestedMode?.rawValue ?? 0)
        writer.u32(grantedMode?.rawValue ?? 0)
        policy.encode(into: &writer)
    }
}
