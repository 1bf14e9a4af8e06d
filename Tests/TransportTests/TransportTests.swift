import EventLoop
import Foundation
import LNetCore
import Primitives
import TestSupport
import Testing
import VerbsTransport
import WireFormat

/// Which transports this machine has.
enum Beds {
    /// Addresses from the process number: tests of another build may run beside these.
    static let tcp: [NID] = {
        let process = UInt32(getpid())
        let network: UInt32 = 127 << 24 | (64 + process % 60) << 16 | (process / 60 % 250) << 8
        return [NID(address: network | 1, type: .tcp), NID(address: network | 2, type: .tcp)]
    }()

    /// Addresses of two RDMA ends that reach each other: those of `Tools/rxe-fabric`, or those
    /// that a variable names, separated by a comma.
    static func rdma(_ variable: String, _ standard: String?) -> [NID]? {
        let text = ProcessInfo.processInfo.environment[variable] ?? standard
        let nids = (text ?? "").split(separator: ",").compactMap { NID("\($0)@o2ib") }
        guard nids.count == 2 else { return nil }
        do {
            let loop = try EventLoop()
            var transport = try VerbsTransport(on: loop)
            for nid in nids { _ = try transport.listen(address: nid.address, port: 0, tag: 0) }
            return nids
        } catch {
            return nil
        }
    }

    static let rxe = rdma("SLUICE_RDMA_ADDRESSES", "10.77.0.1,10.77.0.2")
    static let siw = rdma("SLUICE_SIW_ADDRESSES", nil)
}

@Suite(.serialized) struct `A transport conforms` {
    @Test(arguments: Conformance.chosen, [1, 2, 3] as [UInt64])
    func `in memory`(check: Conformance, seed: UInt64) throws {
        try check.run { memory, configure in
            ShuttleBed(seed: seed, memoryBytes: memory, configure: configure)
        }
    }

    @Test(arguments: Conformance.chosen)
    func `over TCP`(check: Conformance) throws {
        try check.run { memory, configure in
            try LoopBed(Beds.tcp, name: "TCP", memoryBytes: memory, configure: configure)
        }
    }

    @Test(
        .enabled(
            if: RDMAFabric.isPromised || Beds.rxe != nil,
            "no RDMA device has 10.77.0.1 and .2: run in Tools/rxe-fabric"),
        arguments: Conformance.chosen)
    func `over verbs`(check: Conformance) throws {
        let ends = try #require(Beds.rxe)
        try check.run { memory, configure in
            try LoopBed(ends, name: "verbs", memoryBytes: memory, configure: configure)
        }
    }

    @Test(
        .enabled(
            if: Beds.siw != nil, "SLUICE_SIW_ADDRESSES names no two ends of siw: see the README"),
        arguments: Conformance.chosen)
    func `over siw`(check: Conformance) throws {
        try check.run { memory, configure in
            try LoopBed(Beds.siw!, name: "siw", memoryBytes: memory, configure: configure)
        }
    }
}
