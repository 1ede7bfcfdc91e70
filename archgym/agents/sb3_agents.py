"""Reinforcement learning on Stable-Baselines3 and sb3-contrib: PPO, A2C, MaskablePPO, DQN and SAC.

All of them drive a :class:`~archgym.envs.vector_env.DesignVectorEnv`, whose designs go through the run's evaluator: the
budget is counted as for every other agent. Two ways to act:

``construct``: one parameter a step, the reward with the last one. The policy is autoregressive: each choice sees those
before it.
``design``: a whole design a step. The policy is a product distribution (given the present design, which is the best
known one at the start of an episode).

Rewards are standardised on the way to the learner (see :class:`RewardScale`), so that one setting fits objectives of
any scale and the penalty of infeasible designs does not blow up the value function.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import A2C as SB3A2C
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.logger import KVWriter, Logger

from archgym.agents.base import H, Hyperparameters, Searcher, hyper
from archgym.agents.rewards import RewardScale
from archgym.agents.torch_support import own_randomness, unchecked_distributions
from archgym.envs.sb3 import SB3VecEnv
from archgym.envs.vector_env import DesignVectorEnv
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


class Converged(Exception):
    """The policy proposes nothing new any more."""


class _Door:
    """The run's evaluator as an environment sees it: it never gives back fewer designs than it was given, and says so
    when the policy only repeats itself."""

    PATIENCE = 500

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._repeats = 0

    def evaluate(self, designs: Designs, parents: Designs | None = None) -> tuple[Designs, Evaluation, Rewards]:
        used = self.evaluator.used
        answer = self.evaluator.evaluate(designs, parents)
        if len(answer[0]) < len(designs):
            raise BudgetExhausted
        self._repeats = 0 if self.evaluator.used > used else self._repeats + len(designs)
        if self._repeats >= self.PATIENCE:
            raise Converged
        return answer

    def close(self) -> None:
        """The evaluator is the run's, not the environment's."""


class LearningEnv(DesignVectorEnv):
    """A DesignVectorEnv over the run's evaluator with standardised rewards, whose episodes start from the best design
    so far (in ``construct`` from nothing): a repeat, which costs no evaluation.

    Args:
        evaluator: the run's.
        num_envs, action_mode, episode_length: as of DesignVectorEnv.
    """

    def __init__(self, evaluator: Evaluator, num_envs: int, action_mode: str, episode_length: int | None) -> None:
        super().__init__(
            problem=evaluator.problem, num_envs=num_envs, action_mode=action_mode, episode_length=episode_length,
            autoreset_mode="SameStep",
        )  # fmt: skip
        self._run = evaluator
        self.episodes.evaluator = _Door(evaluator)  # type: ignore[assignment]
        self._scale = RewardScale()

    def step(self, actions: Any) -> Any:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        evaluated = np.ones(self.num_envs, dtype=bool)
        feasible = infos["feasible"]
        if self.episodes.action_mode == "construct":
            evaluated = terminated
            if terminated.any():
                feasible = infos["final_info"]["feasible"]
        if evaluated.any():
            rewards = rewards.copy()
            rewards[evaluated] = self._scale(rewards[evaluated], feasible[evaluated])
        return observations, rewards, terminated, truncated, infos

    def _restart(self, rows: NDArray[np.int64]) -> None:
        best = None if self.episodes.action_mode == "construct" else self._run.best
        self._begin(rows, None if best is None else np.repeat(best.design[None], len(rows), axis=0))


class _Scalars(KVWriter):
    """SB3's logger as the run's log sees it."""

    def __init__(self, agent: Searcher[Any]) -> None:
        self._agent = agent

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        numbers = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number) and "tensorboard" not in (key_excluded.get(key) or ())
        }
        self._agent.measured(numbers)

    def close(self) -> None:
        """The log is the run's."""


