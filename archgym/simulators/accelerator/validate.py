"""Compare the accelerator models with reference data: Timeloop runs here, SCALE-Sim and MAESTRO in their own modules.

Every count, tile, instance and cycle of a Timeloop case must be equal; energies within 1e-6, or within half a unit of
the printed last place (0.005 pJ). Cases older than Timeloop's pull request 297 are compared under the older rule.
"""

from __future__ import annotations

__all__ = ()

import gzip
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from archgym.measure import Group, compare
from archgym.reading import parse_json, quote_path, read_json
from archgym.simulators.accelerator import timeloop_cases
from archgym.simulators.accelerator.loopnest import (
    Architecture,
    Level,
    Mapping,
    Problem,
    Result,
    Rule,
    Tensor,
    evaluate,
)
from archgym.simulators.mapping import validate as mapping
from archgym.simulators.systolic import validate as systolic

_COUNTS = {
    "tile": "Utilized capacity",
    "reads": "Scalar reads (per-instance)",
    "fills": "Scalar fills (per-instance)",
    "updates": "Scalar updates (per-instance)",
    "instances": "Utilized instances (max)",
}
_PRINTED_HALF_UNIT_PJ = 0.005

Overrides = dict[tuple[str, str | None, str], Any]


def validate(ref: Path) -> Iterable[Group]:
    """Groups of every file of ``ref`` that is there: loop nests here, then systolic arrays and cluster mappings."""
    yield from validate_loop_nests(ref)
    yield from systolic.validate(ref)
    yield from mapping.validate(ref)


def validate_loop_nests(ref: Path) -> Iterable[Group]:
    """Groups of the Timeloop runs in ``ref``."""
    random_cases = ref / "timeloop_random_cases.json.gz"
    if random_cases.exists():
        with gzip.open(random_cases, "rb") as file:
            cases = parse_json(file.read(), f"the cases {quote_path(random_cases)}")
        yield from _groups("timeloop-random", [_rows(case, "current", _differences(case)) for case in cases])
        older = [case for case in cases if not case.get("differences_without_link_transfers")]
        older = [case for case in older if "differences_before_pr297" in case]
        rows = [_rows(case, "pre297", _overrides(case["differences_before_pr297"])) for case in older]
        yield from _groups("timeloop-random-pre297", rows)
    folder = ref / "timeloop_cases"
    if folder.is_dir():
        cases = [read_json(path, "case of Timeloop") for path in sorted(folder.glob("*.json"))]
        dense = [case for case in cases if isinstance(case, dict) and not case.get("sparse_optimizations")]
        dense = [case for case in dense if case.get("mapping_text") and case.get("ERT_pJ_per_vector_access")]
        yield from _groups("timeloop-tutorial", [_rows(case, "pre297", {}) for case in dense])
    sample = ref / "archgym_timeloop_sample.json"
    if sample.exists():
        yield from _archgym_sample(read_json(sample, "sample of ArchGym"))


# --- rows of a case ----------------------------------------------------------------------------------------------


Row = tuple[str, str, float, float]
"""Kind of quantity, place, ours, reference."""


def _overrides(differences: Iterable[Any]) -> Overrides:
    return {(level, tensor, statistic): value for level, tensor, statistic, value in differences}


def _differences(case: dict[str, Any]) -> Overrides:
    return _overrides(case.get("differences_without_link_transfers", ()))


def _rows(case: dict[str, Any], rule: Rule, overrides: Overrides) -> list[Row]:
    """Every compared quantity of one case."""
    architecture = timeloop_cases.read_architecture(case)
    problem = timeloop_cases.read_problem(case["problem"])
    mapping = timeloop_cases.read_mapping(case["mapping_text"], architecture)
    linked = set()
    if rule == "pre297" and case["name"] == "tutorial2024_outputs":
        # The one stored case whose printed counts hold transfers between neighbours, which are not modelled.
        linked = {("buffer", "Inputs", "reads"), ("buffer", "Inputs", "energy")}
    return list(_case_rows(case["name"], case["result"], architecture, problem, mapping, rule, overrides, linked))


def _case_rows(
    name: str,
    printed: dict[str, Any],
    architecture: Architecture,
    problem: Problem,
    mapping: Mapping,
    rule: Rule,
    overrides: Overrides,
    linked: set[tuple[str, str, str]],
) -> Iterator[Row]:
    ours = evaluate(problem, architecture, mapping, rule=rule)
    yield "valid", name, float(ours.violation == ""), 1.0
    summary = printed["summary"]
    cycles = overrides.get(("summary", None, "Cycles"), summary["Cycles"])
    yield "cycles", f"{name}/summary", ours.cycles, cycles
    yield "macs", f"{name}/summary", ours.padded_macs, summary["Computes"]
    total, parts = 0.0, 0
    names = [tensor.name for tensor in problem.tensors]
    for level in printed["levels"]:
        if "Computes (total)" in level["stats"]:
            mac = float(level["stats"]["Energy (total)"])
            yield "energy", f"{name}/mac", *_printed(ours.mac_pj, mac)
            total, parts = total + mac, parts + 1
            continue
        b = architecture.index(level["name"])
        place = f"{name}/{level['name']}"
        yield (
            "cycles",
            place,
            ours.level_cycles[b],
            overrides.get((level["name"], None, "Cycles"), level["stats"]["Cycles"]),
        )
        leakage = level["specs"].get("Leakage energy (total)")
        if leakage is not None:
            # Differences list no leakage; it grows with the cycles.
            leakage = float(leakage) * (cycles / summary["Cycles"])
            yield "energy", f"{place}/leakage", *_printed(ours.leakage_pj[b], leakage)
            total, parts = total + leakage, parts + 1
        for tensor, values in level["tensors"].items():
            t = names.index(tensor)
            counts = {
                "tile": ours.tile_words[b, t],
                "reads": ours.reads[b, t],
                "fills": ours.fills[b, t],
                "updates": ours.updates[b, t],
                "instances": ours.instances[b],
            }
            for kind, statistic in _COUNTS.items():
                if (level["name"], tensor, kind) not in linked:
                    reference = overrides.get((level["name"], tensor, statistic), values[statistic])
                    yield kind, f"{place}/{tensor}", counts[kind], reference
            energy = float(overrides.get((level["name"], tensor, "Energy (total)"), values["Energy (total)"]))
            if (level["name"], tensor, "energy") in linked:
                total += ours.energy_pj[b, t]
            else:
                yield "energy", f"{place}/{tensor}", *_printed(ours.energy_pj[b, t], energy)
                total, parts = total + energy, parts + 1
    yield "energy", f"{name}/total", *_printed(ours.total_pj, total, parts)


