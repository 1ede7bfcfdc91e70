"""The mapper: the best mapping of every layer on every hardware, found deterministically in about a millisecond.

A mapping of the row-stationary hierarchy (:mod:`.hardware`) places the prime factors of every loop bound at seven
places - main memory, global buffer, columns and rows of the array, and the three scratchpads - and orders the loops of
each place. See :func:`find_mappings` for the search; its compiled core is :mod:`.kernels.mapper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from archgym.errors import UnknownNameError
from archgym.networks.layers import DIMS, Layer
from archgym.simulators.accelerator import hardware
from archgym.simulators.accelerator.loopnest import (
    AXES,
    Batch,
    BatchResult,
    LevelMapping,
    Loop,
    Mapping,
    Problem,
    evaluate_batch,
)
from archgym.threads import run_blocks

Goal = Literal["energy", "delay", "edp"]
GOALS: tuple[Goal, ...] = ("energy", "delay", "edp")

LEVELS = 6
_LEVEL_OF_PLACE = np.array([0, 1, 1, 2, 3, 4, 5])
_AXIS_OF_PLACE = np.array([0, 0, 1, 2, 0, 0, 0])
KEEP = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)
"""Which of W, I, O every level keeps: weights bypass the global buffer, every scratchpad has one tensor."""


def layer_row(layer: Layer) -> NDArray[np.int64]:
    """A layer as the kernel reads it: bounds, strides, dilations; int64 ``(12,)``."""
    return np.array([*layer.bounds, layer.stride_p, layer.stride_q, layer.dilation_r, layer.dilation_s], dtype=np.int64)


@dataclass(frozen=True)
class Mappings:
    """n mappings as factors ``(n, 7, 8)`` and orders ``(n, 4)``; where ``found`` is False nothing fits."""

    factors: NDArray[np.int64]
    orders: NDArray[np.int64]
    found: NDArray[np.bool_]

    def batch(self) -> Batch:
        """The loops for the general model."""
        from archgym.simulators.accelerator.kernels.mapper import ORDERS

        n, width = len(self.factors), 7 * len(DIMS)
        dims = np.tile(np.arange(len(DIMS), dtype=np.int8), (n, 7, 1))
        for place, slot in ((0, 0), (1, 1), (4, 2), (5, 3)):
            dims[:, place] = ORDERS[self.orders[:, slot]][:, ::-1]
        count = np.take_along_axis(self.factors, dims.astype(np.int64), axis=2)
        level = np.broadcast_to(_LEVEL_OF_PLACE[:, None], (n, 7, len(DIMS))).reshape(n, width)
        axis = np.broadcast_to(_AXIS_OF_PLACE[:, None], (n, 7, len(DIMS))).reshape(n, width)
        return Batch(dims.reshape(n, width), count.reshape(n, width), level, axis)

    def mapping(self, index: int) -> Mapping:
        """One of them as an object."""
        from archgym.simulators.accelerator.kernels.mapper import ORDERS

        levels: list[LevelMapping] = []
        names = ("W", "I", "O")
        slots = {0: 0, 1: 1, 4: 2, 5: 3}
        for level in range(LEVELS):
            loops = []
            for place in np.flatnonzero(level == _LEVEL_OF_PLACE).tolist():
                order = ORDERS[self.orders[index, slots[place]]][::-1] if place in slots else range(len(DIMS))
                space = AXES[_AXIS_OF_PLACE[place]]
                loops += [
                    Loop(DIMS[d], int(self.factors[index, place, d]), space)
                    for d in order
                    if self.factors[index, place, d] > 1
                ]
            levels.append(
                LevelMapping(tuple(loops), frozenset(n for n, k in zip(names, KEEP[level], strict=True) if k))
            )
        return Mapping(tuple(levels))


def stack_rows(table: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Rows of the mapper's hardware table as arrays of the general model; see ``hardware.architecture``."""
    n = len(table)
    h = hardware

    def pick(*columns: int) -> NDArray[np.float64]:
        return table[:, columns]

    x, y = table[:, h.MESH_X].astype(np.int64), table[:, h.MESH_Y].astype(np.int64)
    one = np.ones(n, np.int64)
    capacity = np.full((n, LEVELS), -1, np.int64)
    capacity[:, [1, 3, 4, 5]] = pick(h.CAP_G, h.CAP_I, h.CAP_W, h.CAP_O)
    block = np.ones((n, LEVELS), np.int64)
    block[:, [0, 1, 3, 4, 5]] = pick(h.BLOCK_D, h.BLOCK_G, h.BLOCK_I, h.BLOCK_W, h.BLOCK_O)
    bandwidth = np.full((n, LEVELS, 3), np.inf)
    energies = np.zeros((n, LEVELS, 3))
    for level, letter in ((0, "D"), (1, "G"), (3, "I"), (4, "W"), (5, "O")):
        bandwidth[:, level, 0] = table[:, getattr(h, f"BWR_{letter}")]
        bandwidth[:, level, 1] = table[:, getattr(h, f"BWW_{letter}")]
        energies[:, level, 0] = table[:, getattr(h, f"READ_{letter}")]
        energies[:, level, 1] = energies[:, level, 2] = table[:, getattr(h, f"WRITE_{letter}")]
    leak = np.zeros((n, LEVELS))
    leak[:, 1], leak[:, 2], leak[:, 3] = table[:, h.LEAK_G], table[:, h.LEAK_X], table[:, h.LEAK_PE]
    mesh = np.stack(
        [np.stack([mx, my], 1) for mx, my in ((one, one), (one, one), (x, one), (x, y), (x, y), (x, y), (x, y))], 1
    )
    payers = mesh[:, :LEVELS].prod(axis=2)
    return {
        "capacity": capacity,
        "mesh": np.ascontiguousarray(mesh),
        "bandwidth": bandwidth,
        "block": block,
        "payers": payers,
        "energies": energies,
        "leak": leak,
        "compute_pj": np.ascontiguousarray(table[:, h.MAC_PJ]),
    }


