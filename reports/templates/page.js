"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
  // specifications name colours as var(--x); plotly needs their values
  const resolved = value => {
    if (typeof value === "string") return value.startsWith("var(") ? colour(value.slice(4, -1)) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(resolved);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    return value;
  };
  const axis = extra => ({gridcolor: colour("--grid"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true, ...extra});
  const draw = box => {
    const spec = charts[box.dataset.chart];
    const narrow = box.clientWidth < 600;
    const layout = resolved(spec.layout);
    const axes = Object.fromEntries(Object.keys(layout).filter(k => /^[xy]axis/.test(k)).map(k => [k, axis(layout[k])]));
    const many = spec.data.filter(t => t.showlegend !== false && t.name).length;
    window.Plotly.react(box, resolved(spec.data), {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {family: "system-ui,sans-serif", size: 13, color: colour("--ink")},
      margin: {l: 8, r: 8, t: 8, b: 8}, xaxis: axis({}), yaxis: axis({}), dragmode: narrow ? false : "zoom",
      hoverlabel: {bgcolor: colour("--card"), font: {color: colour("--ink")}},
      legend: {orientation: "h", y: -0.12, yanchor: "top", x: 0, font: {size: 12}}, showlegend: many > 1,
      ...layout, ...axes, height: box.clientHeight || Number(box.dataset.height),
    }, {responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"]});
    box.dataset.drawn = "1";
  };
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const seen = new IntersectionObserver(entries => entries.forEach(entry => {
    if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }), {rootMargin: "300px"});
  boxes.forEach(box => seen.observe(box));
  window.addEventListener("beforeprint", () => boxes.forEach(box => box.dataset.drawn || draw(box)));

  const redraw = () => boxes.forEach(box => box.dataset.drawn && draw(box));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });

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

  document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Selected: press Ctrl+C"; }
  }));
})();
