"""Guided discrete diffusion over any space: a denoiser of masked designs, trained on the good ones and steered by a predictor.

The forward process masks parameters independently (absorbing state, Austin et al., NeurIPS 2021); the reverse process fills
them in one by one, in random order, by the denoiser's distribution times exp(guidance x expected quantile of the reward)
(discrete guidance, Nisonoff et al., 2024; for architectures An et al., ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Mover
from archgym.agents.rewards import quantiles
from archgym.agents.torch_support import own_randomness
from archgym.agents.transfer import logged_trials
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs, DesignSpace

Array = NDArray[np.float64]

TEMPERATURES = (0.5, 1.0, 1.5)
"""Each generated design has one of these: some close to what is known, some further away."""

BATCH = 128
"""Trials a training step."""


@dataclass(frozen=True)
class DiffusionHyperparameters(Hyperparameters):
    """Of guided diffusion."""

    guidance: float = hyper(6.0, low=0.0, high=100.0, doc="weight of the predicted quantile in the choice of a value")
    kind: str = hyper(
        "mask", choices=("mask", "uniform"), doc="what the forward process does to a parameter: mask it or draw it anew"
    )
    batch: int = hyper(32, low=4, high=1024, log=True, doc="designs a generation")
    initial: int = hyper(64, low=4, high=1024, log=True, doc="uniform designs before the first training")
    steps: int = hyper(80, low=1, high=10_000, log=True, doc="training steps a generation")
    width: int = hyper(128, low=8, high=1024, log=True, doc="width of the network's three layers")
    sharpness: float = hyper(
        8.0, low=0.0, high=50.0, doc="how much more the best designs weigh: exp(sharpness x quantile)"
    )
    data: str = hyper(
        "", doc="trials to learn from first: a folder or file, of any workload of the simulator and space"
    )
    offline: bool = hyper(False, choices=(True, False), doc="learn from `data` alone, and draw every design from that")


class Denoiser(torch.nn.Module):
    """Masked designs ``(n, d)`` and the workload's features -> logits of all values, and the expected quantile.

    Tokens of parameter j are its values and one more, the mask. Everything is one table of embeddings, summed.
    """

    def __init__(self, space: DesignSpace, features: int, width: int) -> None:
        super().__init__()
        self.nvec = torch.from_numpy(space.nvec)
        tokens = space.nvec + 1
        self.offset = torch.from_numpy(np.concatenate(([0], np.cumsum(tokens)[:-1])))
        self.embedding = torch.nn.EmbeddingBag(int(tokens.sum()), width, mode="sum")
        self.conditions = torch.nn.Linear(features, width, bias=False) if features else None
        layers: list[torch.nn.Module] = []
        for _ in range(3):
            layers += [torch.nn.Linear(width, width), torch.nn.SiLU()]
        self.body = torch.nn.Sequential(*layers)
        self.values = torch.nn.Linear(width, int(space.nvec.sum()))
        self.quantile = torch.nn.Linear(width, 1)
        # An untrained network proposes uniformly.
        for head in (self.values, self.quantile):
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)

    def forward(self, tokens: torch.Tensor, conditions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``tokens``: int64 ``(n, d)``, value indices, ``nvec[j]`` for a mask; ``conditions``: ``(n, features)``."""
        hidden = self.embedding(tokens + self.offset)
        if self.conditions is not None:
            hidden = hidden + self.conditions(conditions)
        hidden = self.body(torch.nn.functional.silu(hidden))
        return self.values(hidden), self.quantile(hidden)[:, 0]


