"""The compiled network of policies that build a design parameter by parameter, and its gradient.

In the manner of NADE (Larochelle, Murray, AISTATS 2011): one hidden layer, to which every value that was chosen adds its row
of a table, so that a whole design costs as much as one pass through a network.
"""

from __future__ import annotations

__all__ = ()

import math

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import kernel
from archgym.space import Designs

Floats = NDArray[np.float32]

SUMS = {"reassoc", "contract"}
"""What the compiler may change: the order of a sum, so that it runs in vector registers."""


def uniform(nvec: NDArray[np.int64], width: int, rng: np.random.Generator) -> Floats:
    """A network that draws uniform designs. Its rows: where the hidden layer starts, the table of what values add to it, a
    head for each value, a head for the baseline before each parameter. The last unit is always 1: its weights are the
    heads' biases."""
    d, values = len(nvec), int(nvec.sum())
    net = np.zeros((1 + 2 * values + d, width), dtype=np.float32)
    net[0, :-1] = rng.normal(size=width - 1)
    net[0, -1] = 1.0
    net[1 : 1 + values, :-1] = rng.normal(size=(values, width - 1)) / math.sqrt(d)
    return net


@kernel(fastmath=SUMS)
def dot(a: Floats, b: Floats) -> float:
    total = np.float32(0.0)
    for m in range(len(a)):
        total += a[m] * b[m]
    return total  # type: ignore[return-value]  # a float32, which keeps the logits in one


@kernel(fastmath=SUMS)
def add(scale: float, a: Floats, to: Floats) -> None:
    factor = np.float32(scale)
    for m in range(len(a)):
        to[m] += factor * a[m]


@kernel
def softmax(heads: Floats, hidden: Floats, p: Floats, log_p: Floats) -> None:
    """Probabilities of the values whose heads ``(k, width)`` are given, and their logarithms, into ``p`` and ``log_p``."""
    most = np.float32(-np.inf)
    for k in range(len(heads)):
        log_p[k] = dot(heads[k], hidden)
        most = max(most, log_p[k])
    total = np.float32(0.0)
    for k in range(len(heads)):
        log_p[k] -= most
        p[k] = math.exp(log_p[k])
        total += p[k]
    shift = math.log(total)
    for k in range(len(heads)):
        p[k] /= total
        log_p[k] -= shift


@kernel
def draw(
    net: Floats,
    offsets: NDArray[np.int64],
    context: Floats,
    numbers: NDArray[np.float64],
    designs: Designs,
    log_p: Floats,
    baseline: Floats,
) -> None:
    """Fill ``designs`` ``(n, d)`` with draws from the policy, by uniform ``numbers`` of the same shape; ``log_p`` with the
    logarithms of their probabilities, ``baseline`` with the return expected before each choice. ``context`` ``(n, width)`` is
    added to where each design's hidden layer starts."""
    n, d = designs.shape
    values = offsets[-1]
    p, logs = np.empty((2, np.max(np.diff(offsets))), dtype=np.float32)
    for i in range(n):
        total = net[0] + context[i]
        for j in range(d):
            first, count = offsets[j], offsets[j + 1] - offsets[j]
            hidden = np.maximum(total, np.float32(0.0))
            softmax(net[1 + values + first : 1 + values + first + count], hidden, p, logs)
            chosen, below = 0, p[0]
            while below <= numbers[i, j] and chosen < count - 1:
                chosen += 1
                below += p[chosen]
            designs[i, j], log_p[i, j] = chosen, logs[chosen]
            baseline[i, j] = dot(net[1 + 2 * values + j], hidden)
            add(1.0, net[1 + first + chosen], total)


def log_likelihood(net: Floats, offsets: NDArray[np.int64], designs: Designs) -> Floats:
    """Logarithms of the probabilities of designs ``(n, d)``; shape ``(n,)``."""
    values, total = int(offsets[-1]), np.repeat(net[:1], len(designs), axis=0)
    result = np.zeros(len(designs), dtype=np.float32)
    for chosen, first, end in zip(designs.T, offsets[:-1], offsets[1:], strict=True):
        logits = np.maximum(total, 0.0) @ net[1 + values + first : 1 + values + end].T
        logits -= logits.max(axis=1, keepdims=True)
        result += logits[np.arange(len(designs)), chosen] - np.log(np.exp(logits).sum(axis=1))
        total += net[1 + first + chosen]
    return result


def drawn(
    net: Floats, offsets: NDArray[np.int64], context: Floats, rng: np.random.Generator
) -> tuple[Designs, Floats, Floats]:
    """A design for each row of ``context``, the logarithms of its choices' probabilities, and the returns expected before
    each choice; ``(n, d)``."""
    numbers = rng.random((len(context), len(offsets) - 1))
    designs, (log_p, baseline) = np.empty(numbers.shape, np.int64), np.empty((2, *numbers.shape), np.float32)
    draw(net, offsets, context, numbers, designs, log_p, baseline)
    return designs, log_p, baseline


