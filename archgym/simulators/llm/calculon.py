"""The fidelity ``calculon``: its systems, recorded runs and execution space, as the compiled kernel takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import own_file
from archgym.simulators.llm.devices import Device
from archgym.simulators.llm.kernels import calculon as kernel
from archgym.simulators.llm.models import read_object
from archgym.space import Constraint, Designs, DesignSpace, Mask, Parameter, boolean
from archgym.threads import run_blocks

ELEMENT_BYTES = {"float8": 1, "float16": 2, "bfloat16": 2, "float32": 4}
PIECE = 2048
"""Designs whose results are turned into columns at once."""
WORDS: dict[str, dict[str, int]] = {
    "activation_recompute": {"none": kernel.NONE, "attn_only": kernel.ATTENTION, "full": kernel.FULL},
    "tensor_par_comm_type": {"ar": kernel.AR, "p2p_rs_ag": kernel.P2P_RS_AG, "rs_ag": kernel.RS_AG},
    "tensor_par_overlap": {"none": kernel.NO_OVERLAP, "ring": kernel.RING, "pipe": kernel.PIPE},
}
"""Words of the execution's columns -> the kernel's numbers."""
VERDICTS = (
    "",
    "devices_divide",
    "heads_divide",
    "batch_divide",
    "switches",
    "tier_size",
    "tier_filled",
    "layers_divide",
    "offload_blocks",
    "sequence_divide",
    "memory_capacity",
    "offload_capacity",
)
"""The kernel's verdicts by name; empty where a design is feasible."""


def pack_system(system: Mapping[str, Any], datatype: str) -> NDArray[np.float64]:
    """A system (one entry of ``systems.json``) for one data type, as the kernel takes it."""
    packed = np.zeros(kernel.SYSTEM)
    packed[kernel.TABLES : kernel.NETWORK] = np.inf
    mode = system["processing_mode"]
    if mode not in ("roofline", "no_overlap"):
        raise UnknownNameError("processing_mode", mode, ("roofline", "no_overlap"))
    packed[kernel.ROOFLINE] = mode == "roofline"

    def table(number: int, entries: Sequence[Sequence[float]], unit: float) -> None:
        if len(entries) > kernel.ENTRIES:
            raise ArchGymError(f"a step table has {len(entries)} entries; expected at most {kernel.ENTRIES}")
        at = kernel.TABLES + number * 2 * kernel.ENTRIES
        for i, (threshold, efficiency) in enumerate(entries):
            packed[at + 2 * i], packed[at + 2 * i + 1] = threshold * unit, efficiency

    for number, engine in enumerate(("matrix", "vector")):
        if datatype not in system[engine]:
            raise UnknownNameError(f"data type of the {engine} engine", datatype, system[engine])
        entry = system[engine][datatype]
        packed[kernel.PEAK + number] = entry["tflops"] * 1e12
        table(number, entry["gflops_efficiency"], 1e9)
    for number, memory in enumerate(("mem1", "mem2")):
        entry = system[memory]
        packed[kernel.CAPACITY + number] = entry["GiB"] * 1024**3
        packed[kernel.BANDWIDTH + number] = entry["GBps"] * 1e9
        table(2 + number, entry["MB_efficiency"], 1e6)
    networks = system["networks"]
    if not 1 <= len(networks) <= kernel.TIERS:
        raise ArchGymError(f"a system has {len(networks)} network tiers; expected 1 to {kernel.TIERS}")
    for number, network in enumerate(networks):
        at = kernel.NETWORK + number * kernel.TIER
        ops = network["ops"]
        scalars = [ops["p2p"][0]]
        for op in ("reduce_scatter", "all_gather", "all_reduce"):
            scalars += [ops[op][0], ops[op][1]]
        packed[at : at + kernel.TIER] = [
            network["bandwidth"] * 1e9,
            network["efficiency"],
            network["size"],
            network["latency"],
            *scalars,
            network["must_be_filled"],
            network["processor_usage"],
        ]
    return packed


