"""ZigZag and SCALE-Sim: inputs, stand-ins for what can go wrong, and the real tools where they are installed.

The slow tests use this interpreter's own zigzag-dse and scalesim, or those of the interpreters that the environment
variables ARCHGYM_ZIGZAG_PYTHON and ARCHGYM_SCALESIM_PYTHON name.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import time

import numpy as np
import pytest

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.layers import Network, conv, gemm
from archgym.simulators.external import scalesim, zigzag
from archgym.simulators.external.process import ToolError, run_jobs, run_tool
from archgym.simulators.external.scalesim import ScaleSimSimulator
from archgym.simulators.external.zigzag import ZigZagSimulator
from archgym.simulators.systolic import SystolicSimulator

SMALL = Network(
    "small", [conv("c", 8, 4, 6, 6, 3, 3), gemm("g", 4, 12, 10), conv("d", 8, 8, 4, 4, 3, 3, stride=2, groups=8)]
)
DESIGN = {"rows": 8, "columns": 8, "register_words": 8, "buffer_kb": 64, "buffer_bits": 64, "dram_bits": 64}


def stand_in(folder, printed: str, code: int = 0) -> str:
    script = folder / "python-of-another-environment"
    script.write_text(f"#!{sys.executable}\nimport sys\nprint({printed!r})\nsys.exit({code})\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def real(variable: str, module: str) -> str:
    python = os.environ.get(variable) or (sys.executable if importlib.util.find_spec(module) else "")
    if not python:
        pytest.skip(f"{module} is not installed; or set {variable}")
    return python


# --- processes -----------------------------------------------------------------------------------------------------


def test_jobs_keep_their_order_and_failures_their_place(tmp_path):
    def job(i):
        def run(folder):
            assert not any(folder.iterdir())
            time.sleep(0.02 * (3 - i))
            if i == 1:
                raise ToolError("failed", "no")
            return i

        return run

    results = run_jobs([job(i) for i in range(3)], workers=3)
    assert results[0] == 0 and results[2] == 2
    assert isinstance(results[1], ToolError)


def test_a_tool_past_its_limit_is_killed_with_its_children(tmp_path):
    body = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)']); time.sleep(30)"
    start = time.monotonic()
    with pytest.raises(ToolError) as error:
        run_tool([sys.executable, "-c", body], tmp_path, timeout_s=0.5)
    assert error.value.kind == "timeout" and time.monotonic() - start < 20


def test_the_telling_line_is_given(tmp_path):
    body = "print('a'); print('Error: the buffer is too small'); print('bye'); raise SystemExit(2)"
    with pytest.raises(ToolError, match="Error: the buffer is too small"):
        run_tool([sys.executable, "-c", body], tmp_path, timeout_s=60)


# --- versions ------------------------------------------------------------------------------------------------------


def test_missing_and_unfit_tools_get_one_sentence(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "d").mkdir()
    with pytest.raises(MissingExtraError, match=r"archgym\[zigzag\]"):
        zigzag.zigzag_version(stand_in(tmp_path / "a", "error: ZigZag cannot be imported", 3))
    with pytest.raises(ArchGymError, match="ZigZag 3.7.1 is too old"):
        zigzag.zigzag_version(stand_in(tmp_path / "b", '{"version": "3.7.1"}'))
    with pytest.raises(ArchGymError, match="does not work with NumPy 2.4.1; install numpy<2.4"):
        scalesim.scalesim_version(stand_in(tmp_path / "c", '{"scalesim": "3.0.0", "numpy": "2.4.1"}'))
    with pytest.raises(MissingExtraError, match=r"archgym\[scalesim\]"):
        scalesim.scalesim_version(stand_in(tmp_path / "d", "error: SCALE-Sim is not installed", 3))
    with pytest.raises(ArchGymError, match="not there or not executable"):
        zigzag.zigzag_version(str(tmp_path / "nothing"))


def test_versions_are_checked_before_anything_runs(tmp_path):
    simulator = ScaleSimSimulator(python=stand_in(tmp_path, '{"scalesim": "3.0.0", "numpy": "2.4.0"}'))
    designs = simulator.space(SMALL).sample(1, 0, feasible=True)
    with pytest.raises(ArchGymError, match="NumPy 2.4.0"):
        simulator.evaluate(designs, SMALL)
    # Nothing to do needs no tool.
    assert len(simulator.evaluate(designs[:0], SMALL)) == 0


# --- inputs --------------------------------------------------------------------------------------------------------


def test_scalesim_topology_round_trips_the_outputs():
    lines = scalesim.topology_csv(SMALL, 10**6).splitlines()[1:]
    for line, layer in zip(lines, SMALL.layers, strict=True):
        ih, iw, r, s, c, k, stride = (int(cell) for cell in line.split(",")[1:8])
        assert ((ih - r) // stride + 1, (iw - s) // stride + 1) == (layer.P, layer.Q)
        assert (c, k) == (layer.C, layer.K)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (conv("big", 512, 512, 56, 56, 3, 3), "too many for SCALE-Sim"),
        (conv("holes", 4, 4, 5, 5, 3, 3, dilation=2), "dilation"),
        (conv("many", 4, 4, 5, 5, 3, 3, N=2), "batch of 2"),
    ],
)
def test_scalesim_refuses_what_it_does_not_know(layer, words):
    with pytest.raises(ArchGymError, match=words):
        scalesim.topology_csv(Network("n", [layer]), 2_000_000)


def test_scalesim_reports(tmp_path):
    with pytest.raises(ToolError, match="COMPUTE_REPORT"):
        scalesim.read_reports(tmp_path)
    (tmp_path / "COMPUTE_REPORT.csv").write_text(
        "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %,\n"
        "0, 12, 10, 0, 5.5, 50.0,\n"
    )
    names = [f"{m} {w}" for m in ("SRAM", "DRAM") for w in ("IFMAP Reads", "Filter Reads", "OFMAP Writes")]
    (tmp_path / "DETAILED_ACCESS_REPORT.csv").write_text(
        "LayerID, " + ", ".join(names) + ",\n0, " + ", ".join("123456") + ",\n"
    )
    (record,) = scalesim.read_reports(tmp_path)
    assert record["Total Cycles"] == 10 and record["DRAM OFMAP Writes"] == 6


def test_zigzag_workload_and_hardware():
    entry = zigzag.workload_entry(SMALL.layers[2])
    sizes = dict(zip(entry["loop_dims"], entry["loop_sizes"], strict=True))
    assert sizes == {"B": 1, "G": 8, "K": 1, "C": 1, "OY": 4, "OX": 4, "FY": 3, "FX": 3}
    assert entry["dimension_relations"][1] == "iy=2*oy+1*fy"
    hardware = zigzag.accelerator(DESIGN)
    assert hardware["operational_array"]["sizes"] == [8, 8]
    assert hardware["memories"]["buffer"]["size"] == 64 * 8192
    wider = zigzag.accelerator({**DESIGN, "buffer_kb": 1024})
    assert wider["memories"]["buffer"]["r_cost"] > hardware["memories"]["buffer"]["r_cost"]


def test_zigzag_failures_are_named(tmp_path):
    """A stand-in that knows its version but gives no result."""
    simulator = ZigZagSimulator(python=stand_in(tmp_path, '{"version": "3.9.1"}'))
    evaluation = simulator.evaluate(simulator.space(SMALL).sample(2, 0), SMALL)
    assert evaluation.violation.tolist() == ["zigzag-failed"] * 2
    assert np.isnan(evaluation.metrics["energy_uj"]).all()


def test_bad_options():
    with pytest.raises(ArchGymError, match="search"):
        ZigZagSimulator(search="area")
    with pytest.raises(ArchGymError, match="lpf_limit"):
        ZigZagSimulator(lpf_limit=0)


# --- the real tools ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_scalesim_counts_what_the_closed_forms_say():
    simulator = ScaleSimSimulator(python=real("ARCHGYM_SCALESIM_PYTHON", "scalesim"))
    space = simulator.space(SMALL)
    buffers = {"ifmap_sram_kb": 64, "filter_sram_kb": 64, "ofmap_sram_kb": 64, "bandwidth": 64}
    designs = space.encode(
        [{"array_rows": 8, "array_columns": 4, "dataflow": dataflow, **buffers} for dataflow in ("ws", "os", "is")]
    )
    theirs, ours = simulator.evaluate(designs, SMALL), SystolicSimulator().evaluate(designs, SMALL)
    assert theirs.feasible.all()
    assert np.array_equal(theirs.metrics["latency_cycles"], ours.metrics["latency_cycles"])
    # The simulator's own counter of output writes differs for os.
    assert np.array_equal(theirs.metrics["sram_accesses"][[0, 2]], ours.metrics["sram_accesses"][[0, 2]])


@pytest.mark.slow
def test_real_zigzag_maps_a_layer():
    python = real("ARCHGYM_ZIGZAG_PYTHON", "zigzag")
    simulator = ZigZagSimulator(python=python, lpf_limit=3)
    network = Network("one", [conv("c", 16, 16, 8, 8, 3, 3)])
    designs = simulator.space(network).encode([DESIGN, {**DESIGN, "dram_bits": 32}])
    evaluation = simulator.evaluate(designs, network)
    assert evaluation.feasible.all(), evaluation.violation
    # 147,456 MACs on 64 units cannot take less than 2,304 cycles, nor cost less than the MACs.
    assert (evaluation.metrics["latency_cycles"] >= 2304).all()
    assert (evaluation.metrics["energy_uj"] >= 147_456 * 0.315e-6).all()
    assert evaluation.metrics["latency_cycles"][1] >= evaluation.metrics["latency_cycles"][0]
