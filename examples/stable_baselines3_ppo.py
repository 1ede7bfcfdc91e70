"""PPO from Stable-Baselines3 on a vector environment, through the adapter."""

from __future__ import annotations

import gymnasium
from stable_baselines3 import PPO

import archgym  # noqa: F401 (registers the environments)
from archgym.envs.sb3 import SB3VecEnv


def main(steps: int = 2048) -> float:
    """Train and return the best reward of a deterministic rollout."""
    venv = SB3VecEnv(gymnasium.make_vec("archgym/Systolic-v0", num_envs=32, workload="resnet18"))
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=128, seed=0, device="cpu")
    model.learn(steps)
    env = gymnasium.make("archgym/Systolic-v0", workload="resnet18", info="full")
    observation, info = env.reset(seed=0)
    best = info["design_reward"]
    for _ in range(16):
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, _, _, info = env.step(action)
        best = max(best, reward)
    print(f"best reward {best:.4f} with {info['full']['design']}")
    return float(best)


if __name__ == "__main__":
    main()
