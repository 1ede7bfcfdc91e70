"""The fast controller against the general one, shared results against single runs, and what must hold for any design."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from archgym.simulators.dram import DramSimulator, Trace, batch
from archgym.simulators.dram.kernels import fast as c
from archgym.simulators.dram.kernels import state as k
from tests.dram.helpers import memory, random_rows, random_trace

CASES = [
    ("DDR4-2400", "rbc", 4.0, 0.3),
    ("DDR4-2400", "li", 1.0, 0.5),
    ("DDR4-2400", "brc", 12.0, 0.1),
    ("DDR3-1600", "rbc", 1.0, 0.3),
    ("DDR3-1600", "li-xor", 3.0, 0.7),
    ("DDR4-3200", "li", 40.0, 0.3),
    ("DDR5-4800", "rbc", 6.0, 0.4),
]


def columns_equal(a: dict, b: dict) -> list[str]:
    return [name for name in a if not np.array_equal(a[name], b[name])]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_fast_and_general_controller_agree(case: int) -> None:
    """Two programs, one model: every count and every cycle."""
    device, map_name, gap, writes = CASES[case]
    for seed in range(3):
        # Long gaps now and then, so that refresh is pulled in, postponed and forced.
        trace = random_trace(10 * case + seed, 250, gap, writes)
        time = trace.time.copy()
        time[120:] += [0, 30_000, 120_000][seed]
        trace = Trace(trace.name, trace.description, time, trace.address, trace.is_write)
        prepared = memory(trace, device, map_name)
        assert prepared.plain
        rows = random_rows(100 * case + seed, 60)
        fast = batch.run(rows, prepared)
        general = batch._run_general(rows, prepared, 2, False)
        assert columns_equal(fast, general) == []
        assert (fast["total"] > 0).all()


def test_refresh_under_long_load_agrees() -> None:
    """More than eight refresh intervals of saturation: postponed to the limit, then forced."""
    trace = random_trace(5, 4000, 1.0, 0.3, 1 << 20)
    prepared = memory(trace, "DDR3-1600", "rbc")
    rows = random_rows(6, 24, (1,))
    fast, general = batch.run(rows, prepared), batch._run_general(rows, prepared, 2, False)
    assert columns_equal(fast, general) == []
    assert fast["ref"].max() > 3


@pytest.mark.parametrize("gap", [1.0, 5.0, 60.0])
def test_sharing_of_results_is_exact(gap: float) -> None:
    """A batch, whose designs share simulations, has the same bits as every design alone, in any order."""
    trace = random_trace(77, 400, gap, 0.3, 1 << 20)
    prepared = memory(trace)
    rows = random_rows(8, 400)
    rows[:, :3] = rows[:, :3] % 2  # few structures, so that much is shared
    together = batch.run(rows, prepared, threads=2)
    for i in range(0, 400, 7):
        alone = batch.run(rows[i : i + 1], prepared)
        assert all(alone[name][0] == together[name][i] for name in together)
    order = np.random.default_rng(0).permutation(400)
    shuffled = batch.run(rows[order], prepared, threads=1)
    assert all(np.array_equal(shuffled[name], together[name][order]) for name in together)


def test_most_simulations_are_shared_where_limits_stay_out_of_touch() -> None:
    trace = random_trace(3, 200, 400.0, 0.3)
    prepared = memory(trace)
    rows = np.repeat(np.array([[0, 2, 0, 8, 0, 0, 1, 1, 1, 128]]), 64, axis=0)
    rows[:, c.SIZE] = np.tile(np.arange(1, 9), 8)
    rows[:, c.ACTIVE] = np.repeat(2 ** np.arange(8), 8)
    rows = rows[np.lexsort((-rows[:, c.ACTIVE], -rows[:, c.SIZE]))]
    out = np.empty((64, c.N_OUT), dtype=np.int64)
    from archgym.simulators.dram.timing import fast_times

    runs, _ = c.simulate_batch(
        rows, fast_times(prepared.device), *prepared.columns, 16, 4, out, np.empty((0, 3), dtype=np.int64)
    )
    assert runs < 16


def test_every_request_is_served_once_and_late_enough() -> None:
    trace = random_trace(1, 500, 3.0, 0.4)
    prepared = memory(trace)
    rows = random_rows(2, 200)
    out = batch.run(rows, prepared)
    assert (out["rd"] == (~trace.is_write).sum()).all()
    assert (out["wr"] == trace.is_write.sum()).all()
    t = prepared.device.timing
    last = trace.time[-1] + min(t["RL"], t["WL"]) + prepared.device.burst_cycles
    assert (out["total"] >= last).all()
    assert (out["latency_p50"] <= out["latency_p95"]).all() and (out["latency_p95"] <= out["latency_p99"]).all()
    assert (out["latency_p99"] <= out["latency_max"]).all()
    # A refresh may close a row before it is read, nothing else does.
    assert (out["act"] <= out["rd"] + out["wr"])[rows[:, c.REFRESH] == k.NO_REFRESH].all()
    assert (out["pre"] <= out["act"]).all() and (out["pre"] >= out["act"] - 16).all()
    closed = (rows[:, c.PAGE] == k.CLOSED) & (rows[:, c.REFRESH] == k.NO_REFRESH)
    assert (out["act"][closed] == 500).all() and (out["pre"][closed] == 500).all()


def test_dead_limits_change_nothing() -> None:
    trace = random_trace(4, 300, 2.0)
    prepared = memory(trace)
    rows = random_rows(5, 100)
    other = rows.copy()
    free = rows[:, c.REFRESH] == k.NO_REFRESH
    other[free, c.POSTPONED], other[free, c.PULLED_IN] = 1, 2
    other[rows[:, c.ARBITER] == k.ARB_SIMPLE, c.ACTIVE] = 1
    a, b = batch.run(rows, prepared), batch.run(other, prepared)
    assert columns_equal(a, b) == []


def test_reads_alone_make_policies_equal() -> None:
    """Without writes the buffers for reads and writes apart are the shared one, and FrFcfsGrp is FrFcfs."""
    prepared = memory(random_trace(9, 400, 1.0, 0.0))
    rows = random_rows(11, 120)
    rows[:, c.BUFFER], rows[:, c.SCHEDULER] = k.SHARED, k.FRFCFS
    apart, grouped = rows.copy(), rows.copy()
    apart[:, c.BUFFER], grouped[:, c.SCHEDULER] = k.READ_WRITE, k.FRFCFS_GRP
    base = batch.run(rows, prepared)
    assert columns_equal(base, batch.run(apart, prepared)) == []
    assert columns_equal(base, batch.run(grouped, prepared)) == []


def test_without_refresh_a_later_start_shifts_all() -> None:
    trace = random_trace(12, 300, 5.0)
    later = Trace("later", "the same, later", trace.time + 12_345, trace.address, trace.is_write)
    rows = random_rows(13, 100, (0,))
    a, b = batch.run(rows, memory(trace)), batch.run(rows, memory(later))
    assert np.array_equal(a["total"] + 12_345, b["total"])
    assert np.array_equal(a["latency_sum"], b["latency_sum"])
    assert np.array_equal(a["act"], b["act"])


def test_a_single_read_takes_activate_read_and_data() -> None:
    trace = Trace("one", "one read", [0], [4096], [False])
    row = np.array([[0, 2, 0, 8, 0, 0, 8, 8, 0, 128, 0, 0]])
    out = batch.run(row, memory(trace, "DDR4-2400"))
    assert out["total"][0] == 16 + 16 + 4  # tRCD + RL + tBURST
    assert out["latency_sum"][0] == out["latency_p99"][0] == 36
    out = batch.run(row, memory(Trace("one", "one write", [7], [4096], [True]), "DDR3-1600"))
    assert out["total"][0] == 7 + 10 + 8 + 4 and out["latency_max"][0] == 22


def test_two_reads_of_one_bank() -> None:
    """Same row: tCCD_L apart; other row of the bank, closed in between: the whole row cycle."""
    row = np.array([[0, 2, 0, 8, 0, 0, 8, 8, 0, 128, 0, 0]])
    hit = batch.run(row, memory(Trace("hit", "same row", [0, 0], [0, 64], [False, False])))
    assert hit["total"][0] == 36 + 6 and hit["act"][0] == 1
    miss = batch.run(row, memory(Trace("miss", "other row", [0, 0], [0, 1 << 17], [False, False])))
    assert miss["act"][0] == 2 and miss["pre"][0] == 1
    assert miss["total"][0] == 39 + 16 + 36  # tRAS + tRP + the second read


def test_percentiles_are_the_nearest_rank() -> None:
    rng = np.random.default_rng(0)
    scratch, out = np.empty(1032, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for n in (1, 2, 3, 19, 100, 101, 1000):
        for top in (1, 2, 1023, 1024, 5000, 10**7, 10**12):
            values = rng.integers(0, top, n)
            c.percentile_ranks(values, n, scratch[:1024], out)
            ordered = np.sort(values)
            assert out.tolist() == [ordered[-(-n * p // 100) - 1] for p in (50, 95, 99)]


def test_threads_do_not_matter_for_wide_designs() -> None:
    trace = random_trace(21, 150, 3.0)
    prepared = memory(trace, "DDR4-2400", "li", 2, 2)
    rows = random_rows(22, 30)
    rows[:, 10] = np.arange(30) % 2
    a, b = batch.run(rows, prepared, threads=1), batch.run(rows[::-1].copy(), prepared, threads=2)
    assert all(np.array_equal(a[name], b[name][::-1]) for name in a)


def test_a_memory_is_told_apart() -> None:
    trace = random_trace(1, 50)
    assert memory(trace).plain and not memory(trace, "HBM2", "rbc", 2).plain
    assert dataclasses.is_dataclass(memory(trace))


@pytest.mark.parametrize("gap", [1.0, 6.0, 60.0])
@pytest.mark.parametrize("name", ["deployable", "archgym", "archgym-rl"])
def test_a_design_answers_for_all_within_its_reach(gap: float, name: str) -> None:
    """Every design of a box has all results of the one simulated, bit by bit; the boxes are as wide as they can be told
    to be: a design that the controller itself would not simulate again lies in one."""
    simulator = DramSimulator(space=name)
    trace = random_trace(78, 500, gap, 0.3, 1 << 20)
    late = trace.time.copy()
    late[250:] += 60_000  # idle for some refresh intervals
    trace = Trace(trace.name, trace.description, late, trace.address, trace.is_write)
    space = simulator.space(trace)
    designs = space.canonical(space.sample(300, 1))
    low, high = simulator.reach(designs, trace)
    assert ((low <= designs) & (designs <= high)).all() and (low < high).any(axis=1).mean() > 0.2
    truth = simulator.evaluate(designs, trace)
    for corner in (low, high, np.random.default_rng(2).integers(low, high + 1)):
        again = simulator.evaluate(corner, trace)
        assert all(np.array_equal(truth.metrics[m], again.metrics[m], equal_nan=True) for m in truth.metrics)


def test_without_a_refresh_its_limits_are_within_reach() -> None:
    """A trace that ends before the first refresh: the refresh policy itself makes no difference."""
    simulator = DramSimulator("archgym")
    trace = random_trace(3, 50, 2.0, 0.3)
    designs = simulator.space(trace).sample(50, 0)
    low, high = simulator.reach(designs, trace)
    places = [
        simulator.space(trace).position(n) for n in ("RefreshPolicy", "RefreshMaxPostponed", "RefreshMaxPulledin")
    ]
    assert (low[:, places] == 0).all() and (high[:, places] == [1, 7, 7]).all()


def test_other_spaces_and_orders_answer_for_themselves_alone() -> None:
    trace = random_trace(3, 50, 2.0, 0.3)
    for simulator in (DramSimulator(space="wide"), DramSimulator(order="event"), DramSimulator(ranks=2)):
        designs = simulator.space(trace).sample(20, 0)
        for side in simulator.reach(designs, trace):
            assert np.array_equal(side, simulator.space(trace).canonical(designs))
