"use strict";
// What the report and the local application share: figures in the page's colours, agents to show or hide, sorted tables.
const archgym = (() => {
  const root = document.documentElement;
  const hidden = new Set();

  function colours() {
    const style = getComputedStyle(root);
    const get = (name) => style.getPropertyValue(name).trim();
    return { ink: get("--ink"), line: get("--line"), card: get("--card") };
  }

  function layoutOf(figure) {
    const c = colours();
    const layout = structuredClone(figure.layout);
    layout.paper_bgcolor = layout.plot_bgcolor = c.card;
    layout.font = { color: c.ink, size: 12, family: "system-ui, sans-serif" };
    layout.autosize = true;
    layout.hoverlabel = { align: "left" };
    for (const axis of ["xaxis", "yaxis"]) {
      if (layout[axis]) Object.assign(layout[axis], { gridcolor: c.line, linecolor: c.line, zerolinecolor: c.line });
    }
    return layout;
  }

  function dataOf(figure) {
    return figure.data.map((trace) => (hidden.has(trace.legendgroup) ? { ...trace, visible: "legendonly" } : trace));
  }

  // One after the other, each in a turn of its own, so that a page of many figures stays alive.
  async function draw(figures) {
    for (const [id, figure] of Object.entries(figures)) {
      if (!document.getElementById(id)) continue;
      await Plotly.react(id, dataOf(figure), layoutOf(figure), { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }

  function setTheme(dark) {
    const button = document.getElementById("theme");
    root.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    button.textContent = dark ? "light" : "dark";
  }

  function addFilters(figures, changed) {
    const box = document.querySelector(".filters");
    const agents = new Set();
    for (const figure of Object.values(figures)) {
      for (const trace of figure.data) if (trace.legendgroup) agents.add(trace.legendgroup);
    }
    box.replaceChildren();
    if (agents.size < 2) return;
    for (const agent of agents) {
      const b = document.createElement("button");
      b.type = "button";
      b.className = "agent";
      b.textContent = agent;
      b.setAttribute("aria-pressed", String(!hidden.has(agent)));
      b.addEventListener("click", () => {
        if (hidden.has(agent)) hidden.delete(agent); else hidden.add(agent);
        b.setAttribute("aria-pressed", String(!hidden.has(agent)));
        changed();
      });
      box.append(b);
    }
  }

  // A click on a column's head sorts a table by it, numbers by value; a second click turns the order round.
  function addSorting(parent) {
    for (const table of parent.querySelectorAll("table.sortable")) {
      const heads = [...table.tHead.rows[0].cells];
      heads.forEach((head, column) => {
        const b = document.createElement("button");
        b.type = "button";
        b.textContent = head.textContent;
        head.replaceChildren(b);
        b.addEventListener("click", () => {
          const down = head.getAttribute("aria-sort") === "ascending";
          heads.forEach((other) => other.removeAttribute("aria-sort"));
          head.setAttribute("aria-sort", down ? "descending" : "ascending");
          const body = table.tBodies[0];
          const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
          const compare = (x, y) => {
            const a = value(x), b = value(y);
            const difference = Number(a) - Number(b);
            return Number.isNaN(difference) ? a.localeCompare(b) : difference;
          };
          const rows = [...body.rows].sort((x, y) => (down ? compare(y, x) : compare(x, y)));
          body.append(...rows);
        });
      });
    }
  }

  return { draw, setTheme, addFilters, addSorting };
})();
