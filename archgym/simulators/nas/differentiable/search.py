"""The loop of the differentiable searches, and what their cells are worth on a table.

Half of the training samples move the weights, half the choices. Weights: SGD with momentum, rate by a cosine, clipped
gradients. Choices: Adam, at rest for the first part of the epochs. One seed fixes a search; it runs on one thread.

The weights' rate is that of the cells' own training, and a batch half of the literature's: 800 samples make few steps an
epoch, and with the rate of .025 that is usual on 20,000 samples the mixture is so far from trained at the end (a loss of 1.4
nats) that the choices follow whichever operation needs no training, the pool.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import Data, DataRecipe, load_data
from archgym.simulators.nas.differentiable import bilevel
from archgym.simulators.nas.differentiable.methods import (
    Method,
    dirichlet_divergence,
    keep_other_probabilities,
    method_of,
    mixture_weights,
    one_path,
    probabilities,
    two_paths,
)
from archgym.simulators.nas.differentiable.mixture import MixtureNetwork
from archgym.simulators.nas.supernet.engine import one_torch_thread
from archgym.simulators.nas.supernet.fewshot import bipartition

SPLITS_AT = (0.4, 0.8)
INTO = tuple(tuple(e for e, (_, to) in enumerate(cells.EDGES) if to == node) for node in (1, 2, 3))


@dataclass(frozen=True)
class SearchRecipe:
    """How a search runs.

    Attributes:
        data, macro: data set and skeleton; method: a name of ``METHODS``, with ``fewshot-`` before it for sub-spaces.
        epochs, batch: length and samples a step.
        rate, last_rate, momentum, weight_decay, clip: of the weights' SGD.
        choice_rate, choice_decay: of the choices' Adam (betas .5 and .999).
        norm_all: give skip and pool a norm, too.
        pull, training_weight: beta and lambda of ``rarts``.
        matching_batches: gradients an edge before a split, ``fewshot-``.
    """

    data: DataRecipe = field(default_factory=DataRecipe)
    macro: str = "mnist1d-C8S2"
    method: str = "darts"
    epochs: int = 30
    batch: int = 50
    rate: float = 0.1
    last_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    choice_rate: float = 3e-3
    choice_decay: float = 1e-3
    norm_all: bool = False
    pull: float = 0.1
    training_weight: float = 1.0
    matching_batches: int = 3

    def __post_init__(self) -> None:
        method_of(self.method)
        if not 1 <= self.epochs <= 10_000:
            raise ArchGymError(f"a search of {self.epochs} epochs: expected 1 to 10,000")
        if not (math.isfinite(self.choice_rate) and 0 < self.choice_rate <= 10):
            raise ArchGymError(f"the choices' rate is {self.choice_rate}; expected more than 0 and at most 10")
        if not 1 <= self.batch <= self.data.train // 2:
            raise ArchGymError(f"a batch of {self.batch} does not fit half of the {self.data.train} training samples")

    def as_dict(self) -> dict[str, Any]:
        """Plain form."""
        return asdict(self)


@dataclass(frozen=True)
class Epoch:
    """What a search holds after an epoch.

    Attributes:
        cell, cell_without_none: codes of the derived cells: the strongest operation of every edge, out of all five
            and out of those that are not none.
        probabilities: ``(6, 5)``.
        training_loss, validation_loss: means over the epoch; NaN where there was none.
    """

    cell: int
    cell_without_none: int
    probabilities: NDArray[np.float64]
    training_loss: float
    validation_loss: float

    @property
    def entropy(self) -> float:
        """Mean entropy of an edge, in nats."""
        p = np.maximum(self.probabilities, 1e-300)
        return float(-(p * np.log(p)).sum(-1).mean())

    def count(self, op: int) -> int:
        """Edges of the derived cell that carry an operation."""
        return int((cells.rows(self.cell) == op).sum())


class _Space:
    """A (sub-)space in search: its operations, weights, choices and optimisers."""

    def __init__(
        self,
        recipe: SearchRecipe,
        method: Method,
        weights: Sequence[Tensor],
        choices: Sequence[Tensor],
        allowed: Tensor,
    ) -> None:
        self.allowed = allowed
        self.weights = [w.detach().clone().requires_grad_() for w in weights]
        self.choices = [c.detach().clone().requires_grad_() for c in choices]
        self.copies = [w.detach().clone().requires_grad_() for w in weights] if method.order == 0 else []
        settings = {"lr": recipe.rate, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        self.of_weights = torch.optim.SGD(self.weights, **settings)
        self.of_copies = torch.optim.SGD(self.copies, **settings) if self.copies else None
        self.of_choices = torch.optim.Adam(
            self.choices, lr=recipe.choice_rate, betas=(0.5, 0.999), weight_decay=recipe.choice_decay
        )
        self.snapshots: deque[tuple[list[Tensor], Tensor, Tensor | None]] = deque(maxlen=3)
        self.losses: list[list[float]] = [[], []]

    def momentum(self) -> list[Tensor] | None:
        found = [self.of_weights.state[w].get("momentum_buffer") for w in self.weights if w in self.of_weights.state]
        return found if len(found) == len(self.weights) else None


class Search:
    """One differentiable search; iterate over :meth:`epochs`.

    Args:
        seed: of weights, order of the data, samples.
        data: the recipe's data where None.
        costs: cost of every operation on every edge ``(6, 5)``, for ``proxyless``; MACs where None.
    """

    def __init__(
        self, recipe: SearchRecipe, seed: int = 0, data: Data | None = None, costs: NDArray[np.float64] | None = None
    ) -> None:
        self.recipe, self.seed = recipe, int(seed)
        self.method, self.fewshot = method_of(recipe.method)
        data = load_data(recipe.data) if data is None else data
        rng = np.random.default_rng([self.seed, 10])
        order = rng.permutation(len(data.x_train))
        half = len(order) // 2
        self._x = [torch.as_tensor(data.x_train[rows]) for rows in (order[:half], order[half:])]
        self._y = [torch.as_tensor(data.y_train[rows]) for rows in (order[:half], order[half:])]
        self.network = MixtureNetwork(recipe.macro, recipe.norm_all, self.method.partial)
        choices = [torch.tensor(1e-3 * rng.normal(size=(6, 5)), dtype=torch.float32)]
        if self.method.partial > 1:
            choices.append(torch.tensor(1e-3 * rng.normal(size=6), dtype=torch.float32))
        everything = torch.ones((6, 5), dtype=torch.bool)
        self.spaces = [_Space(recipe, self.method, self.network.initial(self.seed), choices, everything)]
        self.splits: list[str] = []
        self._generator = torch.Generator().manual_seed(self.seed)
        # The cost of the uniform mixture is 1: so the weight of the term means the same on every device.
        table = _macs_costs(recipe.macro) if costs is None else np.asarray(costs, dtype=np.float64)
        self._costs = torch.tensor(table / table.mean(1).sum(), dtype=torch.float32)
        self._tau = 1.0
        self.seconds = 0.0

    # --- the run ---------------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[Epoch]:
        """Run the search; one result an epoch."""
        split_at = [max(1, int(share * self.recipe.epochs)) for share in SPLITS_AT] if self.fewshot else []
        for epoch in range(self.recipe.epochs):
            begin = time.process_time()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed * 100_003 + epoch)
                self._epoch(epoch, epoch in split_at)
            self.seconds += time.process_time() - begin
            yield self.derive()

    @one_torch_thread
    def _epoch(self, epoch: int, split: bool) -> None:
        if split:
            self._split(epoch, last=len(self.spaces) == 2)
        recipe, method = self.recipe, self.method
        share = epoch / max(recipe.epochs - 1, 1)
        self._tau = method.first_temperature + share * (method.last_temperature - method.first_temperature)
        cosine = 0.5 * (1.0 + math.cos(math.pi * epoch / recipe.epochs))
        if method.power_annealing != 1.0:
            cosine = 1.0 - (1.0 - cosine) ** method.power_annealing
        rate = recipe.last_rate + (recipe.rate - recipe.last_rate) * cosine
        for space in self.spaces:
            space.losses = [[], []]
            for optimiser in (space.of_weights, space.of_copies):
                if optimiser is not None:
                    optimiser.param_groups[0]["lr"] = rate
            if method.distillation and epoch and epoch % 2 == 0:
                p, b = self._mixture(space.choices, space.allowed)
                kept = [w.detach().clone() for w in space.weights]
                space.snapshots.append((kept, p.detach(), None if b is None else b.detach()))
        resting = epoch < int(method.warm_up * recipe.epochs)
        rng = np.random.default_rng([self.seed, 11, epoch])
        rows = [rng.permutation(len(x)) for x in self._x]
        for step in range(len(self._x[0]) // recipe.batch):
            part = slice(step * recipe.batch, (step + 1) * recipe.batch)
            batches = [(x[r[part]], y[r[part]]) for x, y, r in zip(self._x, self._y, rows, strict=True)]
            self._step(self.spaces[step % len(self.spaces)], batches[0], batches[1], rate, resting)

    def _step(
        self,
        space: _Space,
        training: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        rate: float,
        resting: bool,
    ) -> None:
        if self.method.order == 0:
            self._rarts_step(space, training, validation, resting)
            return
        if not resting:
            self._choice_step(space, training, validation, rate)
        fixed = [choice.detach() for choice in space.choices]
        path = self.method.mixture == "two-path"
        loss = self._loss(training, space.allowed, path=path)(space.weights, fixed)
        space.losses[0].append(float(loss.detach()))
        if self.method.distillation and space.snapshots:
            loss = loss + self._distillation(space, training[0])
        self._descend(space.of_weights, space.weights, bilevel.gradients(loss, space.weights))

    def _choice_step(
        self, space: _Space, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], rate: float
    ) -> None:
        method, allowed = self.method, space.allowed
        if method.mixture == "two-path":
            before = space.choices[0].detach().clone()
            gates, pairs = two_paths(space.choices[0], allowed, self._generator)
            loss = F.cross_entropy(self.network.logits(space.weights, validation[0], gates), validation[1])
            space.losses[1].append(float(loss.detach()))
            loss = loss + method.latency * (probabilities(space.choices[0], allowed) * self._costs).sum()
            found = bilevel.gradients(loss, space.choices)
            mask = torch.zeros_like(found[0]).scatter(1, pairs, 1.0)
            self._apply(space.of_choices, space.choices, [found[0] * mask])
            with torch.no_grad():
                space.choices[0].copy_(keep_other_probabilities(before, space.choices[0], pairs))
            return
        noted = self._loss(validation, allowed, space.losses[1])
        if method.order == 2:
            found = bilevel.second_order(
                self._loss(training, allowed), noted, space.weights, space.choices, rate, space.momentum(),
                self.recipe.momentum, self.recipe.weight_decay,
            )  # fmt: skip
        else:
            found = bilevel.first_order(noted, space.weights, space.choices)
        if method.divergence:
            extra = bilevel.gradients(
                method.divergence * dirichlet_divergence(space.choices[0], allowed), space.choices
            )
            found = [g + e for g, e in zip(found, extra, strict=True)]
        self._apply(space.of_choices, space.choices, found)

    def _rarts_step(
        self, space: _Space, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], resting: bool
    ) -> None:
        recipe = self.recipe
        of_training = self._loss(training, space.allowed, space.losses[0])
        of_validation = self._loss(validation, space.allowed)
        found = bilevel.rarts_weights(
            of_training, space.weights, space.copies, space.choices, recipe.training_weight, recipe.pull
        )
        self._descend(space.of_weights, space.weights, found)
        found = bilevel.rarts_weights(of_validation, space.copies, space.weights, space.choices, 1.0, recipe.pull)
        assert space.of_copies is not None
        self._descend(space.of_copies, space.copies, found)
        if not resting:
            noted = self._loss(validation, space.allowed, space.losses[1])
            found = bilevel.rarts_choices(
                self._loss(training, space.allowed), noted, space.weights, space.copies, space.choices,
                recipe.training_weight,
            )  # fmt: skip
            self._apply(space.of_choices, space.choices, found)

    # --- losses ----------------------------------------------------------------------------------------------------

    def _mixture(self, choices: Sequence[Tensor], allowed: Tensor) -> tuple[Tensor, Tensor | None]:
        p = mixture_weights(self.method, choices[0], allowed, self._tau, self._generator)
        if len(choices) == 1:
            return p, None
        # The edges that enter a node share one softmax; they follow one another in the order of edges.
        return p, torch.cat([torch.softmax(choices[1][list(edges)], dim=0) for edges in INTO])

    def _loss(
        self, batch: tuple[Tensor, Tensor], allowed: Tensor, note: list[float] | None = None, path: bool = False
    ) -> bilevel.Loss:
        def loss(weights: Sequence[Tensor], choices: Sequence[Tensor]) -> Tensor:
            if path:
                p: Tensor = one_path(choices[0], allowed, self._generator)
                b: Tensor | None = None
            else:
                p, b = self._mixture(choices, allowed)
            value = F.cross_entropy(self.network.logits(weights, batch[0], p, b), batch[1])
            if note is not None:
                note.append(float(value.detach()))
            return value

        return loss

    def _distillation(self, space: _Space, x: Tensor) -> Tensor:
        """lambda T^2 KL(vote || softmax(z / T)), T = 2: the vote is the mean soft output of earlier snapshots."""
        temperature = 2.0
        with torch.no_grad():
            soft = [torch.softmax(self.network.logits(w, x, p, b) / temperature, dim=-1) for w, p, b in space.snapshots]
            vote = torch.stack(soft).mean(0)
        p, b = self._mixture(space.choices, space.allowed)
        now = torch.log_softmax(self.network.logits(space.weights, x, p, b) / temperature, dim=-1)
        return self.method.distillation * temperature**2 * F.kl_div(now, vote, reduction="batchmean")

    def _descend(self, optimiser: torch.optim.Optimizer, of: Sequence[Tensor], found: list[Tensor]) -> None:
        size = torch.sqrt(sum((g**2).sum() for g in found))
        scale = (self.recipe.clip / (size + 1e-6)).clamp(max=1.0)
        self._apply(optimiser, of, [g * scale for g in found])

    @staticmethod
    def _apply(optimiser: torch.optim.Optimizer, of: Sequence[Tensor], found: list[Tensor]) -> None:
        for tensor, gradient in zip(of, found, strict=True):
            tensor.grad = gradient
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    # --- sub-spaces ------------------------------------------------------------------------------------------------

    def _split(self, epoch: int, last: bool) -> None:
        """Split every space in two by gradient matching; at the last split the weights start anew."""
        children = []
        for number, space in enumerate(self.spaces):
            whole = [edge for edge in range(6) if bool(space.allowed[edge].all())]
            found = {edge: bipartition(self._distances(space, edge, epoch, number)) for edge in whole}
            edge = max(found, key=lambda e: found[e][1])
            two = found[edge][0]
            names = [
                " ".join(cells.OPERATIONS[op] for op in range(5) if (op in two) == inside) for inside in (True, False)
            ]
            self.splits.append(f"{cells.EDGE_NAMES[edge]}: {names[0]} | {names[1]}")
            for inside in (True, False):
                allowed = space.allowed.clone()
                allowed[edge] = torch.tensor([(op in two) == inside for op in range(5)])
                weights = self.network.initial(self.seed + 1) if last else space.weights
                children.append(_Space(self.recipe, self.method, weights, space.choices, allowed))
        self.spaces = children

    def _distances(self, space: _Space, edge: int, epoch: int, number: int) -> NDArray[np.float64]:
        """1 - cos of the gradients of the weights that are not the edge's own, operation by operation, mean over
        batches; the other edges carry their mixture."""
        rng = np.random.default_rng([self.seed, 12, epoch, number, edge])
        own = [k for k, edges in enumerate(self.network.edge_of) if edge in edges]
        base = probabilities(space.choices[0].detach(), space.allowed)
        total = np.zeros((5, 5))
        for _ in range(self.recipe.matching_batches):
            rows = rng.permutation(len(self._x[0]))[: self.recipe.batch]
            gradients = []
            for op in range(5):
                p = base.clone()
                p[edge] = F.one_hot(torch.tensor(op), 5).to(p.dtype)
                logits = self.network.logits(space.weights, self._x[0][rows], p)
                found = bilevel.gradients(F.cross_entropy(logits, self._y[0][rows]), space.weights)
                kept = [_without(g, k, edge, self.network) if k in own else g for k, g in enumerate(found)]
                gradients.append(torch.cat([g.reshape(-1) for g in kept]).double().numpy())
            stacked = np.stack(gradients)
            stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
            total += 1.0 - stacked @ stacked.T
        return total / self.recipe.matching_batches

    # --- results ---------------------------------------------------------------------------------------------------

    def derive(self) -> Epoch:
        """The derived cells; of several spaces those of the one with the lowest validation loss."""
        losses = [float(np.mean(space.losses[1])) if space.losses[1] else math.inf for space in self.spaces]
        space = self.spaces[int(np.argmin(losses))]
        p = probabilities(space.choices[0].detach().double(), space.allowed).numpy()
        strongest = p.argmax(1)
        without = 1 + p[:, 1:].argmax(1)
        training = space.losses[0]
        return Epoch(
            int(cells.codes(strongest)),
            int(cells.codes(without)),
            p,
            float(np.mean(training)) if training else math.nan,
            float(np.mean(space.losses[1])) if space.losses[1] else math.nan,
        )


def _without(gradient: Tensor, place: int, edge: int, network: MixtureNetwork) -> Tensor:
    """A gradient of the convolutions of several edges, without the edge's own."""
    edges = network.edge_of[place]
    each = gradient.shape[0] // len(edges)
    at = edges.index(edge)
    return torch.cat([gradient[: at * each], gradient[(at + 1) * each :]])


