"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts")?.textContent ?? "{}");
  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
  // specifications name colours as var(--x); plotly needs their values
  const resolved = value => {
    if (typeof value === "string") return value.startsWith("var(") ? colour(value.slice(4, -1)) : value;
    if (Array.isArray(value)) return typeof value.at(-1) === "number" ? value : value.map(resolved);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    return value;
  };
  const axis = extra => ({gridcolor: colour("--grid"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true, ...extra});
  const charted = document.getElementById("charted");
  // the fills of the chosen strategy only
  const mark = box => {
    const marks = charts[box.dataset.chart].data.map((trace, k) => [trace.meta, k]).filter(([meta]) => meta !== undefined);
    window.Plotly.restyle(box, {visible: marks.map(([meta]) => meta === charted.value)}, marks.map(([, k]) => k));
  };
  // the library is large: run it when the first chart comes near, so that the page itself is there at once
  const library = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  };
  const draw = box => {
    library();
    const spec = charts[box.dataset.chart];
    const narrow = box.clientWidth < 600;
    const layout = resolved(spec.layout);
    const axes = Object.fromEntries(Object.keys(layout).filter(k => /^[xy]axis/.test(k)).map(k => [k, axis(layout[k])]));
    const many = spec.data.filter(t => t.showlegend !== false && t.name).length;
    // a phone has no room for the names of lines that are not drawn
    const lines = narrow ? spec.data.filter(t => t.visible !== "legendonly") : spec.data;
    window.Plotly.react(box, resolved(lines), {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {family: "system-ui,sans-serif", size: 13, color: colour("--ink")},
      margin: {l: 8, r: 8, t: 8, b: 8}, xaxis: axis({}), yaxis: axis({}), dragmode: narrow ? false : "zoom",
      hoverlabel: {bgcolor: colour("--card"), font: {color: colour("--ink")}},
      legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: {size: 12}}, showlegend: many > 1,
      ...layout, ...axes, height: box.clientHeight || Number(box.dataset.height),
    }, {responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"]});
    box.dataset.drawn = "1";
    if (charted?.dataset.charts.split(" ").includes(box.dataset.chart)) mark(box);
  };
  const boxes = [...document.querySelectorAll("[data-chart]")];
  // one chart a task, so that each is shown before the next is worked on
  const waiting = [];
  const next = () => {
    const box = waiting.shift();
    if (!box) return;
    if (!box.dataset.drawn) draw(box);
    requestAnimationFrame(() => setTimeout(next));
  };
  const seen = new IntersectionObserver(entries => {
    const idle = !waiting.length;
    entries.forEach(entry => entry.isIntersecting && !entry.target.dataset.drawn && waiting.push(entry.target));
    if (idle) next();
  }, {rootMargin: "300px"});
  const watch = () => boxes.forEach(box => seen.observe(box));
  window.addEventListener("load", () => requestAnimationFrame(() => setTimeout(watch)));
  window.addEventListener("beforeprint", () => boxes.forEach(box => box.dataset.drawn || draw(box)));

  const redraw = () => boxes.forEach(box => box.dataset.drawn && draw(box));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });

  charted?.addEventListener("change", () => boxes.forEach(box => box.dataset.drawn && charted.dataset.charts.split(" ").includes(box.dataset.chart) && mark(box)));

  const ledger = document.getElementById("trade-table");
  if (ledger) {
    const {strategies, assets, kinds, rows, total} = JSON.parse(document.getElementById("trade-rows").textContent);
    const names = [null, strategies.map(pair => pair[1]), assets, kinds];
    const fields = [...ledger.querySelectorAll("[data-filter]")];
    fields.forEach(field => names[field.dataset.filter]?.forEach((name, k) => field.append(new Option(name, k))));
    const body = ledger.querySelector("tbody"), status = ledger.querySelector("[role=status]");
    const size = 25;
    let page = 0, column = -1, down = true;
    const number = (value, digits) => value === null || value === 0 ? "–" : value.toLocaleString("en", {maximumFractionDigits: digits});
    const show = () => {
      const wanted = fields.filter(field => field.value !== "");
      const kept = rows.filter(row => wanted.every(field => {
        const value = row[field.dataset.filter];
        return field.dataset.filter === "0" ? value.startsWith(field.value.trim()) : value === Number(field.value);
      }));
      if (column >= 0) kept.sort((a, b) => ((a[column] ?? 0) - (b[column] ?? 0)) * (down ? -1 : 1));
      page = Math.max(0, Math.min(page, Math.ceil(kept.length / size) - 1));
      body.replaceChildren(...kept.slice(page * size, (page + 1) * size).map(row => {
        const line = document.createElement("tr");
        row.forEach((value, k) => {
          const cell = document.createElement("td");
          cell.textContent = k === 0 ? value : k < 4 ? names[k][value] : number(value, k === 4 ? 6 : 2);
          cell.className = k < 4 ? "words" : "";
          line.append(cell);
        });
        return line;
      }));
      const first = kept.length ? page * size + 1 : 0;
      status.textContent = `${first} to ${Math.min(kept.length, (page + 1) * size)} of ${kept.length.toLocaleString("en")}` +
        (total > rows.length ? `; the newest ${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} are on this page, all are in trades.parquet` : "");
    };
    fields.forEach(field => field.addEventListener("input", () => { page = 0; show(); }));
    ledger.querySelectorAll("[data-page]").forEach(button => button.addEventListener("click", () => { page += Number(button.dataset.page); show(); }));
    ledger.querySelectorAll("[data-column]").forEach(button => button.addEventListener("click", () => {
      const chosen = Number(button.dataset.column);
      down = column === chosen ? !down : true;
      column = chosen; page = 0;
      ledger.querySelectorAll("th[aria-sort]").forEach(head => head.setAttribute("aria-sort", "none"));
      button.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
      show();
    }));
    show();
  }

  const key = cell => {
    const raw = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(raw);
    return raw === "" || raw === "nan" ? null : Number.isNaN(number) ? raw.toLowerCase() : number;
  };
  document.querySelectorAll("table[data-sortable]").forEach(table => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach(other => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const value = row => key(row.cells[column]);
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null); // what has no value stays last
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    }));
  });

  // the list of runs: rows that hold every word typed, and the command that compares those ticked
  document.querySelectorAll("table[data-filter]").forEach(table => {
    const field = document.getElementById(table.dataset.filter), rows = [...table.tBodies[0].rows];
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
      document.getElementById("shown").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
    });
    table.addEventListener("change", () => {
      const runs = [...table.querySelectorAll("input:checked")].map(box => `${table.dataset.folder}/runs/${box.value}`);
      document.getElementById("compare").hidden = runs.length < 2;
      document.getElementById("compare-command").textContent = `python -m reports compare ${runs.join(" ")}`;
    });
  });

  document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Selected: press Ctrl+C"; }
  }));
})();
