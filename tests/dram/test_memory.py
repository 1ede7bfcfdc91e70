"""Devices, address maps, energy, spaces and the simulator's contract."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.dram import DramSimulator, Trace
from archgym.simulators.dram import devices as devices_module
from archgym.simulators.dram.addressmap import FIELDS, MAP_NAMES, AddressMap, named_map
from archgym.simulators.dram.batch import prepare
from archgym.simulators.dram.constraints import STANDARDS, constraints
from archgym.simulators.dram.devices import device, devices
from archgym.simulators.dram.energy import PARTS
from archgym.simulators.dram.timing import NEVER, distances
from archgym.simulators.dram.traces import named_trace
from archgym.studies.spec import load_spec
from archgym.testing import check_simulator
from tests.dram.helpers import REF, random_trace


def test_presets_are_consistent() -> None:
    for dev in devices().values():
        t = dev.timing
        assert dev.source and dev.description
        assert dev.burst_bytes in (32, 64) and dev.banks % dev.bank_groups == 0
        if dev.family.startswith("DDR"):
            assert t["RC"] == t["RAS"] + t["RP"]
            assert t["REFI"] > 10 * t["RFC"] and t["RL"] >= t["WL"]
    assert device("DDR4-2400").tck_ps == 833 and device("DDR3-1600").tck_ps == 1250
    assert device("DDR3-1600").rank_bytes == 1 << 30 and device("DDR4-2400").rank_bytes == 1 << 32


def test_presets_are_the_published_numbers() -> None:
    if not (REF / "presets.json").is_file():
        pytest.skip("no reference data")
    published = json.loads((REF / "presets.json").read_text())["dramsys"]
    for name, key in {
        "DDR3-1600": "v4.0_archgym:MICRON_1Gb_DDR3-1600_8bit_G",
        "DDR4-1866": "v4.0_archgym:JEDEC_4Gb_DDR4-1866_8bit_A",
        "DDR4-2400": "v4.0_archgym:JEDEC_4Gb_DDR4-2400_8bit_A",
        "LPDDR4-3200": "v4.0_archgym:JEDEC_8Gb_LPDDR4-3200_16bit",
        "HBM2": "v4.0_archgym:HBM2",
    }.items():
        theirs = published[key]
        assert {**device(name).timing, "clkMhz": device(name).clock_mhz} == theirs["memtimingspec"]
        assert dict(device(name).power) == theirs.get("mempowerspec", {})


def test_a_memory_of_ones_own_is_one_file(tmp_path: Path) -> None:
    """A preset written to a file gives the preset's results; a faster one gives others; faults are told in a sentence."""
    preset = json.loads((Path(devices_module.__file__).parent / "devices.json").read_text())["DDR4-2400"]
    (tmp_path / "same.json").write_text(json.dumps(preset))
    quick = {**preset, "timing": {**preset["timing"], "RCD": 10, "RP": 10}}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick))
    trace = random_trace(2, 200)
    designs = DramSimulator().space(trace).sample(20, 0)
    by_name = DramSimulator().evaluate(designs, trace)
    same = DramSimulator(device=f"file:{tmp_path / 'same.json'}").evaluate(designs, trace)
    assert all(np.array_equal(by_name.metrics[m], same.metrics[m]) for m in by_name.metrics)
    other = DramSimulator(device=f"file:{tmp_path / 'quick.yaml'}")
    assert other.device.name == "quick" and other.settings["device"].startswith("file ")
    (tmp_path / "moved.json").write_text(json.dumps(quick))
    assert DramSimulator(device=f"file:{tmp_path / 'moved.json'}").settings == other.settings
    faster = other.evaluate(designs, trace).metrics["latency_mean_ns"]
    assert (faster < by_name.metrics["latency_mean_ns"]).mean() > 0.9
    for change, words in {
        "family": ({"family": "DDR9"}, "unknown family"),
        "time": ({"timing": {k: v for k, v in preset["timing"].items() if k != "FAW"}}, "lacks the time FAW"),
        "field": ({"colour": "red"}, "unknown key of the DRAM device .* .colour."),
        "type": ({"banks": "many"}, "expected a whole number"),
        "power of two": ({"rows": 1000}, "rows 1000; expected a power of two"),
        "burst": ({"burst_length": 16}, "moves 128 bytes"),
        "negative": ({"timing": {**preset["timing"], "RP": -1}}, "RP of -1 cycles"),
        "current": ({"power": {"vdd": 1.2}}, "not the current idd0"),
        "no voltage": (
            {"power": {k: v for k, v in preset["power"].items() if k != "vdd"}},
            "currents but not the voltage vdd",
        ),
        "unknown time": ({"timing": {**preset["timing"], "CCDX": 9}}, "unknown time 'CCDX'"),
        "unknown current": ({"power": {**preset["power"], "idd4rw": 9.0}}, "unknown current or voltage 'idd4rw'"),
    }.values():
        (tmp_path / "bad.json").write_text(json.dumps({**preset, **change}))
        with pytest.raises(ArchGymError, match=words):
            DramSimulator(device=f"file:{tmp_path / 'bad.json'}")


