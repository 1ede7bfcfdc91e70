"""The NASNet cell space: codec, text form, exact parameters.

Two cells (normal, reduction) of five blocks. Block b picks two of the b + 2 hidden states there are (the outputs of
the two cells before, then the blocks so far), an operation for each out of 13, and adds or concatenates the results;
hidden states that nobody uses are concatenated to the cell's output (Zoph et al., CVPR 2018). The construction block
by block, five steps a block, is the ``construct`` mode of the environments over this parameter order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulators.nas.darts import CellStack
from archgym.space import DesignSpace, Parameter

OPERATIONS = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
JOINS = ("add", "concat")
BLOCKS = 5
CELLS = ("normal", "reduce")
_CONVOLUTIONS = np.array([0, 2, 2, 1, 0, 0, 0, 0, 1, 1, 2, 2, 2])


def space() -> DesignSpace:
    """Five parameters a block (two states, two operations, the join), 50 for the pair of cells."""
    parameters = []
    for cell in CELLS:
        for block in range(BLOCKS):
            states = tuple(range(block + 2))
            for which in ("first", "second"):
                parameters.append(
                    Parameter(
                        f"{cell}_{block}_{which}_state",
                        states,
                        ordered=False,
                        description="hidden state: 0, 1 the cell's inputs, 2.. the blocks",
                    )  # fmt: skip
                )
            for which in ("first", "second"):
                parameters.append(
                    Parameter(
                        f"{cell}_{block}_{which}_operation",
                        OPERATIONS,
                        ordered=False,
                        description="operation on that state",
                    )  # fmt: skip
                )
            parameters.append(
                Parameter(f"{cell}_{block}_join", JOINS, ordered=False, description="how the two results are joined")
            )
    return DesignSpace(parameters)


def _blocks(designs: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(n, 2 cells, 5 blocks, 5)``: state, state, operation, operation, join."""
    return designs.reshape(len(designs), 2, BLOCKS, 5)


def to_text(design: ArrayLike) -> str:
    """Text of one design: cells joined by ``/``, blocks by ``;``, a block as ``state:op,state:op,join``."""
    parts = []
    for cell in _blocks(np.asarray(design, dtype=np.int64)[None, :])[0]:
        parts.append(";".join(f"{a}:{OPERATIONS[p]},{b}:{OPERATIONS[q]},{JOINS[j]}" for a, b, p, q, j in cell.tolist()))
    return "/".join(parts)


def from_text(text: str) -> NDArray[np.int64]:
    """Inverse of :func:`to_text`."""
    cells = text.strip().split("/")
    if len(cells) != 2:
        raise ArchGymError(f"the text has {len(cells)} cell(s); expected normal/reduce, joined by '/'")
    result: list[int] = []
    for name, cell in zip(CELLS, cells, strict=True):
        blocks = cell.split(";")
        if len(blocks) != BLOCKS:
            raise ArchGymError(f"cell {name!r} has {len(blocks)} block(s); expected {BLOCKS}, joined by ';'")
        for number, block in enumerate(blocks):
            parts = block.split(",")
            if len(parts) != 3 or any(part.count(":") != 1 for part in parts[:2]):
                raise ArchGymError(f"block {number} of cell {name!r} is {block!r}; write state:op,state:op,join")
            states, ops = [], []
            for part in parts[:2]:
                state, op = part.split(":")
                if not state.isdigit() or int(state) >= number + 2:
                    raise ArchGymError(
                        f"block {number} of cell {name!r} takes state {state!r}; expected 0..{number + 1}"
                    )
                if op not in OPERATIONS:
                    raise UnknownNameError("operation of a NASNet cell", op, OPERATIONS)
                states.append(int(state))
                ops.append(OPERATIONS.index(op))
            if parts[2] not in JOINS:
                raise UnknownNameError("join of a NASNet block", parts[2], JOINS)
            result += [*states, *ops, JOINS.index(parts[2])]
    return np.array(result, dtype=np.int64)


def unused_states(designs: ArrayLike) -> NDArray[np.bool_]:
    """Which hidden states of each cell (the five blocks) no block uses; bool ``(n, 2, 5)``. They form the output."""
    blocks = _blocks(np.atleast_2d(np.asarray(designs, dtype=np.int64)))
    used = (blocks[..., :2, None] == np.arange(2, BLOCKS + 2)).any((2, 3))
    return ~used


def _operation_parameters(c: int) -> NDArray[np.int64]:
    """Parameters of each operation, rows stride 1 and 2, every convolution followed by a norm of 2c. Separable
    convolutions are applied twice; an identity of stride 2 is a factorised 1x1 convolution."""
    table = np.zeros((2, len(OPERATIONS)), dtype=np.int64)
    for op, area in ((3, 9), (8, 1), (9, 9)):
        table[:, op] = area * c * c + 2 * c
    for op, k in ((1, 3), (2, 7)):
        table[:, op] = 2 * (k * c * c + 2 * c)
    for op, k in ((10, 3), (11, 5), (12, 7)):
        table[:, op] = 2 * (k * k * c + c * c + 2 * c)
    table[1, 0] = c * c + 2 * c
    return table


def parameters(designs: ArrayLike, stack: CellStack) -> NDArray[np.int64]:
    """Exact parameters ``(n,)`` in the skeleton of :class:`archgym.simulators.nas.darts.CellStack`.

    Both inputs of a cell are brought to c channels by 1x1 convolutions with norm; a concatenating join is brought
    back from 2c to c channels the same way; the output has c channels for every unused state.
    """
    array = np.atleast_2d(np.asarray(designs, dtype=np.int64))
    blocks = _blocks(array)
    outputs = unused_states(array).sum(2)
    c = stack.width
    total = np.full(len(array), 27 * 3 * c + 6 * c, dtype=np.int64)
    before = np.full(len(array), 3 * c, dtype=np.int64)
    previous = before.copy()
    for number in range(stack.cells):
        reduction = number in (stack.cells // 3, 2 * stack.cells // 3)
        c *= 2 if reduction else 1
        which = int(reduction)
        strided = ((blocks[:, which, :, :2] < 2) & reduction).astype(np.int64)
        total += (before + previous) * c + 4 * c
        total += _operation_parameters(c)[strided, blocks[:, which, :, 2:4]].sum((1, 2))
        total += (blocks[:, which, :, 4] == 1).sum(1) * (2 * c * c + 2 * c)
        before, previous = previous, outputs[:, which] * c
    return total + previous * stack.classes + stack.classes


def formula_metrics(designs: NDArray[np.int64], stack: CellStack) -> dict[str, NDArray[np.float64]]:
    """Metrics that need no training: parameters, depth (convolutions on the longest way through the normal cell),
    paths (from its inputs to its output), live edges (all twenty are live: unused states join the output)."""
    n = len(designs)
    blocks = _blocks(designs)[:, 0]
    out = unused_states(designs)[:, 0]
    depth, paths = np.zeros((n, BLOCKS + 2)), np.ones((n, BLOCKS + 2))
    rows = np.arange(n)
    for block in range(BLOCKS):
        a, b, p, q = (blocks[:, block, k] for k in range(4))
        depth[:, block + 2] = np.maximum(depth[rows, a] + _CONVOLUTIONS[p], depth[rows, b] + _CONVOLUTIONS[q])
        paths[:, block + 2] = paths[rows, a] + paths[rows, b]
    return {
        "parameters": parameters(designs, stack).astype(np.float64),
        "depth": np.where(out, depth[:, 2:], 0).max(1),
        "paths": np.where(out, paths[:, 2:], 0).sum(1),
        "live_edges": np.full(n, 20.0),
    }
