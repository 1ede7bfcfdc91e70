"""What a cell costs on hardware: an additive look-up, one cost an operation, computed by the accelerator simulator.

The form is ProxylessNAS's (Cai, Zhu and Han, ICLR 2019): cost = fixed part + sum over edges of cost(operation). Here the
entries are not fitted to measurements: each is a run of the simulator on the layers that the operation stands for,
in every stage of the skeleton. For an accelerator that runs one layer after the other the sum is exact.

| term | layers |
| --- | --- |
| fixed | stem, reduction blocks, classifier |
| ``nor_conv_1x1``, ``nor_conv_3x3`` | a convolution c to c at every stage's resolution, ``cells`` times |
| ``avg_pool_3x3`` | the same as a depthwise layer (its weights are constants; they are counted as weights) |
| addition | a node with k inputs that are not ``none`` adds k - 1 times c x positions words |
| ``skip_connect``, ``none`` | nothing |

Operations on dead edges are in the network and cost what they cost.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.networks.layers import Layer, Network
from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import Macro

TERMS = ("fixed", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "addition")
"""Terms of the look-up, in the order of the columns of :func:`term_counts`."""


def _side(macro: Macro, stage: int) -> int:
    side = macro.size
    for _ in range(stage):
        side = (side + 1) // 2
    return side


def _conv(
    macro: Macro, name: str, inputs: int, outputs: int, stage: int, taps: int, stride: int = 1, count: int = 1
) -> Layer:
    """A convolution with ``taps`` taps a dimension whose output has the resolution of ``stage``."""
    side = _side(macro, stage)
    two = macro.dimensions == 2
    return Layer(
        name, "conv", K=outputs, C=inputs, P=side, Q=side if two else 1, R=taps, S=taps if two else 1,
        stride_p=stride, stride_q=stride if two else 1, count=count,
    )  # fmt: skip


@cache
def term_networks(macro: Macro) -> dict[str, Network]:
    """The layers behind each term but the addition."""
    fixed = [_conv(macro, "stem", macro.inputs, macro.width, 0, 3)]
    ops: dict[str, list[Layer]] = {name: [] for name in TERMS[1:4]}
    for stage in range(macro.stages):
        c, side = macro.width * 2**stage, _side(macro, stage)
        if stage:
            fixed += [
                _conv(macro, f"reduction{stage}.conv1", c // 2, c, stage, 3, stride=2),
                _conv(macro, f"reduction{stage}.conv2", c, c, stage, 3),
                # The average pool before it is folded into the stride.
                _conv(macro, f"reduction{stage}.shortcut", c // 2, c, stage, 1, stride=2),
            ]
        ops["nor_conv_1x1"].append(_conv(macro, f"conv1.{stage}", c, c, stage, 1, count=macro.cells))
        ops["nor_conv_3x3"].append(_conv(macro, f"conv3.{stage}", c, c, stage, 3, count=macro.cells))
        two = macro.dimensions == 2
        ops["avg_pool_3x3"].append(
            Layer(
                f"pool.{stage}",
                "depthwise",
                G=c,
                P=side,
                Q=side if two else 1,
                R=3,
                S=3 if two else 1,
                count=macro.cells,
            )
        )
    last = macro.width * 2 ** (macro.stages - 1)
    fixed.append(Layer("classifier", "gemm", P=1, K=macro.classes, C=last))
    result = {"fixed": Network(f"{macro.name}-fixed", fixed)}
    return result | {name: Network(f"{macro.name}-{name}", layers) for name, layers in ops.items()}


def added_words(macro: Macro) -> int:
    """Words of one addition in every stage: c x positions x cells, summed over stages."""
    return sum(macro.cells * macro.width * 2**stage * macro.positions(stage) for stage in range(macro.stages))


def term_counts(rows: ArrayLike) -> NDArray[np.int64]:
    """How often each term occurs in cells given as operation rows ``(n, 6)``; int64 ``(n, 5)``, the first column 1."""
    array = np.asarray(rows, dtype=np.int64)
    ends = np.array([j for _, j in cells.EDGES])
    used = array != cells.OPERATIONS.index("none")
    additions = sum(np.maximum(used[:, ends == node].sum(axis=1) - 1, 0) for node in (1, 2, 3))
    counts = [np.ones(len(array), dtype=np.int64)]
    counts += [(array == cells.OPERATIONS.index(name)).sum(axis=1) for name in TERMS[1:4]]
    return np.stack([*counts, np.asarray(additions)], axis=1)


def whole_network(macro: Macro, row: ArrayLike) -> Network:
    """All layers of one cell's network (without the additions): what the sum of the terms has to equal."""
    networks, counts = term_networks(macro), term_counts(np.atleast_2d(row))[0]
    layers = [
        Layer(**{**vars(layer), "name": f"{term}.{i}.{layer.name}"})
        for term, count in zip(TERMS[:4], counts, strict=False)
        for i in range(count)
        for layer in networks[term].layers
    ]
    return Network(f"{macro.name}-cell", layers)
