"""Batches of designs over one trace: decode the trace once, run designs on threads, share provably equal results.

A simulation also reports which limits it never touched: the buffer never filled beyond some level, the transaction
limit never held a request back, a refresh was never forced or pulled in to its limit. Designs that differ only in
limits that stay out of touch have the same result bit by bit, so that one simulation answers for all of them.
"""

from __future__ import annotations

__all__ = ()

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.addressmap import AddressMap
from archgym.simulators.dram.commands import (
    COMMANDS,
    LOG_BANK,
    LOG_CHANNEL,
    LOG_COMMAND,
    LOG_TIME,
    N_COMMANDS,
    N_LOG,
    PDEP,
)
from archgym.simulators.dram.constraints import constraints
from archgym.simulators.dram.devices import Device
from archgym.simulators.dram.kernels import fast as c
from archgym.simulators.dram.timing import distances, fast_times, fits_fast, power_cycles
from archgym.simulators.dram.trace import Trace
from archgym.threads import on_threads, thread_count, usable_cores

Rows = NDArray[np.int64]
Columns = dict[str, NDArray[np.int64]]

LINE_BYTES = 64
"""A request of a trace is one line of this size; a memory with shorter bursts takes several bursts for it."""


@dataclass(frozen=True)
class Prepared:
    """A trace decoded for one memory: what the controllers take.

    Attributes:
        device, ranks, channels: of the memory.
        requests: bursts of the trace.
        columns: arrival (int64), bank over all channels and ranks (uint8 where one rank, else int32), row, line
            (uint32) and is_write (uint8), each ``(n,)``.
        routes: number of the request in its channel, next request of the channel (int32 ``(n,)``), and first of each
            channel (int32 ``(channels,)``).
    """

    device: Device
    ranks: int
    channels: int
    requests: int
    columns: tuple[NDArray[Any], ...]
    routes: tuple[NDArray[Any], ...]

    @cached_property
    def timing(self) -> NDArray[np.int64]:
        """Timing vector of the fast controller."""
        return fast_times(self.device)

    @property
    def plain(self) -> bool:
        """True where the fast controller can run it: one channel and one rank of DDR."""
        return self.ranks == 1 and self.channels == 1 and fits_fast(constraints(self.device))


def check_addresses(trace: Trace, capacity: int, what: str) -> None:
    """Raise a sentence where an address of the trace lies beyond the memory."""
    beyond = trace.address >= capacity
    if beyond.any():
        i = int(np.argmax(beyond))
        raise ArchGymError(
            f"trace {trace.name!r} has the address {int(trace.address[i]):#x} at request {i}, beyond the "
            f"{capacity / 2**30:g} GiB of {what}; use a larger memory (ranks, channels, device)"
        )


