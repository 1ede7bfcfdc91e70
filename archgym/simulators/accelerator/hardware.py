"""The hardware of the accelerator problem: ArchGym's 26 parameters, and what they mean in the loop-nest model.

Main memory - shared global buffer - dummy buffer - input, weight and partial-sum scratchpads - MAC (after Eyeriss, Chen
et al. 2016). The array has ``mac_mesh_x`` columns and ``num_pes / mac_mesh_x`` rows; every element has one MAC and
three scratchpads. Words have 16 bits everywhere, a vector access moves ``block`` words, and a buffer holds ``depth x
block`` words. The global buffer keeps inputs and outputs, weights bypass it; the dummy buffer keeps nothing and only
spreads the columns, so that it counts for the area alone.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.accelerator.components import Technology
from archgym.simulators.accelerator.loopnest import Architecture, Level
from archgym.space import Designs, DesignSpace, Inactive, Parameter

WORD_BITS = 16
CLASSES = ("regfile", "smartbuffer_SRAM", "smartbuffer_RF", "SRAM")
DEPTHS = tuple(2**i for i in range(1, 17))
GLB_DEPTHS = tuple(2**i for i in range(10, 17))
BLOCKS = (1, 2, 4)
BANDWIDTHS = (2, 4, 8, 16)
BANKS = (16, 32, 64, 128)
SPADS = ("ifmap_spad", "psum_spad", "weights_spad")
DRAM_BLOCK = 4
"""Words of a main-memory access: 64 bits."""

_SPAD_FIELDS = ("class", "depth", "block", "read_bw", "write_bw")
_BASE_DEPTHS = {"ifmap_spad": 12, "psum_spad": 16, "weights_spad": 192}

BASE_DESIGN: dict[str, Any] = {
    "num_pes": 168,
    "mac_mesh_x": 14,
    **{
        f"{spad}_{key}": value
        for spad, depth in _BASE_DEPTHS.items()
        for key, value in zip(_SPAD_FIELDS, ("smartbuffer_RF", depth, 1, 2, 2), strict=True)
    },
    "dummy_buffer_class": "regfile",
    "dummy_buffer_depth": 16,
    "dummy_buffer_block": 1,
    "shared_glb_class": "smartbuffer_SRAM",
    "shared_glb_depth": 16384,
    "shared_glb_n_banks": 32,
    "shared_glb_block": 4,
    "shared_glb_read_bw": 16,
    "shared_glb_write_bw": 16,
}
"""ArchGym's starting point, from which its targets are derived. Its spad depths 12 and 192 are not in the space."""

# Columns of the table that the mapper reads, one row a hardware.
(
    MESH_X, MESH_Y, CAP_I, CAP_W, CAP_O, CAP_G, BLOCK_I, BLOCK_W, BLOCK_O, BLOCK_G, BLOCK_D,
    READ_I, WRITE_I, READ_W, WRITE_W, READ_O, WRITE_O, READ_G, WRITE_G, READ_D, WRITE_D,
    BWR_I, BWW_I, BWR_W, BWW_W, BWR_O, BWW_O, BWR_G, BWW_G, BWR_D, BWW_D,
    LEAK_PE, LEAK_X, LEAK_G, MAC_PJ,
) = range(35)  # fmt: skip
COLUMNS = 35


class StorageColumns(NamedTuple):
    """Where the table has the quantities of one storage."""

    capacity: int
    """Words; -1 where main memory has no such column."""
    block: int
    read_pj: int
    write_pj: int
    read_bandwidth: int
    write_bandwidth: int


STORAGE = {
    "ifmap_spad": StorageColumns(CAP_I, BLOCK_I, READ_I, WRITE_I, BWR_I, BWW_I),
    "weights_spad": StorageColumns(CAP_W, BLOCK_W, READ_W, WRITE_W, BWR_W, BWW_W),
    "psum_spad": StorageColumns(CAP_O, BLOCK_O, READ_O, WRITE_O, BWR_O, BWW_O),
    "shared_glb": StorageColumns(CAP_G, BLOCK_G, READ_G, WRITE_G, BWR_G, BWW_G),
}
MAIN_MEMORY = StorageColumns(-1, BLOCK_D, READ_D, WRITE_D, BWR_D, BWW_D)


