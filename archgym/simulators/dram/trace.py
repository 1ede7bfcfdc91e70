"""A memory trace: the workload of the DRAM simulator.

A request is one access of the last-level cache to memory: a time, a byte address and whether it writes. Requests are
offered to the controller in the order of the trace, never before their time.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.quantities import quantity
from archgym.simulator import Workload

LINE_BYTES = 64  # of a cache line: the unit in which locality is measured
PAGE_BYTES = 4096
CLOCK_MHZ = 1200.0
"""Clock of times that count the cycles of a memory and do not say of which: that of DDR4-2400, the default memory."""
LATE_CYCLES = 32  # about what closing a row and opening another takes
LATEST = 2**53  # cycles; the simulator's own times stay exact integers far beyond
_TOP = 2**63 - 1


class Trace(Workload):
    """Requests to memory in the order in which they are offered.

    Args:
        name, description: for people.
        time: ``(n,)`` whole numbers from 0 to 2**53, non-decreasing: earliest cycle at which a request may be offered.
        address: ``(n,)`` byte addresses, whole numbers in ``[0, 2**63)``.
        is_write: ``(n,)`` booleans.
        clock_mhz: clock whose cycles ``time`` counts; None where they are cycles of the memory that the simulator is made
            for (its option ``device``), never of one that is a parameter of the design.

    Attributes:
        time, address: int64 ``(n,)``; is_write: bool ``(n,)``. All read-only.
        clock_mhz: as given.

    Raises:
        ArchGymError: where there is no request, lengths differ, a value is out of range or time runs backwards.
    """

    def __init__(
        self,
        name: str,
        description: str,
        time: ArrayLike,
        address: ArrayLike,
        is_write: ArrayLike,
        clock_mhz: float | None = None,
    ) -> None:
        super().__init__(name, description)
        self.time = _whole_numbers(name, "time", time)
        self.address = _whole_numbers(name, "address", address)
        self.is_write: NDArray[np.bool_] = np.array(is_write, dtype=np.bool_)
        self.is_write.setflags(write=False)
        if clock_mhz is not None and not (np.isfinite(clock_mhz) and 1e-3 <= clock_mhz <= 1e9):
            raise ArchGymError(f"trace {name!r} has a clock of {clock_mhz} MHz; give one from 0.001 to 1e9, or none")
        self.clock_mhz = None if clock_mhz is None else float(clock_mhz)
        lengths = (self.time.shape, self.address.shape, self.is_write.shape)
        if self.time.ndim != 1 or len(set(lengths)) != 1:
            raise ArchGymError(
                f"trace {name!r} has times, addresses and directions of the shapes {lengths}; all must be (n,)"
            )
        if not len(self.time):
            raise ArchGymError(f"trace {name!r} is empty; a trace has at least one request")
        for column, values in (("time", self.time), ("address", self.address)):
            if (values < 0).any():
                i = int(np.argmax(values < 0))
                raise ArchGymError(
                    f"trace {name!r} has the negative {column} {values[i]} at request {i}; expected >= 0"
                )
        if len(self.time) and int(self.time.max()) > LATEST:
            raise ArchGymError(f"trace {name!r} has the time {self.time.max()}; expected at most {LATEST} cycles")
        backwards = np.diff(self.time) < 0
        if backwards.any():
            i = int(np.argmax(backwards)) + 1
            raise ArchGymError(
                f"trace {name!r} runs backwards at request {i}: time {self.time[i]} after {self.time[i - 1]}; times "
                "must not decrease"
            )

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        clock = "memory clock" if self.clock_mhz is None else f"{self.clock_mhz:g} MHz"
        return f"Trace({self.name!r}, {len(self)} requests, {clock})"

    def arrival(self, memory_clock_mhz: float, unnamed_mhz: float | None = None) -> NDArray[np.int64]:
        """Arrival times in cycles of a memory of ``memory_clock_mhz``, rounded up to the next cycle; int64 ``(n,)``.

        Exact for clocks that are ratios of whole numbers up to 10**6.

        Args:
            memory_clock_mhz: of the memory.
            unnamed_mhz: clock of a trace that names none; the memory's where None.
        """
        own = self.clock_mhz or unnamed_mhz or memory_clock_mhz
        ratio = Fraction(memory_clock_mhz).limit_denominator(10**6) / Fraction(own).limit_denominator(10**6)
        if ratio == 1:
            return self.time
        up, down = ratio.numerator, ratio.denominator
        if int(self.time[-1]) * up > _TOP - down:  # only for odd clocks: exact, but slow
            return np.array([-(-int(t) * up // down) for t in self.time], np.int64)
        return (self.time * up + (down - 1)) // down

    def window(self, requests: int, start: int = 0) -> Trace:
        """``requests`` requests from number ``start`` on (fewer where the trace ends before). Where ``start`` is not
        0 their times are moved so that the first is at 0."""
        if requests < 1:
            raise ArchGymError(f"a window of {requests} requests of trace {self.name!r} is empty; give at least 1")
        if not 0 <= start < len(self):
            raise ArchGymError(f"trace {self.name!r} has {len(self)} requests; a window cannot start at {start}")
        if start == 0 and requests >= len(self):
            return self
        cut = slice(start, start + requests)
        time = self.time[cut]
        return Trace(
            self.name,
            self.description,
            time - time[0] if start else time,
            self.address[cut],
            self.is_write[cut],
            self.clock_mhz,
        )

    def at_clock(self, clock_mhz: float) -> Trace:
        """The same numbers as cycles of another clock."""
        return Trace(self.name, self.description, self.time, self.address, self.is_write, clock_mhz)

    def from_start(self) -> Trace:
        """The same with the first request at time 0: the time before it belongs to no request."""
        if not self.time[0]:
            return self
        return Trace(self.name, self.description, self.time - self.time[0], self.address, self.is_write, self.clock_mhz)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of times, addresses, directions and clock."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{len(self)} {self.clock_mhz}".encode())
        for column in (self.time.astype("<i8"), self.address.astype("<i8"), self.is_write.astype("u1")):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def account(self) -> dict[str, str]:
        """Requests, rate, directions, footprint, time span, refreshes that fall into it and locality of rows, in words."""
        n, last = len(self), int(self.time[-1])
        span_us = last / (self.clock_mhz or CLOCK_MHZ)
        lines = np.unique(self.address // LINE_BYTES)
        account = {"requests": f"{n:,}", "reads": f"{1 - float(self.is_write.mean()):.1%}"}
        if last:
            account |= {
                "time from the first request to the last": quantity(
                    (last - int(self.time[0])) / (self.clock_mhz or CLOCK_MHZ), "us"
                ),
                "rate": f"{quantity(n / max(span_us, 1e-9), 'requests/us')}, "
                + quantity(n * LINE_BYTES * 8 / max(span_us, 1e-9) / 1e3, "Gbit/s"),
                "refresh intervals of 7.8 us in it": quantity(span_us / 7.8),
            }
        else:
            account["times"] = "none: all requests are there at once"
        return account | {
            "footprint": f"{quantity(len(lines) * LINE_BYTES / 2**20, 'MiB')} in lines of {LINE_BYTES} bytes, "
            f"{n / len(lines):.3g} requests a line",
            "span of addresses": quantity((int(lines[-1]) - int(lines[0]) + 1) * LINE_BYTES / 2**20, "MiB"),
            "row hits in order (open pages, DDR4-2400, map rbc)": f"{float(self.row_hits.mean()):.1%}",
        }

    @cached_property
    def row_hits(self) -> NDArray[np.bool_]:
        """Whether the request before each one in its bank, in order of the trace, was to the same row; shape ``(n,)``."""
        bank, row = self.address >> 13 & 15, self.address >> 17
        order = np.argsort(bank, kind="stable")
        hits = np.zeros(len(self), dtype=bool)
        hits[order[1:]] = (bank[order][1:] == bank[order][:-1]) & (row[order][1:] == row[order][:-1])
        return hits

    @property
    def _since_bank(self) -> NDArray[np.int64]:
        """Cycles since the request before each one in its bank, -1 for the first one; shape ``(n,)``."""
        bank = self.address >> 13 & 15
        order = np.argsort(bank, kind="stable")
        since = np.full(len(self), -1, dtype=np.int64)
        since[order[1:]] = np.where(np.diff(bank[order]) == 0, np.diff(self.time[order]), -1)
        return since

    def features(self) -> dict[str, float]:
        """Numbers of order 1 that describe the trace.

        ======================  =====================================================================================
        read_share              reads / requests
        intensity               requests a cycle (of the trace's own clock), at most 1
        burstiness              (s - m) / (s + m) of the gaps between requests, m their mean, s their standard deviation
        sequential_share        requests to the line behind that of the request before (or the same line)
        page_share              requests to the 4-KiB page of one of the 8 requests before
        log_footprint           log2(distinct lines) / 32
        log_span                log2(highest - lowest address in lines + 1) / 32
        reuse                   1 - distinct lines / requests
        turnaround_share        changes between read and write / requests
        log_length              log2(requests) / 32
        late_hit_share          requests to the row that its bank's request before was to, 32 cycles or more after it: what
                                an open row is for (rows and banks as in :attr:`row_hits`)
        late_miss_share         requests to another row than that, as late: what a closed row is for
        ======================  =====================================================================================
        """
        return dict(self._features)

    @cached_property
    def _features(self) -> dict[str, float]:
        n = len(self)
        line, page = self.address // LINE_BYTES, self.address // PAGE_BYTES
        step = np.diff(line)
        near = np.zeros(n, dtype=bool)
        for distance in range(1, min(8, n - 1) + 1):
            near[distance:] |= page[distance:] == page[:-distance]
        span = float(self.time[-1] - self.time[0]) + 1.0
        gaps = np.diff(self.time).astype(np.float64)
        mean, deviation = (float(gaps.mean()), float(gaps.std())) if n > 1 else (0.0, 0.0)
        distinct = len(np.unique(line))
        late = self._since_bank >= LATE_CYCLES
        return {
            "read_share": 1.0 - float(self.is_write.mean()),
            "intensity": min(n / span, 1.0),
            "burstiness": (deviation - mean) / (deviation + mean) if deviation + mean > 0 else 0.0,
            "sequential_share": float(((step == 0) | (step == 1)).mean()) if n > 1 else 0.0,
            "page_share": float(near.mean()),
            "log_footprint": float(np.log2(distinct)) / 32,
            "log_span": float(np.log2(float(line.max() - line.min()) + 1.0)) / 32,
            "reuse": 1.0 - distinct / n,
            "turnaround_share": float((self.is_write[1:] != self.is_write[:-1]).sum()) / n,
            "log_length": float(np.log2(n)) / 32,
            "late_hit_share": float((late & self.row_hits).mean()),
            "late_miss_share": float((late & ~self.row_hits).mean()),
        }


def _whole_numbers(name: str, column: str, values: ArrayLike) -> NDArray[np.int64]:
    """A read-only int64 copy; only whole numbers below 2**63 pass."""
    given = np.asarray(values)
    if given.dtype.kind == "u" and given.size and int(given.max()) > _TOP:
        raise ArchGymError(f"trace {name!r} has the {column} {int(given.max())}; expected below 2**63")
    if given.dtype.kind == "f":
        if not np.isfinite(given).all() or (given != np.floor(given)).any() or (np.abs(given) >= 2.0**63).any():
            raise ArchGymError(f"trace {name!r} has a {column} that is not a whole number below 2**63")
    elif given.dtype.kind not in "iu" and given.size:
        raise ArchGymError(f"trace {name!r} has {column}s of the type {given.dtype}; expected whole numbers")
    result = np.array(given, dtype=np.int64)
    result.setflags(write=False)
    return result
