"""The contract, the spaces, constraints, objectives and the shipped best designs."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.agents.base import make_agent
from archgym.agents.search import search
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.soc import SocSimulator
from archgym.simulators.soc.blocks import Accelerator, Bus, Cpu, Memory, library, memory_table
from archgym.simulators.soc.design import CONSTRAINTS, SocDesign
from archgym.simulators.soc.simulator import COMBINATIONS
from archgym.simulators.soc.validate import encode_limited
from archgym.testing import checks
from archgym.threads import limit_threads

SINGLES = ("audio_decoder", "edge_detection", "hpvm_cava")


@pytest.mark.parametrize("mode", ["farsi", "physical"])
@pytest.mark.parametrize("space", ["full", "archgym-limited"])
@pytest.mark.parametrize("workload", ["audio_decoder", "all"])
def test_contract(mode, space, workload):
    simulator = SocSimulator(space, mode=mode)
    checks.check_simulator(simulator, simulator.load_workload(workload))


def test_workloads_are_every_combination():
    simulator = SocSimulator()
    names = list(simulator.workloads())
    assert len(names) == 8 and "all" in names and len(COMBINATIONS) == 7
    a = simulator.load_workload("edge_detection+audio_decoder")
    assert a is simulator.load_workload("audio_decoder+edge_detection")
    assert [part.name for part in a.parts] == ["audio_decoder", "edge_detection"]
    assert a.power_budget_w == pytest.approx(2 * 0.008737)
    assert simulator.load_workload("all").fingerprint == simulator.load_workload("+".join(SINGLES)).fingerprint
    with pytest.raises(ArchGymError, match="twice"):
        simulator.load_workload("hpvm_cava+hpvm_cava")
    with pytest.raises(ArchGymError, match="did you mean 'hpvm_cava'"):
        simulator.load_workload("hpvm_cave")


@pytest.mark.parametrize(
    ("workload", "size"),
    [("audio_decoder", 4.1e57), ("hpvm_cava", 3.1e39), ("edge_detection", 3.2e37), ("all", 5.1e102)],
)
def test_size_of_the_full_space(workload, size):
    simulator = SocSimulator()
    assert simulator.space(simulator.load_workload(workload)).size == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize(
    ("workload", "length", "size"),
    [("audio_decoder", 54, 5.4e26), ("hpvm_cava", 36, 1.4e18), ("edge_detection", 34, 1.6e17)],
)
def test_size_of_archgyms_space(workload, length, size):
    simulator = SocSimulator("archgym-limited")
    space = simulator.space(simulator.load_workload(workload))
    assert space.dimension == length and space.size == pytest.approx(size, rel=0.04)


@pytest.mark.parametrize("workload", ["audio_decoder", "edge_detection", "hpvm_cava", "all"])
def test_ten_thousand_random_designs_are_valid(workload):
    simulator = SocSimulator()
    graph = simulator.load_workload(workload)
    evaluation = simulator.evaluate(simulator.space(graph).sample(10_000, 1), graph)
    assert evaluation.feasible.all()
    for column in evaluation.metrics.values():
        assert np.isfinite(column).all() and (column >= 0).all()


def test_every_level_changes_what_it_names():
    """Each level of each parameter reaches the explicit design (unless folding says that it has no effect)."""
    simulator = SocSimulator()
    graph = simulator.load_workload("hpvm_cava")
    space = simulator.space(graph)
    base = np.zeros(space.dimension, dtype=np.int64)
    base[space.position("topology")] = 3  # four buses
    for m, task in enumerate(("scale", "demosaic", "denoise", "transform")):
        base[space.position(f"mem.{task}")] = m  # four memories
    for j, parameter in enumerate(space.parameters):
        designs = set()
        for level in range(len(parameter)):
            row = base.copy()
            row[j] = level
            designs.add(json.dumps(space.explicit(row).to_dict(), sort_keys=True))
        expected = len(parameter)
        if parameter.name.startswith("pe."):
            expected -= 1  # cpu1 alone and cpu2 alone are the same design
        assert len(designs) == expected, parameter.name


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["audio_decoder", "all"]), st.sampled_from(["farsi", "physical"]))
def test_canonical_designs_are_bit_identical(seed, workload, mode):
    simulator = SocSimulator(mode=mode)
    graph = simulator.load_workload(workload)
    space = simulator.space(graph)
    rows = space.sample(20, seed)
    folded = space.canonical(rows)
    assert np.array_equal(folded, space.canonical(folded))
    assert np.array_equal(folded, space.repair(rows))
    assert checks.same_evaluation(simulator.evaluate(rows, graph), simulator.evaluate(folded, graph))


def test_cpus_are_interchangeable():
    simulator = SocSimulator()
    graph = simulator.load_workload("audio_decoder")
    space = simulator.space(graph)
    rows = space.sample(200, 3)
    swapped = rows.copy()
    for j, parameter in enumerate(space.parameters):
        if parameter.name.startswith("pe."):
            one, two = parameter.index("cpu1"), parameter.index("cpu2")
            swapped[rows[:, j] == one, j] = two
            swapped[rows[:, j] == two, j] = one
    assert np.array_equal(space.canonical(rows), space.canonical(swapped))
    assert checks.same_evaluation(simulator.evaluate(rows, graph), simulator.evaluate(swapped, graph))


@pytest.mark.parametrize("mode", ["farsi", "physical"])
def test_same_bits_on_any_number_of_threads(mode):
    simulator = SocSimulator(mode=mode)
    graph = simulator.load_workload("all")
    rows = simulator.space(graph).sample(300, 5)
    with limit_threads(1):
        one = simulator.evaluate(rows, graph)
    many = simulator.evaluate(rows, graph)
    alone = simulator.evaluate(rows[137], graph)
    assert checks.same_evaluation(one, many)
    assert checks.same_evaluation(one.take(slice(137, 138)), alone)


# --- constraints -----------------------------------------------------------------------------------------------


def _design(**changes):
    graph = SocSimulator().load_workload("edge_detection")
    names = [task.name for task in graph.tasks]
    fields = {
        "pes": (Cpu(), Accelerator("gaussianSmoothing", 8, 400)),
        "memories": (Memory("sram", 16, 400), Memory("dram", 16, 400)),
        "buses": (Bus(16, 400), Bus(16, 400), Bus(16, 400)),
        "pe_bus": (0, 1),
        "memory_bus": ((1,), (2,)),
        "bus_links": ((0, 1), (1, 2)),
        "task_pe": {name: int(name == "gaussianSmoothing") for name in names},
        "task_memory": {name: k % 2 for k, name in enumerate(names)},
    }
    return SocDesign(**{**fields, **changes}), graph


def test_explicit_designs_break_rules_by_name():
    simulator = SocSimulator()
    tasks = _design()[0].task_pe
    broken = {
        "dangling_memory": {"memory_bus": ((1,), ())},
        "memory_on_two_buses": {"memory_bus": ((1,), (2, 0))},
        "bus_cycle": {"bus_links": ((0, 1), (1, 2), (2, 2))},
        "disconnected": {"bus_links": ((0, 1),)},
        "incompatible_accelerator": {"task_pe": {**tasks, "computeGradient": 1}},
        "no_block": {"memories": (), "memory_bus": (), "task_memory": {}},
    }
    for name, changes in broken.items():
        design, graph = _design(**changes)
        if name == "no_block":
            continue
        assert simulator.violation(design, graph) == name
        evaluation = simulator.evaluate_explicit([design, _design()[0]], graph)
        assert evaluation.violation.tolist() == [name, ""] and name in CONSTRAINTS
        for objective in simulator.objectives(graph).values():
            rewards = objective(evaluation)
            assert rewards[0] == objective.penalty < rewards[1]


def test_triangle_of_buses_is_a_cycle_only_in_physical_mode():
    design, graph = _design(bus_links=((0, 1), (1, 2), (2, 0)))
    assert SocSimulator().violation(design, graph) == ""
    assert SocSimulator(mode="physical").violation(design, graph) == "bus_cycle"


def test_limited_space_names_what_is_broken():
    simulator = SocSimulator("archgym-limited")
    graph = simulator.load_workload("edge_detection")
    space = simulator.space(graph)
    good = space.decode(space.repair(space.sample(1, 0)))[0]
    good |= {f"pe.{i}": "cpu" for i in range(3)} | {f"bus_to_bus.{i}": v for i, v in enumerate((1, 2, -1))}
    good |= {f"bus_to_mem.{i}": i for i in range(3)}
    cases = {
        "": {},
        "bus_cycle": {"bus_to_bus.2": 2},
        "disconnected": {"bus_to_bus.1": -1},
        "dangling_memory": {"bus_to_mem.1": -1},
        "memory_on_two_buses": {"bus_to_mem.1": 0},
        "incompatible_accelerator": {"pe.0": "accelerator.gaussianSmoothing", "task_to_pe.computeGradient": 0},
    }
    rows = space.encode([good | change for change in cases.values()])
    evaluation = simulator.evaluate(rows, graph)
    assert evaluation.violation.tolist() == list(cases)
    for name, row in zip(cases, rows, strict=True):  # the explicit design says the same
        assert space.explicit(row).violation(graph) == name
    repaired = space.repair(rows)
    assert np.array_equal(repaired[0], rows[0])
    assert simulator.evaluate(repaired, graph).feasible.all()
    rewards = simulator.objectives(graph)["farsi-distance"](evaluation)
    assert rewards[0] > rewards[1:].max()


def test_rules_agree_on_random_limited_vectors():
    simulator = SocSimulator("archgym-limited")
    graph = simulator.load_workload("hpvm_cava")
    space = simulator.space(graph)
    rows = space.sample(400, 2)
    rows[200:] = space.repair(rows[200:])
    got = space.violations(rows)
    for row, name in zip(rows, got, strict=True):
        assert (space.explicit(row).violation(graph) == "") == (name == "")


@pytest.fixture(scope="module")
def loose_vectors():
    """Vectors of edge_detection on CPUs whose links and memories are arbitrary, and which leave blocks without a task."""
    simulator = SocSimulator("archgym-limited")
    graph = simulator.load_workload("edge_detection")
    space = simulator.space(graph)
    rng = np.random.default_rng(3)
    rows = space.sample(20000, 3)
    rows[:, :3] = 0
    for group in ("task_pe", "task_memory"):
        columns = slice(space.start[group], space.start[group] + len(graph.tasks))
        few = rng.integers(0, 3, (len(rows), 2))
        rows[:, columns] = np.take_along_axis(few, rng.integers(0, 2, (len(rows), len(graph.tasks))), axis=1)
    return simulator, graph, space, rows


def test_blocks_that_no_task_uses_may_hang_on_nothing(loose_vectors):
    simulator, graph, space, rows = loose_vectors
    names = space.violations(rows)
    valid = rows[names == ""]
    isolated = [row for row in valid if (d := space.explicit(row)).reached_from(d.pe_bus[d.root(graph)]) != {0, 1, 2}]
    assert len(isolated) > 100 and any(space.explicit(row).root(graph) for row in isolated), "the case is not covered"
    assert any(() in space.explicit(row).memory_bus for row in valid)
    for row, name in zip(rows[:1500], names, strict=False):
        assert space.explicit(row).violation(graph) == name


@pytest.mark.parametrize("mode", ["farsi", "physical"])
def test_the_kernel_prunes_as_the_readable_model_does(mode, loose_vectors):
    _, graph, _, rows = loose_vectors
    simulator = SocSimulator("archgym-limited", mode=mode)
    space = simulator.space(graph)
    valid = rows[space.violations(rows) == ""][:250]
    batch = simulator.evaluate(valid, graph)
    ours = simulator.evaluate_explicit([space.explicit(row) for row in valid], graph)
    for name, column in batch.metrics.items():
        assert np.allclose(column, ours.metrics[name], rtol=1e-12, atol=0), name


def test_taking_unlinked_blocks_away_changes_nothing(loose_vectors):
    simulator, graph, space, rows = loose_vectors
    for row in rows[space.violations(rows) == ""][:60]:
        full = space.explicit(row)
        root = full.root(graph)
        kept = sorted(full.reached_from(full.pe_bus[root]))
        pes = [p for p, bus in enumerate(full.pe_bus) if bus in kept]
        memories = [m for m, buses in enumerate(full.memory_bus) if buses and buses[0] in kept]
        lean = SocDesign(
            tuple(full.pes[p] for p in pes), tuple(full.memories[m] for m in memories),
            tuple(full.buses[b] for b in kept), tuple(kept.index(full.pe_bus[p]) for p in pes),
            tuple((kept.index(full.memory_bus[m][0]),) for m in memories),
            tuple((kept.index(a), kept.index(b)) for a, b in full.bus_links if a in kept),
            {name: pes.index(p) for name, p in full.task_pe.items()},
            {t.name: memories.index(full.task_memory[t.name]) for i, t in enumerate(graph.tasks) if graph.children[i]},
        )  # fmt: skip
        both = simulator.evaluate_explicit([full, lean], graph)
        assert both.feasible.all()
        for name, column in both.metrics.items():
            assert column[0] == column[1], name


def test_an_unused_bus_with_its_memory_as_farsi_evaluates_it():
    """A recorded FARSI run: bus 0 and memory 0 hang apart, no task uses them."""
    names = (
        "source", "gaussianSmoothing", "laplacianEstimate", "computeZeroCrossings", "computeGradient",
        "computeMaxGradientLeaf", "rejectZeroCrossings", "sink",
    )  # fmt: skip
    simulator = SocSimulator("archgym-limited")
    graph = simulator.load_workload("edge_detection")
    assert tuple(task.name for task in graph.tasks) == names
    space = simulator.space(graph)
    run = {
        "pe": [0, 0, 0], "mem": [3, 1, 3], "bus": [3, 0, 3], "p2b": [2, 1, 1], "b2b": [-1, 2, 1], "b2m": [0, 1, 2],
        "t2p": [0, 0, 0, 1, 2, 0, 2, 1], "t2m": [2, 2, 1, 1, 1, 1, 2, 2],
    }  # fmt: skip
    row = encode_limited(space, run)
    by_kernel = simulator.evaluate(row, graph)
    by_model = simulator.evaluate_explicit([space.explicit(row)], graph)
    expected = {
        "latency_edge_detection_s": 2.8846756694266515, "power_w": 0.08620013130266484,
        "energy_j": 0.14183756181371804, "area_mm2": 3.3431169, "dram_area_mm2": 1.3931169, "other_area_mm2": 1.95,
        "phases": 9,
    }  # fmt: skip
    for name, value in expected.items():
        assert by_kernel.metrics[name][0] == pytest.approx(value, rel=1e-12), name
        assert by_model.metrics[name][0] == pytest.approx(value, rel=1e-12), name
    assert simulator.objectives(graph)["farsi-distance"](by_kernel)[0] == pytest.approx(-92.70950382977526, rel=1e-12)


# --- edge cases ------------------------------------------------------------------------------------------------


def test_unused_blocks_cost_nothing():
    simulator = SocSimulator()
    design, graph = _design()
    names = [task.name for task in graph.tasks]
    lean, _ = _design(task_pe=dict.fromkeys(names, 0), task_memory=dict.fromkeys(names, 0))
    bare = SocDesign(
        (Cpu(),), (Memory("sram", 16, 400),), (Bus(16, 400),), (0,), ((0,),), (), dict.fromkeys(names, 0),
        dict.fromkeys(names, 0),
    )  # fmt: skip
    evaluation = simulator.evaluate_explicit([lean, bare, design], graph)
    for name, column in evaluation.metrics.items():
        assert column[0] == column[1], name
    assert evaluation.metrics["energy_j"][2] != evaluation.metrics["energy_j"][0]


def test_dummy_on_an_accelerator_counts_its_area():
    simulator = SocSimulator()
    graph = simulator.load_workload("audio_decoder")
    names = [task.name for task in graph.tasks]

    def area(host: int) -> float:
        design = SocDesign(
            (Cpu(), Accelerator("FIR_left", 1, 100)), (Memory("sram", 16, 400),), (Bus(16, 400),), (0, 0), ((0,),), (),
            {**dict.fromkeys(names, 0), "dummy_last": host}, dict.fromkeys(names, 0),
        )  # fmt: skip
        return float(simulator.evaluate_explicit([design], graph).metrics["area_mm2"][0])

    assert area(1) - area(0) == pytest.approx(0.0374 * 19496 * 1e-6)


def test_memory_table_interpolates_and_extrapolates():
    table = memory_table()
    for kind in ("sram", "dram"):
        for low in (136, 154, 160, 180):
            assert table.lookup(kind, low)[0] > 0
        last = [table.lookup(kind, n)[2] for n in (255, 256, 257)]
        assert last[2] - last[1] == pytest.approx(last[1] - last[0])
    a, b = table.lookup("sram", 136)[2], table.lookup("sram", 154)[2]
    assert table.lookup("sram", 145)[2] == pytest.approx((a + b) / 2)  # half way


def test_unroll_lists():
    graph = SocSimulator().load_workload("all")
    unrolls = {t.name: library().unrolls(t.accelerator) for t in graph.tasks if t.accelerator is not None}
    assert unrolls["rotateOrder1"] == tuple(2**k for k in range(11))
    assert unrolls["FIR_left"] == (*[2**k for k in range(15)], 16400)
    assert unrolls["scale"] == (1, 2, 4, 8, 16, 32, 64, 128, 151)
    assert unrolls["gaussianSmoothing"] == (*[2**k for k in range(16)], 1638400)
    assert unrolls["zoomSet"] == (1,)


# --- objectives and known designs ------------------------------------------------------------------------------


def test_archgym_limited_is_nearly_degenerate():
    problem = make_problem("soc/hpvm_cava", space="archgym-limited", objective="farsi-distance")
    rows = problem.space.repair(problem.space.sample(300, 0))
    rows[:, :3] = 0  # CPUs only, as ArchGym's random walker draws
    rewards = -problem.objective(problem.simulator.evaluate(rows, problem.workload))
    assert 2499.4 < rewards.min() and rewards.max() < 2499.6


def test_objective_forms():
    problem = make_problem("soc/edge_detection")
    evaluation = problem.simulator.evaluate(problem.space.sample(50, 1), problem.workload)
    forms = problem.simulator.objectives(problem.workload)
    distance = -forms["farsi-distance"](evaluation)
    np.testing.assert_allclose(forms["archgym-inverse-distance"](evaluation), 1 / distance)
    d = {name: (evaluation.metrics[name] - limit) / limit for name, limit in forms["farsi-distance"].budgets.items()}
    by_hand = sum(np.where(x < 0.001, 1e-9, np.abs(x)) for x in d.values())
    np.testing.assert_allclose(distance, by_hand)
    assert (-forms["farsi-distance-simple"](evaluation) >= distance - 1e-8).all()
    assert forms["archgym-inverse-distance"].archgym_form and not forms["farsi-distance"].archgym_form


def test_best_known_designs():
    """The three together meet every budget: the recorded design still does, on both paths."""
    record = json.loads((resources.files("archgym.simulators.soc") / "best_known.json").read_text(encoding="utf-8"))
    problem = make_problem("soc/all")
    row = problem.space.encode(record["design"])
    evaluation = problem.simulator.evaluate(row, problem.workload)
    assert problem.objective(evaluation)[0] == pytest.approx(record["reward"]) and -record["reward"] < 0.163
    explicit = problem.simulator.evaluate_explicit(
        [problem.simulator.explicit(row[0], problem.workload)], problem.workload
    )
    assert problem.objective(explicit)[0] == pytest.approx(record["reward"])
    assert evaluation.metrics["deadline_ratio"][0] <= 1.001


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["local", "ga"])
@pytest.mark.parametrize("workload", SINGLES)
def test_singles_meet_all_budgets_within_20000_evaluations(workload, agent):
    problem = make_problem(f"soc/{workload}")
    result = search(problem, make_agent(agent, problem, seed=0), 20_000)
    assert result.best.reward == pytest.approx(-4e-9, rel=1e-6)  # every one of the four budgets met