def test_every_family_has_its_times() -> None:
    """All that the controllers and the power model take follows from one table a standard."""
    assert {dev.family for dev in devices().values()} == set(STANDARDS)
    for dev in devices().values():
        table, d = constraints(dev), distances(dev)
        assert len({tuple(row[:3]) for row in table.rows.tolist()}) <= len(table.rows)
        places = (d.bank, d.group, d.rank, d.other)
        for later, earlier, place, cycles in table.rows.tolist():
            assert places[place][earlier, later] >= cycles
        assert sum(int((place > NEVER).sum()) for place in places) == len({tuple(r[:3]) for r in table.rows.tolist()})


def test_unknown_names_are_told() -> None:
    with pytest.raises(ArchGymError, match="did you mean 'DDR4-2400'"):
        device("DDR4-2401")
    with pytest.raises(ArchGymError, match="unknown address map"):
        named_map("robaco", device("DDR4-2400"))
    with pytest.raises(ArchGymError):
        DramSimulator(device="DDR9")
    with pytest.raises(ArchGymError, match="powers of two"):
        DramSimulator(ranks=3)


def test_the_published_maps_come_out() -> None:
    ddr4, ddr3 = device("DDR4-2400"), device("DDR3-1600")
    bits = named_map("li", ddr4, 1).bits
    assert bits["column"] == (3, 4, 5, *range(10, 17)) and bits["bank_group"] == (6, 7) and bits["bank"] == (8, 9)
    assert named_map("brc", ddr4, 1).bits["row"] == tuple(range(13, 28))
    assert named_map("rbc", ddr3, 1).bits["bank"] == (13, 14, 15)
    assert named_map("rbc-rank17", ddr4, 2).bits["rank"] == (17,)
    bits = named_map("li-channel6", ddr4, 1, 2).bits
    assert bits["channel"] == (6,) and bits["column"] == (3, 4, 5, *range(11, 18)) and bits["bank_group"] == (7, 8)
    assert named_map("rbc", device("LPDDR4-3200"), 1).bits["column"] == tuple(range(1, 11))
    assert named_map("rbc", device("HBM2"), 2).bits["rank"] == (14,)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(devices())), st.sampled_from(MAP_NAMES), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]),
    st.integers(0, 2**32),
)  # fmt: skip
def test_maps_are_one_to_one(name: str, map_name: str, ranks: int, channels: int, seed: int) -> None:
    """Every address has fields of its own: put back together they give the address, XOR undone."""
    dev = device(name)
    chosen = named_map(map_name, dev, ranks, channels)
    assert chosen.capacity == dev.rank_bytes * ranks * channels
    address = np.random.default_rng(seed).integers(0, chosen.capacity, 50)
    fields = chosen.decode(address)
    back = np.zeros_like(address)
    for field in FIELDS:
        limit = {"rank": ranks, "channel": channels, "row": dev.rows, "column": dev.columns}.get(field)
        assert limit is None or (fields[field] < limit).all()
        for place, bit in enumerate(chosen.bits[field]):
            back |= ((fields[field] >> place) & 1) << bit
    for a, b in reversed(chosen.xor):
        back ^= ((back >> b) & 1) << a
    assert np.array_equal(back, address)


def test_bad_maps_are_refused() -> None:
    dev = device("DDR4-2400")
    good = named_map("rbc", dev, 1)
    for change, words in {
        "twice": ({"row": (*range(17, 31), 13)}, "bit 13 twice"),
        "missing": ({"row": (*range(17, 31), 32)}, "no field for bit 31"),
        "few": ({"row": tuple(range(17, 31))}, "row bits"),
        "burst": ({"byte": (0, 1, 3), "column": (2, *range(4, 13))}, "burst together"),
    }.values():
        with pytest.raises(ArchGymError, match=words):
            AddressMap("mine", {**good.bits, **change}).check(dev, 1, 1)
    with pytest.raises(ArchGymError, match="XOR"):
        dataclasses.replace(good, xor=((3, 17),)).check(dev, 1, 1)


