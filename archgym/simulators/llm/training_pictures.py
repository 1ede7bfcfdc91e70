"""Pictures of a training step: the pipeline's schedule with its bubbles and transfers, and where the step's time goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archgym.svg import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "compute_s": ("computation", "#4c78a8"),
    "recompute_s": ("recomputation", "#9ecae9"),
    "exposed_tp_s": ("tensor-parallel traffic", "#f58518"),
    "exposed_cp_ep_s": ("contexts and experts", "#ffbf79"),
    "exposed_pp_s": ("between stages", "#e45756"),
    "exposed_dp_s": ("data-parallel traffic", "#b79a20"),
    "exposed_offload_s": ("to the host", "#83bcb6"),
    "bubble_s": ("bubble", "#bab0ac"),
    "optimizer_s": ("optimizer", "#54a24b"),
}
"""Metric -> label and colour of a part of the step."""
MOST_MICRO_BATCHES = 24


@dataclass(frozen=True)
class Piece:
    """One chunk's pass on a stage: where, which micro-batch and chunk, from when to when in seconds."""

    stage: int
    micro_batch: int
    chunk: int
    backward: bool
    start_s: float
    end_s: float


def schedule(
    stages: int, chunks: int, micro_batches: int, forward_s: float, backward_s: float, hand_over_s: float
) -> list[Piece]:
    """One forward, one backward (interleaved where a stage has several chunks: Narayanan et al., arXiv 2104.04473).

    Args:
        stages, chunks, micro_batches: the pipeline; micro-batches a multiple of the stages where there are chunks.
        forward_s, backward_s: a micro-batch's pass through a whole stage.
        hand_over_s: a transfer between stages.
    """
    total = micro_batches * chunks
    orders = []
    for stage in range(stages):
        warm = stages - stage - 1 if chunks == 1 else 2 * (stages - stage - 1) + (chunks - 1) * stages
        warm = min(warm, total)
        order = [(False, k) for k in range(warm)]
        for k in range(total - warm):
            order += [(False, warm + k), (True, k)]
        orders.append(order + [(True, k) for k in range(total - warm, total)])
    done: dict[tuple[bool, int, int], float] = {}
    free, place, pieces = [0.0] * stages, [0] * stages, []
    last = stages * chunks - 1
    while any(place[stage] < len(orders[stage]) for stage in range(stages)):
        moved = False
        for stage in range(stages):
            while place[stage] < len(orders[stage]):
                backward, k = orders[stage][place[stage]]
                group, position = divmod(k, stages * chunks)
                chunk = position // stages
                micro_batch = group * stages + position % stages if chunks > 1 else k
                chunk = (chunks - 1 - chunk if backward else chunk) if chunks > 1 else 0
                at = chunk * stages + stage
                # A backward pass follows its own forward at the last place, else the next place's backward.
                before = (
                    (True, at + 1, micro_batch)
                    if backward and at < last
                    else (False, at if backward else at - 1, micro_batch)
                )
                if at == 0 and not backward:
                    ready = 0.0
                elif before not in done:
                    break
                else:
                    ready = done[before] + (0.0 if backward and at == last else hand_over_s)
                start = max(free[stage], ready)
                end = start + (backward_s if backward else forward_s) / chunks
                done[backward, at, micro_batch] = free[stage] = end
                pieces.append(Piece(stage, micro_batch, chunk, backward, start, end))
                place[stage] += 1
                moved = True
        if not moved:
            raise RuntimeError("the schedule waits for itself")
    return pieces


def draw_schedule(stages: int, chunks: int, micro_batches: int, metrics: Mapping[str, float]) -> Figure:
    """The first micro-batches of a step on every stage; gaps are bubbles and transfers."""
    shown = min(micro_batches, max(MOST_MICRO_BATCHES, 2 * stages))
    if chunks > 1:
        shown = max(shown // stages, 1) * stages
    hand_over = metrics["exposed_pp_s"] / max(micro_batches, 1) / (2 * chunks)
    pieces = schedule(stages, chunks, shown, metrics["forward_s"], metrics["backward_s"], hand_over)
    figure = new_figure("drawing a training step", (11, 1.4 + 0.26 * stages))
    axes = figure.subplots()
    for piece in pieces:
        colour = "#f58518" if piece.backward else "#4c78a8"
        axes.barh(
            piece.stage,
            piece.end_s - piece.start_s,
            left=piece.start_s,
            height=0.82,
            color=colour,
            alpha=1.0 - 0.5 * piece.chunk / chunks,
            edgecolor="white",
            linewidth=0.3,
        )
    axes.invert_yaxis()
    axes.set_xlabel(
        f"time (s) of {shown} of {micro_batches} micro-batches; blue forward, orange backward, white waiting"
    )
    axes.set_ylabel("stage")
    axes.margins(x=0)
    return figure


def draw_parts(metrics: Mapping[str, float]) -> Figure:
    """The step's time as a stack of its parts."""
    figure = new_figure("drawing a training step", (11, 2.2))
    axes = figure.subplots()
    left = 0.0
    for name, (label, colour) in PARTS.items():
        if metrics[name] > 0:
            share = 100.0 * metrics[name] / metrics["step_time_s"]
            axes.barh(0, metrics[name], left=left, color=colour, label=f"{label} {share:.1f} %")
            left += metrics[name]
    axes.set_yticks([])
    axes.set_xlabel(f"time of a step (s), {metrics['step_time_s']:.4g} in all")
    axes.margins(x=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure
