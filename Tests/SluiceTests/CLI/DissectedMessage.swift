import Foundation

/// One LNet message as tshark's `lnet` and `lustre` dissectors understood it.
///
/// Read from PDML, which keeps the order of what a frame holds. Every element has a line.
struct DissectedMessage {
    var frame = 0
    /// LNET_MSG_*: ack 0, put 1, get 2, reply 3.
    var type = -1
    var portal = -1
    /// `pb_opc` and `pb_type`, where the `lustre` dissector took it.
    var opcode: Int?
    var isReply = false
    var bufferSizes: [Int] = []
    var payloadSize = 0
    /// What the dissectors complain of.
    var complaints: [String] = []

    static let put = 1
    /// Whose payload the dissector leaves alone, Lustre's as well as ours: pushes of ping info,
    /// OST_BULK_PORTAL, and the portals of lnet_selftest.
    static let undissectedPortals: Set<Int> = [0, 8, 50, 51, 52]

    /// Bytes that the dissector has left; 0 where it ended at the end.
    var leftByteCount: Int {
        // "Capture:664 offset:616 (length:0) msg_type:1 ib_type:00", of the LNet dissector.
        for text in complaints where text.hasPrefix("Capture:") {
            let numbers = text.split { !$0.isNumber }.compactMap { Int($0) }
            if numbers.count >= 2 { return numbers[0] - numbers[1] }
        }
        return 0
    }

    /// Bytes of the buffers from the `count`th on, as they lie in the message.
    func byteCount(fromBuffer count: Int) -> Int {
        bufferSizes.dropFirst(count).reduce(0) { $0 + ($1 + 7) & ~7 }
    }

    /// How many buffers Lustre has in this message (layout.c, `RQF_*`); those behind are ours.
    var standardBufferCount: Int {
        switch (opcode ?? 0, isReply) {
        case (8, false), (38, false): 5  // connect: body, two UUIDs, handle, obd_connect_data
        case (8, true), (38, true): 2  // obd_connect_data
        case (101, false), (103...104, false): 2  // ldlm_request
        case (101, true), (105, false): 3  // a value block behind it
        default: 1  // ptlrpc_body alone: ping, disconnect, and every message of ours
        }
    }

    var isLustres: Bool { opcode.map { $0 < 3000 } ?? true }

    /// What is wrong with it, beside what has to be: the dissectors know nothing of the buffers
    /// that we put behind Lustre's, nor of our operations (3000 and more), nor of bulk data.
    var faults: [String] {
        var faults = complaints.filter { !$0.hasPrefix("Capture:") }
        if let opcode, !isLustres {
            faults.removeAll { $0 == "BAD OPCODE: \(opcode) (type: \(isReply ? 4713 : 4711))" }
        }
        let ours =
            if type == Self.put, Self.undissectedPortals.contains(portal) {
                payloadSize
            } else if opcode != nil {
                byteCount(fromBuffer: standardBufferCount)
            } else {
                0
            }
        if leftByteCount != ours {
            faults.append("\(leftByteCount) bytes are left over, and \(ours) of them are ours")
        }
        return faults
    }

    /// Every message of a capture, in its order.
    static func read(pdml: String) -> [DissectedMessage] {
        var messages: [DissectedMessage] = []
        var frame = 0
        for line in pdml.split(separator: "\n") {
            if line.contains("<proto name=\"lnet\"") {
                messages.append(DissectedMessage(frame: frame))
            } else if line.contains("\"frame.number\"") {
                frame = Int(attribute("show", of: line)) ?? frame
            }
            guard let last = messages.indices.last, messages[last].frame == frame else { continue }
            switch attribute("name", of: line) {
            case "lnet.msg_type": messages[last].type = number(line)
            case "lnet.ptl_index": messages[last].portal = number(line)
            case "lnet.payload_length": messages[last].payloadSize = number(line)
            case "lustre.ptlrpc_body.pb_opc": messages[last].opcode = number(line)
            case "lustre.ptlrpc_body.pb_type": messages[last].isReply = number(line) != 4711
            case "lustre.lustre_msg_v2.lm_buflens": messages[last].bufferSizes.append(number(line))
            case "_ws.expert.message": messages[last].complaints.append(attribute("show", of: line))
            case "_ws.malformed" where !line.contains("hide=\"yes\""):
                messages[last].complaints.append("[Malformed Packet]")
            default: break
            }
        }
        return messages
    }

    private static func number(_ line: Substring) -> Int { Int(attribute("show", of: line)) ?? -1 }

    private static func attribute(_ name: String, of line: Substring) -> String {
        guard let start = line.range(of: " \(name)=\"")?.upperBound else { return "" }
        return String(line[start...].prefix { $0 != "\"" })
    }
}
