"""Every design survives the way into each optimiser's own space and back, and so does every point that it draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.space import DesignSpace, Parameter

_values = st.one_of(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=9, unique=True),
    st.lists(st.floats(-1e6, 1e6).map(lambda x: x + 0.5), min_size=1, max_size=9, unique=True),
    st.lists(st.text("abc_é '1", min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    st.just([False, True]),
    st.just([4, "auto", 2.5]),
    st.just([True, "some"]),
)


@st.composite
def made_spaces(draw):
    lists = draw(st.lists(_values, min_size=1, max_size=5))
    return DesignSpace([Parameter(f"p {i}", tuple(v), ordered=draw(st.booleans())) for i, v in enumerate(lists)])


@cache
def registered(name):
    simulator = SIMULATORS.load(name)()
    return simulator.space(next(iter(simulator.workloads().values())))


PLAIN = [name for name in SIMULATORS if name not in ("nas", "codesign")]  # (those build tables first)
spaces = st.one_of(made_spaces(), st.sampled_from(PLAIN).map(registered))


def optuna(space, design, seed):
    from optuna import create_study
    from optuna.samplers import RandomSampler
    from optuna.trial import FixedTrial

    assert space.to_optuna(FixedTrial(space.to_point(design))).tolist() == design.tolist()
    study = create_study(sampler=RandomSampler(seed=seed))
    drawn = study.ask()
    first = space.to_optuna(drawn)
    study.enqueue_trial(space.to_point(design))
    assert space.to_optuna(study.ask()).tolist() == design.tolist()
    return [(first, drawn.params)]


def configspace(space, design, seed):
    from ConfigSpace import Configuration

    made = space.to_configspace(seed)
    given = Configuration(made, values=space.to_point(design))
    assert space.from_point(dict(given)).tolist() == design.tolist()
    return [(None, dict(made.sample_configuration()))]


def nevergrad(space, design, seed):
    made = space.to_nevergrad()
    made.random_state = np.random.RandomState(seed)
    child = made.spawn_child(new_value=space.to_point(design))
    assert space.from_point(child.value).tolist() == design.tolist()
    return [(None, made.sample().value)]


def pymoo(space, design, seed):
    variables = space.to_pymoo()
    assert list(variables) == list(space.names)
    assert space.from_point(space.to_point(design)).tolist() == design.tolist()
    return [(None, {name: v.sample(n=1, random_state=np.random.default_rng(seed))[0] for name, v in variables.items()})]


def skopt(space, design, seed):
    from skopt.space import Space

    made = Space(space.to_skopt())
    point = list(space.to_point(design).values())
    assert point in made
    assert space.from_point(made.inverse_transform(made.transform([point]))[0]).tolist() == design.tolist()
    return [(None, made.rvs(1, random_state=seed)[0])]


LIBRARIES = {"optuna": optuna, "ConfigSpace": configspace, "nevergrad": nevergrad, "pymoo": pymoo, "skopt": skopt}


@pytest.mark.parametrize("library", LIBRARIES)
def test_designs_and_points_go_there_and_back(library):
    pytest.importorskip(library)

    @settings(max_examples=25, deadline=None)
    @given(spaces, st.integers(0, 2**31 - 1))
    def check(space, seed):
        design = space.sample(1, seed)[0]
        for expected, point in LIBRARIES[library](space, design, seed):
            back = space.from_point(point)
            space.check(back)
            assert expected is None or back.tolist() == expected.tolist()
            assert space.from_point(space.to_point(back)).tolist() == back.tolist()

    check()


@pytest.mark.parametrize("library", ["nevergrad", "pymoo", "skopt"])
def test_every_level_is_drawn(library):
    pytest.importorskip(library)
    space = DesignSpace(
        [Parameter("a", (1, 2, 4)), Parameter("b", ("x", "y", "z"), ordered=False), Parameter("c", (7,))]
    )
    design = space.sample(1, 0)[0]
    drawn = [space.from_point(LIBRARIES[library](space, design, seed)[0][1]) for seed in range(60)]
    assert [len(set(column)) for column in np.array(drawn).T.tolist()] == [3, 3, 1]


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        ({"a": 3, "b": "x"}, r"a has the entry 3; expected an index 0\.\.2"),
        ({"a": 0.5, "b": "x"}, "expected an index"),
        ({"a": float("nan"), "b": "x"}, "expected an index"),
        ({"a": "1", "b": "x"}, "expected an index"),
        ({"a": 0, "b": "w"}, "value of b"),
        ({"a": 0}, "lacks 'b'"),
        ({"a": 0, "b": "x", "bb": 1}, "did you mean 'b'"),
        ([0], "1 entries; expected 2"),
    ],
)
def test_a_point_of_another_space_is_refused(point, sentence):
    space = DesignSpace([Parameter("a", (1, 2, 4)), Parameter("b", ("x", "y"), ordered=False)])
    with pytest.raises(ArchGymError, match=sentence):
        space.from_point(point)
    assert space.from_point([2.0, "y"]).tolist() == [2, 1]


def test_a_problem_offers_its_space():
    problem = make_problem("synthetic/rugged")
    assert problem.space.from_point(problem.space.to_point(problem.space.sample(1, 0))).shape == (
        problem.space.dimension,
    )
