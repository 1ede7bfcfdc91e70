"""A few moves, made one after the other, are the moves that arrays of them make."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from archgym.agents import moves
from archgym.agents.moves import Mover, below
from archgym.agents.nsga2 import fronts
from archgym.space import DesignSpace, Parameter


@pytest.mark.parametrize("counts", [[16] * 9, [1, 2, 1, 3, 300, 1], [2**31 + 12345, 3 * 2**30 + 1] * 8, [7] * 100])
def test_numbers_below_counts_are_those_of_numpy(counts):
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(20):
        assert below(counts, ours) == theirs.integers(0, counts).tolist()
    assert ours.bit_generator.state == theirs.bit_generator.state


@pytest.mark.parametrize("changes", [1, 2, 5])
@pytest.mark.parametrize("reach", [0.3, 1.0])
@pytest.mark.parametrize("levels", [(4, 1, 30, 2, 9), (1, 12, 1, 1, 1), (1,) * 5])
def test_a_few_designs_move_as_many_do(levels, reach, changes, monkeypatch):
    space = DesignSpace([Parameter(f"p{j}", tuple(range(n)), ordered=j != 3) for j, n in enumerate(levels)])
    mover, designs = Mover(space, reach), space.sample(12, 0)
    few, listed, many = (np.random.default_rng(1) for _ in range(3))
    ours, rows = mover(designs, changes, few), mover.rows(designs.tolist(), changes, listed)
    monkeypatch.setattr(moves, "FEW", 0)
    theirs = mover(designs, changes, many)
    assert ours.tolist() == rows == theirs.tolist()
    assert few.bit_generator.state == listed.bit_generator.state == many.bit_generator.state
    free = sum(n > 1 for n in levels)
    assert ((ours != designs).sum(axis=1) == min(changes, free)).all()


def test_a_draw_that_lemires_method_repeats_is_repeated():
    left = iter([0, 3 << 30, 0, 0, 1 << 30])  # one in 2**32 such zeros: no seed is known that meets one
    ctypes = SimpleNamespace(next_uint32=lambda _: next(left), state=None)
    rng = SimpleNamespace(bit_generator=SimpleNamespace(ctypes=ctypes))
    mover = Mover(DesignSpace([Parameter(f"p{j}", tuple(range(6))) for j in range(5)]))
    assert mover.rows([[0] * 5], 1, rng) == [[0, 0, 0, 2, 0]] and next(left, None) is None


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_fronts_are_those_of_pairwise_comparisons(columns):
    losses = np.random.default_rng(columns).integers(0, 6, (40, columns)).astype(float)
    left, expected = list(range(40)), []
    while left:
        front = [
            i for i in left if not any((losses[k] <= losses[i]).all() and (losses[k] < losses[i]).any() for k in left)
        ]
        expected.append(front)
        left = [i for i in left if i not in front]
    for count in (1, 13, 40):
        found = [front.tolist() for front in fronts(losses, count)]
        assert found == expected[: len(found)]
        assert sum(map(len, found)) >= count > sum(map(len, found[:-1]))
