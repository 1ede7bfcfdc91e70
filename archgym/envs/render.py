"""What an environment looks like: a table in the terminal, or a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import MissingExtraError
from archgym.problem import Problem


def render_ansi(problem: Problem, info: dict[str, Any]) -> str:
    """The current design and its metrics as a text table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{problem.name}: {problem.objective.name} {info['reward']:.4f}")
    table.add_column("parameter")
    table.add_column("value", justify="right")
    units = {p.name: p.unit for p in problem.space.parameters}
    for name, value in info["design"].items():
        table.add_row(name, "-" if value is None else f"{value} {units[name]}".strip())
    table.add_section()
    if info["feasible"]:
        for metric in problem.metrics:
            table.add_row(metric.name, f"{info['metrics'][metric.name]:.6g}")
    else:
        table.add_row("violation" if info["violation"] else "state", info["violation"] or "not evaluated")
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def render_rgb(problem: Problem, info: dict[str, Any]) -> NDArray[np.uint8]:
    """The current design as bars over the parameters' ranges, its metrics as bars around their references; uint8
    ``(height, width, 3)``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("render_mode='rgb_array'", "plot") from None
    parameters = problem.space.parameters
    metrics = [metric for metric in problem.metrics if metric.direction != "none"]
    figure = Figure(figsize=(9, 0.24 * max(len(parameters), len(metrics)) + 1.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    levels = info["indices"] / np.maximum(problem.space.nvec - 1, 1)
    left.barh(range(len(parameters)), levels, color="#0072B2")
    labels = [f"{name} = {'-' if value is None else value}" for name, value in info["design"].items()]
    left.set_yticks(range(len(parameters)), labels, fontsize=7)
    left.set(xlim=(0, 1), xlabel="position in the value list", title="design")
    left.invert_yaxis()
    with np.errstate(all="ignore"):
        ratios = [np.log10(abs(info["metrics"][m.name]) / problem.references.get(m.name, 1.0)) for m in metrics]
    good = [ratio if np.isfinite(ratio) else 0.0 for ratio in ratios]
    better = [(r < 0) == (m.direction == "min") for r, m in zip(good, metrics, strict=True)]
    right.barh(range(len(metrics)), good, color=["#009E73" if b else "#D55E00" for b in better])
    right.set_yticks(
        range(len(metrics)), [f"{m.name} = {info['metrics'][m.name]:.4g}" for m in metrics], fontsize=7
    )
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="log10(metric / reference)", title=f"reward {info['reward']:.4f}")
    right.invert_yaxis()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
