"""Networks that know cells before they see a label: pretrained on what costs nothing, then fitted to few accuracies.

After FBNetV3 (Dai et al., CVPR 2021): a network learns to say a cell's parameters, multiply-accumulates, depth, paths and
zero-cost scores from its operations; its body, an encoding of cells, then takes a new head for the accuracy.
"""

from __future__ import annotations

__all__ = ()

from functools import cache

import numpy as np
from numpy.typing import NDArray

from archgym.agents.perceptron import Perceptron, diff_kendall, one_thread

Matrix = NDArray[np.float64]

WIDTH = 64
STEPS, FINE_STEPS = 800, 150
"""Of the pretraining on all function classes, and of the fit to labels."""


def _standard(columns: Matrix) -> Matrix:
    return np.asarray((columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9))


@cache
def class_inputs() -> Matrix:
    """Standardised one-hot operations of the representative of every function class, ``(4930, 30)``."""
    from archgym.simulators.nas import cells

    return _standard(cells.to_one_hot(cells.rows(cells.representatives())).reshape(-1, 30))


@cache
def free_targets() -> Matrix:
    """What costs nothing to know of every function class, standardised, ``(4930, f)``: statistics of the graph, ranks of the
    zero-cost scores, parameters and multiply-accumulates on the skeleton of our own tables."""
    from archgym.proxies.cells import EDGES, OPERATIONS, _of_every_cell
    from archgym.simulators.nas import cells, table

    codes = cells.representatives()
    counts = [table.cell_parameters("mnist1d-C8S2")[codes], table.cell_macs("mnist1d-C8S2")[codes]]
    return _standard(np.column_stack([_of_every_cell()[codes, EDGES * OPERATIONS :], *counts]))


@cache
@one_thread
def body(member: int) -> Perceptron:
    """A network pretrained from seed ``member``: one-hot operations -> free statistics."""
    rng, targets = np.random.default_rng([member, 91]), free_targets()
    network = Perceptron([class_inputs().shape[1], WIDTH, WIDTH, targets.shape[1]], rng)
    network.train(class_inputs(), targets, STEPS, rng, rate=4e-3)
    return network


@one_thread
def predictions(
    classes: NDArray[np.int64], targets: Matrix, members: int, seed: int, *, pretrain: bool = True
) -> Matrix:
    """Predicted targets of every function class, ``(4930, m)``.

    The mean of ``members`` networks, each in two ways: the body with a tenth of the head's rate under a rank loss
    (DiffKendall), scaled to the labels by least squares; and the body as it is, with a ridge regression on its encoding.

    Args:
        classes: of the labelled cells, ``(n,)``.
        targets: theirs, standardised, ``(n, m)``.
        members: networks.
        seed: of heads and batches.
        pretrain: False for networks that learn from the labels alone, at the full rate: what the pretraining is worth.
    """
    inputs = class_inputs()
    total = np.zeros((len(inputs), targets.shape[1]))
    for member in range(members):
        rng = np.random.default_rng([seed, member, 92])
        start = body(member) if pretrain else Perceptron([inputs.shape[1], WIDTH, WIDTH, 1], rng)
        network = start.with_head(targets.shape[1], rng)
        network.train(
            inputs[classes],
            targets,
            FINE_STEPS,
            rng,
            loss=diff_kendall,
            body=0.1 if pretrain else 1.0,
            batch=64,
            decay=0.01,
        )
        ranked = _scaled(network(inputs), classes, targets)
        total += (ranked + _ridge(_standard(start.hidden(inputs)), classes, targets)) / 2 if pretrain else ranked
    return total / members


def _scaled(outputs: Matrix, classes: NDArray[np.int64], targets: Matrix) -> Matrix:
    """Outputs that rank, brought to the scale of the targets by least squares on the labels."""
    seen = outputs[classes]
    middle, spread = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-9)
    slope = ((seen - middle) / spread * (targets - targets.mean(axis=0))).mean(axis=0)
    return np.asarray(targets.mean(axis=0) + slope * (outputs - middle) / spread)


def _ridge(encoding: Matrix, classes: NDArray[np.int64], targets: Matrix) -> Matrix:
    """Ridge regression on an encoding; the strength with the least leave-one-out error over all targets."""
    seen = encoding[classes]
    middle, mean = seen.mean(axis=0), targets.mean(axis=0)
    values, vectors = np.linalg.eigh((seen - middle) @ (seen - middle).T)
    turned = vectors.T @ (targets - mean)
    best, chosen = np.inf, 1.0
    for strength in np.logspace(-1, 4, 12):
        shrink = values / (values + strength)
        left = targets - mean - vectors @ (shrink[:, None] * turned)
        leverage = ((vectors**2) * shrink).sum(axis=1) + 1.0 / len(seen)
        error = float(((left / np.maximum(1.0 - leverage, 1e-6)[:, None]) ** 2).sum())
        if error < best:
            best, chosen = error, float(strength)
    weights = (seen - middle).T @ (vectors @ (turned / (values + chosen)[:, None]))
    return np.asarray((encoding - middle) @ weights + mean)
