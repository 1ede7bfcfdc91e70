"""RLlib's PPO with remote runners, which find the environment by its id with its import."""

from __future__ import annotations

import os

import ray
from ray.rllib.algorithms.ppo import PPOConfig


def main(iterations: int = 1) -> float:
    """Return the mean return of the last iteration."""
    here = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": here})
    try:
        # "archgym:" imports the package in the runner; without it a runner says "Namespace archgym not found".
        config = PPOConfig().environment(
            "archgym:archgym/Systolic-v0", env_config={"workload": "resnet18", "action_mode": "edit"}
        )
        config = config.env_runners(num_env_runners=1).training(train_batch_size=256, minibatch_size=64, num_epochs=2)
        algorithm = config.build_algo()
        for _ in range(iterations):
            result = algorithm.train()
        mean = float(result["env_runners"]["episode_return_mean"])
        algorithm.stop()
    finally:
        ray.shutdown()
    print(f"mean return {mean:.3f}")
    return mean


if __name__ == "__main__":
    main()
