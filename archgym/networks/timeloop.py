"""Layers from Timeloop's ``problem``: what each dim means is read off the projections of the data spaces, not off its name.

A dim of the output and of one operand runs over that operand's rows or columns, one of both operands alone is summed, one of
all three is a group. A rank ``[[R, Wdilation], [P, Wstride]]`` of an operand makes that operand the inputs, P an output row,
R a filter row, with stride and dilation as the coefficients say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.networks.fields import at, whole
from archgym.networks.layers import Layer

_DIMS = ("N", "M", "K", "C", "P", "Q", "R", "S", "G")
_STEPS = ("Wstride", "Hstride", "Wdilation", "Hdilation")
_BESIDE = ("H", "W", "Hpad", "Wpad")
_PROBLEM_KEYS = ("version", "shape", "instance", "layer", "name")
_WRITTEN = ("read_write", "read-write", "update")
_SHAPE_KEYS = ("name", "dimensions", "coefficients", "data_spaces", "data-spaces", "dataSpaces")

Rank = tuple[tuple[str, str], ...]
"""A rank of a projection: (dim, coefficient or empty), summed."""


@dataclass(frozen=True)
class _Space:
    name: str
    ranks: tuple[Rank, ...]
    written: bool

    @property
    def dims(self) -> set[str]:
        return {dim for rank in self.ranks for dim, _ in rank}


@dataclass(frozen=True)
class _Shape:
    """Dims, coefficients with their defaults, data spaces, and the dims that stand there for other shapes' sake."""

    dims: list[str]
    steps: dict[str, Any]
    spaces: tuple[_Space, ...]
    implied: frozenset[str] = frozenset()


def timeloop_layer(problem: Any, place: str = "problem", name: str = "layer") -> Layer:
    """A layer from the content of Timeloop's ``problem`` (versions 0.2 to 0.4).

    Shapes without data spaces are Timeloop's own ``cnn-layer`` (dims N M C P Q R S, and G; P with R, Wstride and Wdilation),
    a depthwise one without M, or a matrix product of the dims M N K.

    As in Timeloop the instance bounds every dim of the shape, and a coefficient that it leaves out has its default. Only a
    batch N and groups G may be left out: the files of Timeloop's exercises do so, whose front end fills in 1.

    Raises:
        ArchGymError: one sentence that names the place, for whatever is no layer of two operands.
    """
    if not isinstance(problem, dict):
        raise ArchGymError(f"{place} is {quote(problem)}; expected a mapping with 'shape' and 'instance'")
    shape = problem.get("shape", "cnn-layer")
    instance = problem.get("instance")
    if instance is None:
        instance = {key: value for key, value in problem.items() if key not in _PROBLEM_KEYS}
    else:
        _known(place, problem, _PROBLEM_KEYS)
    if not isinstance(instance, dict) or not instance:
        raise ArchGymError(f"{place}.instance is {quote(instance)}; expected the bounds, such as {{C: 3, M: 64, ...}}")
    own = shape.get("name") if isinstance(shape, dict) else None
    name = str(problem.get("layer") or problem.get("name") or own or name)
    form = _shape(place, shape, instance)
    given = _instance(f"{place}.instance", instance, form.dims, form.steps)
    sizes = {dim: whole(f"{place}.instance", dim, given.get(dim, 1)) for dim in form.dims}
    steps = {key: whole(f"{place}.instance", key, given.get(key, default)) for key, default in form.steps.items()}
    missing = [dim for dim in form.dims if dim not in given and dim not in form.implied]
    return at(place, lambda: _layer(name, sizes, steps, form.spaces, missing))


def _known(place: str, content: Mapping[Any, Any], allowed: Sequence[str]) -> None:
    for key in content:
        if key not in allowed:
            raise ArchGymError(f"{place}: {UnknownNameError('key', str(key), allowed)}")


