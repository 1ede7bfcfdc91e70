"""Tree ensembles as flat arrays, and their batch inference.

A parameter has few levels, so every test of a tree ("feature <= threshold") is a set of levels of one parameter. For
trees of at most 64 leaves that allows the QuickScorer form (Lucchese et al., "QuickScorer: a fast algorithm to rank
documents with additive ensembles of regression trees", SIGIR 2015): a tree is a table (parameter, level) -> bit mask
of the leaves that this level leaves possible; the exit leaf is the lowest bit of the AND over the parameters. No
branches, no cache misses along paths, and the AND runs over many trees in one instruction. Parameters are joined in
groups of at most JOINT levels, so that fewer masks are needed. Larger trees are walked node by node.

The sum over trees has one order, whatever the batch and the number of threads: results are the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from archgym.compiling import kernel
from archgym.errors import ArchGymError
from archgym.threads import run_blocks

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

JOINT = 64
BLOCK_TREES = 256
BLOCK_DESIGNS = 256

Array = NDArray[Any]


@dataclass(frozen=True)
class TreeEnsemble:
    """A sum of regression trees over numeric features.

    Attributes:
        feature, threshold: of each inner node; a row goes left where its feature <= threshold.
        left, right: children of each inner node: an inner node (>= 0) or ``~leaf``; children of a tree come after
            their parent.
        root: per tree, its root in the same coding (a tree can be a single leaf).
        value: ``(leaves, outputs)``.
        base: ``(outputs,)``, what an empty ensemble says.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    root: NDArray[np.int32]
    value: NDArray[np.float64]
    base: NDArray[np.float64]

    @property
    def outputs(self) -> int:
        return self.value.shape[1]

    def arrays(self, prefix: str) -> dict[str, Array]:
        """Named arrays for storage."""
        return {f"{prefix}{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str, features: int) -> TreeEnsemble:
        """Inverse of :meth:`arrays`. Every index is checked: the kernels trust them."""
        kinds = {
            "feature": (np.int32, 1), "threshold": (np.float64, 1), "left": (np.int32, 1), "right": (np.int32, 1),
            "root": (np.int32, 1), "value": (np.float64, 2), "base": (np.float64, 1),
        }  # fmt: skip
        parts = {}
        for name, (kind, dimensions) in kinds.items():
            array = arrays.get(prefix + name)
            if array is None or array.dtype != kind or array.ndim != dimensions:
                raise ArchGymError(f"its trees are malformed (array {prefix + name!r})")
            parts[name] = np.ascontiguousarray(array)
        made = cls(**parts)
        nodes, leaves = len(made.feature), len(made.value)
        inner = np.arange(nodes)
        good = len(made.threshold) == len(made.left) == len(made.right) == nodes and len(made.base) == made.outputs
        good = good and bool(np.isfinite(made.value).all() and np.isfinite(made.base).all())
        good = good and bool(((made.feature >= 0) & (made.feature < features)).all())
        for child in (made.left, made.right) if good else ():
            # A child after its parent: no cycles, every walk ends.
            good = good and bool(np.where(child >= 0, (child > inner) & (child < nodes), ~child < leaves).all())
        good = good and bool(np.where(made.root >= 0, made.root < nodes, ~made.root < leaves).all())
        if good:
            # Every node and leaf hangs on one place: shared ones would make the walks of a small file endless.
            uses = np.concatenate([made.left, made.right, made.root])
            good = bool((np.bincount(uses[uses >= 0], minlength=nodes) == 1).all())
            good = good and bool((np.bincount(~uses[uses < 0], minlength=leaves) == 1).all())
        if not good:
            raise ArchGymError("its trees are malformed (indices out of range)")
        return made

    @staticmethod
    def join(parts: Sequence[TreeEnsemble], scale: Sequence[float] | None = None) -> TreeEnsemble:
        """The weighted sum of ensembles with the same outputs."""
        weights = scale or [1.0] * len(parts)
        node = np.cumsum([0] + [len(p.feature) for p in parts])
        leaf = np.cumsum([0] + [len(p.value) for p in parts])

        def moved(index: NDArray[np.int32], i: int) -> NDArray[np.int32]:
            return np.where(index >= 0, index + node[i], index - leaf[i]).astype(np.int32)

        return TreeEnsemble(
            np.concatenate([p.feature for p in parts]),
            np.concatenate([p.threshold for p in parts]),
            np.concatenate([moved(p.left, i) for i, p in enumerate(parts)]),
            np.concatenate([moved(p.right, i) for i, p in enumerate(parts)]),
            np.concatenate([moved(p.root, i) for i, p in enumerate(parts)]),
            np.concatenate([p.value * w for p, w in zip(parts, weights, strict=True)]),
            np.sum([p.base * w for p, w in zip(parts, weights, strict=True)], axis=0),
        )


def from_lightgbm(booster: Any) -> TreeEnsemble:
    """The trees of a LightGBM booster with one output and numeric features without missing values."""
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    root: list[int] = []
    value: list[float] = []

    def walk(node: Mapping[str, Any]) -> int:
        if "leaf_value" in node:
            value.append(float(node["leaf_value"]))
            return ~(len(value) - 1)
        if node["decision_type"] != "<=":
            raise ArchGymError(f"cannot export a LightGBM test of type {node['decision_type']!r}; use numeric features")
        me = len(feature)
        feature.append(int(node["split_feature"]))
        threshold.append(float(node["threshold"]))
        left.append(0)
        right.append(0)
        left[me] = walk(node["left_child"])
        right[me] = walk(node["right_child"])
        return me

    for tree in booster.dump_model()["tree_info"]:
        root.append(walk(tree["tree_structure"]))
    return TreeEnsemble(
        np.array(feature, np.int32), np.array(threshold), np.array(left, np.int32), np.array(right, np.int32),
        np.array(root, np.int32), np.array(value)[:, None], np.zeros(1),
    )  # fmt: skip


def from_sklearn(forest: Any) -> TreeEnsemble:
    """The mean over the trees of a scikit-learn forest, one or several outputs."""
    parts = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        inner = tree.children_left >= 0
        place = np.cumsum(inner) - 1  # number among the inner nodes
        leaf = np.cumsum(~inner) - 1

        def child(nodes: Array, inner: Array = inner, place: Array = place, leaf: Array = leaf) -> Array:
            return np.where(inner[nodes], place[nodes], ~leaf[nodes]).astype(np.int32)

        # scikit-learn compares float32 features; the next float64 threshold keeps every decision.
        parts.append(
            TreeEnsemble(
                tree.feature[inner].astype(np.int32), tree.threshold[inner].astype(np.float64),
                child(tree.children_left[inner]), child(tree.children_right[inner]), child(np.array([0])),
                tree.value[~inner, :, 0].astype(np.float64), np.zeros(tree.value.shape[1]),
            )
        )  # fmt: skip
    return TreeEnsemble.join(parts, [1.0 / len(parts)] * len(parts))


# --- walking -------------------------------------------------------------------------------------------------------


@kernel
def _walk(
    first: int, last: int, rows: Floats, feature: Ints, threshold: Floats, left: Ints, right: Ints, root: Ints,
    value: Floats, base: Floats, out: Floats,
) -> None:  # fmt: skip
    outputs = out.shape[1]
    for i in range(first, last):
        for o in range(outputs):
            out[i, o] = base[o]
        for t in range(len(root)):
            node = root[t]
            while node >= 0:
                node = left[node] if rows[i, feature[node]] <= threshold[node] else right[node]
            for o in range(outputs):
                out[i, o] += value[~node, o]


def walk(ensemble: TreeEnsemble, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predictions ``(n, outputs)`` for feature rows ``(n, f)``, node by node."""
    out = np.empty((len(rows), ensemble.outputs))
    e = ensemble
    run_blocks(
        _walk, len(rows), BLOCK_DESIGNS,
        np.ascontiguousarray(rows), e.feature, e.threshold, e.left, e.right, e.root, e.value, e.base, out,
    )  # fmt: skip
    return out


# --- masks ---------------------------------------------------------------------------------------------------------


@intrinsic
def _lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Position of the lowest set bit of a non-zero word: one instruction."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(word, ir.IntType(64)) if word.type.width < 64 else word

    return types.uint64(mask), codegen


@kernel
def _score(
    begin: int, end: int, designs: Ints, group_of: Ints, stride: Ints, offset: Ints, masks: NDArray[Any], first: Ints,
    leaves: int, value: Floats, base: Floats, out: Floats,
) -> None:  # fmt: skip
    d = designs.shape[1]
    groups = len(offset)
    outputs = len(first) - 1
    width = np.uint64(leaves)
    row = np.empty((BLOCK_DESIGNS, groups), np.int64)
    word = np.empty(BLOCK_TREES, masks.dtype)
    for start in range(begin, end, BLOCK_DESIGNS):
        stop = min(start + BLOCK_DESIGNS, end)
        for i in range(start, stop):
            for g in range(groups):
                row[i - start, g] = offset[g]
            for j in range(d):
                row[i - start, group_of[j]] += designs[i, j] * stride[j]
            for o in range(outputs):
                out[i, o] = base[o]
        for o in range(outputs):
            for t0 in range(first[o], first[o + 1], BLOCK_TREES):
                size = min(BLOCK_TREES, first[o + 1] - t0)
                block = value[t0 * leaves : (t0 + size) * leaves]
                for i in range(start, stop):
                    one = masks[row[i - start, 0], t0 : t0 + size]
                    for t in range(size):
                        word[t] = one[t]
                    for g in range(1, groups):
                        more = masks[row[i - start, g], t0 : t0 + size]
                        for t in range(size):
                            word[t] &= more[t]
                    # Four sums side by side: an addition need not wait for the one before it.
                    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                    whole = size - size % 4
                    for t in range(0, whole, 4):
                        s0 += block[np.uint64(t) * width + _lowest_bit(word[t])]
                        s1 += block[np.uint64(t + 1) * width + _lowest_bit(word[t + 1])]
                        s2 += block[np.uint64(t + 2) * width + _lowest_bit(word[t + 2])]
                        s3 += block[np.uint64(t + 3) * width + _lowest_bit(word[t + 3])]
                    for t in range(whole, size):
                        s0 += block[np.uint64(t) * width + _lowest_bit(word[t])]
                    out[i, o] += (s0 + s1) + (s2 + s3)


class MaskedEnsembles:
    """One-output ensembles of trees with at most 64 leaves each, compiled for a design space.

    Args:
        ensembles: one an output.
        levels: a parameter -> features of each of its values, ``(values, f)``; a feature that does not depend on a
            parameter is 0 in its table, so that the tables' sum is the feature row.
        constant: ``(f,)`` further part of every feature row (features of the workload).
        owner: ``(f,)`` parameter that each feature depends on, -1 for none.
    """

    def __init__(
        self,
        ensembles: Sequence[TreeEnsemble],
        levels: Sequence[NDArray[np.float64]],
        constant: NDArray[np.float64],
        owner: NDArray[np.int64],
    ) -> None:
        sizes = [len(table) for table in levels]
        group_of, stride, group_size = _groups(sizes)
        offset = np.concatenate([[0], np.cumsum(group_size)])[:-1].astype(np.int64)
        self._group_of, self._stride, self._offset = group_of, stride, offset
        whole = [_leaf_masks(e) for e in ensembles]
        most = max((part[3] for part in whole), default=1)
        if most > 64:
            raise ArchGymError(f"a tree has {most} leaves; masks hold at most 64")
        kind = np.uint32 if most <= 32 else np.uint64
        trees = sum(len(e.root) for e in ensembles)
        # Mask of one parameter level, all trees; then the masks of the groups' joint levels.
        single = [
            np.full((size, trees), kind(2 ** (32 if kind is np.uint32 else 64) - 1), dtype=kind) for size in sizes
        ]
        first, values = [0], []
        for e, (cleared, tree_of_node, order, _) in zip(ensembles, whole, strict=True):
            column = tree_of_node + first[-1]
            for node in range(len(e.feature)):
                f = e.feature[node]
                j = owner[f]
                if j < 0:
                    right = np.array([constant[f] > e.threshold[node]])
                    if right[0]:
                        single[0][:, column[node]] &= kind(~cleared[node] & _FULL[kind])
                    continue
                right = levels[j][:, f] + constant[f] > e.threshold[node]
                single[j][right, column[node]] &= kind(~cleared[node] & _FULL[kind])
            for leaves in order:
                values.append(np.pad(e.value[leaves, 0], (0, most - len(leaves))))
            first.append(first[-1] + len(e.root))
        masks = np.empty((int(sum(group_size)), trees), dtype=kind)
        for g, size in enumerate(group_size):
            joint = np.full((size, trees), _FULL[kind], dtype=kind)
            for j in np.flatnonzero(group_of == g):
                joint &= single[j][(np.arange(size) // stride[j]) % sizes[j]]
            masks[offset[g] : offset[g] + size] = joint
        self._masks = masks
        self._first = np.array(first, dtype=np.int64)
        self._leaves = most
        self._value = np.concatenate(values) if values else np.zeros(0)
        self._base = np.array([e.base[0] for e in ensembles])

    def __call__(self, designs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predictions ``(n, outputs)`` for (canonical) designs ``(n, d)``; indices must be in range."""
        out = np.empty((len(designs), len(self._base)))
        run_blocks(
            _score, len(designs), BLOCK_DESIGNS,
            np.ascontiguousarray(designs), self._group_of, self._stride, self._offset, self._masks, self._first,
            self._leaves, self._value, self._base, out,
        )  # fmt: skip
        return out


_FULL = {np.uint32: 2**32 - 1, np.uint64: 2**64 - 1}


def _groups(sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Parameters in groups of at most JOINT joint levels (first fit, large ones first): group and stride of each
    parameter, and the joint levels of each group."""
    group_of = np.zeros(len(sizes), dtype=np.int64)
    stride = np.ones(len(sizes), dtype=np.int64)
    group_size: list[int] = []
    for j in sorted(range(len(sizes)), key=lambda j: (-sizes[j], j)):
        fits = [g for g, size in enumerate(group_size) if size * sizes[j] <= JOINT]
        g = fits[0] if fits else len(group_size)
        if not fits:
            group_size.append(1)
        group_of[j], stride[j] = g, group_size[g]
        group_size[g] *= sizes[j]
    return group_of, stride, group_size


def _leaf_masks(e: TreeEnsemble) -> tuple[list[int], NDArray[np.int64], list[list[int]], int]:
    """For each inner node the leaves (bits, left to right) of its left side, its tree; leaves of each tree in order;
    the most leaves of a tree."""
    cleared = [0] * len(e.feature)
    tree_of_node = np.zeros(len(e.feature), dtype=np.int64)
    order: list[list[int]] = []
    left, right = e.left.tolist(), e.right.tolist()
    for t, root in enumerate(e.root.tolist()):
        leaves: list[int] = []

        def visit(node: int, t: int = t, leaves: list[int] = leaves) -> int:
            if node < 0:
                leaves.append(~node)
                return 1 << (len(leaves) - 1)
            tree_of_node[node] = t
            below = visit(left[node])
            cleared[node] = below
            return below | visit(right[node])

        visit(root)
        order.append(leaves)
    return cleared, tree_of_node, order, max((len(leaves) for leaves in order), default=1)


def most_leaves(ensemble: TreeEnsemble) -> int:
    """The most leaves of a tree."""
    count = np.zeros(len(ensemble.root), dtype=np.int64)
    for t, root in enumerate(ensemble.root.tolist()):
        stack = [root]
        while stack:
            node = stack.pop()
            if node < 0:
                count[t] += 1
            else:
                stack += [int(ensemble.left[node]), int(ensemble.right[node])]
    return int(count.max(initial=1))
