"""Ramulator's traces: load and store (``LD 0x12340``), DRAM (``0x12340 R``), address vectors (``R 0,0,1,2,305,8``) and CPU
traces (``3 20734016 20841280``), which Ramulator 1 and 2 share."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.dram.traces.formats.base import CPU_MHZ, READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

_UNTIMED = "no times: all requests are there at once, and the memory alone sets the pace"


def _is_number(word: str) -> bool:
    return word.isdecimal() or (word[:2].lower() == "0x" and len(word) > 2)


def _matches(line: str, words: list[str]) -> bool:
    return len(words) >= 2 and words[0] in ("LD", "ST")


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 2, comment="#")
    lines.stop_at(lines.tokens(2, 2, "'LD ADDRESS' or 'ST ADDRESS' like 'LD 0x12340'"))
    write = lines.words(0, {"LD": READ, "ST": WRITE})
    address, address_fault = lines.numbers(1, "the address")
    lines.first_fault(address_fault, lines.fault_where(write < 0, "LD or ST as the command"))
    return Columns(np.zeros(len(address), np.int64), address, write == WRITE)


def _matches_dram(line: str, words: list[str]) -> bool:
    return len(words) == 2 and words[0][:2].lower() == "0x" and words[1] in ("R", "W")


def _read_dram(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 2, comment="#")
    lines.stop_at(lines.tokens(2, 2, "'ADDRESS R|W' like '0x12340 R'"))
    write = lines.words(1, {"R": READ, "W": WRITE})
    address, fault = lines.numbers(0, "the address", hexadecimal=True)
    lines.first_fault(fault, lines.fault_where(write < 0, "R or W behind the address"))
    return Columns(np.zeros(len(address), np.int64), address, write == WRITE)


def _matches_cpu(line: str, words: list[str]) -> bool:
    return 2 <= len(words) <= 3 and all(map(_is_number, words))


def _read_cpu(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 3, comment="#")
    lines.stop_at(lines.tokens(2, 3, "'instructions load [write-back]' like '3 20734016' or '3 20734016 20841280'"))
    before, before_fault = lines.numbers(0, "the count of instructions without memory access")
    load, load_fault = lines.numbers(1, "the address of the load")
    rows = lines.rows
    lines.rows = np.flatnonzero(lines.count[rows] > 2)
    store, store_fault = lines.numbers(2, "the address of the write-back")
    stores, lines.rows = lines.rows, rows
    if store_fault is not None:
        store_fault = (int(stores[store_fault[0]]), store_fault[1])
    lines.first_fault(before_fault, load_fault, store_fault)
    instruction = options.counted(np.cumsum(np.minimum(before, 1 << 40) + 1), lines.path)
    # A line's write-back comes with its load.
    order = np.argsort(np.concatenate([np.arange(len(load)) * 2, stores * 2 + 1]), kind="stable")
    write = np.concatenate([np.zeros(len(load), bool), np.ones(len(store), bool)])[order]
    return Columns(
        np.concatenate([instruction, instruction[stores]])[order], np.concatenate([load, store])[order], write
    )


def _matches_vector(line: str, words: list[str]) -> bool:
    return len(words) >= 2 and words[0] in ("R", "W") and "," in words[1]


def _read_vector(lines: Lines, options: Options) -> Columns:
    device, map_name, ranks, channels = options.device, options.map, options.ranks, options.channels
    if device is None:
        raise ArchGymError(
            f"{lines.path} holds Ramulator address vectors, whose levels mean nothing without a device; name one "
            "(device='DDR4-2400')"
        )
    from archgym.simulators.dram.addressmap import named_map
    from archgym.simulators.dram.devices import device as device_named

    chip = device_named(device)
    address_map = named_map(map_name, chip, ranks, channels)
    levels = ["channel", "rank", *(["bank_group"] if chip.bank_groups > 1 else []), "bank", "row", "column"]
    example = "R " + ",".join("0" for _ in levels)
    lines.cut(" \t,", len(levels) + 1, comment="#")
    lines.stop_at(
        lines.tokens(
            len(levels) + 1,
            len(levels) + 1,
            f"R or W and {len(levels)} levels of {device} ({', '.join(levels)}) like '{example}'",
        )
    )
    write = lines.words(0, {"R": READ, "W": WRITE})
    faults = [lines.fault_where(write < 0, "R or W as the command")]
    address = np.zeros(len(write), np.int64)
    for column, level in enumerate(levels, 1):
        value, fault = lines.numbers(column, f"the {level}")
        width = address_map.width(level)
        faults.append(fault)
        if fault is None:
            faults.append(lines.fault_where(value >> width != 0, f"a {level} below {1 << width} of {device}"))
        for place, bit in enumerate(address_map.bits.get(level, ())):
            address |= (value >> place & 1) << bit
    lines.first_fault(*faults)
    for a, b in address_map.xor:  # its own inverse, for the second bit of a pair is not changed
        address ^= (address >> b & 1) << a
    return Columns(np.zeros(len(address), np.int64), address, write == WRITE)


FORMAT = Format("ramulator", "LD 0x12340", _UNTIMED, _read, _matches)
DRAM = Format("ramulator-dram", "0x12340 R", _UNTIMED, _read_dram, _matches_dram)
VECTOR = Format(
    "ramulator-vec", "R 0,0,1,2,305,8",
    f"levels from the channel down to the column, which need a device; {_UNTIMED}", _read_vector, _matches_vector,
    address_vectors=True,
)  # fmt: skip
CPU = Format(
    "ramulator-cpu", "3 20734016 20841280",
    "instructions without memory access, a load, perhaps a write-back, all behind the caches of the traced machine",
    _read_cpu, _matches_cpu, (), CPU_MHZ, counts_instructions=True,
)  # fmt: skip