def _instance(place: str, instance: Mapping[Any, Any], dims: Sequence[str], steps: Mapping[str, Any]) -> dict[str, Any]:
    """The instance under the shape's own names, whatever the case of its letters."""
    names = [*dims, *steps]
    folded: dict[str, list[str]] = {}
    for known in names:
        folded.setdefault(known.lower(), []).append(known)
    found: dict[str, Any] = {}
    for key, value in instance.items():
        text = str(key)
        if text == "densities":
            _dense(place, value)
            continue
        if text not in names and (text in _BESIDE or (value == 1 and text in (*_DIMS, *_STEPS))):
            continue  # sizes that follow from the others, and loops of one step that the shape does not have
        meant = [text] if text in names else folded.get(text.lower(), [])
        if len(meant) != 1:
            raise ArchGymError(f"{place}: {UnknownNameError('dim or coefficient', text, names)}")
        if meant[0] in found:
            raise ArchGymError(f"{place} gives {meant[0]} twice, once as {quote(text)}; give it once")
        found[meant[0]] = value
    if not found.keys() & set(dims):
        raise ArchGymError(f"{place} gives no bound; expected {', '.join(dims)}")
    return found


def _dense(place: str, value: Any) -> None:
    for space, density in (value if isinstance(value, dict) else {"": value}).items():
        share = density.get("density") if isinstance(density, dict) else density
        if share not in (1, 1.0):
            raise ArchGymError(
                f"{place}.densities makes {space or 'a data space'} sparse ({quote(density)}), which no layer is; take it out "
                "for the dense layer"
            )


# --- shapes ----------------------------------------------------------------------------------------------------------


def _shape(place: str, shape: Any, instance: Mapping[Any, Any]) -> _Shape:
    if isinstance(shape, dict) and any(key in shape for key in _SHAPE_KEYS[3:]):
        return _written_shape(place, shape)
    if isinstance(shape, dict):
        _known(f"{place}.shape", shape, _SHAPE_KEYS)
        dims = _names(place, "dimensions", shape.get("dimensions") or _upper(instance))
        named = str(shape.get("name", ""))
    else:
        dims, named = _upper(instance), str(shape)
        if "gemm" in named.lower():
            dims = [*"MNK", *(dim for dim in dims if dim not in "MNK")]
    for dim in dims:
        if dim not in _DIMS:
            raise ArchGymError(
                f"{place}.shape has the dim {quote(dim)}; expected N M C P Q R S G, or M N K for a product"
            )
    if set(dims) == {"M", "N", "K"}:
        return _Shape(dims, {}, _spaces_of(("M", "K"), ("K", "N"), ("M", "N")))
    if isinstance(shape, str) and not any(word in shape.lower() for word in ("cnn", "conv", "depthwise")):
        raise ArchGymError(
            f"{place}.shape is {quote(shape)}, no shape of Timeloop's own; give its dimensions and data_spaces"
        )
    if {"M", "K"} <= set(dims):
        raise ArchGymError(f"{place}.shape has both M and K beside other dims; name the output channels once")
    group = {"G"} & set(dims)
    if "depthwise" in named.lower() or (isinstance(shape, dict) and not {"M", "K", "G"} & set(dims)):
        group |= {"C"} & set(dims)
    added = [dim for dim in ("N", "C", "P", "Q", "R", "S") if dim not in dims]
    if isinstance(shape, str) and not group and not {"M", "K"} & set(dims):
        added.append("M")
    # A shape by name has them all; one that lists its dims has those alone.
    implied = frozenset() if isinstance(shape, str) else frozenset(added)
    dims += added
    return _Shape(dims, dict.fromkeys(_STEPS, 1), _convolution(set(dims), sorted(group)), implied)


def _upper(instance: Mapping[Any, Any]) -> list[str]:
    """The dims that an instance gives bounds for, in Timeloop's spelling."""
    return [dim for dim in _DIMS if any(str(key).upper() == dim for key in instance)]


def _spaces_of(inputs: Sequence[str], weights: Sequence[str], outputs: Sequence[str]) -> tuple[_Space, ...]:
    ranks = (tuple(((dim, ""),) for dim in space) for space in (inputs, weights, outputs))
    return tuple(
        _Space(name, rank, name == "Outputs")
        for name, rank in zip(("Inputs", "Weights", "Outputs"), ranks, strict=True)
    )


