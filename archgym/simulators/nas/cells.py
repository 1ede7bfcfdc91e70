"""The NAS-Bench-201 cell space (the topology space of NATS-Bench): codecs, paths, isomorphism classes, neighbours.

A cell is a directed acyclic graph with nodes 0 (input), 1, 2, 3 (output). Every pair i < j has one edge that carries
one of five operations; a node is the sum of its incoming edges (Dong and Yang, "NAS-Bench-201", ICLR 2020).

Edge order everywhere: that of the architecture string, 0->1, 0->2, 1->2, 0->3, 1->3, 2->3. A cell is a row of six
operation indices; its code is the base-5 number with edge 0->1 as the most significant digit. Everything here is
vectorised over rows int64 ``(n, 6)``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.hashing import GOLDEN, mix

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(5)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
EDGE_NAMES = tuple(f"edge_{i}{j}" for i, j in EDGES)
CELLS = 5**6
PLACES = 5 ** np.arange(5, -1, -1, dtype=np.int64)

# NASLib's tuples: other edge order (0->1, 0->2, 0->3, 1->2, 1->3, 2->3), other operation numbers.
_NASLIB_EDGES = np.array([0, 1, 3, 2, 4, 5])
_TO_NASLIB = np.array([1, 0, 3, 2, 4])
_FROM_NASLIB = np.argsort(_TO_NASLIB)

Rows = NDArray[np.int64]


# --- codecs ----------------------------------------------------------------------------------------------------------


def codes(rows: ArrayLike) -> NDArray[np.int64]:
    """Codes ``(n,)`` of cells ``(n, 6)``."""
    return np.asarray(rows, dtype=np.int64) @ PLACES


def rows(cell_codes: ArrayLike) -> Rows:
    """Cells ``(n, 6)`` of codes ``(n,)``."""
    return np.asarray(cell_codes, dtype=np.int64)[..., None] // PLACES % 5


@cache
def all_rows() -> Rows:
    """All 15,625 cells in code order; read-only."""
    table = rows(np.arange(CELLS))
    table.setflags(write=False)
    return table


def to_string(row: Sequence[int] | Rows) -> str:
    """Architecture string of one cell, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    ops = [OPERATIONS[int(op)] for op in row]
    return f"|{ops[0]}~0|+|{ops[1]}~0|{ops[2]}~1|+|{ops[3]}~0|{ops[4]}~1|{ops[5]}~2|"


def from_string(text: str) -> Rows:
    """Cell ``(6,)`` of an architecture string; a sentence names what is wrong with a bad one."""
    nodes = text.strip().split("+")
    shown = text if len(text) <= 120 else text[:117] + "..."
    if len(nodes) != 3:
        raise ArchGymError(
            f"architecture string {shown!r} has {len(nodes)} node(s); expected three parts joined by '+'"
        )
    result = []
    for node, part in enumerate(nodes, start=1):
        if len(part) < 2 or part[0] != "|" or part[-1] != "|":
            raise ArchGymError(
                f"node {node} of {shown!r} is {part!r}; a node begins and ends with '|', as in '|skip_connect~0|'"
            )
        edges = part[1:-1].split("|")
        if len(edges) != node:
            raise ArchGymError(f"node {node} of {shown!r} has {len(edges)} edge(s); expected {node}")
        for source, edge in enumerate(edges):
            match = re.fullmatch(r"([^~]*)~(.*)", edge)
            if not match:
                raise ArchGymError(f"edge {edge!r} of {shown!r} has no input number; write it as 'operation~{source}'")
            name, number = match.groups()
            if name not in OPERATIONS:
                close = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.0)
                raise ArchGymError(
                    f"unknown operation {name!r} in {shown!r}; did you mean {close[0]!r}?"
                    if close
                    else f"unknown operation {name!r} in {shown!r}; known: {', '.join(OPERATIONS)}"
                )
            if number != str(source):
                raise ArchGymError(
                    f"edge {edge!r} of node {node} in {shown!r} comes from input {number!r}; expected {source} "
                    "(edges stand in the order of their inputs)"
                )
            result.append(OPERATIONS.index(name))
    return np.array(result, dtype=np.int64)


