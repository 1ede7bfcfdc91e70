"""Bayesian optimisation: a Gaussian process over mixed parameters, or scikit-optimize's process or forest; expected
improvement, several designs a fit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.stats import norm

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.mixed_gp import MixedGP
from archgym.agents.moves import Mover, awakened, first_seen, row_keys
from archgym.agents.rewards import expected_improvement, standardised
from archgym.agents.starting import allowed, first_designs
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs

Array = NDArray[np.float64]

ROUNDS = 3
"""Rounds of local search for the best acquisition."""
TOP = 10
"""Designs around which it, and the search for candidates, look."""
COPIES = 4
"""Equivalents of each of these, with other values of what is inactive."""
ASLEEP = 1 / 3
"""Share of the changes of one parameter that change nothing, above which changes of the best trial are probed: .36 to .45 in
the spaces of ``soc``, .30 and less in all others."""


@dataclass(frozen=True)
class BayesianHyperparameters(Hyperparameters):
    """Of Bayesian optimisation."""

    surrogate: str = hyper(
        "mixed",
        choices=("mixed", "gp", "forest"),
        doc="the model: a Gaussian process with a length scale a parameter; scikit-optimize's process or extremely randomised trees",
    )
    acquisition: str = hyper(
        "ei", choices=("ei", "pi", "ucb"), doc="expected or probable improvement, or upper confidence bound"
    )
    explore: float = hyper(
        0.0,
        low=0.0,
        high=5.0,
        doc="ei, pi: improvement asked for; ucb: deviations added to its base of 1; in standard units",
    )
    initial: int = hyper(
        10,
        low=2,
        high=1000,
        log=True,
        doc="designs before the first fit: of Latin hypercubes, for scikit-optimize's models uniform",
    )
    batch: int = hyper(4, low=1, high=64, log=True, doc="designs suggested a fit, at most")
    ramp: int = hyper(
        0,
        low=0,
        high=10000,
        doc="mixed: trials that must be known for each design of a batch; 0: whole batches from the start",
    )
    probe: str = hyper(
        "auto",
        choices=("auto", "always", "never"),
        doc="mixed: where the last design of a batch is the change of one parameter of the best trial that is known least of; "
        "auto: where more than a third of such changes make no difference",
    )
    points: int = hyper(
        200, low=20, high=1000, log=True, doc="most trials that the model sees: the best and the latest"
    )
    candidates: int = hyper(600, low=50, high=20000, log=True, doc="designs among which the acquisition is maximised")


class BayesianOptimization(GenerationalAgent[BayesianHyperparameters]):
    """Fits a model to the trials so far, and suggests the designs that maximise the acquisition. After each suggestion of a
    batch the model is updated as if its mean had been observed there (kriging believer), so that the batch spreads.

    With the model ``mixed`` (the default): a Gaussian process with a length scale a parameter (:mod:`archgym.agents.mixed_gp`),
    two of which take turns, one that expects smooth functions of few parameters and one that expects rough ones; rewards
    below the median count by rank; candidates are canonical designs that keep the declared constraints, uniform ones and
    changes of the best trials, improved by local search; where trials were infeasible for reasons that are not declared, the
    improvement is weighed by the chance of being feasible. ``gp`` and ``forest`` are scikit-optimize's models over
    uniform candidates and neighbours of the best, as they were.

    The model never sees the raw penalty of infeasible designs, learns from canonical designs, and no design is suggested
    twice.
    """

    name = "bo"
    exact = False

    hyperparameters = BayesianHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._designs: Designs = np.empty((0, self.space.dimension), dtype=np.int64)
        self._rewards: Rewards = np.empty(0)
        self._feasible = np.empty(0, dtype=bool)
        self._seen: set[bytes] = set()
        self._near, self._one = Mover(self.space, reach=0.2), Mover(self.space)
        self._model: Any = self._make_model()

    def _make_model(self) -> Any:
        if self.p.surrogate == "mixed":
            self._turns = [MixedGP(self.space), MixedGP(self.space, rough=True)]
            return self._turns[0]
        return GaussianProcess(self.rng) if self.p.surrogate == "gp" else Forest(self.rng)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        canonical = self.space.canonical(designs)
        new = first_seen(row_keys(canonical), self._seen)
        self._remember(canonical[new], evaluation.take(new), rewards[new])

    def _remember(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        """Note trials ``(n, d)`` of designs that are new."""
        self._designs = np.concatenate([self._designs, designs])
        self._rewards = np.concatenate([self._rewards, rewards])
        self._feasible = np.concatenate([self._feasible, evaluation.feasible])

    def propose(self) -> Designs:
        if isinstance(self._model, MixedGP):
            return self._propose_mixed()
        if len(self._rewards) < 2:
            return self.space.sample(self.p.initial, self.rng)
        candidates = self._candidates()
        if not len(candidates):
            return self.space.sample(self.p.batch, self.rng)
        # BLAS sums in another order on other numbers of threads; one thread makes a run the same everywhere.
        with one_thread(trees=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = self._acquire(candidates)
        return candidates[chosen]

    # --- the model of mixed parameters ---------------------------------------------------------------------------

    def _propose_mixed(self) -> Designs:
        if not len(self._rewards):
            return first_designs(self.space, self.p.initial, self.rng)
        with one_thread():
            chosen = self._search_acquisition()
        return chosen if len(chosen) else self.space.sample(self.p.batch, self.rng)

    def _search_acquisition(self) -> Designs:
        """The designs of a batch: local search for the best acquisition among unseen designs that keep the constraints,
        then one after the other, each believed before the next is chosen."""
        best = self._fit()
        pool, score = self._scored(self._spread(), best)
        for _ in range(ROUNDS if len(pool) else 0):
            top = pool[np.argsort(-score, kind="stable")[:TOP]]
            near, found = self._scored(self._unseen(self._around(top, self.p.candidates // 3), pool), best)
            pool, score = np.concatenate([pool, near]), np.concatenate([score, found])
        kept = np.argsort(-score, kind="stable")[: max(100, 4 * self._size())]
        chosen = self._batch(pool[kept], best)
        return self._probed(chosen) if self._probes and len(chosen) > 1 else chosen

    @cached_property
    def _probes(self) -> bool:
        if self.p.probe != "auto":
            return self.p.probe == "always"
        rng = np.random.default_rng(0)  # of its own: a fact of the space, not a part of the run
        designs = self.space.sample(500, rng)
        moved = self.space.canonical(self._one(designs, 1, rng))
        return bool((moved == self.space.canonical(designs)).all(axis=1).mean() > ASLEEP)

    def _probed(self, chosen: Designs) -> Designs:
        """The batch with, as its last, the change of the best trial of the largest deviation: the improvement that a model
        expects of a switch of many parameters is often too little for it ever to be tried."""
        best = self._designs[[int(np.argmax(self._rewards))]]
        if self.space.inactive or self.space.has_equivalences:
            best = awakened(self.space, best, 1, self.rng)[:, 0]
        near = self._unseen(self.space.neighbours(best[0]), chosen)
        if len(near):
            _, deviation = self._model.predict(near)
            chosen[-1] = near[int(np.argmax(deviation))]
        return chosen

    def _fit(self) -> float:
        """Fits the model whose turn it is; the best reward as it sees them."""
        self._turns.reverse()
        self._model = self._turns[0]
        rows = self._shown()
        best = self._fitted(rows, self._warped()[rows])
        feasible = self._feasible[rows]
        self._chance = self._model.solved(feasible - feasible.mean()) if not feasible.all() and feasible.any() else None
        self._share = float(feasible.mean())
        return best

    def _fitted(self, rows: NDArray[np.int64], y: Array) -> float:
        """Fits it to these trials, of rewards ``y``; the best of these."""
        self._model.fit(self._designs[rows], y)
        feasible = self._feasible[rows]
        return float(y[feasible].max()) if feasible.any() else float(y.max())

    def _batch(self, pool: Designs, best: float) -> Designs:
        if not len(pool):
            return pool
        mean, deviation = self._model.predict(pool)
        chance = self._feasibility()
        chosen: list[int] = []
        size = self._size()
        for _ in range(min(size, len(pool))):
            score = self._value(mean, deviation, best) + chance
            score[chosen] = -np.inf
            chosen.append(int(np.argmax(score)))
            best = max(best, float(mean[chosen[-1]]))
            if len(chosen) < size:
                deviation = self._model.believe(chosen[-1])
        return pool[chosen]

    def _size(self) -> int:
        """Designs of the next batch."""
        return self.p.batch if not self.p.ramp else min(self.p.batch, max(1, len(self._rewards) // self.p.ramp))

    def _scored(self, pool: Designs, best: float) -> tuple[Designs, Array]:
        if not len(pool):
            return pool, np.empty(0)
        mean, deviation = self._model.predict(pool)
        return pool, self._value(mean, deviation, best) + self._feasibility()

    def _value(self, mean: Array, deviation: Array, best: float) -> Array:
        """The acquisition on a scale on which the chance of being feasible is added: a logarithm."""
        if self.p.acquisition == "ucb":
            return np.asarray(mean + (1.0 + self.p.explore) * deviation)
        z = (mean - best - self.p.explore) / deviation
        if self.p.acquisition == "pi":
            return np.asarray(norm.logcdf(z))
        return log_improvement(z) + np.log(deviation)

    def _feasibility(self) -> Array | float:
        """Logarithm of the chance that the remembered points are feasible, by the rewards' model; 0 where all were."""
        if self._chance is None:
            return 0.0
        return np.asarray(np.log(np.clip(self._model.other(self._chance) + self._share, 0.01, 1.0)))

    def _warped(self) -> Array:
        """Rewards as the model sees them: by rank below the median, so that the bad tail weighs nothing, and to scale
        above it (Vizier's half-rank warping); mean 0 and deviation 1. Infeasible trials are in the middle of the bad."""
        good = self._rewards[self._feasible] if self._feasible.any() else self._rewards
        middle = float(np.median(good))
        above = good[good > middle] - middle
        spread = float(np.sqrt(np.mean(above**2))) if len(above) else 1.0
        ranks = np.searchsorted(np.sort(good), self._rewards, side="left") + 0.5
        low = norm.ppf(np.minimum(ranks / len(good), 0.5))
        y = np.where(self._rewards > middle, (self._rewards - middle) / spread, low)
        y = np.where(self._feasible, y, -0.7)
        return np.asarray((y - y.mean()) / (y.std() or 1.0))

    def _spread(self) -> Designs:
        """Unseen designs: uniform ones, and changes of the best trials, from one parameter to many."""
        n = self.p.candidates
        best = self._designs[np.argsort(-self._rewards, kind="stable")[:TOP]]
        pool = np.concatenate([first_designs(self.space, n // 3, self.rng), self._around(best, n - n // 3)])
        kept = self._unseen(pool)
        return kept if len(kept) else self._unseen(pool, keep=False)

    def _around(self, best: Designs, count: int) -> Designs:
        """``count`` changes of designs, more of the first: half of them in one parameter, a half of these by a step. What a
        change makes active is drawn anew: the value that canonical designs have there may be the worst."""
        chosen = np.minimum(self.rng.geometric(0.3, count) - 1, len(best) - 1)
        start = best[chosen]
        if self.space.inactive or self.space.has_equivalences:
            start = awakened(self.space, best, COPIES, self.rng)[chosen, self.rng.integers(0, COPIES, count)]
        changes = np.minimum(self.rng.geometric(0.5, count), self.space.dimension)
        moved = start.copy()
        for k in range(1, int(changes.max(initial=0)) + 1):
            rows = np.flatnonzero(changes >= k)
            # (A parameter may be drawn twice: then one fewer is changed.)
            near = self.rng.random(len(rows)) < 0.5
            moved[rows[near]] = self._near(moved[rows[near]], 1, self.rng)
            moved[rows[~near]] = self._one(moved[rows[~near]], 1, self.rng)
        return moved

    def _unseen(self, pool: Designs, other: Designs | None = None, keep: bool = True) -> Designs:
        """The canonical forms of ``pool`` that ``keep`` the constraints, each once, without trials and ``other`` designs."""
        pool = self.space.canonical(pool)
        known = set(self._seen)
        if other is not None:
            known.update(row_keys(other))
        pool = pool[allowed(self.space, pool)] if keep else pool
        return pool[first_seen(row_keys(pool), known)]

    # --- scikit-optimize's models --------------------------------------------------------------------------------

    def _acquire(self, candidates: Designs) -> list[int]:
        rows = self._shown()
        y = self._standardised()[rows]
        self._model.fit(self.space.features(self._designs[rows]), y)
        mean, deviation = self._model.predict(self.space.features(candidates))
        chosen: list[int] = []
        best = float(y.max())
        for _ in range(min(self.p.batch, len(candidates))):
            score = self._acquisition(mean, deviation, best)
            score[chosen] = -np.inf
            chosen.append(int(np.argmax(score)))
            best = max(best, float(mean[chosen[-1]]))
            if len(chosen) < self.p.batch:
                deviation = self._model.believe(chosen[-1])
        return chosen

    def _acquisition(self, mean: Array, deviation: Array, best: float) -> Array:
        if self.p.acquisition == "ucb":
            return mean + (1.0 + self.p.explore) * deviation
        deviation = np.maximum(deviation, 1e-9)
        z = (mean - best - self.p.explore) / deviation
        if self.p.acquisition == "pi":
            # The logarithm keeps an order where the probability itself is zero.
            return np.asarray(norm.logcdf(z))
        return np.asarray(deviation * (z * norm.cdf(z) + norm.pdf(z))) + 1e-12 * mean

    def _standardised(self) -> Array:
        return standardised(self._rewards, self._feasible)

    def _shown(self) -> NDArray[np.int64]:
        """Trials that the model sees: a half the best, a half the latest."""
        n, cap = len(self._rewards), self.p.points
        if n <= cap:
            return np.arange(n)
        best = np.argsort(-self._rewards, kind="stable")[: cap // 2]
        latest = np.setdiff1d(np.arange(n), best)[-(cap - cap // 2) :]
        return np.concatenate([best, latest])

    def _candidates(self) -> Designs:
        """Unseen designs: a half uniform, a half around the best trials, each of them once."""
        half = self.p.candidates // 2
        best = self._designs[np.argsort(-self._rewards, kind="stable")[:10]]
        # The better a trial, the more neighbours.
        around = best[np.minimum(self.rng.geometric(0.3, half) - 1, len(best) - 1)]
        cut = [half // 3, 2 * half // 3]
        parts = [
            self.space.sample(self.p.candidates - half, self.rng),
            self._near(around[: cut[0]], 1, self.rng),
            self._one(around[cut[0] : cut[1]], 1, self.rng),
            self._one(around[cut[1] :], 2, self.rng),
        ]
        pool = self.space.canonical(np.concatenate(parts))
        known = set(self._seen)
        rows = first_seen(row_keys(pool), known)
        return pool[rows]


def log_improvement(z: Array) -> Array:
    """Logarithm of the expected improvement of a standard normal beyond -z, exact where the improvement itself is zero in
    floats (Ament et al., 2023). Shape of ``z``."""
    result = np.log(np.maximum(expected_improvement(z), 1e-300))
    far = z < -6.0
    # pdf(z) / z^2 (1 - 3 / z^2 ...), the tail's series.
    result[far] = norm.logpdf(z[far]) - 2.0 * np.log(-z[far]) + np.log1p(-3.0 / z[far] ** 2)
    return np.asarray(result)


@cache
def _thread_pools(trees: bool) -> Any:
    """The process's thread pools. To find them takes milliseconds, so it is done once, after their libraries are in:
    those of NumPy and SciPy are, scikit-optimize's take seconds and are only needed for its models (``trees``)."""
    if trees:
        import skopt.learning  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_lock = threading.Lock()
_inside: list[Any] = []
"""For each thread in :func:`one_thread` the limit on BLAS that the first of them set."""


@contextmanager
def one_thread(trees: bool = False) -> Iterator[None]:
    """A context in which BLAS sums on one thread: it sums in another order on other numbers of threads. The number is of the
    process: of threads that meet here the last to leave puts it back."""
    with _lock:
        _inside.append(_inside[0] if _inside else _thread_pools(trees=False).limit(limits=1, user_api="blas"))
    try:
        with _thread_pools(trees).limit(limits=1, user_api="openmp"):  # this number is of the thread
            yield
    finally:
        with _lock:
            limit = _inside.pop()
            if not _inside:
                limit.restore_original_limits()


class GaussianProcess:
    """scikit-optimize's Gaussian process with a Matérn 5/2 kernel and noise. The kernel's hyperparameters are fitted
    anew whenever the data has grown by a fifth, in between only the data is exchanged."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(2**31))
        self._kernel: Any = None
        self._noise = 1e-6
        self._fitted_at = 0
        self._fits_since = 0

    def fit(self, x: Array, y: Array) -> None:
        from skopt.learning import GaussianProcessRegressor
        from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern

        if self._kernel is None or self._due(len(y)):
            # One length scale a feature needs data for each; beyond that, one for all.
            scales = np.ones(x.shape[1]) if x.shape[1] <= 20 else 1.0
            kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(scales, (0.05, 20.0), nu=2.5)
            model = GaussianProcessRegressor(kernel=kernel, normalize_y=True, noise="gaussian", random_state=self._seed)
            model.fit(x, y)
            self._fitted_at, self._fits_since = len(y), 0
            self._kernel, self._noise = model.kernel_, max(float(model.noise_), 1e-6)
        model = GaussianProcessRegressor(kernel=self._kernel, alpha=self._noise, optimizer=None, normalize_y=True)
        model.fit(x, y)
        self._model = model

    def _due(self, n: int) -> bool:
        self._fits_since += 1
        return n >= 1.2 * self._fitted_at or self._fits_since >= 25

    def predict(self, x: Array) -> tuple[Array, Array]:
        model = self._model
        cross = model.kernel_(x, model.X_train_)
        self._x, self._scale = x, float(model.y_train_std_)
        mean = cross @ model.alpha_ * self._scale + float(model.y_train_mean_)
        # Columns of L^-1 k(X, x); a believed observation adds one row to it.
        self._reduced = solve_triangular(model.L_, cross.T, lower=True)
        self._variance = model.kernel_.diag(x) - (self._reduced**2).sum(axis=0)
        return mean, self._deviation()

    def _deviation(self) -> Array:
        return np.sqrt(np.maximum(self._variance, 0.0)) * self._scale

    def believe(self, row: int) -> Array:
        covariance = (
            self._model.kernel_(self._x, self._x[row : row + 1])[:, 0] - self._reduced.T @ self._reduced[:, row]
        )
        added = covariance / np.sqrt(max(self._variance[row], 0.0) + self._noise)
        self._reduced = np.vstack([self._reduced, added])
        self._variance = self._variance - added**2
        return self._deviation()


class Forest:
    """scikit-optimize's extremely randomised trees, whose spread over trees and leaves is the deviation."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(2**31))

    def fit(self, x: Array, y: Array) -> None:
        from skopt.learning import ExtraTreesRegressor

        self._model = ExtraTreesRegressor(
            n_estimators=50, min_samples_leaf=2, max_features=1.0, random_state=self._seed, n_jobs=1
        )
        self._model.fit(x, y)

    def predict(self, x: Array) -> tuple[Array, Array]:
        # The model's own predict walks all trees twice, and its apply once more, at a cost a tree that hundreds of
        # candidates do not make up for: one walk gives mean, variance (law of total variance) and leaves.
        trees = [member.tree_ for member in self._model.estimators_]
        points = np.ascontiguousarray(x, dtype=np.float32)
        self._leaves = np.stack([tree.apply(points) for tree in trees], axis=1)
        mean, square = np.zeros(len(x)), np.zeros(len(x))
        for tree, leaves in zip(trees, self._leaves.T, strict=True):
            value = tree.value[leaves, 0, 0]
            mean += value
            square += np.maximum(tree.impurity[leaves], 0.0) + value**2
        mean /= len(trees)
        self._deviation = np.sqrt(np.maximum(square / len(trees) - mean**2, 0.0))
        return mean, self._deviation

    def believe(self, row: int) -> Array:
        # Trees in which a candidate shares the leaf of the believed point have nothing left to learn there.
        shared = (self._leaves == self._leaves[row]).mean(axis=1)
        self._deviation = self._deviation * np.sqrt(1.0 - 0.9 * shared)
        return np.asarray(self._deviation)
