"""The forest's one walk over its trees gives what scikit-optimize's own methods give."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skopt")


@pytest.mark.parametrize(("n", "features"), [(150, 5), (40, 30), (10, 2)])
def test_the_forest_predicts_what_the_library_does(n: int, features: int):
    from archgym.agents.bayesian import Forest

    rng = np.random.default_rng(n)
    x, y = rng.random((n, features)).round(1), rng.normal(size=n)
    forest = Forest(rng)
    forest.fit(x, y)
    # Features on the trees' thresholds and between them.
    points = np.concatenate([x, rng.random((300, features))])
    mean, deviation = forest.predict(points)
    expected = forest._model.predict(points, return_std=True)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(deviation, expected[1])
    np.testing.assert_array_equal(forest._leaves, forest._model.apply(points))
