"""Systolic arrays: SCALE-Sim's numbers, the fold-by-fold oracle, stalls and the contract."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.networks.layers import Network, conv, gemm
from archgym.simulators.systolic import SystolicSimulator
from archgym.simulators.systolic.kernels import array
from archgym.simulators.systolic.validate import validate
from archgym.testing.checks import check_simulator
from archgym.threads import limit_threads


def test_reference_holds(ref):
    groups = list(validate(ref / "accelerator"))
    assert {group.group.split("/")[0] for group in groups} >= {"scalesim_closed_form", "scalesim_simulated"}
    for group in groups:
        assert group.holds, group
        if not group.group.startswith("scalesim_simulated_bandwidth"):
            assert group.exact == 1.0, group


def test_a_wrong_number_is_found(ref, tmp_path):
    import gzip

    with gzip.open(ref / "accelerator" / "scalesim_closed_form.csv.gz", "rt") as lines:
        text = lines.read()
    rows = text.splitlines()
    cells = rows[5].split(",")
    cells[rows[0].split(",").index("compute_cycles")] = "1"
    rows[5] = ",".join(cells)
    with gzip.open(tmp_path / "scalesim_closed_form.csv.gz", "wt") as lines:
        lines.write("\n".join(rows) + "\n")
    broken = {group.group for group in validate(tmp_path) if not group.holds}
    assert "scalesim_closed_form/compute_cycles" in broken


def folds(total, size):
    return [min(size, total - start) for start in range(0, total, size)]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from((0, 1, 2)),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_closed_forms_equal_a_walk_over_the_folds(A, B, dataflow, pixels, products, filters):
    rows, columns, steps = {
        0: (products, filters, pixels),
        1: (pixels, filters, products),
        2: (products, pixels, filters),
    }[dataflow]
    cycles = stationary = streamed = drained = 0
    for a in folds(rows, A):
        for b in folds(columns, B):
            cycles += (steps + A + B - 2) if dataflow == 1 else (2 * A + B + steps - 2)
            stationary += a * b
            streamed += a * steps
            drained += b * steps
    arrays = np.array([[A, B, dataflow, 2**40, 2**40, 2**40, 2**40]])
    layers = np.array([[pixels, products, filters, pixels]])
    run = dict(zip(array.COLUMNS, array.closed_forms(arrays, layers)[0].tolist(), strict=True))
    assert run["compute_cycles"] == cycles and run["stall_cycles"] == 0
    expected = {
        0: (streamed, stationary, drained),
        1: (streamed, drained, stationary),
        2: (stationary, streamed, drained),
    }
    assert (run["ifmap_sram_reads"], run["filter_sram_reads"], run["ofmap_sram_writes"]) == expected[dataflow]


def _evaluate(simulator, network, **design):
    space = simulator.space(network)
    full = {"ifmap_sram_kb": 1024, "filter_sram_kb": 1024, "ofmap_sram_kb": 1024, "bandwidth": 64} | design
    evaluation = simulator.evaluate(space.encode(full), network)
    return {name: column[0] for name, column in evaluation.metrics.items()} | {"violation": evaluation.violation[0]}


def test_worked_example():
    network = Network("one", [gemm("g", 10, 6, 5)])
    result = _evaluate(SystolicSimulator(), network, array_rows=4, array_columns=4, dataflow="ws")
    # 5 products on 4 rows: 2 folds; 6 filters on 4 columns: 2 folds; 2*4 + 4 + 10 - 2 = 20 cycles a fold.
    assert result["latency_cycles"] == 4 * 20 - 1
    assert result["mapping_efficiency"] == pytest.approx(30 / 64)
    assert result["utilization"] == pytest.approx(300 / (79 * 16))
    # ifmap 2 passes x 5 x 10, filter 5 x 6, ofmap 2 x 6 x 10.
    assert result["sram_accesses"] == 100 + 30 + 120
    assert result["dram_words"] == 50 + 30 + 60


def test_groups_run_one_after_the_other():
    simulator = SystolicSimulator()
    one = Network("one", [conv("c", 1, 1, 7, 7, 3, 3)])
    many = Network("many", [conv("c", 32, 32, 7, 7, 3, 3, groups=32)])
    design = {"array_rows": 8, "array_columns": 8, "dataflow": "os"}
    single, depthwise = (_evaluate(simulator, network, **design) for network in (one, many))
    assert depthwise["latency_cycles"] == 32 * single["latency_cycles"]
    assert depthwise["dram_words"] == 32 * single["dram_words"]


def test_less_bandwidth_and_smaller_buffers_never_help():
    simulator = SystolicSimulator()
    network = simulator.load_workload("resnet18")
    space = simulator.space(network)
    designs = space.sample(400, 3, feasible=True)
    base = simulator.evaluate(designs, network)
    for name in ("bandwidth", "ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb"):
        column = space.position(name)
        smaller = designs[designs[:, column] > 0].copy()
        rows = np.flatnonzero(designs[:, column] > 0)
        smaller[:, column] -= 1
        worse = simulator.evaluate(smaller, network)
        kept = worse.feasible
        for metric in ("stall_cycles", "latency_cycles", "dram_words"):
            assert (worse.metrics[metric][kept] >= base.metrics[metric][rows][kept]).all(), (name, metric)
    assert (base.metrics["stall_cycles"] > 0).any()


def test_stationary_tile_must_fit():
    result = _evaluate(
        SystolicSimulator(),
        Network("one", [gemm("g", 10, 6, 5)]),
        array_rows=256,
        array_columns=256,
        dataflow="ws",
        filter_sram_kb=64,
    )
    assert result["violation"] == "stationary-overflow" and np.isnan(result["latency_cycles"])


@pytest.mark.parametrize("space", SystolicSimulator.spaces)
@pytest.mark.parametrize("workload", ["resnet18", "mobilenet_v2", "gpt2_small_decode_ctx1024"])
def test_contract(space, workload):
    simulator = SystolicSimulator(space)
    check_simulator(simulator, simulator.load_workload(workload), samples=64)


def test_threads_do_not_change_a_bit():
    simulator = SystolicSimulator()
    network = simulator.load_workload("resnet50")
    designs = simulator.space(network).sample(999, 1)
    with limit_threads(1):
        one = simulator.evaluate(designs, network)
    many = simulator.evaluate(designs, network)
    assert all(np.array_equal(one.metrics[k], many.metrics[k], equal_nan=True) for k in one.metrics)


def test_user_files_and_bad_options(tmp_path):
    (tmp_path / "t.csv").write_text("Layer, M, N, K,\nfc, 4, 16, 8,\n")
    simulator = SystolicSimulator()
    assert simulator.load_workload(f"file:{tmp_path / 't.csv'}", batch=2).macs == 2 * 4 * 16 * 8
    with pytest.raises(ArchGymError, match="clock_ghz"):
        SystolicSimulator(clock_ghz=0)
    with pytest.raises(ArchGymError, match="did you mean"):
        simulator.load_workload("resnet81")


def test_leakage_is_a_power_whatever_the_clock():
    clocks = (0.5, 1.0, 2.0, 4.0)
    network = SystolicSimulator().load_workload("resnet18")
    rows = SystolicSimulator().space(network).sample(40, 0)
    runs = [SystolicSimulator(clock_ghz=clock).evaluate(rows, network).metrics for clock in clocks]
    energy, time = (np.array([run[name] for run in runs]) for name in ("energy_uj", "latency_ms"))
    good = ~np.isnan(energy[0])
    power = (np.diff(energy, axis=0) / np.diff(time, axis=0))[:, good]
    assert (power > 0).all() and np.allclose(power, power[0], rtol=1e-6)
    assert np.array_equal(runs[0]["latency_cycles"][good], runs[3]["latency_cycles"][good])
