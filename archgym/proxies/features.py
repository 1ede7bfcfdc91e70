"""From designs to learning features: the space's own encoding of the canonical form, and features of the workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.space import Designs, DesignSpace


class Encoder:
    """Feature rows of designs and workloads.

    Equivalent designs get equal rows: features are made of the canonical form. Ordered parameters are scaled to
    [0, 1], the others one-hot; the workload's numbers follow.

    Args:
        space: the design space.
        workload_names: names of the workload features, in order; empty where there is one workload only.

    Attributes:
        names: of the features.
        owner: ``(f,)`` position of the parameter a feature depends on, -1 for workload features.
        levels: a parameter -> ``(values, f)``, its part of the feature row for each value.
    """

    def __init__(self, space: DesignSpace, workload_names: Sequence[str] = ()) -> None:
        self.space, self.workload_names = space, tuple(workload_names)
        self.names = (*space.feature_names, *self.workload_names)
        owner: list[int] = []
        for j, parameter in enumerate(space.parameters):
            owner += [j] * (1 if parameter.ordered or len(parameter) == 1 else len(parameter))
        self.owner = np.array(owner + [-1] * len(self.workload_names), dtype=np.int64)
        self.levels = []
        for j, parameter in enumerate(space.parameters):
            designs = np.zeros((len(parameter), space.dimension), dtype=np.int64)
            designs[:, j] = np.arange(len(parameter))
            table = np.zeros((len(parameter), len(self.names)))
            table[:, : len(owner)] = space.features(designs)
            table[:, self.owner != j] = 0.0
            self.levels.append(table)

    def constant(self, workload: Mapping[str, float]) -> NDArray[np.float64]:
        """The workload's part of every feature row, ``(f,)``."""
        row = np.zeros(len(self.names))
        for i, name in enumerate(self.workload_names):
            if name not in workload:
                raise ArchGymError(f"the workload has no feature {name!r}, which the proxy was trained with")
            row[len(self.names) - len(self.workload_names) + i] = workload[name]
        return row

    def rows(self, canonical: Designs, constant: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Feature rows ``(n, f)`` of canonical designs."""
        result = np.zeros((len(canonical), len(self.names)))
        if constant is not None:
            result += constant
        result[:, : len(self.names) - len(self.workload_names)] += self.space.features(canonical)
        return result
