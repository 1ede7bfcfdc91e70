"""Laws of the physical mode."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.blocks import library, memory_table
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.model import Result, evaluate_design, sliding_power
from archgym.simulators.soc.physical import physical_constants
from archgym.simulators.soc.task_graph import TaskGraph, builtin

SIMULATOR = SocSimulator(mode="physical")


def _chain_rows(count, seed):
    """Rows on hpvm_cava, a chain: one task runs at a time."""
    graph = SIMULATOR.load_workload("hpvm_cava")
    return graph, SIMULATOR.space(graph), SIMULATOR.space(graph).sample(count, seed)


def _dynamic(result: Result) -> float:
    return result.energy_j - result.static_w * sum(phase.duration_s for phase in result.phases)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_a_wider_block_never_slows_a_chain_and_never_costs_less(seed):
    graph, space, rows = _chain_rows(1, seed)
    base = SIMULATOR.trace(rows[0], graph)
    for name in space.names:
        if not name.startswith(("bus_width", "bus_freq", "mem_width", "mem_freq", "unroll", "freq")):
            continue
        j = space.position(name)
        if rows[0, j] + 1 >= space.nvec[j]:
            continue
        row = rows[0].copy()
        row[j] += 1
        more = SIMULATOR.trace(row, graph)
        assert more.latency_s[0] <= base.latency_s[0] * (1 + 1e-9), name
        assert _dynamic(more) >= _dynamic(base) * (1 - 1e-9), name
        assert more.other_area_m2 >= base.other_area_m2 * (1 - 1e-12), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7), st.floats(1.0, 8.0))
def test_more_bytes_never_cost_less(seed, index, factor):
    graph = builtin("hpvm_cava")
    _, _, rows = _chain_rows(1, seed)
    edges = list(graph.edges)
    edges[index] = replace(edges[index], bytes=math.floor(edges[index].bytes * factor))
    heavier = TaskGraph(graph.name, graph.description, graph.tasks, edges, graph.parts)
    base, more = SIMULATOR.trace(rows[0], graph), SIMULATOR.trace(rows[0], heavier)
    assert more.energy_j >= base.energy_j * (1 - 1e-9)
    assert more.latency_s[0] >= base.latency_s[0] * (1 - 1e-9)
    assert more.area_m2 >= base.area_m2 * (1 - 1e-12)


@pytest.mark.parametrize("workload", ["audio_decoder", "all"])
def test_energy_is_the_integral_of_power(workload):
    graph = SIMULATOR.load_workload(workload)
    for row in SIMULATOR.space(graph).sample(5, 2):
        result = SIMULATOR.trace(row, graph)
        run_time = sum(phase.duration_s for phase in result.phases)
        powers = [(p.energy_j / p.duration_s, p.duration_s) for p in result.phases if p.duration_s > 0]
        assert sum(power * seconds for power, seconds in powers) == pytest.approx(result.energy_j, rel=1e-12)
        assert result.energy_j / run_time <= result.power_w * (1 + 1e-9)
        assert result.power_w <= max(power for power, _ in powers) * (1 + 1e-9)
        assert result.energy_j >= result.static_w * run_time


def _one_cpu(graph, memory="LMEM_2_1_mem"):
    names = [task.name for task in graph.tasks]
    return SocDesign.from_dict(
        {
            "pes": ["A53_pe"],
            "mems": [memory],
            "buses": ["LMEM_ic_5_8_ic"],
            "pe_to_bus": [0],
            "mem_to_bus": [0],
            "bus_to_bus": [],
            "task_to_pe": dict.fromkeys(names, 0),
            "task_to_mem": dict.fromkeys(names, 0),
        }
    )


@pytest.mark.parametrize("workload", ["audio_decoder", "edge_detection", "hpvm_cava"])
def test_cpu_only_energy_in_closed_form(workload):
    """One CPU, one SRAM of 16 B/cycle at 100 MHz, one bus of two ports at 800 MHz."""
    graph, constants, lib = builtin(workload), physical_constants(), library()
    result = evaluate_design(_one_cpu(graph), graph, "physical")
    work = float(graph.work.sum())
    real = set(graph.real_tasks)
    read = sum(size for (_, child), size in graph.edge_bytes.items() if child in real)
    written = sum(size for (parent, _), size in graph.edge_bytes.items() if parent in real)
    (capacity,) = result.capacity_bytes.values()
    per_read, per_write, sram_area = memory_table().monotone().lookup("sram", capacity // 256000)
    per_cross = constants.bus_j_per_byte * 1.25**2 * (1 + 0.1 * math.log2(2))
    static = 0.010 * (lib.cpu_area_m2 * 1e6) + 1e-9 * capacity
    seconds = sum(phase.duration_s for phase in result.phases)
    want = (
        work / 47019607843.0 + read * per_read + written * per_write + (read + written) * per_cross + static * seconds
    )
    assert result.energy_j == pytest.approx(want, rel=1e-9)
    assert result.area_m2 == pytest.approx(lib.cpu_area_m2 + sram_area + 200e-12 * 128 * 2 * 1.2, rel=1e-12)


def test_accelerator_energy_at_unroll_1_and_100_mhz():
    """E = 0.064 P0 t: the accelerator's own energy of a run is power times time."""
    graph = builtin("edge_detection")
    names = [task.name for task in graph.tasks]
    base = _one_cpu(graph).to_dict()
    task = graph.tasks[graph.index["gaussianSmoothing"]]
    p0, seconds = task.accelerator.power * task.power_unit_w, task.accelerator.cycles / 1e8
    moved = {**base, "pes": ["A53_pe", "gaussianSmoothing_IP0_1_1_pe"], "pe_to_bus": [0, 0],
             "task_to_pe": {name: int(name == "gaussianSmoothing") for name in names}}  # fmt: skip
    on_cpu = evaluate_design(SocDesign.from_dict({**moved, "task_to_pe": dict.fromkeys(names, 0)}), graph, "physical")
    on_accelerator = evaluate_design(SocDesign.from_dict(moved), graph, "physical")
    saved = task.work / 47019607843.0
    assert _dynamic(on_accelerator) - _dynamic(on_cpu) == pytest.approx(0.064 * p0 * seconds - saved, rel=1e-9)