def _printed(ours: float, reference: float, parts: int = 1) -> tuple[float, float]:
    """A pair whose difference below the printed last place (of each of the parts it sums) is gone."""
    return (reference if abs(ours - reference) <= parts * _PRINTED_HALF_UNIT_PJ * 1.0001 else ours), reference


def _groups(name: str, cases: list[list[Row]]) -> Iterator[Group]:
    kinds = dict.fromkeys(row[0] for rows in cases for row in rows)
    for kind in kinds:
        rows = [row for case in cases for row in case if row[0] == kind]
        yield compare(
            f"{name}/{kind}",
            [row[2] for row in rows],
            [row[3] for row in rows],
            required={"exact": 1.0},
            exact_within=1e-6 if kind == "energy" else 0.0,
            rows=[{"place": row[1]} for row in rows],
        )


# --- ArchGym's committed sample ----------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    match = re.match(r"^-?\d+(\.\d+)?(e[-+]?\d+)?", str(value), re.IGNORECASE)
    return float(match[0]) if match else None


def _archgym_sample(sample: dict[str, Any]) -> Iterator[Group]:
    """The one complete Timeloop result that came with ArchGym: an older format, which counts first fills of outputs
    and prints energies of an access with two decimals only, so that counts, cycles and area are compared."""
    levels: list[Level] = []
    mac: dict[str, Any] = {}
    for entry in reversed(sample["levels"]):
        specs = entry["specs"]
        mesh_x, mesh_y = (int(v) for v in re.findall(r"\((\d+)\*(\d+)\)", specs["Instances"])[0])
        if "Compute energy" in specs:
            area = entry["stats"]["Area (total)"]
            mac = {"mac_x": mesh_x, "mac_y": mesh_y, "mac_area_um2": float(_number(area) or 0.0) / (mesh_x * mesh_y)}
            continue
        size = _number(specs["Size"])
        levels.append(
            Level(
                entry["name"],
                int(_number(specs["Block size"]) or 1),
                None if size is None else int(size),
                mesh_x,
                mesh_y,
                _number(specs["Read bandwidth"]),
                _number(specs["Write bandwidth"]),
                cluster_size=int(_number(specs["Cluster size"]) or 1),
                area_um2=_number(specs["Area"]) or 0.0,
            )
        )
    architecture = Architecture(tuple(levels), **mac)
    dims = sample["problem"]["dims"]
    tensors = tuple(
        Tensor(name, tuple(tuple((dim, 1) for dim in axis) for axis in axes), name == "Outputs")
        for name, axes in sample["projections"].items()
    )
    problem = Problem(tuple(dims), tuple(dims.values()), tensors)
    mapping = timeloop_cases.read_mapping(sample["mapping_text"], architecture)
    ours = evaluate(problem, architecture, mapping, elide_first_fill=False)
    rows = list(_sample_rows(sample, architecture, problem, ours))
    yield from _groups("archgym-sample", [rows])
    yield compare(
        "archgym-sample/area",
        [architecture.area_um2],
        [sample["summary"]["total_area_um2"]],
        required={"exact": 1.0},
        exact_within=1e-6,
    )


def _sample_rows(sample: dict[str, Any], architecture: Architecture, problem: Problem, ours: Result) -> Iterator[Row]:
    names = [tensor.name for tensor in problem.tensors]
    yield "cycles", "summary", ours.cycles, sample["summary"]["cycles"]
    yield "macs", "summary", ours.padded_macs, sample["summary"]["computes"]
    for entry in sample["levels"]:
        if "Compute energy" in entry["specs"]:
            continue
        b = architecture.index(entry["name"])
        yield "cycles", entry["name"], ours.level_cycles[b], float(entry["stats"]["Cycles"])
        for tensor, values in entry["tensors"].items():
            t = names.index(tensor)
            for kind, array in (
                ("tile", ours.tile_words),
                ("reads", ours.reads),
                ("fills", ours.fills),
                ("updates", ours.updates),
            ):
                yield kind, f"{entry['name']}/{tensor}", array[b, t], values[_COUNTS[kind]]
            yield "instances", f"{entry['name']}/{tensor}", ours.instances[b], values[_COUNTS["instances"]]
