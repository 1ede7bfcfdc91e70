"""The network of a cell in torch: one network, readable; the definition that every other trainer is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archgym.simulators.nas.macro import Macro

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class ReluConvNorm(nn.Sequential):
    """ReLU, convolution without bias, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dimensions: int, stride: int = 1) -> None:
        conv = nn.Conv2d if dimensions == 2 else nn.Conv1d
        norm = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d
        super().__init__(
            nn.ReLU(), conv(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), norm(outputs)
        )


class Cell(nn.Module):
    """Four nodes; every node is the sum of its incoming edges. ``ops`` holds one operation index an edge."""

    def __init__(self, ops: Sequence[int], channels: int, dimensions: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d if dimensions == 2 else nn.AvgPool1d
        self.ops = [int(op) for op in ops]
        self.edges = nn.ModuleList(
            ReluConvNorm(channels, channels, 1 if op == 2 else 3, dimensions)
            if op in (2, 3)
            else (pool(3, 1, 1, count_include_pad=False) if op == 4 else nn.Identity())
            for op in self.ops
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            total = torch.zeros_like(x)
            for edge, (source, to) in enumerate(EDGES):
                if to == target and self.ops[edge] != 0:
                    total = total + self.edges[edge](nodes[source])
            nodes.append(total)
        return nodes[3]


class Reduction(nn.Module):
    """Residual block that halves the resolution and doubles the channels."""

    def __init__(self, inputs: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dimensions == 2 else nn.Conv1d
        pool = nn.AvgPool2d if dimensions == 2 else nn.AvgPool1d
        self.a = ReluConvNorm(inputs, outputs, 3, dimensions, stride=2)
        self.b = ReluConvNorm(outputs, outputs, 3, dimensions)
        self.pool = pool(2, 2, ceil_mode=True, count_include_pad=False)
        self.shortcut = conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(self.pool(x)) + self.b(self.a(x))


class CellNetwork(nn.Module):
    """Stem, stages of equal cells, reductions between them, norm, ReLU, global average, linear layer.

    The flat parameter vector (:func:`flatten`) is the concatenation of ``parameters()`` in order, and the order of
    the modules is the order of the computation, edges as in the architecture string; shortcuts come last in a block.
    """

    def __init__(self, ops: Sequence[int], macro: Macro) -> None:
        super().__init__()
        conv = nn.Conv2d if macro.dimensions == 2 else nn.Conv1d
        norm = nn.BatchNorm2d if macro.dimensions == 2 else nn.BatchNorm1d
        self.stem = nn.Sequential(conv(macro.inputs, macro.width, 3, padding=1, bias=False), norm(macro.width))
        blocks: list[nn.Module] = []
        channels = macro.width
        for stage in range(macro.stages):
            if stage:
                blocks.append(Reduction(channels, 2 * channels, macro.dimensions))
                channels *= 2
            blocks += [Cell(ops, channels, macro.dimensions) for _ in range(macro.cells)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(channels)
        self.classifier = nn.Linear(channels, macro.classes)

    def features(self, x: Tensor) -> Tensor:
        """Activations before the global average."""
        return torch.relu(self.norm(self.blocks(self.stem(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(2).mean(-1))


def flatten(network: nn.Module) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def load_flat(network: nn.Module, theta: Tensor) -> None:
    """Set all parameters from one vector."""
    at = 0
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(theta[at : at + p.numel()].reshape(p.shape))
            at += p.numel()
    assert at == len(theta)
