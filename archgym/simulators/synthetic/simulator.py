"""The simulator of the test functions: it only looks the landscape's losses up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from archgym.objective import Value
from archgym.simulator import Evaluation, Metric, Simulator, Workload
from archgym.simulators.synthetic.landscapes import LANDSCAPES, Landscape
from archgym.space import DesignSpace


class Synthetic(Simulator):
    """Test functions with known optima: metrics ``loss`` and, where the landscape has two objectives, ``effort``.

    The default objective is minus the loss. The workloads are the landscapes of
    :mod:`archgym.simulators.synthetic.landscapes`; a landscape of your own is passed as the workload of a Problem.
    """

    name = "synthetic"
    version = "1"
    default_objective = "loss"
    default_workload = "separable"
    metrics = (Metric("loss", "", "min", "value of the test function"),)
    pareto = ("loss", "effort")

    def workloads(self) -> Mapping[str, Workload]:
        return LANDSCAPES

    def space(self, workload: Workload) -> DesignSpace:
        assert isinstance(workload, Landscape)
        return workload.space

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        assert isinstance(workload, Landscape)
        if workload.effort is None:
            return self.metrics
        return (*self.metrics, Metric("effort", "", "min", "second value of the test function"))

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        assert isinstance(workload, Landscape)
        array = workload.space.check(designs)
        metrics = {"loss": workload.loss(array)}
        if workload.effort is not None:
            metrics["effort"] = workload.effort(array)
        violation = workload.space.violations(array) if workload.space.constraints else None
        return Evaluation.build(metrics, violation, count=len(array))

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        return {"loss": Value(self.metrics[0], worst=-1e6, name="loss", description="minus the loss")}

    def references(self, workload: Workload) -> Mapping[str, float]:
        columns = super().references(workload)
        return {name: float(np.maximum(value, 1e-9)) for name, value in columns.items()}