def parameters() -> tuple[Parameter, ...]:
    """ArchGym's 26 parameters in its order, with every value."""
    result = [
        Parameter("num_pes", tuple(range(14, 337, 14)), description="processing elements"),
        Parameter("mac_mesh_x", (2, 7, 14), description="columns of the array"),
    ]
    for name, what in zip(SPADS, ("inputs", "partial sums", "weights"), strict=True):
        result += [
            Parameter(
                f"{name}_class", CLASSES, ordered=False, description=f"storage class of the scratchpad of {what}"
            ),
            Parameter(f"{name}_depth", DEPTHS, unit="rows", description=f"rows of the scratchpad of {what}"),
            Parameter(f"{name}_block", BLOCKS, unit="words", description="words of a row"),
            Parameter(f"{name}_read_bw", BANDWIDTHS, unit="words/cycle", description="read bandwidth"),
            Parameter(f"{name}_write_bw", BANDWIDTHS, unit="words/cycle", description="write bandwidth"),
        ]
    result += [
        Parameter("dummy_buffer_class", CLASSES, ordered=False, description="storage class of the dummy buffer"),
        Parameter("dummy_buffer_depth", DEPTHS, unit="rows", description="rows of the dummy buffer: area alone"),
        Parameter("dummy_buffer_block", BLOCKS, unit="words", description="words of a row: area alone"),
        Parameter("shared_glb_class", CLASSES, ordered=False, description="storage class of the global buffer"),
        Parameter("shared_glb_depth", GLB_DEPTHS, unit="rows", description="rows of the global buffer"),
        Parameter("shared_glb_n_banks", BANKS, description="banks of the global buffer; without effect"),
        Parameter("shared_glb_block", BLOCKS, unit="words", description="words of a row"),
        Parameter("shared_glb_read_bw", BANDWIDTHS, unit="words/cycle", description="read bandwidth"),
        Parameter("shared_glb_write_bw", BANDWIDTHS, unit="words/cycle", description="write bandwidth"),
    ]
    return tuple(result)


REDUCED: dict[str, tuple[Any, ...]] = {
    "num_pes": (42, 84, 126, 168, 210, 252, 294, 336),
    "mac_mesh_x": (2, 7, 14),
    "ifmap_spad_depth": (4, 16, 64),
    "psum_spad_depth": (4, 16, 64),
    "weights_spad_class": ("smartbuffer_RF", "SRAM"),
    "weights_spad_depth": (16, 64, 256, 1024),
    "shared_glb_depth": (4096, 16384, 65536),
    "shared_glb_block": (1, 4),
    "shared_glb_read_bw": (4, 16),
}
"""The space ``reduced``: 20,736 designs, few enough to know the optimum; everything else is as in ``BASE_DESIGN``."""


def reduced_parameters() -> tuple[Parameter, ...]:
    """The parameters of the space ``reduced``."""
    return tuple(p for p in DesignSpace(parameters()).restrict(REDUCED).parameters if p.name in REDUCED)


#: Parameters without effect on any metric. A MAC reads one word of each scratchpad a cycle, writes at most one partial
#: sum and refills at most one weight or partial sum a cycle, and no bandwidth on offer is below 2 words a cycle; with
#: at least 16 banks of one word, banks never limit the global buffer, and the tables show no effect of their number.
INERT = (
    "ifmap_spad_read_bw",
    "psum_spad_read_bw",
    "psum_spad_write_bw",
    "weights_spad_read_bw",
    "weights_spad_write_bw",
    "shared_glb_n_banks",
)


def _always(designs: Designs) -> NDArray[np.bool_]:
    return np.ones(len(designs), dtype=bool)


def design_space(library: Technology, name: str = "archgym") -> DesignSpace:
    """The space ``archgym`` or ``reduced``; its canonical form folds parameters without effect and classes the tables
    do not tell apart."""
    if name == "reduced":
        return DesignSpace(reduced_parameters())
    table = parameters()
    columns = [i for i, parameter in enumerate(table) if parameter.name.endswith("_class")]
    # Representative of each class: the first one of the same family.
    fold = np.array(
        [next(i for i, c in enumerate(CLASSES) if library.classes[c] == library.classes[kind]) for kind in CLASSES]
    )

    def same_family(designs: Designs) -> Designs:
        designs[:, columns] = fold[designs[:, columns]]
        return designs

    inactive = [Inactive(name, _always, "without effect at the values on offer") for name in INERT]
    return DesignSpace(table, inactive=inactive, canonicalize=same_family)


@lru_cache(maxsize=32)
def _storage_table(
    library: Technology, kinds: tuple[str, ...], depths: tuple[int, ...], blocks: tuple[int, ...]
) -> Any:
    """Quantities of every combination, each ``(kinds, depths, blocks)``."""
    depth, block = np.meshgrid(depths, blocks, indexing="ij")
    parts = [library.storage(kind, depth, block * WORD_BITS) for kind in kinds]
    return {quantity: np.stack([part[quantity] for part in parts]) for quantity in parts[0]}


def _lookup(library: Technology, kind: Any, depth: Any, block: Any) -> dict[str, NDArray[np.float64]]:
    kinds, k = np.unique(np.asarray(kind, dtype=str), return_inverse=True)
    depths, d = np.unique(depth, return_inverse=True)
    blocks, b = np.unique(block, return_inverse=True)
    table = _storage_table(library, tuple(kinds.tolist()), tuple(depths.tolist()), tuple(blocks.tolist()))
    return {quantity: values[k, d, b] for quantity, values in table.items()}


