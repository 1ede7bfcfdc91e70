"""Weights that a cell inherits from another: the rules of Net2Net (Chen et al., ICLR 2016) on the edges of a cell.

| change of an edge | rule | function kept |
|---|---|---|
| the same convolution | copied, moments included | yes |
| 1x1 -> 3x3 | the centre tap takes the 1x1 weights | yes |
| none -> convolution | fresh filters, scale and shift 0 | yes (the edge begins as zero and learns its scale) |
| 3x3 -> 1x1 | the centre tap | no |
| skip, pool -> 3x3 | filters of the identity, of the box of thirds | no: the operation begins with a ReLU and a norm |
| skip, pool -> 1x1 | filters of the identity | no |
| -> skip, pool, none | nothing to inherit | |

Everything off the edges is copied.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.supernet.store import CONVOLUTIONS, Store
from archgym.simulators.nas.trainer import initial_parameters

Floats = NDArray[np.float32]
_STORES: dict[str, Store] = {}


def _store(macro_name: str) -> Store:
    if macro_name not in _STORES:
        _STORES[macro_name] = Store(macro_name)
    return _STORES[macro_name]


def child_weights(
    parent: int, child: int, weights: Floats, running: Floats, seed: int, macro_name: str = "mnist1d-C8S2"
) -> tuple[Floats, Floats]:
    """Flat parameters and moments ``(16, 2, 2c)`` of the child's network before its own training.

    Args:
        parent, child: cell codes; ``weights``, ``running``: the parent's; seed: of filters that start afresh.
    """
    store, skeleton = _store(macro_name), macro(macro_name)
    whole = np.zeros(store.size, dtype=np.float32)
    fresh = initial_parameters(child, seed, macro_name)
    whole[store.index(child)] = fresh
    whole[store.index(parent)] = weights
    moments = running.copy()
    old_ops, new_ops = cells.rows(parent), cells.rows(child)
    for stage in range(skeleton.stages):
        channels = skeleton.width * 2**stage
        for edge in range(6):
            old, new = int(old_ops[edge]), int(new_ops[edge])
            if new not in CONVOLUTIONS or new == old:
                continue
            # Rows of the moments: stem, six edges, the reduction's two, six edges, last.
            row = (1 if stage == 0 else 9) + edge
            first, last = store.block(stage, edge, new)
            if old in CONVOLUTIONS:
                a, b = store.block(stage, edge, old)
                whole[first:last] = _resized(whole[a:b], channels, new)
                continue
            block = whole[first:last]
            if old == cells.NONE:
                block[-2 * channels :] = 0.0
            else:
                block[: -2 * channels] = _like(old, new, channels).reshape(-1)
                block[-2 * channels : -channels], block[-channels:] = 1.0, 0.0
            moments[row, 0, :channels], moments[row, 1, :channels] = 0.0, 1.0
    return whole[store.index(child)], moments


def _resized(block: Floats, channels: int, new: int) -> Floats:
    """A convolution's block with the other kernel: its centre tap, in zeros or alone."""
    taps = 1 if new == cells.CONV3 else 3
    w = block[: -2 * channels].reshape(channels, channels, taps)
    if new == cells.CONV3:
        wide = np.zeros((channels, channels, 3), dtype=np.float32)
        wide[:, :, 1] = w[:, :, 0]
        w = wide
    else:
        w = w[:, :, 1:2]
    return np.concatenate([w.reshape(-1), block[-2 * channels :]])


def _like(old: int, new: int, channels: int) -> Floats:
    """Filters that do what a skip or a pool did, as far as the kernel allows."""
    taps = 1 if new == cells.CONV1 else 3
    w = np.zeros((channels, channels, taps), dtype=np.float32)
    diagonal = np.arange(channels)
    if old == cells.POOL and taps == 3:
        w[diagonal, diagonal, :] = 1.0 / 3.0
    else:
        w[diagonal, diagonal, taps // 2] = 1.0
    return w
