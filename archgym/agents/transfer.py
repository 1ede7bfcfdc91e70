"""Search with a handful of simulations: the simulator's other workloads are the prior knowledge.

A linear ensemble of what sibling workloads say of a design, in the manner of ranking-weighted ensembles (Feurer et al., 2018)
and adaptive Bayesian linear regression (Perrone et al., NeurIPS 2018), with the conjugate update in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.rewards import expected_improvement, standard_units, standardised
from archgym.announcing import say
from archgym.errors import ArchGymError
from archgym.objective import Rewards
from archgym.problem import Problem, make_problem, parse_name
from archgym.registry import SIMULATORS
from archgym.simulator import Evaluation, names_own_file
from archgym.space import Designs, DesignSpace

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sibling:
    """What another workload says of designs.

    Attributes:
        score: designs ``(n, d)`` -> rewards ``(n,)`` on that workload in standard units.
        spread: the unit, in the problem's own.
    """

    score: Callable[[Designs], Array]
    spread: float


NEIGHBOURS = 200
"""Most neighbours of a new best design that join the pool."""

TREES = 50
"""Trees of the forest that learns a sibling's logged trials."""


@dataclass(frozen=True)
class TransferHyperparameters(Hyperparameters):
    """Of transfer."""

    siblings: str = hyper(
        "auto",
        choices=("auto", "none"),
        doc="auto: simulate the pool on the simulator's other workloads first (beyond the budget, and said); none: do not",
    )
    data: str = hyper(
        "", doc="trials of other workloads (a folder or file), learnt from instead of simulating siblings"
    )
    most: int = hyper(10, low=1, high=64, log=True, doc="siblings simulated at most, the first ones of the simulator")
    pool: int = hyper(3000, low=10, high=100_000, log=True, doc="uniform designs to choose from")
    moves: bool = hyper(
        True, choices=(True, False), doc="neighbours of the siblings' best and of the best trial join the pool"
    )