def evaluate(
    systems: NDArray[np.float64],
    models: NDArray[np.int64],
    which: NDArray[np.int64],
    designs: NDArray[np.int64],
    processors: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Results ``(n, 96)`` and verdicts ``(n,)`` of rows; see :func:`kernels.calculon.evaluate_rows`."""
    out = np.empty((len(designs), len(kernel.RESULTS)))
    verdict = np.empty(len(designs), dtype=np.int64)
    run_blocks(kernel.evaluate_rows, len(designs), 256, systems, models, which, designs, processors, out, verdict)
    return out, verdict


def read_runs(folder: Path) -> tuple[list[dict[str, str]], Any, Any]:
    """Rows of ``runs.csv.gz`` with the models and systems that they name."""
    import csv
    import gzip

    from archgym.reading import read_json

    models, systems = read_json(folder / "models.json"), read_json(folder / "systems.json")
    with gzip.open(folder / "runs.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines)), models, systems


def pack_runs(
    rows: Sequence[Mapping[str, str]], models: Mapping[str, Any], systems: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Recorded runs as the arguments of :func:`evaluate`."""
    keys = sorted({(row["system"], row["datatype"]) for row in rows})
    names = sorted({row["model"] for row in rows})
    packed = np.stack([pack_system(systems[system], datatype) for system, datatype in keys])
    shapes = np.array([[models[name][field] for field in kernel.MODEL] for name in names], dtype=np.int64)
    which = np.array(
        [[keys.index((row["system"], row["datatype"])), names.index(row["model"])] for row in rows], dtype=np.int64
    )
    designs = np.empty((len(rows), len(kernel.COLUMNS)), dtype=np.int64)
    for j, column in enumerate(kernel.COLUMNS):
        for i, row in enumerate(rows):
            if column == "element_bytes":
                value = ELEMENT_BYTES[row["datatype"]]
            elif column == "multiquery":
                value = int(row["attention_type"] == "multiquery")
            elif column in WORDS:
                value = WORDS[column][row[column]]
            else:
                value = {"True": 1, "False": 0}.get(row[column], -1)
                value = int(row[column]) if value < 0 else value
            designs[i, j] = value
    processors = np.array([int(row["num_procs"]) for row in rows], dtype=np.int64)
    return packed, shapes, which, designs, processors


# --- the space of Calculon's own execution ---------------------------------------------------------------------------

_DEGREES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64)
_PIPELINE = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 20, 21, 24, 32, 35, 40, 48, 64)
PARAMETERS = (
    Parameter("tensor_par", _DEGREES, True, "processors", "tensor parallel degree"),
    Parameter("pipeline_par", _PIPELINE, True, "stages", "pipeline parallel degree"),
    Parameter("tensor_par_net", (0, 1), False, "", "network tier of tensor parallelism, innermost first"),
    Parameter("pipeline_par_net", (0, 1), False, "", "network tier of the pipeline"),
    Parameter("data_par_net", (0, 1), False, "", "network tier of data parallelism"),
    Parameter("microbatch_size", (1, 2, 3, 4, 6, 8, 16), True, "sequences", "sequences of a replica at a time"),
    Parameter("datatype", ("float16", "float8", "float32"), False, "", "type of everything"),
    boolean("fused_activation", "the activation function keeps nothing"),
    Parameter("attention_type", ("multihead", "multiquery"), False, "", "key and value heads"),
    Parameter("activation_recompute", ("none", "attn_only", "full"), False, "", "what is computed again"),
    Parameter("pipeline_interleaving", (1, 2, 3, 4, 5, 6, 8, 10, 12, 16), True, "chunks", "model chunks of a stage"),
    boolean("optimizer_sharding", "the optimizer's state is shared by replicas"),
    Parameter("tensor_par_comm_type", ("ar", "p2p_rs_ag", "rs_ag"), False, "", "tensor-parallel traffic"),
    Parameter("tensor_par_overlap", ("none", "ring", "pipe"), False, "", "its overlap with products"),
    boolean("seq_par_ag_redo", "activations are gathered again"),
    boolean("data_par_overlap", "gradients are reduced behind the backward pass"),
    boolean("weight_offload", "weights live in the far memory"),
    boolean("activations_offload", "activations live in the far memory"),
    boolean("optimizer_offload", "the optimizer lives in the far memory"),
)
"""The execution as parameters; data parallelism follows from the number of processors."""
SENTENCES = {
    "devices_divide": "tensor times pipeline parallelism divides the processors",
    "heads_divide": "hidden size, feed-forward width and heads are multiples of tensor parallelism",
    "batch_divide": "replicas divide the batch and micro-batches a replica's share",
    "switches": "interleaving needs a pipeline, sharding and data overlap replicas, tensor overlap tensor parallelism, "
    "gathering again sequence parallelism without full recomputation",
    "tier_size": "the degrees laid on a network tier fit it",
    "tier_filled": "they fill a tier that must be filled",
    "layers_divide": "interleaving divides a stage's blocks",
    "offload_blocks": "offloading needs three blocks a processor",
    "sequence_divide": "tensor parallelism divides a micro-batch's tokens",
}