def test_a_buffer_is_freed_when_all_its_readers_are_complete():
    """FARSI never frees bytes that several children of one task read when one of them has other parents; physical
    needs at most as much memory, and after the last task nothing but the output is left."""
    for workload in ("audio_decoder", "edge_detection", "all"):
        graph = SIMULATOR.load_workload(workload)
        design = _one_cpu(graph)
        farsi, physical = evaluate_design(design, graph), evaluate_design(design, graph, "physical")
        assert sum(physical.peak_bytes.values()) <= sum(farsi.peak_bytes.values())


def test_first_come_first_served():
    """Physical mode never lets a task start before one that asked for the same element earlier."""
    graph = SIMULATOR.load_workload("all")
    for row in SIMULATOR.space(graph).sample(10, 4):
        result = SIMULATOR.trace(row, graph)
        hosts = SIMULATOR.explicit(row, graph).task_pe
        for a in graph.real_tasks:
            for b in graph.real_tasks:
                if hosts[graph.tasks[a].name] == hosts[graph.tasks[b].name] and result.launch_s[a] < result.launch_s[b]:
                    assert result.start_s[a] <= result.start_s[b]


def test_bandwidth_is_shared_without_loss():
    """Work conservation: no task that memories or buses limit could go faster without a cluster being full."""
    from archgym.simulators.soc.model import Network, clusters

    graph = SIMULATOR.load_workload("all")
    checked = 0
    for row in SIMULATOR.space(graph).sample(10, 9):
        network = Network(SIMULATOR.explicit(row, graph), graph)
        groups = clusters(network)
        for phase in SIMULATOR.trace(row, graph).phases:
            if phase.duration_s == 0:
                continue
            loads, full = [], set()
            for c, group in enumerate(groups):
                load = 0.0
                for t, rate in phase.rates.items():
                    if t in group.users and graph.work[t] > 0:
                        partners = network.records[group.block][t, group.direction]
                        moved = sum(
                            graph.bytes_between(t, p) if group.direction else graph.bytes_between(p, t)
                            for p in partners
                        )
                        load += rate * moved / graph.work[t]
                loads.append(load)
                assert load <= group.peak * (1 + 1e-9)
                if load >= group.peak * (1 - 1e-9):
                    full.add(c)
            for t, cause in phase.bottleneck.items():
                if cause != "pe" and graph.work[t] > 0:
                    assert any(t in groups[c].users for c in full)
                    checked += 1
    assert checked > 20


