"""Two samplers of Optuna: TPE (Bergstra et al., 2011; Watanabe, 2023) and CMA-ES (Hansen, 2016)."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from archgym.agents.base import GenerationalAgent, H, Hyperparameters, hyper
from archgym.agents.moves import Stagnation
from archgym.agents.starting import first_designs
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


class OptunaAgent(GenerationalAgent[H]):
    """Asks and tells an in-memory Optuna study; subclasses give its sampler and the distributions it sees."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._trials: list[optuna.trial.Trial] = []
        self._distributions = self.distributions()
        self._start()

    def _start(self) -> None:
        with warnings.catch_warnings():
            # Some options are marked experimental; that they are stable within a version is all we need.
            warnings.simplefilter("ignore")
            sampler = self.sampler(int(self.rng.integers(2**31)))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)

    @abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler."""

    @abstractmethod
    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Parameter name -> distribution."""

    @abstractmethod
    def design(self, parameters: dict[str, Any]) -> Designs:
        """Optuna's values as a design ``(d,)``."""

    @property
    def count(self) -> int:
        """Trials a generation."""
        return 1

    def propose(self) -> Designs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trials = [self._study.ask(self._distributions) for _ in range(self.count)]
        return np.stack([self.design(trial.params) for trial in self._trials])

    def forget(self) -> bool:
        self._start()
        return True

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        for trial, reward in zip(self._trials, rewards.tolist(), strict=True):
            self._study.tell(trial, reward)


@dataclass(frozen=True)
class TPEHyperparameters(Hyperparameters):
    """Of the tree-structured Parzen estimator."""

    initial: int = hyper(10, low=1, high=1000, log=True, doc="uniform designs before the first model")
    candidates: int = hyper(
        24, low=1, high=1000, log=True, doc="draws among which the expected improvement is maximised"
    )
    joint: bool = hyper(True, choices=(True, False), doc="model the parameters jointly, not one by one")
    grouped: bool = hyper(
        False, choices=(True, False), doc="with joint: model parameters that were suggested together as groups"
    )
    batch: int = hyper(
        4, low=1, high=256, log=True, doc="designs suggested from one state (the constant liar spreads them)"
    )


class TPE(OptunaAgent[TPEHyperparameters]):
    """Optuna's TPESampler: densities of good and of other trials, one kernel a trial. Ordered parameters are integer
    ranges, the others categorical."""

    name = "tpe"

    hyperparameters = TPEHyperparameters

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=self.p.initial,
            n_ei_candidates=self.p.candidates,
            multivariate=self.p.joint,
            group=self.p.joint and self.p.grouped,
            constant_liar=self.p.batch > 1,
            seed=seed,
        )

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {
            p.name: optuna.distributions.IntDistribution(0, len(p) - 1)
            if p.ordered
            else optuna.distributions.CategoricalDistribution(tuple(range(len(p))))
            for p in self.space.parameters
        }

    def design(self, parameters: dict[str, Any]) -> Designs:
        return np.array([parameters[name] for name in self.space.names], dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self.p.batch)


@dataclass(frozen=True)
class CMAESHyperparameters(Hyperparameters):
    """Of CMA-ES."""

    population: int = hyper(16, low=5, high=1024, log=True, doc="designs a generation")
    deviation: float = hyper(
        0.25, low=0.01, high=1.0, log=True, doc="first standard deviation, as a share of the range"
    )
    margin: bool = hyper(
        True, choices=(True, False), doc="keep a least probability of leaving a value (CMA-ES with margin)"
    )


class CMAES(OptunaAgent[CMAESHyperparameters]):
    """Optuna's CmaEsSampler over integer ranges, started anew at another design once two generations in a row hold hardly
    anything new by canonical form. It reads an order into unordered parameters; where they matter much, take another agent."""

    name = "cmaes"
    exact = False

    hyperparameters = CMAESHyperparameters

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        start = first_designs(self.space, 1, self.rng)[0].tolist()
        self._stagnates = Stagnation(2)
        free = [j for j, count in enumerate(self.space.nvec) if count > 1]
        return optuna.samplers.CmaEsSampler(
            x0={self.space.names[j]: start[j] for j in free},
            sigma0=self.p.deviation,  # the sampler scales every range to [0, 1]
            popsize=self.p.population,
            with_margin=self.p.margin,
            seed=seed,
            warn_independent_sampling=False,
        )

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {p.name: optuna.distributions.IntDistribution(0, len(p) - 1) for p in self.space.parameters}

    def design(self, parameters: dict[str, Any]) -> Designs:
        return np.array([parameters[name] for name in self.space.names], dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self.p.population)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        super().learn(designs, evaluation, rewards)
        if self._stagnates(self.space.canonical(designs)):
            self._start()
