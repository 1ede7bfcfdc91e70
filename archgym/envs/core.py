"""What the single and the vector environment share: action modes, observations and the state of n episodes.

Everything is vectorised over n sub-environments; :class:`~archgym.envs.design_env.DesignEnv` is the case n = 1.
"""

from __future__ import annotations

__all__ = ()

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from archgym.datasets.shards import numbered_shard
from archgym.errors import ArchGymError, UnexpectedArgumentError, UnknownNameError, quote, whole_number
from archgym.evaluator import Evaluator
from archgym.objective import Rewards
from archgym.problem import Problem, make_problem
from archgym.simulator import Evaluation
from archgym.space import Designs

ACTION_MODES = ("design", "construct", "edit")
INFOS = ("arrays", "full")
_ALL = slice(None)


class Episodes:
    """The state of n episodes of one problem and what happens to it.

    Action modes:
        ``design``: an action is a whole design (``MultiDiscrete``); the episode is truncated after
            ``episode_length`` designs.
        ``construct``: an action chooses the value of one parameter after the other (``Discrete(max levels)``, an
            index beyond a parameter's list counts from its start again); the reward comes with the last one, which
            ends the episode.
        ``edit``: an action is one (parameter, value) pair (``Discrete(sum of levels)``) and changes that parameter
            of the current design; truncated after ``episode_length`` changes.
    """

    def __init__(
        self,
        kind: str,
        count: int,
        workload: str | None,
        action_mode: str,
        episode_length: int | None,
        reward_mode: str,
        workload_features: bool,
        log: Path | str | None,
        problem: Problem | None,
        options: Mapping[str, Any],
        info: str = "arrays",
    ) -> None:
        if info not in INFOS:
            raise UnknownNameError("kind of info", info, INFOS)
        if problem is not None and not isinstance(problem, Problem):
            raise ArchGymError(
                f"problem is {quote(problem)}; expected a Problem of make_problem(), or leave it out and name a workload"
            )
        if action_mode not in ACTION_MODES:
            raise UnknownNameError("action mode", action_mode, ACTION_MODES)
        if reward_mode not in ("absolute", "improvement"):
            raise UnknownNameError("reward mode", reward_mode, ("absolute", "improvement"))
        if reward_mode == "improvement" and action_mode == "construct":
            raise ArchGymError(
                "reward_mode 'improvement' compares the designs of an episode, and an episode of 'construct' makes one; leave "
                "it out or choose the action mode 'edit' or 'design'"
            )
        if episode_length is not None:
            episode_length = whole_number("episode_length", episode_length, "steps")
        count = whole_number("num_envs", count, "environments")
        self.kind, self.count, self.action_mode, self.reward_mode = kind, count, action_mode, reward_mode
        self.full = info == "full"
        self._options = dict(options)
        self._log = log
        self._with_features = workload_features
        self.problem = problem if problem is not None else self._make(workload)
        space = self.problem.space
        self.nvec = space.nvec
        self.dimension = space.dimension
        self._unit_step = 1.0 / np.maximum(self.nvec - 1, 1)
        self.length = space.dimension if action_mode == "construct" else (episode_length or 16)
        self._use(self.problem)
        self.action_space = self._action_space()
        self._offsets = np.concatenate([[0], np.cumsum(self.nvec)])
        self._edit_parameter = np.repeat(np.arange(self.dimension), self.nvec)
        self._edit_value = np.concatenate([np.arange(k) for k in self.nvec])
        low, high = self._bounds()
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._width = len(low)
        if action_mode != "construct":
            from archgym.envs.observation import observe

            self._observe = observe
        # State: the current design, step counts, best rewards and the last evaluation of each episode.
        self.design = np.zeros((count, self.dimension), dtype=np.int64)
        self.steps = np.zeros(count, dtype=np.int64)
        self.best = np.full(count, -np.inf)
        # Metrics as rows (m, n), in the order of the problem's metrics.
        self.columns = np.full((len(self.metric_names), count), np.nan)
        self.feasible = np.zeros(count, dtype=bool)
        self.violation = np.full(count, "", dtype=object)
        self.rewards = np.full(count, np.nan)

    # --- set-up ------------------------------------------------------------------------------------------------

    def _make(self, workload: str | None) -> Problem:
        name = self.kind if workload is None else f"{self.kind}/{workload}"
        try:
            return make_problem(name, **self._options)
        except UnknownNameError as error:
            if error.given not in self._options:
                raise
            raise UnexpectedArgumentError(f"{error} (an unexpected keyword argument {str(error.given)!r})") from None

    def _use(self, problem: Problem) -> None:
        """Make ``problem`` the one that is evaluated."""
        if not np.array_equal(problem.space.nvec, self.nvec):
            raise ArchGymError(
                f"workload {problem.workload.name!r} has another design space than {self.problem.workload.name!r}; "
                "make an environment of its own for it"
            )
        self.problem = problem
        log = None if self._log is None else partial(numbered_shard, Path(self._log), "env")
        self.evaluator = Evaluator(problem, cache=False, log=log, run={"agent": f"env-{self.action_mode}"})
        features = problem.workload.features() if self._with_features else {}
        self._features = np.clip(np.array(list(features.values()), dtype=np.float64), -10.0, 10.0)
        self.metric_names = [metric.name for metric in problem.metrics]
        self._references: NDArray[np.float64] | None = None

    def switch(self, workload: str) -> None:
        """Go on with another workload of the same simulator and space."""
        self.close()
        self._use(self._make(workload))

    def close(self) -> None:
        """Close the logs."""
        self.evaluator.close()

    def _action_space(self) -> gymnasium.spaces.Space[Any]:
        if self.action_mode == "design":
            return gymnasium.spaces.MultiDiscrete(self.nvec)
        if self.action_mode == "construct":
            return gymnasium.spaces.Discrete(int(self.nvec.max()))
        return gymnasium.spaces.Discrete(int(self.nvec.sum()))

    def _bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        d, m, f = self.dimension, len(self.problem.metrics), len(self._features)
        if self.action_mode == "construct":
            low = np.concatenate([np.full(d, -1.0), np.zeros(d), np.full(f, -10.0)])
            high = np.concatenate([np.ones(2 * d), np.full(f, 10.0)])
        else:
            low = np.concatenate([np.zeros(d), np.full(m, -1.0), [0.0, -1.0, 0.0], np.full(f, -10.0)])
            high = np.concatenate([np.ones(d + m + 3), np.full(f, 10.0)])
        return low.astype(np.float32), high.astype(np.float32)

    @property
    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Name -> float64 ``(n,)`` of the last evaluation, NaN where there was none."""
        return dict(zip(self.metric_names, self.columns, strict=True))

    # --- observing ---------------------------------------------------------------------------------------------

    def observe(self) -> NDArray[np.float32]:
        """Observations ``(n, width)``, float32; see :class:`DesignEnv` for the table."""
        d, n = self.dimension, self.count
        out = np.empty((n, self._width), dtype=np.float32)
        if self.action_mode == "construct":
            chosen = np.arange(d) < self.steps[:, None]
            out[:, :d] = np.where(chosen, self.design * self._unit_step, -1.0)
            out[:, d : 2 * d] = np.arange(d) == self.steps[:, None]
            out[:, 2 * d :] = self._features
            return out
        if self._references is None:
            known = self.problem.references
            self._references = np.array([known.get(name, 1.0) for name in self.metric_names])
        self._observe(
            self.design, self._unit_step, self.columns, self._references, self.feasible, self.best, self.steps,
            self.length, self._features, out,
        )  # fmt: skip
        return out

    def masks(self) -> NDArray[np.bool_]:
        """Valid actions: ``(n, actions)`` in ``construct`` and ``edit``, ``(n, sum of levels)``, all True, in
        ``design`` (the form MaskablePPO wants for MultiDiscrete)."""
        if self.action_mode == "construct":
            position = np.minimum(self.steps, self.dimension - 1)
            mask: NDArray[np.bool_] = np.arange(self.nvec.max()) < self.nvec[position][:, None]
            return mask
        mask = np.ones((self.count, int(self.nvec.sum())), dtype=bool)
        if self.action_mode == "edit" and (self.nvec > 1).any():
            # Choosing the value that a parameter has is no edit.
            mask[np.arange(self.count)[:, None], self._offsets[:-1] + self.design] = False
        return mask

    # --- telling -----------------------------------------------------------------------------------------------

    def infos(self) -> dict[str, NDArray[Any]]:
        """What ``info`` holds, a row an episode: finite arrays of one type each; see :class:`DesignEnv`."""
        defined = ~np.isnan(self.columns.T)
        evaluated = ~np.isnan(self.rewards)
        found: dict[str, NDArray[Any]] = {
            "indices": self.design,
            "metrics": np.where(defined, self.columns.T, 0.0),
            "defined": defined,
            "evaluated": evaluated,
            "feasible": self.feasible,
            "design_reward": np.where(evaluated, self.rewards, 0.0),
        }
        if self.action_mode != "design":
            found["action_mask"] = self.masks()
        return found

    def described(self, row: int) -> dict[str, Any]:
        """An episode in words: ``design`` (values by name; None = not chosen yet), ``metrics`` by name (None = not
        defined), ``violation`` (the broken constraint, empty where feasible), ``reward`` (None = not evaluated)."""
        parameters = self.problem.space.parameters
        chosen = int(self.steps[row]) if self.action_mode == "construct" else self.dimension
        indices = self.design[row].tolist()
        pairs = zip(self.metric_names, self.columns[:, row].tolist(), strict=True)
        reward = float(self.rewards[row])
        return {
            "design": {p.name: p.values[indices[j]] if j < chosen else None for j, p in enumerate(parameters)},
            "metrics": {name: value if value == value else None for name, value in pairs},
            "feasible": bool(self.feasible[row]),
            "violation": str(self.violation[row]),
            "reward": reward if reward == reward else None,
        }

    # --- moving ------------------------------------------------------------------------------------------------

    def begin(
        self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], initial: Designs | None
    ) -> None:
        """Start new episodes in the given rows, from ``initial`` designs or uniform ones."""
        if self.action_mode == "construct":
            self.steps[rows] = 0
            self.design[rows] = 0
            self._forget(rows)
            return
        if initial is None:
            # One draw of floats a generator: bounded integers with array bounds cost ten times as much.
            draws = np.empty((len(generators), self.dimension))
            for generator, draw in zip(generators, draws, strict=True):
                generator.random(out=draw)
            initial = (draws * self.nvec).astype(np.int64)
        if len(rows) == self.count:  # all, in order
            self.steps, self.best = np.zeros(self.count, dtype=np.int64), np.full(self.count, -np.inf)
            self.design = np.empty_like(self.design)
            self.design[:] = initial
            self._evaluate(_ALL)
            return
        self.steps[rows] = 0
        self.best[rows] = -np.inf
        self.design[rows] = initial
        self._evaluate(rows)

    def _forget(self, rows: NDArray[np.int64]) -> None:
        self.feasible, self.violation = self.feasible.copy(), self.violation.copy()
        self.columns[:, rows] = np.nan
        self.feasible[rows], self.violation[rows] = False, ""
        self.best[rows] = 0.0
        self.rewards[rows] = np.nan

    def _evaluate(self, rows: NDArray[np.int64] | slice, parents: NDArray[np.int64] | None = None) -> Rewards:
        """Evaluate the designs of the given rows, or of ``_ALL``."""
        evaluation: Evaluation
        whole = rows is _ALL
        _, evaluation, rewards = self.evaluator.evaluate(self.design if whole else self.design[rows], parents)
        if whole:
            # New arrays each time: observers may keep the old ones. (Joining is twice as fast as np.array on short rows.)
            table = evaluation.table
            self.columns = (
                table
                if table is not None
                else np.concatenate(list(evaluation.metrics.values())).reshape(-1, self.count)
            )
            self.feasible, self.violation, self.rewards = evaluation.feasible, evaluation.violation, rewards
            self.best = np.maximum(self.best, rewards)
            return rewards
        self.columns = self.columns.copy()
        for row, column in zip(self.columns, evaluation.metrics.values(), strict=True):
            row[rows] = column
        self.feasible, self.violation = self.feasible.copy(), self.violation.copy()
        self.rewards = self.rewards.copy()
        self.feasible[rows], self.violation[rows] = evaluation.feasible, evaluation.violation
        self.rewards[rows] = rewards
        self.best[rows] = np.maximum(self.best[rows], rewards)
        return rewards

    def indices_of(self, actions: Any) -> NDArray[np.int64]:
        """Actions as whole numbers; what is none is refused, and not cut down to one."""
        array = np.asarray(actions)
        if array.dtype.kind in "iub":
            return array.astype(np.int64, copy=False)
        whole = array.astype(np.int64) if array.dtype.kind == "f" and (np.abs(array) < 2**62).all() else None
        if whole is None or (whole != array).any():
            raise ArchGymError(f"the action {quote(array.tolist())} is not in {self.action_space}")
        return whole

    def advance(
        self, actions: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> tuple[Rewards, NDArray[np.bool_], NDArray[np.bool_]]:
        """Apply one action an episode, in all of them or in the given rows; returns rewards, terminated and truncated,
        each ``(n,)``, 0 and False in other rows."""
        n = self.count
        if rows is None and self.action_mode == "design":  # the usual case, without what only the others need
            if actions.shape != (n, self.dimension):
                raise self._bad(actions)
            earlier = self.best
            self.design, self.steps = actions.copy(), self.steps + 1
            rewards = self._evaluate(_ALL)
            gained = rewards.copy() if self.reward_mode == "absolute" else np.maximum(rewards - earlier, 0.0)
            return gained, np.zeros(n, dtype=bool), self.steps >= self.length
        here: Any = _ALL if rows is None else rows
        taken = actions[here]
        before = self.best.copy() if self.reward_mode == "improvement" else None
        # State is copied before it changes, since an observer may keep the old one.
        rewards, terminated, truncated = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        parents = self.design[here] if self.action_mode == "edit" else None
        if self.action_mode == "design":
            if actions.shape != (n, self.dimension):
                raise self._bad(actions)
            # Checked before the state changes: the evaluator sees only these rows.
            taken = self.problem.space.check(taken)
            self.design = self.design.copy()
            self.design[here] = taken
        else:
            count = int(self.nvec.max()) if self.action_mode == "construct" else len(self._edit_value)
            if actions.shape != (n,) or (taken < 0).any() or (taken >= count).any():
                raise self._bad(actions)
            self.design = self.design.copy()
            every = np.arange(n)[here]
            if self.action_mode == "construct":
                position = np.minimum(self.steps[here], self.dimension - 1)
                self.design[every, position] = taken % self.nvec[position]
            else:
                self.design[every, self._edit_parameter[taken]] = self._edit_value[taken]
        self.steps = self.steps.copy()
        self.steps[here] += 1
        if self.action_mode == "construct":
            terminated[here] = self.steps[here] >= self.dimension
            complete = np.flatnonzero(terminated)
            if len(complete):
                rewards[complete] = self._evaluate(complete)
                self.best[complete] = rewards[complete]
            return rewards, terminated, truncated
        rewards[here] = self._evaluate(here, parents)
        if before is not None:
            rewards[here] = np.maximum(rewards[here] - before[here], 0.0)
        truncated[here] = self.steps[here] >= self.length
        return rewards, terminated, truncated

    def _bad(self, actions: NDArray[Any]) -> ArchGymError:
        return ArchGymError(f"the action {actions.tolist()} is not in {self.action_space}")


class SeveralEpisodes(Episodes):
    """Episodes of several workloads of one simulator and space: episode i is of workload i modulo their number, as long as
    it lives. Problem, metrics and spaces are those of the first one.

    Args: those of :class:`Episodes`, with ``workloads`` in the place of ``workload`` and no ``problem``.
    """

    def __init__(self, kind: str, count: int, workloads: Sequence[str], *settings: Any, **more: Any) -> None:
        names = list(workloads) if isinstance(workloads, Iterable) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise ArchGymError(f"workload is {quote(workloads)}; expected a name or a list of names")
        super().__init__(kind, count, names[0], *settings, **more)
        self._parts = [(self.problem, self.evaluator, self._features, self._known())]
        for name in names[1:]:
            first = self._features
            self._use(self._make(name))
            if len(self._features) != len(first):
                raise ArchGymError(
                    f"workload {name!r} has other features than {names[0]!r}; leave workload_features out"
                )
            self._parts.append((self.problem, self.evaluator, self._features, self._known()))
        self.problem, self.evaluator, self._features, self._references = self._parts[0]
        self.workloads = tuple(names)
        self.workload_of = np.arange(self.count) % len(names)

    def _known(self) -> NDArray[np.float64]:
        return np.array([self.problem.references.get(name, 1.0) for name in self.metric_names])

    def switch(self, workload: str) -> None:
        raise ArchGymError(f"these environments are of {', '.join(self.workloads)}; make others for {workload!r}")

    def close(self) -> None:
        for _, evaluator, _, _ in self._parts:
            evaluator.close()

    def observe(self) -> NDArray[np.float32]:
        out = np.empty((self.count, self._width), dtype=np.float32)
        for i, (_, _, features, references) in enumerate(self._parts):
            mine = self.workload_of == i
            self._features, self._references = features, references
            out[mine] = super().observe()[mine]
        _, _, self._features, self._references = self._parts[0]
        return out

    def infos(self) -> dict[str, NDArray[Any]]:
        return super().infos() | {"workload": self.workload_of}

    def described(self, row: int) -> dict[str, Any]:
        return super().described(row) | {"workload": self.workloads[self.workload_of[row]]}

    def _evaluate(self, rows: NDArray[np.int64] | slice, parents: NDArray[np.int64] | None = None) -> Rewards:
        every = np.arange(self.count)[rows]
        self.problem.space.check(self.design[every])  # before any workload is evaluated
        rewards = np.empty(len(every))
        for i, (_, evaluator, _, _) in enumerate(self._parts):
            mine = np.flatnonzero(self.workload_of[every] == i)
            if len(mine):
                self.evaluator = evaluator
                rewards[mine] = super()._evaluate(every[mine], None if parents is None else parents[mine])
        self.evaluator = self._parts[0][1]
        return rewards