class Transfer(GenerationalAgent[TransferHyperparameters]):
    """Keeps a pool of designs with the standardised rewards s_k that each of m sibling workloads gives them, and models the
    reward as y = sum_k w_k s_k + b + e with w_k ~ N(1/m, .5/m), a vague b, and the variance of e by moments. It asks for the
    design with the largest expected improvement, one at a time; the first is the siblings' favourite. What the siblings
    cost is not in the budget, so it is printed, and given to the run's log as ``transfer/pretraining_evaluations``. Where there
    are no siblings, the f features of a design stand in for their rewards, with w_k ~ N(0, 1/f)."""

    name = "transfer"
    exact = False

    hyperparameters = TransferHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._siblings: list[Sibling] | None = None
        self._pool: Designs = np.empty((0, self.space.dimension), dtype=np.int64)
        self._prior: Array = np.empty((0, 0))  # (pool, m): what the siblings say of the pool
        self._place: dict[bytes, int] = {}
        self._tried: list[int] = []
        self._rewards: list[float] = []
        self._feasible: list[bool] = []
        self._beyond = 0  # evaluations on siblings

    def propose(self) -> Designs:
        if self._siblings is None:
            self._begin()
        open_rows = np.setdiff1d(np.arange(len(self._pool)), self._tried)
        if not len(open_rows):
            self._join(self.space.sample(self.p.pool, self.rng))
            open_rows = np.setdiff1d(np.arange(len(self._pool)), self._tried)
            if not len(open_rows):
                return self.space.sample(1, self.rng)
        mean, deviation, best = self._predict(open_rows)
        z = (mean - best) / deviation
        improvement = deviation * expected_improvement(z) if self._tried else mean
        chosen = int(open_rows[np.argmax(improvement)])
        return self._pool[chosen : chosen + 1]

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        canonical = self.space.canonical(designs)
        self._join(canonical)
        better = not self._rewards or rewards[0] > max(self._rewards)
        place = self._place[canonical[0].tobytes()]
        if place not in self._tried:
            self._tried.append(place)
            self._rewards.append(float(rewards[0]))
            self._feasible.append(bool(evaluation.feasible[0]))
        if self.p.moves and better:
            around = self.space.neighbours(canonical[0])
            self._join(around[self.rng.permutation(len(around))[:NEIGHBOURS]])

    # --- prior knowledge -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        pool = self.space.sample(self.p.pool, self.rng)
        said: Array | None = None
        if self.p.data:
            self._siblings = [
                _learnt(self.problem, designs, evaluation)
                for _, designs, evaluation in logged_trials(Path(self.p.data), self.problem)
            ]
        else:
            others = siblings(self.problem, self.p.most) if self.p.siblings == "auto" else []
            if others:
                text = f"transfer simulates {len(pool):,} designs on {len(others)} other workloads first"
                later = ", and the neighbours of good designs as they come" if self.p.moves else ""
                say(f"{text}: {len(others) * len(pool):,} evaluations beyond the budget{later}")
            self._siblings, known = [], []
            for other in others:
                sibling, scores = _simulated(other, pool)
                self._siblings.append(sibling)
                known.append(scores)
            if known:
                said = np.stack(known, axis=1)
                self._count(len(pool))
        self._prior = np.empty((0, len(self._siblings) or len(self.space.feature_names)))
        self._join(pool, said)
        if self.p.moves and self._siblings:
            favourites = np.unique(np.append(self._prior.argmax(axis=0), self._prior.mean(axis=1).argmax()))
            for row in favourites:
                around = self.space.neighbours(self._pool[row])
                self._join(around[self.rng.permutation(len(around))[:NEIGHBOURS]])

    def _join(self, designs: Designs, said: Array | None = None) -> None:
        """Designs that the pool does not hold yet join it, with what the siblings say of them (``said (n, m)``, where that is
        known already)."""
        canonical = self.space.canonical(designs)
        new: list[int] = []
        for i, row in enumerate(canonical):
            key = row.tobytes()
            if key not in self._place:
                self._place[key] = len(self._pool) + len(new)
                new.append(i)
        if not new:
            return
        rows = canonical[new]
        if said is not None:
            said = said[new]
        elif self._siblings:
            said = np.stack([sibling.score(rows) for sibling in self._siblings], axis=1)
            if not self.p.data:
                self._count(len(rows))
        else:
            said = self.space.features(rows)
        self._pool, self._prior = np.concatenate([self._pool, rows]), np.concatenate([self._prior, said])

    def _count(self, designs: int) -> None:
        """Note that so many designs were simulated on every sibling."""
        assert self._siblings is not None
        self._beyond += designs * len(self._siblings)
        self.measured({"transfer/pretraining_evaluations": float(self._beyond)})

    # --- the model -----------------------------------------------------------------------------------------------

    def _predict(self, rows: NDArray[np.int64]) -> tuple[Array, Array, float]:
        """Mean and deviation of the reward at rows of the pool, in standard units, and the best reward so far."""
        m = self._prior.shape[1]
        if not self._tried:
            return (self._prior[rows].mean(1) if self._siblings else np.zeros(len(rows))), np.ones(len(rows)), 0.0
        rewards, feasible = np.array(self._rewards), np.array(self._feasible)
        centre, spread_of_rewards = standard_units(rewards, feasible)
        if self._siblings:
            spread_of_rewards = float(np.median([sibling.spread for sibling in self._siblings]))
        y = standardised(rewards, feasible, (centre, spread_of_rewards))
        known, asked = (np.column_stack([self._prior[part], np.ones(len(part))]) for part in (self._tried, rows))
        guess = np.append(np.full(m, 1 / m if self._siblings else 0.0), 0.0)
        spread = np.append(np.full(m, (0.5 if self._siblings else 1.0) / m), 100.0)
        noise = 0.05
        for _ in range(3):  # the variance of what is left, by moments, and the weights given it
            covariance = np.linalg.inv(np.diag(1 / spread) + known.T @ known / noise)
            weights = covariance @ (guess / spread + known.T @ y / noise)
            left = y - known @ weights
            noise = max(float(left @ left + 0.05) / (len(y) + 1), 1e-4)
        variance = ((asked @ covariance) * asked).sum(axis=1) + noise
        return asked @ weights, np.sqrt(variance), float(y.max())