def hardware_table(
    columns: MappingOf[str, NDArray[Any]],
    library: Technology,
    *,
    dram_bandwidth: float = np.inf,
    dummy_buffers: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Designs by value (name -> array of length n) as the mapper's table ``(n, 35)``, and their areas in mm2.

    Args:
        dram_bandwidth: words a cycle of main memory, each way.
        dummy_buffers: their number; 0 = one a column.
    """
    num_pes, mesh_x = np.asarray(columns["num_pes"]), np.asarray(columns["mac_mesh_x"])
    table = np.zeros((len(num_pes), COLUMNS))
    table[:, MESH_X], table[:, MESH_Y] = mesh_x, num_pes // mesh_x
    area = num_pes * library.mac_area_um2
    for name, at in STORAGE.items():
        depth, block = np.asarray(columns[f"{name}_depth"]), np.asarray(columns[f"{name}_block"])
        found = _lookup(library, columns[f"{name}_class"], depth, block)
        table[:, at.capacity], table[:, at.block] = depth * block, block
        table[:, at.read_pj], table[:, at.write_pj] = found["read_pj"], found["write_pj"]
        read_bw, write_bw = columns[f"{name}_read_bw"], columns[f"{name}_write_bw"]
        if name == "shared_glb":
            banks = np.asarray(columns["shared_glb_n_banks"]) * block
            read_bw, write_bw = np.minimum(read_bw, banks), np.minimum(write_bw, banks)
            table[:, LEAK_G] = found["leak_pj"]
            area = area + found["area_um2"]
        else:
            table[:, LEAK_PE] += found["leak_pj"]
            area = area + num_pes * found["area_um2"]
        table[:, at.read_bandwidth], table[:, at.write_bandwidth] = read_bw, write_bw
    dummy = _lookup(
        library, columns["dummy_buffer_class"], columns["dummy_buffer_depth"], columns["dummy_buffer_block"]
    )
    area = area + (dummy_buffers or mesh_x) * dummy["area_um2"]
    bits = DRAM_BLOCK * WORD_BITS
    at = MAIN_MEMORY
    table[:, at.block] = DRAM_BLOCK
    table[:, at.read_pj] = library.dram_read_pj_per_bit * bits
    table[:, at.write_pj] = library.dram_write_pj_per_bit * bits
    table[:, at.read_bandwidth] = table[:, at.write_bandwidth] = dram_bandwidth
    table[:, MAC_PJ] = library.mac_pj
    return table, area * 1e-6


def areas_um2(columns: MappingOf[str, NDArray[Any]], library: Technology) -> dict[str, NDArray[np.float64]]:
    """Areas ``(n,)`` of one instance of each level with an area of its own, and of one ``MAC``."""
    found: dict[str, NDArray[np.float64]] = {"MAC": np.full(len(columns["num_pes"]), library.mac_area_um2)}
    for name in (*STORAGE, "dummy_buffer"):
        depth, block = np.asarray(columns[f"{name}_depth"]), np.asarray(columns[f"{name}_block"])
        found[name] = _lookup(library, columns[f"{name}_class"], depth, block)["area_um2"]
    return found


def architecture(
    row: NDArray[np.float64], areas_um2: MappingOf[str, float] | None = None, cycle_ns: float = 1.0
) -> Architecture:
    """A row of the mapper's table as an architecture of the general model, with the areas of one instance of each level."""
    x, y = int(row[MESH_X]), int(row[MESH_Y])
    areas = areas_um2 or {}

    def level(name: str, at: StorageColumns, mesh_x: int, mesh_y: int, leak: float) -> Level:
        capacity = int(row[at.capacity]) if at.capacity >= 0 else None
        read, write = float(row[at.read_pj]), float(row[at.write_pj])
        return Level(
            name, int(row[at.block]), capacity, mesh_x, mesh_y,
            float(row[at.read_bandwidth]), float(row[at.write_bandwidth]),
            read_pj=read, write_pj=write, update_pj=write, leak_pj=leak, area_um2=areas.get(name, 0.0),
        )  # fmt: skip

    return Architecture(
        (
            level("DRAM", MAIN_MEMORY, 1, 1, 0.0),
            level("shared_glb", STORAGE["shared_glb"], 1, 1, float(row[LEAK_G])),
            Level("dummy_buffer", mesh_x=x, leak_pj=float(row[LEAK_X]), area_um2=areas.get("dummy_buffer", 0.0)),
            # The three scratchpads of an element leak together; the table holds their sum.
            level("ifmap_spad", STORAGE["ifmap_spad"], x, y, float(row[LEAK_PE])),
            level("weights_spad", STORAGE["weights_spad"], x, y, 0.0),
            level("psum_spad", STORAGE["psum_spad"], x, y, 0.0),
        ),
        x,
        y,
        float(row[MAC_PJ]),
        areas.get("MAC", 0.0),
        cycle_ns,
    )
