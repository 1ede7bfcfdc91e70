"""Trace files: one format a module, told apart by the name's ending, else by the first line; plain, gzipped or xz-packed.

Nothing is skipped silently: a line that is not understood, a value out of range, a time that runs backwards or a damaged
file raises one sentence with the file, the line, what was found and what was expected. To add a format, write a module
with a :class:`~.base.Format` and name it in ``FORMATS``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, UnknownNameError, whole_number
from archgym.reading import quote_path
from archgym.simulators.dram.trace import Trace
from archgym.simulators.dram.traces.formats import (
    champsim,
    dramsim3,
    gem5,
    lackey,
    neutral,
    nvmain,
    pinatrace,
    ramulator,
    stl,
    usimm,
)
from archgym.simulators.dram.traces.formats.base import MEANINGS, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines, load

FORMATS: Mapping[str, Format] = {
    made.name: made
    for made in (
        neutral.FORMAT, stl.FORMAT, stl.RELATIVE, dramsim3.FORMAT, ramulator.FORMAT, ramulator.DRAM, ramulator.VECTOR,
        ramulator.CPU, usimm.FORMAT, nvmain.FORMAT, lackey.FORMAT, pinatrace.FORMAT, gem5.FORMAT, gem5.PACKETS,
        champsim.FORMAT,
    )
}  # fmt: skip
"""The formats by name, in the order in which a first line is tried."""

SHARED_ENDINGS = (".trc",)
"""Endings that several tools use: the first line decides where it is plainly another format's."""
BYTES_A_REQUEST = 40
"""First guess at the text of a request, where only some are asked for."""


