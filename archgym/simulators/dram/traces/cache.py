"""A last-level cache that turns the accesses of a program into requests to memory.

The model: one level, unified, ``sets`` x ``ways`` lines of 64 bytes, least recently used, write-back, write-allocate. A
miss reads its line from memory; a dirty line that has to go is written. An access across the end of a line is two.
"""

from __future__ import annotations

__all__ = ()

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.kernels import cache as k


class LastLevelCache:
    """The cache and the requests that it made.

    Args:
        kib, ways: capacity and associativity.
        requests: how many to record; later ones are dropped.
        start_address: recording starts when this instruction is executed; None: with the first instruction.
        start_instructions: recording starts no earlier than at this instruction. The cache runs from the beginning.
    """

    def __init__(
        self, kib: int, ways: int, requests: int, start_address: int | None = None, start_instructions: int = 0
    ) -> None:
        if not (1 <= kib <= 1 << 20 and 1 <= ways <= 1024):
            raise ArchGymError(
                f"a cache of {kib} KiB in {ways} ways is not possible; give 1 KiB to 1 GiB in 1 to 1024 ways"
            )
        lines = kib * 1024 >> k.LINE_BITS
        self.sets = lines // ways
        if self.sets * ways != lines or self.sets & (self.sets - 1):
            raise ArchGymError(f"a cache of {kib} KiB in {ways} ways has no power of two of sets; choose others")
        self.tag = np.full((self.sets, ways), -1, np.int64)
        self.used = np.zeros((self.sets, ways), np.int64)
        self.dirty = np.zeros((self.sets, ways), np.bool_)
        self.state = np.zeros(4, np.int64)
        self.start = np.array([-1 if start_address is None else start_address, start_instructions], np.int64)
        self.time = np.empty(requests, np.int64)
        self.line = np.empty(requests, np.int64)
        self.is_write = np.empty(requests, np.bool_)

    @property
    def full(self) -> bool:
        """True when all requests that were asked for are recorded."""
        return int(self.state[k.REQUESTS]) >= len(self.time)

    @property
    def recorded(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Times in instructions since the start of the recording, line numbers, directions."""
        n = int(self.state[k.REQUESTS])
        return self.time[:n], self.line[:n], self.is_write[:n]

    def run(
        self,
        instruction: NDArray[np.int64],
        address: NDArray[np.int64],
        is_write: NDArray[np.bool_],
        size: NDArray[np.int64],
    ) -> None:
        """Run accesses of ``size`` bytes, each ``(n,)``, at running counts of instructions; what they request is recorded
        until the cache is ``full``."""
        k.run(
            np.ascontiguousarray(instruction), np.ascontiguousarray(address), size, is_write, self.sets, self.tag,
            self.used, self.dirty, self.state, self.time, self.line, self.is_write,
        )  # fmt: skip

    def feed(self, text: NDArray[np.uint8]) -> int:
        """Run the whole lines in ``text`` (uint8), as valgrind's lackey prints accesses; returns how many bytes they are, the
        rest belongs to the next call."""
        return int(
            k.feed(
                text,
                self.sets,
                self.tag,
                self.used,
                self.dirty,
                self.state,
                self.start,
                self.time,
                self.line,
                self.is_write,
            )  # fmt: skip
        )
