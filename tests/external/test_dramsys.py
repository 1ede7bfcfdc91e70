"""DRAMSys behind the simulator contract: printed results, configuration, and a pool that survives anything."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.simulators.dram.addressmap import named_map
from archgym.simulators.dram.devices import device
from archgym.simulators.dram.traces import named_trace, read_trace
from archgym.simulators.external.dramsys import (
    BINARY_VARIABLE,
    CRASHED,
    TIME_LIMIT,
    UNREADABLE,
    DramsysSimulator,
    parse_output,
    write_configuration,
)

#: In the form that the program prints, one and two channels.
OUTPUT = """
        SystemC 2.3.3
 simulation of archgym
archgym.controller0  Total Time:     50300 ns
archgym.controller0  AVG BW:      101.75 Gb/s | 12.72 GB/s | 99.36 %
archgym.controller0  AVG BW\\IDLE: 102.34 Gb/s | 12.79 GB/s | 99.94 %
archgym.controller0  MAX BW:      102.40 Gb/s | 12.80 GB/s | 100.00 %
archgym.dram0  Total Energy:   85109250.00 pJ
archgym.dram0  Average Power:  1701.33 mW
"""


def test_printed_results_are_read_with_their_units() -> None:
    assert parse_output(OUTPUT) == {
        "total_time_ns": 50300.0,
        "energy_pj": 85109250.0,
        "average_power_mw": 1701.33,
        "bandwidth_gbps": 101.75,
    }
    for printed, ns in (("50468750 ps", 50468.75), ("50300 ns", 50300), ("50 us", 50_000), ("2 ms", 2e6), ("1 s", 1e9)):
        assert parse_output(f"Total Time: {printed}")["total_time_ns"] == pytest.approx(ns, rel=1e-12)
    assert parse_output("Total Time: 5 ns\nTotal Energy: 2 nJ\nAverage Power: 3 W\nAVG BW: 500 Mb/s") == {
        "total_time_ns": 5.0,
        "energy_pj": 2000.0,
        "average_power_mw": 3000.0,
        "bandwidth_gbps": 0.5,
    }


def test_channels_are_combined() -> None:
    two = parse_output(OUTPUT + OUTPUT.replace("50300 ns", "50468750 ps"))
    assert two["total_time_ns"] == 50468.75 and two["energy_pj"] == 2 * 85109250.0
    assert two["bandwidth_gbps"] == 2 * 101.75


@pytest.mark.parametrize("text", ["", "nothing", "Total Time: soon", "Total Time: 0 ns", "Total Energy: 5 pJ"])
def test_no_result_is_an_error(text: str) -> None:
    with pytest.raises(ArchGymError, match="Total Time"):
        parse_output(text)


def test_an_unknown_unit_is_an_error() -> None:
    with pytest.raises(ArchGymError, match="units"):
        parse_output("Total Time: 5 weeks")


def test_the_configuration_says_what_the_design_says(tmp_path: Path) -> None:
    chip = device("DDR4-2400")
    trace = tmp_path / "trace.stl"
    trace.write_text("0: read 0x0\n")
    design = {"PagePolicy": "Closed", "RequestBufferSize": 3, "Arbiter": "Reorder"}
    folder = tmp_path / "run"
    top = write_configuration(folder, design, trace, chip, named_map("li-xor", chip))
    simulation = json.loads(top.read_text())["simulation"]

    def load(kind: str, key: str) -> dict:
        return json.loads((folder / "configs" / kind / simulation[key]).read_text())

    assert load("mcconfigs", "mcconfig")["mcconfig"] == {
        "CmdMux": "Oldest",
        "PowerDownPolicy": "NoPowerDown",
        **design,
    }
    congen = load("amconfigs", "addressmapping")["CONGEN"]
    assert congen["COLUMN_BIT"] == [3, 4, 5, *range(10, 17)] and congen["BANKGROUP_BIT"] == [6, 7]
    assert congen["XOR"][0] == {"FIRST": 6, "SECOND": 17}
    memory = load("memspecs", "memspec")["memspec"]
    assert memory["memtimingspec"]["clkMhz"] == 1200 and memory["memarchitecturespec"]["nbrOfDevicesOnDIMM"] == 8
    assert load("simulator", "simconfig")["simconfig"]["PowerAnalysis"] is True
    assert (folder / "traces" / simulation["tracesetup"][0]["name"]).read_text() == "0: read 0x0\n"
    assert simulation["tracesetup"][0]["clkMhz"] == 1200


# --- the pool, with programs that stand in for the binary -------------------------------------------------------------

FAKE = """#!/usr/bin/env python3
import json, os, sys, time
from pathlib import Path
simulation, resources = Path(sys.argv[1]), Path(sys.argv[2])
top = json.loads(simulation.read_text())["simulation"]
design = json.loads((resources / "configs/mcconfigs" / top["mcconfig"]).read_text())["mcconfig"]
trace = (resources / "traces" / top["tracesetup"][0]["name"]).read_text().splitlines()
size = design["RequestBufferSize"]
assert Path.cwd() == resources.resolve() and len(list(resources.iterdir())) == 3
if size == 2:
    os.abort()
