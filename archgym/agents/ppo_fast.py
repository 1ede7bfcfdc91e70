"""Proximal policy optimisation on the compiled network of :mod:`archgym.agents.autoregressive`: some microseconds an evaluation.

The algorithm is that of Schulman et al. (2017): several passes over each batch of designs, a clipped ratio of
probabilities, a learned baseline, an entropy bonus, Adam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.autoregressive import Floats, advantages_of, drawn, improve, uniform
from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Stagnation
from archgym.agents.rewards import INFEASIBLE, RewardScale
from archgym.agents.starting import TRIES, allowed
from archgym.errors import ArchGymError
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


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
    policy: str = hyper(
        "", doc="file of 'archgym policy train' to start from: the design that it chooses comes first; fixes the width"
    )


class FastPPO(GenerationalAgent[FastPPOHyperparameters]):
    """PPO whose episodes are designs: a step chooses a parameter's value, the last one earns the reward. Draws that break a
    declared constraint are not proposed, but learnt from with the worst reward: as many as there are proposals. A policy that
    has collapsed (nearly all its designs met before) makes room for a new one. With ``policy`` it starts from one that was
    trained on other workloads of the simulator."""

    name = "ppo-fast"
    exact = False

    hyperparameters = FastPPOHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offsets = np.concatenate(([0], np.cumsum(self.space.nvec)))
        self._scale, self._stagnates = RewardScale(), Stagnation(self.p.patience)
        self._first: Designs | None = None
        if self.p.policy:
            self._load()
        else:
            self.forget()

    def _load(self) -> None:
        from archgym.agents.policy import Policy

        if self.p.action_mode != "construct":
            raise ArchGymError("a trained policy builds designs parameter by parameter; leave action_mode=construct")
        trained = Policy.load(self.p.policy)
        self._first = trained.design(self.problem)
        self._become(trained.net_for(self.problem))

    def forget(self) -> bool:
        """Another policy, at first uniform."""
        self._become(uniform(self.space.nvec, self.p.width, self.rng))
        if self.p.action_mode == "design":
            self._net[1 : 1 + self._offsets[-1]] = 0.0
        return True

    def _become(self, net: Floats) -> None:
        self._net = net
        self._moments, self._epochs = np.zeros((2, *net.shape), dtype=np.float32), 0

    def propose(self) -> Designs:
        if self._first is not None:
            return self._first
        size = self.p.designs
        tries = [self._draw(size)]
        good = [allowed(self.space, tries[0][0])]
        while np.count_nonzero(good) < size and len(tries) < TRIES:
            tries.append(self._draw(size))
            good.append(allowed(self.space, tries[-1][0]))
        keeps = np.concatenate(good)
        if not keeps.any():  # then what breaks a constraint is proposed as it is
            keeps[:] = True
        kept, broken = np.flatnonzero(keeps)[:size], np.flatnonzero(~keeps)[:size]
        rows = np.append(kept, broken)
        designs, log_p, baseline = zip(*tries, strict=True)
        self._drawn = np.concatenate(designs)[rows], np.concatenate(log_p)[rows], np.concatenate(baseline)[rows]
        return self._drawn[0][: len(kept)]

    def _draw(self, count: int) -> tuple[Designs, Floats, Floats]:
        """See :func:`archgym.agents.autoregressive.drawn`; there is no context."""
        return drawn(self._net, self._offsets, np.zeros((count, self._net.shape[1]), dtype=np.float32), self.rng)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._first is not None:
            self._first = None
            self._scale(rewards, evaluation.feasible)
            return
        if self._stagnates(designs):
            self.forget()
            return
        designs, log_p, baseline = self._drawn
        returns = np.full(len(designs), INFEASIBLE, dtype=np.float32)
        returns[: len(rewards)] = self._scale(rewards, evaluation.feasible)
        entropy = improve(
            self._net, self._moments, self._offsets, designs, log_p, returns, advantages_of(returns, baseline),
            self.p.epochs, self._epochs, self.p.learning_rate, self.p.clip, self.p.entropy,
            self.p.action_mode == "construct",
        )  # fmt: skip
        self._epochs += self.p.epochs
        self.measured({"rollout/reward_mean": float(returns.mean()), "train/entropy": entropy})
