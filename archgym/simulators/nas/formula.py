"""Cell spaces that are never trained here: their costs by formula alone."""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulator import Evaluation, Live
from archgym.simulators.nas import darts, nasnet
from archgym.simulators.nas.workload import NasWorkload, Training

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archgym.simulators.nas.darts import CellStack
    from archgym.simulators.nas.fidelity import Fidelity
    from archgym.space import DesignSpace

Columns = dict[str, "NDArray[np.float64]"]


@dataclass(frozen=True)
class Kind:
    """A space, its metrics beside the score, and the formula that gives them."""

    space: Callable[[], DesignSpace]
    metric_names: tuple[str, ...]
    metrics: Callable[[NDArray[np.int64], CellStack], Columns]


KINDS = {
    "darts": Kind(cache(darts.space), ("parameters", "macs", "depth", "paths"), darts.formula_metrics),
    "nasnet": Kind(cache(nasnet.space), ("parameters", "depth", "paths"), nasnet.formula_metrics),
}


class FormulaWorkload(NasWorkload):
    """A stack of cells of one of :data:`KINDS`, with the level ``formula``."""

    plain_cells = False
    default_source = "formula"

    def __init__(self, name: str, description: str, kind: str, stack: str = "darts-C36L20") -> None:
        super().__init__(name, description, kind, stack)
        self._kind, self._stack = KINDS[kind], darts.DARTS_MACROS[stack]
        self.metric_names = ("score", *self._kind.metric_names)

    @property
    def design_space(self) -> DesignSpace:
        return self._kind.space()

    def formula(self, designs: NDArray[np.int64]) -> Columns:
        """Metrics of designs without the score, ``(n,)`` each."""
        return self._kind.metrics(designs, self._stack)

    def typical(self) -> dict[str, float]:
        sample = self.formula(self.design_space.sample(64, 0))
        return {name: float(max(np.median(column), 1.0)) for name, column in sample.items()}

    def labels(self, designs: NDArray[np.int64]) -> None:
        return None

    def check(self, fidelity: Fidelity, training: Training) -> None:
        if fidelity.source != "formula":
            raise ArchGymError(f"{self.name} has no level {fidelity.source!r}; its level is formula")

    def epochs(self, fidelity: Fidelity, training: Training) -> None:
        return None

    def effort(self, fidelity: Fidelity, training: Training) -> Live | None:
        return None

    def evaluate(
        self,
        array: NDArray[np.int64],
        fidelity: Fidelity,
        seed: int,
        training: Training,
        parents: NDArray[np.int64] | None = None,
    ) -> Evaluation:
        self.check(fidelity, training)
        metrics = self.formula(array)
        metrics = {"score": metrics["parameters"].copy(), **metrics}
        assert self.metric_names is not None
        return Evaluation.build({name: metrics[name] for name in self.metric_names}, count=len(array))

    def features(self) -> dict[str, float]:
        return {"log10_width": float(np.log10(self._stack.width)), "log10_cells": float(np.log10(self._stack.cells))}
