"""Training a supernet: policies that say which cells a step trains, and the one loop that trains them.

| policy | one update | origin |
|---|---|---|
| ``uniform`` | one cell, every operation of an edge with equal probability | single path one-shot (Guo et al., ECCV 2020) |
| ``fair`` | five cells that use every operation of every edge once, gradients averaged | FairNAS (Chu et al., ICCV 2021) |
| ``sandwich`` | the largest cell on labels; the smallest and two uniform ones on its soft output | BigNAS (Yu et al., ECCV 2020) |
| ``complexity`` | one cell whose MACs differ from the last one's by at most ``delta_macs`` | ElasticViT (Tang et al., ICCV 2023) |
| ``shift`` | one cell of a MAC level; levels whose loss still falls are drawn more often | ShiftNAS (Zhang et al., ICCV 2023) |
| ``fewshot`` | uniform inside one of up to four sub-supernets, split by gradient matching | GM-NAS (Hu et al., ICLR 2022) |
| ``fewshot-random`` | the same with random splits, for comparison | few-shot NAS (Zhao et al., ICML 2021) |

``steps`` counts trained cells, so that equal steps are equal work whatever the policy. A draw is a function of (seed,
update) alone, the order of the data one of (seed, epoch): a killed training goes on to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.reading import checked, parse_json, quote_path, read_arrays
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import Data, DataRecipe, load_data
from archgym.simulators.nas.fidelity import SUPERNET_POLICIES as POLICIES
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.supernet.engine import Engine, make_engine
from archgym.simulators.nas.supernet.fewshot import split_leaves
from archgym.simulators.nas.supernet.store import Leaf, Store, draw_cell, live_codes
from archgym.writing import replacing

CELLS_AN_UPDATE = {"fair": 5, "sandwich": 4}
VERSION = "1"
"""Changes whenever a trained supernet can change."""
SPLITS_AT = (0.4, 0.8)
"""Shares of the steps after which the few-shot policies split every sub-supernet in two."""
_CHECKPOINT_S = 10.0


@dataclass(frozen=True)
class SupernetRecipe:
    """Everything a trained supernet depends on, besides the seed.

    Attributes:
        data, macro: data set and skeleton.
        policy: one of ``SUPERNET_POLICIES``; steps: cells trained in all.
        batch, rate, momentum, weight_decay: of stochastic gradient descent with Nesterov momentum; the rate falls to
            zero over the whole run by a cosine. Weight decay is ten times that of a cell's own training: a supernet goes
            over the samples thirty times as often, and would learn them by heart, large cells first.
        recalibration: training batches whose moments a cell's normalisation takes before it is judged.
        candidates: performance-aware sampling: of so many drawn cells the one with the lowest loss on a fixed batch is
            trained (policy ``complexity``; 1 = off).
        delta_macs: largest difference of the MACs of consecutive cells, policy ``complexity``.
        shift_updates, shift_rate: every so many updates the logits of the levels move by so much, policy ``shift``.
        smoothing: share of the labels' probability that is spread over all classes (of what learns from labels).
        matching_batches: batches of gradients an edge, policy ``fewshot``.
    """

    data: DataRecipe = field(default_factory=DataRecipe)
    macro: str = "mnist1d-C8S2"
    policy: str = "uniform"
    steps: int = 10_000
    batch: int = 100
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-3
    recalibration: int = 16
    candidates: int = 1
    delta_macs: int = 25_000
    shift_updates: int = 200
    shift_rate: float = 0.5
    smoothing: float = 0.1
    matching_batches: int = 30

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UnknownNameError("supernet policy", self.policy, POLICIES)
        if not 1 <= self.steps <= 10_000_000:
            raise ArchGymError(f"a supernet of {self.steps} steps: expected 1 to 10,000,000")
        if self.updates < 1:
            raise ArchGymError(
                f"policy {self.policy} trains {self.cells_an_update} cells an update; give at least so many steps"
            )
        if not 1 <= self.batch <= self.data.train:
            raise ArchGymError(f"a batch of {self.batch} does not fit the {self.data.train} training samples")
        if not 0.0 <= self.smoothing < 1.0:
            raise ArchGymError(f"smoothing={self.smoothing}: expected 0 to 1, 1 excluded")
        if self.candidates < 1 or (self.candidates > 1 and self.policy != "complexity"):
            raise ArchGymError(f"candidates={self.candidates}: expected 1, or more with the policy complexity")

    @property
    def cells_an_update(self) -> int:
        return CELLS_AN_UPDATE.get(self.policy, 1)

    @property
    def updates(self) -> int:
        return self.steps // self.cells_an_update

    def as_dict(self) -> dict[str, Any]:
        """Plain form, as stored in files."""
        return asdict(self)

    def fingerprint(self, seed: int, data_fingerprint: str) -> str:
        """Hash of everything a trained supernet depends on (first 16 hex digits)."""
        parts = json.dumps([VERSION, self.as_dict(), seed, data_fingerprint], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _About:
    """What a file says of its supernet."""

    version: str
    recipe: SupernetRecipe
    seed: int
    update: int
    seconds: float
    splits: list[str]
    data_fingerprint: str


class Supernet:
    """A supernet in training or trained.

    Attributes:
        recipe, seed: what it is a function of (beside the data).
        leaves: one, or the sub-supernets of the few-shot policies.
        update: updates done.
        state: what a policy remembers between updates, arrays by name.
        seconds: processor seconds of training so far.
        splits: one line for people a split that was made.
    """

    def __init__(self, recipe: SupernetRecipe, seed: int = 0, data: Data | None = None) -> None:
        if seed < 0:
            raise ArchGymError(f"the seed of a supernet is {seed}; expected a whole number from 0")
        self.recipe, self.seed = recipe, int(seed)
        self.data = load_data(recipe.data) if data is None else data
        self.store = Store(recipe.macro)
        weights = self.store.initial(self.seed)
        self.leaves = [Leaf(np.ones((6, 5), dtype=bool), weights, np.zeros_like(weights))]
        self.update = 0
        self.state: dict[str, NDArray[Any]] = {}
        self.seconds = 0.0
        self.splits: list[str] = []

    @property
    def finished(self) -> bool:
        return self.update >= self.recipe.updates

    @cached_property
    def fingerprint(self) -> str:
        """Hash of recipe, seed, data and version."""
        return self.recipe.fingerprint(self.seed, self.data.fingerprint)

    def moment_batches(self) -> NDArray[np.int64]:
        """Training samples ``(batches, samples)`` whose moments a cell's normalisation takes before it is judged."""
        count = min(self.recipe.recalibration, self.recipe.data.train // self.recipe.batch)
        return np.arange(count * self.recipe.batch).reshape(count, self.recipe.batch)

    def leaf_of(self, code: int) -> Leaf:
        """The sub-supernet that holds a cell."""
        row = cells.rows(code)
        return next(leaf for leaf in self.leaves if leaf.allowed[np.arange(6), row].all())

    # --- training --------------------------------------------------------------------------------------------------

    def train(self, engine: Engine | None = None, updates: int | None = None) -> None:
        """Train to the end, or by so many updates."""
        engine = engine or make_engine(self.data, self.recipe.macro, self.recipe.batch)
        last = self.recipe.updates if updates is None else min(self.update + updates, self.recipe.updates)
        begin = time.process_time()
        split_at = [int(share * self.recipe.updates) for share in SPLITS_AT]
        while self.update < last:
            if self.recipe.policy.startswith("fewshot") and self.update in split_at:
                split_leaves(self, engine)
            self._one_update(engine)
        self.seconds += time.process_time() - begin

    def _one_update(self, engine: Engine) -> None:
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, 5, self.update])
        leaf = self.leaves[self.update % len(self.leaves)]
        rows = self.batch_rows(self.update)
        index: list[NDArray[np.int64]] = []
        gradients: list[NDArray[np.float32]] = []
        targets = self._smooth_targets(rows)
        distilled = False
        for code in _POLICY[recipe.policy](self, leaf, engine, rng):
            where = self.store.index(code)
            gradient, logits, loss = engine.gradient(code, leaf.weights[where], rows, targets)
            index.append(where)
            gradients.append(gradient)
            if recipe.policy == "sandwich" and not distilled:
                distilled = True
                exponent = np.exp(logits - logits.max(-1, keepdims=True))
                targets = exponent / exponent.sum(-1, keepdims=True)
            elif recipe.policy == "shift":
                _note_loss(self, code, loss)
        self._descend(leaf, index, gradients)
        self.update += 1

    def _smooth_targets(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Smoothed labels ``(batch, classes)``; None where nothing is smoothed."""
        smoothing = self.recipe.smoothing
        if not smoothing:
            return None
        classes = macro(self.recipe.macro).classes
        targets = np.full((len(rows), classes), smoothing / classes, dtype=np.float32)
        targets[np.arange(len(rows)), self.data.y_train[rows]] += np.float32(1.0 - smoothing)
        return targets

    def _descend(self, leaf: Leaf, index: list[NDArray[np.int64]], gradients: list[NDArray[np.float32]]) -> None:
        """One step of the weights that a gradient was had of; the others, and their momentum, stay."""
        from archgym.simulators.nas.kernels.training import nesterov_step

        recipe = self.recipe
        rate = recipe.rate * 0.5 * (1.0 + math.cos(math.pi * self.update / recipe.updates))
        if len(index) == 1:
            where, gradient = index[0], gradients[0]
        else:
            total = np.zeros(self.store.size, dtype=np.float32)
            touched = np.zeros(self.store.size, dtype=bool)
            for at, one in zip(index, gradients, strict=True):
                total[at] += one
                touched[at] = True
            where = np.flatnonzero(touched)
            gradient = total[where]
            if recipe.policy == "fair":
                gradient /= np.float32(len(index))
        weights, velocity = leaf.weights[where], leaf.velocity[where]
        nesterov_step(
            weights, gradient, velocity, np.float32(rate), np.float32(recipe.weight_decay), np.float32(recipe.momentum)
        )
        leaf.weights[where], leaf.velocity[where] = weights, velocity

    def batch_rows(self, update: int) -> NDArray[np.int64]:
        """The training samples of an update."""
        each = self.recipe.data.train // self.recipe.batch
        epoch, step = divmod(update, each)
        order = self.state.get("order")
        if order is None or int(self.state["epoch"]) != epoch:
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.recipe.data.train).astype(np.int64)
            self.state["order"], self.state["epoch"] = order, np.array(epoch)
        return order[step * self.recipe.batch : (step + 1) * self.recipe.batch]

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write everything that training needs to go on, under a temporary name first."""
        about = {
            "version": VERSION, "recipe": self.recipe.as_dict(), "seed": self.seed, "update": self.update,
            "seconds": self.seconds, "splits": self.splits, "data_fingerprint": self.data.fingerprint,
        }  # fmt: skip
        arrays: dict[str, Any] = {f"state_{name}": value for name, value in self.state.items()}
        arrays |= {
            "about": np.array(json.dumps(about)),
            "allowed": np.stack([leaf.allowed for leaf in self.leaves]),
            "weights": np.stack([leaf.weights for leaf in self.leaves]),
            "velocity": np.stack([leaf.velocity for leaf in self.leaves]),
        }
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, data: Data | None = None) -> Supernet:
        """Read what :meth:`save` wrote; a sentence where the file is something else or of other data."""
        if not path.exists():
            raise ArchGymError(
                f"there is no supernet {quote_path(path)}; train one with archgym nas supernet train --out FILE"
            )
        arrays = read_arrays(path, "supernet")
        where = f"the supernet {quote_path(path)}"
        needed = {"about", "allowed", "weights", "velocity"}
        if not needed <= set(arrays) or arrays["about"].dtype.kind != "U":
            raise ArchGymError(f"{where} lacks what a supernet of archgym holds: {', '.join(sorted(needed))}")
        about: _About = checked(parse_json(str(arrays["about"]), where), _About, where)
        if about.version != VERSION:
            raise ArchGymError(f"{where} was made by version {about.version} of the supernet, not {VERSION}")
        supernet = cls(about.recipe, about.seed, data)
        if about.data_fingerprint != supernet.data.fingerprint:
            raise ArchGymError(f"{where} was trained on data {about.data_fingerprint}, not on the data made here")
        leaves = len(arrays["allowed"]) if arrays["allowed"].ndim else 0
        expected = {"allowed": (leaves, 6, 5), "weights": (leaves, supernet.store.size)}
        expected["velocity"] = expected["weights"]
        for name, shape in expected.items():
            kind = np.bool_ if name == "allowed" else np.float32
            if not leaves or arrays[name].shape != shape or arrays[name].dtype != kind:
                raise ArchGymError(f"{where} holds {name} of shape {arrays[name].shape}; expected {shape}")
        supernet.leaves = [
            Leaf(*parts) for parts in zip(arrays["allowed"], arrays["weights"], arrays["velocity"], strict=True)
        ]
        supernet.update, supernet.seconds, supernet.splits = about.update, about.seconds, list(about.splits)
        supernet.state = {
            name.removeprefix("state_"): value for name, value in arrays.items() if name.startswith("state_")
        }
        return supernet


