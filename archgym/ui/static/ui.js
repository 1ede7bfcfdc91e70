"use strict";
// The page of `archgym ui`. What is shown stands in the address: going back, a bookmark and a link show the same again.
(() => {
  const root = document.documentElement;
  const main = document.getElementById("main");
  const LISTS = new Set(["pick"]);
  const figures = {};
  let item = null;
  let stream = null;
  let turn = 0;

  // --- the address ---------------------------------------------------------------------------------------------------

  function read() {
    const state = { pick: [] };
    for (const [key, value] of new URLSearchParams(location.search)) {
      if (LISTS.has(key)) state[key].push(value); else state[key] = value;
    }
    return state;
  }

  let state = read();

  function address(next) {
    const params = new URLSearchParams();
    for (const [key, value] of Object.entries(next)) {
      for (const one of [value].flat()) if (one !== undefined && one !== "") params.append(key, one);
    }
    return `?${params}`;
  }

  // Changes of what is shown go into the address; `load` says which parts follow.
  function change(changes, load, { replace = false } = {}) {
    state = { ...state, ...changes };
    history[replace ? "replaceState" : "pushState"](null, "", address(state));
    return load && load();
  }

  async function ask(name, params = {}) {
    const answer = await fetch(`api/${name}${address(params)}`);
    const made = await answer.json().catch(() => ({ refused: `the server answers ${answer.status}` }));
    if (made && made.refused) throw new Error(made.refused);
    return made;
  }

  const chosen = () => ({ at: state.at, p: state.p, objective: state.objective });

  // --- elements ------------------------------------------------------------------------------------------------------

  // Every text goes in as text; only what the server made of the report's own templates goes in as HTML.
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function section(id, title, ...children) {
    return el("section", { id }, el("h2", { tabindex: "-1" }, title), ...children);
  }

  function table(head, rows, label, attributes = {}) {
    const cell = (value, number) =>
      el("td", { "data-value": typeof value === "number" ? value : value instanceof HTMLDataElement ? value.value : undefined, class: number ? undefined : String(value?.textContent ?? value).length > 40 ? "words long" : "words" },
        value instanceof Node ? value : value === null || value === undefined ? "-" : String(value));
    const body = rows.map((row) =>
      el("tr", {}, el("th", { scope: "row" }, row[0] instanceof Node ? row[0] : String(row[0] ?? "-")),
        ...row.slice(1).map((value, i) => cell(value, !attributes.numbers || attributes.numbers[i + 1]))));
    const made = el("table", { class: "best sortable" },
      el("thead", {}, el("tr", {}, ...head.map((text, i) =>
        el("th", { scope: "col", class: i === 0 || (attributes.numbers && !attributes.numbers[i]) ? "words" : undefined }, text)))),
      el("tbody", {}, ...body));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, made);
  }

  function card(id, title, ...tools) {
    return el("figure", { class: "card", id: `card-${id}` },
      el("figcaption", {}, el("h3", {}, title), el("p", {}), ...tools),
      el("div", { class: "scroll" }, el("div", { class: "plot", id, role: "img", tabindex: "0" })));
  }

  const failed = (error) => el("p", { class: "wrong", role: "alert" }, error.message);

  // Fill a place with what a promise gives; a refusal is shown there as one sentence.
  async function fill(place, promise, show) {
    const mine = turn;
    place.setAttribute("aria-busy", "true");
    try {
      const made = await promise;
      if (mine === turn && place.isConnected) await show(made);
    } catch (error) {
      if (mine === turn && place.isConnected) place.replaceChildren(failed(error));
    } finally {
      place.removeAttribute("aria-busy");
    }
  }

  const library = new Promise((resolve, reject) => {
    const script = document.getElementById("library");
    if (window.Plotly) resolve();
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("the plotting library did not load")));
  });

  async function draw(id, figure) {
    figures[id] = figure;
    await library;
    const place = document.getElementById(id);
    if (!place) return;
    place.style.minWidth = figure.min_width ? `${figure.min_width}px` : "";
    figure.layout.uirevision = address(chosen()) + (state.x || "") + (state.y || "") + (state.axes || "");
    await archgym.draw({ [id]: figure });
  }

  // --- the list ------------------------------------------------------------------------------------------------------

  const KINDS = { run: "run", study: "study", entry: "entry of a suite", suite: "suite", dataset: "dataset" };

  function size(bytes) {
    const step = bytes < 1e6 ? 1e3 : bytes < 1e9 ? 1e6 : 1e9;
    return `${(bytes / step).toFixed(bytes < 10 * step ? 1 : 0)} ${{ 1e3: "kB", 1e6: "MB", 1e9: "GB" }[step]}`;
  }

  // Local time as people of all countries read it: 2026-11-27 18:42.
  function moment(seconds) {
    const date = new Date(seconds * 1000);
    return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16).replace("T", " ");
  }

  async function showList() {
    item = null;
    const { folder, items } = await ask("items");
    document.title = `archgym: ${folder}`;
    document.getElementById("title").textContent = folder;
    document.getElementById("parts").replaceChildren();
    document.querySelector(".filters").replaceChildren();
    setLive(items.some((row) => row.live));
    const search = el("input", { type: "search", id: "search", "aria-label": "search the list", placeholder: "search",
      value: state.q || "", oninput: () => { change({ q: search.value }, null, { replace: true }); rows(); } });
    const place = el("div");
    function rows() {
      const words = (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
      const shown = items.filter((row) => words.every((word) =>
        [row.title, row.kind, ...row.problems, ...row.agents].join(" ").toLowerCase().includes(word)));
      const lines = shown.map((row) => [
        el("span", {}, el("a", { href: address({ at: row.key }) }, row.title), row.live ? el("span", { class: "live" }, "live") : null,
          row.error ? el("small", { class: "wrong" }, ` ${row.error}`) : null),
        KINDS[row.kind], row.problems.join(", "), row.agents.join(", "), row.files,
        row.bytes ? el("data", { value: row.bytes }, size(row.bytes)) : null, row.changed ? moment(row.changed) : null]);
      place.replaceChildren(lines.length
        ? table(["name", "kind", "problems", "agents", "files", "size", "changed"], lines, "runs, studies, suites and datasets",
            { numbers: [false, false, false, false, true, true, true] })
        : el("p", {}, items.length ? "Nothing here has these words." : "There are no trials here yet: archgym run writes some."));
      archgym.addSorting(place);
    }
    main.replaceChildren(el("section", { id: "list" }, el("div", { class: "row" }, search), place));
    rows();
  }

  // --- a suite -------------------------------------------------------------------------------------------------------

  async function showSuite() {
    const links = item.entries.map((key) => el("li", {}, el("a", { href: address({ at: key }) }, key)));
    const place = el("div", { id: "board" }, el("p", {}, "Simulating every improvement of the entries again ..."));
    main.replaceChildren(section("entries-list", "Entries here", el("ul", {}, ...links)), place);
    await fill(place, ask("board", { at: state.at }), (made) => showHtml(place, made));
    showLinks();
  }

  async function showHtml(place, made) {
    place.innerHTML = made.html;
    archgym.addSorting(place);
    for (const [id, figure] of Object.entries(made.figures)) await draw(id, figure);
    filters();
  }

  function filters() {
    archgym.addFilters(figures, () => archgym.draw(figures));
  }

  // --- an item -------------------------------------------------------------------------------------------------------

  function showFrame() {
    const charts = item.charts || [];
    const objective = el("input", { id: "objective", list: "objectives", value: state.objective || item.objective || "",
      disabled: !(item.objectives || []).length, onchange: () => change({ objective: objective.value === item.objective ? "" : objective.value, where: "" }, show) });
    const problem = el("select", { id: "problem", onchange: () => change({ p: problem.value, objective: "", x: "", y: "", axes: "", where: "", pick: [], draw: "" }, show) },
      ...(item.problems || []).map((p, i) => el("option", { value: i, selected: String(i) === (state.p || "0") }, p.name ? `${p.name}, ${p.objective}` : String(p))));
    const parts = item.results ? [el("div", { id: "study-place" })] : [];
    if (item.suite) {
      parts.unshift(el("p", { class: "row" }, el("span", {}, "an entry of "),
        el("a", { href: address({ at: `${item.suite}@${item.version}` }) }, `${item.suite}, version ${item.version}`)));
    }
    if (charts.length) {
      parts.push(section("found", item.problems[Number(state.p || 0)].name,
        el("div", { class: "row" },
          item.problems.length > 1 ? el("label", {}, "problem ", problem) : null,
          el("label", {}, "objective ", objective),
          el("datalist", { id: "objectives" }, ...item.objectives.map((name) => el("option", { value: name })))),
        el("div", { id: "text-found" }), el("div", { id: "text-facts" }), el("div", { class: "beside" }, el("div", { id: "text-best" }), el("div", { id: "text-changes" }))));
      parts.push(section("charts", "Charts", el("div", { class: "grid" },
        ...charts.filter((name) => name !== "parallel").map((name) => card(name, "", ...toolsOf(name))))));
      if (item.parameters.length) {
        parts.push(section("designs", "Designs", el("div", { class: "grid" }, card("parallel", "", ...toolsOf("parallel")), designsCard())));
        parts.push(section("side", "Side by side", el("div", { id: "picked" })));
        parts.push(section("pictures", "Pictures", el("div", { id: "drawn" })));
      }
    }
    if (charts.length) parts.push(sqlSection());
    main.replaceChildren(...parts);
    showLinks();
  }

  function showLinks() {
    const links = [...main.querySelectorAll("section")].map((s) => el("a", { href: `#${s.id}` }, s.querySelector("h2").textContent));
    document.getElementById("parts").replaceChildren(...links);
  }

  function axisSelect(key, label) {
    const select = el("select", { "aria-label": label, onchange: () => change({ [key]: select.value }, () => loadChart("pareto")) },
      ...item.metrics.map((m) => el("option", { value: m.name }, m.name)));
    select.id = `axis-${key}`;
    return el("label", {}, `${label} `, select);
  }

  function toolsOf(name) {
    if (name === "pareto" && item.metrics.length > 1) {
      return [el("div", { class: "row" }, axisSelect("x", "x"), axisSelect("y", "y"), el("small", {}, "A click on a trial puts it side by side."))];
    }
    if (name === "parallel") {
      const boxes = [...item.parameters, ...item.metrics].map(({ name: axis }) => {
        const box = el("input", { type: "checkbox", value: axis, onchange: () => {
          const kept = [...document.querySelectorAll("#axes input:checked")].map((b) => b.value);
          change({ axes: kept.join(",") }, () => loadChart("parallel"));
        } });
        return el("label", {}, box, ` ${axis}`);
      });
      return [el("details", { id: "axes" }, el("summary", {}, "axes"), el("div", { class: "row" }, ...boxes))];
    }
    return [];
  }

  function designsCard() {
    const where = el("input", { id: "where", type: "text", spellcheck: "false", value: state.where || "", placeholder: "Size>=6, Policy=Open|Closed",
      onchange: () => change({ where: where.value }, () => { brush(); return loadDesigns(); }) });
    return el("div", { class: "card wide", id: "card-designs" }, el("h3", {}, "Best designs"),
      el("div", { class: "row" }, el("label", { class: "grow" }, "where ", where),
        el("button", { type: "button", onclick: () => { where.value = ""; change({ where: "" }, () => { brush(); return loadDesigns(); }); } }, "all")),
      el("p", { id: "count" }), el("div", { id: "table-designs" }));
  }

  function loadText(name) {
    const place = document.getElementById(`text-${name}`);
    return fill(place, ask("text", { ...chosen(), name }), (made) => { place.innerHTML = made.html; });
  }

  async function loadChart(name) {
    const box = document.getElementById(`card-${name}`);
    const choices = { pareto: { x: state.x, y: state.y }, parallel: { axes: state.axes }, importance: { measure: state.measure } }[name];
    const plot = document.getElementById(name) || el("div");
    await fill(plot, ask("chart", { ...chosen(), name, ...choices }), async (made) => {
      box.hidden = !made;
      if (!made) return;
      box.querySelector("h3").textContent = made.title;
      box.querySelector("figcaption p").textContent = made.sentence;
      plot.setAttribute("aria-label", `${made.title}. ${made.sentence}`);
      if (made.seconds) {
        plot.replaceChildren(el("button", { type: "button", onclick: () => change({ measure: "1" }, () => loadChart(name)) },
          `measure it: about ${Math.ceil(made.seconds)} s of simulation`));
        return;
      }
      if (!plot.classList.contains("js-plotly-plot")) plot.replaceChildren();
      if (name === "parallel") constrain(made.figure);
      await draw(name, made.figure);
      if (name === "pareto") afterPareto(made.figure);
      if (name === "parallel") afterParallel(made.figure);
    });
  }

  function afterPareto(figure) {
    const shown = [figure.layout.xaxis.metric, figure.layout.yaxis.metric];
    ["x", "y"].forEach((key, i) => { const select = document.getElementById(`axis-${key}`); if (select) select.value = shown[i]; });
    const plot = document.getElementById("pareto");
    plot.removeAllListeners("plotly_click");
    plot.on("plotly_click", (event) => pick(event.points[0].customdata));
  }

  // --- brushing ------------------------------------------------------------------------------------------------------

  const conditions = () => (state.where || "").split(",").map((part) => part.match(/^\s*(\S+?)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*$/)).filter(Boolean)
    .map(([, name, operator, text]) => ({ name, operator, text }));
  const valuesOf = (name) => item.parameters.find((p) => p.name === name)?.values;

  function meets(value, { operator, text }) {
    const same = text.split("|").some((word) => word.trim() === String(value) || (word.trim() !== "" && Number(word) === value));
    if (operator === "=") return same;
    if (operator === "!=") return !same;
    const number = Number(text);
    return { "<": value < number, "<=": value <= number, ">": value > number, ">=": value >= number }[operator];
  }

  // Show the conditions as brushes on the axes that have them.
  function constrain(figure) {
    for (const dimension of figure.data[0].dimensions) {
      const mine = conditions().filter((c) => c.name === dimension.name);
      delete dimension.constraintrange;
      if (!mine.length) continue;
      const values = valuesOf(dimension.name);
      if (!values) {
        const low = Math.max(...mine.filter((c) => c.operator[0] === ">").map((c) => Number(c.text)), Math.min(...dimension.values));
        const high = Math.min(...mine.filter((c) => c.operator[0] === "<").map((c) => Number(c.text)), Math.max(...dimension.values));
        dimension.constraintrange = [low, high];
        continue;
      }
      const ranges = [];
      values.forEach((value, i) => {
        if (!mine.every((c) => meets(value, c))) return;
        const last = ranges[ranges.length - 1];
        if (last && last[1] > i - 1) last[1] = i + 0.3; else ranges.push([i - 0.3, i + 0.3]);
      });
      if (ranges.length) dimension.constraintrange = ranges.length === 1 ? ranges[0] : ranges;
    }
  }

  async function brush() {
    if (figures.parallel) { constrain(figures.parallel); await draw("parallel", figures.parallel); }
  }

  // What a range of an axis says in the words of the filter.
  function wordsOf(name, ranges) {
    const values = valuesOf(name);
    if (!values) return [`${name}>=${Number(ranges[0][0].toPrecision(6))}`, `${name}<=${Number(ranges[0][1].toPrecision(6))}`];
    const kept = values.filter((_, i) => ranges.some(([low, high]) => low <= i && i <= high));
    if (kept.length === values.length || !kept.length) return [];
    const at = values.indexOf(kept[0]);
    const run = kept.every((value, i) => value === values[at + i]);
    if (run && kept.length > 2 && kept.every((value, i) => typeof value === "number" && (!i || value > kept[i - 1]))) {
      return [`${name}>=${kept[0]}`, `${name}<=${kept[kept.length - 1]}`];
    }
    return [`${name}=${kept.join("|")}`];
  }

  function afterParallel(figure) {
    const axes = new Set(figure.data[0].dimensions.map((d) => d.name));
    for (const box of document.querySelectorAll("#axes input")) box.checked = axes.has(box.value);
    const plot = document.getElementById("parallel");
    plot.removeAllListeners("plotly_restyle");
    plot.on("plotly_restyle", ([changed]) => {
      if (!Object.keys(changed).some((key) => key.includes("constraintrange"))) return;
      const rest = conditions().filter((c) => !axes.has(c.name)).map((c) => `${c.name}${c.operator}${c.text}`);
      const words = plot.data[0].dimensions.flatMap((d, i) => {
        const range = d.constraintrange;
        return range ? wordsOf(figure.data[0].dimensions[i].name, Array.isArray(range[0]) ? range : [range]) : [];
      });
      const where = [...rest, ...words].join(", ");
      document.getElementById("where").value = where;
      change({ where }, loadDesigns);
    });
  }

  // --- designs -------------------------------------------------------------------------------------------------------

  function pick(name) {
    if (!name) return;
    const kept = state.pick.includes(name) ? state.pick.filter((one) => one !== name) : [...state.pick, name].slice(-8);
    change({ pick: kept }, loadPicked);
    for (const box of document.querySelectorAll("#table-designs input")) box.checked = kept.includes(box.value);
  }

  async function loadDesigns() {
    const place = document.getElementById("table-designs");
    await fill(place, ask("designs", { ...chosen(), where: state.where }), (made) => {
      const rows = made.rows.map((row) => [
        el("label", {}, el("input", { type: "checkbox", value: row.name, checked: state.pick.includes(row.name), "aria-label": "put side by side", onchange: () => pick(row.name) })),
        ...row.cells.map((text, i) => (made.numbers[i] ? el("data", { value: row.values[i] ?? "" }, text) : text))]);
      document.getElementById("count").textContent =
        `${made.count.toLocaleString("en")} of ${item.trials.toLocaleString("en")} trials meet this; the best different designs:`;
      place.replaceChildren(rows.length ? table(["compare", ...made.columns], rows, "best designs", { numbers: [false, ...made.numbers] }) : el("p", {}, "No feasible trial meets this."));
      archgym.addSorting(place);
    });
  }

  async function loadPicked() {
    const place = document.getElementById("picked");
    if (!state.pick.length) {
      place.replaceChildren(el("p", {}, "Tick designs in the table above, or click trials in the trade-off, to see them side by side."));
      return;
    }
    await fill(place, ask("side", { ...chosen(), pick: state.pick }), (made) => {
      place.innerHTML = made.html;
      place.append(el("div", { class: "row" }, ...state.pick.map((name, i) => actions(name, `design ${i + 1}`))));
    });
  }

  function actions(name, title) {
    const formats = Object.entries(item.formats).map(([key, text]) => el("option", { value: key }, text));
    const to = el("select", { "aria-label": `export ${title} as`, onchange: () => {
      if (to.value) location.href = `export${address({ ...chosen(), design: name, to: to.value })}`;
      to.value = "";
    } }, el("option", { value: "" }, "export as ..."), ...formats);
    return el("span", { class: "chip" }, el("b", {}, title),
      el("button", { type: "button", onclick: () => change({ draw: name }, loadPictures) }, "draw"), to,
      el("button", { type: "button", "aria-label": `remove ${title}`, onclick: () => pick(name) }, "\u00d7"));
  }

  async function loadPictures() {
    const place = document.getElementById("drawn");
    if (!state.draw) {
      place.replaceChildren(el("button", { type: "button", onclick: () => change({ draw: "best" }, loadPictures) }, "draw the best design"));
      return;
    }
    place.replaceChildren(el("p", {}, "Drawing ..."));
    await fill(place, ask("pictures", { ...chosen(), design: state.draw === "best" ? "" : state.draw }), (made) => {
      const drawn = made.map((p) => el("figure", { class: "card wide" },
        el("figcaption", {}, el("h3", {}, p.title), el("p", {}, p.sentence)),
        el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": p.title }, el("img", { alt: p.title, src: p.image }))));
      place.replaceChildren(drawn.length ? el("div", { class: "grid" }, ...drawn) : el("p", {}, "This simulator draws no pictures of a design."));
    });
  }

  // --- SQL -----------------------------------------------------------------------------------------------------------

  const EXAMPLE = "SELECT agent, count(*) AS trials, max(reward) AS best FROM trials GROUP BY agent ORDER BY best DESC";

  function sqlSection() {
    const text = el("textarea", { id: "sql-text", rows: "3", spellcheck: "false", "aria-label": "SQL over the table trials",
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(); } });
    text.value = state.sql || EXAMPLE;
    const run = () => change({ sql: text.value }, loadSql);
    return section("sql", "SQL", text, el("div", { class: "row" }, el("button", { type: "button", id: "sql-run", onclick: run }, "run"),
      el("small", {}, "Ctrl+Enter runs it; the table is called trials, and nothing else can be read.")), el("div", { id: "sql-result" }));
  }

  async function loadSql() {
    if (!state.sql) return;
    const place = document.getElementById("sql-result");
    await fill(place, ask("sql", { at: state.at, sql: state.sql }), (made) => {
      place.replaceChildren(table(made.columns, made.rows, "result of the query", { numbers: made.numbers }),
        el("p", {}, `${made.rows.length.toLocaleString("en")} rows${made.more ? ", and more" : ""}`));
      archgym.addSorting(place);
    });
  }

  async function loadStudy() {
    const place = document.getElementById("study-place");
    if (place) await fill(place, ask("study", { at: state.at }), (made) => showHtml(place, made));
    showLinks();
  }

  // --- all of it -----------------------------------------------------------------------------------------------------

  function setLive(live) {
    document.getElementById("live").hidden = !live;
  }

  async function loadParts(again) {
    const best = document.getElementById("text-best")?.textContent;
    let told = [];
    const jobs = [];
    if (item.charts) {
      const names = item.charts.filter((name) => name !== "parallel" || item.parameters.length);
      jobs.push(loadText("facts"), ...names.map(loadChart));
      // These simulate a few designs: the page is there before they are.
      jobs.push(loadText("best").then(() => {
        if (!again || document.getElementById("text-best").textContent !== best) told = [loadText("found"), loadText("changes")];
      }));
      if (item.parameters.length) jobs.push(loadDesigns(), ...(again ? [] : [loadPicked(), loadPictures()]));
      if (!again) jobs.push(loadSql());
    }
    jobs.push(loadStudy());
    await Promise.all(jobs);
    filters();
    Promise.all(told).then(() => { root.dataset.told = "true"; });
  }

  async function show() {
    const mine = ++turn;
    delete root.dataset.ready;
    delete root.dataset.told;
    for (const id of Object.keys(figures)) delete figures[id];
    try {
      if (state.at === undefined) {
        await showList();
      } else {
        item = await ask("item", chosen());
        if (mine !== turn) return;
        document.title = `archgym: ${item.title}`;
        document.getElementById("title").textContent = item.title;
        setLive(item.live);
        if (item.kind === "suite") { await showSuite(); } else { showFrame(); await loadParts(false); }
      }
    } catch (error) {
      if (mine === turn) main.replaceChildren(failed(error));
    }
    if (mine === turn) { root.dataset.ready = "true"; follow(); }
  }

  // The files of what is shown are followed: one refresh at a time, the latest state last.
  let refreshing = false;
  let waiting = false;

  async function refresh() {
    if (refreshing) { waiting = true; return; }
    refreshing = true;
    const mine = turn;
    try {
      if (state.at === undefined) await showList();
      else if (item && item.kind !== "suite") {
        const next = await ask("item", chosen());
        if (mine !== turn) return;
        const shape = (one) => JSON.stringify([one.problems, one.charts, one.parameters, one.results]);
        const same = shape(item) === shape(next);
        item = next;
        setLive(item.live);
        if (!same) showFrame();
        await loadParts(same);
      }
    } catch (error) {
      console.warn(error.message);
    } finally {
      refreshing = false;
      if (waiting) { waiting = false; refresh(); }
    }
  }

  function follow() {
    if (stream) stream.close();
    stream = new EventSource(`api/events${address({ at: state.at })}`);
    stream.onmessage = (event) => { setLive(JSON.parse(event.data).live); refresh(); };
  }

  // --- keys and theme ------------------------------------------------------------------------------------------------

  function setTheme(dark) {
    archgym.setTheme(dark);
    if (window.Plotly) archgym.draw(figures);
  }

  function toggleTheme() {
    const dark = root.dataset.theme !== "dark";
    localStorage.setItem("theme", dark ? "dark" : "light");
    setTheme(dark);
  }

  function step(by) {
    const heads = [...main.querySelectorAll("h2")];
    const focused = heads.indexOf(document.activeElement);
    const at = focused >= 0 ? focused : heads.findIndex((head) => head.getBoundingClientRect().top > 0) - (by > 0 ? 1 : 0);
    const next = heads[Math.min(Math.max(at + by, 0), heads.length - 1)];
    if (next) { next.tabIndex = -1; next.focus(); next.scrollIntoView(); }
  }

  const focus = (id) => { const node = document.getElementById(id); if (node) { node.scrollIntoView({ block: "center" }); node.focus(); } };
  const KEYS = {
    g: () => { location.href = "?"; }, j: () => step(1), k: () => step(-1), o: () => focus("objective"), f: () => focus("where"),
    s: () => focus("sql-text"), t: toggleTheme, "/": () => focus("search"), "?": () => document.getElementById("keys").showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
  });
  document.getElementById("theme").addEventListener("click", toggleTheme);
  document.getElementById("help").addEventListener("click", KEYS["?"]);
  window.addEventListener("popstate", () => { state = read(); show(); });
  const kept = localStorage.getItem("theme");
  archgym.setTheme(kept ? kept === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches);
  show();
})();
