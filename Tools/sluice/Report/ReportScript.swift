/// What the page does with the data inside it: chooses plots by what a result has, and draws them.
enum ReportScript {
    static let text = #"""
        "use strict";
        (() => {
          const errors = [];
          window.addEventListener("error", e => errors.push(String(e.message)));
          const results = JSON.parse(document.getElementById("data").textContent);
          const colors = ["#1f6f8b", "#d1495b", "#66a182", "#edae49", "#5f4b8b", "#8d6e63", "#00798c"];
          const base = title => ({
            title: { text: title, font: { size: 15 } }, font: { size: 12 },
            margin: { l: 70, r: 20, t: 48, b: 52 }, hovermode: "closest",
            paper_bgcolor: "#fff", plot_bgcolor: "#fff",
            legend: { orientation: "h", y: -0.18 }
          });
          const axis = (text, more) => Object.assign(
            { title: { text }, gridcolor: "#e4e9ed", zeroline: false, automargin: true }, more);
          let drawn = 0;
          function draw(host, name, traces, layout) {
            const div = document.createElement("div");
            div.className = "plot";
            div.dataset.plot = name;
            if (layout.height) div.style.height = layout.height + "px";
            host.appendChild(div);
            Plotly.newPlot(div, traces, layout, { responsive: true, displaylogo: false })
              .then(() => { drawn++; document.body.dataset.drawn = drawn; })
              .catch(e => { errors.push(name + ": " + e); });
          }
          const median = a => {
            const s = [...a].sort((x, y) => x - y), m = s.length >> 1;
            return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2;
          };
          const scale = unit => unit === "us" ? 1e3 : 1e6;

          // Latency by clients: one line for each kind of series that was measured at several numbers.
          function byClients(host, result) {
            const kinds = new Map();
            for (const s of result.series) {
              const n = Number(s.parameters.clients);
              if (!n || !s.runs.length) continue;
              const kind = s.name.replace(new RegExp("-" + n + "(?=-|$)"), "");
              if (!kinds.has(kind)) kinds.set(kind, []);
              kinds.get(kind).push({
                n, unit: s.unit, mid: median(s.runs.map(r => r.spread.p50)),
                low: Math.min(...s.runs.map(r => r.spread.min)),
                high: Math.max(...s.runs.map(r => r.spread.max)) });
            }
            const traces = [];
            let unit = "ms";
            for (const [kind, points] of kinds) {
              points.sort((a, b) => a.n - b.n);
              unit = points[0].unit;
              traces.push({
                name: kind, type: "scatter", mode: "lines+markers",
                line: { color: colors[traces.length % colors.length] },
                x: points.map(p => p.n), y: points.map(p => p.mid),
                error_y: { type: "data", symmetric: false, thickness: 1,
                  array: points.map(p => p.high - p.mid),
                  arrayminus: points.map(p => p.mid - p.low) },
                hovertemplate: "%{x} clients: %{y:.3f} " + unit });
            }
            if (!traces.length || ![...kinds.values()].some(p => p.length > 1)) return;
            draw(host, "latency by clients", traces, Object.assign(
              base("Time by number of clients: median of runs, bars from the fastest to the slowest"), {
                xaxis: axis("clients", { type: "log" }), yaxis: axis(unit, { type: "log" }) }));
          }

          // One upgrade: operations per second above, every client's phases as bars below.
          function timeline(host, line) {
            const order = line.clients.map((c, i) => i).sort((a, b) =>
              (line.clients[a].gateShut ?? 0) - (line.clients[b].gateShut ?? 0));
            const phases = [
              ["not told yet", null, "gateShut", "rgba(0,0,0,0)"],
              ["gate shut, finishing", "gateShut", "receiptGiven", "#edae49"],
              ["receipt given, waiting", "receiptGiven", "committed", "#66a182"],
              ["all committed, server away", "committed", "reconnected", "#d1495b"],
              [line.clients.some(c => c.reconnected) ? "connected, replaying locks"
                : "until its gate is open", "reconnected", "gateOpened", "#5f4b8b"]];
            const traces = [];
            const at = order.map(() => 0);
            phases.forEach(([name, from, to, color], index) => {
              const length = [], start = [];
              order.forEach((client, row) => {
                const stamps = line.clients[client];
                const end = stamps[to];
                start.push(at[row]);
                if (end === undefined || end === null || end < at[row]) { length.push(0); return; }
                length.push(end - at[row]);
                at[row] = end;
              });
              if (index === 0) return;
              traces.push({
                name, type: "bar", orientation: "h", base: start, x: length,
                y: order.map((c, row) => row), marker: { color, line: { width: 0 } },
                hovertemplate: name + ": %{x:.2f} ms from %{base:.2f} ms", xaxis: "x", yaxis: "y" });
            });
            const waited = order.map(c => line.clients[c].firstWaited);
            if (waited.some(w => w !== undefined && w !== null)) traces.push({
              name: "first operation that waits", type: "scatter", mode: "markers",
              x: waited, y: order.map((c, row) => row), marker: { color: "#1b2733", size: 3 } });
            const layout = Object.assign(base(
              "Upgrade: " + line.name + ", scheme " + line.scheme + ", every client's phases"), {
                barmode: "overlay", bargap: 0, height: 560,
                xaxis: axis("ms since the order was accepted"),
                yaxis: axis("clients, in the order in which they knew") });
            if (line.throughput.length) {
              traces.push({
                name: "operations/s", type: "scatter", mode: "lines", fill: "tozeroy",
                line: { color: "#1f6f8b", shape: "hv" }, xaxis: "x", yaxis: "y2",
                x: line.throughput.map((v, i) => line.fromMs + i * line.intervalMs),
                y: line.throughput.map(v => v * 1000 / line.intervalMs) });
              layout.yaxis.domain = [0, 0.7];
              layout.yaxis2 = axis("operations/s", { domain: [0.76, 1], rangemode: "tozero" });
            }
            draw(host, "timeline", traces, layout);
          }

          // The distribution of every series with more than a few samples, over its percentiles.
          function distributions(host, result, title) {
            const traces = [];
            let unit = "us";
            for (const s of result.series) {
              const counts = new Map();
              for (const run of s.runs)
                for (let i = 0; i + 1 < run.buckets.length; i += 2)
                  counts.set(run.buckets[i], (counts.get(run.buckets[i]) ?? 0) + run.buckets[i + 1]);
              const total = [...counts.values()].reduce((a, b) => a + b, 0);
              if (total < 20) continue;
              unit = s.unit;
              const x = [], y = [], text = [];
              let seen = 0;
              for (const value of [...counts.keys()].sort((a, b) => a - b)) {
                seen += counts.get(value);
                const left = 1 - (seen - 0.5) / total;
                x.push(1 / left);
                y.push(value / scale(s.unit));
                text.push((100 * (1 - left)).toPrecision(6) + " %");
              }
              traces.push({ name: s.name, type: "scatter", mode: "lines", x, y, text,
                line: { color: colors[traces.length % colors.length],
                  dash: traces.length >= colors.length ? "dot" : "solid" },
                hovertemplate: "%{text}: %{y:.3f} " + unit });
            }
            if (!traces.length) return;
            draw(host, "distribution", traces, Object.assign(base(title), {
              xaxis: axis("percentile", { type: "log", tickvals: [1, 2, 10, 100, 1000, 10000, 100000],
                ticktext: ["0", "50", "90", "99", "99.9", "99.99", "99.999"] }),
              yaxis: axis(unit, { type: "log" }) }));
          }

          function ratios(host, result) {
            if (!result.ratios.length) return;
            const names = result.ratios.map(r => r.name + " (" + r.statistic + ")").reverse();
            const list = [...result.ratios].reverse();
            draw(host, "ratios", [
              { name: "median, lowest to highest round", type: "scatter", mode: "markers",
                x: list.map(r => r.median), y: names, marker: { color: colors[0], size: 10 },
                error_x: { type: "data", symmetric: false, array: list.map(r => r.high - r.median),
                  arrayminus: list.map(r => r.median - r.low) } },
              { name: "wanted", type: "scatter", mode: "markers", x: list.map(r => r.bound ?? null),
                y: names, marker: { color: colors[1], symbol: "line-ns-open", size: 18,
                  line: { width: 3 } } }
            ], Object.assign(base("Ours over theirs, in the same rounds"), {
              height: 150 + 38 * names.length, xaxis: axis("ratio", { type: "log" }),
              yaxis: { automargin: true },
              shapes: [{ type: "line", x0: 1, x1: 1, y0: 0, y1: 1, yref: "paper",
                line: { color: "#8795a1", dash: "dot" } }] }));
          }

          for (const host of document.querySelectorAll(".plots")) {
            const result = results[Number(host.dataset.result)];
            try {
              byClients(host, result);
              for (const line of result.timelines ?? []) timeline(host, line);
              distributions(host, result, result.benchmark === "pause"
                ? "Pause by scheme, by percentile of clients" : "Every series, by percentile");
              ratios(host, result);
            } catch (e) { errors.push(result.benchmark + ": " + e); }
          }
          document.body.dataset.errors = JSON.stringify(errors);
          document.body.dataset.wanted = document.querySelectorAll("[data-plot]").length;
        })();
        """#
}
