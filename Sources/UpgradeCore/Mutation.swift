/// Rules that a test can switch off, to prove that its checks notice. Empty in every product.
package struct Mutation: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The target executes updates of clients without a granted admission lock.
    package static let targetDoesNotCheck = Mutation(rawValue: 1 << 0)
    /// A reconnecting client that still holds its lock is put to wait: counted as prepared.
    package static let reconnectWaitsAgain = Mutation(rawValue: 1 << 1)
    /// The target takes back what it has told as committed.
    package static let abortOutOfCommitted = Mutation(rawValue: 1 << 2)
    /// Clients are told before the clean record is on disk.
    package static let tellBeforeDisk = Mutation(rawValue: 1 << 3)
    /// The target goes on executing after the seal.
    package static let executeAfterSeal = Mutation(rawValue: 1 << 4)
    /// A client left behind is counted absent, but keeps its lock.
    package static let countWithoutFencing = Mutation(rawValue: 1 << 5)
    /// The client empties its replay list after any restart of the target.
    package static let purgeOnAnyRestart = Mutation(rawValue: 1 << 6)
    /// The client opens its gate by its own clock.
    package static let clientOpensByTime = Mutation(rawValue: 1 << 7)
    /// The client obeys grants of upgrades older than the one it knows.
    package static let anyGrantOpens = Mutation(rawValue: 1 << 8)
    /// The client obeys notices of upgrades that are over.
    package static let anyNoticeShuts = Mutation(rawValue: 1 << 9)
    /// The client forgets a notice that overtakes the grant.
    package static let forgetEarlyNotice = Mutation(rawValue: 1 << 10)
    /// The client gives its receipt while requests are in flight.
    package static let receiptBeforeDrained = Mutation(rawValue: 1 << 11)
    /// The target seals as soon as it has the exclusive lock.
    package static let sealBeforeBacklog = Mutation(rawValue: 1 << 12)
    /// The target lets no upgrade expire.
    package static let neverExpires = Mutation(rawValue: 1 << 13)
}
