"""What valgrind's lackey prints with --trace-mem=yes: `` L 1ffeffe7e,8``; every access of a program, before any cache."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.simulators.dram.traces.formats.base import CPU_MHZ, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

_KINDS = {"I": 0, "L": 1, "S": 2, "M": 3}


def _matches(line: str, words: list[str]) -> bool:
    return len(words) == 2 and words[0] in _KINDS and words[1].count(",") == 1


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t,", 3, comment="=")  # valgrind's own lines begin with ==
    lines.stop_at(lines.tokens(3, 3, "'I|L|S|M ADDRESS,SIZE' like 'L 1ffeffe7e,8'"))
    kind = lines.words(0, _KINDS)
    address, address_fault = lines.numbers(1, "the address", hexadecimal=True)
    size, size_fault = lines.numbers(2, "the size")
    lines.first_fault(
        address_fault, size_fault, lines.fault_where(kind < 0, "I, L, S or M"),
        lines.fault_where((size < 1) | (size > 4096), "a size of 1 to 4096 bytes"),
    )  # fmt: skip
    return Columns(np.cumsum(kind == 0), address, kind >= 2, size)


FORMAT = Format(
    "lackey", " L 1ffeffe7e,8", "every instruction and access of a program, before any cache",
    _read, _matches, (), CPU_MHZ, counts_instructions=True, cache_kib=1024,
)  # fmt: skip
