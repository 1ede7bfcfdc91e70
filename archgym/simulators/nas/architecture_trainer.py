"""The network of an architecture in torch, and its training by the cells' trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archgym.networks.language import Branches, Built, Chain, Operation
from archgym.simulators.nas.data import Data
from archgym.simulators.nas.supernet.engine import one_torch_thread
from archgym.simulators.nas.torch_trainer import train_together
from archgym.simulators.nas.trainer import TrainRecipe, TrainResult

Step = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Step] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class BuiltNetwork:
    """One network with its parameters, as a group of one for :func:`train_together`.

    Weights come from a generator seeded by (network, seed) alone: convolutions Gaussian with variance 2 / fan-out (of a
    group), linear layers and their biases uniform in +-1/sqrt(inputs), biases of convolutions 0, norms 1 and 0.

    Args:
        built: the network.
        seed: of weights and dropout.
    """

    count = 1

    def __init__(self, built: Built, seed: int, device: str = "cpu") -> None:
        self.device, self.training = torch.device(device), True
        self.parameters: list[Tensor] = []
        key = [int.from_bytes(built.digest[:8], "big"), int(seed)]
        self._rng = np.random.default_rng([*key, 0])
        self._noise = torch.Generator(self.device)
        self._noise.manual_seed(int(np.random.default_rng([*key, 2]).integers(2**62)))
        self._root = self._chain(built.root)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, 1, classes)`` of inputs ``(batch, channels, ...)``."""
        return self._root(x)[:, None]

    def _take(self, values: np.ndarray[Any, Any]) -> Tensor:
        tensor = torch.tensor(values, dtype=torch.float32, device=self.device).requires_grad_()
        self.parameters.append(tensor)
        return tensor

    def _chain(self, chain: Chain) -> Step:
        kinds = {
            "conv": self._conv,
            "linear": self._linear,
            "pool": self._pool,
            "mean": self._mean,
            "norm": self._norm,
            "activation": self._activation,
            "dropout": self._dropout,
        }
        steps = [self._branches(n) if isinstance(n, Branches) else kinds[n.kind](n) for n in chain.nodes]

        def run(x: Tensor) -> Tensor:
            for step in steps:
                x = step(x)
            return x

        return run

    def _branches(self, node: Branches) -> Step:
        branches = [self._chain(branch) for branch in node.branches]
        if node.join == "concatenate":
            return lambda x: torch.cat([branch(x) for branch in branches], dim=1)

        def add(x: Tensor) -> Tensor:
            total = branches[0](x)
            for branch in branches[1:]:
                total = total + branch(x)
            return total

        return add

    def _conv(self, o: Operation) -> Step:
        shape = o.weight_shape
        fan_out = shape[0] // o["groups"] * math.prod(shape[2:])
        w = self._take(self._rng.normal(0.0, math.sqrt(2.0 / fan_out), size=shape))
        b = self._take(np.zeros(shape[0])) if o["bias"] else None
        conv: Any = F.conv1d if len(shape) == 3 else F.conv2d
        padding = o["dilation"] * (o["kernel"] // 2)
        return lambda x: conv(x, w, b, o["stride"], padding, o["dilation"], o["groups"])

    def _linear(self, o: Operation) -> Step:
        bound = 1.0 / math.sqrt(o.weight_shape[1])
        w = self._take(self._rng.uniform(-bound, bound, size=o.weight_shape))
        b = self._take(self._rng.uniform(-bound, bound, size=o.weight_shape[:1])) if o["bias"] else None
        return lambda x: F.linear(x.flatten(1), w, b)

    def _pool(self, o: Operation) -> Step:
        kernel, stride, flat = o["kernel"], o["stride"], len(o.inputs.sizes) == 1
        padding, ceil = (kernel // 2, False) if kernel % 2 else (0, True)
        if o["how"] == "max":
            highest: Any = F.max_pool1d if flat else F.max_pool2d
            return lambda x: highest(x, kernel, stride, padding, ceil_mode=ceil)
        mean: Any = F.avg_pool1d if flat else F.avg_pool2d
        return lambda x: mean(x, kernel, stride, padding, ceil, False)

    def _mean(self, _: Operation) -> Step:
        return lambda x: x.flatten(2).mean(-1)

    def _norm(self, o: Operation) -> Step:
        channels = o.inputs.channels
        gamma, beta = self._take(np.ones(channels)), self._take(np.zeros(channels))
        if o["how"] == "layer":
            return lambda x: F.group_norm(x, 1, gamma, beta)
        mean, variance = torch.zeros(channels, device=self.device), torch.ones(channels, device=self.device)
        return lambda x: F.batch_norm(x, mean, variance, gamma, beta, self.training, 0.1, 1e-5)

    def _activation(self, o: Operation) -> Step:
        return _ACTIVATIONS[o["how"]]

    def _dropout_of(self, x: Tensor, rate: float) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self._noise, device=self.device) >= rate
        return x * kept / (1.0 - rate)

    def _dropout(self, o: Operation) -> Step:
        return lambda x: self._dropout_of(x, o["rate"])


def train_built(built: Built, seed: int, data: Data, recipe: TrainRecipe, device: str = "cpu") -> TrainResult:
    """Train one network from scratch, on one thread of the processor (or on ``device``): a result belongs to it alone."""
    train = train_together if device != "cpu" else one_torch_thread(train_together)
    return train(BuiltNetwork(built, seed, device), seed, data, recipe)[0]
