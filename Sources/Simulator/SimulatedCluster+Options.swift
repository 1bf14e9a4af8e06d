public import Primitives

extension SimulatedCluster {
    /// What the network and the disks do at random. "One in" of 0 is never.
    public struct Options: Sendable {
        /// One way, uniform between the two.
        public var latencyMin = TickInterval.microseconds(20)
        public var latencyMax = TickInterval.microseconds(200)
        /// From the order to commit a group to its end, uniform between the two.
        public var commitMin = TickInterval.milliseconds(1)
        public var commitMax = TickInterval.milliseconds(10)
        /// Once in so many deliveries a byte stream is cut into single pieces.
        public var splitOneIn: UInt64 = 20
        /// Once in so many deliveries the connection is reset instead: both ends lose what is
        /// under way to them and hear of it, each at its time.
        public var resetOneIn: UInt64 = 0
        /// Once in so many LNet messages one is lost, and its connection knows nothing of it.
        public var messageLossOneIn: UInt64 = 0
        /// Once in so many LNet messages one arrives twice, the second time by `messageDelayMax`
        /// later at most.
        public var messageDuplicateOneIn: UInt64 = 0
        /// Once in so many LNet messages one is late by up to `messageDelayMax`, and those behind
        /// it overtake it.
        public var messageDelayOneIn: UInt64 = 0
        public var messageDelayMax = TickInterval.milliseconds(50)
        /// Once in so many connects one is refused although somebody listens.
        public var refuseOneIn: UInt64 = 0
        /// Once in so many group commits one takes `slowCommitFactor` times as long.
        public var slowCommitOneIn: UInt64 = 0
        public var slowCommitFactor: UInt64 = 100
        /// Once in so many group commits one fails, and is tried again a second later.
        public var commitFailureOneIn: UInt64 = 0
        /// Once in so many steps a server ends in the middle: what it changed on its own is lost
        /// with it, and nothing of what it was about to send leaves it.
        public var crashMidStepOneIn: UInt64 = 0
        /// Once in so many arrivals the node does not come to it for up to `batchMax`: whatever else
        /// happens there by then, a commit, a timer, more bytes, is taken in with it.
        public var batchOneIn: UInt64 = 0
        public var batchMax = TickInterval.milliseconds(3)

        /// What each node's link carries in a second, each way; 0 for no bound.
        public var bytesPerSecond: UInt64 = 0
        /// What a node's processor spends on each thing that it sends or receives; zero for nothing.
        /// Arrivals wait their turn in the order in which they were sent.
        public var processorTime = TickInterval.zero

        public init() {}

        /// Whether chance touches single LNet messages, so that byte streams must be read.
        var touchesMessages: Bool {
            messageLossOneIn | messageDuplicateOneIn | messageDelayOneIn != 0
        }

        /// The same without faults: latencies and disk times stay.
        public var withoutFaults: Options {
            var calm = Options()
            calm.latencyMin = latencyMin
            calm.latencyMax = latencyMax
            calm.commitMin = commitMin
            calm.commitMax = commitMax
            calm.splitOneIn = splitOneIn
            calm.bytesPerSecond = bytesPerSecond
            calm.processorTime = processorTime
            return calm
        }
    }

    /// How often each fault was really done: a fault that never was is no test.
    public struct FaultCounters: Sendable, Equatable {
        /// LNet messages handed to receivers, by whole and counted only where streams are read.
        public var messages: UInt64 = 0
        public var deliveries: UInt64 = 0
        /// Bytes of those, framing included.
        public var bytes: UInt64 = 0
        public var splits: UInt64 = 0
        public var resets: UInt64 = 0
        public var messagesLost: UInt64 = 0
        public var messagesDuplicated: UInt64 = 0
        public var messagesDelayed: UInt64 = 0
        public var connectsRefused: UInt64 = 0
        /// Messages, connects and closes that a silent partition swallowed.
        public var swallowed: UInt64 = 0
        /// Deliveries that waited for the end of a partition or of a clog.
        public var held: UInt64 = 0
        public var commits: UInt64 = 0
        public var slowCommits: UInt64 = 0
        public var commitFailures: UInt64 = 0
        /// Groups on their way to the disk when the process died, by what was found afterwards.
        public var commitsLostInCrash: UInt64 = 0
        public var commitsKeptInCrash: UInt64 = 0
        public var commitsTornInCrash: UInt64 = 0
        /// Timers that let a node work.
        public var wakes: UInt64 = 0
        public var kills: UInt64 = 0
        public var midStepCrashes: UInt64 = 0
        /// Arrivals that waited for more.
        public var batches: UInt64 = 0
        public var pauses: UInt64 = 0

        public init() {}
    }
}
