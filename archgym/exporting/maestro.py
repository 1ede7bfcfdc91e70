"""MAESTRO: the layer with its mapping in two cluster levels, and the hardware file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, number
from archgym.networks.maestro import Directive, MaestroLayer, maestro_layers
from archgym.problem import Problem
from archgym.reading import quote_path, read_text
from archgym.simulators.mapping.simulator import LayerWorkload, order_rank, permutations
from archgym.space import Value

UNLIMITED = 1 << 30
"""Words that stand for a buffer without limit."""
_LETTERS = ("K", "C", "Y'", "X'", "R", "S")
"""Names of the dims in output coordinates, in the order of our genes' ranks (K C P Q R S)."""
_DIMS = tuple(letter.rstrip("'") for letter in _LETTERS)
_GENES = tuple(dim.lower() for dim in _DIMS)


class MaestroExporter(Exporter, Importer):
    """``mapping.m`` (network, layer, dataflow) and ``hardware.m``."""

    name = "maestro"
    title = "MAESTRO"
    units = {
        "Stride": "elements",
        "Dimensions": "elements; Y and X of the padded input",
        "*Map": "elements of a tile, and of the step to the next one",
        "Cluster": "processing elements",
        "num_pes": "a count",
        "l?_size_cstr": "words (2^30: not limited)",
        "*_bw_cstr": "words a cycle",
    }
    simulators = ("mapping",)
    files = ("mapping.m",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, LayerWorkload):
            raise ArchGymError(f"{problem.name} has several layers; export the design on one of them")
        simulator: Any = whole_simulator(problem)
        work = problem.workload
        (folder / "mapping.m").write_text(_network(work, design), encoding="utf-8")
        limits = {"l1_size_cstr": simulator.l1_words, "l2_size_cstr": simulator.l2_words}
        hardware = {"num_pes": design["num_pe"]}
        hardware |= {key: UNLIMITED if words is None else words for key, words in limits.items()}
        hardware |= {
            "noc_bw_cstr": simulator.noc_words_per_cycle,
            "offchip_bw_cstr": simulator.offchip_words_per_cycle,
        }
        text = "".join(f"{key}: {value}\n" for key, value in hardware.items())
        (folder / "hardware.m").write_text(text, encoding="utf-8")
        unsaid = []
        if work.repeats > 1:
            unsaid.append(
                f"Batch and groups: one of {work.repeats} runs of the layer is written; multiply its results."
            )
        if work.layer.dilation_r > 1 or work.layer.dilation_s > 1:
            unsaid.append("Dilation: it has no counterpart; the layer is written without.")
        if simulator.edges != "maestro":
            unsaid.append(
                "Edges: partly filled tiles count here with their own size; MAESTRO counts some of them as full "
                "(-o edges=maestro gives its numbers)."
            )
        unsaid.append(f"The clock ({simulator.clock_ghz:g} GHz): MAESTRO counts cycles.")
        return Written(
            {
                "mapping.m": "the layer (rows and columns of the padded input) and its dataflow (tiles in elements)",
                "hardware.m": "processing elements, buffers in words, bandwidths in words a cycle",
            },
            unsaid,
            "maestro --HW_file=hardware.m --Mapping_file=mapping.m --print_res=true --print_res_csv_file=true",
        )

    def claims(self, path: Path, text: str) -> bool:
        return re.search(r"^\s*Network\s+\S+\s*\{", text, re.MULTILINE) is not None and "Layer" in text

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        if not isinstance(problem.workload, LayerWorkload):
            raise ArchGymError(f"{problem.name} has several layers; import the design on one of them")
        layers = list(maestro_layers(path, text))
        same = [found for found in layers if _matches(found, problem.workload, place)]
        if not same:
            raise ArchGymError(
                f"{place} holds {len(layers)} layers, none of the shape of {problem.name}; name the problem of its layer"
            )
        said = _genes(same[0], problem.workload, place)
        if len(layers) > 1:
            said.unplaced.append(f"{len(layers) - 1} more layers of the file ({quote(same[0].name)} is read).")
        hardware = path.with_name("hardware.m")
        if hardware.is_file():
            for key, value in _hardware(hardware):
                if key == "num_pes":
                    said.values["num_pe"] = value
        return said


