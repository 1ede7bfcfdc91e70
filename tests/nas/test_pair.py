"""Two cells that answer together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.nas import cells, pair
from archgym.simulators.nas.data import Data, DataRecipe
from archgym.simulators.nas.simulator import NasSimulator

ALIVE = [cells.from_string(text) for text in (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
    "|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|",
)]  # fmt: skip
DEAD = cells.rows(0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Data of noise, 100 samples a split; the (code, seed) of every training."""
    rng, trained = np.random.default_rng(0), []
    splits = [part for _ in range(3) for part in (
        rng.normal(size=(100, 40)).astype(np.float32), rng.integers(10, size=100).astype(np.int64))]  # fmt: skip
    data = Data(DataRecipe(train=100, valid=100, test=100), *splits)
    monkeypatch.setattr(pair, "load_data", lambda recipe: data)
    monkeypatch.setattr(pair, "_LOGITS", pair.OrderedDict())
    real = pair.train_cell

    def train(code: int, seed: int, given: Data, made: Any, **further: Any) -> Any:
        trained.append((code, seed))
        return real(code, seed, given, pair.replace(made, data=data.recipe, checkpoints=(made.epochs,)), **further)

    monkeypatch.setattr(pair, "train_cell", train)
    return trained


def pairs(*both: Any) -> np.ndarray:
    return np.array([np.concatenate(one) for one in both])


def test_the_order_of_two_cells_makes_no_difference() -> None:
    problem = make_problem("nas/nb201-pair", fidelity="formula", objective="macs")
    designs = problem.space.sample(200, 0)
    swapped = np.concatenate([designs[:, 6:], designs[:, :6]], axis=1)
    canonical = problem.space.canonical(designs)
    np.testing.assert_array_equal(canonical, problem.space.canonical(swapped))
    np.testing.assert_array_equal(canonical, problem.space.canonical(canonical))
    assert set(map(tuple, canonical.tolist())) <= set(map(tuple, np.concatenate([designs, swapped]).tolist()))
    labels = problem.simulator.measured_as(designs, problem.workload)
    np.testing.assert_array_equal(labels, problem.simulator.measured_as(swapped, problem.workload))
    # The cost is that of both networks.
    single = make_problem("nas/nb201-mnist1d-v2", fidelity="formula", objective="macs")
    found = problem.evaluate(designs)[0].metrics
    each = [single.evaluate(half)[0].metrics for half in (designs[:, :6], designs[:, 6:])]
    for name in ("parameters", "macs"):
        np.testing.assert_array_equal(found[name], each[0][name] + each[1][name])
    np.testing.assert_array_equal(found["depth"], np.maximum(each[0]["depth"], each[1]["depth"]))


def test_the_mean_of_logits_is_judged_and_a_member_is_trained_once(small: list[tuple[int, int]]) -> None:
    problem = make_problem("nas/nb201-pair", fidelity="train:epochs=1")
    one, other = ALIVE
    codes = [int(cells.codes(cell)) for cell in ALIVE]
    found = problem.evaluate(pairs((one, other), (other, one), (one, one), (one, DEAD), (DEAD, DEAD)), seed=5)[0]
    again = pair.SECOND_SEED + 5
    assert sorted(small) == sorted([(codes[0], 5), (codes[1], 5), (codes[0], again)])
    made = problem.simulator.recipe(problem.workload, pair_fidelity())
    data = pair.load_data(made.data)
    logits = {job: pair.member_logits(*job, data, made, "valid") for job in dict.fromkeys(small)}
    for row, members in enumerate(
        (
            [(codes[0], 5), (codes[1], 5)],
            [(codes[1], 5), (codes[0], 5)],
            [(codes[0], 5), (codes[0], again)],
            [(codes[0], 5)],
        )
    ):
        mean = np.mean([logits[job] for job in members], axis=0)
        expected = 100.0 * (mean.argmax(axis=1) == data.y_valid).mean()
        assert found.metrics["accuracy_percent"][row] == pytest.approx(expected, abs=1e-9)
    assert found.metrics["accuracy_percent"][4] == 10.0 and found.metrics["train_seconds"][4] == 0.0
    assert found.metrics["train_seconds"][0] > found.metrics["train_seconds"][3] > 0
    tested = problem.simulator.evaluate(
        pairs((one, DEAD)), problem.workload, fidelity="train:epochs=1,split=test", seed=5
    )
    answers = pair.member_logits(codes[0], 5, data, made, "test").argmax(axis=1)
    assert tested.metrics["accuracy_percent"][0] == 100.0 * (answers == data.y_test).mean()


def pair_fidelity() -> Any:
    from archgym.simulators.nas.fidelity import parse_fidelity

    return parse_fidelity("train:epochs=1")


@pytest.mark.parametrize("fidelity", ["table", "supernet", "zero-cost", "train:inherit=parent"])
def test_levels_that_pairs_do_not_have_are_refused(fidelity: str) -> None:
    with pytest.raises(ArchGymError, match="its levels are train and formula"):
        make_problem("nas/nb201-pair", fidelity=fidelity)


def test_the_processor_trains_pairs() -> None:
    with pytest.raises(ArchGymError, match="trained on the processor; leave device='cuda' out"):
        make_problem("nas/nb201-pair", device="cuda", fidelity="train:epochs=1")
    assert NasSimulator().live(NasSimulator().load_workload("nb201-pair")).seconds > 0
