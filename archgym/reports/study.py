"""The lottery board of a study: what its agents are worth tuned and untuned, over budgets and problems."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from archgym.reports.charts import FLOOR, Figure, anytime_figure, figure, plain, style
from archgym.reports.html import card, sorted_table
from archgym.studies.summary import Results


def study_sections(results: Results) -> tuple[list[str], dict[str, Figure]]:
    """HTML of the sections, and the figures in them by identifier."""
    figures, cards = {}, []
    for key, chart in (("study-tuned", _curves(results, "tuned")), ("study-untuned", _curves(results, "untuned")),
                       ("study-profile", _profile(results))):  # fmt: skip
        figures[key] = chart[2]
        cards.append(card(key, *chart))
    intro = (
        f"<p>{len(results.runs):,} finished runs on {len(results.keys)} problem(s). Regret is normalised: 0 = optimum (or "
        "best known), 1 = median random design; interquartile means with 95 % bootstrap intervals. Tuned: the best setting by "
        "half of the seeds, judged on the other half.</p>"
    )
    agents = table(
        ["agent", "settings", "runs", "budget", "tuned regret", "regret of any setting", "agent us/evaluation"],
        [
            [row["agent"], row["settings"], row["runs"], row["budget"], _interval(row["tuned_regret_iqm"]),
             _interval(row["untuned_regret_iqm"]), (row["agent_us_per_evaluation"], f"{row['agent_us_per_evaluation']:,.0f}")]
            for row in sorted(results.agent_table(), key=lambda row: row["tuned_regret_iqm"][0])
        ],
    )  # fmt: skip
    sections = [
        f'<section id="study"><h2>Agents</h2>{intro}{agents}<div class="grid">{"".join(cards)}</div></section>',
        f'<section id="lottery"><h2>The lottery</h2><p>Normalised regret over the settings of an agent\'s hyperparameters '
        f"(median over seeds).</p>{_lottery(results)}</section>",
    ]
    ranked = results.rank_table()
    if ranked["mean_ranks"]:
        rows = sorted(ranked["mean_ranks"].items(), key=lambda item: item[1])
        test = (
            f"; Friedman p = {ranked['p_value']:.3g}, critical difference {ranked['critical_difference']:.2f}"
            if "p_value" in ranked
            else " (no test below ten problems)"
        )
        beats = table(
            ["agent", "against", "probability of a lower regret"],
            [[row["agent"], row["against"], _interval(row["probability"])] for row in results.improvement_table()],
        )
        sections.append(
            f'<section id="ranks"><h2>Ranks</h2><p>Mean ranks of the tuned agents over {ranked["problems"]} '
            f"problem(s){test}.</p>{table(['agent', 'mean rank'], [[name, (rank, f'{rank:.2f}')] for name, rank in rows])}"
            f"{beats}</section>"
        )
    return sections, figures


def _lottery(results: Results) -> str:
    rows = []
    for problem, group in itertools.groupby(results.problem_table(), key=lambda row: row["problem"]):
        for row in group:
            cells = [row["tuned_regret"][0], *(row[f"lottery_{key}"] for key in ("best", "median", "worst"))]
            rows.append(
                [problem, row["agent"], row["lottery_settings"], *((value, f"{value:.3f}") for value in cells),
                 (row["lottery_tickets"], f"{row['lottery_tickets']:.0%}")]
            )  # fmt: skip
    head = ["problem", "agent", "settings", "tuned regret", "best setting", "median", "worst", "within 0.05 of best"]
    return table(head, rows)


def _interval(values: Sequence[float]) -> tuple[float, str]:
    value, low, high = values
    return value, f"{value:.3f} [{low:.3f}, {high:.3f}]" if low == low else f"{value:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that sorts by any column: cells are texts, whole numbers, or pairs of a value to sort by and its text."""
    lines = []
    for row in rows:
        cells = ""
        for cell in row[1:]:
            value, text = (
                cell if isinstance(cell, tuple) else (cell, f"{cell:,}" if isinstance(cell, int) else str(cell))
            )
            cells += f'<td data-value="{html.escape(str(value))}">{html.escape(text)}</td>'
        lines.append(f'<tr><th scope="row">{html.escape(str(row[0]))}</th>{cells}</tr>')
    return sorted_table(f"{head[0]} table", head, lines)


def _curves(results: Results, which: str) -> tuple[str, str, Figure]:
    found = results.curves()
    lines = []
    for number, (agent, rows) in enumerate(found["agents"].items()):
        if rows[which]:
            middle, low, high = np.maximum(np.array(rows[which]).T, FLOOR)
            at = found["evaluations"][: len(middle)]
            colour, dash, _ = style(number)
            lines.append((agent, colour, dash, at, low, middle, high))
    title = "Tuned agents" if which == "tuned" else "Any setting"
    sentence = "Interquartile mean of normalised regret by evaluations, with its 95 % interval; lower is better."
    return title, sentence, anytime_figure(lines, "normalised regret")


def _profile(results: Results) -> tuple[str, str, Figure]:
    found = results.profiles()
    traces = []
    for number, (agent, shares) in enumerate(found["agents"].items()):
        colour, dash, _ = style(number)
        traces.append(
            {
                "type": "scatter", "mode": "lines", "x": np.maximum(found["regret"], FLOOR).tolist(), "y": shares,
                "name": plain(agent), "legendgroup": agent,
                "line": {"color": colour, "dash": dash, "width": 2.5, "shape": "hv"},
            }
        )  # fmt: skip
    xaxis = {"title": {"text": "normalised regret"}, "type": "log", "exponentformat": "power"}
    yaxis = {"title": {"text": "share of runs"}, "tickformat": ".0%", "range": [0, 1.02]}
    return (
        "Performance profile",
        "Share of the tuned runs with at most a regret; higher is better.",
        figure(traces, xaxis, yaxis),
    )
