"""Proximal policy optimisation in one file and a compiled network: some microseconds an evaluation.

The algorithm is that of Schulman et al. (2017): several passes over each batch of designs, a clipped ratio of
probabilities, a learned baseline, an entropy bonus, Adam. The policy builds a design parameter by parameter in the manner of
NADE (Larochelle, Murray, AISTATS 2011): one hidden layer, to which every value that was chosen adds its row of a table, so
that a whole design costs as much as one pass through a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Stagnation
from archgym.agents.rewards import INFEASIBLE, RewardScale
from archgym.agents.starting import TRIES, allowed
from archgym.compiling import kernel
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs

Floats = NDArray[np.float32]

SUMS = {"reassoc", "contract"}
"""What the compiler may change: the order of a sum, so that it runs in vector registers."""


@dataclass(frozen=True)
class FastPPOHyperparameters(Hyperparameters):
    """Of the compiled PPO."""

    action_mode: str = hyper(
        "construct",
        choices=("construct", "design"),
        doc="each choice sees those before it, or a whole design at once: one distribution a parameter",
    )
    designs: int = hyper(32, low=2, high=1024, log=True, doc="designs an update")
    learning_rate: float = hyper(0.01, low=1e-5, high=0.5, log=True, doc="step of Adam")
    epochs: int = hyper(4, low=1, high=20, doc="passes over the designs an update, one gradient step each")
    entropy: float = hyper(0.1, low=0.0, high=1.0, doc="weight of the entropy bonus")
    clip: float = hyper(0.2, low=0.05, high=0.5, doc="range of the probability ratio")
    width: int = hyper(32, low=2, high=512, log=True, doc="units of the hidden layer, one of them constant")
    patience: int = hyper(
        20, low=1, high=1000, log=True, doc="updates without new designs after which a new policy starts"
    )


class FastPPO(GenerationalAgent[FastPPOHyperparameters]):
    """PPO whose episodes are designs: a step chooses a parameter's value, the last one earns the reward. Draws that break a
    declared constraint are not proposed, but learnt from with the worst reward: as many as there are proposals. A policy that
    has collapsed (nearly all its designs met before) makes room for a new one."""

    name = "ppo-fast"
    exact = False

    hyperparameters = FastPPOHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offsets = np.concatenate(([0], np.cumsum(self.space.nvec)))
        self._scale, self._stagnates = RewardScale(), Stagnation(self.p.patience)
        self.forget()

    def forget(self) -> bool:
        """Another policy, at first uniform."""
        d, values, width = self.space.dimension, int(self._offsets[-1]), self.p.width
        # Rows: where the hidden layer starts, its table of values, a head for each value, a head for the baseline before each
        # parameter. The last unit is always 1: its weights are the heads' biases.
        self._net = np.zeros((1 + 2 * values + d, width), dtype=np.float32)
        self._net[0, :-1] = self.rng.normal(size=width - 1)
        self._net[0, -1] = 1.0
        if self.p.action_mode == "construct":
            self._net[1 : 1 + values, :-1] = self.rng.normal(size=(values, width - 1)) / math.sqrt(d)
        self._moments, self._epochs = np.zeros((2, *self._net.shape), dtype=np.float32), 0
        return True

    def propose(self) -> Designs:
        size = self.p.designs
        drawn = [self._draw(size)]
        good = [allowed(self.space, drawn[0][0])]
        while np.count_nonzero(good) < size and len(drawn) < TRIES:
            drawn.append(self._draw(size))
            good.append(allowed(self.space, drawn[-1][0]))
        keeps = np.concatenate(good)
        if not keeps.any():  # then what breaks a constraint is proposed as it is
            keeps[:] = True
        kept, broken = np.flatnonzero(keeps)[:size], np.flatnonzero(~keeps)[:size]
        rows = np.append(kept, broken)
        designs, log_p, baseline = zip(*drawn, strict=True)
        self._drawn = np.concatenate(designs)[rows], np.concatenate(log_p)[rows], np.concatenate(baseline)[rows]
        return self._drawn[0][: len(kept)]

    def _draw(self, count: int) -> tuple[Designs, Floats, Floats]:
        """Designs, the logarithms of their choices' probabilities, and the returns expected before each choice; ``(n, d)``."""
        uniform = self.rng.random((count, self.space.dimension))
        designs = np.empty(uniform.shape, dtype=np.int64)
        log_p, baseline = np.empty((2, *uniform.shape), dtype=np.float32)
        draw(self._net, self._offsets, uniform, designs, log_p, baseline)
        return designs, log_p, baseline

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._stagnates(designs):
            self.forget()
            return
        designs, log_p, baseline = self._drawn
        returns = np.full(len(designs), INFEASIBLE, dtype=np.float32)
        returns[: len(rewards)] = self._scale(rewards, evaluation.feasible)
        advantages = returns[:, None] - baseline
        advantages -= advantages.mean()
        advantages /= advantages.std() + np.float32(1e-8)
        entropy = improve(
            self._net, self._moments, self._offsets, designs, log_p, returns, advantages, self.p.epochs, self._epochs,
            self.p.learning_rate, self.p.clip, self.p.entropy, self.p.action_mode == "construct",
        )  # fmt: skip
        self._epochs += self.p.epochs
        self.measured({"rollout/reward_mean": float(returns.mean()), "train/entropy": entropy})


