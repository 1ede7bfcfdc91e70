"""Co-design: the additive cost is exact, and the front is the front."""

from __future__ import annotations

import numpy as np
import pytest

import archgym
from archgym.agents import make_agent, search
from archgym.datasets import read_trials
from archgym.simulators.codesign.cost import TERMS, term_counts, term_networks, whole_network
from archgym.simulators.codesign.simulator import CoDesignSimulator, exact_front
from archgym.simulators.nas import cells
from archgym.simulators.nas.macro import MACROS


@pytest.mark.parametrize("name", list(MACROS))
def test_layers_have_the_macs_of_the_formula(name):
    macro = MACROS[name]
    networks = term_networks(macro)
    one = np.array([1])
    zero = np.array([0])
    assert networks["fixed"].macs == macro.macs(zero, zero)[0]
    assert networks["nor_conv_1x1"].macs == macro.macs(one, zero)[0] - macro.macs(zero, zero)[0]
    assert networks["nor_conv_3x3"].macs == macro.macs(zero, one)[0] - macro.macs(zero, zero)[0]


def test_the_sum_of_the_terms_equals_the_run_of_the_whole_network():
    simulator = CoDesignSimulator()
    macro = MACROS["mnist1d-C8S2"]
    rng = np.random.default_rng(0)
    hardware = simulator.hardware_space.sample(20, rng, feasible=True)
    costs = simulator.term_costs(hardware, macro)
    for row in cells.all_rows()[rng.integers(0, 15625, 12)]:
        whole = simulator.hardware.evaluate(hardware, whole_network(macro, row))
        counts = term_counts(row[None])[0].astype(float)
        for metric in ("latency_cycles", "energy_uj"):
            added = counts[-1] * costs[metric][:, TERMS.index("addition")]
            np.testing.assert_allclose(costs[metric] @ counts - added, whole.metrics[metric], rtol=1e-12)


def test_counts_of_additions_by_hand():
    none, skip = cells.OPERATIONS.index("none"), cells.OPERATIONS.index("skip_connect")
    assert term_counts([[none] * 6])[0].tolist() == [1, 0, 0, 0, 0]
    # Node 2 adds two inputs, node 3 three: one and two additions.
    assert term_counts([[skip] * 6])[0].tolist() == [1, 0, 0, 0, 3]


def test_the_exact_front_against_all_designs_of_some_hardware():
    problem = archgym.make_problem("codesign", space="reduced")
    front = exact_front(problem.simulator, problem.workload)
    rng = np.random.default_rng(1)
    designs = problem.space.sample(20000, rng)
    evaluation, _ = problem.evaluate(designs)
    losses = problem.losses(evaluation)
    losses = losses[np.isfinite(losses).all(axis=1)]
    assert len(losses)
    for point in losses[rng.integers(0, len(losses), 300)]:
        assert (front <= point * (1 + 1e-12 * np.sign(point))).all(axis=1).any(), "no design beats the front"
    for point in front:
        assert not ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()


@pytest.mark.slow
def test_nsga2_finds_most_of_the_front_with_one_percent_of_the_evaluations(tmp_path):
    pytest.importorskip("pymoo")
    from pymoo.indicators.hv import HV

    problem = archgym.make_problem("codesign", space="reduced")
    front = exact_front(problem.simulator, problem.workload)
    low, high = front.min(axis=0), front.max(axis=0)
    hypervolume = HV(ref_point=np.full(3, 1.1))
    exact = hypervolume((front - low) / (high - low))
    log = tmp_path / "a.arrows"
    search(problem, make_agent("nsga2", problem, 0, population=256), int(0.01 * problem.space.size), log=log)
    table = read_trials(log)
    losses = np.stack(
        [
            -table.column("accuracy_percent").to_numpy(),
            table.column("latency_ms").to_numpy(),
            table.column("energy_uj").to_numpy(),
        ],
        axis=1,
    )
    losses = losses[np.isfinite(losses).all(axis=1)]
    assert hypervolume((losses - low) / (high - low)) >= 0.99 * exact