class SB3Agent(Searcher[H]):
    """Runs an SB3 algorithm until the budget is used up; subclasses make the environment and the model.

    A policy that has converged proposes nothing new. A new one is trained with what is left, which starts from the best
    design so far, as every episode does; without ``restart`` what is left goes to uniform designs.
    """

    exact = False
    log_interval = 1
    """Updates (on-policy) or episodes (off-policy) between two points of the learner's own scalars."""

    FEW = 20
    """New designs that a policy has to find for another one to be trained after it."""

    def env(self, evaluator: Evaluator) -> SB3VecEnv:
        """The environment of the run."""
        p: Any = self.p  # algorithms whose hyperparameters lack these make their own environment
        return SB3VecEnv(LearningEnv(evaluator, p.designs, p.action_mode, 1))

    @property
    def steps_per_design(self) -> int:
        """Environment steps that one design takes."""
        mode = getattr(self.p, "action_mode", "construct")
        return self.space.dimension if mode == "construct" else 1

    @abstractmethod
    def model(self, env: SB3VecEnv, seed: int, total_steps: int) -> Any:
        """The SB3 model."""

    def run(self, evaluator: Evaluator, batch: int = 1024) -> None:
        with own_randomness(), unchecked_distributions():
            while not evaluator.exhausted:
                used = evaluator.used
                self._learn(evaluator)
                # Repeats cost no budget: where a new policy finds next to nothing new, uniform designs are cheaper.
                if not getattr(self.p, "restart", True) or evaluator.used - used < self.FEW:
                    while not evaluator.exhausted:
                        evaluator.evaluate(self.space.sample(64, self.rng))

    def _learn(self, evaluator: Evaluator) -> None:
        """Train one policy until the budget is used up, or until it only repeats itself, or until steps too large
        have blown it up: what is left then goes to the next one."""
        seed = int(self.rng.integers(2**31))
        env = self.env(evaluator)
        env.seed(seed)
        total = int(min(evaluator.remaining, 10_000_000)) * self.steps_per_design
        model = self.model(env, seed, total)
        every = None if self.on_measured is None else self.log_interval
        # Left to itself, SB3 makes a temporary folder for each policy and never removes it.
        model.set_logger(Logger(None, [] if self.on_measured is None else [_Scalars(self)]))
        # Repeated designs cost steps but no budget, so the model may have to learn for longer than planned.
        try:
            while not evaluator.exhausted:
                model.learn(total, reset_num_timesteps=False, log_interval=every)
        except Converged:
            pass
        except RuntimeError:
            if not _diverged(model):
                raise


def _diverged(model: Any) -> bool:
    """Whether a parameter of the policy is no longer a finite number; torch then refuses to draw from it."""
    return any(not bool(parameter.isfinite().all()) for parameter in model.policy.parameters())


def _network(width: int) -> dict[str, Any]:
    return {"net_arch": [width, width]}


@dataclass(frozen=True)
class PPOHyperparameters(Hyperparameters):
    """Of PPO and MaskablePPO."""

    action_mode: str = hyper("design", choices=("design", "construct"), doc="one parameter a step, or a whole design")
    designs: int = hyper(16, low=2, high=512, log=True, doc="designs an update, one from each sub-environment")
    learning_rate: float = hyper(0.005, low=1e-5, high=0.05, log=True, doc="step of Adam")
    epochs: int = hyper(2, low=1, high=20, doc="passes over the designs an update")
    minibatches: int = hyper(1, low=1, high=16, doc="gradient steps a pass")
    entropy: float = hyper(0.1, low=0.0, high=0.2, doc="weight of the entropy bonus")
    restart: bool = hyper(True, choices=(True, False), doc="train a new policy when one has converged")
    clip: float = hyper(0.2, low=0.05, high=0.5, doc="range of the probability ratio")
    width: int = hyper(64, low=8, high=512, log=True, doc="units in each of the two hidden layers")


