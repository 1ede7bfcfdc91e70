"""Objectives of the SoC simulator: FARSI's distance to the budgets, one-sided budgets, a metric under budgets, and
ArchGym's own forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from archgym.objective import Budget, Budgets, Constrained, InverseCost, LogRatio, Objective, Rewards, Term
from archgym.simulators.soc.task_graph import BUILTIN, TaskGraph, builtin_combination

MET = 0.001
"""A relative excess below this counts as met in FARSI."""
MET_DISTANCE = 1e-9
WORST = 1e9


class FarsiDistance(Objective):
    """reward = -distance; distance = sum over budgets of 1e-9 where d < 0.001, else abs(d), with
    d = (metric - budget) / budget. A design that meets every budget scores about 0. With ``simple`` the sum of all
    abs(d): better than the budget is punished, too."""

    penalty = -2 * WORST

    def __init__(self, budgets: Mapping[str, float], *, simple: bool = False) -> None:
        self.budgets, self.simple = dict(budgets), simple
        self.archgym_form = simple
        self.name = "farsi-distance-simple" if simple else "farsi-distance"
        kind = "both sides" if simple else "0 where met within 0.1 %"
        self.description = f"minus the sum of relative distances to the budgets ({kind}): " + ", ".join(
            f"{name} {limit:.6g}" for name, limit in self.budgets.items()
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self.budgets)

    def distance(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """The distance; shape ``(n,)``; NaN where a metric is."""
        total: NDArray[np.float64] | float = 0.0
        for name, limit in self.budgets.items():
            d = (metrics[name] - limit) / limit
            total = total + (np.abs(d) if self.simple else np.where(d < MET, MET_DISTANCE, np.abs(d)))
        return np.asarray(total)

    def score(self, metrics: Mapping[str, NDArray[np.float64]]) -> Rewards:
        distance = self.distance(metrics)
        return np.where(np.isnan(distance), np.nan, np.maximum(-distance, -WORST))


def budgets(graph: TaskGraph, mode: str) -> dict[str, float]:
    """Metric -> budget, in the metric's unit, in the order of FARSI's distance: latency of each application, power,
    area without DRAM and (``farsi`` mode) of DRAM, each against the whole area budget: DRAM is stacked."""
    limits = {f"latency_{part.name}_s": part.latency_budget_s for part in graph.parts}
    limits["power_w"] = graph.power_budget_w
    if mode == "physical":
        limits["power_w"] = physical_power_budgets().get(_builtin_name(graph), graph.power_budget_w)
    limits["other_area_mm2"] = graph.area_budget_m2 * 1e6
    if mode == "farsi":
        limits["dram_area_mm2"] = graph.area_budget_m2 * 1e6
    return limits


def _builtin_name(graph: TaskGraph) -> str:
    """Name of the built-in workload that ``graph`` is; empty for a user's own, whatever its name."""
    names = tuple(graph.name.split("+"))
    known = set(names) <= set(BUILTIN) and builtin_combination(names).fingerprint == graph.fingerprint
    return graph.name if known else ""


@cache
def physical_power_budgets() -> dict[str, float]:
    """Power budgets of the built-in workloads in physical mode, W (``data/physical_budgets.json``)."""
    text = (resources.files(__package__) / "data" / "physical_budgets.json").read_text(encoding="utf-8")
    return {name: float(entry["power_w"]) for name, entry in json.loads(text)["workloads"].items()}


def objectives(graph: TaskGraph, mode: str) -> dict[str, Objective]:
    """The objectives by name."""
    limits = budgets(graph, mode)
    all_budgets = [Budget(name, limit) for name, limit in limits.items()]

    # Physical power budgets are themselves found by search under this objective: they cannot be its reference.
    scales = {**limits, "power_w": 1.0} if mode == "physical" else limits

    def log_ratio(name: str) -> LogRatio:
        return LogRatio([Term(name, scales[name])], description=f"minus the logarithm of {name} / {scales[name]:.6g}")

    references = {"power_w": "power", "other_area_mm2": "area"}
    result: dict[str, Objective] = {
        "farsi-distance": FarsiDistance(limits),
        "farsi-distance-simple": FarsiDistance(limits, simple=True),
        "archgym-inverse-distance": InverseCost(FarsiDistance(limits), "archgym-inverse-distance"),
        "budgets": Budgets(all_budgets, tie=log_ratio("power_w"), name="budgets"),
    }
    for metric, word in references.items():
        name = f"{word}-under-budgets"
        rest = [budget for budget in all_budgets if budget.metric != metric]
        result[name] = Constrained(log_ratio(metric), rest, name=name)
    name = "energy-under-budgets"
    result[name] = Constrained(LogRatio([Term("energy_j", 1e-3)]), all_budgets, name=name)
    name = "latency-under-budgets"
    rest = [budget for budget in all_budgets if not budget.metric.startswith("latency_")]
    result[name] = Constrained(LogRatio([Term("deadline_ratio", 1.0)]), rest, name=name)
    return result
