"""Contract checks over everything that is registered: a new entry is tested without a line of test code."""

from __future__ import annotations

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import archgym
from archgym.envs.registration import ENVIRONMENTS
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.testing import check_objective, check_simulator

BUILTIN = [name for name in SIMULATORS if name != "bowl"]
SPACES = [(name, space) for name in BUILTIN for space in SIMULATORS.load(name).spaces]
IDS = [env_id for env_id, kind in ENVIRONMENTS.items() if kind in SIMULATORS]


@pytest.mark.parametrize(("name", "space"), SPACES, ids=[f"{n}-{s}" for n, s in SPACES])
def test_simulators_keep_their_contract(name, space):
    check_simulator(SIMULATORS.load(name)(space=space), samples=16)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_objective_is_finite_and_failure_never_wins(name):
    problem = make_problem(name)
    evaluation, rewards = problem.evaluate(problem.space.sample(64, 0))
    assert np.isfinite(rewards).all()
    for text in [None, *problem.simulator.objectives(problem.workload)]:
        check_objective(make_problem(name, objective=text).objective, evaluation)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_problem_is_made_again_from_its_options(name):
    problem = make_problem(name)
    again = make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    designs = problem.space.sample(4, 1)
    assert np.array_equal(problem.evaluate(designs)[1], again.evaluate(designs)[1])
    assert problem.workload.fingerprint == again.workload.fingerprint


@pytest.mark.parametrize("mode", ["design", "construct", "edit"])
@pytest.mark.parametrize("env_id", IDS)
def test_check_env_passes_without_a_warning(env_id, mode):
    archgym.register_environments()
    env = gymnasium.make(env_id, action_mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", ["design", "edit"])
@pytest.mark.parametrize("env_id", IDS)
def test_sb3_check_env_passes(env_id, mode):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gymnasium.make(env_id, action_mode=mode).unwrapped, warn=True)


@pytest.mark.parametrize("env_id", IDS)
def test_make_vec_equals_make(env_id):
    vector = gymnasium.make_vec(env_id, num_envs=3)
    observations, _ = vector.reset(seed=5)
    vector.action_space.seed(0)
    actions = vector.action_space.sample()
    stepped = vector.step(actions)
    for i in range(3):
        env = gymnasium.make(env_id)
        assert np.array_equal(env.reset(seed=5 + i)[0], observations[i])
        observation, reward, *_ = env.step(actions[i])
        assert np.array_equal(observation, stepped[0][i])
        assert reward == stepped[1][i]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("render", ["ansi", "rgb_array"])
@pytest.mark.parametrize("mode", ["design", "construct"])
def test_every_environment_can_be_looked_at(env_id, render, mode):
    if render == "rgb_array":
        pytest.importorskip("matplotlib")
    env = gymnasium.make(env_id, render_mode=render, action_mode=mode)
    env.reset(seed=0)
    env.action_space.seed(1)  # with 0 the action would be the initial design
    pictures = [env.render()]
    env.step(env.action_space.sample() if mode == "design" else 0)
    pictures.append(env.render())
    for picture in pictures:
        if render == "ansi":
            assert isinstance(picture, str) and env.unwrapped.problem.space.names[0] in picture
        else:
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.std() > 5
    assert not np.array_equal(*pictures) if render == "rgb_array" else pictures[0] != pictures[1]
