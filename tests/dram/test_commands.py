"""The commands a controller issues, checked against the data sheet's distances by a program of its own."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.simulators.dram import batch
from archgym.simulators.dram.commands import COMMANDS, LOG_COMMAND, LOG_REQUEST
from archgym.simulators.dram.devices import Device
from archgym.simulators.dram.kernels.fast import N_OUT
from tests.dram.helpers import memory, random_rows, random_trace


def check_ddr(log: np.ndarray, names: tuple[str, ...], dev: Device, requests: int) -> None:  # noqa: C901 (independent of the model, and in one piece)
    """Replay a log of one rank of DDR3 or DDR4 and assert every rule, bank by bank and pair by pair.

    Written from the standard's rules, not from the simulator's tables: it keeps the whole history.
    """
    t = dev.timing
    burst, al = dev.burst_cycles, 0
    ccd_s, ccd_l = t.get("CCD_S", t.get("CCD")), t.get("CCD_L", t.get("CCD"))
    rrd_s, rrd_l = t.get("RRD_S", t.get("RRD")), t.get("RRD_L", t.get("RRD"))
    wtr_s, wtr_l = t.get("WTR_S", t.get("WTR")), t.get("WTR_L", t.get("WTR"))
    per_group = dev.banks // dev.bank_groups
    history: list[tuple[int, str, int]] = []
    is_open = [False] * dev.banks
    columns = 0
    turn = t["RL"] + burst - t["WL"] + (2 if dev.family == "DDR3" else 1 + t["WPRE"])
    write_end = t["WL"] + burst
    for cycle, number, bank in log.tolist():
        name = names[number]
        assert not history or cycle > history[-1][0], "two commands in one cycle"
        acts = [c for c, n, _ in history if n == "ACT"]
        for before, other, where in history[-400:]:
            gap = cycle - before
            same = where == bank
            group = bank >= 0 and where >= 0 and where // per_group == bank // per_group
            if name == "ACT":
                if other == "ACT":
                    assert gap >= (t["RC"] if same else rrd_l if group else rrd_s)
                if same and other == "PREPB":
                    assert gap >= t["RP"]
                if same and other == "RDA":
                    assert gap >= al + t["RTP"] + t["RP"]
                if same and other == "WRA":
                    assert gap >= write_end + t["WR"] + t["RP"]
                if other == "PREAB":
                    assert gap >= t["RP"]
                if other == "REFAB":
                    assert gap >= t["RFC"]
            elif name in ("RD", "RDA", "WR", "WRA"):
                reads, read_before = name.startswith("RD"), other in ("RD", "RDA")
                if other == "ACT" and same:
                    assert gap >= t["RCD"]
                if other in ("RD", "RDA", "WR", "WRA"):
                    if reads == read_before:
                        assert gap >= (ccd_l if group else ccd_s)
                    elif reads:
                        assert gap >= write_end + (wtr_l if group else wtr_s)
                    else:
                        assert gap >= turn
                if name == "RDA" and other == "WR" and same:
                    assert gap >= write_end + t["WR"] - t["RTP"]
            elif name in ("PREPB", "PREAB"):
                if same or name == "PREAB":
                    assert other != "ACT" or gap >= t["RAS"]
                    assert other not in ("RD",) or gap >= t["RTP"]
                    assert other not in ("WR",) or gap >= write_end + t["WR"]
            elif name == "REFAB":
                assert other != "ACT" or gap >= t["RC"]
                assert other not in ("PREPB", "PREAB") or gap >= t["RP"]
                assert other != "RDA" or gap >= t["RTP"] + t["RP"]
                assert other != "WRA" or gap >= write_end + t["WR"] + t["RP"]
                assert other != "REFAB" or gap >= t["RFC"]
        if name == "ACT":
            assert len(acts) < 4 or cycle - acts[-4] >= t["FAW"], "four-activate window"
            assert not is_open[bank], "ACT of an open bank"
            is_open[bank] = True
        elif name in ("RD", "WR", "RDA", "WRA"):
            assert is_open[bank], "column command to a closed bank"
            is_open[bank] = name in ("RD", "WR")
            columns += 1
        elif name == "PREPB":
            assert is_open[bank], "precharge of a closed bank"
            is_open[bank] = False
        elif name == "PREAB":
            assert any(is_open)
            is_open = [False] * dev.banks
        else:
            assert name == "REFAB" and not any(is_open), "refresh with open banks"
        history.append((cycle, name, bank))
    assert columns == requests


@pytest.mark.parametrize("name", ["DDR3-1600", "DDR4-2400", "DDR4-3200"])
@pytest.mark.parametrize("general", [False, True])
def test_commands_keep_every_distance(name: str, general: bool) -> None:
    trace = random_trace(31, 350, 1.0, 0.4, 1 << 17)
    prepared = memory(trace, name, "rbc")
    for row in random_rows(32, 12):
        if general:
            row[11] = 0 if row[1] else 1  # Strict goes with Fifo
            if not row[11]:
                continue
        log, names = batch.command_log(row, prepared)
        log = log.copy()
        rank_wide = np.isin([names[k] for k in log[:, 1]], ["PREAB", "REFAB"])
        log[rank_wide, 2] = -1
        check_ddr(log, names, prepared.device, len(trace))


def test_the_check_notices_a_broken_rule() -> None:
    """A command moved one cycle earlier must be found, or the check above says nothing."""
    trace = random_trace(31, 120, 1.0, 0.4, 1 << 17)
    prepared = memory(trace)
    row = random_rows(32, 1)[0]
    row[[0, 1, 5]] = 0, 2, 0
    log, names = batch.command_log(row, prepared)
    check_ddr(log, names, prepared.device, len(trace))
    noticed = 0
    for i in range(1, len(log)):
        moved = log.copy()
        moved[i, 0] -= 1
        try:
            check_ddr(moved, names, prepared.device, len(trace))
        except AssertionError:
            noticed += 1
    assert noticed > 0.9 * (len(log) - 1)


def test_strict_issues_columns_in_order() -> None:
    trace = random_trace(33, 200, 1.0, 0.4, 1 << 17)
    prepared = memory(trace)
    row = random_rows(34, 1)[0]
    row[[1, 11]] = 0, 1
    log = batch._general(row, prepared, False, np.zeros(N_OUT, dtype=np.int64))
    column = np.isin([COMMANDS[k] for k in log[:, LOG_COMMAND]], ["RD", "WR", "RDA", "WRA"])
    assert log[column, LOG_REQUEST].tolist() == list(range(200))


def test_power_down_sleeps_and_wakes() -> None:
    trace = random_trace(35, 60, 400.0, 0.4)
    prepared = memory(trace)
    row = random_rows(36, 1, (1,))[0]
    row[10] = 1
    log, names = batch.command_log(row, prepared)
    used = [names[k] for k in log[:, 1]]
    assert used[0] == "PDEP" and log[0, 0] == 0
    asleep = False
    for name in used:
        if name in ("PDEA", "PDEP", "SREFEN"):
            assert not asleep
            asleep = True
        elif name in ("PDXA", "PDXP", "SREFEX"):
            assert asleep
            asleep = False
        else:
            assert not asleep, f"{name} to a rank that sleeps"
    both = batch.run(np.stack([row, np.where(np.arange(12) == 10, 0, row)]), prepared)
    assert both["DP"][0] + both["DA"][0] > 0 and both["DP"][1] == both["DA"][1] == 0
