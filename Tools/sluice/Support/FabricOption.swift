public import ArgumentParser
public import Fabric
import NodeRuntime
import WireFormat

extension FabricWish: ExpressibleByArgument {}

/// `--fabric`, the same for every command that sends.
struct FabricOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "auto: RDMA (verbs) for NIDs on o2ib where it can be had, else TCP, and says why; "
                + "verbs or tcp: only that, or fails with the reason.", valueName: "fabric"))
    var fabric = FabricWish.auto

    /// Which of a node's own NIDs are used. Makes a soft-RoCE device where that is missing.
    func decide(_ nids: [NID]) throws -> FabricDecision {
        let addresses = Dictionary(nids.map { ($0, $0.address) }) { first, _ in first }
        do {
            return try FabricDecision.make(fabric, nids: nids, survey: .take()) { interface in
                let nid = nids.first { nid in
                    FabricSurvey.take().address(addresses[nid] ?? 0)?.interface == interface
                }
                return SoftLink.bringUp(on: interface, address: nid?.address ?? 0)
            }
        } catch {
            throw Failure("\(error); see sluice fabric and sluice doctor")
        }
    }
}

extension ClusterDescription {
    /// As those see it who are on some networks only: without the other NIDs, RDMA first.
    ///
    /// Throws where that leaves a target without any.
    func reached(from nids: [NID]) throws -> ClusterDescription {
        var reached = self
        for place in targets.indices {
            let own = targets[place].nids.filter { nid in
                nids.contains { $0.network == nid.network }
            }
            guard !own.isEmpty else {
                let theirs = targets[place].nids.map(\.description).joined(separator: ", ")
                let ours = nids.map(\.description).joined(separator: ", ")
                throw Failure(
                    "\(targets[place].name) (\(theirs)) is on no network of \(ours): name a NID "
                        + "there, or another --fabric")
            }
            reached.targets[place].nids =
                own.filter { $0.type == .o2ib } + own.filter { $0.type != .o2ib }
        }
        return reached
    }
}
