"""Training of single cells on the CPU with the compiled kernels: the trainer behind our own table.

One network is trained by one thread; many networks run in as many threads as asked for. A network's weights come from
a generator seeded by (cell code, seed) and the order of the data from (seed, epoch), so that a result depends neither
on the number of threads nor on what else is trained.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import Data, DataRecipe
from archgym.simulators.nas.macro import macro

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainRecipe:
    """How one network is trained. Everything a result depends on, besides the cell and the seed.

    Stochastic gradient descent with Nesterov momentum; the learning rate goes from ``rate`` to zero over all steps by
    a cosine; no augmentation. Convolution weights are Gaussian with variance 2 / fan-out, normalisation starts at
    1 and 0, the classifier uniform in +-1/sqrt(channels).

    Attributes:
        data: the data set.
        macro: name of the skeleton.
        epochs: length of the run; the learning rate reaches zero at its end.
        checkpoints: epochs after which accuracy is taken.
        batch: samples a step; the samples that do not fill the last batch of an epoch are left out of that epoch.
        rate, momentum, weight_decay: of the optimiser; weight decay is on all parameters.
        intermediate_samples: how many samples of each split are used at checkpoints before the last, 0 = all.
    """

    data: DataRecipe = field(default_factory=DataRecipe)
    macro: str = "mnist1d-C8S2"
    epochs: int = 20
    checkpoints: tuple[int, ...] = (1, 2, 4, 8, 12, 20)
    batch: int = 100
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    intermediate_samples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoints", tuple(int(epoch) for epoch in self.checkpoints))
        if not self.checkpoints or list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ArchGymError(f"checkpoints {self.checkpoints} must be increasing epochs")
        if self.checkpoints[0] < 1 or self.checkpoints[-1] != self.epochs:
            raise ArchGymError(
                f"checkpoints {self.checkpoints} must lie in 1..{self.epochs} and end with {self.epochs}"
            )
        if self.data.train < self.batch:
            raise ArchGymError(f"a batch of {self.batch} is larger than the {self.data.train} training samples")

    def as_dict(self) -> dict[str, Any]:
        """Plain form, as stored in manifests and tables."""
        return {**asdict(self), "checkpoints": list(self.checkpoints)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> TrainRecipe:
        """Inverse of :meth:`as_dict`."""
        return cls(**{**plain, "data": DataRecipe(**plain["data"]), "checkpoints": tuple(plain["checkpoints"])})

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe (first 12 hex digits of SHA-256 over its sorted JSON)."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def rates(self, steps_an_epoch: int) -> NDArray[np.float32]:
        """Learning rate of every step, float32 ``(epochs * steps_an_epoch,)``."""
        steps = self.epochs * steps_an_epoch
        return np.array(
            [self.rate * 0.5 * (1.0 + math.cos(math.pi * step / steps)) for step in range(steps)], dtype=np.float32
        )

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Order of the training samples in an epoch (from 0): the same for every cell of a seed."""
        count = self.data.train - self.data.train % self.batch
        return np.random.default_rng([seed, 1, epoch]).permutation(self.data.train)[:count].astype(np.int64)


@dataclass(frozen=True)
class TrainResult:
    """Outcome of one training.

    Attributes:
        valid, test: correct samples / samples at every checkpoint, in percent, float64 ``(checkpoints,)``.
        loss: mean training loss over the epochs since the checkpoint before.
        seconds: processor seconds of training (evaluation not counted) up to every checkpoint.
        valid_logits: logits on the validation samples at the end, float32 ``(n, classes)``; None where not asked for.
        valid_cross_entropy, test_cross_entropy: mean cross-entropy in nats at every checkpoint, float64
            ``(checkpoints,)``; None where the trainer did not measure it.
        parameters, running: the trained network, flat parameters and moments; None where not asked for.
    """

    valid: NDArray[np.float64]
    test: NDArray[np.float64]
    loss: NDArray[np.float64]
    seconds: NDArray[np.float64]
    valid_logits: NDArray[np.float32] | None = None
    valid_cross_entropy: NDArray[np.float64] | None = None
    test_cross_entropy: NDArray[np.float64] | None = None
    parameters: NDArray[np.float32] | None = None
    running: NDArray[np.float32] | None = None


