public import WireFormat

/// Over which of its NIDs a node is reached, and the line that says why.
public struct FabricDecision: Sendable, Equatable {
    /// Of those that were asked about; RDMA first.
    public var nids: [NID]
    /// For the log: what was taken, and why not the rest.
    public var line: String

    /// Decides for a node's own NIDs. Soft-RoCE devices are made by `make`, which returns why not.
    ///
    /// With `auto` a NID on RDMA that cannot be used is left out where one on TCP remains.
    public static func make(
        _ wish: FabricWish, nids: [NID], survey: FabricSurvey,
        make create: (_ interface: String) -> String?
    ) throws(FabricRefusal) -> FabricDecision {
        var taken: [NID] = []
        var says: [String] = []
        var refusals: [String] = []
        let rdma = nids.filter { $0.type == .o2ib }
        let tcp = nids.filter { $0.type == .tcp }
        if wish != .tcp {
            for nid in rdma {
                switch outcome(nid, survey, create) {
                case .success(let words):
                    taken.append(nid)
                    says.append("verbs for \(nid) (\(words))")
                case .failure(let refusal):
                    guard wish == .auto else {
                        throw FabricRefusal("--fabric verbs: \(nid): \(refusal)")
                    }
                    refusals.append("not verbs for \(nid): \(refusal)")
                }
            }
            if rdma.isEmpty {
                let why = tcp.first.map { absence(of: $0, survey) } ?? "none is named"
                guard wish == .auto else {
                    throw FabricRefusal("--fabric verbs: no NID is on an o2ib network: \(why)")
                }
                refusals.append("not verbs: no NID is on an o2ib network; \(why)")
            }
        } else {
            refusals += rdma.map { "not verbs for \($0): --fabric tcp" }
        }
        if wish != .verbs {
            taken += tcp
            says += tcp.map { "tcp for \($0)" }
        } else {
            refusals += tcp.map { "not tcp for \($0): --fabric verbs" }
        }
        guard !taken.isEmpty else {
            let why = refusals.isEmpty ? "no NID is given" : refusals.joined(separator: "; ")
            throw FabricRefusal(
                "--fabric \(wish.rawValue): nothing is left to be reached by: \(why)")
        }
        let line = "fabric \(wish.rawValue): " + (says + refusals).joined(separator: "; ")
        return FabricDecision(nids: taken, line: line)
    }

    private static func outcome(
        _ nid: NID, _ survey: FabricSurvey, _ create: (String) -> String?
    ) -> Result<String, FabricRefusal> {
        switch survey.verdict(on: nid.address) {
        case .usable(let device, let driver): return .success("\(device), \(driver.words)")
        case .unusable(let why): return .failure(FabricRefusal(why))
        case .creatable(let interface):
            if let why = create(interface) {
                return .failure(FabricRefusal("soft-RoCE on \(interface) was not made: \(why)"))
            }
            return .success("soft-RoCE made on \(interface)")
        }
    }

    /// What RDMA there would be for a node that only has a NID on TCP.
    private static func absence(of nid: NID, _ survey: FabricSurvey) -> String {
        switch survey.verdict(on: nid.address) {
        case .usable(let device, _):
            "\(device) has that address: name \(NID(address: nid.address, type: .o2ib)) to use it"
        case .creatable(let interface):
            "soft-RoCE would be made on \(interface) for "
                + "\(NID(address: nid.address, type: .o2ib))"
        case .unusable(let why): why
        }
    }
}
