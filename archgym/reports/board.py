"""The board of a suite: a static page of verified entries, with a sortable table and the curves of every problem."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

import numpy as np
from rich.console import Console

from archgym.errors import ArchGymError
from archgym.reading import checked, read_json
from archgym.reports.charts import FLOOR, Figure, anytime_figure, style
from archgym.reports.html import page as html_page
from archgym.reports.html import sorted_table
from archgym.studies.statistics import checkpoints
from archgym.suites.score import mean_ranks, pairs_told_apart, regrets, score
from archgym.suites.suite import Suite, SuiteProblem
from archgym.suites.verify import Verified, verify
from archgym.writing import write_json, write_text


@dataclass(frozen=True)
class Curves:
    """Normalised regret by evaluations on one problem.

    Attributes:
        evaluations: simulator evaluations, ascending.
        quartiles: entry -> lower quartile, median and upper quartile at as many of these as its runs reached.
    """

    evaluations: list[int]
    quartiles: dict[str, tuple[list[float], list[float], list[float]]]


@dataclass(frozen=True)
class BoardParts:
    """What a board's page is made of: plain data, which can be kept beside code.

    Attributes:
        title: plain text.
        links, sections: HTML.
        curves: identifier in a section -> what is drawn there.
    """

    title: str
    links: list[str]
    sections: list[str]
    curves: dict[str, Curves]

    @property
    def figures(self) -> dict[str, Figure]:
        """Identifier in a section -> figure."""
        return {key: _figure(curves) for key, curves in self.curves.items()}

    def html(self) -> str:
        """The page as one HTML text that opens offline."""
        return html_page(self.title, self.links, self.sections, self.figures)

    def write(self, path: Path) -> None:
        """Write the parts into a JSON file."""
        write_json(path, asdict(self), indent=None)


def read_board(path: Path | str) -> BoardParts:
    """The parts that :meth:`BoardParts.write` wrote into ``path``."""
    parts: BoardParts = checked(read_json(path, "board"), BoardParts, str(path))
    return parts


@dataclass(frozen=True)
class Board:
    """A board and what it says.

    Attributes:
        rows: the scores of the entries, best first, with the mean rank of each.
        refused: folder and reason.
        budget: simulator evaluations at which entries are compared.
        told_apart: pairs of entries told apart there, and pairs in all, a problem.
        parts: its page.
    """

    rows: list[dict[str, Any]]
    refused: list[dict[str, str]]
    budget: int
    told_apart: dict[str, tuple[int, int]]
    parts: BoardParts


def write_board(
    suite: Suite,
    folders: Sequence[Path | str],
    page: Path | str,
    *,
    sample: int = 64,
    console: Console | None = None,
) -> dict[str, Any]:
    """Verify the entries in ``folders`` and write the page of those that hold.

    Args:
        suite: the suite, measured.
        folders: of entries, wherever they come from.
        page: the HTML file to write.
        sample: see :func:`archgym.suites.verify.verify`.
        console: where each verdict is said; silent where None.

    Returns:
        ``entries``, ``refused``, ``budget``, ``told_apart``: as :class:`Board` has them (``entries``: its rows); ``page``: where
        the page is.

    Raises:
        ArchGymError: no entry holds.
    """
    page = Path(page)

    def link(folder: Path) -> str:
        return url_quote(os.path.relpath(folder, page.parent))

    board = board_of(suite, folders, link, sample=sample, console=console)
    write_text(page, board.parts.html())
    return {
        "entries": board.rows,
        "refused": board.refused,
        "page": str(page),
        "budget": board.budget,
        "told_apart": board.told_apart,
    }


def board_of(
    suite: Suite,
    folders: Sequence[Path | str],
    link: Callable[[Path], str],
    *,
    sample: int = 64,
    repeat: int = 1,
    console: Console | None = None,
) -> Board:
    """Verify the entries in ``folders`` and make the parts of the board of those that hold.

    Args:
        link: the address of an entry's folder.
        repeat: runs that an agent of archgym does again, as :func:`~archgym.suites.verify` takes them.
        suite, folders, sample, console: as :func:`write_board` takes them.

    Raises:
        ArchGymError: no entry holds.
    """
    kept: dict[str, Verified] = {}
    places: dict[str, Path] = {}
    refused = []
    for folder in map(Path, folders):
        try:
            verified = verify(suite, folder, sample=sample, repeat=repeat)
            if not verified.holds:
                first = verified.findings[0]
                raise ArchGymError(f"{first.kind} in {first.run}: {first.sentence}")
        except ArchGymError as error:
            refused.append({"folder": str(folder), "reason": str(error)})
            continue
        name = verified.entry.name
        while name in kept:
            name += "'"
        kept[name], places[name] = verified, folder
        if console is not None:
            console.print(f"{name}: holds, {verified.simulated:,} designs simulated again", highlight=False)
    if not kept:
        raise ArchGymError("no entry holds: " + "; ".join(row["reason"] for row in refused))
    return board_of_verified(suite, kept, {name: link(place) for name, place in places.items()}, places, refused)


def board_of_verified(
    suite: Suite,
    kept: Mapping[str, Verified],
    links_of: Mapping[str, str] | None = None,
    places: Mapping[str, Path] | None = None,
    refused: Sequence[dict[str, str]] = (),
) -> Board:
    """The parts of the board of entries that hold.

    Args:
        suite: the suite, measured.
        kept: what the entry goes by -> the entry, verified.
        links_of: address of each entry's folder; no links where None.
        places: folder of each entry; none is named where None.
        refused: folder and reason of entries that do not hold.
    """
    scores = {name: {**score(suite, verified), "agent": name} for name, verified in kept.items()}
    # Entries are compared at the largest budget that all of them reached.
    common = min(row["budgets"][-1] for row in scores.values())
    for row in scores.values():
        row["score"] = row["at"][str(common)]
    apart = pairs_told_apart(suite, kept, common)
    ranked = mean_ranks(suite, kept, common)["mean_ranks"]
    order = sorted(scores, key=lambda name: scores[name]["score"][0])
    rows = [
        {**scores[name], "rank": ranked.get(name, float("nan")), "folder": str((places or {}).get(name, ""))}
        for name in order
    ]
    table = _table(suite, rows, refused, links_of or {}, common)
    sections = [table, _grades(suite, apart)]
    links = ['<a href="#entries">entries</a>', '<a href="#problems">problems</a>']
    drawn: dict[str, Curves] = {}
    points = sorted({*checkpoints(suite.budget, 32).tolist(), *suite.budgets})
    curves = {name: regrets(suite, kept[name], points) for name in order}
    reach = {name: kept[name].entry.budgets(suite)[-1] for name in order}
    for number, problem in enumerate(suite.problems):
        key = f"curve{number}"
        drawn[key] = _curves(points, {name: columns[problem.key] for name, columns in curves.items()}, reach)
        links.append(f'<a href="#problem{number}">{html.escape(problem.problem)}</a>')
        sections.append(_section(suite, problem, number, key, rows))
    title = f"archgym suite: {suite.name} version {suite.version}"
    return Board(rows, list(refused), common, apart, BoardParts(title, links, sections, drawn))


def _curves(points: Sequence[int], columns: Mapping[str, Any], reach: Mapping[str, int]) -> Curves:
    """The quartiles of every entry with runs on a problem, up to the evaluations that it reached, to the digits a page shows."""
    quartiles = {}
    for name, regret in columns.items():
        if len(regret):
            at = [i for i, point in enumerate(points) if point <= reach[name]]
            found = np.quantile(regret[:, at], [0.25, 0.5, 0.75], axis=0)
            low, middle, high = ([float(f"{value:.5g}") for value in row] for row in found)
            quartiles[name] = (low, middle, high)
    return Curves(list(points), quartiles)


def _figure(curves: Curves) -> Figure:
    """Medians with bands, one line an entry."""
    lines = []
    for number, (name, quartiles) in enumerate(curves.quartiles.items()):
        colour, dash, _ = style(number)
        low, middle, high = np.maximum(quartiles, FLOOR)
        lines.append((name, colour, dash, curves.evaluations[: len(middle)], low, middle, high))
    return anytime_figure(lines, "normalised regret")


def _table(
    suite: Suite,
    rows: Sequence[Mapping[str, Any]],
    refused: Sequence[Mapping[str, str]],
    links: Mapping[str, str],
    common: int,
) -> str:
    head = ["entry", "score", *(f"{budget:,} evaluations" for budget in suite.budgets), "mean rank", "us/evaluation"]
    lines = []
    for row in rows:
        name = str(row["agent"])
        shown = html.escape(name)
        if name in links:
            shown = f'<a href="{html.escape(links[name])}">{shown}</a>'
        if row["outside"]:
            # Ours can be made to repeat; of others what is between the improvements has to be there.
            shown += f" <small>outside archgym{', packed: evaluations as it says' if row['packed'] else ''}</small>"
        value, low, high = row["score"]
        cells = [f'<td data-value="{value:.9g}">{value:.4f} <small>[{low:.4f}, {high:.4f}]</small></td>']
        cells += _cells(suite, row["at"])
        cells.append(f'<td data-value="{row["rank"]:.9g}">{row["rank"]:.2f}</td>')
        cost = row["agent_us_per_evaluation"]
        cells.append("<td>-</td>" if cost is None else f'<td data-value="{cost:.9g}">{cost:,.0f}</td>')
        lines.append(f'<tr><th scope="row">{shown}</th>{"".join(cells)}</tr>')
    note = "".join(f"<li>{html.escape(Path(row['folder']).name)}: {html.escape(row['reason'])}</li>" for row in refused)
    return (
        '<section id="entries"><h2>Entries</h2><p>Interquartile mean of normalised regret over all problems and seeds '
        f"(0 = best known, 1 = median random design) after {common:,} evaluations, with its 95 % bootstrap interval. "
        "Every improvement of every run was simulated again. Microseconds are those that the entry noted on its machine.</p>"
        + sorted_table("entries", head, lines)
        + (f"<h3>Refused</h3><ul>{note}</ul>" if note else "")
        + "</section>"
    )


def _cells(suite: Suite, at: Mapping[str, Any]) -> list[str]:
    """One cell a budget of the suite; a dash where the entry's runs end before."""
    found = [at.get(str(budget)) for budget in suite.budgets]
    return ["<td>-</td>" if cell is None else f'<td data-value="{cell[0]:.9g}">{cell[0]:.4f}</td>' for cell in found]


