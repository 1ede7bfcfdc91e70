"""Designs over a trace in the exact order of events: Python's side of ``event.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.constraints import Constraints, constraints
from archgym.simulators.dram.event import (
    ANSWERED,
    BANKS,
    C_ACT_TAIL,
    C_RAS,
    C_READ_PRE,
    C_READ_TAIL,
    C_RFC,
    C_RP,
    C_WRITE_PRE,
    C_WRITE_TAIL,
    CANDIDATE,
    CHANNEL_FREE,
    CHANNELS,
    COLUMN_BUS,
    COLUMN_BUSES,
    COMMAND,
    COUNTED,
    FAR,
    FIRST,
    GROUP_PLACE,
    GROUPS,
    HELD,
    INCOMING,
    INITIATOR_FREE,
    INTERVAL,
    LAST,
    LAST_BANK,
    LAST_END_REQ,
    LAST_END_RESP,
    LOGGED,
    MOST_POSTPONED,
    MOST_PULLED_IN,
    N_BANK,
    N_CHANNEL,
    N_CYCLES,
    N_K,
    N_RANK,
    NEVER,
    NEXT_STRICT,
    NO_REFRESH,
    NONE,
    NOW,
    OPEN_ROW,
    OUTGOING,
    OUTGOING_TIME,
    P_COMMAND,
    P_TIME,
    PD_ENTRY,
    PD_IDLE,
    PER_BANK,
    POSTPONED,
    POWER_DOWN,
    PULLED_IN,
    Q_ANSWERED,
    Q_END,
    Q_NEXT,
    R_COMMAND,
    R_TIME,
    RANK_PLACE,
    RANKS,
    READ_END,
    REFRESH,
    ROW_BUS,
    SCHED_FIFO,
    SCHEDULER,
    STRICT,
    TIME,
    TRIGGER,
    UNREFRESHED,
    WRITE_END,
    State,
    count_cycles,
    simulate,
)  # fmt: skip


def run_design(
    design: NDArray[np.int64], memory: Memory, heap: int = 4096, log: int | None = None
) -> tuple[dict[str, int], NDArray[np.int64], NDArray[np.int64]]:
    """Simulate one design.

    Args:
        design: int64 ``(12,)``: the ten parameters as in :mod:`archgym.simulators.dram.spaces`, then 1 where CmdMux is
            Strict, 1 where the power-down policy is Staggered.
        memory: the trace, decoded for a memory.
        heap, log: first sizes of the event heap and the command log; both grow as needed.

    Returns:
        Counts and cycles (summed over channels; ``total`` is the time of the last response), times of the responses
        int64 ``(n,)``, and the commands int64 ``(m, 5)``: time, command, channel, rank, bank (over the ranks).
    """
    n = len(memory)
    log = 6 * n + 1024 if log is None else log
    if design[STRICT] and design[SCHEDULER] != SCHED_FIFO:
        raise ArchGymError("CmdMux Strict deadlocks with a scheduler other than Fifo; use Scheduler Fifo")
    if design[REFRESH] == PER_BANK and not memory.device.supports_per_bank_refresh:
        raise ArchGymError(f"{memory.device.name} has no refresh of single banks; use RefreshPolicy AllBank")
    if design[POWER_DOWN] and not memory.device.supports_power_down:
        raise ArchGymError(f"{memory.device.name} has no power-down times; use PowerDownPolicy NoPowerDown")
    while True:
        state = _state(design, memory, heap, log)
        if simulate(state):
            break
        heap, log = 2 * heap, 2 * log
    if int(state.k[ANSWERED]) < n:
        raise ArchGymError(f"the controller answered {int(state.k[ANSWERED])} of {n} requests and stopped")
    commands = state.log[: int(state.k[LOGGED])].copy()
    total = int(state.k[NOW])
    out = np.zeros(len(COUNTED), np.int64)
    for channel in range(memory.channels):
        count_cycles(commands, channel, total, memory.ranks * memory.device.banks, memory.power_cycles, out)
    return {"total": total, **dict(zip(COUNTED, out.tolist(), strict=True))}, state.requests[:, Q_ANSWERED], commands


class Memory:
    """A trace decoded for a memory of any number of ranks and channels.

    Args:
        arrival: int64 ``(n,)``, cycles of the memory clock.
        fields: channel, rank, bank_group, bank and row of each request, int64 ``(n,)`` each.
        line: address of the burst; is_write: direction.
    """

    def __init__(
        self,
        device: Any,
        ranks: int,
        channels: int,
        arrival: NDArray[np.int64],
        fields: dict[str, NDArray[np.int64]],
        line: NDArray[np.int64],
        is_write: NDArray[np.bool_],
        table: Constraints | None = None,
    ) -> None:
        self.device, self.ranks, self.channels = device, ranks, channels
        self.table = constraints(device) if table is None else table
        per_group = device.banks // device.bank_groups
        bank = fields["bank"] + fields["bank_group"] * per_group + fields["rank"] * device.banks
        #: The first columns of ``State.requests``.
        self.columns = [
            np.asarray(column, np.int64)
            for column in (arrival, fields["channel"], fields["rank"], bank, fields["row"], line, is_write)
        ]
        t = device.timing
        cycles = np.zeros(N_CYCLES, np.int64)
        burst, rl, wl = device.burst_cycles, t["RL"], t["WL"]
        cycles[C_READ_PRE] = t.get("AL", 0) + (max(t["RTP"], 4) if device.family == "DDR3" else t["RTP"])
        cycles[C_WRITE_PRE] = cycles[C_WRITE_TAIL] = wl + burst + t["WR"]
        cycles[C_RAS] = t["RAS"]
        cycles[C_RP] = t.get("RP", t.get("RPPB", 0))
        cycles[C_RFC] = t.get("RFC", t.get("RFCAB", 0))
        cycles[C_READ_TAIL] = rl + t.get("DQSCK", 0) + 1 + burst
        cycles[C_ACT_TAIL] = t.get("RCD", t.get("RCDRD", 0))
        self.power_cycles = cycles

    def __len__(self) -> int:
        return len(self.columns[0])


def _state(design: NDArray[np.int64], memory: Memory, heap: int, log: int) -> State:
    n, channels, ranks = len(memory), memory.channels, memory.ranks
    device, table = memory.device, memory.table
    banks, groups = ranks * device.banks, ranks * device.bank_groups
    commands = len(table.length)

    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    t = device.timing
    per_bank = design[REFRESH] == PER_BANK
    refi = t["REFIPB" if "REFIPB" in t else "REFISB"] if per_bank else t["REFI"]
    factor = device.banks if per_bank else 1
    k = zeros(N_K)
    k[: len(design)] = design
    k[[CHANNELS, RANKS, BANKS, GROUPS]] = channels, ranks, device.banks, device.bank_groups
    k[[COLUMN_BUSES, READ_END, WRITE_END]] = table.column_bus, table.read_end, table.write_end
    k[[GROUP_PLACE, RANK_PLACE]] = banks, banks + groups
    k[INTERVAL] = 0 if design[REFRESH] == NO_REFRESH else refi
    k[[MOST_POSTPONED, MOST_PULLED_IN]] = design[POSTPONED] * factor, design[PULLED_IN] * factor
    k[HELD], k[INITIATOR_FREE], k[LAST_END_RESP] = -1, 1, NEVER

    requests = np.ascontiguousarray(np.stack([*memory.columns, *([zeros(n)] * 5)], axis=1))
    requests[:, [Q_ANSWERED, Q_NEXT]] = -1
    requests[:, Q_END] = FAR
    scalars = zeros(channels, N_CHANNEL)
    scalars[:, [INCOMING, OUTGOING, LAST_BANK]] = -1
    scalars[:, [OUTGOING_TIME, LAST_END_REQ]] = FAR
    scalars[:, [CHANNEL_FREE, NEXT_STRICT]] = 1
    scalars[:, [ROW_BUS, COLUMN_BUS]] = table.first_cycle
    bank_state = zeros(channels, banks, N_BANK)
    bank_state[:, :, [OPEN_ROW, COMMAND, CANDIDATE, FIRST, LAST]] = -1
    bank_state[:, :, TIME] = FAR
    bank_state[:, :, UNREFRESHED] = 1
    rank_state = zeros(channels, ranks, N_RANK)
    rank_state[:, :, [R_COMMAND, P_COMMAND]] = NONE
    rank_state[:, :, [R_TIME, P_TIME]] = FAR
    rank_state[:, :, [PD_ENTRY, PD_IDLE]] = 1
    bits = ranks.bit_length() - 1
    for rank in range(ranks):
        reverse = int(f"{rank:0{bits}b}"[::-1], 2) if bits else 0
        rank_state[:, rank, TRIGGER] = refi - reverse * refi // ranks
    messages = 64
    return State(
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
        last=np.full((channels, commands, banks + groups + ranks), NEVER),
        log=zeros(log, 5),
    )
