"""The loop-nest model: access counts, energy, cycles and area of a mapped tensor operation, by closed forms.

An operation (:class:`Problem`) is a perfect loop nest over named dims whose tensors are projections of the dims. An
architecture (:class:`Architecture`) is a list of storage levels, outermost (main memory) first, and an array of
multiply-accumulate units (MACs). A mapping (:class:`Mapping`) puts loops below every level, in time or in space, and
says which tensors each level keeps.

The access rules are those of Timeloop (Parashar et al., ISPASS 2019) as of 2025, without its transfers between
neighbouring instances. Three rules say which words of a sliding tile stay (``rule``):

* ``"current"``: Timeloop after its pull request 297. A step's translation is taken between the first and second
  position of every loop, and stands for all further ones.
* ``"pre297"``: Timeloop before; an irrelevant loop inside the sliding loop destroys the reuse.
* ``"ideal"``: every tile is compared with the one actually visited before it, and only the words that are new are
  delivered. This is the least traffic a buffer that holds exactly one tile can have in the given order, and the
  right rule for hardware that keeps whatever overlaps.

Imperfect factors: the product of a dim's factors may exceed its bound; the nest then runs on the padded bound, the
padding is paid as work, and :attr:`Result.macs` against :attr:`Result.padded_macs` tells how much it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.networks.layers import DIMS, Layer
from archgym.threads import run_blocks

Rule = Literal["current", "pre297", "ideal"]
Axis = Literal["", "X", "Y"]
AXES: tuple[Axis, ...] = ("", "X", "Y")
"""Where a loop runs: in time, or in space along X or Y; by the kernels' number."""
RULES: tuple[Rule, ...] = ("current", "pre297", "ideal")
VIOLATIONS = ("", "factor_below_one", "bound_not_covered", "fanout_x", "fanout_y", "capacity")
"""Names of the verdicts of the kernels, in their order."""
_MAX_WORK = 2**53
LOOP_TYPES = (np.int8, np.int64, np.int8, np.int8)
"""Types of the loop arrays ``dim, count, level, axis``: small, because a batch is read once."""


