"""gem5's texts: the debug output of its memory controllers, and what util/decode_packet_trace.py prints."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.simulators.dram.trace import LINE_BYTES
from archgym.simulators.dram.traces.formats.base import READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

TICK_MHZ = 1e6
"""A tick of gem5 is a picosecond unless it was built otherwise."""
_REQUESTS = {
    **dict.fromkeys(
        ("ReadReq", "ReadExReq", "ReadSharedReq", "ReadCleanReq", "SoftPFReq", "HardPFReq", "ReadRespWithInvalidate"),
        READ,
    ),
    **dict.fromkeys(("WriteReq", "WritebackDirty", "WritebackClean", "WriteClean", "WriteLineReq"), WRITE),
    **dict.fromkeys(("Read", "IFetch"), READ),
    "Write": WRITE,
}
_EXPECTED = (
    "a request to the memory, like '500: system.mem_ctrls: recvTimingReq: request ReadReq addr 0x400 size 64' or "
    "'500: system.mem_ctrls: Read of size 64 on address 0x400'; keep only such lines of a debug log"
)


def _matches(line: str, words: list[str]) -> bool:
    if len(words) < 8 or not words[0][:-1].isdecimal() or not words[0].endswith(":"):
        return False
    return words[2] == "recvTimingReq:" or words[2] in _REQUESTS


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 64, comment="#")
    text, end, count = lines.text, lines.end, lines.count
    lines.stop_at(lines.fault_where((count < 9) | (text[end[:, 0] - 1] != ord(":")), _EXPECTED))
    end[:, 0] -= 1
    timing = lines.words(2, {"recvTimingReq:": 1}) == 1
    write = lines.words(np.where(timing, 4, 2), _REQUESTS)
    time, time_fault = lines.numbers(0, "the tick")
    address, address_fault = lines.numbers(np.where(timing, 6, 8), "the address")
    size, size_fault = lines.numbers(np.where(timing, 8, 5), "the size")
    # The words between are the same on every line.
    wrong = write < 0
    for here, words in (
        (timing, {3: "request", 5: "addr", 7: "size"}),
        (~timing, {3: "of", 4: "size", 6: "on", 7: "address"}),
    ):
        for place, word in words.items():
            wrong |= here & (lines.words(place, {word: 1}) < 0)
    lines.first_fault(
        time_fault, lines.fault_where(wrong, _EXPECTED), address_fault, size_fault,
        lines.fault_where((size < 1) | (size > LINE_BYTES), f"a size of 1 to {LINE_BYTES} bytes; one request is one line"),
        lines.backwards(time),
    )  # fmt: skip
    return Columns(time, address, write == WRITE)


def _matches_packets(line: str, words: list[str]) -> bool:
    fields = line.split(",")
    return 5 <= len(fields) <= 7 and fields[0] in ("r", "w") and fields[1].isdecimal() and fields[4].isdecimal()


def _read_packets(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 7, comment="#", field=",")
    lines.stop_at(lines.tokens(5, 7, "'r|w,address,size,flags,tick' like 'r,1048576,64,0,500'"))
    write = lines.words(0, {"r": READ, "w": WRITE})
    address, address_fault = lines.numbers(1, "the address")
    size, size_fault = lines.numbers(2, "the size")
    time, time_fault = lines.numbers(4, "the tick")
    lines.first_fault(
        address_fault, size_fault, time_fault, lines.numbers(3, "the flags")[1],
        lines.fault_where(write < 0, "r or w; other packets are no requests"),
        lines.fault_where((size < 1) | (size > LINE_BYTES), f"a size of 1 to {LINE_BYTES} bytes; one request is one line"),
        lines.backwards(time),
    )  # fmt: skip
    return Columns(time, address, write == WRITE)


_TICKS = "ticks of one picosecond"
FORMAT = Format(
    "gem5", "500: system.mem_ctrls: recvTimingReq: request ReadReq addr 0x400 size 64", _TICKS,
    _read, _matches, (), TICK_MHZ, clock_is_fixed=True,
)  # fmt: skip
PACKETS = Format(
    "gem5-packets", "r,1048576,64,0,500", f"what decode_packet_trace.py prints; {_TICKS}",
    _read_packets, _matches_packets, (), TICK_MHZ, clock_is_fixed=True,
)  # fmt: skip