if size == 3:
    if os.fork() == 0:
        time.sleep(100)
    time.sleep(100)
if size == 4:
    print("Total Time: many ns")
    sys.exit(0)
if size == 5:
    sys.stdout.buffer.write(b"\\xff\\xfe" * 100000)
    sys.exit(0)
if size == 6:
    sys.exit(3)
print("x", size * 1000 + len(trace), "noise")
unit = {1: "ps", 7: "us", 8: "ns"}[size]
print("controller Total Time:", size * 1000 + len(trace), unit)
print("Total Energy: 100.00 pJ")
print("Average Power: 2.00 mW")
print("AVG BW: 3.00 Gb/s")
"""


def program(folder: Path, text: str) -> str:
    path = folder / "DRAMSys"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_pool_survives_crashes_hangs_and_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    simulator = DramsysSimulator(binary=program(tmp_path, FAKE), workers=4, time_limit_s=4)
    trace = named_trace("random:requests=50,gap=4")
    space = simulator.space(trace)
    designs = np.zeros((8, space.dimension if hasattr(space, "dimension") else len(space.parameters)), np.int64)
    designs[:, space.position("RequestBufferSize")] = range(8)
    begin = time.monotonic()
    result = simulator.evaluate(designs, trace)
    assert time.monotonic() - begin < 60
    assert result.violation.tolist() == ["", CRASHED, TIME_LIMIT, UNREADABLE, UNREADABLE, CRASHED, "", ""]
    times = result.metrics["total_time_ns"]
    assert times[[0, 6, 7]].tolist() == [1.05, 7_050_000, 8050] and np.isnan(times[1:6]).all()
    assert result.metrics["energy_per_bit_pj"][0] == pytest.approx(100 / (50 * 512))
    assert list((tmp_path / "scratch").iterdir()) == []  # nothing is left behind


def test_the_trace_reaches_the_program_in_memory_cycles(tmp_path: Path) -> None:
    keep = tmp_path / "seen.stl"
    text = f"#!/bin/sh\ncp \"$2/traces/trace.stl\" {keep}\necho 'Total Time: 7 ns'\n"
    trace = named_trace("mixed:requests=40")
    evaluation = DramsysSimulator(binary=program(tmp_path, text)).evaluate(np.zeros((1, 10), np.int64), trace)
    assert evaluation.metrics["total_time_ns"].tolist() == [7] and np.isnan(evaluation.metrics["energy_pj"]).all()
    seen = read_trace(keep)
    assert seen.time.tolist() == trace.arrival(800).tolist() and seen.address.tolist() == trace.address.tolist()


def test_a_missing_binary_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = named_trace("random:requests=5")
    designs = np.zeros((1, 10), np.int64)
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    with pytest.raises(ArchGymError, match=BINARY_VARIABLE):
        DramsysSimulator().evaluate(designs, trace)
    with pytest.raises(ArchGymError, match="there is no DRAMSys program"):
        DramsysSimulator(binary=str(tmp_path / "none")).evaluate(designs, trace)
    plain = tmp_path / "plain"
    plain.write_text("x")
    if not os.access(plain, os.X_OK):
        with pytest.raises(ArchGymError, match="cannot be executed"):
            DramsysSimulator(binary=str(plain)).evaluate(designs, trace)
    monkeypatch.setenv(BINARY_VARIABLE, program(tmp_path, "#!/bin/sh\necho 'Total Time: 9 us'\n"))
    assert DramsysSimulator().evaluate(designs, trace).metrics["total_time_ns"].tolist() == [9000]


def test_bad_options_are_one_sentence() -> None:
    with pytest.raises(ArchGymError, match="workers"):
        DramsysSimulator(workers=0)
    with pytest.raises(ArchGymError, match="time_limit_s"):
        DramsysSimulator(time_limit_s=0)