def advantages_of(returns: Floats, baseline: Floats) -> Floats:
    """How much more than expected before each choice ``(n, d)`` the designs earned, of mean 0 and deviation 1."""
    advantages: Floats = returns[:, None] - baseline
    advantages -= advantages.mean()
    advantages /= advantages.std() + np.float32(1e-8)
    return advantages


@kernel
def surrogate(
    net: Floats,
    offsets: NDArray[np.int64],
    context: Floats,
    designs: Designs,
    old_log_p: Floats,
    returns: Floats,
    advantages: Floats,
    clip: float,
    entropy_weight: float,
    gradient: Floats,
    gradient_of_context: Floats,
) -> float:
    """Add to ``gradient`` and ``gradient_of_context`` where the policy improves: PPO's clipped objective, the entropy bonus,
    and minus half the squared error of the baseline, each a mean over choices. Designs, old log-probabilities and advantages
    are ``(n, d)``, returns ``(n,)``, context ``(n, width)`` as for :func:`draw`. Returns the mean entropy of a choice."""
    n, d = designs.shape
    values, width = offsets[-1], net.shape[1]
    hidden, back = np.empty((d, width), dtype=np.float32), np.empty((d, width), dtype=np.float32)
    p, logs = np.empty((2, np.max(np.diff(offsets))), dtype=np.float32)
    share = 1.0 / (n * d)
    mean_entropy = 0.0
    for i in range(n):
        total = net[0] + context[i]
        back[:] = 0.0
        for j in range(d):
            first, count, chosen = 1 + values + offsets[j], offsets[j + 1] - offsets[j], designs[i, j]
            for m in range(width):
                hidden[j, m] = max(total[m], np.float32(0.0))
            softmax(net[first : first + count], hidden[j], p, logs)
            entropy = 0.0
            for k in range(count):
                entropy -= p[k] * logs[k]
            mean_entropy += entropy * share
            ratio = math.exp(min(logs[chosen] - old_log_p[i, j], 20.0))
            advantage = advantages[i, j]
            clipped = ratio > 1.0 + clip if advantage > 0.0 else ratio < 1.0 - clip
            push = 0.0 if clipped else advantage * ratio
            for k in range(count):
                step = push * ((1.0 if k == chosen else 0.0) - p[k]) - entropy_weight * p[k] * (logs[k] + entropy)
                add(step * share, hidden[j], gradient[first + k])
                add(step * share, net[first + k], back[j])
            baseline = 1 + 2 * values + j
            error = (returns[i] - dot(net[baseline], hidden[j])) * share
            add(error, hidden[j], gradient[baseline])
            add(error, net[baseline], back[j])
            add(1.0, net[1 + offsets[j] + chosen], total)
        # What a choice adds to the hidden layer reaches all choices after it.
        for j in range(d - 1, -1, -1):
            for m in range(width):
                if hidden[j, m] <= 0.0 or m == width - 1:
                    back[j, m] = 0.0
            if j < d - 1:
                add(1.0, back[j + 1], gradient[1 + offsets[j] + designs[i, j]])
                add(1.0, back[j + 1], back[j])
        add(1.0, back[0], gradient[0])
        add(1.0, back[0], gradient_of_context[i])
    return mean_entropy


@kernel
def adam(net: Floats, gradient: Floats, moments: Floats, steps: int, rate: float) -> None:
    """One step of Adam (Kingma, Ba, 2015) up the gradient."""
    keep, keep_square = np.float32(0.9), np.float32(0.999)
    one, small = np.float32(1.0), np.float32(1e-8)
    scale, spread = np.float32(rate / (1.0 - 0.9**steps)), np.float32(1.0 / (1.0 - 0.999**steps))
    for r in range(net.shape[0]):
        row, change, first, second = net[r], gradient[r], moments[0, r], moments[1, r]
        for m in range(len(row)):
            first[m] = keep * first[m] + (one - keep) * change[m]
            second[m] = keep_square * second[m] + (one - keep_square) * change[m] * change[m]
            row[m] += scale * first[m] / (np.sqrt(spread * second[m]) + small)


@kernel
def improve(
    net: Floats,
    moments: Floats,
    offsets: NDArray[np.int64],
    designs: Designs,
    log_p: Floats,
    returns: Floats,
    advantages: Floats,
    epochs: int,
    epochs_before: int,
    rate: float,
    clip: float,
    entropy_weight: float,
    autoregressive: bool,
) -> float:
    """Passes of PPO over a batch of designs without context, a step of Adam each. Returns the mean entropy of a choice in the last one."""
    entropy = 0.0
    gradient, none = np.empty_like(net), np.zeros((len(designs), net.shape[1]), dtype=np.float32)
    unused = np.zeros_like(none)
    for epoch in range(epochs):
        gradient[:] = 0.0
        entropy = surrogate(
            net, offsets, none, designs, log_p, returns, advantages, clip, entropy_weight, gradient, unused
        )
        if not autoregressive:  # no choice is seen by those after it
            gradient[1 : 1 + offsets[-1]] = 0.0
        adam(net, gradient, moments, epochs_before + epoch + 1, rate)
    return entropy