class ExecutionSpace(DesignSpace):
    """Calculon's execution for one model on one system.

    Args:
        model: int64 ``(6,)``, ``kernels.calculon.MODEL``.
        systems: data type -> packed system, for the types that the system has.
        processors, batch: how many there are.
    """

    def __init__(
        self, model: NDArray[np.int64], systems: Mapping[str, NDArray[np.float64]], processors: int, batch: int
    ) -> None:
        self.model, self.processors, self.batch = model, processors, batch
        self.types = [datatype for datatype in ELEMENT_BYTES if datatype in systems]
        self.systems = np.stack([systems[datatype] for datatype in self.types])
        tiers = int(np.count_nonzero(self.systems[0, kernel.NETWORK + kernel.T_SIZE :: kernel.TIER][: kernel.TIERS]))
        parameters = []
        for parameter in PARAMETERS:
            if parameter.name.endswith("_net"):
                parameter = replace(parameter, values=tuple(range(tiers)))
            elif parameter.name == "datatype":
                parameter = replace(parameter, values=tuple(t for t in parameter.values if t in self.types))
            parameters.append(parameter)
        rules = [Constraint(name, sentence, self._rule(VERDICTS.index(name))) for name, sentence in SENTENCES.items()]
        super().__init__(parameters, rules)

    def packed(self, designs: Designs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Designs as the kernel takes them ``(n, 22)``, and system and model of each ``(n, 2)``."""
        made = np.zeros((len(designs), len(kernel.COLUMNS)), dtype=np.int64)
        columns = self.columns(designs)
        for j, column in enumerate(kernel.COLUMNS):
            if column in WORDS:
                words = np.array([WORDS[column][str(value)] for value in self[column].values], dtype=np.int64)
                made[:, j] = words[designs[:, self.position(column)]]
            elif column in columns:
                made[:, j] = columns[column]
        place = {name: j for j, name in enumerate(kernel.COLUMNS)}
        degree = made[:, place["tensor_par"]] * made[:, place["pipeline_par"]]
        # A number of replicas that does not come out is refused by the kernel's first rule.
        made[:, place["data_par"]] = np.maximum(self.processors // degree, 1)
        made[:, place["batch_size"]] = self.batch
        kinds = self["datatype"].values
        index = designs[:, self.position("datatype")]
        made[:, place["element_bytes"]] = np.array([ELEMENT_BYTES[str(kind)] for kind in kinds])[index]
        made[:, place["multiquery"]] = columns["attention_type"] == "multiquery"
        made[:, place["training"]] = 1
        which = np.zeros((len(designs), 2), dtype=np.int64)
        which[:, 0] = np.array([self.types.index(str(kind)) for kind in kinds])[index]
        return made, which

    def evaluate(self, designs: Designs) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Results ``(n, 96)`` and verdicts ``(n,)``, in the calling thread."""
        made, which = self.packed(designs)
        out, verdict = np.empty((len(designs), len(kernel.RESULTS))), np.empty(len(designs), dtype=np.int64)
        processors = np.full(len(designs), self.processors, dtype=np.int64)
        models = self.model[None]
        kernel.evaluate_rows(0, len(designs), self.systems, models, which, made, processors, out, verdict)
        return out, verdict

    def fill(self, designs: Designs, columns: NDArray[np.float64]) -> NDArray[np.int64]:
        """Write the results of designs into ``columns``, ``(96, n)``, and return the verdicts ``(n,)``.

        Piece by piece: a piece's results are turned while they are near, and nothing of the batch's size is held twice.
        """
        verdict = np.empty(len(designs), dtype=np.int64)

        def piece(first: int, last: int) -> None:
            found, verdict[first:last] = self.evaluate(designs[first:last])
            columns[:, first:last] = found.T

        run_blocks(piece, len(designs), PIECE)
        return verdict

    def _rule(self, verdict: int) -> Callable[[Designs], Mask]:
        # The kernel stops at the first rule broken: that is the one that does not hold.
        def holds(designs: Designs) -> Mask:
            made, which = self.packed(designs)
            found = np.empty(len(designs), dtype=np.int64)
            processors = np.full(len(designs), self.processors, dtype=np.int64)
            kernel.refuse_rows(self.systems, self.model[None], which, made, processors, found)
            return np.asarray(found != verdict)

        return holds


def system_of(device: Device) -> dict[str, Any]:
    """A system in Calculon's terms for a device: its peaks and tiers, and step tables of efficiency that are assumed
    (those that the reference's own systems have)."""
    matrix = [[128, 0.95], [16, 0.9], [1, 0.6], [0, 0.1]]
    vector = [[16, 0.95], [1, 0.5], [0, 0.1]]
    memory = [[100, 0.9], [10, 0.75], [1, 0.6], [0, 0.3]]
    tflops = device.bf16_flops / 1e12
    types = {"float16": tflops, "float32": tflops / 2} | (
        {"float8": device.fp8_flops / 1e12} if device.fp8_flops else {}
    )
    ring = {"p2p": [1.0, None], "reduce_scatter": [1.0, -1], "all_gather": [1.0, -1], "all_reduce": [2.0, -1]}
    return {
        "matrix": {name: {"tflops": peak, "gflops_efficiency": matrix} for name, peak in types.items()},
        # Vector units of recent devices reach an eighth of the matrix units' dense rate.
        "vector": {name: {"tflops": tflops / 8, "gflops_efficiency": vector} for name in types},
        "mem1": {"GiB": device.mem_bytes / 2**30, "GBps": device.mem_bytes_per_s / 1e9, "MB_efficiency": memory},
        "mem2": {
            "GiB": device.host_mem_bytes / 2**30,
            "GBps": device.host_bytes_per_s / 1e9,
            "MB_efficiency": [[100, 0.95], [10, 0.9], [1, 0.7], [0, 0.3]],
        },
        "processing_mode": "no_overlap",
        "networks": [
            {"bandwidth": device.link_bytes_per_s / 1e9, "efficiency": 0.65, "size": device.domain_devices,
             "latency": 1e-5, "ops": ring, "must_be_filled": False, "processor_usage": 0.15},
            {"bandwidth": device.nic_bytes_per_s / 1e9, "efficiency": 0.9, "size": 65536,
             "latency": 2e-5, "ops": ring, "must_be_filled": False, "processor_usage": 0.02},
        ],
    }  # fmt: skip


def read_system(source: str) -> dict[str, Any] | None:
    """A system in Calculon's terms: of ``file:PATH`` (one of Calculon's system files) or ``file:PATH#NAME`` (one of several
    in a file); None where ``source`` is empty."""
    if not source:
        return None
    place, _, name = source.partition("#")
    path = own_file(place)
    if path is None:
        raise ArchGymError(f"system is {quote(source)}; expected file:PATH or file:PATH#NAME of a system of Calculon")
    system = read_object(path, "system of Calculon")
    if not name:
        return system
    if name not in system:
        raise UnknownNameError("system", name[:80], system)
    if not isinstance(system[name], dict):
        raise ArchGymError(f"the system {quote(source)} is {quote(system[name], 40)}; expected one of Calculon's")
    found: dict[str, Any] = system[name]
    return found


def packed_systems(system: Mapping[str, Any] | None, device: Device, source: str) -> dict[str, NDArray[np.float64]]:
    """Systems by data type, packed; the device's with assumed efficiencies where ``system`` is None. ``source`` names it in
    errors."""
    if system is None:
        system = system_of(device)
    try:
        found = {t: pack_system(system, t) for t in system["matrix"] if t in system["vector"] and t in ELEMENT_BYTES}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ArchGymError):
            raise
        raise ArchGymError(
            f"the system {quote(source)} is not one of Calculon: {type(error).__name__} {quote(error)}"
        ) from None
    if not found:
        raise ArchGymError(f"the system {quote(source)} has no data type among {', '.join(ELEMENT_BYTES)}")
    return found