def rule_code(rule: str) -> int:
    """Number of a rule; ``halo="timeloop"`` of older texts is ``"current"``."""
    if rule == "timeloop":
        rule = "current"
    if rule not in RULES:
        raise UnknownNameError("rule", rule, RULES)
    return RULES.index(rule)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a problem.

    Args:
        name: unique in its problem.
        axes: one entry an axis: the terms ``(dim, coefficient)`` whose sum is the coordinate; coefficients >= 1.
        read_write: True for the result, which is read, added to and written back.
    """

    name: str
    axes: tuple[tuple[tuple[str, int], ...], ...]
    read_write: bool = False


@dataclass(frozen=True)
class Problem:
    """A tensor operation: dims with their bounds, and tensors.

    Args:
        dims: names of the loop dims.
        bounds: trip count of each, >= 1.
        tensors: operands and result, in the order in which bandwidths are summed.
    """

    dims: tuple[str, ...]
    bounds: tuple[int, ...]
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.bounds):
            raise ArchGymError(
                f"the problem has {len(self.dims)} dims and {len(self.bounds)} bounds; give one bound a dim"
            )
        for dim, bound in zip(self.dims, self.bounds, strict=True):
            if isinstance(bound, bool) or not isinstance(bound, (int, np.integer)) or bound < 1:
                raise ArchGymError(f"dim {dim!r} has the bound {bound!r}; expected a whole number from 1 on")
        if math.prod(self.bounds) >= _MAX_WORK:
            raise ArchGymError(
                f"the problem has {math.prod(self.bounds):.3g} MACs; at most 2**53 can be counted exactly"
            )
        for tensor in self.tensors:
            for axis in tensor.axes:
                for dim, coefficient in axis:
                    if dim not in self.dims:
                        raise UnknownNameError(f"dim of tensor {tensor.name!r}", dim, self.dims)
                    if not isinstance(coefficient, (int, np.integer)) or coefficient < 1:
                        raise ArchGymError(
                            f"tensor {tensor.name!r} has the coefficient {coefficient!r} for dim {dim!r}; "
                            f"expected a whole number from 1 on"
                        )

    @classmethod
    def from_layer(cls, layer: Layer) -> Problem:
        """The operation of a layer: tensors W, I, O over the dims N K C P Q R S G."""
        return cls(DIMS, layer.bounds, layer_tensors(layer))

    @property
    def macs(self) -> int:
        return math.prod(self.bounds)

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Projections for the kernels, ``info, role, weight, coef``; see :mod:`.kernels.loopnest`."""
        width = max((len(tensor.axes) for tensor in self.tensors), default=1) or 1
        coef = np.zeros((len(self.tensors), width, len(self.dims)), dtype=np.int64)
        for t, tensor in enumerate(self.tensors):
            for a, axis in enumerate(tensor.axes):
                for dim, coefficient in axis:
                    coef[t, a, self.dims.index(dim)] += coefficient
        role = np.full((len(self.tensors), len(self.dims)), -2, dtype=np.int64)
        info = np.zeros((len(self.tensors), 3), dtype=np.int64)
        for t, tensor in enumerate(self.tensors):
            uses = coef[t] != 0
            info[t, 2] = tensor.read_write
            if (uses.sum(axis=0) > 1).any():
                info[t, 0] = 2
                role[t, uses.any(axis=0)] = 0
                continue
            # A coefficient above 1 leaves holes between neighbouring origins, so such an axis is a window as well.
            for a in np.flatnonzero((uses.sum(axis=1) > 1) | (coef[t].max(axis=1) > 1)).tolist():
                role[t, uses[a]] = info[t, 1]
                info[t, 1] += 1
            info[t, 0] = int(info[t, 1] > 0)
            role[t, uses.any(axis=0) & (role[t] == -2)] = -1
        return {"info": info, "role": role, "weight": coef.max(axis=1), "coef": coef}


