"""A small multi-layer perceptron in NumPy, for some hundred rows and search loops in which a larger library's start would take
longer than the training: the predictors of cells and of the agent ``cio``."""

from __future__ import annotations

__all__ = ()

import itertools
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Loss = Callable[[Array, Array], Array]
"""Outputs and targets ``(n, m)`` -> gradient of the loss by the outputs ``(n, m)``."""
P = ParamSpec("P")
T = TypeVar("T")

DECAYS = 0.9, 0.999
"""Of Adam's running means."""


def one_thread(call: Callable[P, T]) -> Callable[P, T]:
    """Run a function with the matrix products on one thread, so that their sums have one order on every machine."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return call(*args, **kwargs)

    return alone


def squared(outputs: Array, targets: Array) -> Array:
    """Gradient of the mean square error."""
    return np.asarray(2.0 * (outputs - targets) / outputs.size)


def diff_kendall(outputs: Array, targets: Array, softness: float = 0.5) -> Array:
    """Gradient of minus Kendall's tau, made smooth: the mean over pairs of -tanh((o_i - o_j) / softness) sign(t_i - t_j), summed
    over the columns (Zheng et al., "DiffKendall", NeurIPS 2023)."""
    n = len(outputs)
    slope = np.tanh((outputs[:, None] - outputs[None]) / softness)
    order = np.sign(targets[:, None] - targets[None])
    return np.asarray(-2.0 / softness / max(n * (n - 1), 1) * ((1.0 - slope**2) * order).sum(axis=1))


class Perceptron:
    """Dense layers with SiLU between them.

    Args:
        sizes: numbers of inputs, of the hidden layers, of outputs.
        rng: of the initial weights (normal, variance 2 / inputs).

    Attributes:
        layers: ``[weights (inputs, outputs), biases (outputs,)]`` each.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self.layers: list[list[Array]] = [
            [rng.normal(size=(a, b)) * np.sqrt(2.0 / a), np.zeros(b)] for a, b in itertools.pairwise(sizes)
        ]

    def __call__(self, rows: Array) -> Array:
        """Outputs ``(n, m)`` of rows ``(n, f)``."""
        return self._forward(rows)[0]

    def hidden(self, rows: Array) -> Array:
        """What the last hidden layer says of rows ``(n, f)``: ``(n, width)``."""
        return self._forward(rows)[1][-1][0]

    def with_head(self, outputs: int, rng: np.random.Generator) -> Perceptron:
        """A copy of the body with a new last layer, which says nearly nothing at first."""
        made = Perceptron([len(self.layers[-1][0]), outputs], rng)
        made.layers[0][0] *= 0.1
        made.layers = [[part.copy() for part in layer] for layer in self.layers[:-1]] + made.layers
        return made

    def _forward(self, rows: Array) -> tuple[Array, list[tuple[Array, Array]]]:
        """Outputs, and for each layer its inputs and the slope of what follows it."""
        trace = []
        for i, (weights, biases) in enumerate(self.layers):
            h = rows @ weights + biases
            gate = 1.0 / (1.0 + np.exp(-np.clip(h, -60.0, 60.0)))
            last = i + 1 == len(self.layers)
            trace.append((rows, np.ones_like(h) if last else gate * (1.0 + h * (1.0 - gate))))
            rows = h if last else h * gate
        return rows, trace

    def train(
        self,
        rows: Array,
        targets: Array,
        steps: int,
        rng: np.random.Generator,
        *,
        loss: Loss = squared,
        rate: float = 3e-3,
        body: float = 1.0,
        batch: int = 256,
        decay: float = 0.0,
    ) -> None:
        """Adam with a cosine to zero, weight decay apart from the gradient (AdamW), batches drawn with replacement where there are
        more rows than ``batch``; ``body``: rate of all layers but the last, in parts of ``rate``."""
        first, second = ([[np.zeros_like(part) for part in layer] for layer in self.layers] for _ in range(2))
        for step in range(1, steps + 1):
            chosen = rng.integers(0, len(rows), batch) if len(rows) > batch else slice(None)
            outputs, trace = self._forward(rows[chosen])
            gradient = loss(outputs, targets[chosen])
            now = rate * 0.5 * (1.0 + np.cos(np.pi * step / steps))
            for i in reversed(range(len(self.layers))):
                inputs, slope = trace[i]
                gradient = gradient * slope
                parts = inputs.T @ gradient, gradient.sum(axis=0)
                gradient = gradient @ self.layers[i][0].T
                own = now if i + 1 == len(self.layers) else now * body
                for k, part in enumerate(parts):
                    first[i][k] += (1 - DECAYS[0]) * (part - first[i][k])
                    second[i][k] += (1 - DECAYS[1]) * (part**2 - second[i][k])
                    scale = np.sqrt(second[i][k] / (1 - DECAYS[1] ** step)) + 1e-8
                    self.layers[i][k] -= own * first[i][k] / (1 - DECAYS[0] ** step) / scale
                self.layers[i][0] *= 1.0 - own * decay
