"""ProxySimulator: a proxy behind the simulator contract, alone or mixed with the true simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError, UnknownNameError
from archgym.hashing import hash_rows
from archgym.proxies.proxy import Proxy, TrainingData, fit, load
from archgym.simulator import Evaluation, Metric, Simulator, Workload, runs_own_code
from archgym.space import Designs, DesignSpace, Value

EXTRA = (
    Metric("proxy_outside", "1", "none", "1 where the design has a value, or the workload, that training never saw"),
    Metric("proxy_relative_error", "1", "none", "half width of the widest 90 % interval, relative to the prediction"),
    Metric("proxy_checked", "1", "none", "1 where the metrics come from the true simulator"),
)
"""Columns that say how far a row can be trusted; they stand in the trials beside the metrics."""

_OPTIONS = {"every": int, "uncertain": float, "retrain": int}


def parse_path(text: str) -> tuple[Path, dict[str, Any]]:
    """``FILE?every=10&retrain=100`` as path and options."""
    file, _, rest = text.partition("?")
    options: dict[str, Any] = {}
    for part in filter(None, rest.split("&")):
        key, _, value = part.partition("=")
        if key not in _OPTIONS:
            raise UnknownNameError("proxy option", key, _OPTIONS)
        if key in options:
            raise ArchGymError(f"the proxy option {key} is given twice; give it once")
        try:
            options[key] = _OPTIONS[key](value)
        except ValueError:
            raise ArchGymError(f"the proxy option {key} is {value!r}; expected a number") from None
    return Path(file), options


def fitting_space(true: Simulator, facts: Mapping[str, Any], path: Path) -> DesignSpace:
    """The true simulator's space, where the proxy was trained on it; raises where it was not."""
    if facts["simulator"] != true.name:
        raise ArchGymError(f"{path} is a proxy of {facts['simulator']!r}, not of {true.name!r}; choose another file")
    if facts["version"] != true.version:
        raise ArchGymError(
            f"{path} was trained on {true.name} version {facts['version']!r}, installed is {true.version!r}; "
            "train it again"
        )
    if facts["space"] != true.space_name:
        raise ArchGymError(
            f"{path} was trained on the space {facts['space']!r} of {true.name}, not on "
            f"{true.space_name!r}; ask for that space"
        )
    if facts.get("simulator_settings", true.settings) != true.settings:
        raise ArchGymError(
            f"{path} was trained on {true.name} with {_spelt(facts['simulator_settings'])}, not with "
            f"{_spelt(true.settings)}; give those options or train it again"
        )
    names = facts["workloads"]
    space = true.space(_some_workload(true, names))
    found = [[p.name for p in space.parameters], [[str(v) for v in p.values] for p in space.parameters]]
    if found != [facts["parameters"], facts["levels"]]:
        raise ArchGymError(f"{path} was trained on other parameters than {true.name} has now; train it again")
    return space


def _spelt(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())[:80] or "its default options"


def _some_workload(true: Simulator, names: Mapping[str, str]) -> Workload:
    known = true.workloads()
    for name in names:
        if name in known:
            return true.load_workload(name)
    return true.load_workload(true.default_workload or next(iter(known)))


