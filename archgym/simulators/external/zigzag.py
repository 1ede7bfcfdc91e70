"""ZigZag (Mei et al., IEEE TC 2021) as a real back-end: its own search for the mapping of every layer.

The design space is a small family of two-dimensional arrays with a weight register and an accumulator a unit, one
shared buffer for inputs and outputs, and DRAM. Every layer of a design is searched by ZigZag's LOMA engine in a
process of its own; that takes seconds to minutes a layer. Needs the extra ``zigzag``, or another environment that
has it (``python=``).
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.layers import Layer, Network
from archgym.networks.simulator import NetworkSimulator
from archgym.objective import LogRatio, Objective, log_ratio
from archgym.simulator import Evaluation, Metric, Workload
from archgym.simulators.external.process import ToolError, find_binary, run_jobs, run_tool
from archgym.space import DesignSpace, Parameter
from archgym.writing import yaml_text

# Started with -P: beside the script lies a module named like the package that it imports.
_WORKER = Path(__file__).with_name("zigzag_worker.py")
OLDEST = (3, 9)
"""Versions of ZigZag before this are not supported."""


@cache
def zigzag_version(python: str) -> str:
    """Version of the ZigZag that an interpreter has.

    Raises:
        MissingExtraError: where it has none.
        ArchGymError: where it is too old, or the interpreter is missing.
    """
    program = find_binary(python, "ZigZag", "give the path of a Python interpreter that has zigzag-dse")
    try:
        output = run_tool([program, "-P", str(_WORKER)], Path.cwd(), timeout_s=120)
        version = str(json.loads(output.strip().splitlines()[-1])["version"])
    except ToolError as error:
        raise MissingExtraError("ZigZag", "zigzag", str(error)) from None
    except (ValueError, IndexError, KeyError):
        raise ArchGymError(f"{python} does not say which ZigZag it has; reinstall zigzag-dse there") from None
    try:
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        numbers = OLDEST
    if numbers < OLDEST:
        raise ArchGymError(f"ZigZag {version} is too old; install zigzag-dse>={'.'.join(map(str, OLDEST))}")
    return version


class ZigZagSimulator(NetworkSimulator):
    """Hardware search with ZigZag's cost model and mapper.

    Args:
        space: ``default``.
        python: interpreter that has ZigZag; this one where None.
        search: ``energy``, ``latency`` or ``EDP``: what ZigZag's mapper minimises a layer.
        lpf_limit: loop prime factors that LOMA permutes; 4 takes seconds a layer, 6 minutes.
        timeout_s: limit for all layers of a design.
        workers: designs at a time.

    Violations: ``zigzag-failed`` (ZigZag finds no mapping or stops with an error), ``zigzag-timeout``.
    """

    name = "zigzag"
    version = "1"
    starts_programs = True
    spaces = ("default",)
    default_objective = "edp"
    default_workload = "resnet18"
    pareto = ("latency_cycles", "energy_uj")
    metrics = (
        Metric("latency_cycles", "cycles", "min", "run time, loading and unloading included"),
        Metric("latency_ms", "ms", "min", "run time at 1 GHz"),
        Metric("energy_uj", "uJ", "min", "multiply-accumulates and memory accesses"),
        Metric("edp_uj_ms", "uJ*ms", "min", "energy-delay product"),
        Metric("utilization", "", "max", "multiply-accumulates a cycle and unit, 1 at best"),
    )

    def __init__(
        self,
        space: str | None = None,
        *,
        python: str | None = None,
        search: str = "EDP",
        lpf_limit: int = 4,
        timeout_s: float = 600.0,
        workers: int = 1,
    ) -> None:
        super().__init__(space)
        if search not in ("energy", "latency", "EDP"):
            raise ArchGymError(f"search is {search!r}; expected energy, latency or EDP")
        if isinstance(lpf_limit, bool) or not isinstance(lpf_limit, int) or not 1 <= lpf_limit <= 12:
            raise ArchGymError(f"lpf_limit is {lpf_limit!r}; expected a whole number from 1 to 12")
        if not timeout_s > 0 or workers < 1:
            raise ArchGymError(f"timeout_s is {timeout_s!r} and workers {workers!r}; both must be positive")
        self.python, self.search, self.lpf_limit = python or sys.executable, search, lpf_limit
        self.timeout_s, self.workers = float(timeout_s), int(workers)
        self._space = DesignSpace(
            [
                Parameter("rows", (4, 8, 16, 32), True, "units", "units along the input channels"),
                Parameter("columns", (4, 8, 16, 32), True, "units", "units along the output channels"),
                Parameter("register_words", (1, 8, 64, 128), True, "words", "weights a unit holds"),
                Parameter("buffer_kb", (64, 256, 1024, 2048), True, "KiB", "shared buffer of inputs and outputs"),
                Parameter("buffer_bits", (64, 256, 1024), True, "bits/cycle", "width of the shared buffer"),
                Parameter("dram_bits", (32, 64, 128), True, "bits/cycle", "width of the link to DRAM"),
            ]
        )

    def space(self, workload: Workload) -> DesignSpace:
        return self._space

    def references(self, workload: Workload) -> Mapping[str, float]:
        """Fixed references a multiply-accumulate: 64 designs of real searches would take hours."""
        macs = float(self.check_network(workload).macs)
        cycles, energy_uj = macs / 64.0, macs * 2e-6
        return {
            "latency_cycles": cycles,
            "latency_ms": cycles * 1e-6,
            "energy_uj": energy_uj,
            "edp_uj_ms": energy_uj * cycles * 1e-6,
            "utilization": 0.5,
        }

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``latency``, ``energy`` and ``edp`` as log ratios."""

        def ratio(name: str, *metrics: str) -> LogRatio:
            return log_ratio(self, workload, metrics, name)

        return {
            "latency": ratio("latency", "latency_cycles"),
            "energy": ratio("energy", "energy_uj"),
            "edp": ratio("edp", "energy_uj", "latency_cycles"),
        }

    @property
    def programs(self) -> Mapping[str, str]:
        return {"zigzag": zigzag_version(self.python)}

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        network = self.check_network(workload).merged()
        rows = self._space.check(designs)
        named = self._space.decode(rows)
        if named:
            zigzag_version(self.python)
        jobs = [partial(self._run, design, network) for design in named]
        results = run_jobs(jobs, self.workers)
        violation: NDArray[np.object_] = np.full(len(rows), "", dtype=object)
        totals = np.ones((len(rows), 2))
        for i, result in enumerate(results):
            if isinstance(result, ToolError):
                violation[i] = f"zigzag-{result.kind}"
            else:
                totals[i] = result
        cycles, energy_uj = totals[:, 0], totals[:, 1] * 1e-6
        units = np.array([int(d["rows"]) * int(d["columns"]) for d in named], dtype=np.float64)
        columns = {
            "latency_cycles": cycles,
            "latency_ms": cycles * 1e-6,
            "energy_uj": energy_uj,
            "edp_uj_ms": energy_uj * cycles * 1e-6,
            "utilization": network.macs / (cycles * units),
        }
        return Evaluation.build(columns, violation)

    def _run(self, design: Mapping[str, Any], network: Network, folder: Path) -> tuple[float, float]:
        """Cycles and pJ of a network on a design."""
        layers = run_layers(
            folder,
            accelerator(design),
            [workload_entry(layer) for layer in network.layers],
            spatial={"D1": ("C", int(design["rows"])), "D2": ("K", int(design["columns"]))},
            python=self.python,
            search=self.search,
            lpf_limit=self.lpf_limit,
            timeout_s=self.timeout_s,
        )
        counts = [layer.count for layer in network.layers]
        cycles = sum(count * layer["latency_cycles"] for count, layer in zip(counts, layers, strict=True))
        energy = sum(count * layer["energy_pj"] for count, layer in zip(counts, layers, strict=True))
        return cycles, energy


