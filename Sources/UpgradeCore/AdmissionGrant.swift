public import WireFormat

extension UpgradeEpoch {
    /// How the grant of an admission lock says which upgrades it lifts: in the value block of the
    /// completion AST, which an admission lock has no other use for.
    public var asValueBlock: OSTLVB {
        var block = OSTLVB()
        block.size = instance
        block.blocks = counter
        return block
    }

    /// What `asValueBlock` wrote; a block of zeros is `.none`.
    public init(grantedIn block: OSTLVB) {
        self.init(instance: block.size, counter: block.blocks)
    }
}
