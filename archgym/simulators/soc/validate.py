"""Agreement of the SoC simulator with simulations by FARSI."""

from __future__ import annotations

__all__ = ()

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError
from archgym.measure import Group, compare
from archgym.reading import read_json
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.model import Result, evaluate_design
from archgym.simulators.soc.objectives import FarsiDistance, budgets
from archgym.simulators.soc.simulator import SocSimulator
from archgym.simulators.soc.spaces import LimitedSpace
from archgym.simulators.soc.task_graph import TaskGraph, builtin_combination

REQUIRED = {"worst_error": 1e-6}


def validate(ref: Path) -> Iterable[Group]:
    """Compare with ``farsi_runs.json`` of the folder ``ref`` (or, without it, ``farsi_runs.csv``): latency of each
    workload, power, energy, area, both distances, phases and the times of every task; relative errors. Then the same
    figures through the kernel, for the runs that the space ``archgym-limited`` can express."""
    runs = _read_runs(ref)
    results: list[tuple[dict[str, Any], TaskGraph, Result]] = []
    for run in runs:
        graph = builtin_combination(tuple(run["workloads"]))
        design = SocDesign.from_dict(run["design"])
        broken = design.violation(graph)
        if broken:
            raise ArchGymError(f"run {run['id']} of the reference breaks {broken!r}; the folder holds other data")
        results.append((run, graph, evaluate_design(design, graph)))

    def rows(chosen: list[tuple[dict[str, Any], TaskGraph, Result]]) -> list[dict[str, Any]]:
        return [
            {
                "id": run["id"],
                "workloads": "+".join(run["workloads"]),
                "kind": run["kind"],
                "pes": len(run["design"]["pes"]),
                "memories": len(run["design"]["mems"]),
                "buses": len(run["design"]["buses"]),
            }
            for run, _, _ in chosen
        ]

    for workload in sorted({part.name for _, graph, _ in results for part in graph.parts}):
        chosen = [entry for entry in results if workload in entry[0]["workloads"]]
        ours = [result.latency_s[run["workloads"].index(workload)] for run, _, result in chosen]
        reference = [run["result"]["latency_s"][workload] for run, _, _ in chosen]
        yield compare(f"latency/{workload}", ours, reference, required=REQUIRED, exact_within=1e-12, rows=rows(chosen))
    for group, key, attribute in (
        ("power", "power_w", "power_w"),
        ("energy", "energy_j", "energy_j"),
        ("area", "area_m2", "area_m2"),
        ("area/dram", "area_dram_m2", "dram_area_m2"),
        ("area/other", "area_nondram_m2", "other_area_m2"),
    ):
        ours = [getattr(result, attribute) for _, _, result in results]
        reference = [run["result"][key] for run, _, _ in results]
        yield compare(group, ours, reference, required=REQUIRED, exact_within=1e-12, rows=rows(results))
    for group, key, simple in (
        ("distance/eliminate", "dist_to_goal_eliminate", False),
        ("distance/simple", "dist_to_goal_simple", True),
    ):
        ours = [_distance(graph, result, simple) for _, graph, result in results]
        reference = [run["result"][key] for run, _, _ in results]
        yield compare(group, ours, reference, required=REQUIRED, exact_within=1e-12, rows=rows(results))
    counts = [len(result.phases) for _, _, result in results]
    reference = [run["result"]["n_phases"] for run, _, _ in results]
    yield compare("phases", counts, reference, required={"exact": 1.0}, rows=rows(results))
    detailed = [entry for entry in results if "tasks" in entry[0]["result"]]
    if detailed:
        yield _task_times(detailed)
    limited = [entry for entry in results if "encoded" in entry[0]]
    if limited:
        yield _through_kernel(limited, rows(limited))


def _distance(graph: TaskGraph, result: Result, simple: bool) -> float:
    metrics = {f"latency_{part.name}_s": np.array(s) for part, s in zip(graph.parts, result.latency_s, strict=True)}
    metrics["power_w"] = np.array(result.power_w)
    metrics["dram_area_mm2"] = np.array(result.dram_area_m2 * 1e6)
    metrics["other_area_mm2"] = np.array(result.other_area_m2 * 1e6)
    return float(FarsiDistance(budgets(graph, "farsi"), simple=simple).distance(metrics))