def _macs_costs(macro_name: str) -> NDArray[np.float64]:
    from archgym.simulators.nas.macro import macro

    skeleton = macro(macro_name)
    none, one, three = (int(skeleton.macs(a, b)) for a, b in ((0, 0), (1, 0), (0, 1)))
    costs = np.zeros((6, 5))
    costs[:, cells.CONV1], costs[:, cells.CONV3] = one - none, three - none
    return costs


# --- judged by a table -------------------------------------------------------------------------------------------------


def worth(code: int, values: NDArray[np.float64]) -> dict[str, float]:
    """Accuracy, percentile among the live cells (the share that is worse, ties half; 50 = a random live cell), and
    regret of a cell, by the accuracies ``(15625,)`` of a table."""
    live = values[~cells.is_dead(cells.all_rows()) & np.isfinite(values)]
    value = float(values[code])
    rank = float((live < value).mean() + 0.5 * (live == value).mean())
    return {
        "accuracy_percent": value, "percentile": 100.0 * rank, "regret_points": float(np.nanmax(values)) - value,
    }  # fmt: skip


def expected_random_search(signal: NDArray[np.float64], result: NDArray[np.float64], queries: int) -> float:
    """Expected ``result`` of the cell with the best ``signal`` among so many uniform draws, in closed form."""
    order = np.argsort(signal, kind="stable")
    rank = np.arange(1, len(signal) + 1) / len(signal)
    share = rank**queries - (rank - 1.0 / len(signal)) ** queries
    return float((share * result[order]).sum())


def run_search(
    recipe: SearchRecipe,
    seed: int,
    costs: NDArray[np.float64] | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run one search to its end; plain values: the derived cells, processor seconds, and the trajectory."""
    search = Search(recipe, seed, costs=costs)
    trajectory = []
    for number, epoch in enumerate(search.epochs(), start=1):
        trajectory.append(
            {
                "epoch": number, "cell": epoch.cell, "cell_without_none": epoch.cell_without_none,
                "entropy_nats": epoch.entropy, "skips": epoch.count(cells.SKIP), "pools": epoch.count(cells.POOL),
                "training_loss": epoch.training_loss,
                # None and not NaN, which JSON does not have: as long as the choices rest there is none.
                "validation_loss": epoch.validation_loss if math.isfinite(epoch.validation_loss) else None,
            }
        )  # fmt: skip
        if on_epoch is not None:
            on_epoch(number)
    last = trajectory[-1]
    return {
        "method": recipe.method, "seed": seed, "recipe": recipe.as_dict(), "cpu_s": search.seconds,
        "cell": last["cell"], "cell_without_none": last["cell_without_none"], "splits": search.splits,
        "trajectory": trajectory,
    }  # fmt: skip
