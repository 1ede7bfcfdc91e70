"""Write what the shipped entries of the suites say into docs/suite.md, and the figures of their curves.

    python tools/suite_docs.py [SUITE ...]

For every ready suite with entries in data/suites/SUITE: a table of its problems between the markers ``grades`` and one of its
entries between ``entries``, docs/images/SUITE.svg with the median regret of six agents on every problem, and the board's data,
docs/boards/SUITE.json, of which the site's build makes the page (tools/docs_boards.py).
"""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from archgym.reports.board import board_of_verified
from archgym.studies.statistics import checkpoints
from archgym.suites.score import mean_ranks, pairs_told_apart, regrets, score
from archgym.suites.suite import Suite, load_suite, ready_suites
from archgym.suites.verify import Verified, verify

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "suite.md"
BOARDS = ROOT / "docs" / "boards"
SIX = ("random", "local", "sa", "ga", "re", "aco", "hyperband", "bohb", "mfga", "mfbo")
"""Of these there are six at most among the entries of a suite."""
FLOOR = 1e-4
"""A regret of zero has no place on a logarithmic axis: it is drawn here."""


def entries(suite: Suite) -> dict[str, Verified]:
    """The shipped entries of a suite that hold."""
    found = {}
    for folder in sorted((ROOT / "data" / "suites" / suite.name).glob("*/entry.json")):
        verified = verify(suite, folder.parent, repeat=0)
        if not verified.holds:
            raise SystemExit(f"{folder.parent} does not hold: {verified.findings[0].sentence}")
        found[verified.entry.name] = verified
    return found


def grades(suite: Suite, apart: dict[str, tuple[int, int]]) -> str:
    """The table of problems."""
    lines = [
        "| problem | N | 95 % interval | uniform designs | feasible | best known from | pairs told apart |",
        "| --- | ---: | --- | ---: | ---: | --- | ---: |",
    ]
    for problem in suite.problems:
        known = problem.known
        assert known is not None
        bound = known.draws_high is None
        interval = "" if bound else f"{known.draws_low:,.0f} to {known.draws_high:,.0f}"
        source = "exhaustive" if known.best.exhaustive else _source(known.best)
        pairs = "-" if problem.key not in apart else "{} of {}".format(*apart[problem.key])
        lines.append(
            f"| `{problem.title.replace('|', '/')}` | {'> ' if bound else ''}{known.draws:,.0f} | {interval} | "
            f"{known.samples:,} | {known.feasible_share:.0%} | {source} | {pairs} |"
        )
    return "\n".join(lines)


def _source(best: Any) -> str:
    methods = [f"`{name}`" for name in best.methods if name != "shipped"]
    return f"{', '.join(methods)}, {best.evaluations:,} each" + (
        "; the search that ships" if "shipped" in best.methods else ""
    )


def board(suite: Suite, found: dict[str, Verified]) -> str:
    """The table of entries."""
    scores = {name: score(suite, verified) for name, verified in found.items()}
    common = min(row["budgets"][-1] for row in scores.values())
    ranks = mean_ranks(suite, found, common)["mean_ranks"]
    lines = [
        "| entry | " + " | ".join(f"{budget:,}" for budget in suite.budgets) + f" | mean rank at {common:,} |",
        "| --- |" + " ---: |" * (len(suite.budgets) + 1),
    ]
    for name in sorted(scores, key=lambda name: scores[name]["at"][str(common)][0]):
        row = scores[name]
        cells = []
        for budget in suite.budgets:
            cell = row["at"].get(str(budget))
            cells.append("-" if cell is None else f"{cell[0]:.3f} [{cell[1]:.3f}, {cell[2]:.3f}]")
        outside = " (outside)" if row["outside"] else ""
        lines.append(f"| `{name}`{outside} | {' | '.join(cells)} | {ranks[name]:.2f} |")
    return "\n".join(lines)


def figure(suite: Suite, found: dict[str, Verified], path: Path) -> None:
    """The median regret of six agents on every problem, with quartiles."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    from archgym.reports.charts import COLOURS, DASHES

    plt.rcParams.update({"svg.hashsalt": suite.name, "svg.fonttype": "none", "font.size": 7})
    shown = [name for name in found if name.partition(" ")[0] in SIX]
    columns = 4
    rows = -(-len(suite.problems) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.0 * rows), sharey=True, squeeze=False)
    dashes = {
        "solid": "-",
        "dash": "--",
        "dot": ":",
        "dashdot": "-.",
        "longdash": (0, (8, 2)),
        "longdashdot": (0, (8, 2, 1, 2)),
    }
    for problem, ax in zip(suite.problems, axes.flat, strict=False):
        for i, name in enumerate(shown):
            reach = found[name].entry.budgets(suite)[-1]
            at = checkpoints(min(reach, problem.budget or reach), 32)
            low, middle, high = np.maximum(
                np.quantile(regrets(suite, found[name], at.tolist())[problem.key], [0.25, 0.5, 0.75], axis=0), FLOOR
            )
            ax.plot(at, middle, color=COLOURS[i], linestyle=dashes[DASHES[i]], label=name, linewidth=1)
            ax.fill_between(at, low, high, color=COLOURS[i], alpha=0.15, linewidth=0)
        ax.set(xscale="log", yscale="log", ylim=(FLOOR, 1.1))
        ax.set_title(textwrap.fill(problem.title, 48, break_long_words=False), fontsize=5.5)
    for ax in list(axes.flat)[len(suite.problems) :]:
        ax.set_visible(False)
    drawn.supxlabel("simulator evaluations")
    drawn.supylabel("normalised regret")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=6, loc="upper center", frameon=False)
    drawn.tight_layout(rect=(0, 0, 1, 0.96))
    path.parent.mkdir(exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})
    plt.close(drawn)


def put(marker: str, text: str) -> None:
    """Replace what stands between ``<!-- marker -->`` and ``<!-- end -->`` in the page."""
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {re.escape(marker)} -->\n).*?(<!-- end -->)", re.S)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE} has no place for {marker}; add <!-- {marker} --> and <!-- end -->")
    PAGE.write_text(pattern.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", help="ready suites [all]")
    for name in parser.parse_args().suites or ready_suites():
        suite = load_suite(name)
        found = entries(suite)
        budget = min(verified.entry.budgets(suite)[-1] for verified in found.values()) if found else 0
        put(f"grades of {name}", grades(suite, pairs_told_apart(suite, found, budget) if found else {}))
        if found:
            put(f"entries of {name}", board(suite, found))
            figure(suite, found, ROOT / "docs" / "images" / f"{name}.svg")
            board_of_verified(suite, found).parts.write(BOARDS / f"{name}.json")
        print(name, len(found), "entries")


if __name__ == "__main__":
    main()
