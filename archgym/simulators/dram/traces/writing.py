"""Traces to files."""

from __future__ import annotations

__all__ = ()

import gzip
from itertools import chain
from pathlib import Path

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.dram.trace import CLOCK_MHZ, Trace
from archgym.simulators.dram.traces.formats.neutral import HEADER
from archgym.simulators.dram.traces.formats.stl import STL_CLOCK_MHZ


def write_trace(trace: Trace, path: str | Path, memory_clock_mhz: float | None = None) -> Path:
    """Write a trace as neutral ``.csv`` or DRAMSys ``.stl``, by the name's ending, gzipped where it ends in ``.gz``.

    Args:
        memory_clock_mhz: write the cycles of this clock. Where it is left out the file keeps the trace's own, and a comment
            states their clock where it is not the one that a reader takes by itself.
    """
    path = Path(path)
    name = path.with_suffix("") if path.suffix == ".gz" else path
    time = trace.time if memory_clock_mhz is None else trace.arrival(memory_clock_mhz)
    if name.suffix == ".csv":
        rows = map(
            "{},{},{}\n".format, time.tolist(), trace.address.tolist(), np.where(trace.is_write, "W", "R").tolist()
        )
        text = chain(_clock(trace, memory_clock_mhz, CLOCK_MHZ), [HEADER + "\n"], rows)
    elif name.suffix == ".stl":
        commands = np.where(trace.is_write, "write", "read").tolist()
        text = chain(
            _clock(trace, memory_clock_mhz, STL_CLOCK_MHZ),
            map("{}:\t{}\t0x{:x}\n".format, time.tolist(), commands, trace.address.tolist()),
        )
    else:
        raise ArchGymError(f"cannot write a trace to {path}; the name must end in .csv or .stl, with or without .gz")
    data = "".join(text).encode()
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise ArchGymError(f"cannot write the trace {path}: {error.strerror or error}") from None
    return path


def _clock(trace: Trace, written_mhz: float | None, assumed_mhz: float) -> list[str]:
    """The comment that states the clock of a trace's own cycles, where a reader would take another one."""
    if written_mhz is not None or trace.clock_mhz in (None, assumed_mhz):
        return []
    return [f"# clock_mhz={trace.clock_mhz:.17g}\n"]
