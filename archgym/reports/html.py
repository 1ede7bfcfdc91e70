"""Builds the report's figures with Plotly and puts them, the data and the library into one HTML file."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from archgym._version import __version__
from archgym.account import account_for
from archgym.errors import MissingExtraError
from archgym.quantities import quantity, unit_name
from archgym.reports import data
from archgym.reports.data import ProblemReport

# Okabe and Ito's palette: told apart with any kind of colour blindness; dashes and markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")


def write_report(folder: Path | str, path: Path | None = None, *, trust: bool = False) -> Path:
    """Write ``report.html`` for the runs below ``folder`` (or to ``path``) and return where it is.

    ``trust``: see :func:`archgym.reports.data.load_report`.
    """
    from archgym.writing import write_text

    folder = Path(folder)
    reports = data.load_report(folder, trust=trust)
    path = path or folder / "report.html"
    text = render(reports)
    return write_text(path, text)


def render(reports: list[ProblemReport]) -> str:
    """The report as one HTML text."""
    sections: list[str] = []
    figures: dict[str, Any] = {}
    for number, report in enumerate(reports):
        body, made = _problem_section(report, f"p{number}")
        sections.append(body)
        figures.update(made)
    names = ", ".join(dict.fromkeys(report.name for report in reports))
    links = [
        f'<a href="#p{i}">{html.escape(r.name)} <small>{html.escape(r.objective)}</small></a>'
        for i, r in enumerate(reports)
    ]
    return page(f"archgym: {names}", links, sections, figures)


def page(title: str, links: Sequence[str], sections: Sequence[str], figures: Mapping[str, Any]) -> str:
    """One HTML text that opens offline, with the library inside.

    Args:
        title: plain text.
        links, sections: HTML.
        figures: identifier of an element of class ``plot`` -> Plotly figure as plain data.
    """
    try:
        import plotly.offline
    except ModuleNotFoundError:
        raise MissingExtraError("the report", "plot") from None
    library = gzip.compress(plotly.offline.get_plotlyjs().encode(), 9, mtime=0)
    files = resources.files(__package__)
    parts = {
        "TITLE": html.escape(title),
        "VERSION": __version__,
        "NAVIGATION": "".join(links),
        "SECTIONS": "\n".join(sections),
        "STYLE": files.joinpath("report.css").read_text(encoding="utf-8"),
        "SCRIPT": files.joinpath("report.js").read_text(encoding="utf-8"),
        # "</" cannot stand inside a script element.
        "FIGURES": json.dumps(figures, separators=(",", ":")).replace("</", "<\\/"),
        "LIBRARY": base64.b64encode(library).decode(),
    }
    text = files.joinpath("report.html").read_text(encoding="utf-8")
    for key, value in parts.items():
        text = text.replace("{{" + key + "}}", value)
    return text


def _problem_section(report: ProblemReport, key: str) -> tuple[str, dict[str, Any]]:
    figures: dict[str, Any] = {}
    blocks = []

    def add(name: str, title: str, sentence: str, figure: Any) -> None:
        if figure is None:
            return
        identifier = f"{key}-{name}"
        figures[identifier] = json.loads(figure.to_json())
        label = html.escape(f"{title}. {sentence}")
        blocks.append(
            f'<figure class="card"><figcaption><h3>{html.escape(title)}</h3><p>{html.escape(sentence)}</p></figcaption>'
            f'<div class="plot" id="{identifier}" role="img" aria-label="{label}" tabindex="0"></div></figure>'
        )

    optimum = report.problem.optimum if report.problem is not None else None
    seeds = max(len(report.of(agent)) for agent in report.agents)
    add(
        "anytime",
        "Best reward so far",
        f"Median over {seeds} run(s) an agent, band from the lower to the upper quartile; equal budgets, counted in "
        "simulator evaluations.",
        _anytime(report),
    )
    if optimum is not None:
        what = "the exhaustive optimum" if optimum.exhaustive else "the best known reward"
        add(
            "regret",
            "Regret",
            f"Distance to {what} ({optimum.reward:.4f}); log scale, lower is better.",
            _regret(report),
        )
    if len(report.runs) > len(report.agents):
        add(
            "lottery",
            "Final reward of every run",
            "One point a run: the spread over seeds and hyperparameters is what a single run's result is worth.",
            _lottery(report),
        )
    trials = pa.concat_tables([run.table for run in report.runs], promote_options="permissive")
    if report.problem is not None:
        add("pareto", "Trade-off", "Feasible trials; the line is the Pareto front. Point at a trial to see its design.",
            _pareto(report, trials))  # fmt: skip
        add("parallel", "Best trials in parallel coordinates", "Drag along an axis to filter; brighter is better.",
            _parallel(report, trials))  # fmt: skip
        sentence = (
            "Share of the reward's variance that each parameter explains alone, over all trials of this report "
            "(agents do not sample evenly, so read it as a hint)."
        )
        add("importance", "What matters", sentence, _importance(report, trials))
    extra = _simulator_figures(report)
    return (
        f'<section id="{key}"><h2>{html.escape(report.name)}</h2>{_found(report)}{_facts(report, optimum)}{_best_table(report)}'
        f'<div class="grid">{"".join(blocks)}{extra}</div></section>',
        figures,
    )


def _found(report: ProblemReport) -> str:
    """One sentence on what was found."""
    problem = report.problem
    if problem is None:
        return ""
    best = data.best_rows(report)[0]
    design = problem.space.encode({name: best["row"][name] for name in problem.space.names})
    metrics = {metric.name: best["row"][metric.name] for metric in problem.metrics}
    account = account_for(problem, design, best["reward"], metrics, best["agent"])
    return f"<p><strong>{html.escape(account.sentence)}</strong></p>"


def _facts(report: ProblemReport, optimum: Any) -> str:
    evaluations = sum(len(run.best) for run in report.runs)
    trials = sum(len(run.table) for run in report.runs)
    facts = [
        ("objective", report.objective),
        ("space", report.space + ("" if report.problem is None else f" ({_count(report.problem.space.size)} designs)")),
        ("runs", f"{len(report.runs)} ({', '.join(report.agents)})"),
        ("evaluations", f"{evaluations:,} simulated, {trials - evaluations:,} repeated from cache"),
    ]  # fmt: skip
    if report.problem is not None:
        facts.insert(0, ("workload", report.problem.workload.description))
    else:
        facts.append(("note", f"the problem could not be made again: {report.missing}"))
    if optimum is not None:
        facts.append(("optimum" if optimum.exhaustive else "best known", f"{optimum.reward:.4f}"))
    items = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="facts">{items}</dl>'


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"{size:.3g}"


def _best_table(report: ProblemReport) -> str:
    best = data.best_rows(report)
    head = "".join(f'<th scope="col">{html.escape(row["agent"])}</th>' for row in best)
    lines = [("reward", [f"{row['reward']:.4f}" for row in best], "")]
    lines.append(("found after", [f"{row['found']:,}" for row in best], "evaluations"))
    if report.problem is not None:
        parameters = [(p.name, p.unit) for p in report.problem.space.parameters]
        metrics = [(m.name, m.unit) for m in report.problem.metrics if m.direction != "none"]
    else:
        parameters, metrics = [], []
    body = _table_rows(lines)
    for title, names in (("metrics", metrics), ("design", parameters)):
        rows = []
        for name, unit in names:
            # A measured value carries its unit, as its prefix is its own.
            measured = title == "metrics"
            values = [_cell(row["row"].get(name), unit if measured else None) for row in best]
            rows.append((name, values, "" if measured else unit_name(unit)))
        if rows:
            body += f'<tr class="group"><th scope="rowgroup" colspan="{len(best) + 1}">{title}</th></tr>'
            body += _table_rows(rows)
    notes = "".join(f"<p>Note: {html.escape(remark)}.</p>" for remark in _remarks(report, best))
    return (
        '<h3>Best design of each agent</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="best designs"><table class="best"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{notes}"
    )


def _remarks(report: ProblemReport, best: list[dict[str, Any]]) -> list[str]:
    """What a person must read beside these designs, each once."""
    if report.problem is None:
        return []
    names, simulator = report.problem.space.names, report.problem.simulator
    return list(dict.fromkeys(r for row in best for r in simulator.remarks({n: row["row"].get(n) for n in names})))


def _table_rows(rows: list[tuple[str, list[str], str]]) -> str:
    text = ""
    for name, values, unit in rows:
        differs = ' class="differs"' if len(set(values)) > 1 else ""
        cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
        label = f"{html.escape(name)}{f' <small>{html.escape(unit)}</small>' if unit else ''}"
        text += f'<tr{differs}><th scope="row">{label}</th>{cells}</tr>'
    return text


def _cell(value: Any, unit: str | None = None) -> str:
    if value is None:
        return "-"
    if unit is not None and isinstance(value, float | int):
        return quantity(value, unit)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# --- figures -----------------------------------------------------------------------------------------------------


def _style(report: ProblemReport, agent: str) -> tuple[str, str, str]:
    i = report.agents.index(agent)
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]


def _rgba(colour: str, alpha: float) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def _figure(traces: list[Any], xaxis: dict[str, Any], yaxis: dict[str, Any], **layout: Any) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure(traces)
    figure.update_layout(
        template="none", margin={"l": 60, "r": 12, "t": 8, "b": 48}, height=layout.pop("height", 360),
        legend={"orientation": "h", "y": 1.12}, hovermode="closest", xaxis=xaxis, yaxis=yaxis, **layout,
    )  # fmt: skip
    return figure


Line = tuple[str, str, str, Any, Any, Any, Any]
"""A curve: name, colour, dash, x, lower quartile, median, upper quartile."""


def _curve_traces(lines: Sequence[Line], band: bool = True) -> list[Any]:
    import plotly.graph_objects as go

    traces = []
    for name, colour, dash, x, low, middle, high in lines:
        x = np.asarray(x)
        if band:
            edge = np.concatenate([low, np.asarray(high)[::-1]])
            traces.append(
                go.Scatter(
                    x=np.concatenate([x, x[::-1]]).tolist(), y=edge.tolist(), fill="toself", mode="lines",
                    line={"width": 0}, fillcolor=_rgba(colour, 0.18), hoverinfo="skip", showlegend=False,
                    legendgroup=name,
                )
            )  # fmt: skip
        traces.append(
            go.Scatter(
                x=x.tolist(), y=np.asarray(middle).tolist(), mode="lines", name=name, legendgroup=name,
                line={"color": colour, "dash": dash, "width": 2.5, "shape": "hv"},
                hovertemplate="%{x:,} evaluations<br>%{y:.5g}<extra>" + html.escape(name) + "</extra>",
            )
        )  # fmt: skip
    return traces


def anytime_figure(lines: Sequence[Line], title: str) -> Any:
    """Curves over simulator evaluations, both axes logarithmic; ``title`` of the vertical axis."""
    return _figure(
        _curve_traces(lines), _EVALUATIONS, {"title": {"text": title}, "type": "log", "exponentformat": "power"}
    )


def _curves(report: ProblemReport, change: Any) -> list[Any]:
    traces = []
    for agent in report.agents:
        colour, dash, _ = _style(report, agent)
        x, quartiles = data.anytime(report.of(agent))
        low, middle, high = (change(values) for values in quartiles)
        traces += _curve_traces([(agent, colour, dash, x, low, middle, high)], band=len(report.of(agent)) > 1)
    return traces


_EVALUATIONS = {"title": {"text": "simulator evaluations"}, "type": "log"}


def _anytime(report: ProblemReport) -> Any:
    return _figure(_curves(report, lambda v: v), _EVALUATIONS, {"title": {"text": f"reward ({report.objective})"}})


def _regret(report: ProblemReport) -> Any:
    assert report.problem is not None and report.problem.optimum is not None
    optimum = report.problem.optimum
    best = optimum.reward
    optimum.regret_of(max(float(run.best.max()) for run in report.runs))  # refuses what is above the optimum
    # A regret of zero has no place on a log axis: it is drawn at the least value the data can tell from zero.
    floor = 1e-6
    traces = _curves(report, lambda v: np.maximum(best - v, floor))
    return _figure(traces, _EVALUATIONS, {"title": {"text": "regret"}, "type": "log", "exponentformat": "power"})


def _lottery(report: ProblemReport) -> Any:
    import plotly.graph_objects as go

    traces = []
    for agent in report.agents:
        colour, _, marker = _style(report, agent)
        runs = report.of(agent)
        traces.append(
            go.Box(
                y=[float(run.best[-1]) for run in runs], name=agent, boxpoints="all", jitter=0.4, pointpos=0,
                marker={"color": colour, "symbol": marker, "size": 6}, line={"color": colour},
                fillcolor=_rgba(colour, 0.12), customdata=[[run.seed, run.hyperparameters] for run in runs],
                hovertemplate="%{y:.5g}<br>seed %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
            )
        )  # fmt: skip
    return _figure(traces, {"title": {"text": ""}}, {"title": {"text": "best reward of the run"}}, showlegend=False)


def _hover(report: ProblemReport, table: pa.Table, rows: Any) -> list[str]:
    assert report.problem is not None
    picked = table.take(pa.array(rows)).to_pylist()
    names = report.problem.space.names[:24]
    return ["<br>".join(f"{name} = {row[name]}" for name in names) for row in picked]


def _pareto(report: ProblemReport, table: pa.Table) -> Any:
    import plotly.graph_objects as go

    axes = data.pareto_axes(report)
    if len(axes) < 2:
        return None
    columns = [table.column(metric.name).to_numpy() for metric in axes]
    good = np.isfinite(columns[0]) & np.isfinite(columns[1]) & table.column("feasible").to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(good)
    if len(rows) < 2:
        return None
    signs = [1.0 if metric.direction == "min" else -1.0 for metric in axes]
    losses = np.stack([sign * column[rows] for sign, column in zip(signs, columns, strict=True)], axis=1)
    _, first = np.unique(losses, axis=0, return_index=True)
    rows, losses = rows[first], losses[first]
    front = rows[data.pareto_mask(losses)]
    front = front[np.argsort(columns[0][front])]
    rng = np.random.default_rng(0)
    shown = rows if len(rows) <= data.CLOUD_POINTS else np.sort(rng.choice(rows, data.CLOUD_POINTS, replace=False))
    agents = np.array(table.column("agent").to_pylist(), dtype=object)
    traces = []
    for agent in report.agents:
        colour, _, marker = _style(report, agent)
        mine = shown[agents[shown] == agent]
        if not len(mine):
            continue
        traces.append(
            go.Scattergl(
                x=columns[0][mine].tolist(), y=columns[1][mine].tolist(), mode="markers", name=agent,
                marker={"color": colour, "symbol": marker, "size": 5, "opacity": 0.55},
                text=_hover(report, table, mine),
                hovertemplate="%{x:.5g}, %{y:.5g}<br>%{text}<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    front = front[:400]
    traces.append(
        go.Scatter(
            x=columns[0][front].tolist(), y=columns[1][front].tolist(), mode="lines+markers", name="Pareto front",
            line={"color": "#888888", "shape": "hv" if signs[0] == signs[1] else "vh", "width": 1.5},
            marker={"symbol": "circle-open", "size": 9, "color": "#888888"}, text=_hover(report, table, front),
            hovertemplate="%{x:.5g}, %{y:.5g}<br>%{text}<extra>Pareto front</extra>",
        )
    )  # fmt: skip
    titles = [f"{m.name} ({'lower' if m.direction == 'min' else 'higher'} is better)" for m in axes]
    spans = [np.ptp(np.log(np.abs(c[rows]) + 1e-300)) > 3 and (c[rows] > 0).all() for c in columns]
    return _figure(
        traces,
        {"title": {"text": titles[0]}, "type": "log" if spans[0] else "linear"},
        {"title": {"text": titles[1]}, "type": "log" if spans[1] else "linear"},
    )


def _parallel(report: ProblemReport, table: pa.Table) -> Any:
    import plotly.graph_objects as go

    assert report.problem is not None
    rewards = table.column("reward").to_numpy()
    order = data.distinct_best(report.problem, table, data.PARALLEL_POINTS)
    parameters = [p for p in report.problem.space.parameters if len(p) > 1]
    if len(order) < 2 or len(parameters) < 2:
        return None
    # More axes than about sixteen cannot be told apart: the ones that matter most stay.
    shares = data.importances(report.problem, table)
    names = set(sorted(shares, key=lambda name: -shares[name])[:16])
    dimensions: list[dict[str, Any]] = []
    for p in parameters:
        if p.name not in names:
            continue
        index = {value: i for i, value in enumerate(p.values)}
        values = [index[value] for value in table.column(p.name).take(pa.array(order)).to_pylist()]
        step = max(1, len(p) // 8)
        ticks = list(range(0, len(p), step))
        dimensions.append(
            {"label": p.name, "values": values, "tickvals": ticks, "ticktext": [str(p.values[i]) for i in ticks],
             "range": [0, len(p) - 1]}
        )  # fmt: skip
    dimensions.append({"label": "reward", "values": rewards[order].tolist()})
    line = {"color": rewards[order].tolist(), "colorscale": "Viridis", "showscale": False}
    return _figure(
        [go.Parcoords(dimensions=dimensions, line=line, labelangle=-25, labelside="bottom")], {}, {}, height=460
    ).update_layout(margin={"l": 60, "r": 60, "t": 24, "b": 96})


def _importance(report: ProblemReport, table: pa.Table) -> Any:
    import plotly.graph_objects as go

    assert report.problem is not None
    shares = data.importances(report.problem, table)
    names = sorted(shares, key=lambda name: shares[name])[-20:]
    bar = go.Bar(
        x=[shares[name] for name in names], y=names, orientation="h", marker={"color": COLOURS[0]},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )  # fmt: skip
    figure = _figure(
        [bar],
        {"title": {"text": "share of the variance"}, "tickformat": ".0%"},
        {"automargin": True},
        height=max(220, 60 + 22 * len(names)),
    )
    return figure


def _simulator_figures(report: ProblemReport) -> str:
    """Pictures of the best design that the simulator draws itself (a timeline, a Gantt chart, a breakdown), as SVG."""
    if report.problem is None:
        return ""
    best = data.best_rows(report)[0]["row"]
    design = report.problem.space.encode({name: best[name] for name in report.problem.space.names})
    text = ""
    for title, sentence, svg in report.problem.simulator.pictures(design, report.problem.workload):
        image = base64.b64encode(svg.encode()).decode()
        name = html.escape(title)
        text += (
            f'<figure class="card wide"><figcaption><h3>{name}</h3><p>{html.escape(sentence)}</p></figcaption>'
            f'<div class="scroll"><img alt="{name}" src="data:image/svg+xml;base64,{image}"></div></figure>'
        )
    return text