class ProxySimulator(Simulator):
    """Answers from a proxy; see :func:`archgym.proxies.load_proxy`.

    Its metrics are those the proxy learned, in the true simulator's units and directions, and the columns of
    ``EXTRA``. Designs outside the training ranges are predicted and flagged (``proxy_outside``).

    Args:
        proxy: the trained proxy.
        true: the simulator it stands for.
        every: evaluate one in so many designs with the true simulator, chosen by a hash of the canonical design, so
            that the same design is always answered alike; 0 for none.
        uncertain: evaluate designs with the true simulator whose ``proxy_relative_error`` is above this; also those
            outside the training ranges. None for none.
        retrain: after so many new true evaluations train on all designs known; 0 for never. This is the one mode in
            which an answer depends on what was asked before.

    Attributes:
        true, stands_for: the true simulator.
        checked: true evaluations so far.
    """

    def __init__(
        self, proxy: Proxy, true: Simulator, *, every: int = 0, uncertain: float | None = None, retrain: int = 0
    ) -> None:
        if every < 0 or retrain < 0 or (uncertain is not None and not uncertain >= 0):
            raise ArchGymError("every, uncertain and retrain of a proxy must not be negative")
        if retrain and not (every or uncertain is not None):
            raise ArchGymError("a proxy is trained on only with what the true simulator says; add every or uncertain")
        self.proxy, self.true = proxy, true
        self.space_name = true.space_name
        self.every, self.uncertain, self.retrain = every, uncertain, retrain
        self.checked = 0
        self._new: list[tuple[Designs, Evaluation, Workload]] = []
        # The names are class attributes of ordinary simulators; here they are the true simulator's.
        self.name = true.name
        self.version = f"{true.version}+proxy.{proxy.fingerprint[:8]}"
        self.spaces, self.fidelities = true.spaces, true.fidelities
        self.default_objective, self.default_workload = true.default_objective, true.default_workload
        known = {metric.name for metric in proxy.metrics}
        self.pareto = tuple(name for name in true.pareto if name in known)
        self.violations = tuple(true.violations) + tuple(filter(None, [proxy.about["predicted_violation"]]))
        self.metrics = (*proxy.metrics, *EXTRA)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # Unlike other simulators it learns as it goes, so that a copy needs its state.
        return object.__reduce_ex__(self, protocol)

    @property
    def stands_for(self) -> Simulator:
        return self.true.stands_for

    @property
    def programs(self) -> Mapping[str, str]:
        return self.true.programs

    def sources(self, fidelity: str | None) -> Mapping[str, str]:
        return self.true.sources(fidelity)

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        return self.true.noisy(workload, fidelity)

    @classmethod
    def open(cls, path: Path, true: Simulator, **options: Any) -> ProxySimulator:
        """Read a proxy file for a simulator."""
        return cls(load(path, lambda facts: fitting_space(true, facts, path)), true, **options)

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the true simulator, and what decides which of the two answers."""
        own = {"every": self.every, "uncertain": self.uncertain, "retrain": self.retrain}
        return {**self.stands_for.settings, **{f"proxy_{name}": value for name, value in own.items() if value}}

    # --- what the true simulator says ----------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return self.stands_for.workloads()

    def load_workload(self, name: str, **options: Any) -> Workload:
        return self.stands_for.load_workload(name, **options)

    def space(self, workload: Workload) -> DesignSpace:
        return self.stands_for.space(workload)

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        known = {metric.name for metric in self.metrics}
        return {
            name: objective
            for name, objective in self.stands_for.objectives(workload).items()
            if set(objective.needs) <= known
        }

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        return self.stands_for.objective_for(workload)

    def remarks(self, design: Mapping[str, Any]) -> tuple[str, ...]:
        return self.stands_for.remarks(design)

    def usual_design(self, workload: Workload) -> Mapping[str, Value] | None:
        return self.true.usual_design(workload)

    def references(self, workload: Workload) -> Mapping[str, float]:
        true = self.true.references(workload)
        return {metric.name: true.get(metric.name, 1.0) for metric in self.metrics}

    # --- evaluation ----------------------------------------------------------------------------------------------

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        trained = self.proxy.about.get("fidelity")
        if fidelity != trained:
            advice = "leave the fidelity out" if trained is None else f"give fidelity {trained}"
            raise ArchGymError(f"the proxy was trained at fidelity {trained or 'default'}; {advice}")

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        self.check_fidelity(workload, fidelity)
        array = self.space(workload).check(designs)
        said = self.proxy.predict(array, workload)
        columns = {name: np.array(column) for name, column in said.mean.items()}
        error = np.zeros(len(array))
        for name, mean in said.mean.items():
            width = np.maximum(said.high[name] - mean, mean - said.low[name])
            with np.errstate(all="ignore"):
                error = np.maximum(error, np.where(mean != 0, width / np.abs(mean), np.where(width > 0, np.inf, 0.0)))
        columns["proxy_outside"] = said.outside.astype(np.float64)
        columns["proxy_relative_error"] = error
        columns["proxy_checked"] = np.zeros(len(array))
        violation = said.violation
        again = self._choose(array, error, said.outside)
        if again.any():
            rows = np.flatnonzero(again)
            true = self.true.evaluate(array[rows], workload, fidelity=fidelity, seed=seed)
            for metric in self.proxy.metrics:
                columns[metric.name][rows] = true.metrics[metric.name]
            columns["proxy_checked"][rows] = 1.0
            violation[rows] = true.violation
            self.checked += len(rows)
            if self.retrain:
                self._new.append((array[rows], true, workload))
        result = Evaluation.build(columns, violation, len(array))
        if self.retrain and sum(len(part[0]) for part in self._new) >= self.retrain:
            self.train_on()
        return result

    def _choose(self, designs: Designs, error: Any, outside: Any) -> Any:
        """Designs that the true simulator has to answer."""
        chosen = np.zeros(len(designs), dtype=bool)
        if self.every:
            canonical = self.proxy.space.canonical(designs)
            word = hash_rows([canonical[:, j] for j in range(canonical.shape[1])], 23)
            chosen |= word % np.uint64(self.every) == 0
        if self.uncertain is not None:
            chosen |= (error > self.uncertain) | outside
        return chosen

    def train_on(self) -> None:
        """Train again on the stored training data and every design that the true simulator answered since."""
        old = self.proxy.training
        if old is None:
            raise ArchGymError("the proxy file holds no training data to go on from; train a new proxy")
        workloads = self._workloads()
        names = list(workloads)
        fingerprints = [workload.fingerprint for workload in workloads.values()]
        parts = [(old.designs, old.workload, old.weight, dict(old.metrics), old.feasible, old.violation)]
        for designs, evaluation, workload in self._new:
            where = np.full(len(designs), fingerprints.index(workload.fingerprint), dtype=np.int64)
            metrics = {name: evaluation.metrics[name] for name in old.metrics}
            canonical = self.proxy.space.canonical(designs)
            parts.append((canonical, where, np.ones(len(designs)), metrics, evaluation.feasible, evaluation.violation))
        low = high = None
        if old.low is not None and old.high is not None:
            again = [
                self.stands_for.reach(part[0], workload, fidelity=self.proxy.about["fidelity"])
                for part, (_, _, workload) in zip(parts[1:], self._new, strict=True)
            ]
            low, high = (
                np.concatenate([first, *(box[k] for box in again)]) for k, first in enumerate((old.low, old.high))
            )
        designs = np.concatenate([p[0] for p in parts])
        data = TrainingData(
            self.proxy.space,
            {name: workloads[name] for name in names},
            designs,
            np.concatenate([p[1] for p in parts]),
            np.concatenate([p[2] for p in parts]),
            {name: np.concatenate([p[3][name] for p in parts]) for name in old.metrics},
            np.concatenate([p[4] for p in parts]),
            np.concatenate([p[5] for p in parts]),
            low,
            high,
            self.stands_for.measured_as(designs, workloads[names[0]]),
        )
        key = np.column_stack([data.workload, data.designs])
        _, first = np.unique(key, axis=0, return_index=True)
        kept = ("simulator", "version", "space", "fidelity", "simulator_settings", "options")
        about = {k: self.proxy.about[k] for k in kept if k in self.proxy.about}
        self.proxy = fit(
            data.take(np.sort(first)), self.proxy.metrics, model=self.proxy.about["model"],
            settings=self.proxy.about["settings"], seed=self.proxy.about["seed"], about=about,
        )  # fmt: skip
        self._new = []

    def _workloads(self) -> dict[str, Workload]:
        """The training workloads themselves: those asked for since, else by name from the true simulator."""
        asked = {workload.fingerprint: workload for _, _, workload in self._new}
        result = {}
        for name, fingerprint in self.proxy.about["workloads"].items():
            if fingerprint not in asked and runs_own_code(name):
                raise ArchGymError(
                    f"the proxy was trained on {name!r}, a program that is not run because a proxy's file names it; "
                    "search on that workload or train a new proxy"
                )
            workload = asked.get(fingerprint) or self.stands_for.load_workload(name)
            if workload.fingerprint != fingerprint:
                raise ArchGymError(f"the workload {name!r} is not the one the proxy was trained on; train a new proxy")
            result[name] = workload
        for fingerprint, workload in asked.items():
            if fingerprint not in self.proxy.about["workloads"].values():
                result[workload.name] = workload
        return result