def workload_entry(layer: Layer) -> dict[str, Any]:
    """A layer as ZigZag's workload format has it; a product is a convolution of one tap."""
    return {
        "id": 0,
        "name": layer.name,
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [
            f"ix={layer.stride_q}*ox+{layer.dilation_s}*fx",
            f"iy={layer.stride_p}*oy+{layer.dilation_r}*fy",
        ],
        "loop_dims": ["B", "G", "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q, layer.R, layer.S],
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"I": 0, "W": 0},
    }


def run_layers(
    folder: Path,
    hardware: Mapping[str, Any],
    workload: Sequence[Mapping[str, Any]],
    *,
    spatial: Mapping[str, tuple[str, int]],
    python: str,
    search: str,
    lpf_limit: int,
    timeout_s: float,
) -> list[dict[str, float]]:
    """Run ZigZag on layers and return a record a layer: ``energy_pj``, ``latency_cycles``, ``ideal_temporal_cycles``,
    ``utilization``.

    Raises:
        ToolError: where ZigZag fails or runs past the limit.
    """
    mapping = [
        {
            "name": "default",
            "spatial_mapping": {axis: [f"{dim}, {size}"] for axis, (dim, size) in spatial.items()},
            "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
        }
    ]
    for name, content in (("accelerator.yaml", hardware), ("mapping.yaml", mapping)):
        (folder / name).write_text(yaml_text(content), encoding="utf-8")
    job = {
        "accelerator": str(folder / "accelerator.yaml"),
        "mapping": str(folder / "mapping.yaml"),
        "workload": [dict(layer) for layer in workload],
        "lpf_limit": lpf_limit,
        "objective": search,
        "folder": str(folder / "out"),
        "result": str(folder / "result.json"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "out").mkdir()
    run_tool([python, "-P", str(_WORKER), str(folder / "job.json")], folder, timeout_s=timeout_s)
    try:
        layers = json.loads((folder / "result.json").read_text(encoding="utf-8"))["layers"]
    except (OSError, ValueError, KeyError):
        raise ToolError("failed", "it wrote no result") from None
    if len(layers) != len(workload):
        raise ToolError("failed", f"{len(layers)} results for {len(workload)} layers")
    return list(layers)


@functools.cache
def _technology() -> dict[str, Any]:
    from archgym.simulators.systolic.simulator import technology

    return technology()


def accelerator(design: Mapping[str, Any]) -> dict[str, Any]:
    """A design as ZigZag's accelerator file: energies in pJ an access of the given bits, from the tables of the
    systolic simulator."""
    tech = _technology()
    register_bits = 8 * int(design["register_words"])
    width = int(design["buffer_bits"])
    depth = int(design["buffer_kb"]) * 8192 / width

    def sram(law: str) -> float:
        factor, of_width, of_depth = tech[law]
        return float(factor * width**of_width * depth**of_depth)

    def memory(
        size: int, read: float, write: float, operands: list[str], ports: list[dict[str, Any]], serves: list[str]
    ) -> dict[str, Any]:
        return {
            "size": size,
            "r_cost": float(read),
            "w_cost": float(write),
            "area": 0.0,
            "latency": 1,
            "operands": operands,
            "ports": ports,
            "served_dimensions": serves,
        }

    def port(name: str, kind: str, least: int, most: int, allocation: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "type": kind,
            "bandwidth_min": least,
            "bandwidth_max": most,
            "allocation": allocation,
        }

    per_bit = tech["register_pj_per_bit"]
    weights = memory(
        register_bits,
        8 * per_bit,
        8 * per_bit,
        ["I2"],
        [port("r_port_1", "read", 8, 8, ["I2, tl"]), port("w_port_1", "write", 8, 8, ["I2, fh"])],
        [],
    )
    sums = memory(
        16,
        16 * per_bit,
        16 * per_bit,
        ["O"],
        [
            port("r_port_1", "read", 16, 16, ["O, tl"]),
            port("r_port_2", "read", 16, 16, ["O, th"]),
            port("w_port_1", "write", 16, 16, ["O, fh"]),
            port("w_port_2", "write", 16, 16, ["O, fl"]),
        ],
        ["D1"],
    )
    buffer = memory(
        int(design["buffer_kb"]) * 8192,
        sram("sram_read_pj"),
        sram("sram_write_pj"),
        ["I1", "O"],
        [
            port("r_port_1", "read", 8, width, ["I1, tl", "O, tl", "O, th"]),
            port("w_port_1", "write", 8, width, ["I1, fh", "O, fh", "O, fl"]),
        ],
        ["D1", "D2"],
    )
    bits = int(design["dram_bits"])
    everything = [f"{operand}, {way}" for operand in ("I1", "I2") for way in ("fh", "tl")]
    everything += [f"O, {way}" for way in ("fh", "tl", "fl", "th")]
    dram_pj = tech["dram_pj_per_bit"] * bits
    dram = memory(
        2**40,
        dram_pj,
        dram_pj,
        ["I1", "I2", "O"],
        [port("rw_port_1", "read_write", bits, bits, everything)],
        ["D1", "D2"],
    )
    return {
        "name": "array",
        "memories": {"weight_register": weights, "accumulator": sums, "buffer": buffer, "dram": dram},
        "operational_array": {
            "unit_energy": tech["mac_pj"],
            "unit_area": tech["mac_area_um2"],
            "dimensions": ["D1", "D2"],
            "sizes": [int(design["rows"]), int(design["columns"])],
        },
    }
