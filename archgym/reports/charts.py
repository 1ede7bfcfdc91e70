"""The figures of a report, as plain data for Plotly: every name in them is text, never markup."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from archgym.reports import data
from archgym.reports.data import ProblemReport
from archgym.simulator import Metric

# Okabe and Ito's palette: told apart with any kind of colour blindness; dashes and markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")

FLOOR = 1e-5
"""A normalised regret of zero has no place on a logarithmic axis: it is drawn here."""
AXES = 16
"""Axes of parallel coordinates: those of the parameters that matter most."""

Figure = dict[str, Any]
"""``data`` and ``layout`` of a Plotly figure, JSON-able but for NaN."""
Chart = tuple[str, str, Figure]
"""Title, sentence and figure."""
Line = tuple[str, str, str, Any, Any, Any, Any]
"""A curve: name, colour, dash, x, lower quartile, median, upper quartile."""

_EVALUATIONS = {"title": {"text": "simulator evaluations"}, "type": "log"}


def plain(text: object) -> str:
    """A foreign text for Plotly, which takes tags for markup: shown as it stands."""
    return html.escape(str(text), quote=False)


def style(number: int) -> tuple[str, str, str]:
    """Colour, dash and marker of the agent or entry of that number."""
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)]


def _rgba(colour: str, alpha: float) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def figure(traces: list[dict[str, Any]], xaxis: dict[str, Any], yaxis: dict[str, Any], **layout: Any) -> Figure:
    """A figure with the margins and the legend of all."""
    common = {
        "margin": {"l": 60, "r": 12, "t": 8, "b": 48}, "height": 360, "legend": {"orientation": "h", "y": 1.12},
        "hovermode": "closest", "xaxis": xaxis, "yaxis": yaxis,
    }  # fmt: skip
    return {"data": traces, "layout": common | layout}


def curve_traces(lines: Sequence[Line], band: bool = True) -> list[dict[str, Any]]:
    """Medians with bands from the lower to the upper quartile."""
    traces = []
    for name, colour, dash, x, low, middle, high in lines:
        x = np.asarray(x)
        if band:
            edge = np.concatenate([low, np.asarray(high)[::-1]])
            traces.append(
                {
                    "type": "scatter", "x": np.concatenate([x, x[::-1]]).tolist(), "y": edge.tolist(), "fill": "toself",
                    "mode": "lines", "line": {"width": 0}, "fillcolor": _rgba(colour, 0.18), "hoverinfo": "skip",
                    "showlegend": False, "legendgroup": name,
                }
            )  # fmt: skip
        traces.append(
            {
                "type": "scatter", "x": x.tolist(), "y": np.asarray(middle).tolist(), "mode": "lines",
                "name": plain(name), "legendgroup": name,
                "line": {"color": colour, "dash": dash, "width": 2.5, "shape": "hv"},
                "hovertemplate": "%{x:,} evaluations<br>%{y:.5g}<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    return traces


def anytime_figure(lines: Sequence[Line], title: str) -> Figure:
    """Curves over simulator evaluations, both axes logarithmic; ``title`` of the vertical axis."""
    yaxis = {"title": {"text": title}, "type": "log", "exponentformat": "power"}
    return figure(curve_traces(lines), _EVALUATIONS, yaxis)


def _curves(report: ProblemReport, change: Callable[[Any], Any]) -> list[dict[str, Any]]:
    traces = []
    for number, agent in enumerate(report.agents):
        colour, dash, _ = style(number)
        x, quartiles = data.anytime(report.of(agent))
        low, middle, high = (change(values) for values in quartiles)
        traces += curve_traces([(agent, colour, dash, x, low, middle, high)], band=len(report.of(agent)) > 1)
    return traces


# --- charts of a problem's runs ------------------------------------------------------------------------------------


def anytime(report: ProblemReport) -> Chart:
    """The best reward so far."""
    seeds = max(len(report.of(agent)) for agent in report.agents)
    sentence = (
        f"Median over {seeds} run(s) an agent, band from the lower to the upper quartile; equal budgets, counted in "
        "simulator evaluations."
    )
    yaxis = {"title": {"text": f"reward ({plain(report.objective)})"}}
    return "Best reward so far", sentence, figure(_curves(report, lambda v: v), _EVALUATIONS, yaxis)


def regret(report: ProblemReport) -> Chart | None:
    """The distance to the known optimum."""
    optimum = report.problem.optimum if report.problem is not None else None
    if optimum is None:
        return None
    best = optimum.reward
    optimum.regret_of(max(float(run.best.max()) for run in report.runs))  # refuses what is above the optimum
    # A regret of zero has no place on a log axis: it is drawn at the least value the data can tell from zero.
    floor = 1e-6
    what = "the exhaustive optimum" if optimum.exhaustive else "the best known reward"
    sentence = f"Distance to {what} ({best:.4f}); log scale, lower is better."
    yaxis = {"title": {"text": "regret"}, "type": "log", "exponentformat": "power"}
    traces = _curves(report, lambda v: np.maximum(best - v, floor))
    return "Regret", sentence, figure(traces, _EVALUATIONS, yaxis)


def lottery(report: ProblemReport) -> Chart | None:
    """The final reward of every run."""
    if len(report.runs) <= len(report.agents):
        return None
    traces = []
    for number, agent in enumerate(report.agents):
        colour, _, marker = style(number)
        runs = report.of(agent)
        traces.append(
            {
                "type": "box", "y": [float(run.best[-1]) for run in runs], "name": plain(agent), "legendgroup": agent,
                "boxpoints": "all", "jitter": 0.4, "pointpos": 0, "marker": {"color": colour, "symbol": marker, "size": 6},
                "line": {"color": colour}, "fillcolor": _rgba(colour, 0.12),
                "customdata": [[run.seed, plain(run.hyperparameters)] for run in runs],
                "hovertemplate": "%{y:.5g}<br>seed %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
            }
        )  # fmt: skip
    sentence = "One point a run: the spread over seeds and hyperparameters is what a single run's result is worth."
    axes = {"title": {"text": ""}}, {"title": {"text": "best reward of the run"}}
    return "Final reward of every run", sentence, figure(traces, *axes, showlegend=False)


def _hover(report: ProblemReport, rows: Any) -> list[str]:
    assert report.problem is not None
    names = list(report.problem.space.names[:24])
    columns = report.trials.select(names).take(pa.array(rows)).to_pydict()
    texts = [[f"{plain(name)} = {plain(value)}" for value in columns[name]] for name in names]
    return ["<br>".join(parts) for parts in zip(*texts, strict=True)]


def _axis(metric: Metric, values: Any) -> dict[str, Any]:
    """An axis of a metric, logarithmic where its values range over more than a factor of twenty."""
    title = f"{plain(metric.name)} ({'lower' if metric.direction == 'min' else 'higher'} is better)"
    wide = (values > 0).all() and np.ptp(np.log(values)) > 3
    return {
        "title": {"text": title},
        "type": "log" if wide else "linear",
        "exponentformat": "power",
        "metric": metric.name,
    }


def pareto(report: ProblemReport, x: str = "", y: str = "") -> Chart | None:
    """Two metrics of every feasible trial, with the Pareto front; the problem's own two where none are named."""
    known = {metric.name: metric for metric in data.pareto_axes(report)}
    names = list(dict.fromkeys([name for name in (x, y) if name in known] + list(known)))[:2]
    if len(names) < 2:
        return None
    axes = [known[name] for name in names]
    columns = [report.column(name) for name in names]
    signs = [1.0 if metric.direction == "min" else -1.0 for metric in axes]
    losses = np.stack([sign * column for sign, column in zip(signs, columns, strict=True)], axis=1)
    good = report.column("feasible") & np.isfinite(losses).all(axis=1)
    rows = np.flatnonzero(good)
    if len(rows) < 2:
        return None
    front = rows[data.front_rows(losses[rows])]
    front = front[np.argsort(columns[0][front])][:400]
    if len(rows) > data.CLOUD_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, data.CLOUD_POINTS, replace=False))
    rows = rows[np.sort(np.unique(losses[rows], axis=0, return_index=True)[1])]
    traces = []
    for number, agent in enumerate(report.agents):
        colour, _, marker = style(number)
        mine = rows[report.agent_of[rows] == number]
        if len(mine):
            traces.append(
                {
                    "type": "scattergl", "x": columns[0][mine].tolist(), "y": columns[1][mine].tolist(), "mode": "markers",
                    "name": plain(agent), "legendgroup": agent, "customdata": mine.tolist(),
                    "marker": {"color": colour, "symbol": marker, "size": 5, "opacity": 0.55},
                    "text": _hover(report, mine),
                    "hovertemplate": "%{x:.5g}, %{y:.5g}<br>%{text}<extra>%{fullData.name}</extra>",
                }
            )  # fmt: skip
    traces.append(
        {
            "type": "scatter", "x": columns[0][front].tolist(), "y": columns[1][front].tolist(),
            "mode": "lines+markers", "name": "Pareto front", "customdata": front.tolist(),
            "line": {"color": "#888888", "shape": "hv" if signs[0] == signs[1] else "vh", "width": 1.5},
            "marker": {"symbol": "circle-open", "size": 9, "color": "#888888"}, "text": _hover(report, front),
            "hovertemplate": "%{x:.5g}, %{y:.5g}<br>%{text}<extra>Pareto front</extra>",
        }
    )  # fmt: skip
    sentence = "Feasible trials; the line is the Pareto front. Point at a trial to see its design."
    shown = np.concatenate([rows, front])
    return "Trade-off", sentence, figure(
        traces, *(_axis(metric, column[shown]) for metric, column in zip(axes, columns, strict=True))
    )  # fmt: skip


