"""ArchGym's own rewards for its MaestroGym, kept for comparison."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from archgym.objective import Objective


class Reciprocal(Objective):
    """1 over a product of metrics: higher is better, infeasible designs get 0.

    ArchGym's reward named "energy" divides by the run time as well and so is an energy-delay product.
    """

    archgym_form = True
    penalty = 0.0

    def __init__(self, name: str, metrics: Mapping[str, float], factor: float = 1.0) -> None:
        self.name, self._scales, self._factor = name, dict(metrics), factor
        self.description = "ArchGym's 1/(" + " x ".join(metrics) + ")"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self._scales)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        product: NDArray[np.float64] | float = self._factor
        for metric, scale in self._scales.items():
            product = product * metrics[metric] * scale
        return 1.0 / np.asarray(product)
