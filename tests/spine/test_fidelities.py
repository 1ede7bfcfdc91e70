"""Several fidelities in one run: what each costs, what the budget pays, what counts, and how a run goes on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.agents import make_agent, search
from archgym.agents.base import Agent
from archgym.datasets import Dataset, read_shard, read_trials
from archgym.datasets.schema import CLOCK_COLUMNS, TrialSchema
from archgym.errors import ArchGymError
from archgym.evaluator import BudgetExhausted, Evaluator, used_after
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.simulator import Evaluation, Metric
from archgym.simulators.external.dramsys import DramsysSimulator
from archgym.testing import check_agent, check_resume
from tests import rungs


@pytest.fixture(scope="module")
def problem():
    with rungs.registered():
        yield make_problem("rungs/light")


MULTI = ["hyperband", "bohb", "mfga", "mfbo"]
QUICK = MULTI[:3]


@pytest.mark.parametrize(
    "name, options",
    [
        ("dram/gzip", {"objective": "energy"}),
        ("dram/gzip+sort", {"objective": "energy"}),
        ("dram/gzip", {"objective": "energy", "fidelity": "requests:5000"}),
        ("nas/nb201-mnist1d", {}),
        ("nas/nb201-mnist1d", {"fidelity": "train"}),
        ("codesign/nb201-mnist1d", {}),
        ("accelerator/resnet18", {}),
        ("llm-serving", {}),
        ("dram/gzip", {"objective": "energy", "fix": {"PagePolicy": "Open"}}),
    ],
)
def test_cheaper_fidelities_cost_less_and_exist(name, options):
    problem = make_problem(name, **options)
    costs = list(problem.cheaper.values())
    assert costs and costs == sorted(set(costs)) and 0 < costs[0] and costs[-1] < 1
    for fidelity in problem.cheaper:
        problem.simulator.check_fidelity(problem.workload, fidelity)
        # The costs of a problem at that fidelity fit: what is cheaper than it is cheaper by as much.
        below = make_problem(name, **{**options, "fidelity": fidelity})
        for cheaper, cost in below.cheaper.items():
            if cheaper in problem.cheaper:
                assert cost == pytest.approx(problem.cheaper[cheaper] / problem.cheaper[fidelity])


def test_a_simulator_of_one_fidelity_has_none_cheaper():
    for name in ("soc/edge_detection", "synthetic/rugged", "systolic/resnet18", "mapping/resnet18-2"):
        assert not make_problem(name).cheaper
    assert not make_problem("nas/nb201-mnist1d", fidelity="zero-cost").cheaper, "what it scores is not an accuracy"
    dramsys = DramsysSimulator(binary="none")
    assert not dramsys.cheaper_fidelities(dramsys.load_workload("gzip"))


def test_the_cost_of_a_window_is_that_of_its_requests():
    problem = make_problem("dram/gzip", objective="energy")
    assert list(problem.cheaper) == ["requests:246", "requests:740", "requests:2222", "requests:6666"]
    assert problem.cheaper["requests:2222"] == (2222 + 200) / (20_000 + 200)
    assert list(make_problem("nas/nb201-mnist1d").cheaper.values()) == pytest.approx([0.2, 0.4, 0.6])


def test_the_budget_counts_costs_and_only_full_rewards_count(problem):
    evaluator = Evaluator(problem, budget=3, several_fidelities=True)
    designs = problem.space.sample(40, 0)
    evaluator.evaluate(designs[:9], fidelity="ninth")
    assert (evaluator.used, evaluator.evaluations, evaluator.best) == (1, 9, None)
    assert evaluator.cost == pytest.approx(1.0)
    evaluator.evaluate(designs[:9], fidelity="ninth")
    assert evaluator.evaluations == 9 and evaluator.trials == 18, "a repeat is free"
    _, full, rewards = evaluator.evaluate(designs[:1])
    assert evaluator.used == 2 and evaluator.best.reward == rewards[0], "another fidelity is another evaluation"
    assert evaluator.improvements == [(2, rewards[0])] and evaluator.best.evaluations == 2
    cheap, _, cheap_rewards = evaluator.evaluate(designs[:3], fidelity="third")
    assert cheap_rewards[0] > rewards[0], "a cheap reward would win"
    assert evaluator.best.reward == rewards[0]
    assert evaluator.exhausted and evaluator.cost == pytest.approx(3.0)
    assert len(evaluator.evaluated[1]) == 1, "what was found is what was found at the full fidelity"
    assert np.array_equal(full.metrics["time_ns"], problem.evaluate(designs[:1])[0].metrics["time_ns"])


@given(
    st.lists(st.tuples(st.sampled_from([None, "third", "ninth"]), st.integers(1, 7)), max_size=30), st.integers(1, 9)
)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("cache", [True, False])
def test_a_budget_is_never_overdrawn_and_whatever_the_order_adds_up(cache, asks, budget):
    with rungs.registered():
        problem = make_problem("rungs/light")
    evaluator = Evaluator(problem, budget=budget, several_fidelities=True, cache=cache)
    designs, paid = problem.space.sample(300, 1), 0.0
    for number, (fidelity, count) in enumerate(asks):
        try:
            told, _, _ = evaluator.evaluate(designs[10 * number :][:count], fidelity=fidelity)
        except BudgetExhausted:
            assert evaluator.exhausted
            break
        if not cache:
            paid += len(told) * rungs.COSTS[fidelity or "whole"]
            assert evaluator.cost == pytest.approx(paid)
        assert len(told) == count or evaluator.exhausted, "the run ends with the first design that cannot be paid"
    assert evaluator.cost <= budget + 1e-9 and evaluator.used == int(np.ceil(evaluator.cost - 1e-9))


def test_an_unknown_fidelity_and_one_at_the_wrong_door_are_refused(problem):
    with pytest.raises(ArchGymError, match="fidelity"):
        Evaluator(problem, budget=3, several_fidelities=True).evaluate([[0] * 5], fidelity="tenth")
    with pytest.raises(ArchGymError, match="fidelity"):
        Evaluator(problem, budget=3).evaluate([[0] * 5], fidelity="third")


@pytest.mark.parametrize("agent", QUICK)
def test_trials_say_their_fidelity_and_cost(problem, agent, tmp_path):
    log = tmp_path / "run.arrows"
    result = search(problem, make_agent(agent, problem, 0), 40, log=log)
    table = read_trials(log).to_pandas()
    assert set(table.fidelity) == {"", "ninth", "third"}
    assert table.cost.tolist() == [rungs.COSTS[name or "whole"] for name in table.fidelity]
    assert table.cost.sum() == pytest.approx(result.cost) and result.cost <= 40 < result.cost + 1
    assert len(table) == result.simulated > 80
    full = table[table.fidelity == ""]
    assert result.best.reward == full.reward.max()
    assert result.best.reward < table.reward.max(), "a cheap reward does not count"
    # A dataset takes them as trials of the problems that they are of.
    dataset = Dataset(log)
    assert sorted(info.options.get("fidelity", "") for info in dataset.problems.values()) == ["", "ninth", "third"]
    for info, rows, _ in dataset.groups():
        made = info.make()
        assert made.fidelity == info.options.get("fidelity")
        again, rewards = made.evaluate(TrialSchema(made, {}).designs(rows))
        assert np.array_equal(rewards, rows.column("reward").to_numpy())


def test_runs_at_one_fidelity_log_as_before(problem, tmp_path):
    search(problem, make_agent("random", problem, 0), 20, log=tmp_path / "a.arrows")
    schema, _, _ = read_shard(tmp_path / "a.arrows")
    assert "fidelity" not in schema.names and "cost" not in schema.names
    assert b"fidelities" not in schema.metadata[b"archgym"]
    plain = make_problem("synthetic/rugged")
    search(plain, make_agent("hyperband", plain, 0), 20, log=tmp_path / "b.arrows")
    assert "cost" not in read_shard(tmp_path / "b.arrows")[0].names


@pytest.mark.parametrize("agent", MULTI)
def test_a_torn_run_goes_on_to_the_same_result(problem, agent, tmp_path):
    whole = tmp_path / "whole.arrows"
    first = search(problem, make_agent(agent, problem, 1), 30, log=whole, batch=7)
    data = whole.read_bytes()
    for cut in (len(data) // 2, len(data) // 3):
        torn = tmp_path / f"torn{cut}.arrows"
        torn.write_bytes(data[:cut])
        again = search(problem, make_agent(agent, problem, 1), 30, log=torn, resume=True, batch=7)
        assert again.best.reward == first.best.reward and again.cost == first.cost
        frames = [read_trials(path).drop_columns(list(CLOCK_COLUMNS)).to_pandas() for path in (torn, whole)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    with pytest.raises(ArchGymError, match="holds 30 evaluations, more than the budget of 10"):
        search(problem, make_agent(agent, problem, 1), 10, log=whole, resume=True)


@pytest.mark.parametrize("agent", MULTI)
def test_the_contract_holds_where_there_are_several_fidelities(problem, agent):
    from archgym.agents.base import load_agent

    shorter = 1 if agent in QUICK else 3
    check_agent(load_agent(agent), problem, budget=60 // shorter)
    check_resume(load_agent(agent), problem, budget=45 // shorter)


@pytest.mark.parametrize("agent", MULTI)
def test_it_does_not_matter_how_asks_are_cut(problem, agent):
    budget = 50 if agent in QUICK else 15
    whole = search(problem, make_agent(agent, problem, 3), budget)
    cut = search(problem, make_agent(agent, problem, 3), budget, batch=5)
    assert whole.improvements == cut.improvements and whole.cost == cut.cost


def test_the_brackets_are_those_of_the_paper(problem):
    agent = make_agent("hyperband", problem, 0)
    asked = []
    while len(asked) < 8:
        designs = agent.ask(1000)
        asked.append((agent.fidelity, len(designs)))
        agent.tell(designs, *problem.evaluate(designs, fidelity=agent.fidelity))
    # One in full before all others; then Li et al. with eta = 3 and R = 9 in units of the cheapest.
    assert asked.pop(0) == (None, 1)
    assert asked == [("ninth", 9), ("third", 3), (None, 1), ("third", 5), (None, 1), (None, 3), ("ninth", 9)]


def test_fidelities_can_be_left_out(problem):
    for agent, names in (("hyperband", {None, "third"}), ("bohb", {None, "third"})):
        found = set()
        made = make_agent(agent, problem, 0, rungs=2)
        for _ in range(12):
            designs = made.ask(1000)
            found.add(made.fidelity)
            made.tell(designs, *problem.evaluate(designs, fidelity=made.fidelity))
        assert found == names
    alone = search(problem, make_agent("bohb", problem, 0, rungs=1), 30)
    assert alone.evaluations == alone.simulated == 30


def test_those_that_go_on_are_the_best_of_a_rung(problem):
    agent = make_agent("hyperband", problem, 0)
    agent.tell(agent.ask(1), *problem.evaluate(agent.ask(1)))
    designs = agent.ask(1000)
    evaluation, rewards = problem.evaluate(designs, fidelity=agent.fidelity)
    agent.tell(designs, evaluation, rewards)
    kept = agent.ask(1000)
    best = designs[np.argsort(-rewards, kind="stable")[:3]]
    assert sorted(map(tuple, kept)) == sorted(map(tuple, best))


class Blunt(Agent):
    """Asks at a fidelity that the budget cannot pay to the end."""

    name = "blunt"
    several_fidelities = True

    def ask(self, n):
        self.fidelity = None if self.fidelity else "ninth"
        return self.space.sample(5, self.rng)

    def tell(self, designs, evaluation, rewards):
        assert len(designs), "an agent hears of designs"


def test_a_run_ends_where_the_rest_of_the_budget_pays_nothing(problem):
    result = search(problem, Blunt(problem, 0), 8)
    assert 7 < result.cost <= 8 and result.evaluations == 8


def test_a_model_learns_what_is_good(problem):
    """On a smooth landscape whose fidelities are a little off, bohb is nearer to the optimum than hyperband, for the same cost."""
    heavy = make_problem("rungs/heavy")
    found = {
        name: np.mean([search(heavy, make_agent(name, heavy, seed), 25).best.reward for seed in range(9)])
        for name in ("hyperband", "bohb")
    }
    assert found["bohb"] > found["hyperband"]


@given(st.integers(1, 9), st.booleans(), st.floats(0.02, 1.0))
@settings(max_examples=40, deadline=None)
def test_kernels_are_distributions_that_reach_every_value(count, ordered, width):
    from archgym.agents.bohb import _kernel

    kernel = _kernel(count, ordered, width)
    assert kernel.shape == (count, count) and np.allclose(kernel.sum(axis=1), 1)
    assert (kernel > 0).all() and np.allclose(kernel.diagonal(), kernel.max(axis=1)), "of none is another likelier"


def test_the_smallest_budget_has_a_result(problem):
    for agent in MULTI:
        assert search(problem, make_agent(agent, problem, 0), 1).best.evaluations == 1


def test_reports_and_exports_take_what_counts(problem, tmp_path):
    from archgym.datasets.merge import merge
    from archgym.exporting.source import from_trials
    from archgym.reports.data import anytime, load_report

    first = search(problem, make_agent("bohb", problem, 0), 30, log=tmp_path / "trials" / "a.arrows")
    other = search(problem, make_agent("random", problem, 1), 30, log=tmp_path / "trials" / "b.arrows")
    merged = merge([tmp_path / "trials"], tmp_path / "merged")
    assert merged["rows_in"] == first.simulated + 30
    for folder in (tmp_path / "trials", tmp_path / "merged"):
        (report,) = load_report(folder)
        mine, theirs = report.of("bohb")[0], report.of("random")[0]
        assert len(theirs.best) == 30 and theirs.best[-1] == other.best.reward
        assert mine.best[-1] == first.best.reward and len(mine.best) <= 30
        for at, reward in first.improvements:
            assert mine.best[at - 1] == reward
        assert np.isfinite(anytime(report.runs)[1][:, -1]).all()
        assert (
            from_trials(folder, "best")[1]
            == problem.space.decode(max(first.best, other.best, key=lambda b: b.reward).design)[0]
        )


def test_a_sum_of_costs_does_not_drift():
    tenths = np.full(1_000_000, 0.1)
    assert (used_after(tenths)[9::10] == np.arange(1, 100_001)).all()
    mixed = np.random.default_rng(0).choice([0.0, 1 / 3, 1.0], 999)
    counts = np.cumsum(mixed[:, None] == [1 / 3, 1.0], axis=0)
    assert (used_after(mixed) == -(-(counts @ [1, 3]) // 3)).all()


def test_a_metric_may_be_called_cost(tmp_path):
    from archgym.exporting.source import from_trials
    from archgym.reports.data import load_report

    class Priced(rungs.Rungs):
        name, default_objective, metrics = "priced", "cost", (Metric("cost", "usd", "min"),)

        def cheaper_fidelities(self, workload, fidelity=None):
            return ()

        def evaluate(self, designs, workload, *, fidelity=None, seed=None):
            return Evaluation.build({"cost": 2.0 + rungs.SPACE.check(designs).sum(axis=1)})

    SIMULATORS.register("priced", Priced)
    try:
        problem = make_problem("priced/light")
        result = search(problem, make_agent("random", problem, 0), 40, log=tmp_path / "a.arrows")
        (report,) = load_report(tmp_path)
        assert len(report.trials) == 40 and report.runs[0].best[-1] == result.best.reward
        assert problem.space.encode(from_trials(tmp_path, "best")[1])[0].tolist() == result.best.design.tolist()
    finally:
        SIMULATORS.unregister("priced")


def test_the_command_line_says_what_was_simulated(tmp_path):
    import json

    from click.testing import CliRunner

    from archgym.cli import main

    folder = str(tmp_path / "run")
    command = ["run", "nas/nb201-mnist1d", "--agent", "bohb", "--budget", "30", "--out", folder]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0 and "of several fidelities" in done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())["runs"][0]
    assert run["cost"] <= 30 == run["evaluations"] < run["simulated"]
    more = CliRunner().invoke(main, [*command[:5], "40", *command[6:], "--resume", "--json"], catch_exceptions=False)
    assert more.exit_code == 0 and json.loads(more.stdout)["runs"][0]["reward"] >= run["reward"]


def test_the_climbing_genetic_algorithm_only_goes_up(problem):
    agent = make_agent("mfga", problem, 0, patience=1, cheapest=0.0)
    asked = []
    for _ in range(200):
        designs = agent.ask(1000)
        asked.append((agent.fidelity, len(designs)))
        agent.tell(designs, *problem.evaluate(designs, fidelity=agent.fidelity))
    assert asked[:2] == [(None, 1), ("ninth", 16)], "the smallest budget has a result"
    evolved = [rungs.COSTS[name or "whole"] for name, count in asked if count > 1]
    assert evolved == sorted(evolved) and set(evolved) == set(rungs.COSTS.values())
    assert asked[-1] == (None, 8), "at the top it is a genetic algorithm"
    promoted = sum(count for name, count in asked if name is None and count == 1)
    cheap = sum(count * rungs.COSTS[name] for name, count in asked if name)
    assert promoted <= cheap + 1, "half of the cost goes to designs in full"