class PPO(SB3Agent[PPOHyperparameters]):
    """Proximal policy optimisation (Schulman et al., 2017)."""

    name = "ppo"

    hyperparameters = PPOHyperparameters

    algorithm: Any = SB3PPO

    def model(self, env: SB3VecEnv, seed: int, total_steps: int) -> Any:
        size = self.p.designs * self.steps_per_design
        return self.algorithm(
            "MlpPolicy", env, n_steps=self.steps_per_design, batch_size=max(2, size // self.p.minibatches),
            n_epochs=self.p.epochs, learning_rate=self.p.learning_rate, ent_coef=self.p.entropy, clip_range=self.p.clip,
            gamma=1.0, gae_lambda=0.98, seed=seed, device="cpu", policy_kwargs=_network(self.p.width),
        )  # fmt: skip


class MaskablePPO(PPO):
    """PPO that gives no probability to invalid actions (Huang, Ontañón, 2022; sb3-contrib): in ``construct`` to indices
    beyond a parameter's list."""

    name = "maskable-ppo"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from sb3_contrib import MaskablePPO as ContribMaskablePPO

        self.algorithm = ContribMaskablePPO


@dataclass(frozen=True)
class A2CHyperparameters(Hyperparameters):
    """Of A2C."""

    action_mode: str = hyper("design", choices=("design", "construct"), doc="one parameter a step, or a whole design")
    designs: int = hyper(8, low=2, high=512, log=True, doc="designs an update, one from each sub-environment")
    learning_rate: float = hyper(0.005, low=1e-5, high=0.05, log=True, doc="step of RMSprop")
    entropy: float = hyper(0.1, low=0.0, high=0.2, doc="weight of the entropy bonus")
    restart: bool = hyper(True, choices=(True, False), doc="train a new policy when one has converged")
    width: int = hyper(64, low=8, high=512, log=True, doc="units in each of the two hidden layers")


class A2C(SB3Agent[A2CHyperparameters]):
    """Advantage actor-critic (Mnih et al., 2016)."""

    name = "a2c"

    hyperparameters = A2CHyperparameters

    def model(self, env: SB3VecEnv, seed: int, total_steps: int) -> Any:
        return SB3A2C(
            "MlpPolicy", env, n_steps=self.steps_per_design, learning_rate=self.p.learning_rate,
            ent_coef=self.p.entropy, gamma=1.0, gae_lambda=1.0, normalize_advantage=True, seed=seed, device="cpu",
            policy_kwargs=_network(self.p.width),
        )  # fmt: skip


@dataclass(frozen=True)
class DQNHyperparameters(Hyperparameters):
    """Of DQN."""

    designs: int = hyper(8, low=1, high=256, log=True, doc="sub-environments, each building its own design")
    learning_rate: float = hyper(0.001, low=1e-5, high=0.05, log=True, doc="step of Adam")
    updates: float = hyper(0.25, low=0.01, high=4.0, log=True, doc="gradient steps an environment step")
    exploration: int = hyper(
        400, low=1, high=10000, log=True, doc="designs over which the random share of actions falls"
    )
    final_exploration: float = hyper(0.05, low=0.0, high=0.5, doc="random share of actions after that")
    target: int = hyper(250, low=1, high=10000, log=True, doc="environment steps between copies to the target network")
    width: int = hyper(64, low=8, high=512, log=True, doc="units in each of the two hidden layers")


class DQN(SB3Agent[DQNHyperparameters]):
    """Deep Q-learning over ``construct`` (Mnih et al., 2015): one discrete choice a step, the reward at the end."""

    name = "dqn"
    log_interval = 4

    hyperparameters = DQNHyperparameters

    def env(self, evaluator: Evaluator) -> SB3VecEnv:
        return SB3VecEnv(LearningEnv(evaluator, self.p.designs, "construct", None))

    def model(self, env: SB3VecEnv, seed: int, total_steps: int) -> Any:
        model = SB3DQN(
            "MlpPolicy", env, learning_rate=self.p.learning_rate, buffer_size=200_000,
            learning_starts=20 * self.steps_per_design, batch_size=64, gamma=1.0, train_freq=4,
            gradient_steps=max(1, round(4 * self.p.designs * self.p.updates)), target_update_interval=self.p.target,
            seed=seed, device="cpu", policy_kwargs=_network(self.p.width),
        )  # fmt: skip
        # SB3's own schedule falls over a share of the steps that are planned, so that a larger budget would change its start.
        final, steps = self.p.final_exploration, self.p.exploration * self.steps_per_design
        model.exploration_schedule = lambda _: max(final, 1.0 - (1.0 - final) * model.num_timesteps / steps)
        return model


class RelaxedVecEnv(SB3VecEnv):
    """Actions in [-1, 1]^d instead of indices: the cube is cut into equal cells a value."""

    def __init__(self, venv: LearningEnv) -> None:
        super().__init__(venv)
        dimension = venv.problem.space.dimension
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (dimension,), dtype=np.float32)
        self._space = venv.problem.space

    def step_async(self, actions: Any) -> None:
        super().step_async(self._space.from_unit((np.asarray(actions, dtype=np.float64) + 1.0) / 2.0))


@dataclass(frozen=True)
class SACHyperparameters(Hyperparameters):
    """Of SAC."""

    designs: int = hyper(8, low=1, high=256, log=True, doc="sub-environments, a design each a step")
    learning_rate: float = hyper(0.003, low=1e-5, high=0.05, log=True, doc="step of Adam")
    updates: float = hyper(0.25, low=0.01, high=4.0, log=True, doc="gradient steps a design")
    warmup: int = hyper(64, low=1, high=10000, log=True, doc="uniform designs before learning starts")
    width: int = hyper(64, low=8, high=512, log=True, doc="units in each of the two hidden layers")


class SAC(SB3Agent[SACHyperparameters]):
    """Soft actor-critic (Haarnoja et al., 2018) over the continuous relaxation of the space: each design is one step
    with its own reward, so the future is not discounted into it (gamma = 0)."""

    name = "sac"
    log_interval = 4

    hyperparameters = SACHyperparameters

    @property
    def steps_per_design(self) -> int:
        return 1

    def env(self, evaluator: Evaluator) -> SB3VecEnv:
        return RelaxedVecEnv(LearningEnv(evaluator, self.p.designs, "design", 1))

    def model(self, env: SB3VecEnv, seed: int, total_steps: int) -> Any:
        return SB3SAC(
            "MlpPolicy", env, learning_rate=self.p.learning_rate, buffer_size=100_000,
            learning_starts=self.p.warmup, batch_size=64, gamma=0.0, train_freq=1,
            gradient_steps=max(1, round(self.p.designs * self.p.updates)), seed=seed, device="cpu",
            policy_kwargs=_network(self.p.width),
        )  # fmt: skip