@cache
def all_strings() -> tuple[str, ...]:
    """Architecture strings in code order."""
    return tuple(to_string(row) for row in all_rows().tolist())


@cache
def _code_of_string() -> dict[str, int]:
    return {text: code for code, text in enumerate(all_strings())}


def codes_of_strings(texts: Iterable[str]) -> NDArray[np.int64]:
    """Codes of many architecture strings; the first bad one raises the parser's sentence."""
    known = _code_of_string()
    result = []
    for text in texts:
        code = known.get(text)
        if code is None:
            code = int(codes(from_string(str(text))))
        result.append(code)
    return np.array(result, dtype=np.int64)


def to_naslib(cells: ArrayLike) -> Rows:
    """NASLib's tuples ``(n, 6)``: edges 0->1, 0->2, 0->3, 1->2, 1->3, 2->3; 0 skip, 1 none, 2 conv3x3, 3 conv1x1, 4
    pool."""
    return _TO_NASLIB[np.asarray(cells, dtype=np.int64)[..., _NASLIB_EDGES]]


def from_naslib(tuples: ArrayLike) -> Rows:
    """Inverse of :func:`to_naslib`."""
    return _FROM_NASLIB[np.asarray(tuples, dtype=np.int64)[..., np.argsort(_NASLIB_EDGES)]]


def to_one_hot(cells: ArrayLike) -> NDArray[np.float64]:
    """One-hot operations, float64 ``(n, 6, 5)``."""
    return (np.asarray(cells, dtype=np.int64)[..., None] == np.arange(5)).astype(np.float64)


def from_one_hot(one_hot: ArrayLike) -> Rows:
    """Inverse of :func:`to_one_hot`; takes the largest entry an edge."""
    return np.asarray(one_hot).argmax(-1).astype(np.int64)


def to_graph(cells: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """ "Operations on nodes" form: adjacency int8 ``(n, 8, 8)`` and one-hot node labels int8 ``(n, 8, 7)``.

    Nodes: input, the six edges in order, output. Labels: input, the five operations, output. The adjacency is the
    same for every cell (edge a feeds edge b where a ends in the node in which b begins).
    """
    array = np.atleast_2d(np.asarray(cells, dtype=np.int64))
    adjacency = np.zeros((8, 8), dtype=np.int8)
    for a, (source, target) in enumerate(EDGES):
        adjacency[0, a + 1] = source == 0
        adjacency[a + 1, 7] = target == 3
        for b, (other, _) in enumerate(EDGES):
            adjacency[a + 1, b + 1] = target == other
    labels = np.zeros((len(array), 8, 7), dtype=np.int8)
    labels[:, 0, 0] = labels[:, 7, 6] = 1
    labels[:, 1:7, 1:6] = array[..., None] == np.arange(5)
    return np.broadcast_to(adjacency, (len(array), 8, 8)).copy(), labels


def from_graph(labels: ArrayLike) -> Rows:
    """Cells of the node labels of :func:`to_graph`."""
    return np.asarray(labels)[:, 1:7, 1:6].argmax(-1).astype(np.int64)


def valid_graphs(adjacency: ArrayLike, labels: ArrayLike) -> NDArray[np.bool_]:
    """Which generated graphs ``(n, 8, 8)``, ``(n, 8, 7)`` are cells of the space: bool ``(n,)``."""
    adjacency, labels = np.asarray(adjacency), np.asarray(labels)
    expected, _ = to_graph(np.zeros((1, 6), dtype=np.int64))
    good = (adjacency == expected).all(axis=(1, 2)) & (labels.sum(-1) == 1).all(-1)
    good &= (labels[:, 0, 0] == 1) & (labels[:, 7, 6] == 1)
    return good & (labels[:, 1:7, 1:6].sum((1, 2)) == 6)


# --- structure -------------------------------------------------------------------------------------------------------


def live_edges(cells: ArrayLike) -> NDArray[np.bool_]:
    """Which edges carry an operation and lie on a path from input to output: bool ``(n, 6)``."""
    on = np.asarray(cells, dtype=np.int64) != NONE
    from_input = [np.ones(on.shape[:-1], dtype=bool)]
    from_input.append(on[..., 0])
    from_input.append(on[..., 1] | (from_input[1] & on[..., 2]))
    to_output = [on[..., 0], on[..., 4] | (on[..., 2] & on[..., 5]), on[..., 5], np.ones(on.shape[:-1], dtype=bool)]
    return np.stack(
        [on[..., e] & from_input[i] & (to_output[j] if j < 3 else True) for e, (i, j) in enumerate(EDGES)], axis=-1
    )


def is_dead(cells: ArrayLike) -> NDArray[np.bool_]:
    """True where no path leads from input to output (341 cells): the network's output is constant."""
    return np.asarray(~live_edges(cells).any(-1))


# Input-output paths as sets of edges: 0-3, 0-1-3, 0-2-3, 0-1-2-3.
_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))


