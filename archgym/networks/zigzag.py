"""Layers from ZigZag's workload files: a list of operators with an equation, loop sizes and the strides between dims.

What a loop is follows from the equation, not from its letter: indices of both operands and the result are groups, those of the
result and one operand are output channels or positions, those of both operands alone are reduced. Operators of :data:`PASSED`
(element-wise ones and poolings, without weights) are passed over and returned by name; any other is read by its equation.

Precisions and sources of operands say how wide words are and where they come from: they do not change the loop nest, and are
not used. The input counts with its padding; where a file says its size and padding, they must be what the loops reach. Any
other field is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.networks.fields import at, whole
from archgym.networks.layers import Layer

_READ = ("id", "name", "operator_type", "equation", "dimension_relations", "loop_dims", "loop_sizes")
_UNUSED = ("operand_precision", "operand_source", "pr_loop_dims", "pr_loop_sizes", "padding", "constant_operands",
           "memory_operand_links", "core_allocation")  # fmt: skip
PASSED = ("Max", "Pooling", "Add", "Pool", "MaxPool", "AveragePool", "GlobalAveragePool")
_EQUATION = re.compile(
    r"\s*O(?P<O>(?:\[\w+\])+)\s*\+?=\s*(?P<first>[WAI])(?P<A>(?:\[\w+\])+)\s*\*\s*(?P<second>[WBI])(?P<B>(?:\[\w+\])+)\s*"
)
_RELATION = re.compile(
    r"\s*(?P<sum>\w+)\s*=\s*(?:(?P<m>\d+)\s*\*\s*)?(?P<a>\w+)\s*\+\s*(?:(?P<n>\d+)\s*\*\s*)?(?P<b>\w+)\s*"
)


def is_workload(documents: Sequence[Any]) -> bool:
    """Whether YAML documents are a list of ZigZag's operators."""
    return any(isinstance(d, list) and any(isinstance(e, dict) and "operator_type" in e for e in d) for d in documents)


def zigzag_layers(documents: Sequence[Any], where: str) -> tuple[list[Layer], list[str]]:
    """The layers of a workload, and the operators that were passed over; ``where`` names the file in errors.

    Raises:
        ArchGymError: one sentence that names the entry.
    """
    layers, passed = [], []
    entries = [entry for d in documents for entry in (d if isinstance(d, list) else [d])]
    for i, entry in enumerate(entries):
        place = f"{where}, entry {i}"
        if not isinstance(entry, dict) or "operator_type" not in entry:
            raise ArchGymError(f"{place} is {quote(str(entry), 40)}; expected a mapping with an operator_type")
        kind = entry["operator_type"]
        if not isinstance(kind, str):
            raise ArchGymError(f"{place}: operator_type is {quote(kind, 40)}; expected a text such as Conv")
        name = str(entry.get("name") or f"{kind}{entry.get('id', i)}")
        if kind in PASSED:
            passed.append(name)
            continue
        layers.append(_layer(entry, name, f"{place} ({quote(name, 40, marks=False)})"))
    return layers, passed


def _layer(entry: Mapping[str, Any], name: str, place: str) -> Layer:
    for field in entry:
        if field not in (*_READ, *_UNUSED):
            raise ArchGymError(f"{place}: {UnknownNameError('field', field, (*_READ, *_UNUSED))}")
    bound = _bounds(entry, place)
    equation = _EQUATION.fullmatch(str(entry.get("equation", "")))
    if equation is None:
        raise ArchGymError(
            f"{place}: the equation {quote(str(entry.get('equation')), 60)} is no product of two tensors"
        )
    result, first, second = (re.findall(r"\w+", equation[group].lower()) for group in ("O", "A", "B"))
    if equation["first"] == equation["second"]:
        raise ArchGymError(f"{place}: the equation multiplies {equation['first']} by itself; expected two tensors")
    if equation["second"] == "W":
        first, second = second, first
    # first: weights; second: inputs.
    sums = _sums(entry, bound, place)
    windows = [index for index in second if index in sums]
    _once(place, result, first, [*second, *(part for index in windows for part, _ in sums[index])])
    for index in sums:
        if index not in second:
            raise ArchGymError(f"{place}: the relation of {index!r} is used by no index of the input")
    inputs = {*second, *(part for index in windows for part, _ in sums[index])} - set(windows)
    used = {*result, *first, *inputs}
    unknown = [index for index in used if index not in bound]
    if unknown:
        raise ArchGymError(f"{place}: the equation's index {unknown[0]!r} has no loop")
    idle = [index for index in bound if index not in used and bound[index] > 1]
    if idle:
        raise ArchGymError(f"{place}: the loop {idle[0].upper()} is in no tensor of the equation")
    groups = [i for i in result if i in first and i in inputs]
    channels = [i for i in result if i in first and i not in inputs]
    positions = [i for i in result if i not in first and i in inputs]
    reduced = [i for i in first if i not in result and i in inputs]
    if set(result) - {*groups, *channels, *positions} or {*first, *inputs} - {*groups, *channels, *positions, *reduced}:
        raise ArchGymError(f"{place}: an index of the equation is in one tensor alone, which is no product")
    window = _windows(windows, sums, positions, reduced, place)
    _check_input(entry, sums, bound, place)
    size: dict[str, int] = {"G": _product(bound, groups), "K": _product(bound, channels)}
    taken = [part for pair in window.values() for part in pair[:2]]
    size["C"] = _product(bound, [i for i in reduced if i not in taken])
    free = [i for i in positions if i not in taken]
    steps: dict[str, int] = {}
    for (p, r), index in zip((("P", "R"), ("Q", "S")), window, strict=False):
        position, tap, stride, dilation = window[index]
        size[p], size[r] = bound[position], bound[tap]
        steps |= {f"stride_{p.lower()}": stride, f"dilation_{r.lower()}": dilation}
    size["N" if window else "P"] = _product(bound, free)
    if window:
        op = "depthwise" if size["C"] == 1 and size["G"] > 1 else "conv"
    else:
        op = "gemm" if size["G"] == 1 else "bmm"
    return at(place, lambda: Layer(name, op, **size, **steps))


