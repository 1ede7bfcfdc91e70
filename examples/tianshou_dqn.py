"""Tianshou's DQN on forked environments, its SubprocVectorEnv."""

from __future__ import annotations

import gymnasium
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import SubprocVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

import archgym  # noqa: F401 (registers the environments)


def make() -> gymnasium.Env:
    return gymnasium.make("archgym/Systolic-v0", workload="resnet18", action_mode="edit")


def main(steps: int = 512) -> float:
    """Return the best reward found."""
    env = make()
    net = Net(state_shape=env.observation_space.shape, action_shape=env.action_space.n, hidden_sizes=[64])
    policy = DiscreteQLearningPolicy(model=net, action_space=env.action_space, eps_training=0.2)
    dqn = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=20)
    collector = Collector(dqn, SubprocVectorEnv([make] * 4), VectorReplayBuffer(2000, 4))
    params = OffPolicyTrainerParams(training_collector=collector, max_epochs=1, epoch_num_steps=steps)
    params.collection_step_num_env_steps, params.update_step_num_gradient_steps_per_sample = 128, 0.1
    params.show_progress = False
    dqn.run_training(params)
    collector.env.close()
    best = float(collector.buffer.rew.max())
    print(f"best reward {best:.4f}")
    return best


if __name__ == "__main__":
    main()
