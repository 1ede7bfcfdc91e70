"""A simulator around another one: what a wrapper does not say itself is what the wrapped simulator says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.options import Option
from archgym.simulator import Evaluation, Live, Metric, Simulator, Workload
from archgym.space import Designs, DesignSpace, Value


class Wrapped(Simulator):
    """Everything of ``whole``; sub-classes override what is different.

    A test holds that no member of :class:`~archgym.simulator.Simulator` is forgotten here.

    Args:
        whole: the simulator that is wrapped.
    """

    def __init__(self, whole: Simulator) -> None:
        self.whole = whole
        for name in (*Simulator.__annotations__, "space_name"):
            if not name.startswith("_"):
                setattr(self, name, getattr(whole, name))

    def __getattr__(self, name: str) -> Any:
        # What only some simulators have (a device, ranks). Not during unpickling, when there is no whole yet.
        if name.startswith("_") or "whole" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.whole, name)

    @property
    def stands_for(self) -> Simulator:
        """The simulator whose tables (of optima) are meant."""
        return self.whole.stands_for

    @property
    def given_options(self) -> dict[str, Any]:
        return self.whole.given_options

    @property
    def given_references(self) -> Mapping[str, float] | None:
        return self.whole.given_references

    def with_references(self, given: Mapping[str, float] | None) -> Self:
        (_, *others), options = self._arguments
        return type(self)(self.whole.with_references(given), *others, **options)

    @property
    def settings(self) -> dict[str, Any]:
        return self.whole.settings

    @property
    def programs(self) -> Mapping[str, str]:
        return self.whole.programs

    def sources(self, fidelity: str | None) -> Mapping[str, str]:
        return self.whole.sources(fidelity)

    def workloads(self) -> Mapping[str, Workload]:
        return self.whole.workloads()

    def workload_groups(self) -> Mapping[str, tuple[str, ...]]:
        return self.whole.workload_groups()

    def further_workloads(self, count: int, rng: np.random.Generator) -> tuple[str, ...]:
        return self.whole.further_workloads(count, rng)

    def load_workload(self, name: str, **options: Any) -> Workload:
        return self.whole.load_workload(name, **options)

    def read_workload(self, path: Path, **options: Any) -> Workload:
        return self.whole.read_workload(path, **options)

    def workload_options(self, name: str) -> Mapping[str, Option] | None:
        return self.whole.workload_options(name)

    def space(self, workload: Workload) -> DesignSpace:
        return self.whole.space(workload)

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        return self.whole.metrics_for(workload)

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        **further: Any,
    ) -> Evaluation:
        return self.whole.evaluate(designs, workload, fidelity=fidelity, seed=seed, **further)

    def evaluate_parts(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Evaluation]]:
        # By this wrapper's own way to evaluate.
        return super().evaluate_parts(designs, workload, fidelity=fidelity, seed=seed)

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        return self.whole.noisy(workload, fidelity)

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        self.whole.check_fidelity(workload, fidelity)

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        return self.whole.relative_cost(workload, fidelity)

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        return self.whole.cheaper_fidelities(workload, fidelity)

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        return self.whole.live(workload, fidelity)

    def inherits(self, fidelity: str | None) -> bool:
        return self.whole.inherits(fidelity)

    def parent_seconds(self, parents: ArrayLike, workload: Workload, fidelity: str | None) -> NDArray[Any]:
        return self.whole.parent_seconds(parents, workload, fidelity)

    def measured_as(self, designs: ArrayLike, workload: Workload) -> NDArray[np.int64] | None:
        return self.whole.measured_as(designs, workload)

    def reach(self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None) -> tuple[Designs, Designs]:
        return self.whole.reach(designs, workload, fidelity=fidelity)

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        return self.whole.objectives(workload)

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        return self.whole.objective_for(workload)

    def remarks(self, design: Mapping[str, Any]) -> tuple[str, ...]:
        return self.whole.remarks(design)

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        return self.whole.pictures(design, workload)

    def usual_design(self, workload: Workload) -> Mapping[str, Value] | None:
        return self.whole.usual_design(workload)

    def references(self, workload: Workload) -> Mapping[str, float]:
        return self.whole.references(workload)