def siblings(problem: Problem, most: int = 64) -> list[Problem]:
    """The same question (objective, space, options) on the simulator's other workloads, at most ``most`` of them: those with
    equal parameters that are neither trained live nor need another program."""
    kind, own = parse_name(problem.name)
    if kind not in SIMULATORS or problem.simulator.starts_programs:
        return []
    found: list[Problem] = []
    for name in problem.simulator.workload_groups().get("all", ()):
        if name == own or names_own_file(name) or len(found) == most:
            continue
        try:
            other = make_problem(f"{kind}/{name}", **problem.options)
        except ArchGymError:  # an option of this workload that the other one does not have
            continue
        same = (
            _same_parameters(other.space, problem.space) and other.workload.fingerprint != problem.workload.fingerprint
        )
        if same and other.simulator.live(other.workload, other.fidelity) is None:
            found.append(other)
    return found


def _same_parameters(one: DesignSpace, other: DesignSpace) -> bool:
    return [(p.name, p.values) for p in one.parameters] == [(p.name, p.values) for p in other.parameters]


def _simulated(other: Problem, pool: Designs) -> tuple[Sibling, Array]:
    """A sibling that is simulated, in the units of its rewards over the pool, and its scores of the pool."""
    evaluation, rewards = other.evaluate(pool)
    units = standard_units(rewards, evaluation.feasible)

    def score(designs: Designs) -> Array:
        evaluation, rewards = other.evaluate(designs)
        return standardised(rewards, evaluation.feasible, units)

    return Sibling(score, units[1]), standardised(rewards, evaluation.feasible, units)


def logged_trials(path: Path, problem: Problem) -> list[tuple[Problem, Designs, Evaluation]]:
    """Trials of the problem's simulator and parameters on other workloads, one entry a workload.

    Raises:
        ArchGymError: where there are none.
    """
    from archgym.datasets.dataset import Dataset
    from archgym.datasets.schema import TrialSchema

    kind = parse_name(problem.name)[0]
    others: dict[str, tuple[Problem, list[Designs], list[Evaluation]]] = {}
    for info, batch, _ in Dataset(path).groups():
        if parse_name(info.problem)[0] != kind:
            continue
        other = info.make()
        own = other.workload.fingerprint == problem.workload.fingerprint
        if own or not _same_parameters(other.space, problem.space):
            continue
        schema = TrialSchema(other, {})
        _, designs, evaluations = others.setdefault(other.workload.fingerprint, (other, [], []))
        designs.append(schema.designs(batch))
        evaluations.append(schema.evaluation(batch))
    if not others:
        raise ArchGymError(f"{path} holds no trials of {kind} on other workloads in the space of {problem.name}")
    return [
        (other, np.concatenate(designs), Evaluation.concatenate(evaluations))
        for other, designs, evaluations in others.values()
    ]


def _learnt(problem: Problem, designs: Designs, evaluation: Evaluation) -> Sibling:
    """Scores by a forest, fitted to logged trials."""
    from sklearn.ensemble import ExtraTreesRegressor

    rewards = problem.objective(evaluation)
    units = standard_units(rewards, evaluation.feasible)
    model = ExtraTreesRegressor(TREES, random_state=0, n_jobs=1)
    model.fit(
        problem.space.features(problem.space.canonical(designs)), standardised(rewards, evaluation.feasible, units)
    )
    return Sibling(lambda rows: np.asarray(model.predict(problem.space.features(rows))), units[1])
