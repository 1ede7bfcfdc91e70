"""A user's own ``timeloop-model`` on nests of the loop-nest model: writes its inputs, reads its statistics.

:class:`TimeloopModel` takes the same architecture, problem and mapping as
:func:`archgym.simulators.accelerator.loopnest.evaluate` and returns the same record, so that the two can be compared
count by count. Timeloop's transfers between neighbouring instances are off by default
(``TIMELOOP_DISABLE_LINK_TRANSFERS=1``): the loop-nest model has none.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.accelerator.loopnest import Architecture, Mapping, Problem, Result
from archgym.simulators.external.process import ToolError, find_binary, run_tool
from archgym.writing import yaml_text

_HOW = "build Timeloop and put it on the PATH, or give its path as binary="


@dataclass(frozen=True)
class Stats:
    """A statistics file of Timeloop.

    Attributes:
        levels: innermost first (the MAC at 0): ``name``, ``specs``, ``stats`` and ``tensors`` (name -> statistic ->
            number), each with Timeloop's own words as keys and its units taken off.
        summary: of the whole run (``Cycles``, ``Energy`` in uJ, ``Computes``, ...).
    """

    levels: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


_LEVEL = re.compile(r"^=== (?P<name>\S.*?) ===\s*$")
_ENTRY = re.compile(r"^(?P<indent>\s*)(?P<key>[^:=]+?)\s*[:=]\s*(?P<value>.*?)\s*$")
_NUMBER = re.compile(r"^(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:%|\s+[A-Za-z][\w^/]*)?$")


def parse_stats(text: str, source: str = "the statistics") -> Stats:
    """Read Timeloop's ``*.stats.txt`` (versions of 2020 to 2025).

    Raises:
        ArchGymError: where there is no level or no cycle count.
    """
    stats = Stats()
    level: dict[str, Any] = {}
    section, tensor = "", None
    in_summary = False
    for line in text.splitlines():
        title = _LEVEL.match(line)
        word = line.strip()
        if title:
            level = {"name": title["name"], "specs": {}, "stats": {}, "tensors": {}}
            stats.levels.append(level)
            section, tensor = "", None
        elif word in ("Networks", "Summary Stats"):
            level, in_summary = {}, word == "Summary Stats"
        elif word in ("SPECS", "STATS", "MAPPING"):
            section, tensor = word.lower(), None
        elif in_summary or (level and section in ("specs", "stats")):
            entry = _ENTRY.match(line)
            if entry is None:
                continue
            key, value = entry["key"].strip(), _value(entry["value"])
            if in_summary:
                stats.summary.setdefault(key, value)
            elif section == "specs":
                level["specs"][key] = value
            elif value == "":
                tensor = level["tensors"].setdefault(key, {})
            elif tensor is not None and len(entry["indent"]) > 4:
                tensor[key] = value
            else:
                level["stats"][key] = value
    if not stats.levels or "Cycles" not in stats.summary:
        raise ArchGymError(f"{source} holds no Timeloop statistics; expected levels and a summary with Cycles")
    return stats


def _value(text: str) -> Any:
    number = _NUMBER.match(text)
    if number is None:
        return text
    value = float(number["number"])
    return int(value) if value.is_integer() and "." not in number["number"] else value


class TimeloopModel:
    """Timeloop's model on one nest at a time.

    Args:
        binary: name or path of ``timeloop-model``.
        timeout_s: time limit of a run.
        link_transfers: let neighbouring instances hand words on, as Timeloop does by default.
    """

    def __init__(
        self, binary: str = "timeloop-model", *, timeout_s: float = 120.0, link_transfers: bool = False
    ) -> None:
        if not timeout_s > 0:
            raise ArchGymError(f"timeout_s is {timeout_s!r}; expected a positive number of seconds")
        self.binary, self.timeout_s, self.link_transfers = binary, timeout_s, link_transfers

    def evaluate(self, problem: Problem, architecture: Architecture, mapping: Mapping) -> Result:
        """Run Timeloop on a nest.

        Raises:
            ArchGymError: where the binary is missing, refuses the nest (its own words are given), runs past the limit
                or prints something else than statistics.
        """
        program = find_binary(self.binary, "Timeloop", _HOW)
        with tempfile.TemporaryDirectory(prefix="archgym-timeloop-") as name:
            folder = Path(name)
            files = write_inputs(folder, problem, architecture, mapping)
            links = {"TIMELOOP_DISABLE_LINK_TRANSFERS": "0" if self.link_transfers else "1"}
            try:
                run_tool([program, *files], folder, timeout_s=self.timeout_s, environment=links)
            except ToolError as error:
                raise ArchGymError(f"{self.binary} gave no result: {error}; check the mapping or the limit") from None
            found = sorted(folder.glob("*.stats.txt"))
            if not found:
                raise ArchGymError(f"{self.binary} wrote no *.stats.txt; is it timeloop-model?")
            stats = parse_stats(found[0].read_text(encoding="utf-8", errors="replace"), found[0].name)
        return to_result(stats, problem, architecture)


def write_inputs(
    folder: Path,
    problem: Problem,
    architecture: Architecture,
    mapping: Mapping,
    word_bits: int = 8,
    remarks: MappingOf[str, MappingOf[str, Any]] | None = None,
) -> list[str]:
    """Write Timeloop's inputs (version 0.4) into ``folder``; returns the file names in the order of the command.

    ``word_bits`` is the width of a word in bits: the model counts words, so that it changes no count. ``remarks`` are
    further attributes of levels by name, which Timeloop passes over.
    """
    contents: dict[str, Any] = {
        "architecture.yaml": {"architecture": _architecture(architecture, word_bits, remarks)},
        "problem.yaml": {"problem": _problem(problem)},
        "mapping.yaml": {"mapping": _mapping(problem, architecture, mapping)},
        "ERT.yaml": {"ERT": _energies(architecture)},
        "ART.yaml": {"ART": _areas(architecture)},
    }
    for name, content in contents.items():
        (folder / name).write_text(yaml_text(content, default_flow_style=None), encoding="utf-8")
    return list(contents)


_MAC, _SYSTEM = "MAC", "system"


def _titled(name: str, instances: int) -> str:
    return f"{name}[1..{instances}]"


def _architecture(
    architecture: Architecture, word_bits: int, remarks: MappingOf[str, MappingOf[str, Any]] | None
) -> dict[str, Any]:
    parts = []
    for i, level in enumerate(architecture.levels):
        width = level.block_words * word_bits * level.cluster_size
        attributes: dict[str, Any] = {
            "width": width,
            "datawidth": word_bits,
            "meshX": level.mesh_x,
            "meshY": level.mesh_y,
            "cluster_size": level.cluster_size,
            "multiple_buffering": level.multiple_buffering,
        }
        if level.capacity_words is not None:
            attributes["depth"] = math.ceil(level.capacity_words / level.block_words)
        for key in ("read_bandwidth", "write_bandwidth", "shared_bandwidth"):
            # Timeloop takes a bandwidth that is left out as unlimited, and knows no infinity.
            if getattr(level, key) is not None and math.isfinite(getattr(level, key)):
                attributes[key] = getattr(level, key)
        attributes |= (remarks or {}).get(level.name, {})
        kind = "DRAM" if i == 0 else "SRAM"
        parts.append({"name": _titled(level.name, level.instances), "class": kind, "attributes": attributes})
    mac = {"datawidth": word_bits, "width": word_bits, "meshX": architecture.mac_x, "meshY": architecture.mac_y}
    parts.append({"name": _titled(_MAC, architecture.macs), "class": "intmac", "attributes": mac})
    cycle = {"global_cycle_seconds": architecture.cycle_ns * 1e-9}
    return {"version": "0.4", "subtree": [{"name": _SYSTEM, "attributes": cycle, "local": parts}]}


def _problem(problem: Problem) -> dict[str, Any]:
    names = {(dim, c): f"{dim}step{c}" for t in problem.tensors for axis in t.axes for dim, c in axis if c != 1}
    spaces = [
        {
            "name": tensor.name,
            "projection": [[[dim] if c == 1 else [dim, names[dim, c]] for dim, c in axis] for axis in tensor.axes],
            "read_write": tensor.read_write,
        }
        for tensor in problem.tensors
    ]
    shape = {
        "name": "nest",
        "dimensions": list(problem.dims),
        "coefficients": [{"name": name, "default": c} for (_dim, c), name in names.items()],
        "data_spaces": spaces,
    }
    instance = dict(zip(problem.dims, map(int, problem.bounds), strict=True))
    instance |= {name: c for (_dim, c), name in names.items()}
    return {"version": "0.4", "shape": shape, "instance": instance}


def _mapping(problem: Problem, architecture: Architecture, mapping: Mapping) -> list[dict[str, Any]]:
    directives: list[dict[str, Any]] = []
    tensors = [tensor.name for tensor in problem.tensors]
    for level, mapped in zip(architecture.levels, mapping.levels, strict=True):
        kept = [name for name in tensors if name in mapped.keep]
        bypassed = [name for name in tensors if name not in mapped.keep]
        directives.append({"target": level.name, "type": "datatype", "keep": kept, "bypass": bypassed})
        for kind in ("spatial", "temporal"):
            loops = [loop for loop in mapped.loops if bool(loop.space) == (kind == "spatial") and loop.count != 1]
            if kind == "spatial" and not loops:
                continue
            if len({loop.dim for loop in loops}) < len(loops):
                raise ArchGymError(
                    f"level {level.name!r} has two {kind} loops over one dim, which a Timeloop directive cannot say; "
                    "put one of them on a level that keeps nothing"
                )
            # Innermost first; in space the dims along X come before those along Y.
            inner = list(reversed(loops))
            across = [loop.dim for loop in inner if loop.space != "Y"]
            order = across + [loop.dim for loop in inner if loop.space == "Y"]
            order += [dim for dim in problem.dims if dim not in order]
            counts = {loop.dim: loop.count for loop in loops}
            directive: dict[str, Any] = {
                "target": level.name,
                "type": kind,
                "factors": " ".join(f"{dim}={counts.get(dim, 1)}" for dim in problem.dims),
                "permutation": " ".join(order),
            }
            if kind == "spatial":
                directive["split"] = len(across)
            directives.append(directive)
    return directives


def _energies(architecture: Architecture) -> dict[str, Any]:
    def table(name: str, instances: int, actions: dict[str, float]) -> dict[str, Any]:
        listed = [{"name": action, "arguments": {}, "energy": value} for action, value in actions.items()]
        return {"name": f"{_SYSTEM}.{_titled(name, instances)}", "actions": listed}

    tables = [
        table(
            level.name,
            level.instances,
            {"read": level.read_pj, "write": level.write_pj, "update": level.update_pj, "leak": level.leak_pj},
        )
        for level in architecture.levels
    ]
    tables.append(table(_MAC, architecture.macs, {"compute": architecture.mac_pj, "leak": 0.0}))
    return {"version": "0.4", "tables": tables}


def _areas(architecture: Architecture) -> dict[str, Any]:
    tables = [
        {"name": f"{_SYSTEM}.{_titled(level.name, level.instances)}", "area": level.area_um2}
        for level in architecture.levels
    ]
    tables.append({"name": f"{_SYSTEM}.{_titled(_MAC, architecture.macs)}", "area": architecture.mac_area_um2})
    return {"version": "0.4", "tables": tables}


def to_result(stats: Stats, problem: Problem, architecture: Architecture) -> Result:
    """Timeloop's statistics as the record of the loop-nest model; counts of levels that Timeloop leaves out are 0."""
    levels, tensors = len(architecture.levels), len(problem.tensors)
    counts = {
        name: np.zeros((levels, tensors), dtype=np.int64)
        for name in ("Utilized capacity", "Scalar fills", "Scalar reads", "Scalar updates")
    }
    energy = np.zeros((levels, tensors))
    leakage, instances = np.zeros(levels), np.ones(levels, dtype=np.int64)
    cycles = np.full(levels, int(stats.summary["Cycles"]), dtype=np.int64)
    by_name = {level["name"]: level for level in stats.levels}
    for i, level in enumerate(architecture.levels):
        printed = by_name.get(level.name)
        if printed is None:
            continue
        leakage[i] = float(printed["specs"].get("Leakage energy (total)", 0.0))
        cycles[i] = int(printed["stats"].get("Cycles", cycles[i]))
        for j, tensor in enumerate(problem.tensors):
            row = printed["tensors"].get(tensor.name)
            if row is None:
                continue
            for name, table in counts.items():
                key = name if name == "Utilized capacity" else f"{name} (per-instance)"
                if key not in row:
                    raise ArchGymError(f"Timeloop's statistics of {level.name!r} lack {key!r} for {tensor.name!r}")
                table[i, j] = int(row[key])
            energy[i, j] = float(row.get("Energy (total)", 0.0))
            instances[i] = max(instances[i], int(row.get("Utilized instances (max)", 1)))
    mac = stats.levels[0]["stats"]
    macs = int(mac.get("Computes (total)", stats.summary.get("Computes", 0)))
    total = int(stats.summary["Cycles"])
    return Result(
        tile_words=counts["Utilized capacity"],
        fills=counts["Scalar fills"],
        reads=counts["Scalar reads"],
        updates=counts["Scalar updates"],
        instances=instances,
        compute_cycles=int(mac.get("Cycles", total)),
        level_cycles=cycles,
        cycles=total,
        energy_pj=energy,
        leakage_pj=leakage,
        mac_pj=float(mac.get("Energy (total)", 0.0)),
        macs=problem.macs,
        padded_macs=macs,
        utilization=problem.macs / (total * architecture.macs),
    )
