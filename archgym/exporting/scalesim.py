"""SCALE-Sim 3: the configuration of the array and the topology of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, number, sections_of
from archgym.networks.layers import Network
from archgym.problem import Problem
from archgym.reading import quote_path
from archgym.simulators.external.scalesim import configuration, topology_csv
from archgym.simulators.systolic.simulator import array_parameters
from archgym.space import Value

#: Keys of the configuration -> our parameters.
_KEYS = {
    "arrayheight": "array_rows", "arraywidth": "array_columns", "ifmapsramszkb": "ifmap_sram_kb",
    "filtersramszkb": "filter_sram_kb", "ofmapsramszkb": "ofmap_sram_kb", "bandwidth": "bandwidth",
    # Names of versions before 3.
    "ifmapsramsz": "ifmap_sram_kb", "filtersramsz": "filter_sram_kb", "ofmapsramsz": "ofmap_sram_kb",
}  # fmt: skip
_NOT_HARDWARE = {"dataflow", "ifmapoffset", "filteroffset", "ofmapoffset", "readrequestbuffer", "writerequestbuffer",
                 "memorybanks"}  # fmt: skip


class ScaleSimExporter(Exporter, Importer):
    """``scale.cfg`` and ``topology.csv``."""

    name = "scalesim"
    title = "SCALE-Sim 3"
    units = {
        "ArrayHeight": "processing elements",
        "ArrayWidth": "processing elements",
        "*SramSzkB": "kB of 1,024 bytes",
        "*Offset": "addresses, in words",
        "Bandwidth": "words a cycle",
        "*RequestBuffer": "requests",
        "*SRAMBankBandwidth": "words a cycle (custom layouts are off)",
        "*SRAMBankNum": "a count",
        "*SRAMBankPort": "a count",
        "BlockSize": "words (sparsity is off)",
        "RandomNumberGeneratorSeed": "a seed",
        "IFMAP Height": "elements, padding included",
        "IFMAP Width": "elements, padding included",
        "Filter Height": "elements",
        "Filter Width": "elements",
        "Channels": "a count",
        "Num Filter": "a count",
        "Strides": "elements",
    }
    simulators = ("systolic",)
    files = ("scale.cfg",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, Network):
            raise ArchGymError(f"{problem.name} has several networks; export the design on one of them")
        simulator: Any = whole_simulator(problem)
        space = simulator.space(problem.workload)
        network = problem.workload.merged()
        (folder / "scale.cfg").write_text(
            configuration(array_parameters(space, space.encode(design))[0]), encoding="utf-8"
        )
        (folder / "topology.csv").write_text(topology_csv(network, largest_macs=1 << 62), encoding="utf-8")
        unsaid = [
            "Repeats: a layer that occurs several times stands once "
            f"({sum(layer.count for layer in network.layers)} layers, {len(network.layers)} rows); multiply its results.",
        ]
        if any(layer.G > 1 for layer in network.layers):
            unsaid.append("Groups: a grouped or depthwise layer stands with one of its groups; multiply its results.")
        unsaid.append(
            "Bandwidth is estimated (InterfaceBandwidth CALC); the closed forms here stall on the design's own."
        )
        return Written(
            {"scale.cfg": "array, SRAM in kB, dataflow", "topology.csv": "the layers"},
            unsaid,
            "python -m scalesim.scale -c scale.cfg -t topology.csv -p out",
        )

    def claims(self, path: Path, text: str) -> bool:
        return "arrayheight" in text.lower() and "arraywidth" in text.lower()

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        parser = sections_of(text, place, "SCALE-Sim")
        section = next((name for name in parser.sections() if name.lower() == "architecture_presets"), None)
        if section is None:
            raise ArchGymError(f"{place} has no section [architecture_presets]")
        said = Said()
        for key, value in parser[section].items():
            if key in _KEYS:
                # Bandwidths may be lists, one a tensor.
                parts = [number(part.strip(), place, key) for part in value.split(",")]
                if len(set(parts)) > 1:
                    said.unplaced.append(f"{key}: {value} (one a tensor); the first stands for all.")
                said.values[_KEYS[key]] = parts[0]
            elif key == "dataflow":
                said.values["dataflow"] = value.strip().lower()
            elif key not in _NOT_HARDWARE:
                said.unplaced.append(f"{key} ({value[:40]}) has no counterpart.")
        mode = parser.get("run_presets", "InterfaceBandwidth", fallback="CALC").strip().upper()
        if mode == "CALC" and "bandwidth" in said.values:
            said.unplaced.append(
                "InterfaceBandwidth CALC: SCALE-Sim estimates the bandwidth there; here the given one limits."
            )
        return said