def read_trace(
    path: str | Path,
    format: str | None = None,
    *,
    requests: int | None = None,
    clock_mhz: float | None = None,
    ipc: float | None = None,
    cache_kib: int | None = None,
    cache_ways: int | None = None,
    device: str | None = None,
    map: str | None = None,
    ranks: int | None = None,
    channels: int | None = None,
    backwards: str | None = None,
    start: str = "keep",
) -> Trace:
    """Read a trace file. An option that means nothing for its format is refused (:attr:`Format.takes`).

    Args:
        path: the file, plain, gzipped or packed by xz.
        format: one of ``FORMATS``; told from the file where None.
        requests: how many from the start; only what they need is read of the file. None: all.
        clock_mhz: clock whose cycles the times count (of the processor, where instructions are counted); the format's
            own where None. Refused where the format has no times or fixes their unit.
        ipc: instructions a cycle, for formats that count instructions; 2 where None.
        cache_kib, cache_ways: last-level cache that the accesses go through before they reach the memory (64-byte lines,
            LRU, write-back, cold at the start); 0 for none; for formats that count instructions. None: 1024 KiB of 16
            ways for accesses of the program itself, none for those behind the caches of the traced machine.
        device, map, ranks, channels: what the levels of a Ramulator address vector refer to; only for that format. None:
            the map ``rbc``, the device's ranks, one channel.
        backwards: what to do about a time before that of the request before: ``error``, or ``hold``: raise it to that, as
            DRAMSys does, whose requests wait for the one before anyway. None: hold, with a warning, for DRAMSys' own
            format, an error for all others.
        start: ``keep`` the time of the first request, or make it ``zero``: the time before it belongs to no request.

    Raises:
        ArchGymError: one sentence with file, line, what was found and what was expected.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("trace format", format, FORMATS)
    if backwards not in (None, "error", "hold"):
        raise UnknownNameError("treatment of times that run backwards", backwards, ("error", "hold"))
    if start not in ("keep", "zero"):
        raise UnknownNameError("start of a trace", start, ("keep", "zero"))
    if requests is not None and requests < 1:
        raise ArchGymError(f"requests is {requests}; expected at least 1")
    amount = None if requests is None else max(requests * BYTES_A_REQUEST + 4096, 1 << 16)
    while True:
        content, whole = load(path, amount)
        lines = Lines(path, content)
        if not whole and not lines.first():  # comments only so far
            amount = 4 * (amount or 0)
            continue
        kind = FORMATS[format] if format is not None else _format_of(path, lines)
        given = {"clock_mhz": clock_mhz, "ipc": ipc, "cache_kib": cache_kib, "cache_ways": cache_ways, "device": device,
                 "map": map, "ranks": ranks, "channels": channels, "backwards": backwards}  # fmt: skip
        _check_options(path, kind, {name: value for name, value in given.items() if value is not None})
        lines.hold = backwards == "hold" or (backwards is None and kind.holds_back)
        columns = kind.read(lines, Options(device, map or "rbc", ranks, channels or 1, whole))
        columns, note = _behind_the_cache(columns, path, kind, ipc, cache_kib, cache_ways or 16, requests)
        if whole or (requests is not None and len(columns.time) >= requests):
            break
        amount = 4 * (amount or 0)
    time, address, is_write, _ = columns
    if lines.hold and (np.diff(time) < 0).any():
        if backwards is None:
            late = int((np.diff(time) < 0).sum())
            note += f"; {late} times ran backwards and were raised to the time before"
            warnings.warn(
                f"{path}: {late} times run backwards; each is raised to the time before, as DRAMSys' requests wait for "
                "the one before (backwards='error' refuses them)",
                stacklevel=2,
            )
        time = np.maximum.accumulate(time)
    stated = None if kind.binary else lines.stated_clock()
    if stated is not None and "clock_mhz" not in kind.takes:
        raise ArchGymError(f"{path}: a comment states clock_mhz = {stated:g}, but it is a {kind.name} trace, "
                           f"{MEANINGS['clock_mhz'][1]}; take the comment out")  # fmt: skip
    if kind.clock_mhz is None:
        clock = None
    else:
        clock = clock_mhz or stated or kind.clock_mhz
        note += f"; times are cycles of {clock:g} MHz" if not kind.clock_is_fixed else "; times are ticks of 1 ps"
    trace = Trace(f"file:{path}", f"{kind.name} trace {path.name}{note}", time, address, is_write, clock)
    if requests is not None and len(trace) > requests:
        trace = trace.window(requests)
    if requests is not None and not (whole and len(trace) < requests):
        trace.description += f"; the first {len(trace):,} requests"
    if start == "zero" and trace.time[0]:
        moved = trace.from_start()
        moved.description = f"{trace.description}; moved so that the first request, at {int(trace.time[0]):,}, is at 0"
        trace = moved
    trace.takes = kind.takes
    return trace


def _check_options(path: Path, kind: Format, given: Mapping[str, Any]) -> None:
    """Refuse what means nothing for a format, and values out of range."""
    for name in given:
        if name not in kind.takes:
            raise ArchGymError(
                f"{name} means nothing for {quote_path(path)}, a {kind.name} trace, {MEANINGS[name][1]}; "
                f"it takes {', '.join(kind.takes)}"
            )
    for name, least, most, unit in (("clock_mhz", 1e-3, 1e6, "MHz"), ("ipc", 1e-3, 1e3, "instructions a cycle")):
        value = given.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ArchGymError(f"{name} is {value!r}; expected {least:g} to {most:,.0f} {unit}")
    if "cache_ways" in given and not given.get("cache_kib", kind.cache_kib):
        raise ArchGymError("cache_ways means nothing without a cache; give cache_kib, or leave it out")
    for name in ("ranks", "channels", "cache_ways"):
        whole_number(name, given.get(name, 1))


def _behind_the_cache(
    columns: Columns,
    path: Path,
    kind: Format,
    ipc: float | None,
    cache_kib: int | None,
    cache_ways: int,
    requests: int | None,
) -> tuple[Columns, str]:
    """Accesses of a program as requests to the memory, in cycles of its processor; and a note on what was assumed."""
    if not kind.counts_instructions:
        return columns, "" if kind.clock_mhz is not None else "; no times, all requests are there at once"
    ipc = 2.0 if ipc is None else float(ipc)
    kib = kind.cache_kib if cache_kib is None else cache_kib
    note = f"; {ipc:g} instructions a cycle"
    if kib:
        from archgym.simulators.dram.traces.cache import LastLevelCache

        size = columns.size if columns.size is not None else np.full(len(columns.time), 8, np.int64)
        most = 2 * int(((columns.address + np.maximum(size, 1) - 1 >> 6) - (columns.address >> 6) + 1).sum())
        cache = LastLevelCache(kib, cache_ways, most if requests is None else min(requests, most))
        cache.run(columns.time, columns.address, columns.is_write, size)
        time, line, is_write = cache.recorded
        if not len(time):
            raise ArchGymError(f"{path} makes no request behind a cache of {kib} KiB; choose a smaller one (cache_kib)")
        columns = Columns(time, line << 6, is_write)
        note += f", behind a cache of {kib} KiB and {cache_ways} ways (64-byte lines, LRU, write-back)"
    return Columns(np.ceil(columns.time / ipc).astype(np.int64), columns.address, columns.is_write), note


def _format_of(path: Path, lines: Lines) -> Format:
    name = path.with_suffix("") if path.suffix in (".gz", ".xz") else path
    ending = next((kind for kind in FORMATS.values() if name.suffix in kind.endings), None)
    if ending is not None and name.suffix not in SHARED_ENDINGS:
        return ending
    first = lines.first()
    words = first.split()
    alike = [kind for kind in FORMATS.values() if kind.matches is not None and words and kind.matches(first, words)]
    if ending is not None and (ending in alike or not alike):
        return ending
    if alike:
        return alike[0]
    shown = first if len(first) <= 60 else first[:57] + "..."
    examples = ", ".join(repr(kind.example) for kind in list(FORMATS.values())[1:6] if kind.name != "rstl")
    raise ArchGymError(
        f"{path} is of no known trace format: its first line is {shown!r}; expected the header {neutral.HEADER!r}, or a "
        f"line like {examples}; name the format with format=..., one of {', '.join(FORMATS)}"
    )
