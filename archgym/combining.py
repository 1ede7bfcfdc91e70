"""One design for several workloads: ``make_problem("dram/gzip+sort+graph")``, ``"systolic/2*resnet50+bert_base_s512"``.

Every workload is simulated; a design is feasible where it is for all of them. Metrics stand in the trials once a workload
(``latency_cycles.resnet50``) and once as their weighted mean (``latency_cycles``). The objective is that of the single
workloads, each with its own references: their weighted mean, or with ``worst:`` before its text the least of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.objective import Objective, Rewards, make_objective
from archgym.simulator import Evaluation, Live, Metric, Simulator, Workload
from archgym.space import Designs, DesignSpace, Value
from archgym.wrapping import Wrapped

_PART = re.compile(r"(?:(?P<weight>\d+(?:\.\d+)?)\*)?(?P<name>.+)", re.S)


def parse_parts(name: str, simulator: Simulator) -> list[tuple[str, float]] | None:
    """The workloads that ``name`` combines, with their weights; None where it names a single one.

    ``A+B``, ``2*A+B``, or a group: ``all``, ``train``, ``test`` (see :meth:`~archgym.simulator.Simulator.workload_groups`).

    Raises:
        ArchGymError: a part is empty, stands twice, or weighs nothing.
    """
    if simulator.combines_workloads or name in simulator.workloads():
        return None
    groups = simulator.workload_groups()
    if name in groups:
        if not groups[name]:
            raise ArchGymError(f"{simulator.name} has too few workloads for the group {name!r}; name workloads instead")
        return [(part, 1.0) for part in groups[name]]
    if "+" not in name:
        return None
    parts: list[tuple[str, float]] = []
    for text in name.split("+"):
        match = _PART.fullmatch(text.strip())
        if match is None:
            raise ArchGymError(f"{name[:80]!r} has an empty part; write workloads with a + between them")
        weight = float(match["weight"] or 1.0)
        if not weight > 0 or match["name"] in dict(parts):
            raise ArchGymError(
                f"{match['name'][:80]!r} weighs {weight:g} or stands twice in {name[:80]!r}; give it a weight once"
            )
        parts.append((match["name"], weight))
    return parts


class CombinedWorkload(Workload):
    """Several workloads with weights that sum to one.

    Attributes:
        parts: the workloads.
        weights: float64 ``(len(parts),)``.
    """

    def __init__(self, name: str, parts: Sequence[Workload], weights: Sequence[float]) -> None:
        super().__init__(name, f"{len(parts)} workloads: " + ", ".join(part.name for part in parts))
        self.parts = tuple(parts)
        self.weights = np.asarray(weights, dtype=np.float64) / float(np.sum(weights))

    @property
    def fingerprint(self) -> str:
        text = repr([(part.fingerprint, float(weight)) for part, weight in zip(self.parts, self.weights, strict=True)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def features(self) -> dict[str, float]:
        """The weighted means of the parts' features that all have."""
        each = [part.features() for part in self.parts]
        shared = [name for name in each[0] if all(name in features for features in each)]
        return {
            name: float(sum(w * features[name] for w, features in zip(self.weights, each, strict=True)))
            for name in shared
        }


class OverWorkloads(Objective):
    """The objectives of several workloads as one: their weighted mean, or the worst of them.

    Args:
        parts: (label, objective) a workload; the metrics of a workload are called ``metric.label``.
        weights: that sum to one.
        worst: take the least reward instead of the mean.
    """

    def __init__(
        self, parts: Sequence[tuple[str, Objective]], weights: Sequence[float], worst: bool, name: str
    ) -> None:
        self.parts, self.weights, self.worst, self.name = tuple(parts), tuple(map(float, weights)), worst, name
        self.penalty = min(objective.penalty for _, objective in parts)
        how = "the least" if worst else "the weighted mean"
        self.description = f"{how} over {len(parts)} workloads of: {parts[0][1].description or parts[0][1].name}"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(f"{metric}.{label}" for label, objective in self.parts for metric in objective.needs)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        columns = [
            np.asarray(objective.score({metric: metrics[f"{metric}.{label}"] for metric in objective.needs}))
            for label, objective in self.parts
        ]
        table = np.stack(columns)
        # NaN in any part stays NaN, and earns the penalty.
        return np.asarray(table.min(axis=0) if self.worst else np.asarray(self.weights) @ table)


