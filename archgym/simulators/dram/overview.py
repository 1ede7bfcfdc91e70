"""A picture of what the memory has to serve: a trace over its time, as SVG."""

from __future__ import annotations

import numpy as np

from archgym.simulators.dram.trace import CLOCK_MHZ, LINE_BYTES, PAGE_BYTES, Trace
from archgym.svg import new_figure, svg

BINS = 120
"""Intervals of time."""
ROWS = 48
"""Intervals of addresses."""


def draw(trace: Trace) -> tuple[str, str]:
    """Traffic, addresses and row locality of a trace over time as SVG, and a sentence on it.

    Times are those of the trace; where it has none (all requests are there at once) the axis counts requests. Addresses are
    the distinct 4-KiB pages in their order, so that gaps between arrays take no room. A row hit is a request to the row of
    the one before it in its bank, in the order of the trace, with open pages.

    Raises:
        MissingExtraError: without matplotlib.
    """
    n = len(trace)
    timed = bool(trace.time[-1] > trace.time[0])
    clock = trace.clock_mhz or CLOCK_MHZ
    x = (trace.time - trace.time[0]) / clock if timed else np.arange(n, dtype=np.float64)
    edges = np.linspace(0.0, max(float(x[-1]), 1e-9), BINS + 1)
    width_us = edges[1] - edges[0]
    at = np.minimum((x / width_us).astype(np.int64), BINS - 1)
    reads = np.bincount(at[~trace.is_write], minlength=BINS)
    writes = np.bincount(at[trace.is_write], minlength=BINS)
    both = np.maximum(reads + writes, 1)
    figure = new_figure("the overview of a trace", (11, 6.4))
    traffic, where, hits = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 1.4))
    scale = LINE_BYTES * 8 / width_us / 1e3 if timed else 1.0
    traffic.stairs(reads * scale, edges, fill=True, color="#0072B2", label="reads")
    traffic.stairs((reads + writes) * scale, edges, baseline=reads * scale, fill=True, color="#D55E00", label="writes")
    traffic.set_ylabel("Gbit/s" if timed else f"requests of {n / BINS:,.0f}")
    traffic.legend(loc="upper right", fontsize=8, frameon=False, ncols=2)
    pages, position = np.unique(trace.address // PAGE_BYTES, return_inverse=True)
    density = np.histogram2d(position, x, bins=(ROWS, edges), range=((0, len(pages)), (0, edges[-1])))[0]
    shown = np.where(density > 0, np.log(np.maximum(density, 1)), np.nan)
    where.imshow(
        shown, aspect="auto", origin="lower", cmap="viridis", interpolation="nearest",
        extent=(0.0, edges[-1], 0.0, float(len(pages))),
    )  # fmt: skip
    where.set_ylabel("4-KiB pages touched,\nby address")
    row_hits = np.bincount(at, weights=trace.row_hits, minlength=BINS)
    share = np.where(reads + writes > 0, row_hits / both, np.nan)
    hits.stairs(share, edges, color="#009E73")
    hits.set(ylim=(0, 1), ylabel="row hits", xlim=(0, edges[-1]))
    hits.set_xlabel("time (us)" if timed else "request")
    for axes in (traffic, hits):
        axes.grid(alpha=0.3)
    sentence = (
        f"{n:,} requests over {'their time' if timed else 'their order, as they have no times'}: traffic, where the addresses "
        f"go ({len(pages):,} pages; lighter is denser), and the share of row hits in order with open pages."
    )
    return svg(figure), sentence
