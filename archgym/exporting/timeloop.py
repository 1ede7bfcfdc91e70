"""Timeloop 0.4: architecture, problem, mapping, energies and areas of every layer, with the mapping found here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, number, optional
from archgym.networks.layers import Network
from archgym.problem import Problem
from archgym.reading import parse_yaml_all, quote_path
from archgym.simulators.accelerator.hardware import BASE_DESIGN, CLASSES, WORD_BITS
from archgym.simulators.accelerator.loopnest import Problem as LoopNest
from archgym.simulators.external.timeloop import write_inputs
from archgym.space import Value

#: Words in a level's name -> the buffer that it is here; the first that fits.
_ROLES = (
    ("ifmap_spad", ("ifmap", "input", "iact")),
    ("weights_spad", ("weight", "wght", "filter")),
    ("psum_spad", ("psum", "accum", "output", "oact")),
    ("shared_glb", ("glb", "global", "shared")),
    ("dummy_buffer", ("dummy",)),
)
#: What is said to be taken as usual where a file does not name it.
_DESIGNED = ("mac", "shared_glb", "ifmap_spad", "weights_spad", "psum_spad")
_DEPTHS = ("depth", "memory_depth", "entries")
_NAMED = re.compile(r"(?P<name>[^\[]+?)\s*(?:\[\s*(?P<first>\d+)\s*\.\.\s*(?P<last>\d+)\s*\])?")
#: Kinds of nodes in version 0.4, which its classes tell anyway.
_TAGS = re.compile(r"(?<=[\s,\[])!(?:Component|Container|Hierarchical|Parallel|Pipelined|Nothing|ArrayContainer)\b")


class TimeloopExporter(Exporter, Importer):
    """A folder a layer, each with the five files that ``timeloop-model`` takes."""

    name = "timeloop"
    title = "Timeloop"
    simulators = ("accelerator",)
    units = {
        "attributes.width": "bits a row",
        "attributes.datawidth": "bits a word",
        "attributes.depth": "rows",
        "attributes.storage_depth": "rows",
        "attributes.storage_block": "words a row",
        "attributes.*_bandwidth": "words a cycle",
        "attributes.global_cycle_seconds": "s",
        "attributes.mesh?": "instances",
        "attributes.cluster_size": "a count",
        "attributes.n_banks": "a count",
        "attributes.multiple_buffering": "copies of what is kept",
        "coefficients.default": "elements a step (stride or dilation)",
        "instance.?step*": "elements a step (stride or dilation)",
        "instance.*": "iterations of the layer's loop",
        "mapping.factors": "iterations of a loop at this level",
        "mapping.split": "the position in `permutation` at which the loops along Y begin",
        "actions.energy": "pJ an access to a row (`leak`: pJ a cycle and instance; `compute`: pJ a multiply-accumulate)",
        "tables.area": "um2 an instance",
    }
    files = ("architecture.yaml", "arch.yaml")

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, Network):
            raise ArchGymError(f"{problem.name} has several networks; export the design on one of them")
        simulator: Any = whole_simulator(problem)
        space = simulator.space(problem.workload)
        machine, nests = simulator.nests(space.encode(design), problem.workload, fidelity=problem.fidelity)
        written = Written()
        remarks = _remarks({**BASE_DESIGN, **design})
        for at, (layer, mapping) in enumerate(nests):
            name = f"{at:03d}-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", layer.name)[:60]
            if mapping is None:
                written.unsaid.append(f"Layer {layer.name!r} has no mapping on this hardware.")
                continue
            (folder / name).mkdir()
            files = write_inputs(folder / name, LoopNest.from_layer(layer), machine, mapping, WORD_BITS, remarks)
            written.files[f"{name}/"] = f"{layer.name}, {layer.count} time(s): {', '.join(files)}"
        written.unsaid += [
            "Storage classes, banks and the dummy buffer's size: they stand as attributes of archgym's own (storage_class, "
            "n_banks, storage_depth, storage_block), which Timeloop passes over; energies and areas stand in ERT and ART.",
            "Leakage of an element's three scratchpads: it stands in the energies of ifmap_spad.",
            "Repeats of a layer: multiply its results by the number of times in the table.",
            "Transfers between neighbouring instances: the model here has none; switch them off with "
            "TIMELOOP_DISABLE_LINK_TRANSFERS=1 to compare.",
        ]
        written.command = (
            "for d in */; do (cd $d && TIMELOOP_DISABLE_LINK_TRANSFERS=1 timeloop-model architecture.yaml problem.yaml "
            "mapping.yaml ERT.yaml ART.yaml); done"
        )
        return written

    def usual(self, problem: Problem) -> Mapping[str, Value]:
        return BASE_DESIGN

    def claims(self, path: Path, text: str) -> bool:
        return (
            path.suffix.lower() in (".yaml", ".yml") and re.search(r"^architecture\s*:", text, re.MULTILINE) is not None
        )

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        documents = [d for d in parse_yaml_all(_TAGS.sub("", text), place) if d is not None]
        found = next((d["architecture"] for d in documents if isinstance(d, dict) and "architecture" in d), None)
        if not isinstance(found, dict):
            raise ArchGymError(f"{place} has no mapping 'architecture'; expected Timeloop's")
        components: list[_Component] = []
        _walk(found, 1, (1, 1), components, place)
        said, taken = Said(), set()
        for component in components:
            name = _role(component)
            if name is None:
                said.unplaced.append(f"{component.name!r} ({component.kind or 'no class'}) has no counterpart.")
            elif name in taken:
                said.unplaced.append(f"{component.name!r} is a second {name}; the first stands.")
            else:
                taken.add(name)
                _take(said, component, name, place)
        for name in _DESIGNED:
            if name not in taken:
                said.unplaced.append(f"No {name} was recognised by its name; it is taken as usual.")
        if taken.isdisjoint(_DESIGNED):
            raise ArchGymError(f"{place}: no level was recognised by its name (ifmap, weights, psum, glb, mac)")
        return said


def _remarks(design: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """What Timeloop has no attribute for, by level."""
    found = {name: {"storage_class": design[f"{name}_class"]} for name, _ in _ROLES}
    found["shared_glb"]["n_banks"] = design["shared_glb_n_banks"]
    found["dummy_buffer"] |= {f"storage_{key}": design[f"dummy_buffer_{key}"] for key in ("depth", "block")}
    return found


@dataclass(frozen=True)
class _Component:
    """A component of an architecture: its class, its attributes, how often it is there and along X."""

    name: str
    kind: str
    attributes: Mapping[str, Any]
    instances: int
    mesh: tuple[int, int]


def _walk(node: Any, above: int, mesh: tuple[int, int], found: list[_Component], place: str) -> None:
    """Collect the components below a node of either style: subtree and local, or nodes.

    Raises:
        ArchGymError: a part is no mapping or has no name.
    """
    attributes = optional(node, "attributes")
    children = [*(node.get("local") or []), *(node.get("subtree") or []), *(node.get("nodes") or [])]
    for child in children:
        if not isinstance(child, dict):
            raise ArchGymError(
                f"{place} holds {quote(str(child), 40)} as a part of the architecture; expected a mapping"
            )
        name = _NAMED.fullmatch(str(child.get("name", "")))
        own = attributes | optional(child, "attributes")
        count = int(name["last"]) - int(name["first"]) + 1 if name and name["last"] else 1
        spatial = optional(child, "spatial")
        across = (
            int(number(spatial.get("meshX", 1), place, "meshX")),
            int(number(spatial.get("meshY", 1), place, "meshY")),
        )
        here = mesh[0] * across[0], mesh[1] * across[1]
        if any(size > 1 for size in across):
            count = across[0] * across[1]
        if "class" in child or "subclass" in child:
            if name is None:
                raise ArchGymError(f"{place} holds a component without a name")
            found.append(
                _Component(name["name"], str(child.get("subclass", child.get("class"))), own, above * count, here)
            )
        if "subtree" in child or "local" in child or "nodes" in child:
            _walk(child, above * count, here, found, place)
        elif "class" not in child and "subclass" not in child:
            # In a list of nodes a container multiplies what follows it.
            above, mesh = above * count, here


def _role(component: _Component) -> str | None:
    kind, name = component.kind.lower(), component.name.lower()
    if "mac" in kind or "compute" in kind or name in ("mac", "macs"):
        return "mac"
    if kind == "dram" or name == "dram":
        return "dram"
    return next((role for role, words in _ROLES if any(word in name for word in words)), None)


def _take(said: Said, component: _Component, name: str, place: str) -> None:
    given = component.attributes
    at = f"{place}, {component.name}"

    def size(*keys: str) -> float | None:
        return next((float(number(given[key], at, key)) for key in keys if given.get(key) is not None), None)

    if name == "dram":
        return
    if name == "mac":
        said.values["num_pes"] = component.instances
        columns = size("meshX") or (component.mesh[0] if component.mesh[0] > 1 else None)
        if columns:
            said.values["mac_mesh_x"] = int(columns)
        return
    bits = size("datawidth", "word-bits", "word_bits") or float(WORD_BITS)
    if bits != WORD_BITS:
        said.unplaced.append(f"{component.name}: words of {bits:g} bits; here words have {WORD_BITS}.")
    width = size("width", "memory_width")
    block = size("storage_block", "block-size", "block_size") or (width / bits if width else 1.0)
    depth = size("storage_depth", *_DEPTHS)
    if depth is None and (words := size("sizeKB")) is not None:
        depth = words * 8192 / bits / block
    if depth is not None:
        said.values[f"{name}_depth"] = int(depth) if float(depth).is_integer() else depth
    said.values[f"{name}_block"] = int(block) if float(block).is_integer() else block
    for way in ("read", "write"):
        if (words := size(f"{way}_bandwidth")) is not None:
            said.values[f"{name}_{way}_bw"] = int(words) if float(words).is_integer() else words
    if (banks := size("n_banks", "num_banks")) is not None and name == "shared_glb":
        said.values["shared_glb_n_banks"] = int(banks)
    kind = str(given.get("storage_class", component.kind))
    if kind in CLASSES:
        said.values[f"{name}_class"] = kind
    elif component.kind:
        said.unplaced.append(f"{component.name}: the class {component.kind[:30]} is none of {', '.join(CLASSES)}.")