# --- policies ----------------------------------------------------------------------------------------------------------


def _uniform(supernet: Supernet, leaf: Leaf, engine: Engine, rng: np.random.Generator) -> Iterator[int]:
    yield draw_cell(leaf.choices, rng)


def _fair(supernet: Supernet, leaf: Leaf, engine: Engine, rng: np.random.Generator) -> Iterator[int]:
    stacked = np.stack([rng.permutation(5) for _ in range(6)], axis=1)
    live = stacked[~cells.is_dead(stacked)]
    yield from (int(code) for code in cells.codes(live))


def _sandwich(supernet: Supernet, leaf: Leaf, engine: Engine, rng: np.random.Generator) -> Iterator[int]:
    level = levels(supernet.recipe.macro)
    yield int(cells.codes([cells.CONV3] * 6))
    smallest = level.codes[0]
    yield int(smallest[rng.integers(len(smallest))])
    yield draw_cell(leaf.choices, rng)
    yield draw_cell(leaf.choices, rng)


@dataclass(frozen=True)
class Levels:
    """The levels of complexity: distinct MAC counts of live cells, ascending, and the cells of each."""

    macs: NDArray[np.int64]
    codes: list[NDArray[np.int64]]
    of: NDArray[np.int64]


def levels(macro_name: str) -> Levels:
    """Levels of the whole space on a skeleton; remembered."""
    found = _LEVELS.get(macro_name)
    if found is None:
        codes = live_codes(np.ones((6, 5), dtype=bool))
        ops = cells.rows(codes)
        macs = macro(macro_name).macs((ops == cells.CONV1).sum(1), (ops == cells.CONV3).sum(1))
        values, number = np.unique(macs, return_inverse=True)
        of = np.full(cells.CELLS, -1)
        of[codes] = number
        found = _LEVELS[macro_name] = Levels(values, [codes[number == k] for k in range(len(values))], of)
    return found


