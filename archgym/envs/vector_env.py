"""Many environments at the price of one simulator batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from archgym.envs.core import Episodes, SeveralEpisodes
from archgym.envs.render import render_ansi
from archgym.errors import ArchGymError, UnknownNameError, check_seed, quote
from archgym.problem import Problem
from archgym.space import Designs


class DesignVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """``num_envs`` copies of :class:`~archgym.envs.design_env.DesignEnv`, evaluated together.

    Sub-environment i with ``reset(seed=s)`` goes the same way, bit by bit, as a DesignEnv with ``reset(seed=s + i)``.
    ``infos`` holds the same keys as DesignEnv's ``info``, with one row a sub-environment; ``full``, where asked for, is an
    object array of dictionaries.

    Args: those of DesignEnv, and
        workload: also a list of names: sub-environment i is of workload i modulo their number, and ``infos`` holds its
            position in the list as ``workload``. They must share a design space.
        num_envs: sub-environments.
        autoreset_mode: when a finished episode starts again: ``"NextStep"`` (Gymnasium's default, and the one here: the
            step after an end ignores the action there and resets), ``"SameStep"`` (in the same step; ``final_obs`` and
            ``final_info`` hold what was before) or ``"Disabled"`` (by ``reset(options={"reset_mask": ...})``, a bool a
            sub-environment).

    Attributes:
        autoreset_mode: may be set before a reset.
    """

    def __init__(
        self,
        kind: str = "",
        workload: str | Sequence[str] | None = None,
        *,
        num_envs: int = 1,
        action_mode: str = "design",
        episode_length: int | None = None,
        reward_mode: str = "absolute",
        workload_features: bool = False,
        log: Path | str | None = None,
        render_mode: str | None = None,
        problem: Problem | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        info: str = "arrays",
        **options: Any,
    ) -> None:
        several = workload is not None and not isinstance(workload, str)
        if several and problem is not None:
            raise ArchGymError("a problem has its workload; leave workload out")
        make: Any = SeveralEpisodes if several else Episodes
        self.episodes: Episodes = make(
            kind, num_envs, workload, action_mode, episode_length, reward_mode, workload_features, log, problem, options,
            info,
        )  # fmt: skip
        self.metadata = {"render_modes": ["ansi"]}
        self.autoreset_mode = autoreset_mode
        self.render_mode = render_mode
        self.num_envs = num_envs = self.episodes.count
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

    @property
    def autoreset_mode(self) -> AutoresetMode:
        return self._mode

    @autoreset_mode.setter
    def autoreset_mode(self, mode: AutoresetMode | str) -> None:
        known = {m.value: m for m in AutoresetMode}
        name = mode.value if isinstance(mode, AutoresetMode) else mode
        if name not in known:
            raise UnknownNameError("autoreset mode", name, known)
        self._mode = known[name]
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        options = options or {}
        for key in options:
            if key not in ("workload", "design", "reset_mask"):
                raise UnknownNameError("reset option", key, ("workload", "design", "reset_mask"))
        rows = self._rows
        if options.get("reset_mask") is not None:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
                raise ArchGymError(
                    f"reset_mask is {quote(mask.tolist())}; expected a bool a sub-environment, one of them true"
                )
            if "workload" in options:
                raise ArchGymError("a workload changes in all sub-environments; leave reset_mask out")
            rows = np.flatnonzero(mask)
        if "workload" in options:
            self.episodes.switch(options["workload"])
        self._seed(seed, rows)
        initial = None
        if options.get("design") is not None:
            design, space = options["design"], self.problem.space
            chosen = space.encode(design) if isinstance(design, dict) else space.check(design)
            initial = np.broadcast_to(chosen, (self.num_envs, space.dimension))[rows]
        self._begin(rows, initial)
        self._done = self._done.copy()
        self._done[rows] = False
        return self.episodes.observe(), self._infos()

    def _seed(self, seed: int | list[int | None] | None, rows: NDArray[np.int64]) -> None:
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        elif seed is None:
            if self._generators:
                return
            seeds = [None] * self.num_envs
        else:
            seeds = [None if s is None else check_seed(s) for s in (seed if isinstance(seed, Iterable) else [seed])]
            if len(seeds) != self.num_envs:
                raise ArchGymError(f"{len(seeds)} seeds for {self.num_envs} environments; give one each")
        # The same generators as gymnasium.utils.seeding.np_random(seed) makes for a single environment.
        made = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(s))) for s in seeds]
        known = self._generators or made
        self._generators = [made[i] if i in set(rows.tolist()) else known[i] for i in range(self.num_envs)]

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        if not self._generators:
            raise ArchGymError("step() before reset(); call reset() first")
        actions = self.episodes.indices_of(actions)
        if self._mode == AutoresetMode.NEXT_STEP and self._done.any():
            # Where an episode ended with the last step, this one ignores the action and resets.
            ended, live = self._done, np.flatnonzero(~self._done)
            rewards, terminated, truncated = np.zeros(self.num_envs), np.zeros_like(ended), np.zeros_like(ended)
            if len(live):
                rewards, terminated, truncated = self.episodes.advance(actions, live)
            self._restart(np.flatnonzero(ended))
        else:
            rewards, terminated, truncated = self.episodes.advance(actions)
        self._done = terminated | truncated
        if self._mode == AutoresetMode.SAME_STEP and self._done.any():
            done, self._done = self._done, np.zeros_like(self._done)
            final_obs, final_info = self.episodes.observe(), self._infos()
            self._restart(np.flatnonzero(done))
            infos = self._infos()
            infos["final_obs"], infos["_final_obs"] = _objects(final_obs, done), done
            infos["final_info"], infos["_final_info"] = final_info, done
            return self.episodes.observe(), rewards, terminated, truncated, infos
        return self.episodes.observe(), rewards, terminated, truncated, self._infos()

    def _restart(self, rows: NDArray[np.int64]) -> None:
        """Go on in the given rows, whose episodes ended."""
        self._begin(rows, None)

    def _begin(self, rows: NDArray[np.int64], initial: Designs | None) -> None:
        """Start new episodes in the given rows; what was observed before stays as it was."""
        state = self.episodes
        state.steps, state.best, state.design = state.steps.copy(), state.best.copy(), state.design.copy()
        state.begin(rows, [self._generators[row] for row in rows], initial)

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions ``(n, actions)``."""
        return self.episodes.masks()

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = self.episodes.infos()
        if self.episodes.full:
            infos["full"] = np.array([self.episodes.described(i) for i in range(self.num_envs)], dtype=object)
        infos |= {f"_{key}": self._all for key in list(infos)}
        return infos

    def render(self) -> tuple[str, ...] | None:
        if self.render_mode != "ansi":
            return None
        return tuple(render_ansi(self.problem, self.episodes.described(i)) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        self.episodes.close()


def _objects(observations: NDArray[np.float32], done: NDArray[np.bool_]) -> NDArray[np.object_]:
    result = np.full(len(done), None, dtype=object)
    for row in np.flatnonzero(done):
        result[row] = observations[row]
    return result
