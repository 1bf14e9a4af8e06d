/// What the programs of others print, as runs.
enum PeerParsing {
    /// Lines `bucket NS COUNT` of the programs in Tools/peers.
    static func buckets(_ text: String) throws -> Recorder {
        var recorder = Recorder()
        for line in text.split(separator: "\n") where line.hasPrefix("bucket ") {
            let words = line.split(separator: " ")
            guard words.count == 3, let value = UInt64(words[1]), let count = UInt64(words[2])
            else { throw Failure("cannot read the peer's line \(line)") }
            recorder.record(value, count: count)
        }
        guard recorder.count > 0 else { throw Failure("the peer measured nothing") }
        return recorder
    }

    /// The line `calls COUNT SECONDS`.
    static func perSecond(_ text: String) throws -> Double {
        let line = text.split(separator: "\n").last { $0.hasPrefix("calls ") }
        let words = (line ?? "").split(separator: " ")
        guard words.count == 3, let count = Double(words[1]), let seconds = Double(words[2]),
            seconds > 0
        else { throw Failure("the peer says nothing of its calls") }
        return count / seconds
    }

    /// `ucx_perftest -f`: the median latency, in us, after the number of iterations.
    static func ucx(_ text: String) throws -> Double {
        let words = (text.split(separator: "\n").last ?? "").split(separator: " ")
        guard words.count >= 6, Int(words[0]) != nil, let value = Double(words[1]) else {
            throw Failure("ucx_perftest printed no line of numbers")
        }
        return value
    }

    /// `fi_pingpong`: us per transfer, the column before the last of the last line.
    static func libfabric(_ text: String) throws -> Double {
        let words = (text.split(separator: "\n").last ?? "").split(separator: " ")
        guard words.count >= 3, let value = Double(words[words.count - 2]) else {
            throw Failure("fi_pingpong printed no line of numbers")
        }
        return value
    }

    /// `sockperf`: the median of half of there and back, in us. It ends with status 0 whatever
    /// happens, and says `ERROR` among what it prints.
    static func sockperf(_ text: String) throws -> Double {
        let lines = text.split(separator: "\n")
        if let error = lines.first(where: { $0.contains("ERROR: ") }) {
            throw Failure("sockperf: \(error.split(separator: "ERROR: ").last ?? "failed")")
        }
        for line in lines where line.contains("percentile 50.000") {
            if let word = line.split(separator: " ").last, let value = Double(word) {
                return value
            }
        }
        throw Failure("sockperf printed no median, and at last: \(lines.last ?? "nothing")")
    }

    /// Whether `sockperf` did not wait for its connection: a non-blocking one takes a moment
    /// sometimes (errno 115, EINPROGRESS), and it gives up then.
    static func sockperfGaveUpConnecting(_ text: String) -> Bool {
        text.contains("errno=115")
    }

    /// A run of which only one number is known.
    static func run(_ microseconds: Double) -> BenchResult.Run {
        var recorder = Recorder()
        recorder.record(UInt64(microseconds * 1000))
        return recorder.run(unit: .us)
    }
}
