"""The exact order of events: equal to DRAMSys 4.0 in every row, and the oracle of the fast order."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.simulators.dram import DramSimulator, Trace, batch, event_run
from archgym.simulators.dram.addressmap import named_map
from archgym.simulators.dram.commands import (
    ACT,
    BANK,
    COMMANDS,
    GROUP,
    PDEA,
    PDEP,
    PDXA,
    PDXP,
    PREAB,
    PREPB,
    RANK,
    RD,
    RDA,
    REFAB,
    REFPB,
    REFPB_ROUND,
    SREFEN,
    SREFEX,
    WR,
    WRA,
)
from archgym.simulators.dram.constraints import constraints
from archgym.simulators.dram.devices import device
from archgym.simulators.dram.kernels.power import COUNTED, count_cycles
from archgym.simulators.dram.kernels.state import DESIGN
from archgym.simulators.dram.timing import power_cycles
from archgym.simulators.dram.traces import named_trace
from archgym.simulators.dram.validate import compared, read_rows, simulate_rows, wide_kind
from tests.dram.helpers import REF, memory, random_rows, random_trace

#: Recorded rows of several ranks with power-down, and of HBM2, laid out like the reference data.
CASES = REF.parents[1] / "cases" / "dram-powerdown-ranks"
SCHEDULER, POWER_DOWN, STRICT = (DESIGN.index(name) for name in ("scheduler", "power_down", "strict"))
needs_reference = pytest.mark.skipif(not REF.is_dir(), reason=f"no reference data at {REF}")


def both(rows: np.ndarray, prepared: batch.Prepared) -> tuple[batch.Columns, batch.Columns]:
    return batch.run(rows, prepared), event_run.run(rows, prepared)


# --- against DRAMSys ---------------------------------------------------------------------------------------------------


@needs_reference
def test_wide_rows_are_exact_in_time_and_energy() -> None:
    rows = read_rows(REF / "dramsys40_wide.csv.gz")[::3]
    for row, ours in zip(rows, simulate_rows(rows, REF, event_run.run), strict=True):
        for metric, (value, reference) in compared(row, ours).items():
            assert value == pytest.approx(reference, rel=0 if metric == "total_time_ns" else 1e-8, abs=0), (row, metric)


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("archgym", 9), ("neutral", 12), ("stl", 25)])
def test_plain_rows_are_exact_in_time_and_energy(name: str, step: int) -> None:
    rows = read_rows(REF / f"dramsys40_{name}.csv.gz")[::step]
    for row, ours in zip(rows, simulate_rows(rows, REF, event_run.run), strict=True):
        for metric, (value, reference) in compared(row, ours).items():
            assert value == pytest.approx(reference, rel=0 if metric == "total_time_ns" else 1e-8, abs=0), (row, metric)


# --- against the fast order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DDR3-1600", "DDR4-2400", "DDR5-4800"])
def test_the_fast_order_agrees_on_random_designs(name: str) -> None:
    """At least 98 % of the designs are equal in every count and cycle; times differ by 5 % at most in these short, dense traces."""
    same = count = 0
    for seed, gap in enumerate((1.0, 3.0, 8.0)):
        rows = random_rows(seed, 70)
        fast, exact = both(rows, memory(random_trace(seed, gap=gap), name))
        equal = np.all([fast[key] == exact[key] for key in fast], axis=0)
        same, count = same + int(equal.sum()), count + len(rows)
        assert np.abs(fast["total"] / exact["total"] - 1).max() < 0.05
    assert same >= 0.98 * count


@pytest.mark.parametrize(
    ("name", "ranks", "channels", "refresh"),
    [
        ("DDR3-1600", 4, 1, (0, 1)),
        ("DDR4-2400", 2, 1, (0, 1)),
        ("DDR4-2400", 1, 2, (0, 1)),
        ("LPDDR4-3200", 1, 1, (0, 1, 2)),
        ("HBM2", 2, 1, (1, 2)),
    ],
)
def test_the_general_controller_agrees_on_random_designs(
    name: str, ranks: int, channels: int, refresh: tuple[int, ...]
) -> None:
    """Of the designs that end at the same time nearly all are equal in every count, cycle of the power model and latency."""
    rows = random_rows(5, 60, refresh)
    if name.startswith("DDR"):
        rows[:, POWER_DOWN] = np.arange(len(rows)) % 2
    trace = random_trace(3, gap=5.0)
    # Not at cycle 0: the reference, and so the exact order, cannot use a bus of HBM2 before cycle 1.
    trace = Trace("later", "", trace.time + 10, trace.address, trace.is_write)
    fast, exact = both(rows, memory(trace, name, ranks=ranks, channels=channels))
    in_time = fast["total"] == exact["total"]
    assert np.mean(in_time) >= 0.95
    assert np.abs(fast["total"] / exact["total"] - 1).max() < 0.05
    assert set(exact) == set(fast)
    # Which of two channels that answer in one cycle comes first is a matter of the order of events: a read and a write
    # may change places.
    keys = [key for key in exact if channels == 1 or not key.startswith("read_latency")]
    same = np.all([fast[key] == exact[key] for key in keys], axis=0)
    assert np.mean(same[in_time]) >= 0.95, [key for key in keys if (fast[key] != exact[key])[in_time].mean() > 0.05]


def test_a_write_with_auto_precharge_closes_as_its_standard_says() -> None:
    """The bank counts as open from its ACT until the internal precharge: WL + BL/2 + tWR after the WRA, on LPDDR4 one
    cycle more (JESD209-4); both controllers count so."""
    row = np.array([[2, 2, 0, 8, 0, 0, 1, 1, 1, 128, 0, 0]])  # closed pages
    for name, more in (("DDR4-2400", 0), ("LPDDR4-3200", 1)):
        dev = device(name)
        t = dev.timing
        trace = Trace("one", "", [5], [0], [True])
        prepared = batch.prepare(trace, dev, named_map("rbc", dev), split=False)
        fast, exact = both(row, prepared)
        expected = max(t["RCD"] + t["WL"] + dev.burst_cycles + t["WR"] + more, t["RAS"])
        assert fast["A"][0] == exact["A"][0] == expected, name


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}")
def test_power_down_of_several_ranks_and_buses_of_hbm2_are_exact() -> None:
    """One power state for all ranks; of simultaneous commands on both buses the older request's goes first."""
    rows = read_rows(CASES / "dramsys40_wide.csv.gz")[::2]
    assert {wide_kind(row) for row in rows} >= {"DDR3-4ranks-Staggered", "DDR4-2ranks-Staggered", "HBM2-PerBank"}
    for row, ours in zip(rows, simulate_rows(rows, CASES, event_run.run), strict=True):
        for metric, (value, reference) in compared(row, ours).items():
            assert value == pytest.approx(reference, rel=0 if metric == "total_time_ns" else 1e-8, abs=0), (row, metric)