def _bounds(entry: Mapping[str, Any], place: str) -> dict[str, int]:
    """The loops' sizes by their names in small letters, which ZigZag does not tell from capital ones."""
    dims, sizes = entry.get("loop_dims"), entry.get("loop_sizes")
    if not isinstance(dims, list) or not isinstance(sizes, list) or len(dims) != len(sizes):
        raise ArchGymError(f"{place}: loop_dims and loop_sizes are not two lists of one length")
    bound: dict[str, int] = {}
    for dim, size in zip(dims, sizes, strict=True):
        name = str(dim).lower()
        if name in bound:
            raise ArchGymError(f"{place}: loop_dims has {quote(dim, 40)} twice; give each loop once")
        bound[name] = whole(place, str(dim), size)
    return bound


def _once(place: str, *tensors: Sequence[str]) -> None:
    """Refuse a tensor that a loop indexes twice, by itself or in two sums: that is no loop nest of a layer."""
    for tensor in tensors:
        for index in tensor:
            if tensor.count(index) > 1:
                raise ArchGymError(f"{place}: the loop {index!r} indexes a tensor of the equation twice")


def _product(bound: Mapping[str, int], indices: Sequence[str]) -> int:
    return math.prod(bound[index] for index in indices)


def _sums(entry: Mapping[str, Any], bound: Mapping[str, int], place: str) -> dict[str, list[tuple[str, int]]]:
    """Indices of inputs that are sums of two loops: index -> [(loop, factor), (loop, factor)]."""
    found: dict[str, list[tuple[str, int]]] = {}
    relations = entry.get("dimension_relations") or []
    if not isinstance(relations, list):
        raise ArchGymError(
            f"{place}: dimension_relations is {quote(relations, 60)}; expected a list like [ix=1*ox+1*fx]"
        )
    for text in relations:
        relation = _RELATION.fullmatch(str(text).lower())
        if relation is None:
            raise ArchGymError(f"{place}: the relation {quote(str(text), 60)} is no sum of two loops")
        index = relation["sum"]
        if index in found or index in bound:
            which = "a second relation" if index in found else "a relation, and is a loop itself"
            raise ArchGymError(f"{place}: {index!r} has {which} ({quote(str(text), 60)}); keep one of them")
        for loop in (relation["a"], relation["b"]):
            if loop not in bound:
                raise ArchGymError(f"{place}: the relation {quote(str(text), 60)} names {loop!r}, which has no loop")
        found[index] = [(relation[i], whole(place, relation[i], relation[f] or 1)) for i, f in (("a", "m"), ("b", "n"))]
    return found


def _check_input(
    entry: Mapping[str, Any], sums: Mapping[str, list[tuple[str, int]]], bound: Mapping[str, int], place: str
) -> None:
    """What the file says of the input's size and padding, where it says both, must be what the loops reach."""
    dims, sizes, padding = (entry.get(key) for key in ("pr_loop_dims", "pr_loop_sizes", "padding"))
    listed = [part for part in (dims, sizes, padding) if part is not None]
    if not listed:
        return
    if dims is None or not all(isinstance(part, list) and len(part) == len(dims) for part in listed):
        raise ArchGymError(f"{place}: pr_loop_dims, pr_loop_sizes and padding are not lists of one length")
    for i, dim in enumerate(dims):
        index = str(dim).lower()
        if index not in sums:
            raise ArchGymError(f"{place}: pr_loop_dims has {quote(dim, 40)}, which no relation makes of two loops")
        if sizes is None or padding is None:
            continue
        pair = padding[i]
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(n, int) and n >= 0 for n in pair):
            raise ArchGymError(f"{place}: the padding of {quote(dim, 40)} is {quote(pair, 40)}; expected two counts")
        given = whole(place, f"the size of {dim}", sizes[i]) + sum(pair)
        reached = 1 + sum(factor * (bound[loop] - 1) for loop, factor in sums[index])
        if given < reached:
            raise ArchGymError(f"{place}: {quote(dim, 40)} is {given} with its padding, but the loops reach {reached}")


def _windows(
    windows: Sequence[str], sums: Mapping[str, list[tuple[str, int]]], positions: Sequence[str], reduced: Sequence[str],
    place: str,
) -> dict[str, tuple[str, str, int, int]]:  # fmt: skip
    """Index of the input -> (position, tap, stride, dilation); rows first."""
    found: dict[str, tuple[str, str, int, int]] = {}
    for index in windows:
        pair = sums[index]
        outer = [(i, f) for i, f in pair if i in positions]
        taps = [(i, f) for i, f in pair if i in reduced]
        if len(outer) != 1 or len(taps) != 1:
            raise ArchGymError(f"{place}: the input's index {index!r} is not a position of the result plus a tap")
        found[index] = (outer[0][0], taps[0][0], outer[0][1], taps[0][1])
    if len(found) > 2:
        raise ArchGymError(f"{place}: the input slides along {len(found)} axes; at most two are read")
    # Rows (y) come before columns (x), however the file lists them.
    return dict(sorted(found.items(), key=lambda item: not item[0].endswith("y")))
