"""ZigZag: accelerator, spatial mapping and workload as the YAML files that it takes.

ZigZag counts an access in units of a port's widest transfer (``bandwidth_max`` bits), so that energies are given for that
many bits, in pJ. Areas are in square millimetres and enter no result of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, inner, number, quietly
from archgym.networks.layers import Layer, Network
from archgym.problem import Problem
from archgym.reading import quote_path
from archgym.simulators.accelerator.hardware import BASE_DESIGN, DRAM_BLOCK, WORD_BITS
from archgym.simulators.external.zigzag import accelerator as zigzag_accelerator
from archgym.simulators.external.zigzag import workload_entry
from archgym.space import Value
from archgym.writing import yaml_text

_WAYS = {"I1": ("fh", "tl"), "I2": ("fh", "tl"), "O": ("fh", "tl", "fl", "th")}
"""Directions of an operand's traffic: from and to the higher and the lower memory."""


class ZigZagExporter(Exporter, Importer):
    """``accelerator.yaml``, ``mapping.yaml`` and ``workload.yaml``."""

    name = "zigzag"
    title = "ZigZag"
    units = {
        "size": "bits",
        "?_cost": "pJ for `bandwidth_max` bits",
        "memories.*.area": "mm2",
        "latency": "cycles",
        "bandwidth_*": "bits a cycle",
        "unit_energy": "pJ a multiply-accumulate",
        "unit_area": "mm2 an element",
        "sizes": "elements along each dimension",
        "spatial_mapping.*": "iterations of a loop that are laid out on the array",
        "loop_sizes": "iterations",
        "dimension_relations": "elements a step (stride and dilation)",
        "operand_precision.*": "bits",
        "id": "the number of the layer",
        "operand_source.*": "the number of the layer",
    }
    simulators = ("zigzag", "accelerator", "systolic")
    files = ("accelerator.yaml",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, Network):
            raise ArchGymError(f"{problem.name} has several networks; export the design on one of them")
        kind = problem.name.partition("/")[0]
        network = problem.workload.merged()
        unsaid: list[str] = []
        if kind == "zigzag":
            hardware, spatial, bits = zigzag_accelerator(design), _weights_stay(design["rows"], design["columns"]), 8
        elif kind == "systolic":
            hardware, spatial, bits, unsaid = _systolic(design)
        else:
            hardware, spatial, bits, unsaid = _row_stationary(problem, design)
        mapping = [
            {
                "name": "default",
                **({"spatial_mapping": spatial} if spatial else {}),
                "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
            }
        ]
        workload = [_entry(layer, i, bits) for i, layer in enumerate(network.layers)]
        for name, content in (("accelerator", hardware), ("mapping", mapping), ("workload", workload)):
            text = yaml_text(content, default_flow_style=None, width=120)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        if any(layer.count > 1 for layer in network.layers):
            unsaid.append(
                "Repeats: a layer that occurs several times stands once "
                f"({network.layer_count} layers, {len(network.layers)} entries); multiply its results."
            )
        unsaid.append("Padding: layers are written with the outputs they have, and inputs just as large as these need.")
        return Written(
            {
                "accelerator.yaml": "memories (sizes in bits, energies in pJ for a port's widest transfer, bandwidths in "
                "bits a cycle), array (energy in pJ a multiply-accumulate)",
                "mapping.yaml": "which loops are laid out on the array, and which memory holds which tensor",
                "workload.yaml": f"the layers, words of {bits} bits",
            },
            unsaid,
            'python -c "from zigzag.api import get_hardware_performance_zigzag as run; '
            "print(run('workload.yaml', 'accelerator.yaml', 'mapping.yaml', opt='EDP', dump_folder='out')[:2])\"",
        )

    def usual(self, problem: Problem) -> Mapping[str, Value]:
        return BASE_DESIGN if problem.name.partition("/")[0] == "accelerator" else super().usual(problem)

    def claims(self, path: Path, text: str) -> bool:
        content = quietly(text) if path.suffix.lower() in (".yaml", ".yml") else None
        return isinstance(content, dict) and {"operational_array", "memories"} <= set(content)

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        content = quietly(text)
        if not isinstance(content, dict):
            raise ArchGymError(f"{place} is no YAML mapping; expected ZigZag's accelerator file")
        array = inner(content, place, "operational_array")
        memories = inner(content, place, "memories")
        sizes = array.get("sizes")
        if not isinstance(sizes, list) or len(sizes) != 2:
            raise ArchGymError(f"{place}: the array has sizes {str(sizes)[:40]}; a design here has two dimensions")
        sides = [number(size, place, "sizes") for size in sizes]
        kind = problem.name.partition("/")[0]
        found = {name: _Memory(memory, f"{place}, memory {str(name)[:40]}") for name, memory in memories.items()}
        if kind == "zigzag":
            return _read_zigzag(sides, found)
        if kind == "systolic":
            return _read_systolic(sides, found)
        return _read_row_stationary(sides, found)