def test_spaces_have_their_sizes() -> None:
    trace = random_trace(1, 10)
    assert DramSimulator().space_name == "deployable"
    assert DramSimulator().space(trace).size == 884_736 == 1_769_472 // 2
    assert DramSimulator(device="LPDDR4-3200").space(trace).size == 1_769_472  # it can also refresh single banks
    assert DramSimulator("archgym").space(trace).size == 1_769_472
    assert DramSimulator("archgym-rl").space(trace).size == 442_368
    wide = DramSimulator("wide").space(trace)
    assert {"Device", "AddressMap", "Channels", "Ranks", "PowerDownPolicy", "CmdMux"} <= set(wide.names)
    with pytest.raises(ArchGymError, match="space of dram"):
        DramSimulator("huge")


@pytest.mark.parametrize("space", ["deployable", "archgym", "archgym-rl", "wide"])
def test_contract(space: str) -> None:
    check_simulator(DramSimulator(space), random_trace(2, 120, 5.0), samples=24)


def test_inactive_parameters_have_one_representative() -> None:
    space = DramSimulator("archgym").space(random_trace(1, 10))
    canonical = space.canonical(space.sample(20_000, 0))
    names = space.decode(canonical)
    for row in names[:2000]:
        if row["RefreshPolicy"] == "NoRefresh":
            assert (row["RefreshMaxPostponed"], row["RefreshMaxPulledin"]) == (1, 1)
        if row["Arbiter"] == "Simple":
            assert row["MaxActiveTransactions"] == 1


def test_infeasible_designs_are_named() -> None:
    simulator = DramSimulator("wide")
    trace = Trace("high", "an address above 1 GiB", [0, 5], [1 << 31, 64], [False, True])
    space = simulator.space(trace)
    base = {
        "Device": "DDR4-2400", "AddressMap": "rbc", "Channels": 1, "Ranks": 1, "PagePolicy": "Open", "Scheduler": "FrFcfs",
        "SchedulerBuffer": "Shared", "RequestBufferSize": 8, "RespQueue": "Fifo", "RefreshPolicy": "AllBank",
        "RefreshMaxPostponed": 1, "RefreshMaxPulledin": 1, "Arbiter": "Fifo", "MaxActiveTransactions": 8,
        "PowerDownPolicy": "NoPowerDown", "CmdMux": "Oldest",
    }  # fmt: skip
    designs = space.encode(
        [
            base,
            {**base, "RefreshPolicy": "PerBank"},
            {**base, "CmdMux": "Strict"},
            {**base, "Device": "DDR3-1600"},
            {**base, "Device": "DDR5-4800", "PowerDownPolicy": "Staggered"},
        ]
    )
    result = simulator.evaluate(designs, trace)
    assert result.violation.tolist() == ["", "refresh_supported", "strict_fifo", "capacity", "power_down_supported"]
    assert np.isnan(result.metrics["total_time_ns"][1:]).all() and result.metrics["total_time_ns"][0] > 0
    with pytest.raises(ArchGymError, match=r"0x80000000 at request 0, beyond the 1 GiB of DDR3-1600"):
        DramSimulator(device="DDR3-1600").evaluate(np.zeros((1, 10), dtype=np.int64), trace)


def test_energy_is_the_sum_of_its_parts() -> None:
    trace = random_trace(3, 200, 6.0)
    for space in ("deployable", "archgym", "wide"):
        simulator = DramSimulator(space)
        designs = simulator.space(trace).sample(60, 1, feasible=True)
        metrics = simulator.evaluate(designs, trace).metrics
        parts = sum(metrics[part] for part in PARTS)
        assert np.allclose(parts, metrics["energy_pj"], rtol=1e-12, equal_nan=True)
        assert all((np.nan_to_num(metrics[part]) >= 0).all() for part in PARTS)
        assert np.allclose(
            metrics["average_power_mw"] * metrics["total_time_ns"], metrics["energy_pj"], rtol=1e-12, equal_nan=True
        )
        known = ~np.isnan(metrics["energy_pj"])
        bits = metrics["energy_pj"][known] / metrics["energy_per_bit_pj"][known]
        assert np.allclose(bits, 200 * 512)
        assert np.allclose(metrics["bandwidth_gbps"] * metrics["total_time_ns"], 200 * 512)


