"""Everything public pickles, copies and deep-copies: collected from the registries."""

from __future__ import annotations

import copy
import pickle
import warnings

import gymnasium
import numpy as np
import pytest

import archgym
from archgym.agents import make_agent, search
from archgym.agents.base import Agent, load_agent
from archgym.datasets import Dataset, read_trials
from archgym.envs.registration import ENVIRONMENTS
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.registry import AGENTS, SIMULATORS
from archgym.testing import check_copies

BUILTIN = [name for name in SIMULATORS if name != "bowl"]
SPACES = [(name, space) for name in BUILTIN for space in SIMULATORS.load(name).spaces]
IDS = [env_id for env_id, kind in ENVIRONMENTS.items() if kind in SIMULATORS]
SLOW_MODELS = ("botorch", "qnehvi")  # bo and parego with other models


@pytest.mark.parametrize(("name", "space"), SPACES, ids=[f"{n}-{s}" for n, s in SPACES])
def test_problems_and_their_parts(name, space):
    problem = make_problem(name, space=space)
    designs = problem.space.sample(3, 0)
    check_copies(problem, lambda problem: problem.evaluate(designs))
    check_copies(problem.space, lambda space: [space.canonical(designs), space.violations(designs)])
    check_copies(problem.simulator, lambda simulator: simulator.evaluate(designs, problem.workload))
    check_copies(problem.workload, lambda workload: workload.fingerprint)
    check_copies(problem.objective, lambda objective: objective(problem.evaluate(designs)[0]))
    check_copies(problem.space.restrict({problem.space.names[0]: problem.space.parameters[0].values[:1]}), len)


@pytest.mark.parametrize("mode", ["design", "construct", "edit"])
@pytest.mark.parametrize("env_id", IDS)
def test_environments_mid_episode(env_id, mode):
    archgym.register_environments()
    env = gymnasium.make(env_id, action_mode=mode)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, dtype=np.int64)
    env.step(action)
    check_copies(env, lambda env: [env.step(action)[:4], env.reset()[0]])
    vector = gymnasium.make_vec(env_id, num_envs=2, action_mode=mode)
    vector.reset(seed=0)
    actions = np.zeros(vector.action_space.shape, dtype=np.int64)
    vector.step(actions)
    check_copies(vector, lambda vector: vector.step(actions)[:4])


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in SLOW_MODELS])
def test_agents_mid_run(name):
    try:
        agent = load_agent(name)(make_problem("synthetic/packing"), 0)
    except ArchGymError as error:
        pytest.skip(str(error))
    problem = agent.problem
    if not isinstance(agent, Agent):
        check_copies(agent, lambda agent: agent.rng.random(3))
        return

    def steps(agent, count=3):
        asked = []
        for _ in range(count):
            designs = agent.ask(16)
            asked.append(designs.copy())
            agent.tell(designs, *problem.evaluate(designs))
        return asked

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps(agent, 8)
        check_copies(agent, steps)


def test_datasets(tmp_path):
    problem = make_problem("synthetic/packing")
    result = search(problem, make_agent("random", problem), 20, log=tmp_path / "a.arrows")
    check_copies(Dataset(tmp_path), lambda dataset: dataset.table().num_rows)
    assert pickle.loads(pickle.dumps(result)).best.reward == result.best.reward


def test_copies_of_environments_with_a_log_write_files_of_their_own(tmp_path):
    env = archgym.envs.DesignEnv("synthetic", log=tmp_path)
    env.reset(seed=0)
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for made in (env, *copies, archgym.envs.DesignEnv("synthetic", log=tmp_path)):
        made.reset(seed=1)
        made.step(made.action_space.sample())
        made.close()
    assert sorted(len(read_trials(path)) for path in tmp_path.iterdir()) == [2, 2, 2, 3]