def layer_shapes(ops: Sequence[int], macro_name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Blocks of the flat parameter vector in order: (kind, shape), kind ``conv``, ``norm`` (gamma, then beta: shape
    ``(2, c)``), ``linear`` or ``bias``. The order is that of ``CellNetwork.parameters()``."""
    m = macro(macro_name)
    area = (3,) * m.dimensions
    point = (1,) * m.dimensions
    shapes: list[tuple[str, tuple[int, ...]]] = [("conv", (m.width, m.inputs, *area)), ("norm", (2, m.width))]
    c = m.width
    for stage in range(m.stages):
        if stage:
            shapes += [("conv", (2 * c, c, *area)), ("norm", (2, 2 * c)), ("conv", (2 * c, 2 * c, *area))]
            shapes += [("norm", (2, 2 * c)), ("conv", (2 * c, c, *point))]
            c *= 2
        for _ in range(m.cells):
            for op in ops:
                if op in (cells.CONV1, cells.CONV3):
                    shapes += [("conv", (c, c, *(point if op == cells.CONV1 else area))), ("norm", (2, c))]
    shapes += [("norm", (2, c)), ("linear", (m.classes, c)), ("bias", (m.classes,))]
    return shapes


def initial_parameters(code: int, seed: int, macro_name: str = "mnist1d-C8S2") -> NDArray[np.float32]:
    """Flat initial parameters of a network, from a generator seeded by (cell code, seed) alone."""
    rng = np.random.default_rng([int(code), int(seed), 0])
    shapes = layer_shapes(cells.rows(int(code)).tolist(), macro_name)
    width = shapes[-2][1][1]
    blocks = []
    for kind, shape in shapes:
        if kind == "conv":
            fan_out = shape[0] * math.prod(shape[2:])
            block = rng.normal(0.0, math.sqrt(2.0 / fan_out), size=shape)
        elif kind == "norm":
            block = np.stack([np.ones(shape[1]), np.zeros(shape[1])])
        else:
            block = rng.uniform(-1.0, 1.0, size=shape) / math.sqrt(width)
        blocks.append(np.asarray(block, dtype=np.float32).reshape(-1))
    return np.concatenate(blocks)


def can_train(macro_name: str) -> bool:
    """Whether the compiled kernels have this skeleton: one-dimensional, one input channel, two stages of one cell,
    width a multiple of 4, even length."""
    m = macro(macro_name)
    return (m.dimensions, m.inputs, m.cells, m.stages) == (1, 1, 1, 2) and m.width % 4 == 0 and m.size % 2 == 0


def train_cell(
    code: int,
    seed: int,
    data: Data,
    recipe: TrainRecipe,
    *,
    logits: bool = False,
    start: tuple[NDArray[np.float32], NDArray[np.float32] | None] | None = None,
    keep: bool = False,
    splits: Sequence[str] = ("valid", "test"),
) -> TrainResult:
    """Train one cell in the calling thread; ``logits`` and ``keep`` say whether the result holds the logits, and the
    trained parameters. ``start``: parameters and moments to begin with, in place of the (cell, seed)'s own. ``splits`` are
    judged; figures of another are empty."""
    from archgym.simulators.nas.kernels import training as kernels

    if not can_train(recipe.macro):
        raise ArchGymError(f"the compiled trainer has no network {recipe.macro!r}; use the torch trainer")
    m = macro(recipe.macro)
    ops = np.ascontiguousarray(cells.rows(int(code)))
    theta = initial_parameters(code, seed, recipe.macro)
    velocity = np.zeros_like(theta)
    running = np.zeros((16, 2, 2 * m.width), dtype=np.float32)
    running[:, 1] = 1.0
    if start is not None:
        theta = start[0].copy()
        running = running if start[1] is None else start[1].copy()
    steps = recipe.data.train // recipe.batch
    rates = recipe.rates(steps)
    accuracies: dict[str, list[float]] = {"valid": [], "test": []}
    cross_entropies: dict[str, list[float]] = {"valid": [], "test": []}
    losses: list[float] = []
    seconds: list[float] = []
    spent, done = 0.0, 0
    last_logits = None
    for checkpoint in recipe.checkpoints:
        order = np.concatenate([recipe.order(seed, epoch) for epoch in range(done, checkpoint)])
        begin = time.thread_time()
        losses.append(
            kernels.train_steps(
                ops,
                theta,
                velocity,
                running,
                data.x_train,
                data.y_train,
                order,
                rates[done * steps : checkpoint * steps],
                recipe.batch,
                np.float32(recipe.weight_decay),
                np.float32(recipe.momentum),
                m.width,
                m.classes,
            )  # fmt: skip
        )
        spent += time.thread_time() - begin
        done = checkpoint
        seconds.append(spent)
        part = recipe.intermediate_samples if checkpoint < recipe.epochs else 0
        for name in splits:
            x, y = getattr(data, f"x_{name}"), getattr(data, f"y_{name}")
            if part:
                x, y = x[:part], y[:part]
            out, loss, hits = kernels.predict(ops, theta, running, x, y, recipe.batch, m.width, m.classes)
            accuracies[name].append(100.0 * hits / len(y))
            cross_entropies[name].append(loss / len(y))
            if name == "valid":
                last_logits = out
    return TrainResult(
        np.array(accuracies["valid"]),
        np.array(accuracies["test"]),
        np.array(losses),
        np.array(seconds),
        last_logits if logits else None,
        np.array(cross_entropies["valid"]),
        np.array(cross_entropies["test"]),
        theta if keep else None,
        running if keep else None,
    )


def train_cells(
    jobs: Sequence[tuple[int, int]], data: Data, recipe: TrainRecipe, *, threads: int = 1
) -> list[TrainResult]:
    """Train (code, seed) jobs, ``threads`` at a time; results in the order of the jobs."""
    if threads <= 1 or len(jobs) <= 1:
        return [train_cell(code, seed, data, recipe) for code, seed in jobs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda job: train_cell(job[0], job[1], data, recipe), jobs))