def layer_tensors(layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """W, I and O of a layer as projections of the dims N K C P Q R S G."""

    def one(*dims: str) -> tuple[tuple[tuple[str, int], ...], ...]:
        return tuple(((dim, 1),) for dim in dims)

    rows = (("P", layer.stride_p), ("R", layer.dilation_r))
    columns = (("Q", layer.stride_q), ("S", layer.dilation_s))
    return (
        Tensor("W", one("G", "K", "C", "R", "S")),
        Tensor("I", (*one("G", "N", "C"), rows, columns)),
        Tensor("O", one("G", "N", "K", "P", "Q"), read_write=True),
    )


@dataclass(frozen=True)
class Level:
    """A storage level; counts are in words of its own width.

    Args:
        name: unique in its architecture.
        block_words: words of one vector access (width / (word bits x cluster size)).
        capacity_words: words of one instance before multiple buffering; None = unlimited.
        mesh_x, mesh_y: physical instances along X and Y.
        read_bandwidth, write_bandwidth, shared_bandwidth: words a cycle and instance; None = unlimited.
        multiple_buffering: the share of the capacity that one tile may take is 1 / this.
        cluster_size: instances that share one vector access.
        read_pj, write_pj, update_pj: energy of a vector access; fills are writes.
        leak_pj: leakage of an instance and cycle.
        area_um2: area of an instance.
    """

    name: str
    block_words: int = 1
    capacity_words: int | None = None
    mesh_x: int = 1
    mesh_y: int = 1
    read_bandwidth: float | None = None
    write_bandwidth: float | None = None
    shared_bandwidth: float | None = None
    multiple_buffering: float = 1.0
    cluster_size: int = 1
    read_pj: float = 0.0
    write_pj: float = 0.0
    update_pj: float = 0.0
    leak_pj: float = 0.0
    area_um2: float = 0.0

    @property
    def effective_words(self) -> int:
        """Words a tile may take; -1 = unlimited."""
        return -1 if self.capacity_words is None else int(self.capacity_words / self.multiple_buffering)

    @property
    def instances(self) -> int:
        return self.mesh_x * self.mesh_y


@dataclass(frozen=True)
class Architecture:
    """Storage levels from the outermost in, and the MAC array.

    Args:
        levels: level 0 is main memory and keeps every tensor.
        mac_x, mac_y: physical MACs along X and Y.
        mac_pj: energy of a multiply-accumulate.
        mac_area_um2: area of a MAC.
        cycle_ns: cycle time.
    """

    levels: tuple[Level, ...]
    mac_x: int = 1
    mac_y: int = 1
    mac_pj: float = 0.0
    mac_area_um2: float = 0.0
    cycle_ns: float = 1.0

    @property
    def macs(self) -> int:
        return self.mac_x * self.mac_y

    @property
    def area_um2(self) -> float:
        """Area of all physical instances, used or not."""
        return self.macs * self.mac_area_um2 + sum(level.instances * level.area_um2 for level in self.levels)

    def index(self, name: str) -> int:
        """Position of a level."""
        for i, level in enumerate(self.levels):
            if level.name == name:
                return i
        raise UnknownNameError("level", name, [level.name for level in self.levels])

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Numbers for the kernels: see ``Hardware`` in :mod:`.kernels.loopnest`."""

        def limit(value: float | None) -> float:
            return math.inf if value is None else float(value)

        levels = self.levels
        return {
            "capacity": np.array([level.effective_words for level in levels], dtype=np.int64),
            "mesh": np.array(
                [*((level.mesh_x, level.mesh_y) for level in levels), (self.mac_x, self.mac_y)], dtype=np.int64
            ),
            "bandwidth": np.array(
                [[limit(b) for b in (v.read_bandwidth, v.write_bandwidth, v.shared_bandwidth)] for v in levels]
            ),
            "block": np.array([level.block_words for level in levels], dtype=np.int64),
            "payers": np.array([-(-level.instances // level.cluster_size) for level in levels], dtype=np.int64),
            "energies": np.array([[level.read_pj, level.write_pj, level.update_pj] for level in levels]),
            "leak": np.array([level.leak_pj for level in levels]),
            "compute_pj": np.array(self.mac_pj, dtype=np.float64),
        }


@dataclass(frozen=True)
class Loop:
    """``count`` trips over ``dim``; ``space`` is "X" or "Y" for a loop laid out in space, "" for one in time."""

    dim: str
    count: int
    space: Axis = ""


@dataclass(frozen=True)
class LevelMapping:
    """What is mapped at one level: its loops, outermost first (in time, then in space), and the tensors it keeps."""

    loops: tuple[Loop, ...] = ()
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Mapping:
    """One :class:`LevelMapping` a level of the architecture, outermost first."""

    levels: tuple[LevelMapping, ...]

    def factor(self, dim: str) -> int:
        """Product of the trip counts of a dim."""
        return math.prod(loop.count for level in self.levels for loop in level.loops if loop.dim == dim)

    def text(self, architecture: Architecture) -> str:
        """The nest for people, one line a loop, indented."""
        lines, depth = [], 0
        for level, mapped in zip(architecture.levels, self.levels, strict=True):
            lines.append(f"{level.name} [{' '.join(sorted(mapped.keep))}]")
            for loop in mapped.loops:
                if loop.count != 1:
                    space = f" (spatial {loop.space})" if loop.space else ""
                    lines.append(f"{'  ' * depth}| for {loop.dim} in 0..{loop.count - 1}{space}")
                    depth += 1
        return "\n".join(lines)


@dataclass(frozen=True)
class Result:
    """Counts and costs of one nest. Arrays ``(levels, tensors)`` hold counts of **one instance**, int64.

    Attributes:
        tile_words, fills, reads, updates: as named; updates are the words that arrive from below to be added.
        instances: utilised instances ``(levels,)``.
        compute_cycles: product of the temporal trip counts.
        level_cycles: cycles each level needs at its bandwidths ``(levels,)``.
        cycles: of the whole.
        energy_pj: accesses, all instances together ``(levels, tensors)``.
        leakage_pj: ``(levels,)``.
        mac_pj: energy of the MACs.
        macs, padded_macs: true work, and work with padding.
        utilization: macs / (cycles x physical MACs).
        violation: name of the broken rule, empty where the mapping is valid.
        detail: the rule in words with the place and the excess.
    """

    tile_words: NDArray[np.int64]
    fills: NDArray[np.int64]
    reads: NDArray[np.int64]
    updates: NDArray[np.int64]
    instances: NDArray[np.int64]
    compute_cycles: int
    level_cycles: NDArray[np.int64]
    cycles: int
    energy_pj: NDArray[np.float64]
    leakage_pj: NDArray[np.float64]
    mac_pj: float
    macs: int
    padded_macs: int
    utilization: float
    violation: str = ""
    detail: str = ""

    @property
    def total_pj(self) -> float:
        return float(self.energy_pj.sum() + self.leakage_pj.sum() + self.mac_pj)


def flatten(
    problem: Problem, mapping: Mapping, levels: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """A mapping as loop arrays ``dim, count, level, axis`` and ``keep (levels, tensors)``."""
    if len(mapping.levels) != levels:
        raise ArchGymError(
            f"the mapping has {len(mapping.levels)} levels and the architecture {levels}; give one entry a level"
        )
    known = [tensor.name for tensor in problem.tensors]
    rows: list[tuple[int, int, int, int]] = []
    keep = np.zeros((levels, len(known)), dtype=bool)
    for b, entry in enumerate(mapping.levels):
        in_space = False
        for name in entry.keep:
            if name not in known:
                raise UnknownNameError("tensor", name, known)
            keep[b, known.index(name)] = True
        for loop in entry.loops:
            if loop.dim not in problem.dims:
                raise UnknownNameError("dim", loop.dim, problem.dims)
            if loop.space not in ("", "X", "Y"):
                raise ArchGymError(f"a loop over {loop.dim!r} has space={loop.space!r}; expected '', 'X' or 'Y'")
            if in_space and not loop.space:
                raise ArchGymError(f"level {b} has a loop in time inside one in space; list the loops in space last")
            in_space = in_space or bool(loop.space)
            if loop.count != 1:
                rows.append((problem.dims.index(loop.dim), loop.count, b, AXES.index(loop.space)))
    if not keep[0].all():
        raise ArchGymError("the outermost level must keep every tensor; add the missing names to its keep set")
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    dims, counts, at, axis = (np.ascontiguousarray(table[:, j], dtype=kind) for j, kind in enumerate(LOOP_TYPES))
    return dims, counts, at, axis, keep


def evaluate(
    problem: Problem,
    architecture: Architecture,
    mapping: Mapping,
    *,
    rule: Rule = "current",
    elide_first_fill: bool = True,
) -> Result:
    """Counts and costs of one mapping, in full detail.

    Args:
        rule: which words of a sliding tile stay; see the module's first lines.
        elide_first_fill: the first fill of an output word is not counted, as it has no value yet. Timeloop's format
            before version 0.4 counts it.

    Returns:
        Counts also where the mapping breaks a rule; ``violation`` then names it.
    """
    from archgym.simulators.accelerator.kernels import loopnest as kernel

    dim, count, level, axis, keep = flatten(problem, mapping, len(architecture.levels))
    shape = problem.arrays
    levels, tensors = keep.shape
    dims = len(problem.dims)
    for value, place in zip(count, level, strict=True):
        if value < 1:
            raise ArchGymError(
                f"a loop of level {architecture.levels[place].name!r} has {value} trips; expected at least 1"
            )
    padded = math.prod(mapping.factor(d) for d in problem.dims)
    if padded >= _MAX_WORK:
        raise ArchGymError(f"the mapping runs {padded:.3g} MACs with its padding; at most 2**53 can be counted exactly")
    nest, starts = np.zeros((7, max(len(dim), 1)), np.int64), np.zeros((2, levels + 1), np.int64)
    kernel.pack_loops(0, dim[None], count[None], level[None], axis[None], nest, starts)
    counts, instances = np.zeros((6, levels, tensors), np.int64), np.zeros(levels, np.int64)
    reach, axes = np.zeros(dims, np.int64), shape["coef"].shape[1]
    compute = kernel.count_nest(
        shape["info"], shape["role"], shape["weight"], shape["coef"], keep, nest, starts, rule_code(rule),
        elide_first_fill, counts, instances, reach, np.zeros((5, max(len(dim), axes, dims) + tensors), np.int64),
        np.zeros((levels, tensors, axes), np.int64),
    )  # fmt: skip
    hw = architecture.arrays
    bounds = np.array([problem.bounds], dtype=np.int64)
    code, place, margin = kernel.check_nest(bounds, 0, keep, nest, starts, reach, counts, hw["capacity"], hw["mesh"])
    level_cycles = np.zeros(levels, np.int64)
    cycles = kernel.cycles_of(compute, keep, counts, hw["bandwidth"], level_cycles)
    energy = np.array(
        [
            [
                keep[b, t]
                and kernel.access_energy(counts, b, t, hw["block"][b], hw["payers"][b], instances, *hw["energies"][b])
                for t in range(tensors)
            ]
            for b in range(levels)
        ],
        dtype=np.float64,
    )
    detail = ""
    if code:
        detail = {
            "bound_not_covered": lambda: (
                f"the factors of dim {problem.dims[place]} fall short of its bound by {margin}"
            ),
            "fanout_x": lambda: f"{margin} loops in space too many along X below {architecture.levels[place].name}",
            "fanout_y": lambda: f"{margin} loops in space too many along Y below {architecture.levels[place].name}",
            "capacity": lambda: f"the tiles at {architecture.levels[place].name} are {margin} words too large",
        }[VIOLATIONS[code]]()
    return Result(
        counts[kernel.TILE],
        counts[kernel.FILLS],
        counts[kernel.READS],
        counts[kernel.UPDATES],
        instances,
        int(compute),
        level_cycles,
        int(cycles),
        energy,
        hw["leak"] * cycles * instances,
        padded * architecture.mac_pj,
        problem.macs,
        padded,
        problem.macs / (float(cycles) * architecture.macs),
        VIOLATIONS[code],
        detail,
    )


@dataclass(frozen=True)
class Batch:
    """Loops of n mappings as arrays ``(n, M)``, outermost first: the dim's position, the trip count, the position of
    the level below whose storage the loop stands, and 0 for loops in time, 1 and 2 for loops in space along X and Y.
    Levels do not decrease along a row, and within a level loops in time come first; trip counts of 1 are empty.
    """

    dim: NDArray[Any]
    count: NDArray[Any]
    level: NDArray[Any]
    axis: NDArray[Any]

    def __post_init__(self) -> None:
        for name, kind in zip(("dim", "count", "level", "axis"), LOOP_TYPES, strict=True):
            given = np.asarray(getattr(self, name))
            if given.ndim != 2 or given.shape != np.shape(self.dim):
                raise ArchGymError(f"{name} of a batch has shape {given.shape}; expected (mappings, loops), all alike")
            object.__setattr__(self, name, np.ascontiguousarray(given, dtype=kind))

    @classmethod
    def of(cls, problem: Problem, mappings: Iterable[Mapping], levels: int) -> tuple[Batch, NDArray[np.bool_]]:
        """Mappings as a batch, and their keep sets ``(n, levels, tensors)``."""
        rows = [flatten(problem, mapping, levels) for mapping in mappings]
        width = max((len(row[0]) for row in rows), default=0) or 1
        columns = [np.full((len(rows), width), j == 1, dtype=kind) for j, kind in enumerate(LOOP_TYPES)]
        for i, row in enumerate(rows):
            for j in range(4):
                columns[j][i, : len(row[j])] = row[j]
        return cls(*columns), np.array([row[4] for row in rows])


@dataclass(frozen=True)
class BatchResult:
    """Columns of n evaluations; NaN (cycles 0) where ``verdict`` is not 0 (see :data:`VIOLATIONS`)."""

    energy_pj: NDArray[np.float64]
    cycles: NDArray[np.int64]
    verdict: NDArray[np.int64]
    place: NDArray[np.int64]
    utilization: NDArray[np.float64] = field(repr=False)


def evaluate_batch(
    problems: Sequence[Problem],
    architectures: Sequence[Architecture] | MappingOf[str, NDArray[Any]],
    batch: Batch,
    keeps: ArrayLike,
    *,
    problem_of: ArrayLike | None = None,
    architecture_of: ArrayLike | None = None,
    keep_of: ArrayLike | None = None,
    rule: Rule = "current",
    elide_first_fill: bool = True,
) -> BatchResult:
    """Evaluate n (mapping, problem, architecture) rows in parallel, bit-identical on any number of threads.

    Args:
        problems: with the same dims and the same tensors up to the coefficients (strides, dilations).
        architectures: with the same number of levels; or their stacked arrays.
        batch: the loops of the mappings, ``(n, M)`` each.
        keeps: keep sets ``(k, levels, tensors)``.
        problem_of, architecture_of, keep_of: for every row the index of its problem, architecture and keep set; 0
            where left out.
    """
    from archgym.simulators.accelerator.kernels import loopnest as kernel

    rows = len(batch.dim)
    if batch.dim.shape[1] > kernel.MAX_LOOPS:
        raise ArchGymError(f"a nest has {batch.dim.shape[1]} loops; at most {kernel.MAX_LOOPS} are supported")
    arrays = [problem.arrays for problem in problems]
    shared = ("info", "role")
    for problem, row in zip(problems, arrays, strict=True):
        if problem.dims != problems[0].dims or any((row[name] != arrays[0][name]).any() for name in shared):
            raise ArchGymError("the problems of one batch differ in their dims or tensors; evaluate them apart")
    hw = dict(architectures) if isinstance(architectures, MappingOf) else stack(architectures)
    indices = [
        np.zeros(rows, np.int64) if given is None else np.ascontiguousarray(given, dtype=np.int64)
        for given in (problem_of, keep_of, architecture_of)
    ]
    keep_sets = np.ascontiguousarray(keeps, dtype=np.bool_)
    known = {"problem_of": len(problems), "keep_of": len(keep_sets), "architecture_of": len(hw["capacity"])}
    for index, (what, size) in zip(indices, known.items(), strict=True):
        if index.shape != (rows,) or (rows and (index.min() < 0 or index.max() >= size)):
            raise ArchGymError(
                f"{what} has shape {index.shape} or entries outside 0..{size - 1}; give one index a mapping"
            )
    layers = kernel.Layers(
        np.array([problem.bounds for problem in problems], dtype=np.int64),
        arrays[0]["info"],
        arrays[0]["role"],
        np.stack([row["weight"] for row in arrays]),
        np.stack([row["coef"] for row in arrays]),
    )
    cycles, verdict, place = (np.empty(rows, np.int64) for _ in range(3))
    out = kernel.Out(np.empty(rows), cycles, verdict, place, np.empty(rows))
    loops = kernel.Loops(batch.dim, batch.count, batch.level, batch.axis)
    run_blocks(
        kernel.evaluate_rows, rows, kernel.BLOCK_ROWS, layers, kernel.Hardware(**hw), loops, keep_sets,
        kernel.Which(*indices), rule_code(rule), elide_first_fill, out,
    )  # fmt: skip
    return BatchResult(**out._asdict())


def stack(architectures: Sequence[Architecture]) -> dict[str, NDArray[Any]]:
    """Arrays of several architectures, one row each."""
    arrays = [architecture.arrays for architecture in architectures]
    if len({len(row["capacity"]) for row in arrays}) != 1:
        raise ArchGymError("the architectures of one batch differ in their number of levels; evaluate them apart")
    return {name: np.ascontiguousarray(np.stack([row[name] for row in arrays])) for name in arrays[0]}