def _convolution(dims: set[str], group: Sequence[str]) -> tuple[_Space, ...]:
    """Timeloop's ``cnn-layer``, whose ``group`` dims index all three data spaces."""
    channels = [dim for dim in ("M", "K") if dim in dims]
    summed = [] if "C" in group else ["C"]
    inputs, weights, outputs = _spaces_of(
        ["N", *summed, *group], [*channels, *summed, "R", "S", *group], ["N", *channels, "P", "Q", *group]
    )
    windows: tuple[Rank, ...] = (
        (("R", "Wdilation"), ("P", "Wstride")),
        (("S", "Hdilation"), ("Q", "Hstride")),
    )
    return _Space("Inputs", (*inputs.ranks, *windows), False), weights, outputs


def _names(place: str, what: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or len({str(v) for v in value}) != len(value):
        raise ArchGymError(f"{place}.shape.{what} is {quote(value)}; expected a list of different names")
    return [str(v) for v in value]


def _written_shape(place: str, shape: Mapping[Any, Any]) -> _Shape:
    _known(f"{place}.shape", shape, _SHAPE_KEYS)
    dims = _names(place, "dimensions", shape.get("dimensions"))
    coefficients = _coefficients(f"{place}.shape.coefficients", shape.get("coefficients") or [], dims)
    spelt = [key for key in _SHAPE_KEYS[3:] if key in shape]
    if len(spelt) > 1:
        raise ArchGymError(f"{place}.shape lists data spaces twice, as {' and '.join(spelt)}; keep one of them")
    listed = shape[spelt[0]]
    if not isinstance(listed, list):
        raise ArchGymError(f"{place}.shape.data_spaces is {quote(listed)}; expected a list")
    spaces = tuple(_space(f"{place}.shape", entry, dims, coefficients) for entry in listed)
    names = [space.name for space in spaces]
    for name in names:
        if names.count(name) > 1:
            raise ArchGymError(f"{place}.shape has two data spaces named {quote(name)}; names must differ")
    used = {dim for space in spaces for dim in space.dims}
    for dim in dims:
        if dim not in used:
            raise ArchGymError(f"{place}.shape: no data space is projected along the dim {quote(dim)}; take it out")
    return _Shape(dims, coefficients, spaces)


def _coefficients(place: str, listed: Any, dims: Sequence[str]) -> dict[str, Any]:
    """The coefficients with their defaults (None where they have none)."""
    if not isinstance(listed, list):
        raise ArchGymError(f"{place} is {quote(listed)}; expected a list of {{name: Wstride, default: 1}}")
    found: dict[str, Any] = {}
    for entry in listed:
        if not isinstance(entry, dict) or "name" not in entry:
            raise ArchGymError(f"{place} has {quote(entry)}; expected {{name: Wstride, default: 1}}")
        _known(place, entry, ("name", "default"))
        name = str(entry["name"])
        if name in found or name in dims:
            raise ArchGymError(
                f"{place} has {quote(name)}, which is a {'dim' if name in dims else 'coefficient'} already"
            )
        found[name] = entry.get("default")
    return found


def _space(place: str, entry: Any, dims: Sequence[str], coefficients: Mapping[str, Any]) -> _Space:
    if not isinstance(entry, dict) or not isinstance(entry.get("projection"), list):
        raise ArchGymError(f"{place}: the data space {quote(entry)} has no list 'projection'")
    _known(place, entry, ("name", "projection", *_WRITTEN))
    name = str(entry.get("name", "data space"))
    ranks = []
    for rank in entry["projection"]:
        terms = rank if isinstance(rank, list) and all(isinstance(term, list) for term in rank) else [[rank]]
        made = []
        for term in terms:
            parts = [str(part) for part in term] if all(isinstance(part, str) for part in term) else []
            if not 1 <= len(parts) <= 2 or parts[0] not in dims or (len(parts) == 2 and parts[1] not in coefficients):
                raise ArchGymError(
                    f"{place}: the projection of {quote(name)} has the term {quote(term)}; expected [dim] or [dim, coefficient]"
                )
            made.append((parts[0], parts[1] if len(parts) == 2 else ""))
        ranks.append(tuple(made))
    return _Space(name, tuple(ranks), _written(f"{place}: the data space {quote(name)}", entry))


def _written(place: str, entry: Mapping[Any, Any]) -> bool:
    """Whether a data space is written, however the file says so."""
    said = [key for key in _WRITTEN if key in entry]
    if not said:
        return False
    value = entry[said[0]]
    # Quoted truth values and 0 or 1 are what Timeloop's front end takes too.
    meant = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
    if meant is None or len(said) > 1:
        raise ArchGymError(f"{place} has {said[-1]}: {quote(entry[said[-1]])}; expected one {said[0]}, true or false")
    return meant


# --- roles -----------------------------------------------------------------------------------------------------------


def _layer(
    name: str, sizes: Mapping[str, int], steps: Mapping[str, int], spaces: Sequence[_Space], missing: Sequence[str]
) -> Layer:
    outputs = [space for space in spaces if space.written]
    operands = [space for space in spaces if not space.written]
    if len(outputs) != 1 or len(operands) != 2:
        raise ArchGymError(
            f"the shape reads {len(operands)} data spaces and writes {len(outputs)}; a layer reads two and writes one"
        )
    output = outputs[0]
    if any(len(rank) > 1 for rank in output.ranks):
        raise ArchGymError(f"the output {quote(output.name)} is indexed by a sum of dims, which no layer is")
    inputs, weights = _operands(operands)
    _check_indices(inputs, weights, output, steps)
    for dim in missing:
        where = (dim in inputs.dims, dim in weights.dims, dim in output.dims)
        if (dim, where) not in (("N", (True, False, True)), ("G", (True, True, True))):
            raise ArchGymError(
                f"the instance gives no bound for the dim {quote(dim)} of the shape; write {dim}: 1 for one step"
            )
    loops = {dim for dim in sizes if sizes[dim] > 1}
    if loops and all(loops <= space.dims for space in (output, inputs, weights)):
        raise ArchGymError(
            f"the problem is element-wise: all loops index {output.name}, {inputs.name} and {weights.name}, where a layer sums "
            "over a dim or uses an operand again"
        )
    windows = _windows(inputs, weights, output, sizes, steps)
    paired = {dim for window in windows for dim in window[:2]}
    roles: dict[str, list[str]] = {"G": [], "K": [], "C": [], "rows": []}
    for dim in sizes:
        if dim in paired or sizes[dim] == 1:
            continue
        where = (dim in inputs.dims, dim in weights.dims, dim in output.dims)
        role = {(1, 1, 1): "G", (0, 1, 1): "K", (1, 1, 0): "C", (1, 0, 1): "rows"}.get(where)
        if role is None:
            only = [space.name for space in (inputs, weights, output) if dim in space.dims]
            raise ArchGymError(f"the dim {quote(dim)} is in {' and '.join(only)} alone, which is no loop of a layer")
        roles[role].append(dim)
    bounds = {role: math.prod(sizes[dim] for dim in roles[role]) for role in "GKC"}
    rows = {dim: sizes[dim] for dim in roles["rows"]}
    if not windows and not {"P", "Q"} & set(rows):
        return _product(name, bounds, rows)
    axes = _axes(windows, rows)
    # Output rows and columns without a window go by their names, where no window has taken the axis.
    sizes_of = {axis: 1 if axis in axes else rows.pop(axis.upper(), 1) for axis in "pq"}
    fields: dict[str, int] = {}
    for axis, (p, r, stride, dilation) in zip(axes, windows, strict=True):
        sizes_of[axis] = sizes[p]
        fields["R" if axis == "p" else "S"] = sizes[r]
        fields |= {f"stride_{axis}": stride, f"dilation_{'r' if axis == 'p' else 's'}": dilation}
    bounds["N"] = math.prod(rows.values())
    depthwise = bounds["C"] == 1 and bounds["G"] > 1
    return Layer(name, "depthwise" if depthwise else "conv", **bounds, P=sizes_of["p"], Q=sizes_of["q"], **fields)


def _check_indices(inputs: _Space, weights: _Space, output: _Space, steps: Mapping[str, int]) -> None:
    """Refuse what a layer has no field for: steps outside the inputs' windows, and dims that index a tensor twice."""
    for space in (inputs, weights, output):
        listed = [dim for rank in space.ranks for dim, _ in rank]
        twice = next((dim for dim in listed if listed.count(dim) > 1), None)
        if twice is not None:
            raise ArchGymError(f"the dim {quote(twice)} indexes {space.name} twice, which no layer does")
    for space in (weights, output):
        for dim, coefficient in (term for rank in space.ranks for term in rank):
            if coefficient and steps[coefficient] != 1:
                raise ArchGymError(
                    f"{space.name} is indexed by {dim} x {coefficient} = {steps[coefficient]}, a step that no layer has; "
                    "only the inputs have one"
                )
    used = {coefficient for rank in inputs.ranks for _, coefficient in rank}
    for coefficient, value in steps.items():
        if value != 1 and coefficient not in used:
            raise ArchGymError(
                f"the coefficient {quote(coefficient)} is {value}, but no projection of the inputs has it"
            )


def _product(name: str, bounds: Mapping[str, int], rows: Mapping[str, int]) -> Layer:
    batch = rows.get("N", 1) if len(rows) > 1 else 1
    others = math.prod(size for dim, size in rows.items() if not (dim == "N" and len(rows) > 1))
    return Layer(name, "gemm" if bounds["G"] == 1 else "bmm", N=batch, P=others, **bounds)


def _operands(operands: Sequence[_Space]) -> tuple[_Space, _Space]:
    """Inputs and weights: a sum of dims indexes the inputs; else weights are called so, or come second."""
    first, second = operands
    sums = [any(len(rank) > 1 for rank in space.ranks) for space in operands]
    if all(sums):
        raise ArchGymError(
            f"both {first.name} and {second.name} are indexed by sums of dims; in a layer one operand is"
        )
    if any(sums):
        return (first, second) if sums[0] else (second, first)
    called = [any(word in space.name.lower() for word in ("weight", "filter", "kernel")) for space in operands]
    return (second, first) if called[0] and not called[1] else (first, second)


def _windows(
    inputs: _Space, weights: _Space, output: _Space, sizes: Mapping[str, int], steps: Mapping[str, int]
) -> list[tuple[str, str, int, int]]:
    """(output dim, filter dim, stride, dilation) of each rank of the inputs that is a sum."""

    def step(dim: str, coefficient: str) -> int:
        return steps[coefficient] if coefficient else 1

    found = []
    for rank in inputs.ranks:
        if len(rank) == 1:
            (dim, coefficient) = rank[0]
            # A window of one filter row or column, which the shape leaves out: its step skips inputs.
            if coefficient and step(dim, coefficient) != 1:
                raise ArchGymError(
                    f"the inputs are indexed by {dim} x {coefficient} alone; give the filter's dim beside it"
                )
            continue
        over = [term for term in rank if term[0] in output.dims and term[0] not in weights.dims]
        taps = [term for term in rank if term[0] in weights.dims and term[0] not in output.dims]
        if len(rank) != 2 or len(over) != 1 or len(taps) != 1:
            terms = " + ".join(dim for dim, _ in rank)
            raise ArchGymError(f"the inputs are indexed by {terms}; expected an output dim and a filter dim")
        found.append((over[0][0], taps[0][0], step(*over[0]), step(*taps[0])))
    if len(found) > 2:
        raise ArchGymError(f"the inputs have {len(found)} sliding windows; a layer has at most two")
    dims = [dim for window in found for dim in window[:2]]
    if len(set(dims)) != len(dims):
        raise ArchGymError("a dim is in two sliding windows; in a layer each window has its own")
    return found


def _axes(windows: Sequence[tuple[str, str, int, int]], rows: Mapping[str, int]) -> tuple[str, ...]:
    """Which axis each window is: that of its name, P or Q, else in the order of the inputs' ranks."""
    names = [window[0] for window in windows]
    if len(windows) == 2:
        return ("q", "p") if names[0] == "Q" or names[1] == "P" else ("p", "q")
    if len(windows) == 1:
        return ("q",) if names[0] == "Q" or (names[0] != "P" and "P" in rows) else ("p",)
    return ()
