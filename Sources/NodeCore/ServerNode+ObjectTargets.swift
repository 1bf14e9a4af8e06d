import PtlRPCCore
import ClientCore
import LDLMCore
import LNetCore
import MetadataCore
import ObjectCore
import Primitives
import StorageCore
import UpgradeCore
import WireFormat

/// A metadata server as a client of its object servers: objects ahead of need, and their end.
///
/// Every update that it sends is committed there before the reply, or stands in its own log: it
/// never has anything to replay that its own store does not know.
extension ServerNode {
    mutating func withClient(_ body: (inout ClientCore, inout LNetCore) -> Void) {
        // In its place: a copy of the core would count a reference for each of its tables.
        if client != nil { body(&client!, &lnet) }
    }

    private static let createKind: UInt64 = 1
    private static let destroyKind: UInt64 = 2

    /// Asks for objects where pools run low, and destroys what the log says.
    mutating func housekeep(now: Ticks) {
        guard !isRecovering, !isSealed, !isStopped, client != nil, store != nil,
            case .metadata(var metadata) = service
        else { return }
        // Neither the service nor the store may be shared while one of them is changed: this is done
        // with every step, and would copy their arrays.
        service = .object(ObjectService(targetIndex: 0))
        while precreates.count < configuration.objectTargets.count {
            precreates.append(nil)
            destroys.append([])
        }
        for (place, target) in configuration.objectTargets.enumerated() {
            metadata.setTargetUsable(target.index, client!.isGateOpen(place))
        }
        var requests: [PrecreateRequest] = []
        var transaction = metadata.precreate(in: store!, requests: &requests)
        var isLookingAtLog = false
        if !waitingForObjects.isEmpty {
            nextHousekeeping = min(nextHousekeeping, now + .milliseconds(50))
        }
        if nextHousekeeping <= now {
            nextHousekeeping = now + .milliseconds(50)
            isLookingAtLog = true
        }
        service = .metadata(metadata)
        if !transaction.isEmpty {
            apply(&transaction, now: now)
            wantsCommit = true
        }
        for request in requests {
            guard let place = place(of: request.targetIndex) else { continue }
            precreates[place] = request
            submit(
                place,
                .objectCreate(
                    ObjectCreateRequest(first: request.first, count: request.count)),
                kind: Self.createKind, now: now)
        }
        let usable = configuration.objectTargets.indices.count { client!.isGateOpen($0) }
        if !waitingForObjects.isEmpty, usable != usableCount || isLookingAtLog {
            retryWaiting(now: now)
        }
        usableCount = usable
        guard isLookingAtLog else { return }
        for (place, target) in configuration.objectTargets.enumerated()
        where destroys[place].isEmpty && client!.isGateOpen(place) {
            guard case .metadata(let metadata) = service else { return }
            let objects = metadata.pendingDestroys(
                targetIndex: target.index, limit: ObjectDestroyRequest.countMax, in: store!)
            guard !objects.isEmpty else { continue }
            destroys[place] = objects
            submit(
                place, .objectDestroy(ObjectDestroyRequest(objects: objects)),
                kind: Self.destroyKind, now: now)
        }
        // Nothing is left to do and everybody is there: the next commit says when there is.
        if usable == configuration.objectTargets.count, waitingForObjects.isEmpty,
            destroys.allSatisfy(\.isEmpty)
        {
            nextHousekeeping = now + .seconds(1)
        }
    }

    private func place(of targetIndex: UInt32) -> Int? {
        configuration.objectTargets.firstIndex { $0.index == targetIndex }
    }

    private mutating func submit(
        _ place: Int, _ body: RequestBody, kind: UInt64, now: Ticks
    ) {
        let wall = wall
        withClient { client, lnet in
            client.submit(
                .raw(target: place, body), cookie: UInt64(place) << 8 | kind, wall: wall,
                lnet: &lnet, now: now)
        }
    }

    /// What came of requests to object servers. True where there was something.
    mutating func handleClientEvents(now: Ticks) -> Bool {
        var wasBusy = false
        while let event = client?.events.popFirst() {
            wasBusy = true
            switch event {
            case .completed(let cookie, let result):
                let place = Int(cookie >> 8)
                if cookie & 0xFF == Self.createKind {
                    created(place, result, now: now)
                } else {
                    destroyed(place, result, now: now)
                }
            case .evicted(let place):
                log(.fault("evicted by \(configuration.objectTargets[place].name)"))
            case .refused(let place, let status):
                log(.fault("\(configuration.objectTargets[place].name) refuses: \(status)"))
            case .connected:
                nextHousekeeping = now
            case .acknowledged, .stamp, .disconnected, .writeLost, .updateLost, .unmounted:
                break
            }
        }
        return wasBusy
    }

    private mutating func created(
        _ place: Int, _ result: Result<FileResult, OperationError>, now: Ticks
    ) {
        guard let request = precreates[place], case .metadata(var metadata) = service else {
            return
        }
        precreates[place] = nil
        if case .success = result {
            metadata.objectsAvailable(
                targetIndex: request.targetIndex, first: request.first, count: request.count)
        } else {
            metadata.precreateFailed(targetIndex: request.targetIndex)
        }
        service = .metadata(metadata)
        retryWaiting(now: now)
    }

    /// A create finds no object. From the announcement on it goes back to its client's gate: the
    /// object server may be waiting in the same plan, and nobody prepares while a request is out.
    mutating func waitForObjects(_ request: ServerRequest, now: Ticks) {
        guard locks.isSuspended, !request.isReplay else {
            waitingForObjects.append(request)
            return
        }
        rpc.refuse(
            request.token, .inProgress, trailer: upgrade.trailer(for: request.export),
            lnet: &lnet, now: now)
    }

    mutating func refuseAllWaiting(now: Ticks) {
        let waiting = waitingForObjects
        waitingForObjects = []
        for request in waiting where rpc.isCurrent(request.token) {
            waitForObjects(request, now: now)
        }
    }

    /// Creates that found no object try again.
    private mutating func retryWaiting(now: Ticks) {
        let waiting = waitingForObjects
        waitingForObjects = []
        for request in waiting where rpc.isCurrent(request.token) {
            executeUpdate(request, now: now)
        }
    }

    private mutating func destroyed(
        _ place: Int, _ result: Result<FileResult, OperationError>, now: Ticks
    ) {
        let objects = destroys[place]
        destroys[place] = []
        guard case .success = result, case .metadata(let metadata) = service, !isSealed else {
            return
        }
        var transaction = metadata.destroyed(
            targetIndex: configuration.objectTargets[place].index, objects: objects)
        apply(&transaction, now: now)
    }
}
