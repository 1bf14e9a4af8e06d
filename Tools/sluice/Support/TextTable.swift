/// Columns of text, as wide as their widest cell; numbers stand to the right.
struct TextTable {
    var header: [String]
    var rows: [[String]] = []

    init(_ header: String...) { self.header = header }

    init(columns: [String]) { header = columns }

    mutating func add(_ cells: String...) { add(row: cells) }

    mutating func add(row cells: [String]) {
        precondition(cells.count == header.count, "a row has a cell for every column")
        rows.append(cells)
    }

    var text: String {
        var widths = header.map(\.count)
        for row in rows {
            for (column, cell) in row.enumerated() {
                widths[column] = max(widths[column], cell.count)
            }
        }
        let isNumeric = header.indices.map { column in
            !rows.isEmpty
                && rows.allSatisfy { row in
                    guard let first = row[column].utf8.first else { return true }
                    return (48...57).contains(first) || first == 45
                }
        }
        var lines: [String] = []
        for row in [header] + rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += isNumeric[column] ? padding + cell : cell + padding
                if column < row.count - 1 { line += "  " }
            }
            while line.last == " " { line.removeLast() }
            lines.append(line)
        }
        return lines.joined(separator: "\n")
    }
}
