"""A small simulator with every feature a dataset has to cope with: texts, booleans, an inactive parameter, a
constraint, two workloads."""

from __future__ import annotations

import numpy as np

from archgym.registry import SIMULATORS
from archgym.simulator import Evaluation, Metric, Simulator, Workload
from archgym.space import Constraint, DesignSpace, Inactive, Parameter, boolean


class ToyWorkload(Workload):
    def __init__(self, name: str, load: float) -> None:
        super().__init__(name, f"load {load}")
        self.load = load

    @property
    def fingerprint(self) -> str:
        return f"toy-{self.load}"

    def features(self) -> dict[str, float]:
        return {"load": self.load}


SPACE = DesignSpace(
    [
        Parameter("Policy", ("Open", "Closed", "Adaptive"), ordered=False),
        Parameter("Depth", (1, 2, 4, 8, 16, 32), unit="entries"),
        Parameter("Scale", (0.5, 1.0, 1.5, 2.0)),
        boolean("Fast"),
        Parameter("Limit", (1, 2, 3, 4)),
        Parameter("Arbiter", ("Simple", "Fifo"), ordered=False),
    ],
    constraints=[
        Constraint(
            "fast_depth", "a fast design has a depth of at most 16", lambda d: ~((d[:, 3] == 1) & (d[:, 1] == 5))
        )
    ],
    inactive=[Inactive("Limit", lambda d: d[:, 5] == 0, "the simple arbiter has no limit")],
)


class Toy(Simulator):
    name = "toy"
    version = "1"
    spaces = ("small",)
    default_objective = "time_ns"
    default_workload = "light"
    metrics = (
        Metric("time_ns", "ns", "min"),
        Metric("energy_pj", "pJ", "min"),
        Metric("power_mw", "mW", "min"),
    )

    def workloads(self):
        return {"light": ToyWorkload("light", 1.0), "heavy": ToyWorkload("heavy", 3.0)}

    def space(self, workload):
        return SPACE

    def evaluate(self, designs, workload, *, fidelity=None, seed=None):
        d = SPACE.check(designs)
        depth = np.array([1, 2, 4, 8, 16, 32])[d[:, 1]]
        scale = np.array([0.5, 1.0, 1.5, 2.0])[d[:, 2]]
        limit = np.where(d[:, 5] == 0, 9, d[:, 4] + 1)
        time = 100 * workload.load / scale * (1 + 4 / np.minimum(depth, 3 * limit)) * np.array([1.0, 1.4, 1.1])[d[:, 0]]
        time = time * np.where(d[:, 3] == 1, 0.7, 1.0)
        energy = time * (1 + scale**2) * (1 + 0.02 * depth) + np.where(d[:, 3] == 1, 300.0, 100.0)
        return Evaluation.build({"time_ns": time, "energy_pj": energy, "power_mw": energy / time}, SPACE.violations(d))


def register() -> None:
    if "toy" not in SIMULATORS:
        SIMULATORS.register("toy", Toy)


FAST = {"trees": 80, "leaves": 16, "threads": 1}
"""Settings of the boosting model that train in well under a second."""
