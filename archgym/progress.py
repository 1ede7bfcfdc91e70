"""Live progress in the terminal: best so far, evaluations a second, time left, a sparkline of the best reward."""

from __future__ import annotations

__all__ = ()

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float], width: int = 16) -> str:
    """The values as a line of block characters, at most ``width`` wide."""
    if not values:
        return ""
    step = max(len(values) / width, 1.0)
    picked = [values[min(int(i * step), len(values) - 1)] for i in range(min(width, len(values)))]
    picked[-1] = values[-1]
    low, high = min(picked), max(picked)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in picked)


class RunProgress:
    """Progress of several runs, one line each. Silent where ``enabled`` is False."""

    def __init__(self, console: Console, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),  # which alone gives way on a narrow terminal
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("best {task.fields[best]} {task.fields[curve]}"),
            console=console,
            disable=not enabled,
        )

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    @contextmanager
    def run(self, name: str, budget: int | None) -> Iterator[Callable[[Any], None]]:
        """A line for one run; yields what is called with the evaluator after each batch."""
        task = self._progress.add_task(name, total=budget, rate="", best="-", curve="")
        start = last = time.monotonic()
        curve: list[float] = []
        latest: list[Any] = []

        def show(evaluator: Any, now: float) -> None:
            rate = evaluator.used / max(now - start, 1e-9)
            best = "-" if evaluator.best is None else f"{evaluator.best.reward:.4f}"
            self._progress.update(
                task, completed=evaluator.used, rate=f"{rate:,.0f}/s", best=best, curve=sparkline(curve)
            )

        def follow(evaluator: Any) -> None:
            nonlocal last
            latest[:] = [evaluator]
            now = time.monotonic()
            if now - last > 0.1:
                last = now
                if evaluator.best is not None:
                    curve.append(evaluator.best.reward)
                show(evaluator, now)

        yield follow
        for evaluator in latest:
            if evaluator.best is not None:
                curve.append(evaluator.best.reward)
            show(evaluator, time.monotonic())


@contextmanager
def count_progress(console: Console, unit: str, *, enabled: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar for something counted; yields what is called with done and total."""
    columns = (TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not enabled) as progress:
        task = progress.add_task("", total=1)
        yield lambda done, total: progress.update(task, completed=done, total=total)
