"""Minari's own DataCollector on an archgym environment: an offline-RL data set from any policy."""

from __future__ import annotations

import os
import tempfile

import gymnasium

import archgym  # noqa: F401 (registers the environments)


def main(episodes: int = 5) -> int:
    """Return the number of steps in the data set."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        import minari

        env = minari.DataCollector(gymnasium.make("archgym/Systolic-v0", workload="resnet18"))
        env.action_space.seed(0)
        for episode in range(episodes):
            env.reset(seed=episode)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                done = terminated or truncated
        dataset = env.create_dataset("archgym/systolic-random-v0", algorithm_name="random")
        steps = int(minari.load_dataset("archgym/systolic-random-v0").total_steps)
        assert steps == dataset.total_steps
    print(f"{episodes} episodes, {steps} steps")
    return steps


if __name__ == "__main__":
    main()
