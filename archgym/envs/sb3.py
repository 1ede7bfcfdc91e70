"""Stable-Baselines3's VecEnv over a DesignVectorEnv: SB3 takes no Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from archgym.envs.vector_env import DesignVectorEnv
from archgym.errors import ArchGymError


class SB3VecEnv(VecEnv):
    """Adapter: every algorithm of SB3 and sb3-contrib that takes discrete actions runs on it.

    Args:
        venv: a DesignVectorEnv, ``gymnasium.make_vec("archgym/Dram-v0", num_envs=64)`` makes one; it is put in SameStep
            mode, as SB3 expects.
        details: put each sub-environment's design and metrics in ``infos`` (slower); otherwise only what SB3 reads.
    """

    def __init__(self, venv: Any, *, details: bool = False) -> None:
        base = venv.unwrapped
        if not isinstance(base, DesignVectorEnv):
            raise ArchGymError(f"expected a DesignVectorEnv, not {type(base).__name__}; use gymnasium.make_vec")
        base.autoreset_mode = AutoresetMode.SAME_STEP
        self.venv, self._base, self._details = venv, base, details
        self._actions: Any = None
        self._returns = np.zeros(base.num_envs)
        self._lengths = np.zeros(base.num_envs, dtype=np.int64)
        super().__init__(base.num_envs, base.single_observation_space, base.single_action_space)

    def reset(self) -> Any:
        seeds = [None if seed is None else int(seed) for seed in self._seeds]
        seed = seeds if any(s is not None for s in seeds) else None
        observations, _ = self.venv.reset(seed=seed)
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0.0, 0
        return observations

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observations, rewards, terminated, truncated, infos = self.venv.step(self._actions)
        done = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        each: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if self._details:
            for i, info in enumerate(each):
                info["indices"] = infos["indices"][i]
                info["metrics"] = dict(zip(self._base.episodes.metric_names, infos["metrics"][i].tolist(), strict=True))
        for i in np.flatnonzero(done).tolist():
            each[i]["terminal_observation"] = infos["final_obs"][i]
            each[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
            each[i]["episode"] = {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0}
        self._returns[done], self._lengths[done] = 0.0, 0
        return observations, rewards.astype(np.float32), done, each

    def close(self) -> None:
        self.venv.close()

    def action_masks(self) -> Any:
        """Valid actions ``(n, actions)``."""
        return self._base.action_masks()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self._base, attr_name)] * len(self._targets(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self._base, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        rows = self._targets(indices)
        if method_name == "action_masks":
            masks = self._base.action_masks()
            return [masks[row] for row in rows]
        return [getattr(self._base, method_name)(*args, **kwargs)] * len(rows)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(self._targets(indices))

    def has_attr(self, attr_name: str) -> bool:
        return attr_name == "action_masks" or hasattr(self._base, attr_name)

    def get_images(self) -> Sequence[Any]:
        return [None] * self.num_envs

    def _targets(self, indices: Any) -> Sequence[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else list(indices) if isinstance(indices, Iterable) else [indices]