def _entry(layer: Layer, index: int, bits: int) -> dict[str, Any]:
    entry = workload_entry(layer) | {"id": index}
    # Every layer reads its input from outside (its own number), as one that is the network's first does.
    entry["operand_source"] = {"I": index, "W": index}
    entry["operand_precision"] = {"W": bits, "I": bits, "O": 2 * bits if bits == 8 else bits, "O_final": bits}
    return entry


def _weights_stay(rows: Value, columns: Value) -> dict[str, list[str]]:
    return {"D1": [f"C, {rows}"], "D2": [f"K, {columns}"]}


def _memory(
    size_bits: int,
    operands: list[str],
    serves: list[str],
    read: tuple[float, int, int],
    write: tuple[float, int, int],
    area: float = 0.0,
) -> dict[str, Any]:
    """A memory with a port each way; ``read`` and ``write``: pJ for the widest transfer, and its least and most bits."""
    into = [f"{operand}, {way}" for operand in operands for way in _WAYS[operand] if way[0] == "f"]
    out = [f"{operand}, {way}" for operand in operands for way in _WAYS[operand] if way[0] == "t"]
    ports = [
        {"name": name, "type": way, "bandwidth_min": low, "bandwidth_max": high, "allocation": allocation}
        for name, way, (_, low, high), allocation in (
            ("r_port_1", "read", read, out),
            ("w_port_1", "write", write, into),
        )
    ]
    return {
        "size": size_bits, "r_cost": float(read[0]), "w_cost": float(write[0]), "area": float(area), "latency": 1,
        "operands": operands, "ports": ports, "served_dimensions": serves,
    }  # fmt: skip


def _dram(pj_per_bit_read: float, pj_per_bit_write: float, bits: int) -> dict[str, Any]:
    read, write = (pj_per_bit_read * bits, bits, bits), (pj_per_bit_write * bits, bits, bits)
    return _memory(2**40, ["I1", "I2", "O"], ["D1", "D2"], read, write)


# --- the row-stationary accelerator ------------------------------------------------------------------------------------

_ROLES = {"ifmap_spad": "I1", "weights_spad": "I2", "psum_spad": "O", "shared_glb": "I1 O"}