class Combined(Wrapped):
    """A simulator over several workloads at once; everything else is the whole one's.

    Args:
        whole: the simulator of single workloads.
    """

    def __init__(self, whole: Simulator) -> None:
        super().__init__(whole)
        self._spaces: dict[int, tuple[Workload, DesignSpace]] = {}

    def combine(self, name: str, parts: Sequence[tuple[str, float]], **options: Any) -> CombinedWorkload:
        """The workload of these parts; ``options`` go to each of them.

        Raises:
            ArchGymError: the parts have different design spaces, or one is unknown.
        """
        loaded = [self.whole.load_workload(part, **options) for part, _ in parts]
        first = self.whole.space(loaded[0])
        for workload in loaded[1:]:
            other = self.whole.space(workload)
            if [(p.name, p.values) for p in other.parameters] != [(p.name, p.values) for p in first.parameters]:
                raise ArchGymError(
                    f"{loaded[0].name!r} and {workload.name!r} have different design spaces; combine workloads of one space"
                )
        return CombinedWorkload(name, loaded, [weight for _, weight in parts])

    def _parts(self, workload: Workload) -> CombinedWorkload:
        if not isinstance(workload, CombinedWorkload):
            raise ArchGymError(f"{workload.name!r} is a single workload; expected several")
        return workload

    def space(self, workload: Workload) -> DesignSpace:
        if id(workload) not in self._spaces:
            each = [self.whole.space(part) for part in self._parts(workload).parts]
            space = each[0]
            if any(other is not space for other in each[1:]):
                # What is equal for one workload need not be for another: only the rules that all share are kept.
                constraints = [constraint for other in each for constraint in other.constraints]
                space = DesignSpace(space.parameters, constraints)
            self._spaces[id(workload)] = workload, space
        return self._spaces[id(workload)][1]

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        each = [(part.name, self.whole.metrics_for(part)) for part in self._parts(workload).parts]
        shared = [m for m in each[0][1] if all(m.name in {o.name for o in metrics} for _, metrics in each)]
        mean = [
            Metric(m.name, m.unit, m.direction, f"weighted mean over the workloads of: {m.description}") for m in shared
        ]
        single = [
            Metric(f"{m.name}.{label}", m.unit, m.direction, m.description) for label, metrics in each for m in metrics
        ]
        return (*mean, *single)

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        """Of the parts that are live: their seconds together, in the smallest of their pieces."""
        each = [found for part in self._parts(workload).parts if (found := self.whole.live(part, fidelity)) is not None]
        if not each:
            return None
        return Live(sum(one.seconds for one in each), each[0].what, min(one.piece for one in each))

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """The mean of the parts'."""
        return float(np.mean([self.whole.relative_cost(part, fidelity) for part in self._parts(workload).parts]))

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        """Those that all parts have."""
        first, *others = (self.whole.cheaper_fidelities(part, fidelity) for part in self._parts(workload).parts)
        return tuple(name for name in first if all(name in other for other in others))

    def inherits(self, fidelity: str | None) -> bool:
        return False

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        return any(self.whole.noisy(part, fidelity) for part in self._parts(workload).parts)

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """None: a picture is of one workload."""
        return []

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        **further: Any,
    ) -> Evaluation:
        array: Designs = self.space(workload).check(designs)
        parts = self._parts(workload)
        each = [self.whole.evaluate(array, part, fidelity=fidelity, seed=seed) for part in parts.parts]
        violation: NDArray[np.object_] = np.full(len(array), "", dtype=object)
        for evaluation in each:
            violation = np.where(violation == "", evaluation.violation, violation)
        columns: dict[str, NDArray[np.float64]] = {}
        for name in each[0].metrics:
            if all(name in evaluation.metrics for evaluation in each):
                columns[name] = parts.weights @ np.stack([evaluation.metrics[name] for evaluation in each])
        for part, evaluation in zip(parts.parts, each, strict=True):
            for name, column in evaluation.metrics.items():
                columns[f"{name}.{part.name}"] = column
        return Evaluation.build(columns, violation, len(array))

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        for part in self._parts(workload).parts:
            self.whole.check_fidelity(part, fidelity)

    def measured_as(self, designs: ArrayLike, workload: Workload) -> NDArray[np.int64] | None:
        return None

    def reach(self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None) -> tuple[Designs, Designs]:
        canonical = self.space(workload).canonical(designs)
        return canonical, canonical

    def usual_design(self, workload: Workload) -> Mapping[str, Value] | None:
        """That of the single workloads, where it is the same for all."""
        first, *others = (self.whole.usual_design(part) for part in self._parts(workload).parts)
        return first if all(other == first for other in others) else None

    def references(self, workload: Workload) -> Mapping[str, float]:
        """Each workload's own; of the means the mean of the workloads'."""
        parts = self._parts(workload)
        each = [self.whole.references(part) for part in parts.parts]
        result = {
            f"{name}.{part.name}": value
            for part, own in zip(parts.parts, each, strict=True)
            for name, value in own.items()
        }
        for name in each[0]:
            if all(name in own for own in each):
                result[name] = float(sum(w * own[name] for w, own in zip(parts.weights, each, strict=True)))
        return result

    def objective_of(self, text: str | None, workload: Workload) -> Objective:
        """The objective of single workloads over all of them: ``TEXT`` or ``mean:TEXT``, and ``worst:TEXT``."""
        parts = self._parts(workload)
        how, colon, base = (text or "").partition(":")
        if not colon or how not in ("mean", "worst"):
            how, base = "mean", text or ""
        each = [(part.name, make_objective(base or None, self.whole, part)) for part in parts.parts]
        name = f"worst:{each[0][1].name}" if how == "worst" else each[0][1].name
        return OverWorkloads(each, parts.weights.tolist(), how == "worst", name)

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        return self.objective_of(None, workload).name, ""

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        """Those of the first workload, as means and as the worst."""
        names = list(self.whole.objectives(self._parts(workload).parts[0]))
        texts = [*names, *(f"worst:{name}" for name in names)]
        return {text: self.objective_of(text, workload) for text in texts}
