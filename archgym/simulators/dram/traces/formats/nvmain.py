"""NVMain's traces: ``7 R 0x100C0 00 0``, with or without the line ``NVMV1`` on top."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.simulators.dram.trace import CLOCK_MHZ
from archgym.simulators.dram.traces.formats.base import READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

_TITLES = ("NVMV0", "NVMV1")


def _matches(line: str, words: list[str]) -> bool:
    if words[0] in _TITLES:
        return True
    return 5 <= len(words) <= 6 and words[0].isdecimal() and words[1] in ("R", "W")


def _read(lines: Lines, options: Options) -> Columns:
    title = lines.first() in _TITLES
    lines.cut(" \t", 6, skip=int(title))
    lines.stop_at(lines.tokens(5, 6, "'cycle R|W ADDRESS DATA [OLD DATA] THREAD' like '7 R 0x100C0 00 0'"))
    time, time_fault = lines.numbers(0, "the cycle")
    write = lines.words(1, {"R": READ, "W": WRITE})
    address, address_fault = lines.numbers(2, "the address", hexadecimal=True)
    last = lines.count[lines.rows] - 1
    lines.first_fault(
        lines.hexadecimal(3, "hexadecimal data"),
        lines.hexadecimal(np.minimum(4, last - 1), "hexadecimal data"),
        lines.numbers(last, "the thread")[1],
        time_fault, address_fault, lines.fault_where(write < 0, "R or W as the command"), lines.backwards(time),
    )  # fmt: skip
    return Columns(time, address, write == WRITE)


FORMAT = Format(
    "nvmain", "7 R 0x100C0 00 0", "cycle of the memory; data and thread are not used",
    _read, _matches, (".nvt",), CLOCK_MHZ,
)  # fmt: skip
