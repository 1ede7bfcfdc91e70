"""Pictures of a served trace: what ran and waited over time, and latencies against the levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm.kernels.serving import RECORD
from archgym.svg import new_figure, svg

_COLUMN = {name: j for j, name in enumerate(RECORD)}
POINTS = 2_000
"""Moments at which the timeline is drawn."""


def draw(
    requests: Any, output_tokens: NDArray[np.int64], batches: NDArray[np.float64], ttft_s: float, tpot_s: float
) -> list[tuple[str, str, str]]:
    """Title, sentence and SVG of each picture.

    Args:
        requests: array of ``kernels.serving.REQUEST`` at the end of the trace.
        output_tokens: tokens that each request asked for.
        batches: columns ``kernels.serving.RECORD``.
        ttft_s, tpot_s: service levels.
    """
    return [
        (
            "Serving timeline",
            "Requests in memory and waiting, memory blocks in use and preemptions, over all instances that decode.",
            svg(_timeline(batches)),
        ),
        (
            "Latencies",
            "Share of the requests within a latency; the vertical lines are the service levels.",
            svg(_latencies(requests, output_tokens, ttft_s, tpot_s)),
        ),
    ]


def over_time(batches: NDArray[np.float64], points: int = POINTS) -> dict[str, NDArray[np.float64]]:
    """Sums over the replicas of running, waiting, blocks and preemptions at evenly spaced moments (``time_s``)."""
    begin, end = batches[:, _COLUMN["start_s"]], batches[:, _COLUMN["end_s"]]
    time = np.linspace(float(begin.min()), float(end.max()), points)
    names = ("running", "waiting", "blocks", "preemptions")
    found = {"time_s": time, **{name: np.zeros(points) for name in names}}
    for replica in np.unique(batches[:, _COLUMN["replica"]]):
        rows = batches[batches[:, _COLUMN["replica"]] == replica]
        at = np.searchsorted(rows[:, _COLUMN["start_s"]], time, side="right") - 1
        # Between its batches a replica is empty; preemptions are counted from the start.
        busy = (at >= 0) & (time <= np.maximum.accumulate(rows[:, _COLUMN["end_s"]])[np.maximum(at, 0)])
        for name in names:
            values = rows[np.maximum(at, 0), _COLUMN[name]]
            found[name] += np.where(busy | ((name == "preemptions") & (at >= 0)), values, 0.0)
    return found


def _timeline(batches: NDArray[np.float64]) -> Any:
    figure = new_figure("the serving timeline", (10.0, 6.0))
    axes = figure.subplots(3, 1, sharex=True)
    lines = over_time(batches)
    time = lines["time_s"]
    axes[0].plot(time, lines["running"], label="in memory", color="#2c7fb8", linewidth=1)
    axes[0].plot(time, lines["waiting"], label="waiting", color="#d95f0e", linewidth=1)
    axes[0].set_ylabel("requests")
    axes[0].legend(loc="upper right", frameon=False)
    axes[1].plot(time, lines["blocks"], color="#31a354", linewidth=1)
    axes[1].set_ylabel("memory blocks")
    axes[2].step(time, lines["preemptions"], color="#756bb1", linewidth=1, where="post")
    axes[2].set_ylabel("preemptions so far")
    axes[2].set_xlabel("time (s)")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    return figure


def _latencies(requests: Any, output: NDArray[np.int64], ttft_s: float, tpot_s: float) -> Any:
    figure = new_figure("the latency distributions", (10.0, 3.4))
    several = output > 1
    shown = (
        ("time to first token (s)", requests["first"] - requests["arrived"], ttft_s),
        (
            "time per output token (s)",
            ((requests["finished"] - requests["first"])[several] / (output[several] - 1)),
            tpot_s,
        ),
        ("arrival to last token (s)", requests["finished"] - requests["arrived"], None),
    )
    axes = figure.subplots(1, 3)
    for axis, (label, values, level) in zip(axes, shown, strict=True):
        ordered = np.sort(values)
        axis.step(ordered, (np.arange(len(ordered)) + 1) / max(len(ordered), 1), where="post", color="#2c7fb8")
        if level is not None:
            axis.axvline(level, color="#d95f0e", linestyle="--")
        if len(ordered) and ordered[0] > 0:
            axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of requests")
    return figure