class Diffusion(GenerationalAgent[DiffusionHyperparameters]):
    """Where every design is valid there is nothing to learn of designs but which are good: the denoiser learns from the
    trials so far, weighted by their quantile, and a second output, the expected quantile of a partly masked design, steers
    what it fills in. Three times as many designs are generated as asked for; unknown, feasible ones with the best predictions
    are taken."""

    name = "diffusion"
    exact = False

    hyperparameters = DiffusionHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._designs: Designs = np.empty((0, self.space.dimension), dtype=np.int64)
        self._rewards: Rewards = np.empty(0)
        self._known: set[bytes] = set()
        self._learnt_from = 0
        self._mutate = Mover(self.space, reach=0.2)
        own = self.problem.workload.features()
        self._condition = np.array([own[name] for name in sorted(own)], dtype=np.float32)
        # Trials of other runs: designs, quantiles within their workload, the workload's features.
        self._logged: tuple[Designs, Array, NDArray[np.float32]] | None = None
        if self.p.data:
            self._logged = self._read(Path(self.p.data), sorted(own))
        self._ends = np.cumsum(self.space.nvec)
        with own_randomness():
            torch.manual_seed(int(self.rng.integers(2**63)))
            self._network = Denoiser(self.space, len(self._condition), self.p.width)
            self._optimiser = torch.optim.Adam(self._network.parameters(), lr=2e-3)

    def propose(self) -> Designs:
        if not len(self._designs) and self._logged is None:
            return self.space.sample(self.p.initial, self.rng)
        with own_randomness():
            self._train()
            candidates = self._unknown(self.generate(3 * self.p.batch))
            if len(candidates) >= self.p.batch:
                candidates = candidates[np.argsort(-self.predict(candidates), kind="stable")[: self.p.batch]]
        if len(candidates) < max(self.p.batch // 8, 1) and len(self._designs):
            best = self._designs[np.argsort(-self._rewards, kind="stable")[:20]]
            around = self._mutate(best[self.rng.integers(0, len(best), self.p.batch)], 1, self.rng)
            candidates = np.concatenate([candidates, self._unknown(around)])
        return candidates if len(candidates) else self.space.sample(self.p.batch, self.rng)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        canonical = self.space.canonical(designs)
        new = [i for i, row in enumerate(canonical) if row.tobytes() not in self._known]
        self._known.update(row.tobytes() for row in canonical)
        self._designs = np.concatenate([self._designs, canonical[new]])
        self._rewards = np.concatenate([self._rewards, rewards[new]])

    def _unknown(self, designs: Designs) -> Designs:
        """Of the designs those that were not evaluated, are feasible (after repair, where there is one) and differ."""
        if self.space.has_repair:
            designs = self.space.repair(designs)
        designs = np.unique(self.space.canonical(designs), axis=0)
        good = self.space.violations(designs) == ""
        return designs[[ok and row.tobytes() not in self._known for ok, row in zip(good, designs, strict=True)]]

    # --- training --------------------------------------------------------------------------------------------------

    def _read(self, path: Path, names: Sequence[str]) -> tuple[Designs, Array, NDArray[np.float32]]:
        designs: list[Designs] = []
        shares: list[Array] = []
        conditions: list[NDArray[np.float32]] = []
        for other, rows, evaluation in logged_trials(path, self.problem):
            features = other.workload.features()
            row = np.array([features.get(name, 0.0) for name in names], dtype=np.float32)
            designs.append(self.space.canonical(rows))
            shares.append(quantiles(self.problem.objective(evaluation)))
            conditions.append(np.repeat(row[None], len(rows), axis=0))
        return np.concatenate(designs), np.concatenate(shares), np.concatenate(conditions)

    def _data(self) -> tuple[Designs, Array, NDArray[np.float32]]:
        own = self._designs, quantiles(self._rewards), np.repeat(self._condition[None], len(self._designs), axis=0)
        if self._logged is None:
            return own
        if self.p.offline or not len(self._designs):
            return self._logged
        logged, designs = self._logged, np.concatenate([self._logged[0], own[0]])
        return designs, np.concatenate([logged[1], own[1]]), np.concatenate([logged[2], own[2]])

    def _train(self) -> None:
        if self.p.offline and self._optimiser.state:
            return
        designs, share, conditions = self._data()
        # As many steps as there is news: a generation that is mostly known teaches little.
        news = len(designs) - self._learnt_from
        steps = min(max(round(self.p.steps * news / self.p.batch), 1), 5 * self.p.steps)
        self._learnt_from = len(designs)
        rows = torch.from_numpy(designs)
        told, given = torch.from_numpy(share.astype(np.float32)), torch.from_numpy(conditions)
        weights = torch.exp(self.p.sharpness * (told - 1.0))
        weights = weights / weights.mean()
        size = min(len(rows), BATCH)
        losses = []
        for _ in range(steps):
            pick = torch.from_numpy(self.rng.integers(0, len(rows), size))
            loss = self._loss(rows[pick], told[pick], given[pick], weights[pick])
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            losses.append(float(loss.detach()))
        self.measured({"diffusion/loss": float(np.mean(losses))})

    def _loss(self, rows: torch.Tensor, told: torch.Tensor, given: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """w (1/t) sum over the noised parameters of -log p(x_j | x_t), and three times the square error of the quantile."""
        t = torch.from_numpy(self.rng.random((len(rows), 1)).astype(np.float32)).clamp(min=0.02)
        noised = torch.from_numpy(self.rng.random(rows.shape).astype(np.float32)) < t
        other = self._network.nvec.expand_as(rows)
        if self.p.kind == "uniform":
            other = torch.from_numpy(self.rng.integers(0, self.space.nvec, rows.shape))
        logits, quantile = self._network(torch.where(noised, other, rows), given)
        likelihood = torch.zeros(len(rows))
        for j, (end, count) in enumerate(zip(self._ends.tolist(), self.space.nvec.tolist(), strict=True)):
            log = torch.log_softmax(logits[:, end - count : end], dim=1)
            likelihood = likelihood + noised[:, j] * log.gather(1, rows[:, j : j + 1])[:, 0]
        return -(weights * likelihood / t[:, 0]).mean() + 3.0 * ((quantile - told) ** 2).mean()

    # --- generation ------------------------------------------------------------------------------------------------

    def generate(self, n: int) -> Designs:
        """``(n, d)`` designs filled in from nothing; each in a random order of its parameters, at one of three temperatures."""
        d = self.space.dimension
        order = np.argsort(self.rng.random((n, d)), axis=1)
        temperature = np.array(TEMPERATURES)[np.arange(n) % len(TEMPERATURES)]
        blank = self.space.nvec if self.p.kind == "mask" else None
        tokens = np.repeat(blank[None], n, axis=0) if blank is not None else self.space.sample(n, self.rng)
        for step in range(d):
            tokens = self._fill(tokens, order[:, step], temperature)
        return tokens

    def _fill(self, tokens: Designs, columns: NDArray[np.int64], temperature: Array) -> Designs:
        """Partly masked designs ``(n, d)`` with one more parameter filled in, that of ``columns (n,)`` in each."""
        rows, counts = np.arange(len(tokens)), self.space.nvec[columns]
        values = np.arange(counts.max())
        there = values < counts[:, None]
        of_row, of_value = np.nonzero(there)
        score = np.full(there.shape, -np.inf)
        with torch.no_grad():
            logits = self._network(torch.from_numpy(tokens), self._conditions(len(tokens)))[0].double().numpy()
            score[there] = logits[of_row, (self._ends[columns] - counts)[of_row] + of_value]
            if self.p.guidance:
                # All values are tried at once, so that the guidance of a step is exact.
                filled = tokens[of_row]
                filled[np.arange(len(filled)), columns[of_row]] = of_value
                score[there] += self.p.guidance * self.predict(filled)
        # The largest of score / temperature + Gumbel noise is a draw from its softmax.
        filled = tokens.copy()
        filled[rows, columns] = np.argmax(score / temperature[:, None] + self.rng.gumbel(size=score.shape), axis=1)
        return filled

    def predict(self, designs: Designs) -> Array:
        """Expected quantiles of complete designs ``(n, d)``."""
        with torch.no_grad():
            expected = self._network(torch.from_numpy(designs), self._conditions(len(designs)))[1]
        return np.asarray(expected.double().numpy())

    def _conditions(self, n: int) -> torch.Tensor:
        return torch.from_numpy(self._condition).expand(n, -1)