def prepare(
    trace: Trace,
    device: Device,
    address_map: AddressMap,
    ranks: int = 1,
    channels: int = 1,
    split: bool = True,
    ignore_high_bits: bool = False,
    clock_mhz: float | None = None,
) -> Prepared:
    """Decode a trace for a memory. Addresses are aligned down to the burst.

    Args:
        trace: the workload.
        device, address_map, ranks, channels: the memory.
        split: a request is a line of 64 bytes, so that a memory with shorter bursts takes several bursts for it, all
            with the request's arrival; False makes every request one burst, as DRAMSys does.
        clock_mhz: clock that the times of a trace count which names none; the memory's own where None.
        ignore_high_bits: drop address bits beyond the memory, as DRAMSys does, instead of refusing them.
    """
    if not ignore_high_bits:
        check_addresses(trace, address_map.capacity, f"{device.name} ({ranks} ranks, {channels} channels)")
    arrival, address, is_write = (
        trace.arrival(device.clock_mhz, clock_mhz),
        trace.address,
        trace.is_write.astype(np.uint8),
    )
    parts = LINE_BYTES // device.burst_bytes if split else 1
    if parts > 1:
        address = address & ~np.int64(LINE_BYTES - 1)
        address = (address[:, None] + device.burst_bytes * np.arange(parts)).reshape(-1)
        arrival, is_write = np.repeat(arrival, parts), np.repeat(is_write, parts)
    address = address & ~np.int64(device.burst_bytes - 1)
    n = len(address)
    if n > c.MAX_REQUESTS:
        raise ArchGymError(f"trace {trace.name!r} has {n} bursts; at most {c.MAX_REQUESTS:,} fit; window it")
    if int(arrival[-1]) + 1000 * n + (1 << 30) >= 1 << 38:
        raise ArchGymError(f"trace {trace.name!r} ends at cycle {arrival[-1]}, beyond 2**38 cycles; window the trace")
    fields = address_map.decode(address)
    bank = fields["bank"] + fields["bank_group"] * (device.banks // device.bank_groups)
    bank = bank + (fields["rank"] + fields["channel"] * ranks) * device.banks
    order, following = np.zeros(n, dtype=np.int32), np.full(n, -1, dtype=np.int32)
    first = np.full(channels, -1, dtype=np.int32)
    for channel in range(channels):
        own = np.flatnonzero(fields["channel"] == channel)
        order[own] = np.arange(len(own))
        following[own[:-1]] = own[1:]
        first[channel] = own[0] if len(own) else -1
    columns = (
        np.array(arrival, dtype=np.int64),
        bank.astype(np.uint8 if ranks * channels == 1 else np.int32),
        fields["row"].astype(np.uint32),
        np.unique(address, return_inverse=True)[1].astype(np.uint32),
        is_write,
    )
    return Prepared(device, ranks, channels, n, columns, (order, following, first))


#: Columns of the row that make up the structure of a design; the others are limits that may stay out of touch.
_STRUCTURE = (c.PAGE, c.SCHEDULER, c.BUFFER, c.RESPONSES, c.ARBITER)
_NO_LOG = np.empty((0, 3), dtype=np.int64)
_OUT = {
    "total": c.O_TOTAL,
    "latency_sum": c.O_SUM,
    "latency_p50": c.O_P50,
    "latency_p95": c.O_P95,
    "latency_p99": c.O_P99,
    "latency_max": c.O_MAX,
    "read_latency_sum": c.O_READ_SUM,
    "read_latency_p99": c.O_READ_P99,
    "act": c.O_ACT,
    "pre": c.O_PRE,
    "rd": c.O_RD,
    "wr": c.O_WR,
    "ref": c.O_REF,
    "A": c.O_OPEN_CYCLES,
    "P": c.O_CLOSED_CYCLES,
}


def run(rows: Rows, prepared: Prepared, threads: int | None = None, fixed: bool = False) -> Columns:
    """Simulate designs; results are independent of their order, of the batch and of the number of threads.

    Args:
        rows: int64 ``(n, 12)``, see :func:`archgym.simulators.dram.spaces.kernel_rows`.
        prepared: the trace.
        threads: None takes Numba's number of threads.
        fixed: count open banks for power-down as they are (the reference forgets auto-precharges).

    Returns:
        Columns int64 ``(n,)``: cycles and counts; ``total`` is -1 for a deadlock.
    """
    if prepared.plain and not rows[:, 10:].any():
        return _run_plain(np.ascontiguousarray(rows[:, :10]), prepared, threads)
    return _run_general(np.ascontiguousarray(rows), prepared, threads, fixed)


def untouched(rows: Rows, prepared: Prepared, threads: int | None = None) -> Columns:
    """What :func:`archgym.simulators.dram.kernels.fast.covers` needs to know of the runs of designs, ``(n,)`` each: the
    smallest buffer and transaction limit that would not have been felt, the highest and lowest count of postponed
    refreshes at which there was something to decide (``flex_high`` < 0: there never was), and the end."""
    out = _raw(np.ascontiguousarray(rows[:, :10]), prepared, threads)
    places = {"size_needed": c.O_SIZE_NEEDED, "active_needed": c.O_ACTIVE_NEEDED, "flex_high": c.O_FLEX_HIGH,
              "flex_low": c.O_FLEX_LOW, "total": c.O_TOTAL}  # fmt: skip
    return {name: out[:, place] for name, place in places.items()}


def _run_plain(rows: Rows, prepared: Prepared, threads: int | None) -> Columns:
    out = _raw(rows, prepared, threads)
    return {name: out[:, place] for name, place in _OUT.items()}


def _raw(rows: Rows, prepared: Prepared, threads: int | None) -> Rows:
    out = np.empty((len(rows), c.N_OUT), dtype=np.int64)
    if len(rows) == 1:
        _work(rows, out, prepared)
    elif len(rows):
        order, starts = _groups(rows)
        ordered = np.ascontiguousarray(rows[order])
        result = np.empty_like(out)
        bounds = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        workers = _workers(threads, len(bounds))
        if workers > 1 and len(rows) * prepared.requests >= 10_000:
            # A few parts a thread, so that a slow one does not hold up the others.
            parts = _parts(bounds, workers * 8)
            on_threads(lambda part: _work(ordered[slice(*part)], result[slice(*part)], prepared), parts, workers)
        else:
            _work(ordered, result, prepared)
        out[order] = result
    return out


def _run_general(rows: Rows, prepared: Prepared, threads: int | None, fixed: bool) -> Columns:
    from archgym.simulators.dram.kernels.power import COUNTED, count_cycles

    banks, cycles = prepared.device.banks, power_cycles(prepared.device)
    out = np.zeros((len(rows), c.N_OUT), dtype=np.int64)
    counts = np.zeros((len(rows), len(COUNTED)), dtype=np.int64)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)

    def one(i: int) -> None:
        log = _general(unique[i], prepared, fixed, out[i])
        for channel in range(prepared.channels):
            count_cycles(log, len(log), channel, out[i, c.O_TOTAL], prepared.ranks * banks, cycles, counts[i])

    on_threads(one, range(len(unique)), _workers(threads, len(unique)))
    columns = {name: out[inverse, place] for name, place in _OUT.items()}
    return {**columns, **{name: counts[inverse, place] for place, name in enumerate(COUNTED)}}


