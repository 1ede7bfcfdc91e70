"""PPO in one file, to be read from top to bottom, over gymnasium.make_vec with its multi-discrete actions."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import archgym  # noqa: F401 (registers the environments)


class Policy(nn.Module):
    """One trunk, a value and the logits of every parameter side by side."""

    def __init__(self, inputs: int, nvec: np.ndarray) -> None:
        super().__init__()
        self.nvec = nvec.tolist()
        self.trunk = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.logits = nn.Linear(64, sum(self.nvec))
        self.value = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        hidden = self.trunk(x)
        parts = [Categorical(logits=part) for part in self.logits(hidden).split(self.nvec, dim=1)]
        if action is None:
            action = torch.stack([part.sample() for part in parts], dim=1)
        log_prob = torch.stack([part.log_prob(action[:, i]) for i, part in enumerate(parts)]).sum(0)
        entropy = torch.stack([part.entropy() for part in parts]).sum(0)
        return action, log_prob, entropy, self.value(hidden).squeeze(1)


def main(updates: int = 8, num_envs: int = 32, length: int = 16, seed: int = 0) -> tuple[float, float]:
    """Train; return the mean reward of the first and of the last batch."""
    torch.manual_seed(seed)
    options = {"workload": "resnet18", "autoreset_mode": "SameStep"}
    envs = gymnasium.make_vec("archgym/Systolic-v0", num_envs=num_envs, **options)
    policy = Policy(envs.single_observation_space.shape[0], envs.single_action_space.nvec)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    observation, _ = envs.reset(seed=seed)
    means = []
    for _ in range(updates):
        rows = []
        for _ in range(length):
            x = torch.as_tensor(observation)
            with torch.no_grad():
                action, log_prob, _, value = policy(x)
            observation, reward, terminated, truncated, _ = envs.step(action.numpy())
            done = torch.as_tensor(terminated | truncated, dtype=torch.float32)
            rows.append((x, action, log_prob, value, torch.as_tensor(reward, dtype=torch.float32), done))
        means.append(float(torch.stack([row[4] for row in rows]).mean()))
        # Generalised advantage estimation, backwards through the batch.
        with torch.no_grad():
            following = policy(torch.as_tensor(observation))[3]
        advantage, advantages = torch.zeros(num_envs), []
        for _, _, _, value, reward, done in reversed(rows):
            delta = reward + 0.9 * following * (1 - done) - value
            advantage = delta + 0.9 * 0.95 * (1 - done) * advantage
            advantages.insert(0, advantage)
            following = value
        x, action, log_prob, value = (torch.cat([row[i] for row in rows]) for i in range(4))
        gain = torch.cat(advantages)
        target = gain + value
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        for _ in range(4):
            for batch in torch.randperm(len(x)).split(128):
                _, new_log_prob, entropy, new_value = policy(x[batch], action[batch])
                ratio = (new_log_prob - log_prob[batch]).exp()
                clipped = ratio.clamp(0.8, 1.2)
                policy_loss = -torch.min(ratio * gain[batch], clipped * gain[batch]).mean()
                value_loss = (new_value - target[batch]).pow(2).mean()
                loss = policy_loss + 0.5 * value_loss - 0.003 * entropy.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
                optimizer.step()
    envs.close()
    print("mean reward a batch:", " ".join(f"{mean:.3f}" for mean in means))
    return means[0], means[-1]


if __name__ == "__main__":
    main()
