"""Timeloop runs as objects of the loop-nest model: architecture, problem and mapping of a stored case.

A case is a JSON object with ``architecture`` and ``problem`` in Timeloop's version 0.4 form, ``mapping_text`` (the nest
as Timeloop prints it), ``ERT_pJ_per_vector_access`` and ``ART_um2`` (energy and area a component) and ``result``.
"""

from __future__ import annotations

__all__ = ()

import re
from collections.abc import Mapping as MappingOf
from typing import Any

from archgym.errors import ArchGymError
from archgym.simulators.accelerator.loopnest import (
    AXES,
    Architecture,
    Level,
    LevelMapping,
    Loop,
    Mapping,
    Problem,
    Tensor,
)

Case = MappingOf[str, Any]

_LEVEL = re.compile(r"^(?P<name>\S+) \[ (?P<tensors>.*)\]\s*$")
_LOOP = re.compile(r"^\|\s*for (?P<dim>\w+) in \[0:(?P<count>\d+)\)(?: \(Spatial-(?P<space>[XY])\))?\s*$")
_COMPUTE_CLASSES = ("mac", "compute")


def read_problem(problem: MappingOf[str, Any]) -> Problem:
    """The problem of a case; coefficients take their value from the instance, else their default."""
    shape, instance = problem["shape"], problem["instance"]
    defaults = {entry["name"]: entry["default"] for entry in shape.get("coefficients") or []}
    dims = tuple(shape["dimensions"])

    def term(entry: list[Any]) -> tuple[str, int]:
        if len(entry) == 1:
            return entry[0], 1
        name = entry[1]
        return entry[0], int(name) if isinstance(name, int) else int(instance.get(name, defaults.get(name, 1)))

    tensors = tuple(
        Tensor(
            space["name"],
            tuple(tuple(term(entry) for entry in axis) for axis in space["projection"]),
            bool(space.get("read_write")),
        )
        for space in shape["data_spaces"]
    )
    return Problem(dims, tuple(int(instance[dim]) for dim in dims), tensors)


def read_architecture(case: Case) -> Architecture:
    """The architecture of a case with its energy and area tables."""
    components = list(_components(case["architecture"]["subtree"]))
    energies, areas = case["ERT_pJ_per_vector_access"], case.get("ART_um2", {})
    levels: list[Level] = []
    compute: dict[str, Any] | None = None
    for component in components:
        name = component["name"].split("[")[0]
        attributes = component.get("attributes", {})
        table = energies.get(name, {})
        mesh = (int(attributes.get("meshX", 1)), int(attributes.get("meshY", 1)))
        if "compute" in table or component["class"].lower().endswith(_COMPUTE_CLASSES):
            compute = {
                "mac_x": mesh[0],
                "mac_y": mesh[1],
                "mac_pj": float(table.get("compute", 0.0)),
                "mac_area_um2": float(areas.get(name, 0.0)),
            }
            continue
        cluster = int(attributes.get("cluster_size", 1))
        word_bits = int(attributes.get("datawidth", 8))
        block = max(1, int(attributes.get("width", word_bits)) // (word_bits * cluster))
        depth = attributes.get("depth")
        levels.append(
            Level(
                name,
                block,
                None if depth is None or component["class"] == "DRAM" else int(depth) * block,
                *mesh,
                attributes.get("read_bandwidth"),
                attributes.get("write_bandwidth"),
                attributes.get("shared_bandwidth"),
                float(attributes.get("multiple_buffering", 1)),
                cluster,
                float(table.get("read", 0.0)),
                float(table.get("write", 0.0)),
                float(table.get("update", table.get("write", 0.0))),
                float(table.get("leak", 0.0)),
                float(areas.get(name, 0.0)),
            )
        )
    if compute is None or not levels:
        raise ArchGymError("the architecture has no compute component or no storage level; give at least one of each")
    return Architecture(tuple(levels), **compute)


def _components(subtree: list[MappingOf[str, Any]]) -> Any:
    for node in subtree:
        yield from node.get("local", [])
        yield from _components(node.get("subtree", []))


def read_mapping(text: str, architecture: Architecture) -> Mapping:
    """The nest that Timeloop prints, outermost level first."""
    loops: dict[str, list[Loop]] = {level.name: [] for level in architecture.levels}
    keep: dict[str, frozenset[str]] = {}
    current = ""
    for line in text.splitlines():
        if match := _LEVEL.match(line):
            current = match["name"]
            if current not in loops:
                raise ArchGymError(f"the mapping names the level {current!r}, which the architecture lacks")
            keep[current] = frozenset(re.findall(r"(\S+?):\d+", match["tensors"]))
        elif match := _LOOP.match(line):
            space = AXES[AXES.index(match["space"] or "")]
            loops[current].append(Loop(match["dim"], int(match["count"]), space))
        elif line.strip().startswith("|") and "Compute" not in line:
            raise ArchGymError(f"cannot read the loop {line.strip()!r}; expected '| for DIM in [0:COUNT)'")
    return Mapping(
        tuple(LevelMapping(tuple(loops[v.name]), keep.get(v.name, frozenset())) for v in architecture.levels)
    )