def _general(row: Rows, prepared: Prepared, fixed: bool, out: Rows) -> Rows:
    """One design with the general controller: fills a row of results, returns the log of its commands."""
    from archgym.simulators.dram.kernels import general as g
    from archgym.simulators.dram.kernels.state import FAR, memory_state

    table, n, channels = distances(prepared.device), prepared.requests, prepared.channels
    length = 4 * n + 1024
    while True:
        memory = memory_state(row, prepared, fixed)
        routes = np.zeros(n, g.ROUTE)
        routes["order"], routes["next"], first = prepared.routes
        routes["entry"], routes["data_end"] = FAR, -1
        counts = np.bincount(memory.requests["channel"], minlength=channels)
        memory.channels["head"], memory.channels["reaches"] = first, FAR
        memory.channels["admitted_at"] = memory.channels["resp_last"] = -1
        memory.channels["resp_next"] = FAR
        for name in ("place", "resp_head", "resp_tail"):
            memory.channels[name] = np.cumsum(counts) - counts
        progress = np.zeros(1, g.PROGRESS)
        progress["last_entry"] = progress["last_admitted"] = progress["last_done"] = -1
        ranks = (channels, prepared.ranks)
        if row[10]:  # every rank sleeps from the start
            memory.ranks["power_command"], memory.ranks["power_time"] = PDEP, 0
        places = [memory.banks.shape, (channels, prepared.ranks * prepared.device.bank_groups), ranks]
        of_bank, of_group, of_rank = (np.zeros((*shape, N_COMMANDS), np.int64) for shape in places)
        log = np.zeros((length, N_LOG), np.int64)
        state = g.State(
            memory,
            progress,
            routes,
            of_bank,
            of_group,
            of_rank,
            table.bank,
            table.group,
            table.rank,
            table.other,
            table.scalars,
            log,
        )
        if g.simulate(state, out):
            return log[: int(progress["logged"][0])]
        length *= 2


def command_log(row: Rows, prepared: Prepared, fixed: bool = False) -> tuple[Rows, tuple[str, ...]]:
    """The commands of one design in order: int64 ``(m, 3)`` of cycle, command and bank (the first bank of the rank for
    a command to the whole rank, in the fast controller -1), and the commands' names by number."""

    if prepared.plain and not row[10:].any():
        out = np.empty((1, c.N_OUT), dtype=np.int64)
        rows = np.ascontiguousarray(row[None, :10])
        banks, groups = prepared.device.banks, prepared.device.bank_groups
        timing = prepared.timing
        _, length = c.simulate_batch(rows, timing, *prepared.columns, banks, groups, out, _NO_LOG)
        log = np.empty((length, 3), dtype=np.int64)
        c.simulate_batch(rows, timing, *prepared.columns, banks, groups, out, log)
        return log, COMMANDS
    full = _general(row, prepared, fixed, np.zeros(c.N_OUT, dtype=np.int64))
    first_bank = full[:, LOG_CHANNEL] * prepared.ranks * prepared.device.banks
    return np.stack([full[:, LOG_TIME], full[:, LOG_COMMAND], first_bank + full[:, LOG_BANK]], 1), COMMANDS


def _workers(threads: int | None, work: int) -> int:
    return max(1, min(threads or thread_count(), usable_cores(), work))


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
    c.simulate_batch(rows, prepared.timing, *prepared.columns, device.banks, device.bank_groups, out, _NO_LOG)
