"""What an accelerator runs: layers with their loop bounds, and networks of them.

A layer is the loop nest ``O[n, g, k, p, q] += W[g, k, c, r, s] * I[n, g, c, sp*p + dr*r, sq*q + ds*s]``. K and C are
counted **per group** and G multiplies everything: a depthwise convolution of 32 channels has G = 32, K = C = 1. A
matrix product ``out[m, n] = sum_k A[m, k] B[k, n]`` is the layer with P = m, K = n, C = k and Q = R = S = 1; a batch
of independent products has G = batch. P pairs with R (stride_p, dilation_r), Q with S (stride_q, dilation_s).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.simulator import Workload

DIMS = ("N", "K", "C", "P", "Q", "R", "S", "G")
OPS = ("conv", "depthwise", "gemm", "bmm")
#: Columns of :attr:`Network.array`.
COLUMNS = (*DIMS, "stride_p", "stride_q", "dilation_r", "dilation_s", "count")


@dataclass(frozen=True)
class Layer:
    """One layer shape, with the number of times it occurs.

    Args:
        name: unique in its network.
        op: ``conv`` (any groups), ``depthwise`` (C = 1), ``gemm`` (Q = R = S = 1; G = 1) or ``bmm`` (G products).
        N, K, C, P, Q, R, S, G: batch, output channels a group, input channels a group, output rows and columns,
            filter rows and columns, groups; all at least 1.
        stride_p, stride_q, dilation_r, dilation_s: along rows and columns; at least 1.
        count: how often the shape occurs in the network.

    Raises:
        ArchGymError: one sentence that names the layer and the field.
    """

    name: str
    op: str = "conv"
    N: int = 1
    K: int = 1
    C: int = 1
    P: int = 1
    Q: int = 1
    R: int = 1
    S: int = 1
    G: int = 1
    stride_p: int = 1
    stride_q: int = 1
    dilation_r: int = 1
    dilation_s: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArchGymError(f"a layer's name is {self.name!r}; give it a non-empty text")
        if self.op not in OPS:
            raise UnknownNameError(f"op of layer {self.name!r}:", self.op, OPS)
        for column in COLUMNS:
            value = getattr(self, column)
            if isinstance(value, np.integer) or (isinstance(value, float) and value.is_integer()):
                value = int(value)
                object.__setattr__(self, column, value)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
                raise ArchGymError(
                    f"layer {quote(self.name)} has {column} = {quote(value, 40)}; expected a whole number from 1 on, below 2^31"
                )
        if self.op == "depthwise" and self.C != 1:
            raise ArchGymError(
                f"layer {self.name!r} is depthwise with C = {self.C} a group; give C = 1 and the channels as G"
            )
        if self.op in ("gemm", "bmm"):
            for column in ("Q", "R", "S"):
                if getattr(self, column) != 1:
                    raise ArchGymError(
                        f"layer {self.name!r} is a {self.op} with {column} = {getattr(self, column)}; "
                        f"a matrix product has Q = R = S = 1"
                    )
        if self.op == "gemm" and self.G != 1:
            raise ArchGymError(f"layer {self.name!r} is a gemm with G = {self.G}; use op 'bmm' for batched products")
        if self.macs >= 2**53:
            raise ArchGymError(f"layer {self.name!r} has {self.macs:.3g} MACs; at most 2**53 can be counted exactly")

    @property
    def bounds(self) -> tuple[int, ...]:
        """Loop bounds in the order of ``DIMS``."""
        return tuple(getattr(self, dim) for dim in DIMS)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one instance."""
        return math.prod(self.bounds)

    @property
    def input_rows(self) -> int:
        """Rows of the (padded) input that the filter touches."""
        return (self.P - 1) * self.stride_p + (self.R - 1) * self.dilation_r + 1

    @property
    def input_columns(self) -> int:
        """Columns of the (padded) input that the filter touches."""
        return (self.Q - 1) * self.stride_q + (self.S - 1) * self.dilation_s + 1

    @property
    def weight_words(self) -> int:
        return self.G * self.K * self.C * self.R * self.S

    @property
    def input_words(self) -> int:
        return self.G * self.N * self.C * self.input_rows * self.input_columns

    @property
    def output_words(self) -> int:
        return self.G * self.N * self.K * self.P * self.Q

    def with_batch(self, batch: int) -> Layer:
        """The layer for ``batch`` times the inputs. Batched products of activations get more groups, all others a
        larger N (their weights are shared)."""
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ArchGymError(f"batch is {batch!r}; expected a whole number from 1 on")
        return replace(self, G=self.G * batch) if self.op == "bmm" else replace(self, N=self.N * batch)


