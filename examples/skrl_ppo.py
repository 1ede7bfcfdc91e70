"""skrl's PPO on a vector environment."""

from __future__ import annotations

import gymnasium
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.trainers.torch import SequentialTrainer
from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model

import archgym  # noqa: F401 (registers the environments)

NETWORK = [{"name": "net", "input": "OBSERVATIONS", "layers": [64], "activations": "tanh"}]


def main(steps: int = 64) -> float:
    """Return the best reward of the last rollouts."""
    env = wrap_env(gymnasium.make_vec("archgym/Systolic-v0", num_envs=16, workload="resnet18", action_mode="edit"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    policy = categorical_model(network=NETWORK, output="ACTIONS", **spaces)
    value = deterministic_model(network=NETWORK, output="ONE", **spaces)
    memory = RandomMemory(memory_size=16, num_envs=16, device="cpu")
    cfg = PPO_CFG(rollouts=16, experiment={"write_interval": 0, "checkpoint_interval": 0})
    agent = PPO(models={"policy": policy, "value": value}, memory=memory, cfg=cfg, **spaces)
    often = {"timesteps": steps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=env, agents=agent, cfg=often).train()
    best = float(memory.get_tensor_by_name("rewards").max())
    print(f"best reward {best:.4f}")
    return best


if __name__ == "__main__":
    main()