_LEVELS: dict[str, Levels] = {}


def _complexity(supernet: Supernet, leaf: Leaf, engine: Engine, rng: np.random.Generator) -> Iterator[int]:
    level = levels(supernet.recipe.macro)
    at = int(supernet.state["level"]) if "level" in supernet.state else int(rng.integers(len(level.macs)))
    near = np.flatnonzero(np.abs(level.macs - level.macs[at]) <= supernet.recipe.delta_macs)
    at = int(near[rng.integers(len(near))])
    supernet.state["level"] = np.array(at)
    drawn = rng.choice(level.codes[at], supernet.recipe.candidates)
    if len(drawn) > 1:
        bank = np.random.default_rng([supernet.seed, 8]).permutation(supernet.recipe.data.train)
        rows = bank[: supernet.recipe.batch].astype(np.int64)
        losses = [engine.loss(int(code), leaf.weights[supernet.store.index(int(code))], rows) for code in drawn]
        drawn = drawn[[int(np.argmin(losses))]]
    yield int(drawn[0])


def _shift(supernet: Supernet, leaf: Leaf, engine: Engine, rng: np.random.Generator) -> Iterator[int]:
    level, state = levels(supernet.recipe.macro), supernet.state
    count = len(level.macs)
    if "logits" not in state:
        state["logits"], state["sums"], state["counts"] = np.zeros(count), np.zeros(count), np.zeros(count)
        state["before"] = np.full(count, np.nan)
    if supernet.update and supernet.update % supernet.recipe.shift_updates == 0:
        seen = state["counts"] > 0
        now = np.where(seen, state["sums"] / np.maximum(state["counts"], 1), state["before"])
        gap = np.nan_to_num(state["before"] - now)
        scale = np.abs(gap).mean()
        if scale > 0:
            # Bounded, so that no level is ever given up.
            state["logits"] = np.clip(state["logits"] + supernet.recipe.shift_rate * gap / scale, -2.0, 2.0)
        state["before"], state["sums"], state["counts"] = now, np.zeros(count), np.zeros(count)
    weight = np.exp(state["logits"])
    at = int(np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(), side="right"))
    codes = level.codes[min(at, count - 1)]
    yield int(codes[rng.integers(len(codes))])


