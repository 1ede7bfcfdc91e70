"""The loop-nest model against brute force, against stored Timeloop runs, and its own invariants."""

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.networks.layers import Layer
from archgym.simulators.accelerator.loopnest import (
    Architecture,
    Batch,
    Level,
    LevelMapping,
    Loop,
    Mapping,
    Problem,
    Tensor,
    evaluate,
    evaluate_batch,
    rule_code,
)

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).parents[2].parent / "shared" / "ref")) / "accelerator"

CONV = (
    Tensor("W", tuple(((d, 1),) for d in "KCRS")),
    Tensor("I", ((("N", 1),), (("C", 1),), (("P", 1), ("R", 1)), (("Q", 1), ("S", 1)))),
    Tensor("O", tuple(((d, 1),) for d in "NKPQ"), True),
)


def conv(stride=1, dilation=1):
    rows, columns = (("P", stride), ("R", dilation)), (("Q", stride), ("S", dilation))
    return (CONV[0], Tensor("I", ((("N", 1),), (("C", 1),), rows, columns)), CONV[2])


def state_machine(loops, step, coef, size, rule):
    """Fills of a tile by walking the first two positions of every loop, as Timeloop does.

    ``loops`` are (dim, trips) outermost first, ``step`` their steps, ``coef (A, D)``, ``size (A,)``.
    """
    words = math.prod(size)
    vectors = [tuple(c[d] * s for c in coef) for (d, _), s in zip(loops, step, strict=True)]
    state = {"last": None, "kept": None}

    def cost(t):
        return words - math.prod(max(0, a - abs(x)) for a, x in zip(size, t, strict=True))

    def visit(origin):
        last, state["last"] = state["last"], origin
        if last is None:
            return words
        t = tuple(a - b for a, b in zip(origin, last, strict=True))
        zero = not any(t)
        if rule == "current":
            if zero or state["kept"] is None or t == state["kept"]:
                if not zero and state["kept"] is None:
                    state["kept"] = t
                return cost(t)
        elif state["kept"] is None or t == state["kept"]:
            state["kept"] = t
            return cost(t)
        state["kept"] = None
        return words

    def walk(j, origin):
        if j == len(loops):
            return visit(origin)
        first = walk(j + 1, origin)
        moved = tuple(a + b for a, b in zip(origin, vectors[j], strict=True))
        return first + (loops[j][1] - 1) * walk(j + 1, moved)

    return walk(0, (0,) * len(size))


def every_step(loops, step, coef, size):
    """Fills of a tile by visiting every position, each against the tile before it."""
    words = math.prod(size)
    last, total = None, 0
    for position in itertools.product(*(range(n) for _, n in loops)):
        origin = [sum(c[d] * s * i for (d, _), s, i in zip(loops, step, position, strict=True)) for c in coef]
        if last is None:
            total += words
        else:
            total += words - math.prod(max(0, a - abs(x - y)) for a, x, y in zip(size, origin, last, strict=True))
        last = origin
    return total


DIMS = ("N", "K", "C", "P", "Q", "R", "S")


@st.composite
def nests(draw, most_loops=7):
    """A child tile's inner loops, spatial loops between, and loops outside, with stride and dilation."""
    loop = st.tuples(st.sampled_from("KCPQRSN"), st.integers(2, 4))
    outer = draw(st.lists(loop, min_size=1, max_size=most_loops))
    between = draw(st.lists(st.tuples(st.sampled_from("KCPQRS"), st.integers(2, 3)), max_size=2))
    inner = draw(st.lists(loop, max_size=3))
    return outer, between, inner, draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 2)))


def build(outer, between, inner, tensors):
    """Main memory with the outer loops, and one buffer with the inner ones."""
    bounds = [math.prod(n for d, n in (*outer, *between, *inner) if d == dim) for dim in DIMS]
    problem = Problem(DIMS, tuple(bounds), tensors)
    fan = math.prod(n for _, n in between)
    architecture = Architecture((Level("main"), Level("buffer", mesh_x=fan)), fan)
    everything = frozenset(t.name for t in tensors)
    mapping = Mapping(
        (
            LevelMapping((*(Loop(d, n) for d, n in outer), *(Loop(d, n, "X") for d, n in between)), everything),
            LevelMapping(tuple(Loop(d, n) for d, n in inner), everything),
        )
    )
    return problem, architecture, mapping


