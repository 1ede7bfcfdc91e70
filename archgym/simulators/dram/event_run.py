"""Designs over a trace in the exact order of events: Python's side of ``event.py``."""

from __future__ import annotations

__all__ = ()

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.batch import Columns, Prepared, Rows, _workers
from archgym.simulators.dram.commands import N_LOG
from archgym.simulators.dram.constraints import constraints
from archgym.simulators.dram.kernels import event as e
from archgym.simulators.dram.kernels.power import COUNTED, count_cycles
from archgym.simulators.dram.kernels.state import NEVER, memory_state
from archgym.simulators.dram.timing import power_cycles
from archgym.threads import on_threads

_LATENCIES = (("p50", 50), ("p95", 95), ("p99", 99))


def run(rows: Rows, prepared: Prepared, threads: int | None = None) -> Columns:
    """Simulate designs; the same columns as :func:`archgym.simulators.dram.batch.run`, ``total`` -1 for a deadlock.

    Args:
        rows: int64 ``(n, 12)``, see :func:`archgym.simulators.dram.spaces.kernel_rows`.
        prepared: the trace.
        threads: None takes Numba's number.
    """
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    results: list[dict[str, int]] = [{}] * len(unique)

    def one(i: int) -> None:
        results[i] = run_design(unique[i], prepared)[0]

    on_threads(one, range(len(unique)), _workers(threads, len(unique)))
    names = list(results[0]) if results else []
    table = np.array([[result[name] for name in names] for result in results], np.int64)
    return {name: table[inverse.reshape(-1), j] for j, name in enumerate(names)}


def run_design(row: NDArray[np.int64], prepared: Prepared) -> tuple[dict[str, int], NDArray[np.int64], Rows]:
    """Simulate one design.

    Args:
        row: int64 ``(12,)``, as in :func:`run`.
        prepared: the trace.

    Returns:
        Counts, cycles and latencies by name, times of the responses int64 ``(n,)``, and the commands int64
        ``(m, N_LOG)``, see :mod:`archgym.simulators.dram.commands`.
    """
    n, dev = prepared.requests, prepared.device
    heap, log = 4096, 6 * n + 1024
    while True:
        state = _state(row, prepared, heap, log)
        if e.simulate(state):
            break
        heap, log = 2 * heap, 2 * log
    commands = state.log[: int(state.p["logged"][0])].copy()
    total = int(state.m.k["now"][0])
    counts = np.zeros(len(COUNTED), np.int64)
    for channel in range(prepared.channels):
        count_cycles(commands, len(commands), channel, total, prepared.ranks * dev.banks, power_cycles(dev), counts)
    requests = state.m.requests
    answered = requests["answered"].copy()
    deadlock = int(state.p["answered"][0]) < n
    result = {"total": -1 if deadlock else total, **dict(zip(COUNTED, counts.tolist(), strict=True))}
    latency = answered - requests["arrival"]
    reads = latency[requests["write"] == 0]
    result["latency_sum"], result["latency_max"] = int(latency.sum()), int(latency.max())
    for name, percent in _LATENCIES:
        result[f"latency_{name}"] = _nearest_rank(latency, percent)
    result["read_latency_sum"] = int(reads.sum())
    result["read_latency_p99"] = _nearest_rank(reads, 99) if len(reads) else -1
    return result, answered, commands


def _nearest_rank(values: NDArray[np.int64], percent: int) -> int:
    return int(np.sort(values)[(len(values) * percent + 99) // 100 - 1])


def _state(row: NDArray[np.int64], prepared: Prepared, heap: int, log: int) -> e.State:
    n, channels, ranks, dev = prepared.requests, prepared.channels, prepared.ranks, prepared.device
    table = constraints(dev)
    banks, groups = ranks * dev.banks, ranks * dev.bank_groups
    progress = np.zeros(1, e.PROGRESS)
    progress["group_place"], progress["rank_place"] = banks, banks + groups
    progress["held"], progress["initiator_free"], progress["last_end_resp"] = -1, 1, NEVER
    commands = np.zeros(len(table.length), e.COMMAND)
    commands["rows"], commands["length"] = table.start[:-1], table.length
    commands["faw"], commands["window"] = table.faw, table.window
    messages = 64
    return e.State(
        m=memory_state(row, prepared),
        p=progress,
        rows=table.rows,
        commands=commands,
        heap=np.zeros(heap, e.ENTRY),
        events=np.zeros(4 + 4 * channels, e.EVENT),
        zero=np.zeros((2, messages), e.MESSAGE),
        late=np.zeros((2, messages), e.MESSAGE),
        ends=np.zeros(2, e.ENDS),
        queues=np.zeros((channels, n + 1), e.QUEUES),
        last=np.full((channels, len(table.length), banks + groups + ranks), NEVER),
        log=np.zeros((log, N_LOG), np.int64),
    )
