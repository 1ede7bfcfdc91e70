"""A simulator with cheaper fidelities, small enough to check by hand: used to test what drives several fidelities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from archgym.errors import UnknownNameError
from archgym.registry import SIMULATORS
from archgym.simulator import Evaluation, Metric, Simulator
from archgym.space import DesignSpace, Parameter
from tests.toy import ToyWorkload

COSTS = {"whole": 1.0, "ninth": 1 / 9, "third": 1 / 3}
SPACE = DesignSpace(
    [Parameter(f"x{j}", tuple(range(8))) for j in range(4)] + [Parameter("kind", ("a", "b", "c"), ordered=False)]
)


class Rungs(Simulator):
    """The time is the squared distance from 5 in every parameter; a cheaper fidelity is off by some of the last bits of a
    design, and half as large, so that it would win if it counted."""

    name = "rungs"
    version = "1"
    fidelities = ("whole", "ninth", "third")
    default_objective = "time_ns"
    default_workload = "light"
    metrics = (Metric("time_ns", "ns", "min"),)

    def workloads(self):
        return {"light": ToyWorkload("light", 1.0), "heavy": ToyWorkload("heavy", 2.0)}

    def space(self, workload):
        return SPACE

    def relative_cost(self, workload, fidelity=None):
        return COSTS[fidelity or "whole"]

    def cheaper_fidelities(self, workload, fidelity=None):
        return tuple(
            sorted((name for name in COSTS if COSTS[name] < COSTS[fidelity or "whole"]), key=COSTS.__getitem__)
        )

    def evaluate(self, designs, workload, *, fidelity=None, seed=None):
        d = SPACE.check(designs)
        if fidelity is not None and fidelity not in COSTS:
            raise UnknownNameError("fidelity of rungs", fidelity, COSTS)
        time = 10.0 + workload.load * (((d[:, :4] - 5.0) ** 2).sum(axis=1) + 3 * d[:, 4])
        if fidelity in ("ninth", "third"):
            time = (time + 4 * (0.1 + (d.sum(axis=1) * 7) % 3) * (1 - COSTS[fidelity])) / 2
        return Evaluation.build({"time_ns": time})


@contextmanager
def registered(cls: type[Simulator] = Rungs) -> Iterator[None]:
    """The simulator is known in here, and not to other tests: sentences suggest names that are near."""
    new = cls.name not in SIMULATORS
    if new:
        SIMULATORS.register(cls.name, cls)
    try:
        yield
    finally:
        if new:
            SIMULATORS.unregister(cls.name)