def conv(
    name: str,
    K: int,
    C: int,
    P: int,
    Q: int,
    R: int,
    S: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    N: int = 1,
    count: int = 1,
) -> Layer:
    """A convolution given by its **total** channels; ``groups`` must divide both. All channels grouped singly make it
    a depthwise convolution."""
    for value, what in ((K, "output channels K"), (C, "input channels C")):
        if groups < 1 or value % groups:
            raise ArchGymError(f"layer {name!r} has {value} {what} in {groups} groups; the groups must divide them")
    op = "depthwise" if groups > 1 and C == groups else "conv"
    return Layer(name, op, N, K // groups, C // groups, P, Q, R, S, groups, stride, stride, dilation, dilation, count)


def gemm(name: str, M: int, N: int, K: int, *, batch: int = 1, count: int = 1) -> Layer:
    """``batch`` matrix products ``out[M, N] = A[M, K] B[K, N]``."""
    return Layer(name, "gemm" if batch == 1 else "bmm", P=M, K=N, C=K, G=batch, count=count)


class Network(Workload):
    """Layers that run one after the other.

    Args:
        name, description: as in :class:`archgym.simulator.Workload`.
        layers: at least one; names must differ.
    """

    def __init__(self, name: str, layers: Iterable[Layer], description: str = "") -> None:
        super().__init__(name, description)
        self.layers: tuple[Layer, ...] = tuple(layers)
        if not self.layers:
            raise ArchGymError(f"network {name!r} has no layers; give at least one")
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise ArchGymError(f"network {name!r} has two layers named {layer.name!r}; names must differ")
            seen.add(layer.name)

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {len(self.layers)} shapes, {self.layer_count} layers, {self.macs:.4g} MACs)"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network, repeats included."""
        return sum(layer.macs * layer.count for layer in self.layers)

    @property
    def layer_count(self) -> int:
        """Layers with repeats."""
        return sum(layer.count for layer in self.layers)

    @property
    def weight_words(self) -> int:
        """Words of the second operand, repeats included."""
        return sum(layer.weight_words * layer.count for layer in self.layers)

    @cached_property
    def array(self) -> NDArray[np.int64]:
        """The shapes as int64 ``(layers, 13)``, columns as in ``COLUMNS``; read-only."""
        rows = np.array([[getattr(layer, column) for column in COLUMNS] for layer in self.layers], dtype=np.int64)
        rows.flags.writeable = False
        return rows

    def with_batch(self, batch: int) -> Network:
        """The network for ``batch`` inputs at once; the same object for 1."""
        if batch == 1:
            return self
        layers = [layer.with_batch(batch) for layer in self.layers]
        return Network(f"{self.name}@batch{batch}", layers, self.description)

    def merged(self) -> Network:
        """Equal shapes joined to one layer with their counts added, in order of first occurrence."""
        kept: dict[tuple[object, ...], Layer] = {}
        for layer in self.layers:
            key = (layer.op, *(getattr(layer, column) for column in COLUMNS[:-1]))
            known = kept.get(key)
            kept[key] = layer if known is None else replace(known, count=known.count + layer.count)
        return Network(self.name, kept.values(), self.description)

    @cached_property
    def _fingerprint(self) -> str:
        # The name is left out on purpose: equal content, equal fingerprint.
        content = [
            [getattr(layer, field.name) for field in fields(Layer) if field.name != "name"] for layer in self.layers
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def features(self) -> dict[str, float]:
        """Sizes on a log scale and shares of the MACs by kind, all of order 1."""
        macs = float(self.macs)
        inputs = sum(layer.input_words * layer.count for layer in self.layers)
        outputs = sum(layer.output_words * layer.count for layer in self.layers)

        def share(chosen: Sequence[Layer]) -> float:
            return sum(layer.macs * layer.count for layer in chosen) / macs

        words = float(self.weight_words + inputs + outputs)
        return {
            "log10_macs": math.log10(macs) / 10.0,
            "log10_weights": math.log10(self.weight_words) / 10.0,
            "log10_inputs": math.log10(inputs) / 10.0,
            "log10_outputs": math.log10(outputs) / 10.0,
            "log10_layers": math.log10(self.layer_count) / 2.0,
            "log10_macs_per_word": math.log10(macs / words) / 3.0,
            "share_depthwise": share([layer for layer in self.layers if layer.op == "depthwise"]),
            "share_gemm": share([layer for layer in self.layers if layer.op in ("gemm", "bmm")]),
            "share_pointwise": share(
                [
                    layer
                    for layer in self.layers
                    if layer.op == "conv" and layer.R == layer.S == 1 and layer.P * layer.Q > 1
                ]
            ),
        }
