/// One upgrade as its clients saw it, in ms since the order: what the report draws as bars.
struct UpgradeTimeline: Codable, Sendable {
    /// One client's stamps; nil what it did not have.
    struct Client: Codable, Sendable {
        var gateShut: Double?
        var receiptGiven: Double?
        var committed: Double?
        var disconnected: Double?
        var reconnected: Double?
        var gateOpened: Double?
        /// When the first operation had to wait.
        var firstWaited: Double?
        var firstUpdate: Double?
    }

    var name: String
    var scheme: String
    var clients: [Client]
    /// Operations that ended in each interval of `intervalMs`, from `fromMs` on.
    var throughput: [Int]
    var fromMs: Double
    var intervalMs: Double
}
