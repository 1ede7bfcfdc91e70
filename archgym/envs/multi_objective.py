"""MO-Gymnasium's convention: a vector of rewards, one an objective, for multi-objective reinforcement learning."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from archgym.envs.design_env import DesignEnv
from archgym.errors import ArchGymError
from archgym.objective import LIMIT, PENALTY


class VectorReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Replaces the scalar reward by one a Pareto metric: -ln(metric / reference) (the sign turned where higher is
    better), clipped to [-19, 19]; -20 each where the design is infeasible; 0 where no design was evaluated.

    Attributes:
        reward_space: Box ``(m,)``, as MO-Gymnasium's wrappers and learners ask for it.
        reward_names: the metrics, in order.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, DesignEnv):
            raise ArchGymError(f"expected an archgym environment, not {type(base).__name__}; use gymnasium.make")
        self._metrics = base.problem.pareto_metrics
        self.reward_names = tuple(metric.name for metric in self._metrics)
        m = len(self._metrics)
        if m < 2:
            raise ArchGymError(f"{base.problem.name} has {m} Pareto metric; choose an objective of two or more metrics")
        self.reward_space = gymnasium.spaces.Box(PENALTY, LIMIT, (m,), dtype=np.float32)
        base.reward_space = self.reward_space
        self._base = base

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, self._vector(info), terminated, truncated, info

    def _vector(self, info: dict[str, Any]) -> NDArray[np.float32]:
        if not info["feasible"]:
            worst = PENALTY if info["evaluated"] else 0.0
            return np.full(len(self._metrics), worst, dtype=np.float32)
        problem = self._base.problem
        references, position = problem.references, {metric.name: i for i, metric in enumerate(problem.metrics)}
        rewards = []
        for metric in self._metrics:
            value = float(info["metrics"][position[metric.name]])
            if not info["defined"][position[metric.name]]:
                rewards.append(PENALTY)
                continue
            ratio = np.log(max(value, 1e-300) / references.get(metric.name, 1.0))
            rewards.append(float(np.clip(-ratio if metric.direction == "min" else ratio, -LIMIT, LIMIT)))
        return np.array(rewards, dtype=np.float32)