# One power state for two ranks: (time, command, rank, bank), and the cycles that DRAMPower counts for them.
POWER_STATES = {
    # Rank 1 goes to power-down while rank 0 is in it: the state counts from the later entry, the first exit ends it.
    "an exit ends the state of both": (
        [(0, PDEP, 0, 0), (100, PDEP, 1, 8), (150, PDXP, 0, 0), (200, PDXP, 1, 8)],
        {"P": 100, "DP": 50, "DA": 0},
    ),
    # The exit from active power-down finds the channel in precharged power-down: none of its cycles count.
    "an exit of the other kind counts nothing": (
        [(0, ACT, 0, 0), (50, PDEA, 0, 0), (80, PDEP, 1, 8), (120, PDXA, 0, 0), (150, PREPB, 0, 0)],
        {"DA": 0, "DP": 0, "A": 50 + 30},
    ),
    # The start of a self refresh is its own: a power-down between does not move it.
    "a self refresh keeps its start": (
        [(0, SREFEN, 0, 0), (1000, PDEP, 1, 8), (2000, SREFEX, 0, 0), (2010, PDXP, 1, 8)],
        {"S": 2000 - 88, "sA": 78, "sP": 10, "DP": 0},
    ),
    "at the end of the list a refresh is not finished": (
        [(0, SREFEN, 0, 0), (30, RD, 1, 8)],
        {"sA": 30 + 10 + 1 + 4 - 1, "uA": 0, "uP": 0},
    ),
}


@pytest.mark.parametrize("case", POWER_STATES)
def test_the_power_state_is_one_for_all_ranks(case: str) -> None:
    commands, expected = POWER_STATES[case]
    log = np.array([(time, command, 0, rank, bank, -1) for time, command, rank, bank in commands])
    counts = np.zeros(len(COUNTED), np.int64)
    count_cycles(log, len(log), 0, 1 << 40, 16, power_cycles(device("DDR3-1600")), counts)
    counted = dict(zip(COUNTED, counts.tolist(), strict=True))
    assert {name: counted[name] for name in expected} == expected


def test_the_simulator_takes_the_order_as_an_option() -> None:
    trace = named_trace("mixed:requests=300")
    exact, fast = DramSimulator(order="event"), DramSimulator()
    designs = fast.space(trace).sample(12, 0)
    a, b = exact.evaluate(designs, trace), fast.evaluate(designs, trace)
    assert list(a.metrics) == list(b.metrics)
    same = [np.allclose(a.metrics[name], b.metrics[name], rtol=1e-12, equal_nan=True) for name in a.metrics]
    assert np.mean(same) > 0.9 and np.isfinite(a.metrics["energy_pj"]).all()
    with pytest.raises(ArchGymError, match="did you mean 'event'"):
        DramSimulator(order="evnt")


def test_results_do_not_depend_on_threads_or_batch() -> None:
    rows, prepared = random_rows(2, 16), memory(random_trace(1))
    one, two = event_run.run(rows, prepared, 1), event_run.run(rows[::-1], prepared, 2)
    assert all((one[key] == two[key][::-1]).all() for key in one)


