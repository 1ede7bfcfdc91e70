"""The network of the differentiable searches: on every edge a weighted sum of all operations.

The value of an edge is the sum over operations of p[edge, op] * op(x). Candidate norms have no scale and no shift, which
would undo p. Weights are a plain list of tensors beside the network, so that one network serves several copies of them
(a step ahead, a slow copy, a snapshot). The convolutions of the edges that leave a node share one call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import macro

OUT_OF = tuple(tuple(e for e, (source, _) in enumerate(cells.EDGES) if source == node) for node in range(3))


class MixtureNetwork:
    """The skeleton of :class:`archgym.simulators.nas.network.CellNetwork` with a mixture on every edge.

    Args:
        macro_name: the skeleton.
        norm_all: give the skip and the pool a norm of their own, too (without it theirs is the one scale that is not
            normalised).
        partial: only one channel in so many enters the mixture, the rest pass by (PC-DARTS); 1 = all.

    Attributes:
        edge_of: for every weight tensor the edges that it belongs to, empty where all share it.
    """

    def __init__(self, macro_name: str, norm_all: bool = False, partial: int = 1) -> None:
        self.macro, self.norm_all, self.partial = macro(macro_name), norm_all, partial
        m = self.macro
        self._conv = F.conv2d if m.dimensions == 2 else F.conv1d
        self._pool = F.avg_pool2d if m.dimensions == 2 else F.avg_pool1d
        self.shapes: list[tuple[int, ...]] = []
        self.edge_of: list[tuple[int, ...]] = []
        area, point = (3,) * m.dimensions, (1,) * m.dimensions
        self._add((m.width, m.inputs, *area))
        self._norm_shapes(m.width)
        c = m.width
        for stage in range(m.stages):
            if stage:
                self._add((2 * c, c, *area))
                self._norm_shapes(2 * c)
                self._add((2 * c, 2 * c, *area))
                self._norm_shapes(2 * c)
                self._add((2 * c, c, *point))
                c *= 2
            for _ in range(m.cells):
                for edges in OUT_OF:
                    for kernel in (point, area):
                        self._add((len(edges) * (c // partial), c // partial, *kernel), edges)
        self._norm_shapes(c)
        self._add((m.classes, c))
        self._add((m.classes,))

    def _add(self, shape: tuple[int, ...], edges: tuple[int, ...] = ()) -> None:
        self.shapes.append(shape)
        self.edge_of.append(edges)

    def _norm_shapes(self, channels: int) -> None:
        self._add((channels,))
        self._add((channels,))

    def initial(self, seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Initial weights: convolutions Gaussian with variance 2 / fan-out, norms 1 and 0, the classifier uniform."""
        rng = np.random.default_rng([seed, 9])
        width = self.shapes[-2][1]
        result, scale = [], True
        for place, shape in enumerate(self.shapes):
            edges = self.edge_of[place]
            if place >= len(self.shapes) - 2:
                values = rng.uniform(-1.0, 1.0, shape) / math.sqrt(width)
            elif len(shape) == 1:
                values, scale = np.full(shape, 1.0 if scale else 0.0), not scale
            else:
                outputs = shape[0] // max(len(edges), 1)
                values = rng.normal(0.0, math.sqrt(2.0 / (outputs * math.prod(shape[2:]))), shape)
            result.append(torch.tensor(values, dtype=dtype, requires_grad=True))
        return result

    def logits(self, weights: Sequence[Tensor], x: Tensor, p: Tensor, b: Tensor | None = None) -> Tensor:
        """Logits ``(batch, classes)`` of inputs without or with a channel axis, under the mixture weights ``p``
        ``(6, 5)`` and the edge weights ``b`` ``(6,)`` (all 1 where None). Norms take the batch's moments."""
        m = self.macro
        if x.dim() == m.dimensions + 1:
            x = x[:, None]
        at = iter(weights)
        x = _norm(self._conv(x, next(at), padding=1), next(at), next(at))
        for stage in range(m.stages):
            if stage:
                main = _norm(self._conv(torch.relu(x), next(at), stride=2, padding=1), next(at), next(at))
                main = _norm(self._conv(torch.relu(main), next(at), padding=1), next(at), next(at))
                x = self._conv(self._pool(x, 2, 2, ceil_mode=True, count_include_pad=False), next(at)) + main
            for _ in range(m.cells):
                x = self._cell(x, [next(at) for _ in range(6)], p, b)
        x = torch.relu(_norm(x, next(at), next(at))).flatten(2).mean(-1)
        return F.linear(x, next(at), next(at))

    def _cell(self, x: Tensor, weights: list[Tensor], p: Tensor, b: Tensor | None) -> Tensor:
        nodes: list[Tensor] = [x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)]
        entering = x.shape[1] // self.partial
        # Nobody asks for the gradient of a weight of 0 where the weights have none: its operation need not be computed.
        needed = np.ones((6, 5), dtype=bool) if p.requires_grad else (p != 0).numpy()
        for source, edges in enumerate(OUT_OF):
            value = nodes[source]
            inside = value[:, :entering]
            active = torch.relu(inside)
            point, wide = weights[2 * source], weights[2 * source + 1]
            ones = self._outputs(active, point, edges, needed[:, cells.CONV1])
            threes = self._outputs(active, wide, edges, needed[:, cells.CONV3])
            pooled = self._pool(inside, 3, 1, 1, count_include_pad=False)
            skipped = inside
            if self.norm_all:
                pooled, skipped = _plain_norm(pooled), _plain_norm(skipped)
            for k, edge in enumerate(edges):
                found = {cells.SKIP: skipped, cells.CONV1: ones.get(k), cells.CONV3: threes.get(k), cells.POOL: pooled}
                parts = [p[edge, op] * value for op, value in found.items() if value is not None and needed[edge, op]]
                mixed = sum(parts[1:], parts[0]) if parts else torch.zeros_like(inside)
                if self.partial > 1:
                    mixed = _shuffled(torch.cat([mixed, value[:, entering:]], dim=1), self.partial)
                if b is not None:
                    mixed = b[edge] * mixed
                target = cells.EDGES[edge][1]
                nodes[target] = nodes[target] + mixed
        return nodes[3]

    def _outputs(
        self, x: Tensor, weight: Tensor, edges: tuple[int, ...], needed: NDArray[np.bool_]
    ) -> dict[int, Tensor]:
        """A convolution's normalised outputs on the ``edges`` that need it, by place among them, in one call."""
        kept = [k for k, edge in enumerate(edges) if needed[edge]]
        if not kept:
            return {}
        each = weight.shape[0] // len(edges)
        if len(kept) < len(edges):
            weight = torch.cat([weight[k * each : (k + 1) * each] for k in kept])
        found = _plain_norm(self._conv(x, weight, padding=weight.shape[-1] // 2)).split(each, dim=1)
        return dict(zip(kept, found, strict=True))


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, scale, shift, True, 0.1, 1e-5)


def _plain_norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, None, None, True, 0.1, 1e-5)


def _shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels dealt out anew, so that others enter the mixture next (ShuffleNet's channel shuffle)."""
    n, c, *rest = x.shape
    return x.view(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)
