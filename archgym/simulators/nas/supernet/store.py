"""The store of a supernet: one flat vector that holds the weights of every operation on every edge.

A cell takes its network's parameters out of it by an index: the concatenation of the cell's blocks in the order of
:func:`archgym.simulators.nas.trainer.layer_shapes`, which is the order of the compiled kernels. So a gradient of the
cell's network is a gradient of the store at that index, and nothing else of the store moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.trainer import initial_parameters, layer_shapes

CONVOLUTIONS = (cells.CONV1, cells.CONV3)


class Store:
    """Where the weights lie.

    Attributes:
        size: floats of the store.
        edge: int64 ``(size,)``: to which edge a weight belongs, -1 where every cell shares it.
    """

    def __init__(self, macro_name: str) -> None:
        self.macro_name = macro_name
        skeleton = macro(macro_name)
        # Every block in order: the shared ones once, and the two convolutions of every edge one after the other.
        self._shared: list[tuple[int, int]] = []
        self._own: dict[tuple[int, int, int], tuple[int, int]] = {}
        edges: list[NDArray[np.int64]] = []
        at = 0

        def block(size: int, edge: int) -> tuple[int, int]:
            nonlocal at
            edges.append(np.full(size, edge, dtype=np.int64))
            at += size
            return at - size, at

        per_cell = skeleton.cells
        for place, sizes in enumerate(_shared_sizes(macro_name)):
            self._shared.append(block(sizes, -1))
            if place == skeleton.stages:
                break
            channels = skeleton.width * 2**place
            for repeat in range(per_cell):
                for edge in range(6):
                    for op in CONVOLUTIONS:
                        taps = 1 if op == cells.CONV1 else skeleton.kernel_area
                        key = (place * per_cell + repeat, edge, op)
                        self._own[key] = block(taps * channels**2 + 2 * channels, edge)
        self.size, self.edge = at, np.concatenate(edges)
        self._index: dict[int, NDArray[np.int64]] = {}

    def index(self, code: int) -> NDArray[np.int64]:
        """Where the parameters of a cell's network lie, in the network's order; remembered."""
        found = self._index.get(code)
        if found is not None:
            return found
        skeleton = macro(self.macro_name)
        ops = cells.rows(code).tolist()
        parts = [self._shared[0]]
        for stage in range(skeleton.stages):
            for repeat in range(skeleton.cells):
                cell = stage * skeleton.cells + repeat
                parts += [self._own[cell, edge, op] for edge, op in enumerate(ops) if op in CONVOLUTIONS]
            parts.append(self._shared[stage + 1])
        result = np.concatenate([np.arange(first, last) for first, last in parts])
        self._index[code] = result
        return result

    def block(self, cell: int, edge: int, op: int) -> tuple[int, int]:
        """First and last position (exclusive) of a convolution's block: weights, scale, shift."""
        return self._own[cell, edge, op]

    def initial(self, seed: int) -> NDArray[np.float32]:
        """Initial weights, float32 ``(size,)``, distributed as those of single networks: the networks of the cell of
        1x1 and of the cell of 3x3 convolutions, which hold every block between them."""
        weights = np.empty(self.size, dtype=np.float32)
        for op in CONVOLUTIONS:
            code = int(cells.codes([op] * 6))
            weights[self.index(code)] = initial_parameters(code, seed, self.macro_name)
        return weights


def _shared_sizes(macro_name: str) -> list[int]:
    """Sizes of what lies before the first stage, between the stages and after the last."""
    skeleton = macro(macro_name)
    sizes = [math.prod(shape) for _, shape in layer_shapes([cells.SKIP] * 6, macro_name)]
    between = [sum(sizes[2 + 5 * k : 7 + 5 * k]) for k in range(skeleton.stages - 1)]
    return [sum(sizes[:2]), *between, sum(sizes[-3:])]


def live_codes(allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Codes of the live cells whose operations are all ``allowed`` (bool ``(6, 5)``), ascending."""
    table = cells.all_rows()
    inside = allowed[np.arange(6), table].all(-1) & ~cells.is_dead(table)
    return np.flatnonzero(inside).astype(np.int64)


def draw_cell(allowed: Sequence[Sequence[int]], rng: np.random.Generator) -> int:
    """A live cell with one operation an edge, each uniform over the edge's ``allowed`` ones."""
    while True:
        row = np.array([ops[int(rng.integers(len(ops)))] for ops in allowed])
        if not cells.is_dead(row):
            return int(cells.codes(row))


@dataclass
class Leaf:
    """One (sub-)supernet: the operations it holds, bool ``(6, 5)``, its weights and their momentum ``(size,)``."""

    allowed: NDArray[np.bool_]
    weights: NDArray[np.float32]
    velocity: NDArray[np.float32]

    @cached_property
    def choices(self) -> list[list[int]]:
        """Allowed operations of every edge."""
        return [np.flatnonzero(row).tolist() for row in self.allowed]

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Its live cells."""
        return live_codes(self.allowed)
