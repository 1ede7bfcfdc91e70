"""Learning from the designs that a simulated one answers for."""

import numpy as np
import pytest
from toy import FAST, SPACE, Toy

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.proxies import load_proxy
from archgym.proxies.proxy import FOLDS, MOST_COPIES, _folds, _within_reach
from archgym.proxies.training import evaluate, from_evaluation, held_out, join, train_on_problem, with_reach

DEPTHS = np.array([1, 2, 4, 8, 16, 32])


def reach(self, designs, workload, *, fidelity=None):
    """A limit that the buffer's depth never reaches is not felt."""
    canonical = SPACE.canonical(designs)
    low, high = canonical.copy(), canonical.copy()
    needed = -(-DEPTHS[canonical[:, 1]] // 3) - 1
    free = (canonical[:, 5] == 1) & (canonical[:, 4] >= needed)
    low[free, 4], high[free, 4] = needed[free], 3
    return low, high


@pytest.fixture
def telling(monkeypatch):
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(Toy, "reach", reach)
    return make_problem("toy/light")


def data_of(problem, count=200):
    designs = SPACE.sample(count, 0)
    data = from_evaluation(problem, designs, problem.simulator.evaluate(designs, problem.workload), ["time_ns"])
    return with_reach(problem, data)


def test_further_designs_have_the_results_they_are_given(telling):
    data = data_of(telling)
    more, origin = _within_reach(data, _folds(data, 0), 0)
    assert len(data) < len(more) <= (1 + MOST_COPIES) * len(data)
    assert np.array_equal(more.designs[: len(data)], data.designs) and np.array_equal(
        origin[: len(data)], range(len(data))
    )
    truth = telling.simulator.evaluate(more.designs, telling.workload)
    assert np.array_equal(truth.metrics["time_ns"], data.metrics["time_ns"][origin], equal_nan=True)
    assert np.array_equal(SPACE.canonical(more.designs), more.designs)


def test_a_fold_holds_no_design_twice(telling):
    data = data_of(telling)
    folds = _folds(data, 0)
    more, origin = _within_reach(data, folds, 0)
    for fold in range(FOLDS):
        inside = more.designs[folds[origin] == fold]
        assert len(np.unique(inside, axis=0)) == len(inside)


def test_a_simulator_that_says_nothing_adds_nothing(problem):
    data = data_of(problem)
    more, origin = _within_reach(data, _folds(data, 0), 0)
    assert more is data and np.array_equal(origin, range(len(data)))


def test_more_is_learned_from_the_same_simulations(telling):
    errors, shares = {True: [], False: []}, []
    for seed in range(5):
        for told in errors:
            made = train_on_problem(telling, 100, metrics=["time_ns"], seed=seed, settings=FAST, reach=told)
            assert (made.about["rows"] > made.about["designs"]) == told
            test = held_out(telling, 3000, seed, made.training.designs)
            found = evaluate(made, telling.workload, test, telling.simulator.evaluate(test, telling.workload))
            errors[told].append(found["metrics"]["time_ns"]["relative_rmse_percent"])
            shares += [found["metrics"]["time_ns"]["coverage"]] if told else []
    assert all(with_it < without for with_it, without in zip(errors[True], errors[False], strict=True)), errors
    assert 0.85 <= np.mean(shares) <= 0.97, shares


def test_boxes_are_stored_and_trained_on(telling, tmp_path):
    made = train_on_problem(telling, 80, settings=FAST)
    assert made.training.fingerprint != train_on_problem(telling, 80, settings=FAST, reach=False).training.fingerprint
    path = made.save(tmp_path / "x.proxy.npz")
    simulator = load_proxy(f"{path}?every=2&retrain=100", Toy())
    kept = simulator.proxy.training
    assert np.array_equal(kept.low, made.training.low) and np.array_equal(kept.high, made.training.high)
    simulator.evaluate(SPACE.sample(800, 1), telling.workload)
    after = simulator.proxy.training
    assert len(after) > len(kept) and simulator.proxy.about["rows"] > simulator.proxy.about["designs"]
    low, high = reach(None, after.designs, telling.workload)
    assert np.array_equal(after.low, low) and np.array_equal(after.high, high)


def test_harmful_boxes_are_refused(telling, tmp_path):
    path = train_on_problem(telling, 80, settings=FAST).save(tmp_path / "x.proxy.npz")
    with np.load(path) as source:
        arrays = dict(source)
    for name, value in (("low", arrays["training.high"] + 0), ("high", arrays["training.high"][:5]), ("low", None)):
        changed = dict(arrays)
        changed[f"training.{name}"] = value
        if name == "low" and value is not None:
            changed["training.high"] = arrays["training.low"]
        if value is None:
            changed["training.high"] = arrays["training.high"] + 99
            changed["training.low"] = arrays["training.low"]
        np.savez(tmp_path / "y.proxy.npz", **changed)
        with pytest.raises(ArchGymError):
            load_proxy(tmp_path / "y.proxy.npz", Toy())


def test_parts_with_and_without_boxes_join(telling):
    one = data_of(telling)
    two = make_problem("toy/heavy")
    plain = from_evaluation(two, one.designs, two.simulator.evaluate(one.designs, two.workload), ["time_ns"])
    joined = join([one, plain])
    assert np.array_equal(joined.low, np.concatenate([one.low, plain.designs]))
    assert join([plain, plain]).low is None
