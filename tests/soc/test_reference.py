"""The readable model against simulations by FARSI, and the kernel against the readable model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.generator import generate
from archgym.simulators.soc.model import evaluate_design
from archgym.simulators.soc.simulator import result_row
from archgym.simulators.soc.task_graph import builtin_combination
from archgym.simulators.soc.validate import validate

CHECKS = {  # id: latency, power, energy, area, distance of the runs that the model's description names
    0: (0.006436275249999999, 0.048263398093155066, 0.0003106365146278711, 7.759314e-07, 4.524024049),
    17: (84.8823318, 0.04254782, 3.610509, 1.63077e-06, 2499.41),
    34: (1.70180166, 0.09017993, 0.01622506, 1.594293e-4, 66.4979),
}


@pytest.fixture(scope="module")
def runs(ref):
    path = ref / "soc" / "farsi_runs.json"
    if not path.exists():
        pytest.skip("no reference runs of the SoC")
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_reference_run_to_1e_12(ref, runs):
    groups = list(validate(ref / "soc"))
    assert {group.group for group in groups} >= {"power", "energy", "area", "distance/eliminate", "task times"}
    for group in groups:
        assert group.holds, group
        assert group.worst_error <= 1e-12, group
        assert group.rows > 0


def test_phase_lengths_energies_and_peaks(runs):
    for run in runs:
        graph = builtin_combination(tuple(run["workloads"]))
        result = evaluate_design(SocDesign.from_dict(run["design"]), graph)
        np.testing.assert_allclose([p.duration_s for p in result.phases], run["result"]["phase_s"], rtol=1e-12, atol=0)
        np.testing.assert_allclose([p.energy_j for p in result.phases], run["result"]["phase_energy_j"], rtol=1e-12)
        peaks = sorted(b["peak_bytes"] for b in run["result"]["blocks_after_prune"] if b["type"] == "mem")
        # One run differs by the single byte that dummy_last writes; capacities come in units of 256,000 bytes.
        np.testing.assert_allclose(sorted(result.peak_bytes.values()), peaks, rtol=0, atol=1)


def test_check_values(runs):
    for run in runs:
        if run["id"] in CHECKS:
            graph = builtin_combination(tuple(run["workloads"]))
            result = evaluate_design(SocDesign.from_dict(run["design"]), graph)
            latency, power, energy, area, _ = CHECKS[run["id"]]
            got = (result.latency_s[0], result.power_w, result.energy_j, result.area_m2)
            np.testing.assert_allclose(got, (latency, power, energy, area), rtol=1e-6)


def test_run_0_without_the_reference():
    """One A53, one DRAM, one bus: the figures hold without any file beside the package."""
    graph = builtin_combination(("audio_decoder",))
    names = [task.name for task in graph.tasks]
    design = SocDesign.from_dict(
        {
            "pes": ["A53_pe"],
            "mems": ["GMEM_4_1_mem"],
            "buses": ["LMEM_ic_4_6_ic"],
            "pe_to_bus": [0],
            "mem_to_bus": [0],
            "bus_to_bus": [],
            "task_to_pe": dict.fromkeys(names, 0),
            "task_to_mem": dict.fromkeys(names, 0),
        }
    )
    result = evaluate_design(design, graph)
    latency, power, energy, area, _ = CHECKS[0]
    assert result.latency_s[0] == pytest.approx(latency, rel=1e-12)
    assert result.power_w == pytest.approx(power, rel=1e-12)
    assert result.energy_j == pytest.approx(energy, rel=1e-12)
    assert result.area_m2 == pytest.approx(area, rel=1e-12)
    assert len(result.phases) == 19
    assert list(result.peak_bytes.values()) == [1561696]


def _worst_difference(simulator, graph, rows) -> float:
    raw = simulator._evaluate_rows(rows, graph, np.ones(len(rows), dtype=bool))
    space = simulator.space(graph)
    worst = 0.0
    for row, ours in zip(rows, raw, strict=True):
        design = space.explicit(row)
        assert simulator.violation(design, graph) == ""
        want = result_row(evaluate_design(design, graph, simulator.mode, simulator.constants))
        worst = max(worst, float(np.max(np.abs(ours - want) / np.maximum(np.abs(want), 1e-30))))
    return worst


@pytest.mark.parametrize("mode", ["farsi", "physical"])
@pytest.mark.parametrize("space", ["full", "archgym-limited"])
@pytest.mark.parametrize("workload", ["audio_decoder", "edge_detection", "hpvm_cava", "all"])
def test_kernel_equals_the_readable_model(mode, space, workload):
    simulator = SocSimulator(space, mode=mode)
    graph = simulator.load_workload(workload)
    rows = simulator.space(graph).sample(25, 7)
    if space != "full":
        rows = simulator.space(graph).repair(rows)
    assert _worst_difference(simulator, graph, rows) <= 1e-12


@pytest.mark.parametrize("mode", ["farsi", "physical"])
@pytest.mark.parametrize("seed", range(4))
def test_kernel_equals_the_readable_model_on_generated_graphs(mode, seed):
    simulator = SocSimulator(mode=mode)
    graph = generate(
        tasks=(1, 12, 30, 59)[seed], layers=(1, 4, 3, 10)[seed], accelerated=(1, 0.5, 0, 1)[seed], seed=seed
    )
    assert _worst_difference(simulator, graph, simulator.space(graph).sample(8, seed)) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["farsi", "physical"])
def test_kernel_equals_the_readable_model_on_many(mode):
    simulator = SocSimulator(mode=mode)
    for workload, count in (("audio_decoder", 600), ("edge_detection", 1000), ("hpvm_cava", 1000), ("all", 250)):
        graph = simulator.load_workload(workload)
        assert _worst_difference(simulator, graph, simulator.space(graph).sample(count, 11)) <= 1e-12


def test_limited_vectors_of_the_reference_through_the_kernel(ref, runs):
    kernel = [group for group in validate(ref / "soc") if group.group.startswith("kernel")]
    assert kernel and kernel[0].rows == sum("encoded" in run for run in runs)
    assert kernel[0].worst_error <= 1e-12