def test_energy_by_hand() -> None:
    """One read of an idle DDR3: activation, read, standby with the bank open until the data has ended."""
    trace = Trace("one", "one read", [0], [0], [False])
    simulator = DramSimulator("archgym", device="DDR3-1600")
    design = {
        "PagePolicy": "Open", "Scheduler": "FrFcfs", "SchedulerBuffer": "Shared", "RequestBufferSize": 8,
        "RespQueue": "Fifo", "RefreshPolicy": "NoRefresh", "RefreshMaxPostponed": 1, "RefreshMaxPulledin": 1,
        "Arbiter": "Simple", "MaxActiveTransactions": 1,
    }  # fmt: skip
    metrics = simulator.evaluate(simulator.space(trace).encode(design), trace).metrics
    unit = 8 * 1.5 * 1.25  # devices, volt, ns a cycle: mA times cycles become pJ
    assert metrics["energy_activate_pj"][0] == pytest.approx(unit * (70 - 45) * 28)
    assert metrics["energy_read_pj"][0] == pytest.approx(unit * (140 - 45) * 4)
    # ACT at 0, RD at 10, whose power state lasts RL + 1 + tBURST cycles: 10 + 15 - 1.
    assert metrics["energy_standby_active_pj"][0] == pytest.approx(unit * 45 * 24)
    assert metrics["energy_precharge_pj"][0] == metrics["energy_standby_precharge_pj"][0] == 0
    assert metrics["total_time_ns"][0] == pytest.approx(24 * 1.25)


def test_without_currents_there_is_no_energy() -> None:
    trace = random_trace(4, 30)
    metrics = DramSimulator(device="DDR5-4800").evaluate(np.zeros((2, 10), dtype=np.int64), trace).metrics
    assert np.isnan(metrics["energy_pj"]).all() and (metrics["total_time_ns"] > 0).all()


def test_a_line_takes_two_bursts_of_32_bytes() -> None:
    trace = random_trace(5, 40)
    dev = device("LPDDR4-3200")
    assert prepare(trace, dev, named_map("rbc", dev)).requests == 80
    assert prepare(trace, dev, named_map("rbc", dev), split=False).requests == 40


def test_windows_of_workloads() -> None:
    simulator = DramSimulator()
    name = next(iter(simulator.workloads()), None)
    if name is None:
        pytest.skip("no shipped traces")
    assert len(simulator.load_workload(name)) == 20_000
    assert "the first 20,000 of" in simulator.load_workload(name).description
    assert "a quick look" in simulator.load_workload(name, requests=1000).description
    assert len(simulator.load_workload(name, requests=17)) == 17
    assert len(simulator.load_workload(name, requests=0)) > 20_000
    for bad in (-1, 2.5, "many", True):
        with pytest.raises(ArchGymError, match="requests"):
            simulator.load_workload(name, requests=bad)
    with pytest.raises(ArchGymError, match="option"):
        simulator.load_workload(name, size=3)


def test_every_deployable_design_refreshes() -> None:
    """ArchGym's ten parameters, with a refresh in each: what the designs of ``archgym`` that refresh give, bit by bit."""
    trace = random_trace(6, 200, 800.0)
    ours, theirs = DramSimulator(), DramSimulator("archgym")
    space = ours.space(trace)
    assert space.names == theirs.space(trace).names
    designs = space.sample(60, 0)
    named = space.decode(designs)
    assert {design["RefreshPolicy"] for design in named} == {"AllBank"}
    a = ours.evaluate(designs, trace).metrics
    b = theirs.evaluate(theirs.space(trace).encode(named), trace).metrics
    assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in a) and (a["n_ref"] > 0).all()
    low, high = ours.reach(designs, trace)
    assert ((low <= space.canonical(designs)) & (space.canonical(designs) <= high)).all()


def test_a_design_without_refresh_is_said_to_lose_its_data() -> None:
    simulator = DramSimulator("archgym")
    (remark,) = simulator.remarks({"RefreshPolicy": "NoRefresh"})
    assert "loses its data" in remark and simulator.remarks({"RefreshPolicy": "AllBank"}) == ()
    trace = random_trace(1, 10)
    assert "loses its data" in simulator.space(trace)["RefreshPolicy"].description
    assert "loses" not in DramSimulator().space(trace)["RefreshPolicy"].description


