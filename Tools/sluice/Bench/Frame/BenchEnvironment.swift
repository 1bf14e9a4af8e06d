import EventLoop
import Foundation
import Glibc
import Primitives
import WireFormat

/// What a result was measured on and with.
struct BenchEnvironment: Codable, Sendable {
    /// Processor, how many of it, memory.
    var machine: String
    var kernel: String
    /// Which clock, how fine it is and what reading it costs.
    var clock: String
    var pinning: String
    /// Debug or release, protocol versions, and a digest of the program.
    var build: String

    init(pinning: String) {
        machine = "\(Self.processor), \(Host.cpuCount) cores, \(Self.memoryGiB) GiB"
        kernel = Self.kernelName
        clock = Self.clockLine
        self.pinning = pinning
        build = Self.buildLine
    }

    /// One line for a person.
    var line: String {
        "\(machine); \(kernel); \(clock); \(pinning); \(build)"
    }

    private static var processor: String {
        let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
        return line?.split(separator: ":").last?.trimmingCharacters(in: .whitespaces)
            ?? "unknown processor"
    }

    private static var memoryGiB: Int {
        Int((Double(ProcessInfo.processInfo.physicalMemory) / 1_073_741_824).rounded())
    }

    private static var kernelName: String {
        let release = try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)
        return "Linux " + (release?.trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown")
    }

    private static var clockLine: String {
        var resolution = timespec()
        // SAFETY: the out-parameter outlives the call.
        unsafe clock_getres(CLOCK_MONOTONIC, &resolution)
        let count: UInt64 = 20_000
        let began = Host.monotonicNow
        var last = began
        for _ in 0..<count { last = Host.monotonicNow }
        let cost = (last - began).nanoseconds / count
        let source =
            (try? String(
                contentsOfFile:
                    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown"
        return "CLOCK_MONOTONIC (\(source)), \(resolution.tv_nsec) ns fine, \(cost) ns to read"
    }

    private static var buildLine: String {
        #if DEBUG
            let configuration = "debug build"
        #else
            let configuration = "release build"
        #endif
        let versions = ProtocolVersion.supported
        return "\(configuration) \(digest), protocol \(versions.lowerBound.rawValue)..."
            + "\(versions.upperBound.rawValue)"
    }

    /// FNV-1a over the program's file: two builds are told apart, not vouched for.
    private static var digest: String {
        guard
            let data = try? Data(
                contentsOf: URL(filePath: Machine.executablePath), options: .mappedIfSafe)
        else { return "unknown" }
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        // SAFETY: the view lives for the closure.
        unsafe data.withUnsafeBytes { bytes in
            for index in 0..<data.count {
                hash = (hash ^ UInt64(unsafe bytes[index])) &* 0x100_0000_01b3
            }
        }
        return String(hash, radix: 16)
    }
}
