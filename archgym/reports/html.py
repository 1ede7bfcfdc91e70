"""Puts a report's tables and figures and the plotting library into one HTML file."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from archgym._version import __version__
from archgym.account import account_for
from archgym.errors import MissingExtraError
from archgym.problem import Problem
from archgym.quantities import quantity, unit_name
from archgym.reports import data
from archgym.reports.charts import CHARTS, Figure
from archgym.reports.data import ProblemReport
from archgym.sensitivity import alike_sentence, relative, told_apart, without_effect
from archgym.space import Designs
from archgym.writing import finite, write_text


def write_report(folder: Path | str, path: Path | None = None, *, trust: bool = False) -> Path:
    """Write ``report.html`` for the runs below ``folder`` (or to ``path``) and return where it is.

    ``trust``: see :func:`archgym.reports.data.load_report`.
    """
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


@functools.cache
def _library() -> str:
    """The plotting library, compressed, as base64."""
    try:
        import plotly.offline
    except ModuleNotFoundError:
        raise MissingExtraError("the report", "plot") from None
    return base64.b64encode(gzip.compress(plotly.offline.get_plotlyjs().encode(), 9, mtime=0)).decode()


def page(title: str, links: Sequence[str], sections: Sequence[str], figures: Mapping[str, Any]) -> str:
    """One HTML text that opens offline, with the library inside.

    Args:
        title: plain text.
        links, sections: HTML.
        figures: identifier of an element of class ``plot`` -> Plotly figure as plain data.
    """
    files = resources.files(__package__)
    parts = {
        "TITLE": html.escape(title),
        "VERSION": __version__,
        "NAVIGATION": "".join(links),
        "SECTIONS": "\n".join(sections),
        "STYLE": files.joinpath("report.css").read_text(encoding="utf-8"),
        "SCRIPT": "".join(files.joinpath(name).read_text(encoding="utf-8") for name in ("plots.js", "report.js")),
        # Inside a script element neither "</script" nor "<!--<script" may stand.
        "FIGURES": json.dumps(finite(figures), separators=(",", ":")).replace("<", "\\u003c"),
        "LIBRARY": _library(),
    }
    text = files.joinpath("report.html").read_text(encoding="utf-8")
    # In one pass: a foreign name that looks like a place of the template is none.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda place: parts[place[1]], text)


def sorted_table(label: str, head: Sequence[str], lines: Sequence[str]) -> str:
    """A table that a click on a column's head sorts, in a frame that scrolls.

    Args:
        label: what it is, for readers who do not see it.
        head: the columns' heads, plain text.
        lines: HTML of the rows; a cell sorts by its ``data-value``, where it has one.
    """
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">'
        '<table class="best sortable"><thead><tr>'
        + "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
        + f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def card(identifier: str, title: str, sentence: str, figure: Figure) -> str:
    """The place of a figure: its title, what it says, and an element of class ``plot``."""
    label = html.escape(f"{title}. {sentence}")
    width = f' style="min-width:{figure["min_width"]}px"' if "min_width" in figure else ""
    return (
        f'<figure class="card"><figcaption><h3>{html.escape(title)}</h3><p>{html.escape(sentence)}</p></figcaption>'
        f'<div class="scroll"><div class="plot" id="{identifier}" role="img" aria-label="{label}" tabindex="0"{width}></div>'
        "</div></figure>"
    )


def _problem_section(report: ProblemReport, key: str) -> tuple[str, dict[str, Any]]:
    figures: dict[str, Any] = {}
    blocks = []
    for name, make in CHARTS.items():
        chart = make(report)
        if chart is not None:
            figures[f"{key}-{name}"] = chart[2]
            blocks.append(card(f"{key}-{name}", *chart))
    return (
        f'<section id="{key}"><h2>{html.escape(report.name)}</h2>{found(report)}{facts(report)}{best_table(report)}'
        f"{changes(report)}"
        f'<div class="grid">{"".join(blocks)}{pictures(report)}</div></section>',
        figures,
    )


def found(report: ProblemReport) -> str:
    """One sentence on what was found."""
    problem = report.problem
    if problem is None:
        return ""
    best = data.best_rows(report)[0]
    design = data.design_in(problem, best["row"])
    metrics = {metric.name: best["row"][metric.name] for metric in problem.metrics}
    account = account_for(problem, design, best["reward"], metrics, best["agent"])
    feasible = report.column("feasible").astype(bool)
    alike = (
        ""
        if told_apart(problem, report.column("reward")[feasible])
        else f"<p>{html.escape(alike_sentence(problem))}</p>"
    )
    # Against a usual design the account says why; without one, what comes nearest to this design says it.
    why = _reasons(report) if account.usual is None else ""
    return f'<p class="found">{html.escape(account.sentence.removesuffix(".") + why)}.</p>{alike}'


def _reasons(report: ProblemReport) -> str:
    """The parameters of the best design whose next best value costs most."""
    assert report.problem is not None
    parts = []
    for change in (report.changes or [])[:3]:
        if change.value is not None and change.cheapest is not None and change.cheapest[1] > 0:
            other, loss = change.cheapest
            parts.append(f"{change.parameter}={change.value} ({other} costs {_cost(report.problem, loss)})")
    return f"; what it rests on: {', '.join(parts)}" if parts else ""


def changes(report: ProblemReport) -> str:
    """What changing one parameter of the best design costs, as a table."""
    if report.problem is None:
        return ""
    found = report.changes
    if not found:
        return ""
    units = {p.name: p.unit for p in report.problem.space.parameters}
    rows = []
    for change in found:
        cells = ["any" if change.value is None else str(change.value)]
        for other in (change.cheapest, change.dearest):
            cells += ["-", "infeasible"] if other is None else [str(other[0]), _cost(report.problem, other[1])]
        label = _label(change.parameter, unit_name(units[change.parameter]))
        rows.append(
            f'<tr><th scope="row">{label}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in cells)}</tr>'
        )
    head = ("", "best design", "cheapest other value", "costs", "dearest", "costs")
    what = "the objective, in percent of the metrics" if relative(report.problem) else "reward"
    return (
        f"<h3>Change one parameter of the best design</h3><p>What it costs in {what}, the other parameters kept; below zero "
        'it is better.</p><div class="scroll" tabindex="0" role="region" aria-label="changing one parameter">'
        f'<table class="best"><thead><tr>{"".join(f"<th>{text}</th>" for text in head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cost(problem: Problem, loss: float) -> str:
    """A loss of reward for people: ``3.1 %``, ``330-fold`` where rewards are logarithms of ratios."""
    if loss == 0:
        return "nothing"
    if not relative(problem):
        return f"{loss:.3g}"
    if loss > 30:
        return "over a trillion-fold"
    ratio = float(np.exp(loss))
    return quantity(100 * (ratio - 1), "%", 2) if ratio < 10 else f"{quantity(ratio, '', 2)}-fold"


def facts(report: ProblemReport) -> str:
    """What was run, as a list of terms."""
    optimum = report.problem.optimum if report.problem is not None else None
    evaluations = sum(len(run.best) for run in report.runs)
    trials = sum(len(run.table) for run in report.runs)
    rows = [
        ("objective", report.objective),
        ("space", report.space + ("" if report.problem is None else f" ({_count(report.problem.space.size)} designs)")),
        ("runs", f"{len(report.runs)} ({', '.join(report.agents)})"),
        ("evaluations", f"{evaluations:,} simulated, {trials - evaluations:,} repeated from cache"),
    ]  # fmt: skip
    if report.problem is not None:
        rows.insert(0, ("workload", report.problem.workload.description))
    else:
        rows.append(("note", f"the problem could not be made again: {report.missing}"))
    if optimum is not None:
        rows.append(("optimum" if optimum.exhaustive else "best known", f"{optimum.reward:.4f}"))
    items = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in rows)
    return f'<dl class="facts">{items}</dl>'


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"{size:.3g}"


def best_table(report: ProblemReport) -> str:
    """The best design of each agent side by side."""
    return "<h3>Best design of each agent</h3>" + design_table(report, data.best_rows(report))


def design_table(report: ProblemReport, best: list[dict[str, Any]], found: str = "found after") -> str:
    """Designs side by side: a column for each of ``best`` (see :func:`archgym.reports.data.best_rows`), what differs in
    bold; ``found`` says what the number of the same name counts."""
    head = "".join(f'<th scope="col">{html.escape(row["agent"])}</th>' for row in best)
    for row in best:
        row["idle"] = (
            without_effect(report.problem, data.design_in(report.problem, row["row"])) if report.problem else ()
        )
    lines = [("reward", [f"{row['reward']:.4f}" for row in best], "")]
    lines.append((found, [f"{row['found']:,}" for row in best], "evaluations" if found == "found after" else ""))
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
            values = [
                "any" if name in row["idle"] else cell(row["row"].get(name), unit if measured else None) for row in best
            ]
            rows.append((name, values, "" if measured else unit_name(unit)))
        if rows:
            body += f'<tr class="group"><th scope="rowgroup" colspan="{len(best) + 1}">{title}</th></tr>'
            body += _table_rows(rows)
    notes = "".join(f"<p>Note: {html.escape(remark)}.</p>" for remark in _remarks(report, best))
    return (
        '<div class="scroll" tabindex="0" role="region" '
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
        text += f'<tr{differs}><th scope="row">{_label(name, unit)}</th>{cells}</tr>'
    return text


def _label(name: str, unit: str) -> str:
    return f"{_breakable(name)}{f' <small>{html.escape(unit)}</small>' if unit else ''}"


def _breakable(name: str) -> str:
    """A name that a narrow screen may break after an underscore or before a capital."""
    return re.sub(r"_|(?<=[a-z])(?=[A-Z])", r"\g<0><wbr>", html.escape(name))


def cell(value: Any, unit: str | None = None) -> str:
    """A value for people, with its unit where it was measured."""
    if value is None:
        return "-"
    if unit is not None and isinstance(value, float | int):
        return quantity(value, unit)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def pictures(report: ProblemReport) -> str:
    """Pictures of the best design that the simulator draws itself (a timeline, a Gantt chart, a breakdown), as SVG."""
    if report.problem is None:
        return ""
    text = ""
    for title, sentence, image in drawn(
        report.problem, data.design_in(report.problem, data.best_rows(report)[0]["row"])
    ):
        name = html.escape(title)
        text += (
            f'<figure class="card wide"><figcaption><h3>{name}</h3><p>{html.escape(sentence)}</p></figcaption>'
            f'<div class="scroll"><img alt="{name}" src="{image}"></div></figure>'
        )
    return text


def drawn(problem: Problem, design: Designs) -> list[tuple[str, str, str]]:
    """Title, sentence and address (a ``data:`` URL) of each picture that the simulator draws of a design ``(1, d)``."""
    return [
        (title, sentence, "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode())
        for title, sentence, svg in problem.simulator.pictures(design, problem.workload)
    ]
