"""ChampSim's traces: 64 bytes an instruction, with its address, two stores and four loads; packed by xz or gzip."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.dram.traces.formats.base import CPU_MHZ, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

_RECORD = np.dtype(
    [("ip", "<u8"), ("branch", "u1", 2), ("registers", "u1", 6), ("stores", "<u8", 2), ("loads", "<u8", 4)]
)


def _read(lines: Lines, options: Options) -> Columns:
    whole = len(lines.text) // _RECORD.itemsize
    if not whole or (len(lines.text) % _RECORD.itemsize and options.whole):
        raise ArchGymError(
            f"{lines.path} holds {len(lines.text)} bytes; expected ChampSim's records of {_RECORD.itemsize} bytes"
        )
    records = np.frombuffer(lines.text, _RECORD, whole)
    # The fetch, then the loads, then the stores; 0 stands for none.
    address = np.concatenate([records["ip"][:, None], records["loads"], records["stores"]], axis=1).astype(np.int64)
    number = np.repeat(np.arange(1, whole + 1), address.shape[1])
    write = np.tile(np.arange(address.shape[1]) >= 5, whole)
    flat = address.reshape(-1)
    if (flat < 0).any():
        raise ArchGymError(f"{lines.path} holds an address beyond 2**63; expected ChampSim's records of 64 bytes")
    used = flat != 0
    if not used.any():
        raise ArchGymError(f"{lines.path} holds no memory access; expected ChampSim's records of 64 bytes")
    return Columns(number[used], flat[used], write[used], np.full(int(used.sum()), 4, np.int64))


FORMAT = Format(
    "champsim", "(binary)",
    "instructions with their fetch, loads and stores, before any cache; each access counts as 4 bytes",
    _read, None, (".champsimtrace", ".champsim"), CPU_MHZ, counts_instructions=True, cache_kib=1024, binary=True,
)  # fmt: skip
