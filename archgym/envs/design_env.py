"""The generic environment over any problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from archgym.envs.core import Episodes
from archgym.envs.render import render_ansi, render_rgb
from archgym.errors import UnknownNameError
from archgym.problem import Problem

_ZERO = np.float64(0.0)


class DesignEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """Search a design space with step and reset.

    Action (``action_mode``):

    | mode | space | meaning |
    | --- | --- | --- |
    | ``design`` | ``MultiDiscrete(nvec)`` | a whole design: one value index a parameter |
    | ``construct`` | ``Discrete(max levels)`` | the value of the next parameter, in order; masks say which exist |
    | ``edit`` | ``Discrete(sum of levels)`` | a (parameter, value) pair to change in the current design |

    Observation, float32, modes ``design`` and ``edit`` (d parameters, m metrics):

    | entries | range | meaning |
    | --- | --- | --- |
    | d | 0..1 | the last design, each index scaled |
    | m | -1..1 | its metrics: ln(metric / reference) / 5, clipped; 0 where a metric is not defined |
    | 1 | 0, 1 | whether it was feasible |
    | 1 | -1..1 | best reward b of the episode so far, as b / (1 + abs(b)) |
    | 1 | 0..1 | remaining fraction of the episode |
    | f | -10..10 | features of the workload, with ``workload_features=True`` |

    Observation in ``construct``: d chosen values (0..1, -1 = not chosen yet), one-hot of the parameter to choose next
    (d), features of the workload.

    Reward: the objective's, higher is better, finite for every design; in ``construct`` it comes with the last choice
    and is 0 before; with ``reward_mode="improvement"`` it is the gain over the best of the episode, at least 0.

    Episode end: ``design`` and ``edit`` are truncated after ``episode_length`` steps, ``construct`` terminates after
    d steps. The first state is a uniform design (or ``options={"design": {...}}``), evaluated at reset.

    ``info`` has the same keys at each reset and step, NumPy arrays and scalars of fixed shapes and types, all finite:

    | key | type | meaning |
    | --- | --- | --- |
    | ``indices`` | int64 ``(d,)`` | the design as value indices (in ``construct`` 0 where not chosen yet) |
    | ``metrics`` | float64 ``(m,)`` | its metrics, in the order of ``env.problem.metrics``; 0 where one is not defined |
    | ``defined`` | bool ``(m,)`` | which metrics are defined |
    | ``evaluated`` | bool | whether the design was evaluated (in ``construct``: at the end) |
    | ``feasible`` | bool | whether it keeps all constraints |
    | ``design_reward`` | float64 | the objective's reward of that design; 0 where not evaluated |
    | ``action_mask`` | bool ``(actions,)`` | valid actions, in ``construct`` and ``edit`` |

    With ``info="full"`` one key more, ``full``: a dictionary with ``design`` (values by name; None = not chosen yet),
    ``metrics`` by name (None = not defined), ``feasible``, ``violation`` (the constraint broken) and ``reward``.

    Version history of the ids:

    - ``-v0``: the first.

    Args:
        kind: name of the simulator; ``gymnasium.make`` fills it in from the id.
        workload: name of the workload or ``file:PATH``; the simulator's default where None.
        action_mode, episode_length, reward_mode, workload_features: as above.
        log: folder for the trials, which go to a new file there for each environment (a copy is one too); none are kept
            where None.
        render_mode: ``"ansi"`` or ``"rgb_array"``.
        info: ``"arrays"`` (default) or ``"full"``, as above.
        problem: an existing problem in place of ``kind`` and ``workload``.
        options: objective, space, fidelity, simulator, workload_options and simulator options, as
            :func:`archgym.make_problem` takes them.

    ``reset(options={"workload": name})`` goes on with another workload of the same space.
    """

    reward_space: gymnasium.Space[Any]
    """Set by :class:`~archgym.envs.multi_objective.VectorReward`, as MO-Gymnasium asks for it."""
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(
        self,
        kind: str = "",
        workload: str | None = None,
        *,
        action_mode: str = "design",
        episode_length: int | None = None,
        reward_mode: str = "absolute",
        workload_features: bool = False,
        log: Path | str | None = None,
        render_mode: str | None = None,
        problem: Problem | None = None,
        info: str = "arrays",
        **options: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UnknownNameError("render mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.episodes = Episodes(
            kind, 1, workload, action_mode, episode_length, reward_mode, workload_features, log, problem, options, info
        )
        self.action_space = self.episodes.action_space
        self.observation_space = self.episodes.observation_space
        self._row = np.zeros(1, dtype=np.int64)

    @property
    def problem(self) -> Problem:
        """The problem behind the environment."""
        return self.episodes.problem

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            if key not in ("workload", "design"):
                raise UnknownNameError("reset option", key, ("workload", "design"))
        if "workload" in options:
            self.episodes.switch(options["workload"])
        design = options.get("design")
        initial = None
        if design is not None:
            space = self.problem.space
            initial = space.encode(design) if isinstance(design, dict) else space.check(design)
        self.episodes.begin(self._row, [self.np_random], initial)
        return self.episodes.observe()[0], self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        rewards, terminated, truncated = self.episodes.advance(self.episodes.indices_of(action)[None])
        return self.episodes.observe()[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """Valid actions, as sb3-contrib's MaskablePPO asks for them."""
        return self.episodes.masks()[0]

    def _info(self) -> dict[str, Any]:
        # The single row of state.infos(), at a fifth of its price.
        state = self.episodes
        metrics, reward = state.columns[:, 0].copy(), state.rewards[0]
        defined = metrics == metrics  # no NaN
        if np.count_nonzero(defined) < len(metrics):
            metrics[~defined] = 0.0
        evaluated = reward == reward
        info: dict[str, Any] = {
            "indices": state.design[0].copy(),
            "metrics": metrics,
            "defined": defined,
            "evaluated": evaluated,
            "feasible": state.feasible[0],
            "design_reward": reward if evaluated else _ZERO,
        }
        if state.action_mode != "design":
            info["action_mask"] = state.masks()[0]
        if state.full:
            info["full"] = state.described(0)
        return info

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return render_ansi(self.problem, self.episodes.described(0))
        if self.render_mode == "rgb_array":
            return render_rgb(self.problem, self.episodes.described(0), self.episodes.design[0])
        return None

    def close(self) -> None:
        self.episodes.evaluator.close()
