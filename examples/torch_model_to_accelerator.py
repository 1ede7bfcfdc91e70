"""From a PyTorch model of your own to its best systolic array."""

from __future__ import annotations

import torch
from torch import nn

import archgym
from archgym.agents import make_agent, search
from archgym.networks.torch_reader import workload_from_torch


class Net(nn.Module):
    """A small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def main(budget: int = 500) -> float:
    """Return the best reward."""
    network = workload_from_torch(Net(), torch.zeros(1, 3, 32, 32), name="net")
    for layer in network.layers:
        print(f"{layer.name:12} {layer.op:10} {layer.macs:>12,} MACs")
    problem = archgym.make_problem("systolic", workload=network, objective="edp")
    result = search(problem, make_agent("ga", problem, seed=0), budget)
    print(problem.space.decode(result.best.design)[0], f"reward {result.best.reward:.3f}")
    return result.best.reward


if __name__ == "__main__":
    main()
