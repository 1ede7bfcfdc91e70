"""Proxies of neural cells: nothing is tested on a cell that was trained together with one of the training set."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.proxies.models import make_model
from archgym.proxies.proxy import _folds, load
from archgym.proxies.training import evaluate, from_evaluation, held_out, train_on_problem
from archgym.simulators.nas import cells

pytest.importorskip("lightgbm")
pytest.importorskip("sklearn")


def class_of(problem, designs):
    return cells.classes()[cells.codes(designs)]


def test_classes_are_on_one_side_of_every_split():
    problem = make_problem("nas/nb201-mnist1d")
    designs = problem.space.sample(800, 0)
    data = from_evaluation(problem, designs, problem.evaluate(designs)[0], ["accuracy_percent"])
    labels, folds = class_of(problem, data.designs), _folds(data, 0)
    assert len(np.unique(labels)) < len(labels), "some of these share a class"
    for label in np.unique(labels):
        assert len(set(folds[labels == label])) == 1
    test = held_out(problem, 2000, 1, data.designs)
    assert len(test) > 500 and not np.isin(class_of(problem, test), labels).any()
    plain = make_problem("nas/nb201-mnist1d", only={"edge_01": ["none", "nor_conv_3x3"]})
    narrow = held_out(plain, 500, 1, plain.space.sample(300, 2))
    assert len(narrow) < 500


def test_pretraining_orders_cells_better():
    from archgym.proxies.pretrained import predictions

    problem = make_problem("nas/nb201-mnist1d-v2")
    representatives = cells.representatives()
    alive = np.flatnonzero(~cells.is_dead(cells.rows(representatives)))
    accuracy = problem.evaluate(cells.rows(representatives[alive]))[0].metrics["accuracy_percent"]
    errors, taus = -np.log(100 - accuracy), {True: [], False: []}
    for draw in range(2):
        order = np.random.default_rng(draw).permutation(len(alive))
        seen, rest = order[:50], order[50:]
        labels = ((errors[seen] - errors[seen].mean()) / errors[seen].std())[:, None]
        for pretrain, found in taus.items():
            said = predictions(alive[seen], labels, 1, draw, pretrain=pretrain)[alive[rest], 0]
            found.append(kendalltau(said, accuracy[rest]).statistic)
    assert np.mean(taus[True]) > np.mean(taus[False]) + 0.03


def test_pretrained_networks_are_stored(tmp_path):
    problem = make_problem("nas/nb201-mnist1d")
    proxy = train_on_problem(
        problem, 40, metrics=["accuracy_percent"], model="cells", settings={"pretrained": 1}, calibrate=False,
        scale="complement",
    )  # fmt: skip
    proxy.save(tmp_path / "x.proxy.npz")
    again = load(tmp_path / "x.proxy.npz", lambda facts: problem.space)
    designs = problem.space.sample(50, 3)
    said = proxy.means(designs, problem.workload)["accuracy_percent"]
    np.testing.assert_array_equal(said, again.means(designs, problem.workload)["accuracy_percent"])
    np.testing.assert_array_equal(said[:7], proxy.means(designs[:7], problem.workload)["accuracy_percent"])
    plain = train_on_problem(problem, 40, metrics=["accuracy_percent"], model="cells", calibrate=False)
    assert (said < 100).all() and (said != plain.means(designs, problem.workload)["accuracy_percent"]).any()
    arrays = proxy.model.arrays()
    with pytest.raises(ArchGymError, match="predictions of cells"):
        proxy.model.restore({**arrays, "of_class": arrays["of_class"][:-1]}, 30, 1)
    rows = proxy.encoder.rows(proxy.training.designs)
    with pytest.raises(ArchGymError, match="learn one workload"):
        make_model("cells", pretrained=1).fit(np.column_stack([rows, rows[:, 0]]), rows[:, :1], 0)


def test_ranking_is_over_classes_without_a_label():
    from archgym.proxies.ranking import lines_of, rank_cells

    found = rank_cells("nb201-mnist1d-v2", [20], 2, methods=["cells"])
    row = found["rows"][-1]
    assert row["labels"] == 20 and 0.3 < row["kendall_tau"] < 0.7 and row["interval_95"] > 0
    assert lines_of(found)[-1].startswith("| cells | 0.")
    for workload, labels, draws, sentence in (
        ("nb201-digits", [20], 2, "has no table of cells"),
        ("nb201-mnist1d-v2", [20], 1, "at least 2 draws"),
        ("nb201-mnist1d-v2", [19], 2, "20..2464 labels"),
    ):
        with pytest.raises(ArchGymError, match=sentence):
            rank_cells(workload, labels, draws)


@pytest.mark.slow  # torch's start and ten draws over all classes take several seconds
def test_parzc_learns_an_order_from_layers():
    pytest.importorskip("torch")
    problem = make_problem("nas/nb201-mnist1d")
    proxy = train_on_problem(
        problem, 40, metrics=["accuracy_percent"], model="parzc", settings={"steps": 40, "width": 8}, calibrate=False
    )
    own = proxy.training
    said = proxy.means(own.designs, problem.workload)["accuracy_percent"]
    assert np.corrcoef(said, own.metrics["accuracy_percent"])[0, 1] > 0.5
    made, rows = make_model("parzc", **proxy.model.settings), proxy.encoder.rows(own.designs)
    made.restore(proxy.model.arrays(), 30, 1)
    np.testing.assert_array_equal(made.predict(rows), proxy.model.predict(rows))


@pytest.mark.slow
def test_orders_cells_from_fifty_labels_better_than_boosted_trees():
    problem, taus = make_problem("nas/nb201-mnist1d-v2"), {"cells": [], "boosting": []}
    for model, found in taus.items():
        for seed in range(2):
            proxy = train_on_problem(
                problem,
                55,
                seed=seed,
                metrics=["accuracy_percent"],
                model=model,
                calibrate=False,
                settings={"threads": 1},
            )
            test = held_out(problem, 1500, 1 + seed, proxy.training.designs)
            said = evaluate(proxy, problem.workload, test, problem.evaluate(test)[0])
            found.append(said["metrics"]["accuracy_percent"]["kendall_tau"])
    assert np.mean(taus["cells"]) > np.mean(taus["boosting"]) + 0.05
    assert np.mean(taus["cells"]) > 0.5


def test_is_stored_and_read_back(tmp_path):
    problem = make_problem("nas/nb201-mnist1d")
    proxy = train_on_problem(problem, 60, metrics=["accuracy_percent"], model="cells", calibrate=False)
    proxy.save(tmp_path / "x.proxy.npz")
    again = load(tmp_path / "x.proxy.npz", lambda facts: problem.space)
    designs = problem.space.sample(50, 3)
    for name, mean in proxy.means(designs, problem.workload).items():
        np.testing.assert_array_equal(mean, again.means(designs, problem.workload)[name])


def test_refuses_what_is_no_cell():
    with pytest.raises(ArchGymError, match="learns cells of NAS-Bench-201"):
        make_model("cells").fit(np.random.default_rng(0).random((30, 40)), np.zeros((30, 1)), 0)
    with pytest.raises(ArchGymError, match="learns cells of NAS-Bench-201"):
        train_on_problem(make_problem("systolic/resnet18"), 40, model="cells", calibrate=False)
    with pytest.raises(ArchGymError, match="'parzc' learns cells of NAS-Bench-201"):
        make_model("parzc").fit(np.random.default_rng(0).random((30, 40)), np.zeros((30, 1)), 0)