def test_sliding_power_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        durations = rng.choice([0.0, 0.001, 0.004, 0.02], 8).tolist()
        energies = [d * p for d, p in zip(durations, rng.random(8), strict=True)]
        total = sum(durations)
        if total == 0:
            continue
        window = min(0.01, total)
        times, joules = np.concatenate([[0], np.cumsum(durations)]), np.concatenate([[0], np.cumsum(energies)])
        starts = np.linspace(0, total - window, 20001)
        best = ((np.interp(starts + window, times, joules) - np.interp(starts, times, joules)) / window).max()
        assert sliding_power(durations, energies, 0.01) == pytest.approx(best, rel=1e-3)
        assert sliding_power(durations, energies, 0.01) >= best * (1 - 1e-12)


def test_large_designs_are_infeasible_by_name():
    graph = SIMULATOR.load_workload("edge_detection")
    space = SIMULATOR.space(graph)
    row = np.zeros(space.dimension, dtype=np.int64)
    row[space.position("unroll.gaussianSmoothing")] = space.nvec[space.position("unroll.gaussianSmoothing")] - 1
    evaluation = SIMULATOR.evaluate(row, graph)
    assert evaluation.violation.tolist() == ["die_area"] and np.isnan(evaluation.metrics["power_w"]).all()
    assert SIMULATOR.evaluate_explicit([SIMULATOR.explicit(row, graph)], graph).violation.tolist() == ["die_area"]


def test_constants_can_be_replaced_and_are_checked():
    graph = SIMULATOR.load_workload("audio_decoder")
    rows = SIMULATOR.space(graph).sample(20, 0)
    dear = SocSimulator(mode="physical", physical={"dram_j_per_byte": 1e-9, "relative_voltage": [1, 1, 1, 2]})
    assert dear.settings != SIMULATOR.settings != SocSimulator().settings
    a, b = SIMULATOR.evaluate(rows, graph).metrics["energy_j"], dear.evaluate(rows, graph).metrics["energy_j"]
    assert np.nanmax(b / a) > 1.1
    for bad in ({"dram": 1}, {"dram_j_per_byte": -1}, {"relative_voltage": [1, 2]}, {"relative_voltage": 3}):
        with pytest.raises(ArchGymError):
            SocSimulator(mode="physical", physical=bad)
    with pytest.raises(ArchGymError, match="add mode='physical'"):
        SocSimulator(physical={"dram_j_per_byte": 1e-9})
    with pytest.raises(ArchGymError, match="did you mean 'physical'"):
        SocSimulator(mode="physicl")


def test_power_budgets_of_the_builtin_workloads_only():
    """The recorded designs keep the budgets; a user's graph of the same name keeps its own."""
    from archgym.simulators.soc.objectives import budgets, physical_power_budgets

    text = (resources.files("archgym.simulators.soc") / "data" / "physical_budgets.json").read_text(encoding="utf-8")
    record = json.loads(text)["workloads"]
    assert set(record) == set(SIMULATOR.workloads()) - {"all"} == set(physical_power_budgets())
    for name, entry in record.items():
        graph = SIMULATOR.load_workload(name)
        limits = budgets(graph, "physical")
        assert limits["power_w"] == entry["power_w"] == pytest.approx(1.2 * entry["best_power_w"], rel=1e-3)
        metrics = SIMULATOR.evaluate(SIMULATOR.space(graph).encode(entry["design"]), graph).metrics
        for metric, limit in limits.items():
            assert metrics[metric][0] <= limit
    graph = builtin("hpvm_cava")
    part = replace(graph.parts[0], power_budget_w=1.0)
    own = TaskGraph(graph.name, "mine", graph.tasks, graph.edges, [part])
    assert budgets(own, "physical")["power_w"] == 1.0
