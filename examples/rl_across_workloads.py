"""One policy for many workloads: train PPO on some networks, then design a systolic array for networks it never saw.

The policy sees features of the workload (``workload_features=True``) and builds a design parameter by parameter. It is
trained on a set of networks, one environment each, and then judged on others: zero-shot (its most likely design, one
evaluation), few-shot (the best of 16 draws from it), against the best of as many uniform designs.

Run: python examples/rl_across_workloads.py [--designs 6000] [--seed 0]
Needs: pip install 'archgym[rl]'
"""

from __future__ import annotations

import argparse

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from archgym.envs.sb3 import SB3VecEnv
from archgym.envs.vector_env import DesignVectorEnv

TRAIN = ("alexnet_torchvision", "resnet18", "mobilenet_v1", "bert_base_s128", "efficientnet_b0")
UNSEEN = ("vgg16", "resnet50", "mobilenet_v2", "bert_base_s512")
DRAWS = 16


def environment(workload: str, count: int) -> DesignVectorEnv:
    """Systolic arrays for one network, with the network's features in the observation."""
    return DesignVectorEnv("systolic", workload, num_envs=count, action_mode="construct", workload_features=True)


class SideBySide(VecEnv):
    """Vector environments of several workloads as one: SB3 steps them together, so every update sees all workloads.
    Rewards are standardised a workload: networks differ in how much there is to gain."""

    def __init__(self, parts: list[SB3VecEnv]) -> None:
        self.parts = parts
        self.cuts = np.cumsum([part.num_envs for part in parts])[:-1]
        self.moments = [np.zeros(3) for _ in parts]
        super().__init__(sum(p.num_envs for p in parts), parts[0].observation_space, parts[0].action_space)

    def reset(self):
        return np.concatenate([part.reset() for part in self.parts])

    def step_async(self, actions):
        for part, own in zip(self.parts, np.split(actions, self.cuts), strict=True):
            part.step_async(own)

    def step_wait(self):
        observations, rewards, dones, infos = [], [], [], []
        for part, moments in zip(self.parts, self.moments, strict=True):
            observation, reward, done, info = part.step_wait()
            observations.append(observation)
            rewards.append(self._standardised(reward, done, moments))
            dones.append(done)
            infos += info
        return np.concatenate(observations), np.concatenate(rewards), np.concatenate(dones), infos

    @staticmethod
    def _standardised(reward, done, moments):
        reward = np.array(reward)
        if done.any():
            ended = np.maximum(reward[done], -5.0)  # infeasible designs have -20
            moments += [len(ended), ended.sum(), (ended**2).sum()]
            mean = moments[1] / moments[0]
            deviation = np.sqrt(max(moments[2] / moments[0] - mean**2, 1e-6))
            reward[done] = np.clip((ended - mean) / deviation, -3, 3)
        return reward

    def close(self):
        for part in self.parts:
            part.close()

    def get_attr(self, name, indices=None):
        return [getattr(self.parts[0], name, None)] * self.num_envs

    def set_attr(self, name, value, indices=None):
        raise NotImplementedError

    def env_method(self, name, *args, indices=None, **kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


def rollout(model: PPO, workload: str, count: int, deterministic: bool, seed: int) -> float:
    """Best reward of ``count`` designs that the policy builds for a workload."""
    env = SB3VecEnv(environment(workload, count))
    env.seed(seed)
    observation, dones = env.reset(), np.zeros(count, dtype=bool)
    while not dones.all():
        action, _ = model.predict(observation, deterministic=deterministic)
        observation, reward, dones, _ = env.step(action)
    return float(np.max(reward))


def main(designs: int, seed: int) -> dict[str, dict[str, float]]:
    """Train, then judge on the unseen networks; rewards are ln(reference EDP / EDP), higher is better."""
    env = SideBySide([SB3VecEnv(environment(name, 8)) for name in TRAIN])
    steps = env.parts[0].venv.problem.space.dimension
    env.seed(seed)
    model = PPO(
        "MlpPolicy", env, n_steps=2 * steps, batch_size=env.num_envs * steps, n_epochs=6, learning_rate=2e-3,
        ent_coef=0.005, gamma=1.0, seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(designs * steps)
    table = {}
    for name in UNSEEN:
        problem = environment(name, 1).problem
        _, uniform = problem.evaluate(problem.space.sample(DRAWS * 200, seed))
        table[name] = {
            "random, 1 evaluation": float(np.median(uniform)),
            "zero-shot, 1 evaluation": rollout(model, name, 1, True, seed),
            f"random, best of {DRAWS}": float(np.median(uniform.reshape(200, DRAWS).max(axis=1))),
            f"few-shot, best of {DRAWS}": rollout(model, name, DRAWS, False, seed),
            "random, best of 3200": float(uniform.max()),
        }
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=6000, help="designs evaluated in training, over all networks")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = main(arguments.designs, arguments.seed)
    columns = list(next(iter(found.values())))
    print("| unseen network | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for workload, row in found.items():
        print(f"| {workload} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |")
