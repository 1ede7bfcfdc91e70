"""Batches of designs over one trace: decode the trace once, run designs on threads, share provably equal results.

A simulation also reports which limits it never touched: the buffer never filled beyond some level, the transaction
limit never held a request back, a refresh was never forced or pulled in to its limit. Designs that differ only in
limits that stay out of touch have the same result bit by bit, so that one simulation answers for all of them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram import controller as c
from archgym.simulators.dram.addressmap import AddressMap
from archgym.simulators.dram.devices import Device
from archgym.simulators.dram.timing import ddr_timing
from archgym.simulators.dram.trace import Trace

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """A trace decoded for one memory: what the kernel takes.

    Attributes:
        device, ranks: of the memory.
        requests: bursts of the trace.
        timing: int64 vector of the kernel.
        columns: arrival (int64), bank (uint8), row, line (int32) and is_write (uint8), each ``(n,)``.
    """

    device: Device
    ranks: int
    requests: int
    timing: NDArray[np.int64]
    columns: tuple[NDArray[Any], ...]


def check_addresses(trace: Trace, capacity: int, what: str) -> None:
    """Raise a sentence where an address of the trace lies beyond the memory."""
    beyond = trace.address >= capacity
    if beyond.any():
        i = int(np.argmax(beyond))
        raise ArchGymError(
            f"trace {trace.name!r} has the address {int(trace.address[i]):#x} at request {i}, beyond the "
            f"{capacity / 2**30:g} GiB of {what}; use a larger memory (ranks, channels, device)"
        )


def prepare(trace: Trace, device: Device, address_map: AddressMap) -> Prepared:
    """Decode a trace for a memory of one channel and one rank."""
    check_addresses(trace, address_map.capacity, device.name)
    if len(trace) > c.MAX_REQUESTS:
        raise ArchGymError(f"trace {trace.name!r} has {len(trace)} requests; at most {c.MAX_REQUESTS:,} fit; window it")
    arrival = trace.arrival(device.clock_mhz)
    if int(arrival[-1]) + 1000 * len(trace) + (1 << 30) >= 1 << 38:
        raise ArchGymError(f"trace {trace.name!r} ends at cycle {arrival[-1]}, beyond 2**38 cycles; window the trace")
    address = trace.address & ~np.int64(device.burst_bytes - 1)
    fields = address_map.decode(address)
    bank = fields["bank"] + fields["bank_group"] * (device.banks // device.bank_groups)
    line = np.unique(address, return_inverse=True)[1]
    columns = (
        np.array(arrival, dtype=np.int64),
        bank.astype(np.uint8),
        fields["row"].astype(np.int32),
        line.astype(np.int32),
        trace.is_write.astype(np.uint8),
    )
    return Prepared(device, 1, len(trace), ddr_timing(device), columns)


#: Columns of the row that make up the structure of a design; the others are limits that may stay out of touch.
_STRUCTURE = (c.PAGE, c.SCHEDULER, c.BUFFER, c.RESPONSES, c.ARBITER)


def run(rows: Rows, prepared: Prepared, threads: int | None = None) -> dict[str, NDArray[np.int64]]:
    """Simulate designs; results are independent of their order, of the batch and of the number of threads.

    Args:
        rows: int64 ``(n, 10)``, see :func:`archgym.simulators.dram.spaces.kernel_rows`.
        prepared: the trace.
        threads: None takes Numba's number of threads.

    Returns:
        Columns int64 ``(n,)``: cycles and counts.
    """
    out = np.empty((len(rows), c.N_OUT), dtype=np.int64)
    if len(rows) == 1:
        _work(rows, out, prepared)
    elif len(rows):
        order, starts = _groups(rows)
        ordered = np.ascontiguousarray(rows[order])
        result = np.empty_like(out)
        bounds = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        threads = min(threads or get_num_threads(), len(os.sched_getaffinity(0)), len(bounds))
        if threads > 1 and len(rows) * prepared.requests >= 10_000:
            # A few parts a thread, so that a slow one does not hold up the others.
            parts = _parts(bounds, threads * 8)
            with ThreadPoolExecutor(threads) as pool:
                for done in [pool.submit(_work, ordered[a:b], result[a:b], prepared) for a, b in parts]:
                    done.result()
        else:
            _work(ordered, result, prepared)
        out[order] = result
    return {
        "total": out[:, c.O_TOTAL],
        "latency_sum": out[:, c.O_SUM],
        "latency_p50": out[:, c.O_P50],
        "latency_p95": out[:, c.O_P95],
        "latency_p99": out[:, c.O_P99],
        "latency_max": out[:, c.O_MAX],
        "read_latency_sum": out[:, c.O_READ_SUM],
        "read_latency_p99": out[:, c.O_READ_P99],
        "act": out[:, c.O_ACT],
        "pre": out[:, c.O_PRE],
        "rd": out[:, c.O_RD],
        "wr": out[:, c.O_WR],
        "ref": out[:, c.O_REF],
        "A": out[:, c.O_OPEN_CYCLES],
        "P": out[:, c.O_CLOSED_CYCLES],
    }


def _groups(rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order of the designs by structure, within it from the widest limits to the tightest; starts of the groups."""
    structure = np.zeros(len(rows), dtype=np.int64)
    for column in _STRUCTURE:
        structure = structure * 4 + rows[:, column]
    key = structure
    for column in (c.SIZE, c.ACTIVE, c.POSTPONED, c.PULLED_IN):
        key = key * 256 + (255 - np.minimum(rows[:, column], 255))
    key = key * 4 + (3 - rows[:, c.REFRESH])
    order = np.argsort(key, kind="stable")
    ordered = structure[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    return order, starts


def _parts(bounds: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Whole groups put together to about ``count`` parts."""
    size = bounds[-1][1] / count
    parts = []
    begin = 0
    for _, stop in bounds:
        if stop - begin >= size:
            parts.append((begin, stop))
            begin = stop
    if begin < bounds[-1][1]:
        parts.append((begin, bounds[-1][1]))
    return parts


def _work(rows: Rows, out: Rows, prepared: Prepared) -> None:
    device = prepared.device
    c.simulate_batch(rows, prepared.timing, *prepared.columns, device.banks, device.bank_groups, out)
