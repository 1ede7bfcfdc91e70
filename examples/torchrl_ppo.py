"""TorchRL's PPO on a vector environment, with the masks of valid actions that its info reader finds."""

from __future__ import annotations

import gymnasium
import torch
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, MaskedCategorical, ValueOperator
from torchrl.objectives import ClipPPOLoss

import archgym  # noqa: F401 (registers the environments)


def main(rounds: int = 4) -> float:
    """Return the best reward found."""
    # "Disabled": TorchRL resets ended environments itself, by a mask.
    options = {"workload": "resnet18", "action_mode": "edit", "autoreset_mode": "Disabled"}
    vector = gymnasium.make_vec("archgym/Systolic-v0", num_envs=16, **options)
    env = GymWrapper(vector, categorical_action_encoding=True).auto_register_info_dict()
    scores = TensorDictModule(MLP(out_features=int(vector.single_action_space.n)), ["observation"], ["logits"])
    keys = {"logits": "logits", "mask": "action_mask"}
    chosen = ProbabilisticTensorDictModule(keys, ["action"], distribution_class=MaskedCategorical, return_log_prob=True)
    policy = ProbabilisticTensorDictSequential(scores, chosen)
    loss, best = ClipPPOLoss(policy, ValueOperator(MLP(out_features=1))), -float("inf")
    env.rollout(1, policy)  # the networks take their widths from the first observations
    loss.critic_network(env.reset())
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
    for _ in range(rounds):
        with torch.no_grad():
            data = loss.value_estimator(env.rollout(32, policy, break_when_any_done=False))
        best = max(best, float(data["next", "design_reward"].max()))
        losses = loss(data.reshape(-1))
        optimizer.zero_grad()
        (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
        optimizer.step()
    print(f"best reward {best:.4f}")
    return best


if __name__ == "__main__":
    main()
