"""How well predictors order cells that they have seen no label of: Kendall's tau over several draws of labels.

A label is a function class: cells of one class share one training, so that a class is on one side of every split. A draw's
test is on all live classes that are not among its labels.
"""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.problem import Problem, make_problem
from archgym.proxies.models import make_model
from archgym.proxies.proxy import LEAST_ERROR, fit
from archgym.proxies.training import choose_metrics, from_evaluation

LEAST_LABELS = 20

METHODS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "boosting": ("boosting", {"threads": 1}),
    "gp": ("gp", {}),
    "cells": ("cells", {}),
    "cells-pretrained": ("cells", {"pretrained": 3}),
    "parzc": ("parzc", {}),
}
"""Proxies by the name in the table: model and settings."""
NETWORKS = {"network": False, "network-pretrained": True}
"""The networks of the model ``cells`` alone, with and without their pretraining."""
FREE = ("macs", "naswot", "synflow")
"""Statistics that need no label."""


def rank_cells(
    workload: str,
    labels: Sequence[int],
    draws: int,
    *,
    methods: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Kendall's tau of predictors on the classes of a table that they were not trained on.

    Args:
        workload: one of nas with a table, ``nb201-mnist1d-v2``. Labels are validation accuracies, the truth test accuracies,
            both the mean of the seeds that the table has.
        labels: numbers of labelled classes.
        draws: of each number, from different seeds; the same for every method.
        methods: names of ``METHODS`` and ``NETWORKS``; all where None.
        seed: of the first draw and the models.
        progress: called with a sentence after each draw.

    Returns:
        ``{"rows": [...], ...}``; a row has ``method``, ``labels``, ``kendall_tau`` (mean of the draws), ``interval_95`` (half
        width, by Student's t over the draws) and ``draws``; one without labels has None there and no interval.
    """
    from scipy.stats import kendalltau

    from archgym.simulators.nas import cells, table, zerocost

    asked = list(methods) if methods is not None else [*NETWORKS, *METHODS]
    problem, truth, designs, classes = _classes(workload)
    if draws < 2 or min(labels) < LEAST_LABELS or max(labels) > len(designs) // 2:
        raise ArchGymError(
            f"the ranking needs at least 2 draws and {LEAST_LABELS}..{len(designs) // 2} labels of the {len(designs)} classes "
            f"that {workload} has results of; it was given {draws} draws of {', '.join(map(str, labels))} labels"
        )
    codes = cells.codes(designs)
    free = {"macs": table.cell_macs("mnist1d-C8S2")[codes].astype(np.float64)}
    free |= {name: scores[codes] for name, (scores, _) in zerocost.own_scores().items()}
    rows: list[dict[str, Any]] = [
        {"method": name, "labels": 0, "kendall_tau": float(kendalltau(free[name], truth).statistic), "interval_95": None, "draws": 0}
        for name in FREE
        if name in free
    ]  # fmt: skip
    evaluation = problem.simulator.evaluate(designs, problem.workload)
    for count in labels:
        taus: dict[str, list[float]] = {name: [] for name in asked}
        for draw in range(seed, seed + draws):
            order = np.random.default_rng([draw, count]).permutation(len(designs))
            seen, rest = order[:count], order[count:]
            for name in asked:
                if name in NETWORKS:
                    said = _networks_alone(
                        evaluation.metrics["accuracy_percent"][seen], classes, seen, draw, NETWORKS[name]
                    )
                else:
                    data = from_evaluation(problem, designs[seen], evaluation.take(seen), ["accuracy_percent"])
                    model, settings = METHODS[name]
                    proxy = fit(
                        data, choose_metrics(problem, ["accuracy_percent"]), model=model, settings=settings, seed=draw,
                        scale="complement", calibrate=False,
                    )  # fmt: skip
                    said = proxy.means(designs, problem.workload)["accuracy_percent"]
                taus[name].append(float(kendalltau(said[rest], truth[rest]).statistic))
            if progress is not None:
                progress(f"{count} labels, draw {draw - seed + 1} of {draws}")
        rows += [_row(name, count, taus[name]) for name in asked]
    return {
        "problem": problem.name,
        "classes": len(designs),
        "draws": draws,
        "seed": seed,
        **_seeds_of(problem),
        "rows": rows,
    }


def _classes(workload: str) -> tuple[Problem, NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The problem, and of every live class with results its test accuracy, its representative's design and its number."""
    from archgym.simulators.nas import cells
    from archgym.simulators.nas.table import live_representatives
    from archgym.simulators.nas.workload import NasWorkload

    problem = make_problem(f"nas/{workload}")
    assert isinstance(problem.workload, NasWorkload)
    if not problem.workload.plain_cells or not problem.workload.has_table:
        raise ArchGymError(f"{problem.name} has no table of cells; rank on nas/nb201-mnist1d or nas/nb201-mnist1d-v2")
    designs = cells.rows(live_representatives())
    evaluation = problem.simulator.evaluate(designs, problem.workload, fidelity="table:split=test")
    known = np.isfinite(evaluation.metrics["accuracy_percent"])
    designs = designs[known]
    return problem, evaluation.metrics["accuracy_percent"][known], designs, cells.classes()[cells.codes(designs)]


def _networks_alone(
    accuracy: NDArray[np.float64], classes: NDArray[np.int64], seen: NDArray[np.int64], seed: int, pretrain: bool
) -> NDArray[np.float64]:
    from archgym.proxies.pretrained import predictions

    errors = np.log(np.maximum(100.0 - accuracy, LEAST_ERROR))
    targets = (errors.mean() - errors) / max(float(errors.std()), 1e-9)
    members = int(METHODS["cells-pretrained"][1]["pretrained"])
    return predictions(classes[seen], targets[:, None], members, seed, pretrain=pretrain)[classes, 0]


def _row(name: str, count: int, taus: Sequence[float]) -> dict[str, Any]:
    from archgym.simulators.nas.statistics import half_width

    return {
        "method": name,
        "labels": count,
        "kendall_tau": float(np.mean(taus)),
        "interval_95": half_width(taus),
        "draws": len(taus),
    }


def _seeds_of(problem: Problem) -> dict[str, float]:
    """Trainings a class behind the labels: what the noise of the truth depends on."""
    from archgym.simulators.nas.fidelity import Fidelity
    from archgym.simulators.nas.table import Key, live_representatives
    from archgym.simulators.nas.workload import NasWorkload

    assert isinstance(problem.workload, NasWorkload)
    found = problem.workload.table
    resolved = found.resolve(Fidelity(split="test"))
    runs = found.runs[Key("test", str(resolved.schedule), int(resolved.epochs or 0))][:, live_representatives()]
    count = np.isfinite(runs).sum(axis=0)
    return {"trainings_a_class": float(count[count > 0].mean())}


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The table as Markdown: a row a method, a column a number of labels."""
    columns = sorted({row["labels"] for row in found["rows"]} - {0})
    lines = [
        f"{found['classes']:,} live classes of {found['problem']}, {found['trainings_a_class']:.2f} trainings each, "
        f"{found['draws']} draws of labels; Kendall's tau on all other classes, with 95 % intervals",
        "| method | " + " | ".join(f"{count} labels" for count in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name in dict.fromkeys(row["method"] for row in found["rows"]):
        own = {row["labels"]: row for row in found["rows"] if row["method"] == name}
        if 0 in own:
            cells = [f"{own[0]['kendall_tau']:.3f}"] * len(columns)
        else:
            cells = [f"{own[count]['kendall_tau']:.3f} ± {own[count]['interval_95']:.3f}" for count in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def check_methods(names: Sequence[str]) -> list[str]:
    """Names of methods, known ones; a sentence names one that is not."""
    from archgym.errors import UnknownNameError

    for name in names:
        if name not in METHODS and name not in NETWORKS:
            raise UnknownNameError("predictor of cells", name, [*NETWORKS, *METHODS])
        if name in METHODS:
            make_model(METHODS[name][0], **METHODS[name][1])
    return list(names)