def _task_times(entries: list[tuple[dict[str, Any], TaskGraph, Result]]) -> Group:
    """Launch (FARSI's start) and end of every task."""
    ours, reference, about = [], [], []
    for run, graph, result in entries:
        for spelt, times in run["result"]["tasks"].items():
            name = {"souurce": "source", "siink": "sink"}.get(spelt, spelt.removesuffix("_fxp_cloned"))
            t = graph.index[name]
            for key, mine in (("start_s", result.launch_s[t]), ("end_s", result.end_s[t])):
                ours.append(mine)
                reference.append(times[key])
                about.append({"id": run["id"], "task": name, "time": key})
    return compare("task times", ours, reference, required=REQUIRED, exact_within=1e-12, rows=about)


def _through_kernel(entries: list[tuple[dict[str, Any], TaskGraph, Result]], about: list[dict[str, Any]]) -> Group:
    """Latency through the compiled path: the run's own vector as a row of ``archgym-limited``."""
    simulator = SocSimulator("archgym-limited")
    ours, reference = [], []
    for run, graph, _ in entries:
        space = simulator.space(graph)
        assert isinstance(space, LimitedSpace)
        evaluation = simulator.evaluate(encode_limited(space, run["encoded"]), graph)
        name = run["workloads"][0]
        ours.append(evaluation.metrics[f"latency_{name}_s"][0] * evaluation.metrics["power_w"][0])
        reference.append(run["result"]["latency_s"][name] * run["result"]["power_w"])
    return compare("kernel/latency*power", ours, reference, required=REQUIRED, exact_within=1e-12, rows=about)


def encode_limited(space: LimitedSpace, encoded: dict[str, list[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """ArchGym's vector (``pe``, ``mem``, ``bus``, ``p2b``, ``b2b``, ``b2m``, ``t2p``, ``t2m``; -1 for none) as
    a row."""
    parts = [np.array(encoded[key]) + (key in ("b2b", "b2m")) for key in ("pe", "mem", "bus", "p2b", "b2b", "b2m")]
    return np.concatenate([*parts, encoded["t2p"], encoded["t2m"]]).astype(np.int64)


def _read_runs(ref: Path) -> list[dict[str, Any]]:
    detailed, flat = ref / "farsi_runs.json", ref / "farsi_runs.csv"
    try:
        if detailed.exists():
            runs: list[dict[str, Any]] = read_json(detailed)
            for i, run in enumerate(runs):
                run.setdefault("id", i)
            return runs
        if flat.exists():
            with flat.open(encoding="utf-8") as lines:
                return [_from_row(row) for row in csv.DictReader(lines)]
    except (ValueError, KeyError) as error:
        raise ArchGymError(f"the runs in {ref} cannot be read ({error}); expected farsi_runs.json or .csv") from None
    raise ArchGymError(f"{ref} has neither farsi_runs.json nor farsi_runs.csv; give the folder of the reference runs")


def _from_row(row: dict[str, str]) -> dict[str, Any]:
    """A row of the flat file in the form of the detailed one."""
    workloads = row["workloads"].replace(";", "+").replace(",", "+").split("+")
    short = {"audio_decoder": "audio", "hpvm_cava": "cava", "edge_detection": "edge"}
    lists = ("pes", "mems", "buses", "pe_to_bus", "bus_to_bus", "mem_to_bus", "task_to_pe", "task_to_mem")
    return {
        "id": int(row["id"]),
        "workloads": workloads,
        "kind": row["kind"],
        "design": {key: json.loads(row[key]) for key in lists},
        "result": {
            "latency_s": {name: float(row[f"latency_{short[name]}_s"]) for name in workloads},
            "power_w": float(row["power_W"]),
            "energy_j": float(row["energy_J"]),
            "area_m2": float(row["area_m2"]),
            "area_dram_m2": float(row["area_dram_m2"]),
            "area_nondram_m2": float(row["area_nondram_m2"]),
            "dist_to_goal_eliminate": float(row["dist_eliminate"]),
            "dist_to_goal_simple": float(row["dist_simple"]),
            "n_phases": int(row["n_phases"]),
        },
    }