@kernel(fastmath=SUMS)
def dot(a: Floats, b: Floats) -> float:
    total = np.float32(0.0)
    for m in range(len(a)):
        total += a[m] * b[m]
    return total  # type: ignore[return-value]  # a float32, which keeps the logits in one


@kernel(fastmath=SUMS)
def add(scale: float, a: Floats, to: Floats) -> None:
    factor = np.float32(scale)
    for m in range(len(a)):
        to[m] += factor * a[m]


@kernel
def softmax(heads: Floats, hidden: Floats, p: Floats, log_p: Floats) -> None:
    """Probabilities of the values whose heads ``(k, width)`` are given, and their logarithms, into ``p`` and ``log_p``."""
    most = np.float32(-np.inf)
    for k in range(len(heads)):
        log_p[k] = dot(heads[k], hidden)
        most = max(most, log_p[k])
    total = np.float32(0.0)
    for k in range(len(heads)):
        log_p[k] -= most
        p[k] = math.exp(log_p[k])
        total += p[k]
    shift = math.log(total)
    for k in range(len(heads)):
        p[k] /= total
        log_p[k] -= shift


@kernel
def draw(
    net: Floats,
    offsets: NDArray[np.int64],
    uniform: NDArray[np.float64],
    designs: Designs,
    log_p: Floats,
    baseline: Floats,
) -> None:
    """Fill ``designs`` ``(n, d)`` with draws from the policy, by uniform numbers of the same shape; ``log_p`` with the
    logarithms of their probabilities, ``baseline`` with the return expected before each choice."""
    n, d = designs.shape
    values = offsets[-1]
    p, logs = np.empty((2, np.max(np.diff(offsets))), dtype=np.float32)
    for i in range(n):
        total = net[0].copy()
        for j in range(d):
            first, count = offsets[j], offsets[j + 1] - offsets[j]
            hidden = np.maximum(total, np.float32(0.0))
            softmax(net[1 + values + first : 1 + values + first + count], hidden, p, logs)
            chosen, below = 0, p[0]
            while below <= uniform[i, j] and chosen < count - 1:
                chosen += 1
                below += p[chosen]
            designs[i, j], log_p[i, j] = chosen, logs[chosen]
            baseline[i, j] = dot(net[1 + 2 * values + j], hidden)
            add(1.0, net[1 + first + chosen], total)


