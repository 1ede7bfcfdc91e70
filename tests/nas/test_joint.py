"""Cells searched with their recipe, and scores of single layers."""

import numpy as np
import pytest

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.simulators.nas import cells, live
from archgym.simulators.nas.recipes import TABLE_RECIPES

pytest.importorskip("mnist1d")


def problem(**options):
    return make_problem("nas/joint-mnist1d", **options)


def test_a_design_trains_by_its_own_recipe(monkeypatch):
    asked = []

    def train(jobs, data, made, device):
        asked.append((jobs, made))
        return [type("Result", (), {"valid": [50.0 + made.epochs], "test": [40.0]})() for _ in jobs]

    monkeypatch.setattr(live, "train_networks", train)
    made = problem()
    names = made.space.names
    design = dict(zip(names, ["nor_conv_3x3"] * 6 + [0.1, 25, 20, 5e-4, 0.9], strict=True))
    row = made.space.encode([design])
    dead = row.copy()
    dead[:, :6] = 0
    evaluation, rewards = made.evaluate(np.concatenate([row, dead, row]))
    np.testing.assert_allclose(evaluation.metrics["accuracy_percent"], [70.0, 10.0, 70.0])
    assert len(asked) == 1, "dead cells are not trained, and equal designs once"
    own, table = asked[0][1], TABLE_RECIPES["nb201-mnist1d-v2"]
    assert (own.data, own.rate, own.batch, own.epochs, own.weight_decay, own.momentum) == (
        (table.data, table.rate, table.batch, table.epochs, table.weight_decay, table.momentum)
    ), "the table's recipe is a point of the space"
    assert asked[0][0] == [(int(cells.codes(row[:, :6])[0]), 0)]
    assert evaluation.metrics["train_seconds"][1] == 0 < evaluation.metrics["train_seconds"][0]
    short = row.copy()
    short[:, names.index("epochs")] = 0
    tested = problem(fidelity="train:split=test").evaluate(short)[0].metrics
    assert tested["accuracy_percent"][0] == 40.0
    np.testing.assert_allclose(tested["train_seconds"] * 10, evaluation.metrics["train_seconds"][:1])


def test_says_what_it_does_not_have_and_that_it_is_live():
    made = problem(fidelity="formula", objective="score")
    evaluation, _ = made.evaluate(made.space.sample(4, 0))
    assert np.isnan(evaluation.metrics["accuracy_percent"]).all() and (evaluation.metrics["macs"] > 0).all()
    assert made.simulator.live(made.workload, "formula") is None
    shown = made.simulator.live(made.workload)
    assert shown is not None and "own recipe" in shown.what and made.space.dimension == 11
    for fidelity, sentence in (("table", "no level 'table'"), ("train:epochs=3", "takes no epochs")):
        with pytest.raises(ArchGymError, match=sentence):
            problem(fidelity=fidelity)


def test_layer_scores_cover_every_live_class():
    from archgym.simulators.nas.layerscores import LAYERS, STATISTICS, layer_features, layer_scores

    scores, rows = layer_scores(), cells.all_rows()
    assert scores.shape == (cells.CELLS, len(LAYERS), len(STATISTICS))
    representatives = cells.representatives()
    live_ones = representatives[~cells.is_dead(rows[representatives])]
    assert np.isfinite(scores).all() and (scores[live_ones, -1, 2] != 0).all()
    convolution = np.isin(rows[live_ones], (cells.CONV1, cells.CONV3))
    assert ((scores[live_ones, :6, 2] != 0) == convolution).all(), "an edge has scores where it has weights"
    features = layer_features(live_ones[:50])
    assert features.shape == (50, len(LAYERS), 18) and (features[:, :12, 6:11].sum(axis=2) == 1).all()


@pytest.mark.slow
def test_shipped_layer_scores_are_those_of_the_command():
    pytest.importorskip("torch")
    from archgym.simulators.nas.layerscores import STEP, layer_scores, live_layer_scores
    from archgym.simulators.nas.macro import macro
    from archgym.simulators.nas.zerocost import scoring_batch

    code = int(cells.representatives()[-1])
    x, y = scoring_batch("mnist1d", macro("mnist1d-C8S2"), 0)
    np.testing.assert_allclose(live_layer_scores(code, x, y, 0), layer_scores()[code], atol=STEP)