def _network(work: LayerWorkload, design: Mapping[str, Value]) -> str:
    layer = work.layer
    word = re.sub(r"\W+", "_", work.name).strip("_") or "layer"
    word = word if not word[0].isdigit() else f"_{word}"
    b = work.bounds
    rows, columns = (
        (b[p] - 1) * stride + b[r] for p, r, stride in (("P", "R", layer.stride_p), ("Q", "S", layer.stride_q))
    )
    lines = [
        f"Network {word} {{",
        f"  Layer {word} {{",
        f"    Type: {'DSCONV' if work.depthwise else 'CONV'}",
        f"    Stride {{ X: {layer.stride_q}, Y: {layer.stride_p} }}",
        f"    Dimensions {{ K: {b['K']}, C: {b['C']}, R: {b['R']}, S: {b['S']}, Y: {rows}, X: {columns} }}",
        "    Dataflow {",
        *(f"      {line};" for line in _dataflow(work, design)),
        "    }",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dataflow(work: LayerWorkload, design: Mapping[str, Value]) -> list[str]:
    bounds = list(work.bounds.values())
    outer: list[int] = bounds
    lines: list[str] = []
    for level in ("l2", "l1"):
        tiles = [
            min(int(design.get(f"{gene}_{level}", bound)), bound) for gene, bound in zip(_GENES, outer, strict=True)
        ]
        order = permutations()[int(design[f"seed_{level}"])]
        spread = str(design[f"par_{level}"])
        if work.depthwise and spread == "K":
            spread = "C"
        if level == "l1":
            lines.append(f"Cluster({design['cluster']}, P)")
        for d in order:
            kind = "Spatial" if _DIMS[d] == spread else "Temporal"
            lines.append(f"{kind}Map({tiles[d]},{tiles[d]}) {_LETTERS[d]}")
        outer = tiles
    return lines


def _matches(found: MaestroLayer, work: LayerWorkload, place: str) -> bool:
    layer = found.layer(place)
    shape = (work.bounds[d] for d in ("K", "C", "P", "Q", "R", "S"))
    channels = (1, layer.G) if layer.op == "depthwise" else (layer.K, layer.C)
    strides = (layer.stride_p, layer.stride_q) == (work.layer.stride_p, work.layer.stride_q)
    return strides and (*channels, layer.P, layer.Q, layer.R, layer.S) == tuple(shape)


def _genes(found: MaestroLayer, work: LayerWorkload, place: str) -> Said:
    """The genes of a dataflow with one cluster boundary."""
    cuts = [i for i, directive in enumerate(found.directives) if directive.kind == "cluster"]
    if len(cuts) != 1:
        raise ArchGymError(f"{place}: the dataflow has {len(cuts)} clusters; a design has one, between its two levels")
    said = Said({"cluster": found.directives[cuts[0]].size})
    levels = {"l2": found.directives[: cuts[0]], "l1": found.directives[cuts[0] + 1 :]}
    outer = dict(zip(_DIMS, work.bounds.values(), strict=True))
    for level, directives in levels.items():
        directives = [d for d in directives if d.dim != "N"]
        names = [d.dim.rstrip("'") for d in directives]
        if len(set(names)) < len(names):
            raise ArchGymError(f"{place}: level {level} of the dataflow maps a dim twice")
        spread = [d for d in directives if d.kind == "spatial"]
        if len(spread) != 1 or spread[0].dim.rstrip("'") not in ("K", "C", "Y", "X"):
            raise ArchGymError(f"{place}: level {level} spreads {len(spread)} dims; a design spreads one of K, C, Y, X")
        # A dim that is left out runs whole, innermost.
        order = names + [dim for dim in outer if dim not in names]
        sizes = {name: _outputs(d, found, said, level) for name, d in zip(names, directives, strict=True)}
        said.values[f"par_{level}"] = spread[0].dim.rstrip("'")
        said.values[f"seed_{level}"] = order_rank("".join(order))
        for dim, gene in zip(_DIMS, _GENES, strict=True):
            outer[dim] = min(sizes.get(dim, outer[dim]), outer[dim])
            said.values[f"{gene}_{level}"] = outer[dim]
    return said


def _outputs(directive: Directive, found: MaestroLayer, said: Said, level: str) -> int:
    """Size of a tile in output coordinates."""
    dim, size, offset = directive.dim, directive.size, directive.offset
    if dim in ("Y", "X"):
        taps, stride = found.dims["R" if dim == "Y" else "S"], found.strides[dim]
        size, offset = max((size - taps) // stride + 1, 1), max(offset // stride, 1)
    if offset != size:
        said.unplaced.append(f"{level}, {dim}: tiles of {size} that advance by {offset}; here tiles do not overlap.")
    return size


def _hardware(path: Path) -> list[tuple[str, int | float]]:
    pairs = []
    for line in read_text(path, "hardware file").splitlines():
        key, colon, value = line.partition("//")[0].partition(":")
        if colon:
            pairs.append((key.strip(), number(value.strip(), quote_path(path), key.strip())))
    return pairs
