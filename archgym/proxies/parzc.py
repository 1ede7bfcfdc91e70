"""A parametric zero-cost predictor of cells: what a network's layers say before training, weighed by a small network.

After ParZC (Dong et al., arXiv 2402.02105): a row of zero-cost scores a layer, mixed over layers and over features by two
MLP-Mixer blocks (Tolstikhin et al., NeurIPS 2021), under a rank loss; dropout stays on in prediction, and the mean of
several draws is the answer.
"""

from __future__ import annotations

__all__ = ()

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

DRAWS = 10
"""Predictions with dropout on, whose mean is taken."""
SOFTNESS = 0.5


def predictions(
    classes: NDArray[np.int64], targets: Matrix, seed: int, *, width: int, steps: int, dropout: float
) -> Matrix:
    """Predicted targets of every function class, ``(4930, m)``, from labels ``targets (n, m)``, standardised, of ``classes
    (n,)``."""
    import torch

    from archgym.agents.torch_support import own_randomness
    from archgym.simulators.nas import cells
    from archgym.simulators.nas.layerscores import layer_features

    rows = torch.tensor(layer_features(cells.representatives()), dtype=torch.float32)
    told = torch.tensor(targets, dtype=torch.float32)
    with own_randomness():
        torch.manual_seed(seed)
        network = _mixer(rows.shape[1], rows.shape[2], width, targets.shape[1], dropout)
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = torch.sign(told[:, None] - told[None])
        seen = rows[torch.from_numpy(classes)]
        for _ in range(steps):
            outputs = network(seen)
            loss = -(torch.tanh((outputs[:, None] - outputs[None]) / SOFTNESS) * order).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            drawn: Any = sum(network(rows) for _ in range(DRAWS))
    outputs = (drawn / DRAWS).double().numpy()
    from archgym.proxies.pretrained import _scaled

    return _scaled(outputs, classes, targets)


def _mixer(layers: int, features: int, width: int, outputs: int, dropout: float) -> Any:
    from torch import nn

    class Block(nn.Module):
        """MLP over layers, then MLP over features, each added to what it saw."""

        def __init__(self) -> None:
            super().__init__()
            self.over_layers, self.over_features = _mlp(layers, dropout), _mlp(width, dropout)
            self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x: Any) -> Any:
            x = x + self.over_layers(self.first(x).transpose(1, 2)).transpose(1, 2)
            return x + self.over_features(self.second(x))

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(features, width)
            self.blocks = nn.Sequential(Block(), Block())
            self.head = nn.Linear(width, outputs)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.embed(x)).mean(dim=1))

    return Mixer()


def _mlp(size: int, dropout: float) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(size, 2 * size), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * size, size))
