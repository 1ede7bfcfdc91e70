"""Design spaces: encodings, canonical forms, constraints, enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.space import Constraint, DesignSpace, Inactive, Parameter, Permutation, boolean, linear_grid, log_grid
from archgym.testing import check_space

_values = st.one_of(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=9, unique=True),
    st.lists(st.floats(-1e6, 1e6).map(lambda x: x + 0.5), min_size=1, max_size=9, unique=True),
    st.lists(st.text("abcdefgh_", min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    st.just([False, True]),
)


@st.composite
def spaces(draw):
    lists = draw(st.lists(_values, min_size=1, max_size=6))
    return DesignSpace([Parameter(f"p{i}", tuple(v), ordered=draw(st.booleans())) for i, v in enumerate(lists)])


@settings(max_examples=150, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_encodings_round_trip_over_random_spaces(space, seed):
    check_space(space, samples=20, seed=seed)
    ranks = np.random.default_rng(seed).integers(0, space.size, 20)
    assert np.array_equal(space.rank(space.unrank(ranks)), ranks)


@settings(max_examples=50, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_every_level_has_equal_volume_in_the_unit_cube(space, seed):
    points = (np.arange(2520) + 0.5) / 2520  # divisible by every count up to 10
    for j, count in enumerate(space.nvec):
        cube = np.full((2520, space.dimension), 0.5)
        cube[:, j] = points
        levels = np.bincount(space.from_unit(cube)[:, j], minlength=count)
        assert (levels == 2520 // count).all()


def test_enumeration_visits_every_design_once():
    space = DesignSpace([Parameter("a", (1, 2, 3)), boolean("b"), Parameter("c", ("x", "y"))])
    rows = np.concatenate(list(space.batches(5)))
    assert len(rows) == space.size == 12
    assert len(np.unique(rows, axis=0)) == 12
    assert np.array_equal(rows, space.unrank(np.arange(12)))


def test_canonical_follows_inactive_rules_and_subspaces_inherit_them():
    space = DesignSpace(
        [Parameter("policy", ("off", "on"), ordered=False), Parameter("limit", (1, 2, 4))],
        inactive=[Inactive("limit", lambda x: x[:, 0] == 0)],
        constraints=[Constraint("no_four", "limit 4 needs off", lambda x: (x[:, 1] < 2) | (x[:, 0] == 0))],
    )
    assert space.canonical([[0, 2], [1, 2]]).tolist() == [[0, 0], [1, 2]]
    assert space.violations([[0, 2], [1, 2]]).tolist() == ["", "no_four"]
    sub = space.restrict({"limit": [2, 4]})
    assert sub.size == 4
    assert sub.lift([[1, 1]]).tolist() == [[1, 2]]
    assert sub.violations([[1, 1]]).tolist() == ["no_four"]
    assert sub.canonical([[0, 1]]).tolist() == [[0, 0]]
    assert (space.sample(500, 0, feasible=True)[:, 1] < 2).any()
    assert (space.violations(space.sample(500, 0, feasible=True)) == "").all()


def test_a_sub_space_keeps_the_rules_of_its_parent():
    """Two interchangeable units, a parameter whose representative is not its first value, and a repair."""
    space = DesignSpace(
        [
            Parameter("a", (1, 2, 4)),
            Parameter("b", (1, 2, 4)),
            Parameter("mode", ("off", "on")),
            Parameter("k", (1, 2, 3)),
        ],
        constraints=[Constraint("sum", "a + b stays below 8", lambda x: x[:, 0] + x[:, 1] < 4)],
        inactive=[Inactive("k", lambda x: x[:, 2] == 0, index=2)],
        canonicalize=lambda x: np.column_stack([np.sort(x[:, :2], axis=1), x[:, 2:]]),
        repair=lambda x: np.where((x[:, :2].sum(axis=1) >= 4)[:, None], x - [0, 1, 0, 0], x),
    )
    sub = space.restrict({"k": [2, 3], "a": [2, 4], "b": [2, 4]})
    assert sub.canonical([[1, 0, 1, 0]]).tolist() == [[0, 1, 1, 0]]  # 4, 2 is 2, 4
    assert sub.canonical([[1, 0, 0, 0]]).tolist() == [[0, 1, 0, 1]]  # k has no effect: its representative is 3
    assert sub.has_repair and (sub.violations(sub.repair([[1, 1, 1, 0]])) == "").all()
    uneven = space.restrict({"a": [4], "k": [1, 2]})  # holds neither the sorted pairs nor the representative of k
    rows = next(iter(uneven.batches()))
    assert (uneven.lift(uneven.canonical(rows))[:, 0] == 2).all()
    # Whatever the sub-space calls equal, its parent does.
    for part in (sub, uneven):
        rows = next(iter(part.batches()))
        assert (space.canonical(part.lift(part.canonical(rows))) == space.canonical(part.lift(rows))).all()
        assert (part.canonical(part.canonical(rows)) == part.canonical(rows)).all()
    with pytest.raises(ArchGymError, match="leaves out"):
        space.restrict({"b": [4]}).repair([[2, 0, 0, 0]])


def test_neighbours_differ_in_one_parameter():
    space = DesignSpace([Parameter("a", tuple(range(5))), Parameter("b", ("x", "y", "z"), ordered=False)])
    near = space.neighbours([2, 0])
    assert len(near) == 4 + 2
    assert ((near != [2, 0]).sum(axis=1) == 1).all()
    steps = space.neighbours([2, 0], ordered_steps=True)
    assert sorted(map(tuple, steps.tolist())) == [(1, 0), (2, 1), (2, 2), (3, 0)]


def test_grids_are_declared():
    assert linear_grid("v", 0.0, 1.0, 5).values == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert log_grid("f", 1.0, 100.0, 3).values == pytest.approx((1.0, 10.0, 100.0))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Parameter("p", ()), "no values"),
        (lambda: Parameter("p", (1, 2, 1)), "twice"),
        (lambda: DesignSpace([]), "at least one"),
        (lambda: DesignSpace([boolean("a"), boolean("a")]), "'a' is listed twice"),
        (lambda: DesignSpace([boolean("a")]).check([[2]]), "index 2 for 'a'"),
        (lambda: DesignSpace([boolean("a")]).check([[-1]]), "expected 0..1"),
        (lambda: DesignSpace([boolean("a")]).check([[0, 1]]), r"shape \(1, 2\)"),
        (lambda: DesignSpace([boolean("a")]).check([[0.5]]), "dtype float64"),
        (lambda: DesignSpace([Parameter("size", ("big", "small"))]).encode({"size": "bigg"}), "did you mean 'big'"),
        (lambda: DesignSpace([boolean("alpha")]).encode({"alpa": True}), "did you mean 'alpha'"),
        (lambda: DesignSpace([boolean("a")]).encode({}), "lacks 'a'"),
        (lambda: DesignSpace([boolean("a")]).repair([[0]]), "no repair"),
    ],
)
def test_bad_input_gets_one_sentence(make, sentence):
    with pytest.raises(ArchGymError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- permutations, and rules over values ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(_values, st.integers(0, 2**32))
def test_permutations_are_parameters_like_others(items, seed):
    order = Permutation("order", tuple(items))
    space = DesignSpace([Parameter("size", (1, 2, 4)), order, boolean("fast")])
    check_space(space, samples=20)
    designs = space.sample(20, seed)
    orders = space.by_name(designs)["order"]
    assert orders.shape == (20, len(items)) and set(space.by_name(designs)) == {"size", "order", "fast"}
    named = space.named(designs)
    assert all(sorted(map(str, row["order"])) == sorted(map(str, items)) for row in named)
    assert np.array_equal(space.encode(named), designs)


def test_every_order_is_one_row_of_indices():
    for count in range(1, 6):
        space = DesignSpace([Permutation("order", tuple(range(count)))])
        designs = next(space.batches())
        orders = {tuple(row) for row in space.by_name(designs)["order"].tolist()}
        assert len(orders) == space.size == len(designs) == math.factorial(count)
    with pytest.raises(ArchGymError, match="each of its 3 items once"):
        DesignSpace([Permutation("order", ("a", "b", "c"))]).encode({"order": ("a", "b", "b")})
    with pytest.raises(ArchGymError, match="twice"):
        DesignSpace([Permutation("order", (1, 2)), Parameter("order", (1, 2))])


def test_agents_order_things():
    from archgym.agents.base import make_agent
    from archgym.agents.search import search
    from archgym.objective import Value as ValueObjective
    from archgym.problem import Problem
    from archgym.simulator import Evaluation, Metric, Simulator, Workload

    class Sorting(Simulator):
        """How many pairs of seven numbers stand in the wrong order."""

        name, version = "sorting", "1"
        metrics = (Metric("inversions", "1", "min"),)

        def workloads(self):
            return {"seven": Workload("seven")}

        def space(self, workload):
            return SEVEN

        def evaluate(self, designs, workload, *, fidelity=None, seed=None):
            order = SEVEN.by_name(designs)["order"]
            wrong = sum((order[:, i] > order[:, j]).astype(float) for i in range(7) for j in range(i + 1, 7))
            return Evaluation.build({"inversions": wrong})

    simulator = Sorting()
    workload = simulator.workloads()["seven"]
    problem = Problem("sorting/seven", simulator, workload, ValueObjective(simulator.metrics[0], -30.0))
    best = {
        name: search(problem, make_agent(name, problem, seed=0), 600).best.reward for name in ("ga", "local", "random")
    }
    assert best["local"] == 0.0 and best["ga"] >= best["random"]


SEVEN = DesignSpace([Permutation("order", (3, 1, 4, 0, 5, 2, 6))])


def test_rules_may_be_written_over_values():
    sizes = [Parameter("sets", (16, 64, 256)), Parameter("ways", (1, 2, 8)), Permutation("order", ("a", "b"))]
    over = DesignSpace(
        sizes,
        [Constraint("fits", "at most 256 lines", lambda v: v["sets"] * v["ways"] <= 256, over="values"),
         Constraint("first", "a stands first", lambda v: v["order"][:, 0] == "a", over="values")],
        [Inactive("ways", lambda v: v["sets"] == 16, "few sets need no ways", over="values")],
    )  # fmt: skip
    designs = next(over.batches())
    sets, ways = np.array([16, 64, 256])[designs[:, 0]], np.array([1, 2, 8])[designs[:, 1]]
    expected = np.where(sets * ways > 256, "fits", np.where(designs[:, 2] == 1, "first", ""))
    assert over.violations(designs).tolist() == expected.tolist()
    assert (over.canonical(designs)[designs[:, 0] == 0, 1] == 0).all()
    assert np.array_equal(over.canonical(designs)[designs[:, 0] > 0], designs[designs[:, 0] > 0])
    part = over.restrict({"sets": [64, 256], "order.0": [0]})
    rows = next(part.batches())
    assert part.violations(rows).tolist() == over.violations(part.lift(rows)).tolist()
    assert part.named(rows)[0] == {"sets": 64, "ways": 1, "order": ("a", "b")}
