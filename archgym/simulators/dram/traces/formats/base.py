"""What a trace format says of itself."""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.trace import LATEST
from archgym.simulators.dram.traces.lines import Lines

READ, WRITE = 0, 1
CPU_MHZ = 3200.0
"""Clock of a processor whose instructions are counted, unless another one is stated."""


class Columns(NamedTuple):
    """What a reader gives: ``time`` in cycles or ticks (in instructions for a format that counts them), byte addresses,
    directions, each ``(n,)``; and the bytes of each access for a format that knows them."""

    time: NDArray[np.int64]
    address: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    size: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Options:
    """What readers may need to know: the memory of address vectors, and whether the text is all of the file."""

    device: str | None = None
    map: str = "rbc"
    ranks: int | None = None
    channels: int = 1
    whole: bool = True

    def counted(self, instructions: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
        """Running counts of instructions, refused where they are beyond what a trace may last."""
        if len(instructions) and not 0 <= int(instructions[-1]) <= LATEST:
            raise ArchGymError(f"{path} counts more than {LATEST} instructions; expected fewer")
        return instructions


@dataclass(frozen=True)
class Format:
    """One trace format.

    Attributes:
        name: as in ``format=``.
        example: a line. about: what it means, and what is assumed.
        read: the requests of a file.
        matches: whether a first line (and its words) looks like this format; None where only the name tells.
        endings: of names of such files.
        clock_mhz: clock whose cycles it counts, unless another one is stated; None where it has no times.
        clock_is_fixed: True where the format itself fixes the unit of time.
        counts_instructions: True where time is given in instructions, which an IPC turns into cycles.
        cache_kib: of the last-level cache that accesses go through; 0 for those behind the caches already.
        holds_back: True where times that run backwards are raised to the time before, with a warning, as the tool does.
        binary: True where the file is no text.
        relative: True where times count from the request before.
        address_vectors: True where addresses are levels of a memory, which options say.
        takes: names of the options that mean something for it.
    """

    name: str
    example: str
    about: str
    read: Callable[[Lines, Options], Columns]
    matches: Callable[[str, list[str]], bool] | None = None
    endings: tuple[str, ...] = ()
    clock_mhz: float | None = None
    clock_is_fixed: bool = False
    counts_instructions: bool = False
    cache_kib: int = 0
    holds_back: bool = False
    binary: bool = False
    address_vectors: bool = False
    relative: bool = False

    @property
    def states_times(self) -> bool:
        """Whether every line states a time of its own, not one that follows from the lines before."""
        return self.clock_mhz is not None and not self.counts_instructions and not self.relative

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the options that mean something for the format, of those of :func:`~.read_trace`."""
        return (*ALWAYS, *(name for name, (holds, _) in MEANINGS.items() if holds(self)))


def _levels(kind: Format) -> bool:
    return kind.address_vectors


def _counts(kind: Format) -> bool:
    return kind.counts_instructions


ALWAYS = ("format", "requests", "start")
"""Options that every format takes."""
MEANINGS: Mapping[str, tuple[Callable[[Format], bool], str]] = {
    "clock_mhz": (
        lambda kind: kind.clock_mhz is not None and not kind.clock_is_fixed,
        "which counts no cycles of a clock",
    ),
    "ipc": (_counts, "which counts no instructions"),
    "cache_kib": (_counts, "which counts no instructions"),
    "cache_ways": (_counts, "which counts no instructions"),
    "device": (_levels, "which holds addresses, not levels of a memory"),
    "map": (_levels, "which holds addresses, not levels of a memory"),
    "ranks": (_levels, "which holds addresses, not levels of a memory"),
    "channels": (_levels, "which holds addresses, not levels of a memory"),
    "backwards": (lambda kind: kind.states_times, "whose times cannot run backwards"),
}
"""Each further option: the formats that take it, and why others do not."""
