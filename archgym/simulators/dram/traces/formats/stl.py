"""DRAMSys' traces: ``31: read 0x400140``, and ``.rstl`` with the cycles since the request before."""

from __future__ import annotations

__all__ = ()

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.trace import LINE_BYTES
from archgym.simulators.dram.traces.formats.base import READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

STL_CLOCK_MHZ = 800.0
WORDS = {"read": READ, "write": WRITE}


def _matches(line: str, words: list[str]) -> bool:
    return len(words) >= 3 and words[0].endswith(":") and (words[1] in WORDS or words[1].startswith("("))


def _requests(lines: Lines, relative: bool) -> Columns:
    lines.cut(" \t", 5, comment="#")
    text, begin, end, count = lines.text, lines.begin, lines.end, lines.count
    # An optional byte count in parentheses moves the command and the address by one.
    sized = (count > 1) & (text[begin[:, 1]] == ord("("))
    command = np.where(sized, 2, 1)
    wrong = (count < command + 2) | (count > command + 3) | (text[end[:, 0] - 1] != ord(":"))
    lines.stop_at(lines.fault_where(wrong, "'cycle: read|write 0xADDRESS' like '31: read 0x400140'"))
    end[:, 0] -= 1
    sized, command = sized[lines.rows], command[lines.rows]
    data_fault = lines.hexadecimal(command + 2, "data of whole bytes, two hexadecimal digits each", by=2)
    write = lines.words(command, WORDS)
    time, time_fault = lines.numbers(0, "the cycle")
    address, address_fault = lines.numbers(command + 1, "the address", hexadecimal=True)
    lines.first_fault(
        time_fault,
        _stl_sizes(lines, sized),
        lines.fault_where(write < 0, "the command read or write"),
        address_fault,
        data_fault,
        None if relative else lines.backwards(time),
    )
    if relative:
        if float(time.astype(np.float64).sum()) >= 2.0**62:
            raise ArchGymError(f"{lines.path}: the delays add up to 2**62 cycles or more; expected less")
        time = np.cumsum(time)
    return Columns(time, address, write == WRITE)


def _stl_sizes(lines: Lines, sized: NDArray[np.bool_]) -> tuple[int, str] | None:
    """The first fault in the byte counts: a request is one burst of at most 64 bytes."""
    for index in np.flatnonzero(sized):
        token = lines.token(int(index), 1)
        digits = token[1:-1]
        if not token.endswith(")") or not digits.isdecimal() or not 1 <= int(digits) <= LINE_BYTES:
            return int(index), f"a byte count from (1) to ({LINE_BYTES}); one request is one burst"
    return None


def _read(lines: Lines, options: Options) -> Columns:
    return _requests(lines, relative=False)


def _read_relative(lines: Lines, options: Options) -> Columns:
    return _requests(lines, relative=True)


_ABOUT = "cycle of the initiator's clock; optional '(64)' byte count before the command, optional hexadecimal data, not used; '#' a comment"
FORMAT = Format(
    "stl", "31: read 0x400140", _ABOUT, _read, _matches, (".stl",), STL_CLOCK_MHZ, holds_back=True
)  # fmt: skip
RELATIVE = Format(
    "rstl", "31: read 0x400140", "the same with the cycles since the request before", _read_relative, None, (".rstl",),
    STL_CLOCK_MHZ, relative=True,
)  # fmt: skip
