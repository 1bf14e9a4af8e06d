/// One system that is measured in every round: ours, a bare socket, or somebody else's.
struct PeerSeries {
    var name: String
    var unit: BenchResult.Unit
    var parameters: [String: String]
    /// What differs from ours in the work that is done.
    var remark: String?
    /// Our series that it stands beside, and what is compared.
    var against: String?
    var statistic = "p50"
    var bound: Double?
    var sense = BenchResult.Ratio.Sense.atMost
    var measure: () async throws -> BenchResult.Run

    /// Not ours: a failure leaves it out.
    var isPeer: Bool { against != nil }
}
