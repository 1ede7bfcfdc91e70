"""The DARTS cell space: codec, genotype text, exact parameters and MACs.

Two cells (normal, reduction). A cell has two inputs (the outputs of the two cells before), four intermediate nodes
and the concatenation of these as output. Intermediate node i takes two different ones of its i + 2 predecessors, each
through one of seven operations (Liu et al., "DARTS", ICLR 2019). 180 * 49**4 = 1,037,664,180 cells, squared for the
pair.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.space import DesignSpace, Parameter

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
# Predecessor pairs of node i, in lexicographic order: 1, 3, 6, 10 of them.
PAIRS = tuple(tuple(combinations(range(node + 2), 2)) for node in range(NODES))
CELLS = ("normal", "reduce")
_PER_CELL = 11  # node 0 has no choice of predecessors

Genotype = dict[str, list[tuple[str, int]]]


@dataclass(frozen=True)
class CellStack:
    """A stack of normal cells with reduction cells at one and two thirds: C initial channels, L cells, K classes,
    square input of ``size``; the stem has 3C channels."""

    name: str
    width: int
    cells: int
    classes: int
    size: int = 32


DARTS_MACROS = {
    "darts-C36L20": CellStack("darts-C36L20", 36, 20, 10),
    "darts-C16L8": CellStack("darts-C16L8", 16, 8, 10),
}


def space() -> DesignSpace:
    """The design space: for each cell and node the pair of predecessors and the two operations; 22 parameters, every
    level reachable, no repair."""
    parameters = []
    for cell in CELLS:
        for node in range(NODES):
            if node:
                names = tuple(f"{a},{b}" for a, b in PAIRS[node])
                parameters.append(
                    Parameter(f"{cell}_{node}_inputs", names, ordered=False, description=f"inputs of node {node}")
                )
            for which in ("first", "second"):
                parameters.append(
                    Parameter(
                        f"{cell}_{node}_{which}",
                        OPERATIONS,
                        ordered=False,
                        description=f"operation on the {which} input of node {node}",
                    )  # fmt: skip
                )
    return DesignSpace(parameters)


def _edges(designs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predecessors and operations ``(n, 2 cells, 4 nodes, 2)``."""
    n = len(designs)
    sources, ops = np.zeros((2, n, 2, NODES, 2), dtype=np.int64)
    for c in range(2):
        at = c * _PER_CELL
        for node in range(NODES):
            pairs = np.array(PAIRS[node], dtype=np.int64)
            if node:
                sources[:, c, node] = pairs[designs[:, at]]
                at += 1
            else:
                sources[:, c, node] = pairs[0]
            ops[:, c, node] = designs[:, at : at + 2]
            at += 2
    return sources, ops


def to_genotype(design: ArrayLike) -> Genotype:
    """One design as ``{"normal": [(op, predecessor), ...], "reduce": [...]}``: two entries a node, predecessors 0
    and 1 the cell's inputs, 2.. earlier nodes."""
    sources, ops = _edges(np.asarray(design, dtype=np.int64)[None, :])
    return {
        cell: [(OPERATIONS[ops[0, c, node, k]], int(sources[0, c, node, k])) for node in range(NODES) for k in range(2)]
        for c, cell in enumerate(CELLS)
    }


def to_text(design: ArrayLike) -> str:
    """Genotype text of one design; :func:`from_text` reads it."""
    return repr(to_genotype(design))


def from_genotype(genotype: Genotype) -> NDArray[np.int64]:
    """Design ``(22,)`` of a genotype; the entries of a node may stand in either order."""
    result: list[int] = []
    for cell in CELLS:
        if cell not in genotype:
            raise ArchGymError(f"the genotype has no cell {cell!r}; expected 'normal' and 'reduce'")
        entries = list(genotype[cell])
        if len(entries) != 2 * NODES:
            raise ArchGymError(f"cell {cell!r} has {len(entries)} entries; expected {2 * NODES}, two a node")
        for node in range(NODES):
            pair = []
            for entry in entries[2 * node : 2 * node + 2]:
                if not isinstance(entry, (tuple, list)) or len(entry) != 2:
                    raise ArchGymError(
                        f"entry {entry!r} of cell {cell!r} is no pair; expected (operation, predecessor)"
                    )
                op, source = entry
                if op not in OPERATIONS:
                    raise UnknownNameError("operation of a DARTS cell", op, OPERATIONS)
                if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < node + 2:
                    raise ArchGymError(
                        f"node {node} of cell {cell!r} takes predecessor {source!r}; expected 0..{node + 1}"
                    )
                pair.append((source, OPERATIONS.index(op)))
            if pair[0][0] == pair[1][0]:
                raise ArchGymError(
                    f"node {node} of cell {cell!r} takes predecessor {pair[0][0]} twice; they must differ"
                )
            pair.sort()
            if node:
                result.append(PAIRS[node].index((pair[0][0], pair[1][0])))
            result += [pair[0][1], pair[1][1]]
    return np.array(result, dtype=np.int64)


