"""Tree ensembles: exports agree with their libraries, masks with walking, on random spaces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import SPACE

from archgym.errors import ArchGymError
from archgym.proxies.features import Encoder
from archgym.proxies.trees import MaskedEnsembles, TreeEnsemble, _groups, from_lightgbm, from_sklearn, most_leaves, walk
from archgym.space import DesignSpace, Parameter
from archgym.threads import limit_threads


def random_ensemble(rng, features, trees, depth, values):
    """Trees with random tests, some of them a single leaf."""
    feature, threshold, left, right, root, leaf = [], [], [], [], [], []

    def grow(level):
        if level == 0 or rng.random() < 0.2:
            leaf.append(rng.normal())
            return ~(len(leaf) - 1)
        me = len(feature)
        feature.append(int(rng.integers(features)))
        threshold.append(float(rng.choice(values)))
        left.append(0)
        right.append(0)
        left[me], right[me] = grow(level - 1), grow(level - 1)
        return me

    root = [grow(depth) for _ in range(trees)]
    kinds = (np.int32, np.float64, np.int32, np.int32, np.int32)
    arrays = [np.array(a, dtype=k) for a, k in zip((feature, threshold, left, right, root), kinds, strict=True)]
    return TreeEnsemble(*arrays, np.array(leaf)[:, None], np.array([0.5]))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    ordered=st.integers(0, 127),
    depth=st.integers(0, 6),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=60)
def test_masks_say_what_walking_says(sizes, ordered, depth, seed):
    rng = np.random.default_rng(seed)
    space = DesignSpace(
        [Parameter(f"p{j}", tuple(range(k)), ordered=bool(ordered >> j & 1)) for j, k in enumerate(sizes)]
    )
    encoder = Encoder(space, ["load"])
    constant = encoder.constant({"load": 0.4})
    ensembles = [random_ensemble(rng, len(encoder.names), 30, depth, [0.0, 0.3, 0.5, 0.9]) for _ in range(2)]
    designs = space.sample(50, rng)
    masked = MaskedEnsembles(ensembles, encoder.levels, constant, encoder.owner)(designs)
    rows = encoder.rows(designs, constant)
    walked = np.concatenate([walk(e, rows) for e in ensembles], axis=1)
    np.testing.assert_allclose(masked, walked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("leaves", [31, 64])
def test_lightgbm_export(leaves):
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    designs = SPACE.sample(600, rng)
    rows = SPACE.features(designs)
    target = np.sin(designs @ rng.normal(size=6))
    options = {"num_leaves": leaves, "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(rows, target), 50)
    ensemble = from_lightgbm(booster)
    assert 16 < most_leaves(ensemble) <= leaves
    test = SPACE.sample(500, rng)
    expected = booster.predict(SPACE.features(test))
    np.testing.assert_allclose(walk(ensemble, SPACE.features(test))[:, 0], expected, rtol=1e-12)
    encoder = Encoder(SPACE)
    masked = MaskedEnsembles([ensemble], encoder.levels, np.zeros(len(encoder.names)), encoder.owner)
    np.testing.assert_allclose(masked(test)[:, 0], expected, rtol=1e-12)


def test_sklearn_export():
    sklearn = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(1)
    rows = rng.random((300, 5)).astype(np.float32)
    targets = np.stack([rows.sum(axis=1), rows[:, 0] * rows[:, 1]], axis=1)
    forest = sklearn.ExtraTreesRegressor(12, random_state=0).fit(rows, targets)
    test = rng.random((200, 5)).astype(np.float32)
    np.testing.assert_allclose(walk(from_sklearn(forest), test.astype(np.float64)), forest.predict(test), rtol=1e-9)


def test_batches_and_order_do_not_matter():
    rng = np.random.default_rng(2)
    encoder = Encoder(SPACE)
    ensembles = [random_ensemble(rng, len(encoder.names), 700, 5, [0.0, 0.2, 0.5])]
    masked = MaskedEnsembles(ensembles, encoder.levels, np.zeros(len(encoder.names)), encoder.owner)
    designs = SPACE.sample(1000, rng)
    whole = masked(designs)
    order = rng.permutation(1000)
    assert np.array_equal(masked(designs[order]), whole[order])
    assert np.array_equal(np.concatenate([masked(designs[i : i + 7]) for i in range(0, 1000, 7)]), whole)


def test_the_number_of_threads_does_not_matter():
    rng = np.random.default_rng(3)
    encoder = Encoder(SPACE)
    ensembles = [random_ensemble(rng, len(encoder.names), 300, 5, [0.0, 0.2, 0.5])]
    masked = MaskedEnsembles(ensembles, encoder.levels, np.zeros(len(encoder.names)), encoder.owner)
    designs = SPACE.sample(5000, rng)
    with limit_threads(1):
        one = masked(designs)
    assert np.array_equal(one, masked(designs))


def test_groups_hold_every_parameter_once():
    sizes = [8, 4, 3, 3, 8, 2, 2, 8, 8, 3, 8, 100]
    group_of, stride, group_size = _groups(sizes)
    for g, size in enumerate(group_size):
        members = np.flatnonzero(group_of == g)
        assert np.prod([sizes[j] for j in members]) == size
        assert size <= 64 or len(members) == 1
        codes = {int(sum(v * stride[j] for j, v in zip(members, combo, strict=True)))
                 for combo in np.ndindex(*[sizes[j] for j in members])}  # fmt: skip
        assert codes == set(range(size))


@pytest.mark.parametrize(
    "harm",
    [
        {"left": np.array([0], np.int32)},  # a cycle
        {"left": np.array([9], np.int32)},
        {"right": np.array([-9], np.int32)},
        {"feature": np.array([7], np.int32)},
        {"root": np.array([3], np.int32)},
        {"value": np.array([[np.nan], [1.0]])},
        {"value": np.array([1.0, 2.0])},
        {"threshold": np.array([0.5, 0.5])},
        {"feature": np.array([0], np.int64)},
    ],
)
def test_harmful_trees_are_refused(harm):
    """The kernels do not check indices, so the loader must."""
    good = {
        "feature": np.array([0], np.int32), "threshold": np.array([0.5]), "left": np.array([-1], np.int32),
        "right": np.array([-2], np.int32), "root": np.array([0], np.int32), "value": np.array([[1.0], [2.0]]),
        "base": np.array([0.0]),
    }  # fmt: skip
    TreeEnsemble.from_arrays(good, "", 2)
    with pytest.raises(ArchGymError, match="malformed"):
        TreeEnsemble.from_arrays({**good, **harm}, "", 2)
