"""Memory traces by name: recordings of the package, generators, files; see :mod:`.formats` for what files are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulators.dram.trace import Trace
from archgym.simulators.dram.traces.formats import FORMATS, read_trace
from archgym.simulators.dram.traces.generators import GENERATORS, VARIANTS, drawn_names, generated
from archgym.simulators.dram.traces.recordings import LazyTraces, shipped_traces
from archgym.simulators.dram.traces.writing import write_trace

__all__ = [
    "FORMATS",
    "GENERATORS",
    "VARIANTS",
    "all_traces",
    "drawn_names",
    "named_trace",
    "read_trace",
    "shipped_traces",
    "synthetic_traces",
    "write_trace",
]


@cache
def synthetic_traces() -> Mapping[str, Trace]:
    """The generators' traces with their defaults, and variants, by name."""

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: named_trace(name)

    return LazyTraces({name: maker(name) for name in (*GENERATORS, *VARIANTS)})


class AllTraces(LazyTraces):
    """Recordings and generators by name; generators with arguments are found too, but not listed."""

    def __contains__(self, name: object) -> bool:
        return name in self._makers or (isinstance(name, str) and ":" in name and name.partition(":")[0] in GENERATORS)

    def __getitem__(self, name: str) -> Trace:
        return super().__getitem__(name) if name in self._makers else named_trace(name)


@cache
def all_traces() -> Mapping[str, Trace]:
    """Recordings and generators' traces by name, recordings first."""

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: named_trace(name)

    return AllTraces({name: maker(name) for name in (*shipped_traces(), *synthetic_traces())})


def named_trace(name: str, clock_mhz: float | None = None) -> Trace:
    """A trace by name: a recording (``gzip``), a generator (``random``) or a generator with arguments
    (``random:gap=2,write_share=0.5,seed=7``).

    Args:
        clock_mhz: clock whose cycles a generator counts; a recording has its own.
    """
    base, _, text = VARIANTS.get(name, name).partition(":")
    if base in GENERATORS:
        trace = generated(name, base, text)
        return trace if clock_mhz is None else trace.at_clock(clock_mhz)
    shipped = shipped_traces()
    if name not in shipped:
        raise UnknownNameError("workload of dram", name, (*shipped, *GENERATORS, *VARIANTS))
    if clock_mhz is not None:
        raise ArchGymError(
            f"clock_mhz means nothing for {name!r}, a recording, whose times have a clock of their own; leave it out"
        )
    return shipped[name]
