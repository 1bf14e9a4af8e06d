internal import CFabric
internal import EventLoop

/// An RDMA device that connections use, with everything of it that they share.
@safe
final class VerbsDevice {
    // SAFETY: valid from `init` to `destroy`, which the transport calls once, after the queue
    // pairs on the device are gone.
    let domainHandle: OpaquePointer
    private let channel: OpaquePointer
    private let messageRegion: OpaquePointer
    private let bulkRegion: OpaquePointer
    /// The device as libibverbs has it; owned by librdmacm.
    let context: OpaquePointer
    let queue: OpaquePointer
    let receives: OpaquePointer
    /// Receive buffers, then send buffers.
    private let memory: UnsafeMutableRawPointer

    let name: String
    let channelDescriptor: Int32
    let eventDescriptor: Int32
    let receiveCount: Int
    let sendCount: Int
    let messageBytes: Int
    let messageKey: UInt32
    let bulkKey: UInt32
    let bulkRemoteKey: UInt32
    let sendEntriesMax: UInt32
    /// Send buffers that are free.
    var freeSends: [Int32]
    /// The channel signals the next completion.
    var isArmed = false
    /// The channel has signalled, and the signal is not taken yet.
    var isSignalled = false
    /// The device is going away: no new connection is made on it.
    var isFailing = false
    var pairCount = 0

    init(
        _ context: OpaquePointer, options: VerbsTransport.Options,
        bulk: UnsafeMutableRawPointer, bulkBytes: Int
    ) throws(FabricError) {
        unsafe self.context = context
        var nameBuffer = [CChar](repeating: 0, count: 64)
        _ = unsafe nameBuffer.withUnsafeMutableBufferPointer { buffer in
            // SAFETY: the shim writes at most `count` bytes and ends them with a zero.
            unsafe fabric_device_name(context, buffer.baseAddress!, buffer.count)
        }
        name = String(
            decoding: nameBuffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var limits = fabric_device_limits()
        try FabricError.check(
            unsafe fabric_device_limits(context, &limits), "ibv_query_device")
        receiveCount = min(options.receiveBuffers, Int(limits.receives_max))
        sendCount = options.sendBuffers
        messageBytes = options.messageBytes
        sendEntriesMax = min(options.sendEntries, limits.pair_work_max)
        freeSends = (0..<Int32(sendCount)).reversed()

        try FabricError.check(unsafe fabric_device_begin_use(context), "ibv_open_device")
        var domain: OpaquePointer?
        try FabricError.check(unsafe fabric_domain_create(context, &domain), "ibv_alloc_pd")
        unsafe domainHandle = domain!
        var channel: OpaquePointer?
        try FabricError.check(
            unsafe fabric_channel_create(context, &channel), "ibv_create_comp_channel")
        unsafe self.channel = channel!
        channelDescriptor = try FabricError.check(
            unsafe fabric_channel_descriptor(channel!), "fcntl")
        eventDescriptor = try FabricError.check(
            unsafe fabric_device_descriptor(context), "fcntl")
        var queue: OpaquePointer?
        let entries = min(options.completions, Int(limits.queue_entries_max))
        try FabricError.check(
            unsafe fabric_queue_create(context, Int32(entries), channel!, &queue),
            "ibv_create_cq")
        unsafe self.queue = queue!
        var receives: OpaquePointer?
        try FabricError.check(
            unsafe fabric_receives_create(domain!, UInt32(receiveCount), &receives),
            "ibv_create_srq")
        unsafe self.receives = receives!

        let byteCount = (receiveCount + sendCount) * messageBytes
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: byteCount, alignment: 4096)
        // Read by the device from the first post on: never what was there before.
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        unsafe self.memory = memory
        var region: OpaquePointer?
        var unused: UInt32 = 0
        var key: UInt32 = 0
        try FabricError.check(
            unsafe fabric_region_register(domain!, memory, byteCount, 0, &region, &key, &unused),
            "ibv_reg_mr")
        unsafe messageRegion = region!
        messageKey = key
        var bulkRegion: OpaquePointer?
        var bulkKey: UInt32 = 0
        var bulkRemoteKey: UInt32 = 0
        try FabricError.check(
            unsafe fabric_region_register(
                domain!, bulk, bulkBytes, 1, &bulkRegion, &bulkKey, &bulkRemoteKey),
            "ibv_reg_mr")
        unsafe self.bulkRegion = bulkRegion!
        self.bulkKey = bulkKey
        self.bulkRemoteKey = bulkRemoteKey
        try postReceives(Array(0..<Int32(receiveCount)))
    }

    /// Frees everything. No queue pair may be left on the device.
    func destroy() {
        _ = unsafe fabric_receives_destroy(receives)
        _ = unsafe fabric_queue_destroy(queue)
        _ = unsafe fabric_channel_destroy(channel)
        _ = unsafe fabric_region_deregister(messageRegion)
        _ = unsafe fabric_region_deregister(bulkRegion)
        _ = unsafe fabric_domain_destroy(domainHandle)
        unsafe fabric_device_end_use(context)
        unsafe memory.deallocate()
    }

    /// The bit that tells a receive's completion from a send's.
    static let receiveBit: UInt64 = 1 << 63

    func postReceives(_ buffers: [Int32]) throws(FabricError) {
        var index = 0
        while index < buffers.count {
            let count = min(64, buffers.count - index)
            var ids = InlineArray<64, UInt64>(repeating: 0)
            var addresses = InlineArray<64, UInt64>(repeating: 0)
            for place in 0..<count {
                let buffer = buffers[index + place]
                ids[place] = Self.receiveBit | UInt64(buffer)
                addresses[place] = unsafe UInt64(UInt(bitPattern: receive(buffer)))
            }
            let status = unsafe ids.span.withUnsafeBufferPointer { ids in
                unsafe addresses.span.withUnsafeBufferPointer { addresses in
                    // SAFETY: both hold `count` elements, which are copied.
                    unsafe fabric_receives_post(
                        receives, ids.baseAddress!, addresses.baseAddress!, Int32(count),
                        UInt32(messageBytes), messageKey)
                }
            }
            try FabricError.check(status, "ibv_post_srq_recv")
            index += count
        }
    }

    /// SAFETY: the index is below the count of receive buffers; valid until `destroy`.
    func receive(_ index: Int32) -> UnsafeMutableRawPointer {
        precondition(index >= 0 && Int(index) < receiveCount, "a receive buffer of this device")
        return unsafe memory + Int(index) * messageBytes
    }

    /// SAFETY: the index is below the count of send buffers; valid until `destroy`.
    func send(_ index: Int32) -> UnsafeMutableRawPointer {
        precondition(index >= 0 && Int(index) < sendCount, "a send buffer of this device")
        return unsafe memory + (receiveCount + Int(index)) * messageBytes
    }

    /// Takes the channel's signal. There is one at most: the queue is armed again only afterwards.
    func takeSignal() {
        _ = unsafe fabric_channel_take(channel)
        isSignalled = false
        isArmed = false
    }
}