def evaluate_mappings(
    mappings: Mappings,
    layers: Sequence[Layer],
    table: NDArray[np.float64],
    layer_of: NDArray[np.int64],
    hardware_of: NDArray[np.int64],
) -> BatchResult:
    """Energy and cycles of mappings by the general loop-nest model."""
    problems = [Problem.from_layer(layer) for layer in layers]
    return evaluate_batch(
        problems, stack_rows(table), mappings.batch(), KEEP[None], problem_of=layer_of, architecture_of=hardware_of
    )


def goal_code(goal: str) -> int:
    """Number of a goal."""
    if goal not in GOALS:
        raise UnknownNameError("goal of the mapper", goal, GOALS)
    return GOALS.index(goal)


@dataclass(frozen=True)
class Effort:
    """How hard the mapper searches.

    Attributes:
        widest: most spatial factorisations a layer and mesh that are looked at.
        least_share: one has to use at least this share of the elements that the best one uses.
        options: how many of them, ranked on sample hardware, are tried on the hardware itself.
        starts: how many of the filled-in mappings are improved by single moves.
        finals: how many of those are improved by pairs of moves.
    """

    widest: int
    least_share: float
    options: int
    starts: int
    finals: int


EFFORTS = {
    "effort1": Effort(96, 0.5, 6, 2, 1),
    "effort2": Effort(192, 0.4, 24, 16, 6),
    "effort3": Effort(512, 0.25, 128, 128, 128),
}
_CHUNK = 8192
_SMALL = 12
_SMALL_EFFORT = Effort(512, 0.2, 96, 96, 96)
"""Layers with at most ``_SMALL`` prime factors are searched at least this hard: it costs next to nothing there."""

#: Sample hardware on which spatial options are ranked: words of the input, weight and partial-sum scratchpads and of
#: the global buffer, from tiny to ample. Energies and bandwidths are middling values of the component library.
_SAMPLE_CAPACITIES = ((16, 64, 16, 16384), (256, 1024, 64, 65536), (4096, 16384, 1024, 131072), (16, 4096, 256, 4096))


def _samples() -> NDArray[np.float64]:
    h = hardware
    row = np.zeros(h.COLUMNS)
    row[[h.BLOCK_I, h.BLOCK_W, h.BLOCK_O]], row[[h.BLOCK_G, h.BLOCK_D]] = 1, 4
    for read, write, energy in (
        (h.READ_I, h.WRITE_I, 0.3),
        (h.READ_W, h.WRITE_W, 1.0),
        (h.READ_O, h.WRITE_O, 0.4),
        (h.READ_G, h.WRITE_G, 32.0),
        (h.READ_D, h.WRITE_D, 512.0),
    ):
        row[[read, write]] = energy
    row[[h.BWR_I, h.BWW_I, h.BWR_W, h.BWW_W, h.BWR_O, h.BWW_O]] = 4
    row[[h.BWR_G, h.BWW_G]], row[[h.BWR_D, h.BWW_D]], row[h.MAC_PJ] = 8, np.inf, 0.3
    result = np.tile(row, (len(_SAMPLE_CAPACITIES), 1))
    result[:, [h.CAP_I, h.CAP_W, h.CAP_O, h.CAP_G]] = _SAMPLE_CAPACITIES
    return result