@settings(max_examples=150, deadline=None)
@given(nests(), st.sampled_from(("current", "pre297", "ideal")))
def test_fills_equal_a_walk_over_the_nest(nest, rule):
    outer, between, inner, stride, dilation = nest
    tensors = conv(stride, dilation)
    problem, architecture, mapping = build(outer, between, inner, tensors)
    ours = evaluate(problem, architecture, mapping, rule=rule, elide_first_fill=False)
    inside = {d: 1 for d in DIMS}
    for d, n in inner:
        inside[d] *= n
    steps, reach = [], dict(inside)
    for d, n in between:
        reach[d] *= n
    for d, n in reversed(outer):
        steps.insert(0, reach[d])
        reach[d] *= n
    for t, tensor in enumerate(tensors):
        coef = [{d: dict(axis).get(d, 0) for d in DIMS} for axis in tensor.axes]
        size = [1 + sum(c * (inside[d] - 1) for d, c in axis) for axis in tensor.axes]
        assert ours.tile_words[1, t] == math.prod(size)
        if rule == "ideal":
            if math.prod(n for _, n in outer) > 3000:
                continue
            expected = every_step(outer, steps, coef, size)
        else:
            expected = state_machine(outer, steps, coef, size, rule)
        assert ours.fills[1, t] == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("PQRSCK"), st.integers(2, 4)), min_size=1, max_size=4),
    st.sampled_from((1, 2, 3)),
    st.sampled_from((1, 2)),
)
def test_distinct_origins_equal_a_list_of_all_positions(space, stride, dilation):
    tensors = conv(stride, dilation)
    problem, architecture, mapping = build([("N", 2)], space, [], tensors)
    ours = evaluate(problem, architecture, mapping)
    steps, reach = [], {d: 1 for d in DIMS}
    for d, n in reversed(space):
        steps.insert(0, reach[d])
        reach[d] *= n
    for t, tensor in enumerate(tensors):
        origins = {
            tuple(
                sum(dict(axis).get(d, 0) * s * i for (d, _), s, i in zip(space, steps, position, strict=True))
                for axis in tensor.axes
            )
            for position in itertools.product(*(range(n) for _, n in space))
        }
        content = ours.updates[0, t] if tensor.read_write else ours.reads[0, t]
        assert content == len(origins) * (ours.fills[1, t] + (ours.fills[1, t] == 0)) or tensor.read_write
        if tensor.read_write:
            assert content == len(origins) * 2  # N is the only loop outside: two output tiles an instance.


def test_projections_with_a_dim_on_two_axes():
    """The diagonal walk A[k, k + m]: the general path, against the walk."""
    tensors = (Tensor("A", ((("K", 1),), (("K", 1), ("M", 1)))), Tensor("Z", ((("M", 1),),), True))
    outer, inner = [("M", 3), ("K", 2), ("M", 2)], [("K", 3), ("M", 2)]
    bounds = (6, 12)
    problem = Problem(("K", "M"), bounds, tensors)
    both = frozenset("AZ")
    mapping = Mapping(
        (LevelMapping(tuple(Loop(*x) for x in outer), both), LevelMapping(tuple(Loop(*x) for x in inner), both))
    )
    steps = [4, 3, 2]
    coef = [{"K": 1, "M": 0}, {"K": 1, "M": 1}]
    for rule in ("current", "pre297"):
        ours = evaluate(problem, Architecture((Level("main"), Level("buffer"))), mapping, rule=rule)
        assert ours.fills[1, 0] == state_machine(outer, steps, coef, [3, 4], rule)
    ideal = evaluate(problem, Architecture((Level("main"), Level("buffer"))), mapping, rule="ideal")
    assert ideal.fills[1, 0] == every_step(outer, steps, coef, [3, 4])


def test_worked_example_of_a_one_dimensional_convolution():
    tensors = (
        Tensor("W", ((("C", 1),), (("K", 1),), (("R", 1),))),
        Tensor("I", ((("C", 1),), (("R", 1), ("P", 1)))),
        Tensor("O", ((("K", 1),), (("P", 1),)), True),
    )
    problem = Problem(("C", "K", "R", "P"), (32, 32, 3, 16), tensors)
    architecture = Architecture(
        (
            Level("main", 32),
            Level("GB", 8, mesh_x=16, read_pj=43.353054, write_pj=30.878292, update_pj=30.878292, leak_pj=0.007972),
            Level("RF", 1, mesh_x=16, leak_pj=0.000861),
        ),
        16,
    )
    everything = frozenset("WIO")
    mapping = Mapping(
        (
            LevelMapping((Loop("C", 16, "X"),), everything),
            LevelMapping((Loop("C", 2), Loop("K", 32), Loop("R", 3)), everything),
            LevelMapping((Loop("P", 16),), everything),
        )
    )
    for rule in ("current", "pre297"):
        ours = evaluate(problem, architecture, mapping, rule=rule)
        assert ours.cycles == 3072
        assert ours.fills.tolist() == [[0, 0, 0], [192, 36, 0], [192, 1152, 512]]
        assert ours.reads.tolist() == [[3072, 576, 0], [192, 1152, 512], [3072, 3072, 2560]]
        assert ours.updates[:, 2].tolist() == [512, 1024, 3072]
        assert ours.energy_pj[1, 1] == pytest.approx(102355.7, abs=0.05)
        assert ours.leakage_pj[1:].tolist() == pytest.approx([391.84, 42.32], abs=0.005)


