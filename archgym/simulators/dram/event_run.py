"""Designs over a trace in the exact order of events: Python's side of ``event.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.batch import Columns, Prepared, Rows, _workers
from archgym.simulators.dram.commands import N_LOG, NONE
from archgym.simulators.dram.constraints import constraints
from archgym.simulators.dram.kernels import event as e
from archgym.simulators.dram.kernels.power import COUNTED, count_cycles
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
    commands = state.log[: int(state.k[e.LOGGED])].copy()
    total = int(state.k[e.NOW])
    counts = np.zeros(len(COUNTED), np.int64)
    for channel in range(prepared.channels):
        count_cycles(commands, len(commands), channel, total, prepared.ranks * dev.banks, power_cycles(dev), counts)
    answered = state.requests[:, e.Q_ANSWERED].copy()
    deadlock = int(state.k[e.ANSWERED]) < n
    result = {"total": -1 if deadlock else total, **dict(zip(COUNTED, counts.tolist(), strict=True))}
    latency = answered - state.requests[:, e.Q_ARRIVAL]
    reads = latency[state.requests[:, e.Q_WRITE] == 0]
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
    commands = len(table.length)

    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    per_bank = row[e.REFRESH] == e.PER_BANK
    interval = table.interval_bank if per_bank else table.interval
    factor = dev.banks if per_bank else 1
    k = zeros(e.N_K)
    k[: len(row)] = row
    k[[e.CHANNELS, e.RANKS, e.BANKS, e.GROUPS]] = channels, ranks, dev.banks, dev.bank_groups
    k[[e.COLUMN_BUSES, e.READ_END, e.WRITE_END]] = table.column_bus, table.read_end, table.write_end
    k[[e.GROUP_PLACE, e.RANK_PLACE]] = banks, banks + groups
    k[e.INTERVAL] = 0 if row[e.REFRESH] == e.NO_REFRESH else interval
    k[[e.MOST_POSTPONED, e.MOST_PULLED_IN]] = row[e.POSTPONED] * factor, row[e.PULLED_IN] * factor
    k[[e.HELD, e.INITIATOR_FREE, e.LAST_END_RESP]] = -1, 1, e.NEVER

    arrival, place, rows, line, is_write = prepared.columns
    place = place.astype(np.int64)
    requests = zeros(n, 12)
    requests[:, e.Q_ARRIVAL], requests[:, e.Q_ROW], requests[:, e.Q_LINE] = arrival, rows, line
    requests[:, e.Q_WRITE] = is_write
    requests[:, e.Q_CHANNEL], requests[:, e.Q_BANK] = place // banks, place % banks
    requests[:, e.Q_RANK] = requests[:, e.Q_BANK] // dev.banks
    requests[:, [e.Q_ANSWERED, e.Q_NEXT]] = -1
    requests[:, e.Q_END] = e.FAR
    scalars = zeros(channels, e.N_CHANNEL)
    scalars[:, [e.INCOMING, e.OUTGOING, e.LAST_BANK]] = -1
    scalars[:, [e.OUTGOING_TIME, e.LAST_END_REQ]] = e.FAR
    scalars[:, [e.CHANNEL_FREE, e.NEXT_STRICT]] = 1
    scalars[:, [e.ROW_BUS, e.COLUMN_BUS]] = table.first_cycle
    bank_state = zeros(channels, banks, e.N_BANK)
    bank_state[:, :, [e.OPEN_ROW, e.COMMAND, e.CANDIDATE, e.FIRST, e.LAST]] = -1
    bank_state[:, :, e.TIME] = e.FAR
    bank_state[:, :, e.UNREFRESHED] = 1
    rank_state = zeros(channels, ranks, e.N_RANK)
    rank_state[:, :, [e.R_COMMAND, e.P_COMMAND]] = NONE
    rank_state[:, :, [e.R_TIME, e.P_TIME]] = e.FAR
    rank_state[:, :, [e.PD_ENTRY, e.PD_IDLE]] = 1
    bits = ranks.bit_length() - 1
    for rank in range(ranks):
        reverse = int(f"{rank:0{bits}b}"[::-1], 2) if bits else 0
        rank_state[:, rank, e.TRIGGER] = interval - reverse * interval // ranks
    messages = 64
    return e.State(
        k=k,
        rows=table.rows,
        commands=np.stack([table.start[:-1], table.length, table.faw, table.window], axis=1),
        requests=requests,
        heap=zeros(heap, 3),
        events=zeros(4 + 4 * channels, 6),
        zero=zeros(2, messages, 3),
        late=zeros(2, messages, 3),
        ends=zeros(2, 3),
        scalars=scalars,
        queues=zeros(channels, n + 1, 4),
        banks=bank_state,
        ranks=rank_state,
        last=np.full((channels, commands, banks + groups + ranks), e.NEVER),
        log=zeros(log, N_LOG),
    )