def _row_stationary(
    problem: Problem, design: Mapping[str, Value]
) -> tuple[dict[str, Any], dict[str, Any], int, list[str]]:
    """ArchGym's Eyeriss: D1 are the columns, D2 the rows."""
    simulator: Any = whole_simulator(problem)
    library = simulator.library
    full = {**BASE_DESIGN, **design}
    memories: dict[str, Any] = {}
    for name, operands in _ROLES.items():
        depth, block = int(full[f"{name}_depth"]), int(full[f"{name}_block"])
        figures = library.storage(str(full[f"{name}_class"]), depth, block * WORD_BITS)
        ways = []
        for way in ("read", "write"):
            words = int(full[f"{name}_{way}_bw"])
            # A vector access moves a block; what a transfer of the whole bandwidth costs is its share of accesses.
            ways.append((float(figures[f"{way}_pj"]) * words / block, min(words, block) * WORD_BITS, words * WORD_BITS))
        serves = ["D1", "D2"] if name == "shared_glb" else []
        area = float(figures["area_um2"]) * 1e-6
        memories[name] = _memory(depth * block * WORD_BITS, operands.split(), serves, ways[0], ways[1], area)
    bandwidth = simulator.dram_bandwidth
    words = DRAM_BLOCK if bandwidth == float("inf") else max(int(bandwidth), 1)
    memories["dram"] = _dram(library.dram_read_pj_per_bit, library.dram_write_pj_per_bit, words * WORD_BITS)
    columns = int(full["mac_mesh_x"])
    array = {
        "unit_energy": float(library.mac_pj), "unit_area": float(library.mac_area_um2) * 1e-6,
        "dimensions": ["D1", "D2"], "sizes": [columns, int(full["num_pes"]) // columns],
    }  # fmt: skip
    unsaid = [
        "The mappings found here: ZigZag searches its own.",
        "The dummy buffer: it keeps nothing and has an area alone.",
        "Banks of the global buffer, and storage classes (their energies and areas stand in the numbers).",
        "Leakage: ZigZag's costs have none.",
    ]
    if any(int(full[f"{name}_block"]) > int(full[f"{name}_{way}_bw"]) for name in _ROLES for way in ("read", "write")):
        unsaid.append("Rows wider than a port: a transfer is written with its share of a row's energy.")
    if bandwidth == float("inf"):
        unsaid.append(f"Main memory is not limited here; {words * WORD_BITS} bits a cycle are written.")
    return {"name": "row_stationary", "memories": memories, "operational_array": array}, {}, WORD_BITS, unsaid


def _read_row_stationary(sides: list[int | float], memories: Mapping[str, _Memory]) -> Said:
    said = Said({"mac_mesh_x": sides[0], "num_pes": sides[0] * sides[1]})
    for name, operands in _ROLES.items():
        wanted = set(operands.split())
        fitting = [m for key, m in memories.items() if key != "dram" and m.operands == wanted]
        if not fitting:
            said.unplaced.append(f"No memory for {operands} alone: {name} is taken as usual.")
            continue
        memory = fitting[0]
        for way in ("read", "write"):
            low, high = memory.bandwidth(way)
            said.values[f"{name}_{way}_bw"] = high // WORD_BITS
            block = min(low, high) // WORD_BITS
        said.values[f"{name}_block"] = max(block, 1)
        said.values[f"{name}_depth"] = memory.bits / WORD_BITS / max(block, 1)
    said.unplaced.append("Energies and areas of the file: here they follow from depth, width and class.")
    used = [set(operands.split()) for operands in _ROLES.values()]
    said.unplaced += [
        f"Memory {name!r} has no counterpart."
        for name, memory in memories.items()
        if memory.operands not in used and memory.operands != {"I1", "I2", "O"}
    ]
    return said


# --- systolic arrays ---------------------------------------------------------------------------------------------------


def _systolic(design: Mapping[str, Value]) -> tuple[dict[str, Any], dict[str, Any], int, list[str]]:
    """D1 are rows, D2 columns; the stationary operand's register in every element."""
    from archgym.simulators.systolic.simulator import technology

    tech = technology()
    bits, sums, width = int(tech["operand_bits"]), int(tech["partial_sum_bits"]), int(tech["sram_width_bits"])
    flow = str(design["dataflow"])
    stationary = {"ws": "I2", "os": "O", "is": "I1"}[flow]
    per_bit = float(tech["register_pj_per_bit"])
    register = sums if stationary == "O" else bits
    step = (register * per_bit, register, register)
    memories = {"register": _memory(register, [stationary], [], step, step)}
    for name, operand in (("ifmap_sram", "I1"), ("filter_sram", "I2"), ("ofmap_sram", "O")):
        size = int(design[f"{name}_kb"]) * 8192

        def pj(law: str, depth: float = size / width) -> float:
            factor, of_width, of_depth = tech[law]
            return float(factor * width**of_width * depth**of_depth)

        area = size * float(tech["sram_area_um2_per_bit"]) * 1e-6
        read, write = (pj("sram_read_pj"), bits, width), (pj("sram_write_pj"), bits, width)
        memories[name] = _memory(size, [operand], ["D1", "D2"], read, write, area)
    memories["dram"] = _dram(tech["dram_pj_per_bit"], tech["dram_pj_per_bit"], int(design["bandwidth"]) * bits)
    rows, columns = int(design["array_rows"]), int(design["array_columns"])
    array = {
        "unit_energy": float(tech["mac_pj"]), "unit_area": float(tech["mac_area_um2"]) * 1e-6,
        "dimensions": ["D1", "D2"], "sizes": [rows, columns],
    }  # fmt: skip
    spatial = {
        "ws": _weights_stay(rows, columns),
        "os": {"D1": [f"OX, {rows}"], "D2": [f"K, {columns}"]},
        "is": {"D1": [f"C, {rows}"], "D2": [f"OX, {columns}"]},
    }[flow]
    unsaid = [
        f"Dataflow {flow}: the stationary tensor's register and the loops on the array are written; a systolic array "
        "takes whole products (filter taps with channels, rows with columns of the output), of which ZigZag has one loop each.",
        "Filling and draining the array: ZigZag has no skew.",
        "Leakage: ZigZag's costs have none.",
    ]
    return {"name": f"systolic_{flow}", "memories": memories, "operational_array": array}, spatial, bits, unsaid


def _read_systolic(sides: list[int | float], memories: Mapping[str, _Memory]) -> Said:
    said = Said({"array_rows": sides[0], "array_columns": sides[1]})
    for name, operand in (("ifmap_sram_kb", "I1"), ("filter_sram_kb", "I2"), ("ofmap_sram_kb", "O")):
        shared = [m for m in memories.values() if operand in m.operands and len(m.operands) < 3 and m.serves]
        if shared:
            memory = max(shared, key=lambda m: m.bits)
            said.values[name] = memory.bits / 8192 / len(memory.operands)
            if len(memory.operands) > 1:
                said.unplaced.append(
                    f"{name}: the file's buffer is shared by {len(memory.operands)} tensors; split evenly."
                )
    stay = [m for m in memories.values() if not m.serves and len(m.operands) == 1]
    if stay:
        (operand,) = max(stay, key=lambda m: m.bits).operands
        said.values["dataflow"] = {"I2": "ws", "O": "os", "I1": "is"}[operand]
    for memory in memories.values():
        if memory.operands == {"I1", "I2", "O"}:
            said.values["bandwidth"] = memory.bandwidth("read")[1] / 8
    said.unplaced.append("Energies and areas of the file: here they follow from the sizes.")
    return said


# --- ZigZag's own family ---------------------------------------------------------------------------------------------------


def _read_zigzag(sides: list[int | float], memories: Mapping[str, _Memory]) -> Said:
    said = Said({"rows": sides[0], "columns": sides[1]})
    for memory in memories.values():
        if memory.operands == {"I2"}:
            said.values["register_words"] = memory.bits / 8
        elif memory.operands == {"I1", "O"}:
            said.values["buffer_kb"] = memory.bits / 8192
            said.values["buffer_bits"] = memory.bandwidth("read")[1]
        elif memory.operands == {"I1", "I2", "O"}:
            said.values["dram_bits"] = memory.bandwidth("read")[1]
    said.unplaced.append("Energies and areas of the file: here they follow from the sizes.")
    return said


class _Memory:
    """A memory of an accelerator file."""

    def __init__(self, content: Any, place: str) -> None:
        if not isinstance(content, dict):
            raise ArchGymError(f"{place} is no mapping; expected size, operands and ports")
        self.place, self.content = place, content
        self.bits = number(content.get("size"), place, "size")
        operands = content.get("operands")
        if not isinstance(operands, list) or not operands or not set(map(str, operands)) <= set(_WAYS):
            raise ArchGymError(f"{place}: the operands are {str(operands)[:40]}; expected a list of I1, I2, O")
        self.operands = set(map(str, operands))
        served = content.get("served_dimensions")
        self.serves = list(served) if isinstance(served, list) else []

    def bandwidth(self, way: str) -> tuple[int, int]:
        """Least and most bits a cycle of the widest port that reads (or writes)."""
        ports = self.content.get("ports")
        found = []
        for port in ports if isinstance(ports, list) else []:
            if isinstance(port, dict) and way in str(port.get("type")).split("_"):
                low, high = (number(port.get(key), self.place, key) for key in ("bandwidth_min", "bandwidth_max"))
                found.append((int(low), int(high)))
        if not found:
            raise ArchGymError(f"{self.place} has no port that can {way}")
        return max(found, key=lambda pair: pair[1])
