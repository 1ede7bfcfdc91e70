"""``arrival_cycle,address,rw``: one request a line, ``120,1048640,R``."""

from __future__ import annotations

__all__ = ()

from archgym.errors import ArchGymError
from archgym.simulators.dram.trace import CLOCK_MHZ
from archgym.simulators.dram.traces.formats.base import READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

HEADER = "arrival_cycle,address,rw"


def _matches(line: str, words: list[str]) -> bool:
    return line.replace(" ", "").lower() == HEADER


def _read(lines: Lines, options: Options) -> Columns:
    first = lines.first()
    if not _matches(first, []):
        number = bytes(lines.text).split(first.encode("latin-1"), 1)[0].count(b"\n") + 1 if first else 1
        raise ArchGymError(f"{lines.path}, line {number}: found {first[:60]!r}, expected the header {HEADER!r}")
    lines.cut(" \t", 3, comment="#", field=",", skip=1)
    lines.stop_at(lines.tokens(3, 3, "'arrival_cycle,address,rw' like '120,1048640,R'"))
    write = lines.words(2, {"R": READ, "W": WRITE, "r": READ, "w": WRITE})
    time, time_fault = lines.numbers(0, "the arrival cycle")
    address, address_fault = lines.numbers(1, "the address")
    lines.first_fault(
        time_fault,
        address_fault,
        lines.fault_where(write < 0, "R or W in the third column"),
        lines.backwards(time),
    )
    return Columns(time, address, write == WRITE)


FORMAT = Format(
    "neutral", "120,1048640,R", f"header {HEADER}; address in bytes, decimal or 0x; '#' starts a comment",
    _read, _matches, (".csv",), CLOCK_MHZ,
)  # fmt: skip
