"""Speed of the language-model simulators: a registry of figures, one module a subject."""

from __future__ import annotations

__all__ = ()

import importlib
from collections.abc import Iterable

from archgym.measure import Figure

SUBJECTS: tuple[str, ...] = (
    "archgym.simulators.llm.bench_training",
    "archgym.simulators.llm.bench_serving",
)
"""Modules with a function ``figures(threads)``, in the order of the report."""


def bench(threads: int) -> Iterable[Figure]:
    """The figures of every subject, after compilation."""
    for module in SUBJECTS:
        yield from importlib.import_module(module).figures(threads)