class OptionCache:
    """Ranked spatial options by (layer, mesh, effort), the least recently used dropped first. What is in it never
    changes a result: it only saves computing the same options again. Threads may share it, without a lock that a fork
    could inherit: each answers with what it saw or computed itself."""

    def __init__(self, most: int = 16384) -> None:
        self._most = most
        self._known: dict[tuple[Any, ...], NDArray[np.int64]] = {}

    def get(self, layers: NDArray[np.int64], keys: NDArray[np.int64], effort: Effort) -> list[NDArray[np.int64]]:
        """Options ``(n, 2, 8)`` of every key (layer, columns, rows) in ``keys (k, 3)``."""
        from archgym.simulators.accelerator.kernels import mapper as kernel

        names = [(layers[i].tobytes(), int(x), int(y), effort) for i, x, y in keys]
        seen = [self._known.get(name) for name in names]
        missing = [j for j, options in enumerate(seen) if options is None]
        new: dict[tuple[Any, ...], NDArray[np.int64]] = {}
        for start in range(0, len(missing), 512):
            part = missing[start : start + 512]
            sets = np.empty((len(part), effort.options, 2, len(DIMS)), np.int64)
            sizes = np.empty(len(part), np.int64)
            run_blocks(
                kernel.option_sets, len(part), 4,
                layers, keys[part], _samples(), kernel.EDP, effort.widest, effort.least_share, effort.options, sets, sizes,
            )  # fmt: skip
            new.update((names[j], sets[i, : sizes[i]].copy()) for i, j in enumerate(part))
        found = [new[name] if options is None else options for name, options in zip(names, seen, strict=True)]
        for name, options in zip(names, found, strict=True):
            self._known.pop(name, None)
            self._known[name] = options
        if (excess := len(self._known) - self._most) > 0:
            for name in list(self._known)[:excess]:
                self._known.pop(name, None)
        return found


OPTIONS = OptionCache()
"""Of all simulators of this process: to make a problem again, or an environment of it, costs a quarter then."""


def find_mappings(
    layers: Sequence[Layer],
    table: NDArray[np.float64],
    layer_of: NDArray[np.int64],
    hardware_of: NDArray[np.int64],
    *,
    goal: Goal = "edp",
    effort: Effort = EFFORTS["effort2"],
    cache: OptionCache | None = None,
) -> Mappings:
    """The best mapping found for every row: layer ``layer_of[i]`` on hardware ``table[hardware_of[i]]``.

    The search starts from spatial factorisations (at most two dims along each side of the array) that rank high on
    sample hardware; this ranking is the only thing that is kept from one call to the next. Each is filled in by
    templates that take dims into the scratchpads and the global buffer as far as they fit, and improved by moving prime
    factors between places, by other loop orders, and by pairs of moves.

    Deterministic: no random numbers, no clock, ties by order of enumeration; every row is searched by itself, so that
    results do not depend on the batch or on the number of threads.
    """
    cache = OptionCache() if cache is None else cache
    if effort.starts < _SMALL_EFFORT.starts:
        small = np.array([sum(map(_prime_factors, layer.bounds)) <= _SMALL for layer in layers])[layer_of]
        if small.any():
            result = Mappings(np.ones((len(small), 7, len(DIMS)), np.int64), np.zeros((len(small), 4), np.int64), small)
            for chosen, hard in ((small, _SMALL_EFFORT), (~small, effort)):
                part_of = np.flatnonzero(chosen)
                if len(part_of):
                    # Rows of the other kind are left out, so that this happens once.
                    found = _search(layers, table, layer_of[part_of], hardware_of[part_of], goal, hard, cache)
                    result.factors[part_of], result.orders[part_of] = found.factors, found.orders
                    result.found[part_of] = found.found
            return result
    return _search(layers, table, layer_of, hardware_of, goal, effort, cache)


def _prime_factors(n: int) -> int:
    """How many prime factors a number has, repeats counted."""
    count, factor = 0, 2
    while n > 1:
        if factor * factor > n:
            return count + 1
        while n % factor == 0:
            n //= factor
            count += 1
        factor += 1
    return count


def _search(
    layers: Sequence[Layer],
    table: NDArray[np.float64],
    layer_of: NDArray[np.int64],
    hardware_of: NDArray[np.int64],
    goal: Goal,
    effort: Effort,
    cache: OptionCache,
) -> Mappings:
    """:func:`find_mappings` with one effort for all rows."""
    from archgym.simulators.accelerator.kernels import mapper as kernel

    rows = np.stack([layer_row(layer) for layer in layers])
    n = len(layer_of)
    factors = np.ones((n, 7, len(DIMS)), np.int64)
    orders = np.zeros((n, 4), np.int64)
    best = np.full(n, np.inf)
    mesh = table[:, [hardware.MESH_X, hardware.MESH_Y]].astype(np.int64)
    for start in range(0, n, _CHUNK):
        part = slice(start, min(start + _CHUNK, n))
        y, h = layer_of[part], hardware_of[part]
        keys, options_of = np.unique(np.column_stack([y, mesh[h]]), axis=0, return_inverse=True)
        sets = cache.get(rows, keys, effort)
        starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
        run_blocks(
            kernel.search_rows, len(y), 32,
            rows, np.concatenate(sets), starts, table, y, options_of.reshape(-1), h, goal_code(goal), effort.starts,
            effort.finals, factors[part], orders[part], best[part],
        )  # fmt: skip
    return Mappings(factors, orders, np.isfinite(best))