def _grades(suite: Suite, apart: Mapping[str, tuple[int, int]]) -> str:
    lines = []
    for number, problem in enumerate(suite.problems):
        known = problem.known
        assert known is not None
        bound = "&gt; " if known.draws_high is None else ""
        source = (
            "exhaustive"
            if known.best.exhaustive
            else f"{len(known.best.methods)} methods, {known.best.evaluations:,} each"
        )
        lines.append(
            f'<tr><th scope="row"><a href="#problem{number}">{html.escape(problem.title)}</a></th>'
            f'<td data-value="{known.draws:.9g}">{bound}{known.draws:,.0f}</td>'
            f'<td data-value="{known.baseline:.9g}">{known.baseline:.5g}</td>'
            f'<td data-value="{known.best.reward:.9g}">{known.best.reward:.5g}</td><td>{source}</td>'
            f'<td data-value="{apart[problem.key][0]}">{apart[problem.key][0]} of {apart[problem.key][1]}</td></tr>'
        )
    head = ["problem", "N", "median reward", "best reward", "best from", "pairs told apart"]
    return (
        '<section id="problems"><h2>Problems</h2><p>N: uniform draws until random search has an even chance of a '
        "normalised regret of 1 %. Pairs of entries are told apart by Mann and Whitney's test, p &lt; 0.05.</p>"
        f"{sorted_table('problems', head, lines)}</section>"
    )


def _section(suite: Suite, problem: SuiteProblem, number: int, key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        about = row["problems"][problem.key]
        cells = "".join(_cells(suite, about["regret"]))
        meets = about["meets"]
        if problem.meets is not None:
            share = list(meets.values())[-1] if meets else None
            cells += "<td>-</td>" if share is None else f'<td data-value="{share:.9g}">{share:.0%}</td>'
        lines.append(f'<tr><th scope="row">{html.escape(str(row["agent"]))}</th>{cells}</tr>')
    head = [
        "entry",
        *(f"{budget:,}" for budget in suite.budgets),
        *(["meets its budgets"] if problem.meets is not None else []),
    ]
    label = html.escape(f"Median normalised regret on {problem.title} by evaluations, one line an entry")
    return (
        f'<section id="problem{number}"><h2>{html.escape(problem.title)}</h2><div class="grid">'
        f'<figure class="card"><figcaption><p>Median normalised regret, band from the lower to the upper quartile.</p>'
        f'</figcaption><div class="plot" id="{key}" role="img" aria-label="{label}" tabindex="0"></div></figure></div>'
        f"{sorted_table('results', head, lines)}</section>"
    )
