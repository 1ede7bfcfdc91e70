"""What an environment looks like: a table in the terminal, or a picture."""

from __future__ import annotations

__all__ = ()

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.console import print_table
from archgym.errors import MissingExtraError
from archgym.problem import Problem
from archgym.quantities import quantity, unit_name


def render_ansi(problem: Problem, info: dict[str, Any]) -> str:
    """The current design and its metrics as a text table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{problem.name}: {problem.objective.name} {_number(info['reward'], '.4f')}")
    table.add_column("parameter")
    table.add_column("value", justify="right")
    units = {p.name: p.unit for p in problem.space.parameters}
    for name, value in info["design"].items():
        table.add_row(name, "-" if value is None else f"{value} {unit_name(units[name])}".strip())
    table.add_section()
    if info["feasible"]:
        for metric in problem.metrics:
            table.add_row(metric.name, quantity(info["metrics"][metric.name], metric.unit))
    else:
        table.add_row("violation" if info["violation"] else "state", info["violation"] or "not evaluated")
    text = io.StringIO()
    print_table(Console(file=text, width=100, force_terminal=False), table)
    return text.getvalue()


def render_rgb(problem: Problem, info: dict[str, Any], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
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
    levels = indices / np.maximum(problem.space.nvec - 1, 1)
    left.barh(range(len(parameters)), levels, color="#0072B2")
    labels = [f"{name} = {'-' if value is None else value}" for name, value in info["design"].items()]
    left.set_yticks(range(len(parameters)), labels, fontsize=7)
    left.set(xlim=(0, 1), xlabel="position in the value list", title="design")
    left.invert_yaxis()
    with np.errstate(all="ignore"):
        values = [info["metrics"][m.name] for m in metrics]
        ratios = [
            np.log10(abs(np.nan if value is None else value) / problem.references.get(m.name, 1.0))
            for value, m in zip(values, metrics, strict=True)
        ]
    good = [ratio if np.isfinite(ratio) else 0.0 for ratio in ratios]
    better = [(r < 0) == (m.direction == "min") for r, m in zip(good, metrics, strict=True)]
    right.barh(range(len(metrics)), good, color=["#009E73" if b else "#D55E00" for b in better])
    names = [f"{m.name} = {quantity(value, m.unit)}" for m, value in zip(metrics, values, strict=True)]
    right.set_yticks(range(len(metrics)), names, fontsize=7)
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="log10(metric / reference)", title=f"reward {_number(info['reward'], '.4f')}")
    right.invert_yaxis()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
