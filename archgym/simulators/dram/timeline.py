"""A picture of what the controller does: the commands of the busiest window, bank by bank, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archgym.errors import MissingExtraError

# Okabe and Ito's palette; each kind of command also has a height of its own, so that colour is not needed.
KINDS = {
    "ACT": ("activate", "#E69F00", 0.9),
    "RD": ("read", "#0072B2", 0.55),
    "RDA": ("read, auto-precharge", "#56B4E9", 0.55),
    "WR": ("write", "#D55E00", 0.7),
    "WRA": ("write, auto-precharge", "#CC79A7", 0.7),
    "PREPB": ("precharge", "#7F7F7F", 0.35),
    "PREAB": ("precharge all", "#7F7F7F", 0.35),
    "REFAB": ("refresh all", "#009E73", 1.0),
    "REFPB": ("refresh a bank", "#009E73", 1.0),
}


def busiest_window(log: NDArray[np.int64], cycles: int) -> int:
    """First cycle of the window of ``cycles`` cycles with the most commands of ``log`` (m, 3)."""
    times = log[:, 0]
    counts = np.searchsorted(times, times + cycles) - np.arange(len(times))
    return int(times[int(np.argmax(counts))])


def draw(
    log: NDArray[np.int64], names: Sequence[str], banks: int, burst: int, tck_ns: float, *, cycles: int = 240
) -> tuple[str, str]:
    """The window of a command log as SVG, and a sentence on it.

    Args:
        log: int64 ``(m, 3)``: cycle, command number, bank (a command to a whole rank: its first bank, or -1).
        names: command names by number.
        banks: banks of all ranks.
        burst: cycles that the data of a column command take.
        tck_ns: nanoseconds a cycle.
        cycles: length of the window.
    """
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("the command timeline", "plot") from None
    import matplotlib

    if not len(log):
        return "", "No command was issued."
    start = busiest_window(log, cycles)
    rows = log[(log[:, 0] >= start) & (log[:, 0] < start + cycles)]
    figure = Figure(figsize=(11, 0.22 * banks + 1.6), layout="constrained")
    axes = figure.add_subplot()
    for kind, (label, colour, height) in KINDS.items():
        numbers = [i for i, name in enumerate(names) if name == kind]
        mine = rows[np.isin(rows[:, 1], numbers)]
        whole = kind in ("PREAB", "REFAB")
        for i, (time, _, bank) in enumerate(mine.tolist()):
            width = burst if kind in ("RD", "RDA", "WR", "WRA") else 2
            first = max(bank, 0)
            axes.broken_barh(
                [(time - start, width)],
                (-0.5, banks) if whole else (first - height / 2, height),
                facecolors=colour,
                alpha=0.5 if whole else 1.0,
                label=label if i == 0 else None,
            )
    axes.set(
        xlim=(0, cycles), ylim=(-0.6, banks - 0.4), xlabel=f"cycle - {start:,} ({tck_ns:g} ns each)", ylabel="bank"
    )
    axes.set_yticks(range(0, banks, max(1, banks // 16)))
    axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    text = io.StringIO()
    # Fixed ids and no date, so that equal designs give equal files.
    with matplotlib.rc_context({"svg.hashsalt": "archgym", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    sentence = (
        f"Commands of the best design in its busiest {cycles} cycles: {len(rows)} of {len(log):,} in all; "
        "one line a bank, column commands as long as their data."
    )
    return text.getvalue(), sentence