def from_text(text: str) -> NDArray[np.int64]:
    """Design of a genotype text (a Python literal with the keys ``normal`` and ``reduce``)."""
    try:
        genotype = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        genotype = None
    if not isinstance(genotype, dict):
        raise ArchGymError("cannot read the genotype; write {'normal': [('sep_conv_3x3', 0), ...], 'reduce': [...]}")
    return from_genotype(genotype)


def _operation_tables(c: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Parameters and MACs an output position of each operation, rows stride 1 and stride 2 (a skip of stride 2 is a
    factorised 1x1 convolution with norm)."""
    parameters, macs = np.zeros((2, 2, len(OPERATIONS)), dtype=np.int64)
    for op, (kind, k) in {3: ("sep", 3), 4: ("sep", 5), 5: ("dil", 3), 6: ("dil", 5)}.items():
        times = 2 if kind == "sep" else 1
        parameters[:, op] = times * (k * k * c + c * c + 2 * c)
        macs[:, op] = times * (k * k * c + c * c)
    parameters[1, 2], macs[1, 2] = c * c + 2 * c, c * c
    return parameters, macs


def counts(designs: ArrayLike, stack: CellStack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exact parameters and MACs ``(n,)`` of the networks without auxiliary head.

    Every cell first brings both inputs to its c channels by 1x1 convolutions with norm; c doubles at the reduction
    cells, whose operations on the cell's inputs have stride 2. MACs are those of convolutions and the linear layer.
    """
    array = np.atleast_2d(np.asarray(designs, dtype=np.int64))
    sources, ops = _edges(array)
    c, side = stack.width, stack.size
    parameters = np.full(len(array), 27 * 3 * c + 6 * c, dtype=np.int64)
    macs = np.full(len(array), 27 * 3 * c * side * side, dtype=np.int64)
    before = previous = 3 * c
    for number in range(stack.cells):
        reduction = number in (stack.cells // 3, 2 * stack.cells // 3)
        c *= 2 if reduction else 1
        parameters += before * c + previous * c + 4 * c
        macs += (before + previous) * c * side * side
        if reduction:
            side = (side + 1) // 2
        op_parameters, op_macs = _operation_tables(c)
        which = int(reduction)
        strided = ((sources[:, which] < 2) & reduction).astype(np.int64)
        parameters += op_parameters[strided, ops[:, which]].sum((1, 2))
        macs += op_macs[strided, ops[:, which]].sum((1, 2)) * side * side
        before, previous = previous, 4 * c
    parameters += previous * stack.classes + stack.classes
    macs += previous * stack.classes
    return parameters, macs


def formula_metrics(designs: NDArray[np.int64], stack: CellStack) -> dict[str, NDArray[np.float64]]:
    """Metrics that need no training: parameters, macs, depth (convolution operations on the longest way through the
    normal cell), paths (from the normal cell's inputs to its output), live edges (all eight of a cell are live)."""
    parameters, macs = counts(designs, stack)
    sources, ops = _edges(designs)
    n = len(designs)
    depth, paths = np.zeros((n, NODES + 2)), np.ones((n, NODES + 2))
    rows = np.arange(n)
    for node in range(NODES):
        weight = (ops[:, 0, node] >= 3).astype(np.float64)
        a, b = sources[:, 0, node, 0], sources[:, 0, node, 1]
        depth[:, node + 2] = np.maximum(depth[rows, a] + weight[:, 0], depth[rows, b] + weight[:, 1])
        paths[:, node + 2] = paths[rows, a] + paths[rows, b]
    return {
        "parameters": parameters.astype(np.float64),
        "macs": macs.astype(np.float64),
        "depth": depth[:, 2:].max(1),
        "paths": paths[:, 2:].sum(1),
        "live_edges": np.full(n, 16.0),
    }
