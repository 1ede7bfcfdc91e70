"""Compiled or not, agents propose the same designs, by the same numbers."""

from __future__ import annotations

import random
import threading

import numba
import numpy as np
import pytest
from deap.tools import selection

from archgym.agents import make_agent, moves
from archgym.agents.deap_support import OwnRandom
from archgym.agents.moves import Mover, Stagnation, compiled, tournament
from archgym.agents.starting import Fresh
from archgym.evaluator import Evaluator
from archgym.problem import make_problem
from archgym.space import Constraint, DesignSpace, Inactive, Parameter


@pytest.fixture
def both(monkeypatch):
    """A function that calls another without compiled code and with it, and returns both results."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(moves, "_kernels", None)
            patch.setattr(numba.config, "DISABLE_JIT", True)
            assert compiled() is None
            plain = function()
        assert compiled() is not None
        return plain, function()

    return call


def _space(levels=(4, 1, 30, 2, 9), **rules):
    return DesignSpace([Parameter(f"p{j}", tuple(range(n)), ordered=j != 3) for j, n in enumerate(levels)], **rules)


def _end(rng):
    """The rest of a generator: a number of 32 bits is left over after an odd count of them."""
    return rng.bit_generator.state


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("changes", [1, 3, 9])
@pytest.mark.parametrize("reach", [0.3, 1.0])
@pytest.mark.parametrize("levels", [(4, 1, 30, 2, 9), (1, 12, 1, 1, 1), (1, 1), (2**31 + 7, 3 * 2**30 + 1)])
def test_moves(both, levels, reach, changes, n):
    # (Parameters of billions of values stand for those on which Lemire's method draws twice.)
    space = _space([min(level, 5) for level in levels])
    mover = Mover(space, reach)
    big = np.array(levels)
    mover._nvec, mover._counts = big, big.tolist()
    designs = space.sample(n, 0)

    def moved():
        rng, made = np.random.default_rng(1), designs
        for _ in range(5):
            made = mover(made, changes, rng)
        return made.tolist(), _end(rng)

    plain, fast = both(moved)
    assert plain == fast


@pytest.mark.parametrize("size", [1, 8])
def test_tournaments(both, size):
    rewards = np.random.default_rng(0).integers(0, 6, 21).astype(float)  # with ties

    def winners():
        rng = np.random.default_rng(2)
        return [tournament(rewards, 7, size, rng).tolist() for _ in range(20)], _end(rng)

    plain, fast = both(winners)
    assert plain == fast


RULED = {
    "constraints": [Constraint("sum", "", lambda x: x[:, 0] + x[:, 4] <= 6)],
    "inactive": [Inactive("p2", lambda x: x[:, 3] == 0, index=3)],
    "canonicalize": lambda x: np.concatenate([np.minimum(x[:, :1], 2), x[:, 1:]], axis=1),
}


@pytest.mark.parametrize("rules", [[], ["constraints"], ["inactive", "canonicalize"], [*RULED]])
def test_children_are_renewed(both, rules):
    space = _space((4, 1, 5, 2, 9), **{name: RULED[name] for name in rules})  # 360 designs: soon hardly one is new

    def renewed():
        rng = np.random.default_rng(4)
        fresh, move, other, made = Fresh(space, rng), Mover(space, 0.5), np.random.default_rng(5), []
        parents = fresh.first(12)
        for k in range(20):
            made += fresh(space.sample(12, rng), parents).tolist()
            made += fresh.moved(move, parents, 1 + k % 2, rng if k % 3 else other).tolist()
            parents = fresh.noted(space.sample(12, rng))
        return made, _end(rng), _end(other)

    plain, fast = both(renewed)
    assert plain == fast


def test_many_designs_are_remembered(both):
    space = _space((40, 40))

    def stale():
        rng, stagnates = np.random.default_rng(0), Stagnation(1)
        return [stagnates(space.sample(200, rng)) for _ in range(30)]

    plain, fast = both(stale)
    assert plain == fast and {True, False} == set(fast)


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("sa", {}),
        ("re", {"mutations": 2}),
        ("aco", {"greediness": 0.4}),
        ("ga", {}),
        ("ga", {"elites": 0, "population": 40, "informed": False}),
        ("nsga2", {}),
        ("local", {}),
    ],
)
def test_agents(both, name, hyperparameters):
    problem = make_problem("synthetic/rugged")

    def run():
        agent = make_agent(name, problem, 3, **hyperparameters)
        with Evaluator(problem, budget=300, seed=3) as evaluator:
            agent.run(evaluator, 7)
            return evaluator.improvements, evaluator.trials, _end(agent.rng)

    plain, fast = both(run)
    assert plain == fast


def test_deap_draws_for_one_thread_at_a_time():
    first, second = OwnRandom(np.random.default_rng(0)), OwnRandom(np.random.default_rng(1))
    drawn = []

    def other():
        with second as own:
            drawn.append(selection.random is own)

    thread = threading.Thread(target=other)
    with first as own:
        thread.start()
        thread.join(0.05)
        assert selection.random is own and not drawn
    thread.join(60)
    assert drawn == [True] and selection.random is random
