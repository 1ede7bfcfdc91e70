"""Convolutions of one to three axes as layers, by the shapes of their tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from archgym.networks.layers import Layer


def convolution_layer(
    name: str,
    inputs: Sequence[int],
    weight: Sequence[int],
    result: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    transposed: bool = False,
) -> Layer:
    """A convolution as a layer.

    Of three axes the one with the fewest taps is folded away: its outputs into the batch, its taps into the input channels,
    so that the products are those of a 2-D convolution on each slice. A transposed convolution is the product that makes
    every tap of every output channel at the size of its input, whose results are then added up where they overlap.

    Args:
        name: of the layer.
        inputs, result: batch, channels, sizes along the axes.
        weight: output channels, input channels a group, taps along the axes; input channels, output channels a group, taps
            where transposed.
        stride, dilation: one number, or one an axis.
    """
    axes = len(weight) - 2
    N = inputs[0]
    if transposed:
        channels, outputs = weight[0] // groups, weight[1]
        grid = [*inputs[2:]]
        return Layer(
            name, N=N * math.prod(grid[2:]), K=outputs * math.prod(weight[2:]), C=channels, P=grid[0],
            Q=grid[1] if axes > 1 else 1, G=groups,
        )  # fmt: skip
    channels, outputs = weight[1], weight[0] // groups
    out, taps = list(result[2:]), list(weight[2:])
    steps, holes = [*stride] * (axes if len(stride) == 1 else 1), [*dilation] * (axes if len(dilation) == 1 else 1)
    while len(taps) > 2:
        axis = taps.index(min(taps))
        N *= out.pop(axis)
        channels *= taps.pop(axis)
        steps.pop(axis)
        holes.pop(axis)
    for values in (out, taps, steps, holes):
        values += [1] * (2 - len(values))
    return Layer(
        name, "depthwise" if groups > 1 and channels == 1 else "conv", N=N, K=outputs, C=channels, P=out[0],
        Q=out[1], R=taps[0], S=taps[1], G=groups, stride_p=steps[0], stride_q=steps[1], dilation_r=holes[0],
        dilation_s=holes[1],
    )  # fmt: skip
