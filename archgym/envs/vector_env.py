"""Many environments at the price of one simulator batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from archgym.envs.core import Episodes
from archgym.envs.render import render_ansi
from archgym.errors import ArchGymError, UnknownNameError
from archgym.problem import Problem


class DesignVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """``num_envs`` copies of :class:`~archgym.envs.design_env.DesignEnv`, evaluated together.

    Sub-environment i with ``reset(seed=s)`` goes the same way, bit by bit, as a DesignEnv with ``reset(seed=s + i)``.
    ``infos`` holds arrays: ``indices`` int64 ``(n, d)``, ``metrics`` (dict of float64 ``(n,)``), ``feasible``,
    ``violation``, ``reward`` and, in ``construct`` and ``edit``, ``action_mask``. Finished episodes start again in the
    same step (``final_obs`` and ``final_info`` hold what was before) or in the next one, as ``autoreset_mode`` says.

    Args: those of DesignEnv, and
        num_envs: sub-environments.
        autoreset_mode: ``"SameStep"`` (default) or ``"NextStep"``.
    """

    def __init__(
        self,
        kind: str = "",
        workload: str | None = None,
        *,
        num_envs: int = 1,
        action_mode: str = "design",
        episode_length: int | None = None,
        reward_mode: str = "absolute",
        workload_features: bool = False,
        log: Path | str | None = None,
        render_mode: str | None = None,
        problem: Problem | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **options: Any,
    ) -> None:
        self.episodes = Episodes(
            kind, num_envs, workload, action_mode, episode_length, reward_mode, workload_features, log, problem, options
        )
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else AutoresetMode(autoreset_mode)
        if mode == AutoresetMode.DISABLED:
            raise ArchGymError("autoreset_mode 'Disabled' is not offered; choose 'SameStep' or 'NextStep'")
        self.metadata = {"autoreset_mode": mode, "render_modes": ["ansi"]}
        self.render_mode = render_mode
        self._mode = mode
        self.num_envs = num_envs
        self.single_action_space = self.episodes.action_space
        self.single_observation_space = self.episodes.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._rows = np.arange(num_envs)
        self._all = np.ones(num_envs, dtype=bool)
        self._done = np.zeros(num_envs, dtype=bool)
        self._generators: list[np.random.Generator] = []

    @property
    def problem(self) -> Problem:
        """The problem behind the environments."""
        return self.episodes.problem

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        options = options or {}
        for key in options:
            if key not in ("workload", "design", "reset_mask"):
                raise UnknownNameError("reset option", key, ("workload", "design"))
        if "workload" in options:
            self.episodes.switch(options["workload"])
        self._seed(seed)
        initial = None
        if options.get("design") is not None:
            design, space = options["design"], self.problem.space
            rows = space.encode(design) if isinstance(design, dict) else space.check(design)
            initial = np.broadcast_to(rows, (self.num_envs, space.dimension))
        self.episodes.begin(self._rows, self._generators, initial)
        self._done = np.zeros(self.num_envs, dtype=bool)
        return self.episodes.observe(), self._infos()

    def _seed(self, seed: int | list[int | None] | None) -> None:
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        elif seed is None:
            if self._generators:
                return
            seeds = [None] * self.num_envs
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ArchGymError(f"{len(seeds)} seeds for {self.num_envs} environments; give one each")
        # The same generator as gymnasium.utils.seeding.np_random(seed) makes for a single environment.
        self._generators = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(s))) for s in seeds]

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        if not self._generators:
            raise ArchGymError("step() before reset(); call reset() first")
        actions = np.asarray(actions, dtype=np.int64)
        if self._mode == AutoresetMode.NEXT_STEP and self._done.any():
            return self._step_after_end(actions)
        rewards, terminated, truncated = self.episodes.advance(actions)
        done = terminated | truncated
        if self._mode == AutoresetMode.SAME_STEP and done.any():
            final_obs, final_info = self.episodes.observe(), self._infos()
            rows = np.flatnonzero(done)
            self._restart(rows)
            observations = self.episodes.observe()
            infos = self._infos()
            infos["final_obs"], infos["_final_obs"] = _objects(final_obs, done), done
            infos["final_info"], infos["_final_info"] = final_info, done
            return observations, rewards, terminated, truncated, infos
        self._done = done
        return self.episodes.observe(), rewards, terminated, truncated, self._infos()

    def _step_after_end(self, actions: NDArray[np.int64]) -> Any:
        """In NextStep mode the step after an end ignores the action there and resets instead."""
        done, live = self._done, np.flatnonzero(~self._done)
        if len(live):
            raise ArchGymError("episodes of different length need autoreset_mode='SameStep'")
        self._restart(np.flatnonzero(done))
        self._done = np.zeros(self.num_envs, dtype=bool)
        zeros = np.zeros(self.num_envs, dtype=bool)
        return self.episodes.observe(), np.zeros(self.num_envs), zeros, zeros.copy(), self._infos()

    def _restart(self, rows: NDArray[np.int64]) -> None:
        self.episodes.steps = self.episodes.steps.copy()
        self.episodes.best = self.episodes.best.copy()
        self.episodes.design = self.episodes.design.copy()
        self.episodes.begin(rows, [self._generators[row] for row in rows], None)

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions ``(n, actions)``."""
        return self.episodes.masks()

    def _infos(self) -> dict[str, Any]:
        state = self.episodes
        infos: dict[str, Any] = {
            "indices": state.design,
            "metrics": state.metrics,
            "feasible": state.feasible,
            "violation": state.violation,
            "reward": state.rewards,
        }
        if state.action_mode != "design":
            infos["action_mask"] = state.masks()
        infos |= {f"_{key}": self._all for key in list(infos)}
        return infos

    def render(self) -> tuple[str, ...] | None:
        if self.render_mode != "ansi":
            return None
        state = self.episodes
        decoded = state.problem.space.decode(state.design)
        return tuple(
            render_ansi(
                self.problem,
                {
                    "design": decoded[i],
                    "metrics": {name: column[i] for name, column in state.metrics.items()},
                    "feasible": state.feasible[i],
                    "violation": state.violation[i],
                    "reward": state.rewards[i],
                },
            )
            for i in range(self.num_envs)
        )

    def close_extras(self, **kwargs: Any) -> None:
        self.episodes.evaluator.close()


def _objects(observations: NDArray[np.float32], done: NDArray[np.bool_]) -> NDArray[np.object_]:
    result = np.full(len(done), None, dtype=object)
    for row in np.flatnonzero(done):
        result[row] = observations[row]
    return result
