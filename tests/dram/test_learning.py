"""PPO from Stable-Baselines3 learns on the memory controller, through ``make_vec`` and the adapter."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import archgym  # noqa: F401 (registers the environments)


@pytest.mark.slow
def test_ppo_learns():
    sb3 = pytest.importorskip("stable_baselines3")
    from archgym.envs.sb3 import SB3VecEnv

    short = {"requests": 500}  # enough to tell controllers apart
    envs = gymnasium.make_vec("archgym/Dram-v0", num_envs=64, workload="sort", workload_options=short, episode_length=8)
    venv = SB3VecEnv(envs)
    model = sb3.PPO("MlpPolicy", venv, n_steps=8, batch_size=128, learning_rate=2e-3, gamma=0.5, seed=0, device="cpu")
    means = []
    for _ in range(6):
        model.learn(512, reset_num_timesteps=False)
        means.append(np.mean([episode["r"] for episode in list(model.ep_info_buffer)[-64:]]) / 8)
    # Mean reward of a design, in natural logarithms of the run time: 0.3 is a quarter of the time saved.
    assert np.mean(means[-3:]) > np.mean(means[:2]) + 0.3, means