def _note_loss(supernet: Supernet, code: int, loss: float) -> None:
    at = levels(supernet.recipe.macro).of[code]
    supernet.state["sums"][at] += loss
    supernet.state["counts"][at] += 1


_POLICY: dict[str, Callable[[Supernet, Leaf, Engine, np.random.Generator], Iterator[int]]] = {
    "uniform": _uniform,
    "fair": _fair,
    "sandwich": _sandwich,
    "complexity": _complexity,
    "shift": _shift,
    "fewshot": _uniform,
    "fewshot-random": _uniform,
}


# --- training into files -----------------------------------------------------------------------------------------------


def train_file(
    path: Path, recipe: SupernetRecipe, seed: int, on_progress: Callable[[int, int], None] | None = None
) -> Supernet:
    """Train a supernet into a file, from where the file stands; a file of another recipe or seed is refused.

    The file is written every ten seconds and at the end.
    """
    if path.exists():
        supernet = Supernet.load(path)
        if (supernet.recipe, supernet.seed) != (recipe, seed):
            raise ArchGymError(
                f"{quote_path(path)} holds a supernet of another recipe or seed ({supernet.recipe.policy}, "
                f"{supernet.recipe.steps} steps, seed {supernet.seed}); choose another file or the same settings"
            )
    else:
        supernet = Supernet(recipe, seed)
    engine = make_engine(supernet.data, recipe.macro, recipe.batch)
    written = time.monotonic()
    while not supernet.finished:
        supernet.train(engine, 100)
        if on_progress is not None:
            on_progress(supernet.update * recipe.cells_an_update, recipe.steps)
        if time.monotonic() - written > _CHECKPOINT_S:
            supernet.save(path)
            written = time.monotonic()
    supernet.save(path)
    return supernet


def cached_supernet(recipe: SupernetRecipe, seed: int) -> Supernet:
    """The trained supernet of a recipe and a seed: from the cache folder, or trained now and kept there."""
    from archgym.simulators.nas.data import cache_folder

    key = recipe.fingerprint(seed, load_data(recipe.data).fingerprint)
    found = _TRAINED.get(key)
    if found is None:
        found = _TRAINED[key] = train_file(cache_folder() / f"supernet-{key}.npz", recipe, seed)
    return found


_TRAINED: dict[str, Supernet] = {}
