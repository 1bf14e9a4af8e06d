/// Who answers which noun and verb of a node's control socket.
public struct ControlRouter: Sendable {
    /// Called on a thread of its own per request; it may wait.
    public typealias Handler = @Sendable (ControlRequest) throws -> String

    private var handlers: [String: [String: Handler]] = [:]

    public init() {}

    /// Answers `noun verb` with `handler` from now on.
    public mutating func on(_ noun: String, _ verb: String, _ handler: @escaping Handler) {
        handlers[noun, default: [:]][verb] = handler
    }

    /// Carries a request out.
    public func answer(_ request: ControlRequest) throws -> String {
        guard let verbs = handlers[request.noun] else {
            throw ControlError(
                "this node knows nothing of \(request.noun), but of "
                    + handlers.keys.sorted().joined(separator: ", "), errno: 22)
        }
        guard let handler = verbs[request.verb] else {
            throw ControlError(
                "\(request.noun) has no verb \(request.verb), but "
                    + verbs.keys.sorted().joined(separator: ", "), errno: 22)
        }
        return try handler(request)
    }
}
