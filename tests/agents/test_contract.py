"""Every registered agent keeps the contract, whatever the problem is like."""

import tempfile

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.base import hyperparameter_ranges, load_agent
from archgym.errors import ArchGymError
from archgym.problem import Problem, make_problem
from archgym.registry import AGENTS
from archgym.simulators.synthetic import Landscape, Synthetic
from archgym.space import Constraint, DesignSpace, Parameter
from archgym.testing import check_agent, check_resume

SLOW_AGENTS = {
    name
    for name in AGENTS
    if name
    in (
        "bo",
        "mfbo",
        "parego",
        "portfolio",
        "tpe",
        "bohb",
        "cmaes",
        "botorch",
        "qnehvi",
        "ppo",
        "a2c",
        "dqn",
        "sac",
        "maskable-ppo",
        "transfer",
        "diffusion",
        "cio",
    )
}
BUDGET = {name: 60 if name in SLOW_AGENTS else 300 for name in AGENTS} | {
    "botorch": 40,
    "qnehvi": 30,
}  # bo and parego with slower models


def load(name):
    try:
        return load_agent(name)
    except ArchGymError as error:
        pytest.skip(str(error))


def problem_of(space, loss):
    simulator = Synthetic()
    landscape = Landscape("test", "for a test", space, loss, np.zeros(space.dimension))
    return Problem("synthetic/test", simulator, landscape, simulator.objectives(landscape)["loss"])


def mixed_space(constraints=()):
    return DesignSpace(
        [
            Parameter("size", (1, 2, 4, 8, 16)),
            Parameter("policy", ("open", "closed", "adaptive"), ordered=False),
            Parameter("fixed", (3,)),
            Parameter("flag", (False, True), ordered=False),
            *(Parameter(f"x{j}", tuple(range(6))) for j in range(4)),
        ],
        constraints,
    )


def small_sum(designs):
    return designs.sum(axis=1).astype(float)


@pytest.mark.parametrize("name", AGENTS)
def test_keeps_the_contract_on_a_mixed_space(name, tmp_path, monkeypatch):
    agent = load(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    check_agent(agent, problem_of(mixed_space(), small_sum), budget=BUDGET[name])
    # torch's own cache, made once on a machine, is not the agent's.
    left = [file.name for file in tmp_path.iterdir() if not file.name.startswith("torchinductor")]
    assert not left, "an agent leaves no temporary files behind"


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in ("botorch", "qnehvi")])
def test_goes_on_with_a_larger_budget(name):
    # (These are bo and parego with other models, at minutes a run.)
    check_resume(load(name), problem_of(mixed_space(), small_sum), budget=60 if name in SLOW_AGENTS else 200)


@pytest.mark.parametrize("name", AGENTS)
def test_survives_a_space_in_which_nothing_is_feasible(name):
    never = Constraint("never", "no design is allowed", lambda designs: np.zeros(len(designs), dtype=bool))
    problem = problem_of(mixed_space([never]), small_sum)
    result = search(problem, load(name)(problem, 0), BUDGET[name])
    assert result.evaluations == BUDGET[name]
    assert result.best.reward == problem.objective.penalty


@pytest.mark.parametrize("name", AGENTS)
def test_survives_equal_rewards(name):
    problem = problem_of(mixed_space(), lambda designs: np.ones(len(designs)))
    assert search(problem, load(name)(problem, 0), BUDGET[name]).evaluations == BUDGET[name]


@pytest.mark.parametrize("name", AGENTS)
def test_survives_a_space_of_one_design(name):
    problem = problem_of(DesignSpace([Parameter("a", (1,)), Parameter("b", ("only",), ordered=False)]), small_sum)
    result = search(problem, load(name)(problem, 0), 50)
    assert result.evaluations == 1 and result.best.reward == 0.0


@pytest.mark.parametrize("name", AGENTS)
def test_visits_every_design_of_a_tiny_space_or_gives_up(name):
    problem = problem_of(DesignSpace([Parameter("a", (0, 1, 2)), Parameter("b", (0, 1), ordered=False)]), small_sum)
    result = search(problem, load(name)(problem, 0), 20)
    assert 1 <= result.evaluations <= 6
    assert result.best.reward == 0.0


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in SLOW_AGENTS])
def test_does_not_depend_on_how_asks_are_cut(name):
    problem = make_problem("synthetic/rugged")
    whole = search(problem, make_agent(name, problem, 3), 250, batch=1024)
    cut = search(problem, make_agent(name, problem, 3), 250, batch=7)
    if name == "bo":
        pytest.skip("learns after each batch")
    assert whole.best.reward == cut.best.reward
    assert whole.best.index == cut.best.index


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in SLOW_AGENTS])
@pytest.mark.parametrize("extreme", ["low", "high"])
def test_hyperparameters_at_the_ends_of_their_ranges_work(name, extreme):
    ranges = hyperparameter_ranges(load(name))
    values = {key: about[extreme] for key, about in ranges.items() if about.get(extreme) is not None}
    problem = make_problem("synthetic/rugged")
    assert search(problem, make_agent(name, problem, 0, **values), 100).evaluations == 100


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in SLOW_AGENTS])
def test_every_level_of_every_parameter_is_reached(name):
    problem = problem_of(mixed_space(), lambda designs: np.ones(len(designs)))
    agent, tried = make_agent(name, problem, 0), []
    # Grid search only comes to all levels with its last, finest grid.
    for _ in range(1000 if name == "grid" else 60):
        designs = agent.ask(64)
        tried.append(designs.copy())
        agent.tell(designs, *problem.evaluate(designs))
    tried = np.concatenate(tried)
    assert [len(np.unique(column)) for column in tried.T] == problem.space.nvec.tolist()


def test_hyperparameters_out_of_range_are_refused_in_one_sentence():
    problem = make_problem("synthetic/separable")
    with pytest.raises(ArchGymError, match="population is 1; expected 2..1024, a whole number"):
        make_agent("ga", problem, population=1)
    with pytest.raises(ArchGymError, match="whole number"):
        make_agent("ga", problem, population=2.5)
    with pytest.raises(ArchGymError, match="did you mean 'population'"):
        make_agent("ga", problem, populaton=4)
    assert make_agent("ga", problem, population=32.0).p == make_agent("ga", problem, population=32).p
