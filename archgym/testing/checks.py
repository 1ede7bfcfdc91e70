"""The contracts of DESIGN in executable form."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from archgym.agents.base import Agent, Searcher, hyperparameter_ranges
from archgym.agents.search import search
from archgym.datasets import read_trials
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.errors import ArchGymError
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.objective import Objective
from archgym.problem import Problem
from archgym.simulator import Evaluation, Simulator, Workload
from archgym.space import Designs, DesignSpace

T = TypeVar("T")


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def same_evaluation(a: Evaluation, b: Evaluation) -> bool:
    """True where two evaluations are equal bit by bit (NaN equals NaN)."""
    return (
        list(a.metrics) == list(b.metrics)
        and all(np.array_equal(a.metrics[k], b.metrics[k], equal_nan=True) for k in a.metrics)
        and np.array_equal(a.feasible, b.feasible)
        and a.violation.tolist() == b.violation.tolist()
    )


def check_space(space: DesignSpace, samples: int = 200, seed: int = 0) -> None:
    """Encodings round-trip, every level is reachable, ``canonical`` is idempotent and stays inside."""
    designs = space.sample(samples, seed)
    # Make sure that every level of every parameter occurs at least once.
    levels = []
    for j, count in enumerate(space.nvec):
        rows = np.repeat(designs[:1], count, axis=0)
        rows[:, j] = np.arange(count)
        levels.append(rows)
    designs = np.concatenate([designs, *levels])
    _require(np.array_equal(space.encode(space.decode(designs)), designs), "encode(decode(x)) differs from x")
    _require(np.array_equal(space.from_unit(space.to_unit(designs)), designs), "from_unit(to_unit(x)) differs from x")
    canonical = space.canonical(designs)
    space.check(canonical)
    _require(np.array_equal(space.canonical(canonical), canonical), "canonical() is not idempotent")
    features = space.features(designs)
    _require(features.shape == (len(designs), len(space.feature_names)), "features() and feature_names disagree")
    _require(np.isfinite(features).all(), "features() are not all finite")
    _require(features.min() >= 0 and features.max() <= 1, "features() leave [0, 1]")
    names = space.violations(designs)
    known = {"", *(constraint.name for constraint in space.constraints)}
    _require(set(names.tolist()) <= known, "violations() names a constraint that the space does not have")
    if space.has_repair:
        repaired = space.repair(designs)
        _require((space.violations(repaired) == "").all(), "repair() leaves a constraint broken")
        _require(np.array_equal(space.repair(repaired), repaired), "repair() is not idempotent")
    for constraint in space.constraints:
        _require(constraint.sentence, f"constraint {constraint.name!r} has no sentence")


def check_simulator(
    simulator: Simulator, workload: Workload | None = None, *, samples: int = 32, seed: int = 0
) -> None:
    """A simulator keeps its contract on one workload: shapes, units, determinism in any batch order, canonical
    designs with equal metrics, designs within reach of one another with equal metrics, NaN metrics and a named violation
    where infeasible."""
    _require(simulator.name and simulator.version, "name or version is empty")
    _require(simulator.default_objective, "default_objective is empty")
    json.dumps(simulator.settings)
    workloads = simulator.workloads()
    _require(workloads, "there are no workloads")
    if workload is None:
        workload = simulator.load_workload(simulator.default_workload or next(iter(workloads)))
    _require(workload.description, f"workload {workload.name!r} has no description")
    _require(workload.fingerprint == workload.fingerprint, "the fingerprint changes between calls")
    _require(all(np.isfinite(v) for v in workload.features().values()), "a workload feature is not finite")
    space = simulator.space(workload)
    check_space(space, samples, seed)
    designs = space.sample(samples, seed)
    metrics = simulator.metrics_for(workload)
    names = [metric.name for metric in metrics]
    _require(len(set(names)) == len(names), "a metric is listed twice")
    first = simulator.evaluate(designs, workload, seed=seed)
    _require(list(first.metrics) == names, f"evaluate() returns {list(first.metrics)}, metrics_for() says {names}")
    for name, column in first.metrics.items():
        _require(column.shape == (samples,), f"metric {name!r} has shape {column.shape}, expected ({samples},)")
        _require(column.dtype == np.float64, f"metric {name!r} is {column.dtype}, expected float64")
        _require(np.isnan(column[~first.feasible]).all(), f"metric {name!r} of an infeasible design is not NaN")
        _require(not np.isinf(column).any(), f"metric {name!r} is infinite")
    _require(
        ((first.violation == "") == first.feasible).all(), "violation is not empty exactly where a design is feasible"
    )
    before = designs.copy()
    again = simulator.evaluate(designs, workload, seed=seed)
    _require(same_evaluation(first, again), "two evaluations of the same designs differ")
    _require(np.array_equal(before, designs), "evaluate() changes the designs it is given")
    if not simulator.noisy(workload):
        other = simulator.evaluate(designs, workload, seed=seed + 1)
        _require(same_evaluation(first, other), "the result depends on the seed, but noisy() says that it does not")
    order = np.random.default_rng(seed).permutation(samples)
    shuffled = simulator.evaluate(designs[order], workload, seed=seed)
    _require(same_evaluation(first.take(order), shuffled), "the result depends on the order of the batch")
    # Infeasible designs have no metrics that could differ.
    some = np.unique(np.concatenate([np.flatnonzero(first.feasible)[:3], np.arange(min(2, samples))]))
    single = Evaluation.concatenate([simulator.evaluate(row, workload, seed=seed) for row in designs[some]])
    _require(same_evaluation(first.take(some), single), "a batch differs from single designs")
    canonical = simulator.evaluate(space.canonical(designs), workload, seed=seed)
    _require(same_evaluation(first, canonical), "a design and its canonical form evaluate differently")
    low, high = simulator.reach(designs, workload)
    inside = np.random.default_rng(seed).integers(low, high + 1)
    answered = simulator.evaluate(inside, workload, seed=seed)
    _require(same_evaluation(first, answered), "a design has other results than the one whose reach() holds it")
    empty = simulator.evaluate(np.empty((0, space.dimension), dtype=np.int64), workload, seed=seed)
    _require(len(empty) == 0 and list(empty.metrics) == names, "an empty batch is not answered by empty columns")
    references = simulator.references(workload)
    for metric in metrics:
        value = references.get(metric.name, 1.0)
        _require(np.isfinite(value) and value > 0, f"the reference of {metric.name!r} is {value}")
    for objective in simulator.objectives(workload).values():
        check_objective(objective, first)


def check_copies(thing: T, use: Callable[[T], Any]) -> None:
    """Anything public pickles, copies and deep-copies, and what comes of it does the same as the original.

    Args:
        thing: the object.
        use: does something with such an object and returns what came of it, arrays and plain values (nested in tuples,
            lists and dictionaries).
    """
    name = type(thing).__name__
    ways: dict[str, Callable[[T], T]] = {
        "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
        "deepcopy": deepcopy,
    }
    clones = {}
    for way, clone in ways.items():
        try:
            clones[way] = clone(thing)
        except Exception as error:
            raise AssertionError(f"{way} of {name} fails: {type(error).__name__}: {error}") from error
    # The clones first: using one must not touch another, nor the original.
    found = {way: use(made) for way, made in clones.items()}
    expected = use(thing)
    for way, result in found.items():
        _require(_same(result, expected), f"a {way} of {name} does not do the same")
    use(copy(thing))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Evaluation):
        return isinstance(b, Evaluation) and same_evaluation(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return bool(a == b or (a != a and b != b))


def check_objective(objective: Objective, evaluation: Evaluation) -> None:
    """Rewards are finite, and an infeasible design never scores like a feasible one."""
    n = len(evaluation)
    rewards = objective(evaluation)
    _require(rewards.shape == (n,) and rewards.dtype == np.float64, f"{objective.name}: rewards have the wrong form")
    _require(np.isfinite(rewards).all(), f"{objective.name}: a reward is not finite")
    failed = Evaluation(
        {name: np.full(n, np.nan) for name in evaluation.metrics},
        np.zeros(n, dtype=bool),
        np.full(n, "test", dtype=object),
    )
    penalties = objective(failed)
    _require(np.isfinite(penalties).all(), f"{objective.name}: the penalty is not finite")
    defined = evaluation.feasible & np.all(
        [np.isfinite(evaluation.metrics[name]) for name in objective.needs] or [np.ones(n, dtype=bool)], axis=0
    )
    if defined.any() and n:
        _require(penalties.max() < rewards[defined].min(), f"{objective.name}: failure can score like success")


def trajectory(
    cls: type[Searcher[Any]], problem: Problem, seed: int, budget: int, batch: int = 64
) -> tuple[Designs, int]:
    """All designs a default agent tries within a budget, and the evaluations it used; checks every ask."""
    agent = cls(problem, seed)
    evaluator = Evaluator(problem, budget=budget, seed=seed, several_fidelities=cls.several_fidelities)
    tried: list[Designs] = []
    evaluator_evaluate = evaluator.evaluate

    def recorded(designs: Designs, parents: Designs | None = None, *, fidelity: str | None = None) -> Any:
        answer = evaluator_evaluate(designs, parents, fidelity=fidelity)
        tried.append(answer[0].copy())
        return answer

    evaluator.evaluate = recorded  # type: ignore[method-assign, assignment]
    try:
        if not isinstance(agent, Agent):
            agent.run(evaluator)
        else:
            while not evaluator.exhausted:
                asked = agent.ask(batch)
                _require(asked.dtype == np.int64 and asked.ndim == 2, f"{cls.name}: ask() gives no int64 (m, d) array")
                _require(1 <= len(asked) <= batch, f"{cls.name}: ask({batch}) gives {len(asked)} designs")
                problem.space.check(asked)
                agent.tell(*evaluator.evaluate(asked, fidelity=agent.fidelity))
    except BudgetExhausted:
        pass
    _require(evaluator.used <= budget, f"{cls.name}: used {evaluator.used} evaluations of {budget}")
    return np.concatenate(tried), evaluator.used


def check_agent(cls: type[Searcher[Any]], problem: Problem, *, budget: int = 200, seed: int = 0) -> None:
    """An agent keeps its contract on a problem: equal seeds, equal designs; the budget is kept exactly and used up
    (unless the space is smaller); nothing outside the space; hyperparameters are documented and JSON-able."""
    _require(cls.__doc__, f"{cls.name}: no docstring")
    for name, about in hyperparameter_ranges(cls).items():
        _require(about.get("doc"), f"{cls.name}: hyperparameter {name!r} has no sentence")
    json.dumps(cls.hyperparameters().as_dict())
    first, used = trajectory(cls, problem, seed, budget)
    again, _ = trajectory(cls, problem, seed, budget)
    _require(np.array_equal(first, again), f"{cls.name}: equal seeds give different designs")
    distinct = len(np.unique(problem.space.canonical(first), axis=0))
    _require(used in (budget, distinct), f"{cls.name}: stopped after {used} of {budget} evaluations")
    _require(used == budget or problem.space.size <= 4 * budget, f"{cls.name}: gave up after {used} evaluations")


def check_resume(cls: type[Searcher[Any]], problem: Problem, *, budget: int = 90, seed: int = 0) -> None:
    """A run that ended with a smaller budget goes on with a larger one to the trials of an uninterrupted run, bit by
    bit; an agent that plans over its budget (``anytime`` is False) refuses in a sentence."""

    def trials(budget: int, log: Path, resume: bool = False) -> pa.Table:
        search(problem, cls(problem, seed), budget, log=log, resume=resume)
        return read_trials(log).drop_columns(list(CLOCK_COLUMNS))

    with TemporaryDirectory() as folder:
        log = Path(folder) / "continued.arrows"
        whole = trials(budget, Path(folder) / "whole.arrows")
        for part in (budget // 3, budget // 2 + 1):
            trials(part, log, resume=True)
            if not cls.anytime:
                try:
                    trials(budget, log, resume=True)
                except ArchGymError as error:
                    _require(
                        "budget" in str(error), f"{cls.name}: another budget is refused for another reason: {error}"
                    )
                    return
                raise AssertionError(f"{cls.name}: plans over its budget, but goes on with another one")
        _require(
            _same_trials(trials(budget, log, resume=True), whole), f"{cls.name}: goes another way with more budget"
        )


def _same_trials(a: pa.Table, b: pa.Table) -> bool:
    """True where two tables are equal bit by bit (NaN equals NaN)."""
    if a.column_names != b.column_names or len(a) != len(b):
        return False
    return all(
        np.array_equal(x.to_numpy(), y.to_numpy(), equal_nan=pa.types.is_floating(x.type))
        for x, y in zip(a.columns, b.columns, strict=True)
    )
