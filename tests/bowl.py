"""A simulator small enough to check by hand: used to test everything above the simulators."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulator import Evaluation, Metric, Simulator, Workload
from archgym.space import Constraint, DesignSpace, Inactive, Parameter


class Bowl(Workload):
    def __init__(self, name: str, depth: float) -> None:
        super().__init__(name, f"A bowl of depth {depth:g}.")
        self.depth = depth

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.depth).encode()).hexdigest()

    def features(self) -> dict[str, float]:
        return {"depth": self.depth}


def _space() -> DesignSpace:
    return DesignSpace(
        [
            Parameter("size", tuple(range(1, 17)), unit="words"),
            Parameter("speed_mhz", (100.0, 200.0, 400.0, 800.0), unit="MHz"),
            Parameter("policy", ("eager", "lazy"), ordered=False),
            Parameter("patience", (1, 2, 4, 8)),
        ],
        constraints=[Constraint("too_hot", "size 16 runs below 800 MHz", lambda x: (x[:, 0] < 15) | (x[:, 1] < 3))],
        inactive=[Inactive("patience", lambda x: x[:, 2] == 0, "an eager policy never waits")],
    )


class BowlSimulator(Simulator):
    """time_ns has its minimum at size 11, 800 MHz, lazy, patience 4; power_mw grows with size and speed."""

    name = "bowl"
    version = "1"
    spaces = ("default", "fast")
    default_objective = "time_ns"
    default_workload = "deep"
    metrics = (Metric("time_ns", "ns", "min", "run time"), Metric("power_mw", "mW", "min", "average power"))

    def __init__(self, space: str | None = None, offset: float = 0.0) -> None:
        super().__init__(space)
        self.offset = offset
        full = _space()
        self._space = full if self.space_name == "default" else full.restrict({"speed_mhz": [400.0, 800.0]})

    def workloads(self) -> Mapping[str, Workload]:
        return {"deep": Bowl("deep", 4.0), "flat": Bowl("flat", 1.0)}

    def read_workload(self, path: Path, depth: float | None = None) -> Workload:
        if not path.is_file():
            raise ArchGymError(f"{path} does not exist; give a file with one number, the depth")
        return Bowl(f"file:{path}", float(path.read_text()) if depth is None else depth)

    def space(self, workload: Workload) -> DesignSpace:
        return self._space

    def evaluate(self, designs, workload, *, fidelity=None, seed=None) -> Evaluation:
        space = self._space
        x = space.check(designs)
        v = space.columns(x)
        lazy = v["policy"] == "lazy"
        wait = np.where(lazy, np.abs(np.log2(v["patience"]) - 2), 3.0)
        time = (10 + workload.depth * (v["size"] - 11.0) ** 2 + 5 * wait) * (800.0 / v["speed_mhz"]) + self.offset
        power = 0.1 * v["size"] * v["speed_mhz"] / 100
        return Evaluation.build({"time_ns": time, "power_mw": power}, space.violations(x))