def test_the_default_objective_follows_from_the_trace() -> None:
    simulator = DramSimulator()
    for name, expected, why in (
        ("gzip", "read_latency", "keeps up"),
        ("random-saturating:", "makespan", "times as late"),
        ("copy", "makespan", "times as late"),
    ):
        objective, rule = simulator.objective_for(simulator.load_workload(name.rstrip(":")))
        assert objective == expected and why in rule
        assert make_problem(f"dram/{name.rstrip(':')}").objective.name == expected
    untimed = Trace("t", "", [0, 0], [0, 64], [False, True])
    assert simulator.objective_for(untimed) == ("makespan", simulator.objective_for(untimed)[1])
    writes = Trace("t", "", [0, 500], [0, 64], [True, True])
    assert simulator.objective_for(writes)[0] == "latency_mean"


def test_a_memory_does_not_change_the_times_of_its_trace() -> None:
    """Arrivals are converted by the trace's stated clock: idle reads take as many ns on a faster memory as its own times
    say, not less because its clock would compress the trace."""
    sparse = named_trace("random:requests=300,gap=400")
    assert sparse.clock_mhz == 1200
    last_ns = sparse.time[-1] / 1.2
    wide = DramSimulator("wide")
    space = wide.space(sparse)
    base = space.decode(space.sample(1, 0, feasible=True))[0]
    base |= {
        "PagePolicy": "Open",
        "Scheduler": "FrFcfs",
        "RefreshPolicy": "AllBank",
        "Channels": 1,
        "Ranks": 1,
        "Arbiter": "Fifo",
        "MaxActiveTransactions": 128,
        "RequestBufferSize": 8,
        "PowerDownPolicy": "NoPowerDown",
        "CmdMux": "Oldest",
    }
    designs = space.encode([base | {"Device": name} for name in ("DDR3-1600", "DDR4-2400", "DDR5-4800", "LPDDR4-3200")])
    total = wide.evaluate(designs, sparse).metrics["total_time_ns"]
    assert np.abs(total / last_ns - 1).max() < 0.005
    # A trace that names no clock counts that of the simulator's own device, whatever the design's is.
    unnamed = Trace("t", "", sparse.time, sparse.address, sparse.is_write)
    assert np.array_equal(wide.evaluate(designs, unnamed).metrics["total_time_ns"], total)
    slower = DramSimulator().load_workload("random:requests=300,gap=400", clock_mhz=600)
    assert (
        slower.clock_mhz == 600
        and DramSimulator().evaluate([[0] * 10], slower).metrics["total_time_ns"][0] > 1.9 * last_ns
    )
    with pytest.raises(ArchGymError, match="means nothing for 'gzip'"):
        DramSimulator().load_workload("gzip", clock_mhz=600)


def test_a_fidelity_simulates_the_first_requests() -> None:
    simulator = DramSimulator()
    trace = simulator.load_workload("sort")
    designs = simulator.space(trace).sample(8, 0)
    short = simulator.evaluate(designs, trace, fidelity="requests:500")
    window = simulator.evaluate(designs, trace.window(500))
    assert all(np.array_equal(short.metrics[m], window.metrics[m], equal_nan=True) for m in short.metrics)
    whole, full = simulator.evaluate(designs, trace), simulator.evaluate(designs, trace, fidelity="full")
    assert np.array_equal(whole.metrics["energy_pj"], full.metrics["energy_pj"])
    for bad in ("requests:", "requests:0", "requests:x", "requests:-1", "epochs:3"):
        with pytest.raises(ArchGymError, match="fidelity"):
            simulator.evaluate(designs, trace, fidelity=bad)
    problem = make_problem("dram/sort", fidelity="requests:500")
    assert np.array_equal(problem.evaluate(designs)[0].metrics["energy_pj"], short.metrics["energy_pj"])


def test_ready_studies_keep_the_problems_that_they_were_run_on() -> None:
    """The lotteries name ArchGym's space and the window of their day; their known optima hold."""
    for study in ("lottery-paper", "lottery-small", "agents"):
        problems = [(name, options) for name, options in load_spec(study).problems if name.startswith("dram/")]
        assert problems
        for name, options in problems:
            problem = make_problem(name, **options)
            assert problem.space.size == 1_769_472 and len(problem.workload) == 1000
            assert problem.optimum is not None and problem.optimum.exhaustive