def free_statistics(cells: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """What a cell's graph tells without training, int64 ``(n,)`` each.

    ``depth`` and ``shortest_path``: convolutions on the path with the most and the fewest of them; 0 for dead cells.
    ``paths``: input-output paths; ``live_edges``; ``count_<operation>`` over all six edges, dead ones included.
    """
    array = np.asarray(cells, dtype=np.int64)
    on, conv = array != NONE, (array == CONV1) | (array == CONV3)
    exists = np.stack([on[..., list(path)].all(-1) for path in _PATHS], axis=-1)
    convs = np.stack([conv[..., list(path)].sum(-1) for path in _PATHS], axis=-1)
    longest = np.where(exists, convs, 0).max(-1)
    shortest = np.where(exists, convs, 99).min(-1)
    result = {
        "depth": longest,
        "shortest_path": np.where(shortest == 99, 0, shortest),
        "paths": exists.sum(-1),
        "live_edges": live_edges(array).sum(-1),
    }
    for op, name in enumerate(OPERATIONS):
        result[f"count_{name}"] = (array == op).sum(-1)
    return {name: np.asarray(value, dtype=np.int64) for name, value in result.items()}


def neighbours(row: ArrayLike) -> Rows:
    """The 24 cells that differ in one edge, edge by edge, operations in order; ``(24, 6)``."""
    cell = np.asarray(row, dtype=np.int64)
    result = []
    for edge in range(6):
        for op in range(5):
            if op != cell[edge]:
                other = cell.copy()
                other[edge] = op
                result.append(other)
    return np.array(result, dtype=np.int64)


@cache
def neighbour_codes() -> NDArray[np.int64]:
    """Codes of the 24 neighbours of every cell: ``(15625, 24)``; read-only."""
    digits = all_rows()
    table = np.empty((CELLS, 24), dtype=np.int64)
    base = np.arange(CELLS)
    for edge in range(6):
        for step in range(1, 5):
            other = (digits[:, edge] + step) % 5
            table[:, edge * 4 + step - 1] = base + (other - digits[:, edge]) * PLACES[edge]
    table.setflags(write=False)
    return table


def local_maxima(values: ArrayLike) -> NDArray[np.int64]:
    """Codes of the cells no neighbour of which has a larger value; ``values`` in code order ``(15625,)``.

    Neighbouring maxima of equal value form one plateau and are named by their smallest code.
    """
    score = np.asarray(values, dtype=np.float64)
    maxima = np.flatnonzero((score[neighbour_codes()] <= score[:, None]).all(axis=1))
    plateau = {int(code): int(code) for code in maxima}
    changed = True
    while changed:
        changed = False
        for code in plateau:
            for other in neighbour_codes()[code].tolist():
                if other in plateau and plateau[other] < plateau[code]:
                    plateau[code] = plateau[other]
                    changed = True
    return np.array(sorted(set(plateau.values())), dtype=np.int64)


# --- isomorphism classes ---------------------------------------------------------------------------------------------

# The counts in use differ by the rule; a rule's name says which is meant.
CLASS_RULES = {
    "skip_merged": 12751,
    "published": 6466,
    "zero_pruned": 5390,
    "function": 4930,
    "function_pool_linear": 4660,
}


def scatter(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64: a fixed bijection of 64-bit numbers that scatters them."""
    with np.errstate(over="ignore"):
        return mix(values + GOLDEN)


def _function_hashes(pool_linear: bool) -> NDArray[np.uint64]:
    """A number for the function that each cell computes, equal for equal functions.

    A node is a multiset of terms, its number the sum of its terms' numbers modulo 2**64: sums flatten by themselves
    and a zero tensor is 0. A convolution is a scattering of its source's number; so is the pool, unless it is to be
    linear: then it is a multiplication by a constant, which distributes over sums. Two of the 15,625 numbers
    agreeing by chance has probability 1e-11; the tests compare with an exact construction.
    """
    table = all_rows()
    with np.errstate(over="ignore"):
        nodes = [scatter(np.full(CELLS, 1, dtype=np.uint64))]
        for target in (1, 2, 3):
            total = np.zeros(CELLS, dtype=np.uint64)
            for edge, (source, to) in enumerate(EDGES):
                if to != target:
                    continue
                op, value = table[:, edge], nodes[source]
                zero = (op == NONE) | (value == 0)
                term = scatter(value + scatter(np.uint64(100) + op.astype(np.uint64)))
                if pool_linear:
                    term = np.where(op == POOL, value * np.uint64(0xD1342543DE82EF95), term)
                term = np.where(op == SKIP, value, term)
                total = total + np.where(zero, np.uint64(0), term)
            nodes.append(total)
    return nodes[3]


def _strings(rule: str) -> list[str]:
    """Node strings of the published rules; see :func:`classes`."""

    def edge(source: str, op: int) -> str | None:
        if rule != "skip_merged" and (op == NONE or source == "#"):
            return "#" if rule == "published" else None
        return source if op == SKIP else f"({source})@{OPERATIONS[op]}"

    def join(parts: Iterable[str | None]) -> str:
        kept = sorted(part for part in parts if part is not None)
        return "+".join(kept) if kept else "#"

    result = []
    first = [join([edge("0", op)]) for op in range(5)]
    for a in range(5):
        for b in range(5):
            for c in range(5):
                second = join([edge("0", b), edge(first[a], c)])
                for d in range(5):
                    for e in range(5):
                        for f in range(5):
                            result.append(join([edge("0", d), edge(first[a], e), edge(second, f)]))
    return result


@cache
def classes(rule: str = "function") -> NDArray[np.int64]:
    """Class number of every cell, int64 ``(15625,)`` in code order, numbered by first appearance; read-only.

    Rules (what counts as the same cell):
        ``skip_merged`` (12,751): an edge is its source's string in brackets with the operation, a skip edge is the
            source's string itself, a node the sorted edge strings joined by "+".
        ``published`` (6,466; NAS-Bench-201's count): the same, and an edge is ``#`` where its operation is none or
            its source is exactly ``#``; ``#`` stays inside sums.
        ``zero_pruned`` (5,390): zero terms are dropped from sums, an empty sum is zero and propagates.
        ``function`` (4,930): sums are also flattened, so that a class is one function of the input.
        ``function_pool_linear`` (4,660): the average pool is also distributed over sums.
    """
    if rule == "function" or rule == "function_pool_linear":
        _, first, inverse = np.unique(
            _function_hashes(rule == "function_pool_linear"), return_index=True, return_inverse=True
        )
    elif rule in CLASS_RULES:
        numbers: dict[str, int] = {}
        result = np.array([numbers.setdefault(text, len(numbers)) for text in _strings(rule)], dtype=np.int64)
        result.setflags(write=False)
        return result
    else:
        raise ArchGymError(f"unknown class rule {rule!r}; known: {', '.join(CLASS_RULES)}")
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    result = number[inverse.reshape(-1)]
    result.setflags(write=False)
    return result


@cache
def representatives(rule: str = "function") -> NDArray[np.int64]:
    """Code of each class's representative: the member with the fewest edges that are not none, ties by smallest
    code; ``(classes,)``; read-only."""
    number = classes(rule)
    filled = (all_rows() != NONE).sum(1)
    order = np.lexsort((np.arange(CELLS), filled, number))
    starts = np.searchsorted(number[order], np.arange(number.max() + 1))
    result = order[starts].astype(np.int64)
    result.setflags(write=False)
    return result