def parallel(
    report: ProblemReport, axes: Sequence[str] = (), shares: Mapping[str, float] | None = None
) -> Chart | None:
    """The best trials in parallel coordinates, over the named parameters and metrics, or over the parameters that matter
    most: by ``shares``, or by what designs drawn for the purpose say."""
    if report.problem is None:
        return None
    rewards = report.column("reward")
    order = data.distinct_best(report.problem, report.trials, data.PARALLEL_POINTS)
    parameters = {p.name: p for p in report.problem.space.parameters if len(p) > 1}
    metrics = {metric.name for metric in report.problem.metrics}
    if len(order) < 2 or len(parameters) < 2:
        return None
    names = [name for name in axes if name in parameters or name in metrics]
    if not names:
        kept = set(parameters)
        if len(parameters) > AXES:
            if shares is None:
                shares = data.explained(report.problem, report.sample)
                if report.effects is not None:
                    shares |= report.effects.shares
            kept = set(sorted(parameters, key=lambda name: -shares[name])[:AXES])
        names = [name for name in parameters if name in kept]
    dimensions: list[dict[str, Any]] = []
    widest = 0
    for name in names:
        column = report.trials.column(name).take(pa.array(order))
        if name not in parameters:
            dimensions.append({"label": plain(name), "name": name, "values": column.to_pylist(), "tickformat": "~s"})
            continue
        p = parameters[name]
        index = {value: i for i, value in enumerate(p.values)}
        ticks = list(range(0, len(p), max(1, len(p) // 8)))
        words = [str(p.values[i]) for i in ticks]
        widest = max(widest, *map(len, words))
        dimensions.append(
            {"label": plain(name), "name": name, "values": [index[value] for value in column.to_pylist()],
             "tickvals": ticks, "ticktext": words, "range": [0, len(p) - 1]}
        )  # fmt: skip
    best = rewards[order].tolist()
    dimensions.append({"label": "reward", "name": "reward", "values": best})
    trace = {
        "type": "parcoords", "dimensions": dimensions, "labelangle": -25, "labelside": "bottom",
        "line": {"color": best, "colorscale": "Viridis", "showscale": False}, "customdata": order.tolist(),
    }  # fmt: skip
    # Words stand to the left of their axis; with less room than this they would run into each other.
    room = min(140, max(64, 16 + 7 * widest))
    made = figure([trace], {}, {}, height=440, margin={"l": room, "r": 60, "t": 24, "b": 84})
    made["min_width"] = room * len(dimensions) + 60
    sentence = f"The {len(order):,} best different designs. Drag along an axis to filter; brighter is better."
    return "Best trials in parallel coordinates", sentence, made


def importance(report: ProblemReport) -> Chart | None:
    """What each parameter does to the reward over the whole space; nothing where nothing varies, or where designs cannot
    be simulated for it."""
    effects = report.effects
    if effects is None:
        return None
    shares = effects.shares
    names = sorted((name for name in shares if shares[name] > 0), key=lambda name: shares[name])[-20:]
    none = [name for name in shares if shares[name] == 0]
    bar = {
        "type": "bar", "x": [shares[name] for name in names], "y": [plain(name) for name in names], "orientation": "h",
        "marker": {"color": COLOURS[0]}, "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }  # fmt: skip
    sentence = (
        "Share of the reward's variance that is left when all other parameters are fixed (Sobol' total index, interactions "
        f"included), from {effects.designs:,} uniform feasible designs of its own, {effects.evaluations:,} simulations."
    )
    if none:
        sentence += f" Without any effect on them: {', '.join(none)}."
    xaxis = {"title": {"text": "share of the variance"}, "tickformat": ".0%"}
    height = max(220, 60 + 22 * len(names))
    return "What matters", sentence, figure([bar], xaxis, {"automargin": True}, height=height)


CHARTS: Mapping[str, Callable[..., Chart | None]] = {
    "anytime": anytime,
    "regret": regret,
    "lottery": lottery,
    "pareto": pareto,
    "parallel": parallel,
    "importance": importance,
}
"""The charts of a report by name, in order; each is None where there is nothing to draw."""