@kernel
def surrogate(
    net: Floats,
    offsets: NDArray[np.int64],
    designs: Designs,
    old_log_p: Floats,
    returns: Floats,
    advantages: Floats,
    clip: float,
    entropy_weight: float,
    gradient: Floats,
) -> float:
    """Add to ``gradient`` where the policy improves: PPO's clipped objective, the entropy bonus, and minus half the squared
    error of the baseline, each a mean over choices. Designs, old log-probabilities and advantages are ``(n, d)``, returns
    ``(n,)``. Returns the mean entropy of a choice."""
    n, d = designs.shape
    values, width = offsets[-1], net.shape[1]
    hidden, back = np.empty((d, width), dtype=np.float32), np.empty((d, width), dtype=np.float32)
    p, logs = np.empty((2, np.max(np.diff(offsets))), dtype=np.float32)
    share = 1.0 / (n * d)
    mean_entropy = 0.0
    for i in range(n):
        total = net[0].copy()
        back[:] = 0.0
        for j in range(d):
            first, count, chosen = 1 + values + offsets[j], offsets[j + 1] - offsets[j], designs[i, j]
            for m in range(width):
                hidden[j, m] = max(total[m], np.float32(0.0))
            softmax(net[first : first + count], hidden[j], p, logs)
            entropy = 0.0
            for k in range(count):
                entropy -= p[k] * logs[k]
            mean_entropy += entropy * share
            ratio = math.exp(min(logs[chosen] - old_log_p[i, j], 20.0))
            advantage = advantages[i, j]
            clipped = ratio > 1.0 + clip if advantage > 0.0 else ratio < 1.0 - clip
            push = 0.0 if clipped else advantage * ratio
            for k in range(count):
                step = push * ((1.0 if k == chosen else 0.0) - p[k]) - entropy_weight * p[k] * (logs[k] + entropy)
                add(step * share, hidden[j], gradient[first + k])
                add(step * share, net[first + k], back[j])
            baseline = 1 + 2 * values + j
            error = (returns[i] - dot(net[baseline], hidden[j])) * share
            add(error, hidden[j], gradient[baseline])
            add(error, net[baseline], back[j])
            add(1.0, net[1 + offsets[j] + chosen], total)
        # What a choice adds to the hidden layer reaches all choices after it.
        for j in range(d - 1, -1, -1):
            for m in range(width):
                if hidden[j, m] <= 0.0 or m == width - 1:
                    back[j, m] = 0.0
            if j < d - 1:
                add(1.0, back[j + 1], gradient[1 + offsets[j] + designs[i, j]])
                add(1.0, back[j + 1], back[j])
        add(1.0, back[0], gradient[0])
    return mean_entropy


@kernel
def adam(net: Floats, gradient: Floats, moments: Floats, steps: int, rate: float) -> None:
    """One step of Adam (Kingma, Ba, 2015) up the gradient."""
    keep, keep_square = np.float32(0.9), np.float32(0.999)
    one, small = np.float32(1.0), np.float32(1e-8)
    scale, spread = np.float32(rate / (1.0 - 0.9**steps)), np.float32(1.0 / (1.0 - 0.999**steps))
    for r in range(net.shape[0]):
        row, change, first, second = net[r], gradient[r], moments[0, r], moments[1, r]
        for m in range(len(row)):
            first[m] = keep * first[m] + (one - keep) * change[m]
            second[m] = keep_square * second[m] + (one - keep_square) * change[m] * change[m]
            row[m] += scale * first[m] / (np.sqrt(spread * second[m]) + small)


@kernel
def improve(
    net: Floats,
    moments: Floats,
    offsets: NDArray[np.int64],
    designs: Designs,
    log_p: Floats,
    returns: Floats,
    advantages: Floats,
    epochs: int,
    epochs_before: int,
    rate: float,
    clip: float,
    entropy_weight: float,
    autoregressive: bool,
) -> float:
    """Passes over a batch of designs, a step of Adam each. Returns the mean entropy of a choice in the last one."""
    entropy = 0.0
    gradient = np.empty_like(net)
    for epoch in range(epochs):
        gradient[:] = 0.0
        entropy = surrogate(net, offsets, designs, log_p, returns, advantages, clip, entropy_weight, gradient)
        if not autoregressive:  # no choice is seen by those after it
            gradient[1 : 1 + offsets[-1]] = 0.0
        adam(net, gradient, moments, epochs_before + epoch + 1, rate)
    return entropy
