"""How good the mapper is: its energy-delay product against the exhaustive optimum of small layers on small hardware.

``python tools/mapper_quality.py [PAIRS] [SEED]`` draws random pairs (convolutions, pointwise, depthwise and strided ones,
matrix products; arrays of 2 to 24 elements with small buffers), searches each with the default effort and exhaustively,
and prints the shares. The exhaustive search tries every placement of every factor at the seven places and all loop orders
of ``archgym/simulators/accelerator/kernels/mapper.py``, and leaves out only what a lower bound excludes.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archgym.networks.layers import DIMS, Layer, gemm
from archgym.simulators.accelerator import hardware as h
from archgym.simulators.accelerator import mapper
from archgym.simulators.accelerator.components import technology
from archgym.simulators.accelerator.kernels import mapper as kernel


def _divisors(n: int) -> list[int]:
    return [v for v in range(1, n + 1) if n % v == 0]


def _splits(n: int, parts: int) -> list[tuple[int, ...]]:
    """Ordered factorisations of n into ``parts`` factors."""
    if parts == 1:
        return [(n,)]
    return [(v, *rest) for v in _divisors(n) for rest in _splits(n // v, parts - 1)]


_TIME_PLACES = np.array([kernel.DRAM, kernel.GLB, kernel.IFMAP, kernel.WEIGHT, kernel.PSUM])


def _tables(bounds: tuple[int, ...]) -> tuple[NDArray[np.int64], ...]:
    """Splits of every dim over (columns, rows, rest), and of every rest over the places in time."""
    space, space_start, time, time_start = [], [0], [], [0]
    row_of: list[int] = []
    for d, bound in enumerate(bounds):
        begin: dict[int, int] = {}
        for x, y, rest in _splits(bound, 3):
            if rest not in begin:
                begin[rest] = len(time_start) - 1
                for split in _splits(rest, 5):
                    # A reduction loop inside the partial sums does what it does inside the weights.
                    if d in (kernel.C, kernel.R, kernel.S) and split[4] > 1:
                        continue
                    time.append(split)
                time_start.append(len(time))
            space.append((x, y))
            row_of.append(begin[rest])
        space_start.append(len(space))
    return tuple(np.array(v, dtype=np.int64) for v in (space, space_start, row_of, time, time_start))


@njit(cache=True, error_model="numpy")
def _lower_bound(layer, hw, used, objective):  # type: ignore[no-untyped-def]
    """No mapping on ``used`` elements has a smaller objective: every operand is read once a MAC, every word of a
    tensor crosses every level that keeps it at least once."""
    macs = 1
    for d in range(kernel.DIMS):
        macs *= layer[d]
    compute = macs // used
    outputs = layer[kernel.N] * layer[kernel.K] * layer[kernel.P] * layer[kernel.Q] * layer[kernel.G]
    weights = layer[kernel.K] * layer[kernel.C] * layer[kernel.R] * layer[kernel.S] * layer[kernel.G]
    least = min(compute, outputs)
    energy = macs * hw[h.MAC_PJ] + used * (
        compute / hw[h.BLOCK_I] * hw[h.READ_I]
        + compute / hw[h.BLOCK_W] * hw[h.READ_W]
        + (compute - least) / hw[h.BLOCK_O] * hw[h.READ_O]
        + compute / hw[h.BLOCK_O] * hw[h.WRITE_O]
    )
    energy += weights / hw[h.BLOCK_D] * hw[h.READ_D] + outputs / hw[h.BLOCK_D] * hw[h.WRITE_D]
    energy += outputs / hw[h.BLOCK_G] * hw[h.WRITE_G]
    if objective == kernel.ENERGY:
        return energy
    if objective == kernel.DELAY:
        return float(compute)
    return energy * compute


@njit(cache=True, error_model="numpy")
def exhaustive(  # type: ignore[no-untyped-def]
    layer, hw, objective, incumbent, space, space_start, row_of, time, time_start, places
):
    """The best objective over all mappings, given that ``incumbent`` is reached; infinite where nothing fits."""
    dims = kernel.DIMS
    f = np.ones((kernel.PLACES, dims), np.int64)
    o = np.zeros(4, np.int64)
    o[3] = 2
    out, room = np.empty(2), np.empty((2, dims), np.int64)
    best = incumbent
    at = np.zeros(2 * dims, np.int64)
    depth = 0
    at[0] = space_start[0]
    while depth >= 0:
        d = depth % dims
        if depth < dims:
            if at[depth] >= space_start[d + 1]:
                f[kernel.COLUMN, d] = 1
                f[kernel.ROW, d] = 1
                depth -= 1
                continue
            choice = at[depth]
            at[depth] += 1
            f[kernel.COLUMN, d] = space[choice, 0]
            f[kernel.ROW, d] = space[choice, 1]
            x, y = 1, 1
            for e in range(dims):
                x *= f[kernel.COLUMN, e]
                y *= f[kernel.ROW, e]
            if x > hw[h.MESH_X] or y > hw[h.MESH_Y]:
                continue
            if depth == dims - 1 and _lower_bound(layer, hw, x * y, objective) >= best:
                continue
            depth += 1
            if depth < dims:
                at[depth] = space_start[depth]
            else:
                at[depth] = time_start[row_of[at[0] - 1]]
            continue
        row = row_of[at[d] - 1]
        if at[depth] >= time_start[row + 1]:
            for place in places:
                f[place, d] = 1
            depth -= 1
            continue
        choice = at[depth]
        at[depth] += 1
        for k in range(5):
            f[places[k], d] = time[choice, k]
        if not kernel._fits(layer, f, hw, room):
            continue
        if depth < 2 * dims - 1:
            depth += 1
            at[depth] = time_start[row_of[at[d + 1] - 1]]
            continue
        turns_dram, turns_glb, turns_pe = 0, 0, 0
        for e in range(dims):
            turns_dram += f[kernel.DRAM, e] > 1
            turns_glb += f[kernel.GLB, e] > 1
            turns_pe += f[kernel.IFMAP, e] > 1
        for a in range(8 if turns_dram > 1 else 1):
            for b in range(8 if turns_glb > 1 else 1):
                for c in range(0, 4 if turns_pe > 1 else 1, 2):
                    o[0], o[1], o[2] = a, b, c
                    value = kernel.cost(layer, f, o, hw, objective, np.inf, room, out)
                    if value < best:
                        best = value
    return best


@dataclass(frozen=True)
class Pair:
    """One comparison: objectives of the mapper and of the exhaustive search, infinite where nothing fits."""

    layer: Layer
    hardware: NDArray[np.float64]
    mapper: float
    optimum: float

    @property
    def ratio(self) -> float:
        if math.isinf(self.optimum):
            return 1.0 if math.isinf(self.mapper) else float("nan")
        return self.mapper / self.optimum


def random_pair(rng: np.random.Generator) -> tuple[Layer, NDArray[np.float64]]:
    """A small layer and small hardware."""

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    kind = int(rng.integers(5))
    if kind == 0:
        layer = gemm("gemm", pick(4, 6, 8, 12), pick(4, 8, 9, 12), pick(4, 6, 8, 16))
    elif kind == 1:
        layer = Layer("pointwise", K=pick(4, 6, 8), C=pick(3, 4, 8), P=pick(3, 4, 6), Q=pick(2, 4, 7))
    elif kind == 2:
        layer = Layer("depthwise", "depthwise", G=pick(4, 6, 8), P=pick(4, 6, 7), Q=pick(2, 4, 6), R=3, S=pick(1, 3))
    else:
        stride = pick(1, 1, 2)
        layer = Layer(
            "conv", K=pick(2, 4, 6), C=pick(2, 3, 4), P=pick(2, 4, 6), Q=pick(1, 2, 4), R=pick(1, 3), S=pick(2, 3),
            stride_p=stride, stride_q=stride,
        )  # fmt: skip
    library = technology("accelergy-45nm")
    mesh_x, mesh_y = pick(1, 2, 3, 4), pick(1, 2, 3, 4, 6)
    values = {
        "num_pes": mesh_x * mesh_y,
        "mac_mesh_x": mesh_x,
        "dummy_buffer_class": "regfile",
        "dummy_buffer_depth": 2,
        "dummy_buffer_block": 1,
        "shared_glb_class": pick_name(rng),
        "shared_glb_depth": pick(8, 16, 32, 64, 128),
        "shared_glb_block": pick(1, 2, 4),
        "shared_glb_n_banks": 16,
        "shared_glb_read_bw": pick(2, 4, 8, 16),
        "shared_glb_write_bw": pick(2, 4, 8, 16),
    }
    for name, depths in (("ifmap_spad", (2, 4, 8, 16)), ("weights_spad", (2, 8, 16, 64)), ("psum_spad", (2, 4, 8, 16))):
        values |= {
            f"{name}_class": pick_name(rng),
            f"{name}_depth": pick(*depths),
            f"{name}_block": pick(1, 2),
            f"{name}_read_bw": 2,
            f"{name}_write_bw": 2,
        }
    table, _ = h.hardware_table({name: np.array([value]) for name, value in values.items()}, library)
    return layer, table[0]


def pick_name(rng: np.random.Generator) -> str:
    """A storage class."""
    return str(rng.choice(h.CLASSES))


def compare(pairs: int, seed: int = 0, effort: str = "effort2") -> list[Pair]:
    """Search ``pairs`` random pairs with the mapper and exhaustively."""
    rng = np.random.default_rng(seed)
    result = []
    code = mapper.goal_code("edp")
    cache = mapper.OptionCache()
    out, room = np.empty(2), np.empty((2, 8), np.int64)
    for _ in range(pairs):
        layer, row = random_pair(rng)
        one = np.zeros(1, np.int64)
        found = mapper.find_mappings([layer], row[None], one, one, effort=mapper.EFFORTS[effort], cache=cache)
        numbers = mapper.layer_row(layer)
        ours = math.inf
        if found.found[0]:
            ours = kernel.cost(numbers, found.factors[0], found.orders[0], row, code, np.inf, room, out)
        best = exhaustive(numbers, row, code, ours, *_tables(layer.bounds), _TIME_PLACES)
        result.append(Pair(layer, row, ours, best))
    return result


def report(pairs: list[Pair]) -> str:
    """The comparison in lines of text."""
    ratio = np.array([pair.ratio for pair in pairs])
    known = ratio[~np.isnan(ratio)]
    lines = [
        f"pairs                      {len(pairs)}",
        f"within 5 % of the optimum  {np.mean(ratio <= 1.05):.1%}",
        f"at the optimum             {np.mean(ratio <= 1 + 1e-9):.1%}",
        f"geometric mean ratio       {math.exp(np.log(known).mean()):.4f}",
        f"worst ratio                {known.max():.3f}",
        f"feasibility differs        {int(np.isnan(ratio).sum())}",
    ]
    for pair in sorted(pairs, key=lambda p: -p.ratio)[:5]:
        if pair.ratio > 1.01:
            sizes = " ".join(f"{d}{b}" for d, b in zip(DIMS, pair.layer.bounds, strict=True) if b > 1)
            lines.append(f"  {pair.ratio:.3f}  {pair.layer.name} {sizes}")
    return "\n".join(lines)


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    print(report(compare(arguments[0] if arguments else 200, arguments[1] if len(arguments) > 1 else 0)))
