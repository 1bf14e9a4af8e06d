import Foundation

/// Finds the plotting library that a report carries inside: plotly.js, as PyPI's package plotly has
/// it. Nothing of it is part of this project.
enum PlotLibrary {
    /// The library's script.
    static func script(at given: String?) throws -> String {
        let path: String
        if let given {
            path = given
        } else if let found = installed() {
            path = found
        } else {
            throw Failure(
                "no plotting library found: install it with 'pip install plotly', or name its script "
                    + "with --script FILE (a plotly.min.js)")
        }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw Failure("\(path): cannot be read as UTF-8 text")
        }
        guard text.contains("Plotly"), text.utf8.count > 100_000 else {
            throw Failure("\(path): not a plotly.min.js")
        }
        return text
    }

    /// Where Python finds its package, or where PLOTLY_JS says.
    private static func installed() -> String? {
        if let path = ProcessInfo.processInfo.environment["PLOTLY_JS"], !path.isEmpty {
            return path
        }
        let python = Process()
        python.executableURL = URL(filePath: "/usr/bin/env")
        python.arguments = [
            "python3", "-c",
            "import importlib.util as u; s = u.find_spec('plotly'); "
                + "print(s.submodule_search_locations[0] if s else '')",
        ]
        let output = Pipe()
        python.standardOutput = output
        python.standardError = FileHandle.nullDevice
        guard (try? python.run()) != nil else { return nil }
        let data = (try? output.fileHandleForReading.readToEnd()) ?? nil
        python.waitUntilExit()
        let folder = String(decoding: data ?? Data(), as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        guard !folder.isEmpty else { return nil }
        let path = folder + "/package_data/plotly.min.js"
        return FileManager.default.isReadableFile(atPath: path) ? path : nil
    }
}
