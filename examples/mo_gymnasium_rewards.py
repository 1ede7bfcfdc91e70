"""Vector rewards in MO-Gymnasium's convention, scalarised and recorded by its own wrappers."""

from __future__ import annotations

import gymnasium
import numpy as np
from mo_gymnasium.wrappers import LinearReward, MORecordEpisodeStatistics

import archgym  # noqa: F401 (registers the environments)
from archgym.envs.multi_objective import VectorReward


def main(steps: int = 16) -> np.ndarray:
    """Return the vector return of one random episode."""
    env = VectorReward(gymnasium.make("archgym/Systolic-v0", workload="resnet18", episode_length=steps))
    recorded = MORecordEpisodeStatistics(env)
    recorded.action_space.seed(0)
    recorded.reset(seed=0)
    done = False
    while not done:
        _, vector, terminated, truncated, info = recorded.step(recorded.action_space.sample())
        done = terminated or truncated
    print(f"objectives {env.reward_names}, vector return {info['episode']['r']}")
    scalar = LinearReward(env, weight=np.full(len(vector), 1 / len(vector)))
    scalar.reset(seed=0)
    assert np.isscalar(scalar.step(scalar.action_space.sample())[1])
    return np.asarray(info["episode"]["r"])


if __name__ == "__main__":
    main()