@pytest.mark.skipif(not REF.is_dir(), reason="reference data not there")
def test_every_stored_timeloop_case_is_exact():
    from archgym.simulators.accelerator.validate import validate_loop_nests

    groups = list(validate_loop_nests(REF))
    assert {g.group.split("/")[0] for g in groups} == {
        "timeloop-random", "timeloop-random-pre297", "timeloop-tutorial", "archgym-sample",
    }  # fmt: skip
    assert sum(g.rows for g in groups if g.group == "timeloop-random/reads") == 614
    for group in groups:
        assert group.exact == 1.0, (group.group, group.worst[:2])


def simple_case():
    layer = Layer("l", K=4, C=6, P=8, Q=6, R=3, S=3)
    architecture = Architecture(
        (
            Level("main", 4, read_pj=8, write_pj=8, update_pj=8),
            Level("buffer", 2, 400, 1, 1, 4, 4, read_pj=2, write_pj=2, update_pj=2, leak_pj=0.1),
            Level("registers", 1, 24, 4, 2, 2, 2, 3, read_pj=0.5, write_pj=0.5, update_pj=0.5),
        ),
        4,
        2,
        0.2,
    )
    everything = frozenset("WIO")
    mapping = Mapping(
        (
            LevelMapping((Loop("P", 4), Loop("Q", 3)), everything),
            LevelMapping((Loop("C", 6), Loop("K", 4, "X"), Loop("P", 2, "Y")), everything),
            LevelMapping((Loop("Q", 2), Loop("R", 3), Loop("S", 3)), everything),
        )
    )
    return layer, architecture, mapping


def test_batch_equals_single_and_does_not_depend_on_order():
    layer, architecture, mapping = simple_case()
    problem = Problem.from_layer(layer)
    one = evaluate(problem, architecture, mapping)
    assert one.violation == ""
    batch, keeps = Batch.of(problem, [mapping] * 1500, 3)
    many = evaluate_batch([problem], [architecture], batch, keeps[:1])
    assert (many.cycles == one.cycles).all() and (many.verdict == 0).all()
    assert np.unique(many.energy_pj).tolist() == pytest.approx([one.total_pj], rel=1e-12)
    assert many.utilization[0] == pytest.approx(one.macs / (one.cycles * 8))


def test_broken_rules_are_named_with_their_margin():
    layer, architecture, mapping = simple_case()
    problem = Problem.from_layer(layer)

    def change(level, loops):
        entries = list(mapping.levels)
        entries[level] = LevelMapping(loops, entries[level].keep)
        return evaluate(problem, architecture, Mapping(tuple(entries)))

    wide = change(1, (Loop("C", 6), Loop("K", 4, "X"), Loop("P", 2, "X")))
    assert wide.violation == "fanout_x" and "4 loops" in wide.detail
    short = change(0, (Loop("P", 4),))
    assert short.violation == "bound_not_covered" and "Q" in short.detail
    large = change(2, (Loop("Q", 2), Loop("R", 3), Loop("S", 3), Loop("N", 9)))
    assert large.violation == "capacity"


def test_imperfect_factors_are_the_padded_layer():
    _, architecture, mapping = simple_case()
    exact = evaluate(Problem.from_layer(Layer("l", K=4, C=6, P=8, Q=6, R=3, S=3)), architecture, mapping)
    padded = evaluate(Problem.from_layer(Layer("l", K=4, C=5, P=7, Q=6, R=3, S=3)), architecture, mapping)
    assert padded.violation == "" and padded.cycles == exact.cycles and padded.total_pj == exact.total_pj
    assert padded.macs == 4 * 5 * 7 * 6 * 9 < padded.padded_macs == exact.macs
    assert padded.utilization < exact.utilization


def test_bandwidth_slows_a_level_down():
    layer, architecture, mapping = simple_case()
    problem = Problem.from_layer(layer)
    fast = evaluate(problem, architecture, mapping)
    levels = list(architecture.levels)
    levels[2] = Level("registers", 1, 24, 4, 2, shared_bandwidth=1.0)
    slow = evaluate(problem, Architecture(tuple(levels), 4, 2), mapping)
    words = slow.reads[2] + slow.fills[2] + slow.updates[2]
    assert slow.level_cycles[2] == pytest.approx(words.sum(), abs=1)
    assert slow.cycles > fast.compute_cycles


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Problem(("K",), (0,), ()), "bound 0"),
        (lambda: Problem(("K",), (2,), (Tensor("A", ((("M", 1),),)),)), "unknown dim"),
        (lambda: Problem(("K",), (2,), (Tensor("A", ((("K", -1),),)),)), "coefficient -1"),
        (lambda: rule_code("newest"), "unknown rule"),
        (lambda: Problem(("K", "M"), (2**30, 2**30), ()), "2**53"),
    ],
)
def test_bad_input_gets_one_sentence(make, words):
    with pytest.raises(ArchGymError, match="(?s).*" + words.replace("*", r"\*")) as error:
        make()
    assert "\n" not in str(error.value)