# --- the commands keep the constraints ---------------------------------------------------------------------------------


def check_commands(log: np.ndarray, name: str, ranks: int) -> None:
    """Replay a log and assert every row of the table, the four-activate window, the bus and the state of the banks."""
    table, dev = constraints(device(name)), device(name)
    per_group = dev.banks // dev.bank_groups
    for channel in np.unique(log[:, 2]):
        last: dict[tuple[int, int, int], int] = {}
        activates: dict[int, list[int]] = {rank: [] for rank in range(ranks)}
        bus, is_open, refreshed = {False: 0, True: 0}, set(), dict.fromkeys(range(ranks), 0)
        for time, command, _, rank, bank in log[log[:, 2] == channel, :5].tolist():
            where = {BANK: bank, GROUP: bank // per_group, RANK: rank}
            for _, before, place, cycles in table.rows[table.start[command] : table.start[command + 1]].tolist():
                if place in where:
                    since = last.get((before, place, where[place]))
                    assert since is None or time >= since + cycles, (COMMANDS[command], COMMANDS[before], time, since)
                else:
                    for other in set(range(ranks)) - {rank}:
                        since = last.get((before, RANK, other))
                        assert since is None or time >= since + cycles, (COMMANDS[command], COMMANDS[before], time)
            if table.faw[command] and len(activates[rank]) >= 4:
                assert time >= activates[rank][-4] + table.faw[command]
            if table.window[command]:
                activates[rank].append(time + int(table.window[command]) - 1)
            column = command in (RD, RDA, WR, WRA)
            lane = column and table.column_bus
            assert time >= bus[lane]
            bus[lane] = time + int(table.length[command])
            own = set(range(rank * dev.banks, (rank + 1) * dev.banks))
            if command == ACT:
                assert bank not in is_open
                is_open.add(bank)
            elif column:
                assert bank in is_open
                if command in (RDA, WRA):
                    is_open.discard(bank)
            elif command == PREPB:
                assert bank in is_open
                is_open.discard(bank)
            elif command == PREAB:
                is_open -= own
            elif command == REFAB:
                assert not is_open & own
            elif command == REFPB:
                assert bank not in is_open
                refreshed[rank] += 1
                if refreshed[rank] % dev.banks == 0:
                    last[REFPB_ROUND, RANK, rank] = time
            for place, index in where.items():
                if place == RANK or command <= WRA or command == REFPB:
                    last[command, place, index] = time


@pytest.mark.parametrize(
    ("name", "ranks", "channels", "refresh", "power_down"),
    [
        ("DDR3-1600", 1, 1, (0, 1), True),
        ("DDR4-2400", 1, 1, (0, 1), False),
        ("DDR4-2400", 2, 2, (0, 1), True),
        ("DDR5-4800", 1, 1, (1,), False),
        ("LPDDR4-3200", 1, 1, (1, 2), False),
        ("HBM2", 2, 1, (1, 2), False),
    ],
)
def test_every_command_keeps_every_constraint(
    name: str, ranks: int, channels: int, refresh: tuple[int, ...], power_down: bool
) -> None:
    trace = random_trace(7, requests=400, gap=6.0)
    # Long pauses let refreshes be pulled in and ranks go to sleep.
    pauses = np.cumsum(np.where(np.arange(len(trace)) % 100 == 99, 30_000, 0))
    trace = Trace("pauses", "", trace.time + pauses, trace.address, trace.is_write)
    prepared = memory(trace, name, ranks=ranks, channels=channels)
    rows = random_rows(11, 12, refresh)
    rows[:, POWER_DOWN] = power_down
    rows[::4, [SCHEDULER, STRICT]] = 0, 1
    reads, writes = int((prepared.columns[4] == 0).sum()), int((prepared.columns[4] != 0).sum())
    for row in rows:
        result, answered, log = event_run.run_design(row, prepared)
        check_commands(log, name, ranks)
        assert (result["rd"], result["wr"]) == (reads, writes)
        assert answered.max() == result["total"] and (answered > prepared.columns[0]).all()
        table = constraints(device(name))
        assert (answered - prepared.columns[0]).min() >= min(table.read_end, table.write_end)


def test_a_strict_deadlock_is_reported() -> None:
    """Column commands in admission order and a bank that prefers a later row hit wait for each other."""
    address = np.array([0, 1 << 20, 0, 1 << 20]) + np.array([0, 0, 64, 64])
    trace = Trace("t", "", [0, 1, 2, 3], address, [False] * 4)
    row = np.array([0, 2, 0, 8, 0, 0, 1, 1, 0, 128, 0, 1])
    results = {event_run.run(row[None], memory(random_trace(s, gap=1.0)))["total"][0] for s in range(6)}
    assert -1 in results
    assert event_run.run(row[None], memory(trace))["total"][0] != 0
