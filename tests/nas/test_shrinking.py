"""Shrinking the space of cells for ensembles, and the agent that searches what is left."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import DataRecipe
from archgym.simulators.nas.supernet import shrinking, training
from archgym.simulators.nas.supernet.shrinking import ShrinkRecipe, Shrunk, balanced_cells, merits, shrink, worst
from archgym.simulators.nas.supernet.store import live_codes

from .test_training import toy_data

ALL = np.ones((6, 5), dtype=bool)


def test_an_operation_is_worth_its_loss_and_how_its_cells_differ() -> None:
    # One sample, two classes: cells answer with probabilities a, b and c for the right one.
    sure, unsure, wrong = 0.9, 0.5, 0.2
    p = np.array([sure, unsure, wrong])
    logits = np.log(np.stack([p, 1 - p], axis=1))[:, None, :].astype(np.float32) + 3.0
    rows = np.array([[2, 2, 2, 2, 2, 2], [2, 3, 2, 2, 2, 2], [3, 3, 2, 2, 2, 2]])
    found = merits(rows, logits, np.array([0]), 0.5)

    def kl(a: float, b: float) -> float:
        return a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))

    assert found[0, 2] == pytest.approx(np.log([sure, unsure]).mean() + 0.25 * (kl(sure, unsure) + kl(unsure, sure)))
    assert found[1, 3] == pytest.approx(np.log([unsure, wrong]).mean() + 0.25 * (kl(unsure, wrong) + kl(wrong, unsure)))
    pairs = [(a, b) for a in p for b in p if a != b]
    assert found[2, 2] == pytest.approx(np.log(p).mean() + 0.5 * np.mean([kl(a, b) for a, b in pairs]))
    assert np.isnan(found[0, 3]) and np.isnan(found[1, 2]) and np.isnan(found[5, 0])


def test_what_goes_leaves_every_edge_an_operation_and_the_space_a_live_cell() -> None:
    merit = np.arange(30.0).reshape(6, 5)
    assert worst(merit, ALL) == (0, 0)
    merit[0, 0] = np.nan  # no two cells had it
    assert worst(merit, ALL) == (0, 1)
    one = ALL.copy()
    one[0] = [False, False, False, True, False]
    assert worst(merit, one) == (1, 0)
    # Only the last edge into the output carries anything but none, and that after its source: they may not go.
    last = np.zeros((6, 5), dtype=bool)
    last[:, 0] = True
    last[3, 3] = True
    assert worst(np.where(np.eye(5)[3], -1.0, 0.0) * np.ones((6, 1)), last) == (3, 0)
    last[3, 0] = False
    assert worst(merit, last) is None


def test_the_cells_that_judge_have_every_operation_equally_often() -> None:
    rows = balanced_cells(ALL, 500, np.random.default_rng(0))
    assert not cells.is_dead(rows).any() and len(rows) > 480
    counts = np.stack([np.bincount(column, minlength=5) for column in rows.T])
    assert (counts[:, 1:] >= 95).all() and (counts <= 100).all()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> ShrinkRecipe:
    data = DataRecipe(train=200, valid=100, test=100)
    made = toy_data(data)
    monkeypatch.setattr(training, "load_data", lambda recipe: made)
    supernet = training.SupernetRecipe(data=data, steps=30, batch=50, recalibration=2)
    return ShrinkRecipe(supernet, drops=4, cells=10)


def test_a_space_is_shrunk_to_the_same_bits(small: ShrinkRecipe) -> None:
    found, again, other = shrink(small, 0), shrink(small, 0), shrink(small, 1)
    assert len(found.dropped) == 4 and found.allowed.sum() == 26 and found.seconds > 0
    assert not any(found.allowed[edge, op] for edge, op in found.dropped)
    assert found.dropped == again.dropped != other.dropped
    assert len(live_codes(found.allowed))


def test_the_agent_stays_in_what_is_left_and_is_re_where_nothing_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = make_problem("nas/nb201-pair", fidelity="formula", objective="macs")
    plain = search(problem, make_agent("re", problem, 3), 60)
    same = search(problem, make_agent("neas", problem, 3, drops=0), 60)
    assert same.improvements == plain.improvements
    allowed = ALL.copy()
    allowed[0, :3], allowed[4, 4] = False, False
    asked: list[ShrinkRecipe] = []

    def made(recipe: ShrinkRecipe, seed: int) -> Shrunk:
        asked.append(recipe)
        return Shrunk(allowed, ((0, 0), (0, 1), (0, 2), (4, 4)), 12.0)

    monkeypatch.setattr(shrinking, "shrink", made)
    agent = make_agent("neas", problem, 3, drops=4, steps=100, diversity=0.5)
    designs = []
    for _ in range(5):
        designs.append(agent.ask(16))
        if agent.parents is not None:
            assert allowed[np.arange(6), agent.parents[:, :6]].all()
        agent.tell(designs[-1], *problem.evaluate(designs[-1]))
    every = np.concatenate(designs).reshape(-1, 2, 6)
    assert allowed[np.arange(6), every].all() and set(np.unique(every[:, :, 0])) == {3, 4}
    assert [(one.drops, one.supernet.steps, one.diversity) for one in asked] == [(4, 100, 0.5)]
    assert "12 s beyond the budget and dropped edge_01 none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [("nas/nb201-mnist1d", {}), ("synthetic/rugged", {}), ("nas/nb201-pair", {"fix": {"first_edge_01": "none"}})],
)
def test_other_problems_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ArchGymError, match="shrinks the whole space of nas/nb201-pair"):
        make_agent("neas", make_problem(name, **options))
