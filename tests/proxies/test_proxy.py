"""Training, prediction, uncertainty, storage, and the simulator that answers from a proxy."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from toy import FAST, SPACE, Toy

from archgym.agents.base import make_agent
from archgym.agents.collect import collect
from archgym.agents.search import search
from archgym.datasets.dataset import Dataset
from archgym.errors import ArchGymError
from archgym.evaluator import Evaluator
from archgym.problem import make_problem
from archgym.proxies import load_proxy, models
from archgym.proxies.cli import proxy as group
from archgym.proxies.models import MODELS
from archgym.proxies.proxy import fit, relative_rmse_percent
from archgym.proxies.simulator import parse_path
from archgym.proxies.training import (
    evaluate,
    from_dataset,
    from_evaluation,
    held_out,
    predictions_per_second,
    train_on_problem,
    unseen_workload_errors,
)
from archgym.testing import check_copies
from archgym.threads import limit_threads


def test_it_learns(problem, proxy):
    test = held_out(problem, 2000, 1, proxy.training.designs)
    found = evaluate(proxy, problem.workload, test, problem.simulator.evaluate(test, problem.workload))
    for row in found["metrics"].values():
        assert row["relative_rmse_percent"] < 6 and row["kendall_tau"] > 0.85
    assert found["feasibility"] == 1.0 and found["outside"] == 0.0


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"cells", "parzc", "pretrained"}))
def test_every_model_beats_the_mean_and_is_stored_exactly(problem, tmp_path, model):
    small = {
        "boosting": FAST, "forest": {"trees": 20}, "mlp": {"members": 2, "width": 32, "epochs": 120},
        "gp": {"fit_points": 120},
    }[model]  # fmt: skip
    if model == "mlp":
        pytest.importorskip("torch")
    made = train_on_problem(problem, 200, metrics=["time_ns", "energy_pj"], model=model, settings=small)
    test = held_out(problem, 1000, 1, made.training.designs)
    truth = problem.simulator.evaluate(test, problem.workload)
    found = evaluate(made, problem.workload, test, truth)
    for name, row in found["metrics"].items():
        y = truth.metrics[name][np.isfinite(truth.metrics[name])]
        assert row["relative_rmse_percent"] < 50 * y.std() / y.mean(), (name, row)
    path = made.save(tmp_path / "x.proxy.npz")
    again = load_proxy(path, Toy()).proxy
    one, two = made.predict(test, problem.workload), again.predict(test, problem.workload)
    for name in one.mean:
        assert np.array_equal(one.mean[name], two.mean[name]) and np.array_equal(one.high[name], two.high[name])
    assert again.fingerprint == made.fingerprint and again.about["errors"] == made.about["errors"]


def test_training_is_fixed_by_its_seed(problem, proxy):
    again = train_on_problem(problem, 300, metrics=["all"], settings=FAST)
    designs = SPACE.sample(200, 0)
    for name, column in proxy.means(designs, problem.workload).items():
        assert np.array_equal(column, again.means(designs, problem.workload)[name])


@pytest.mark.parametrize("threads", [1, 3])
def test_trees_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(models, "ROWS_A_THREAD", 50)  # also LightGBM's own
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 8, (200, 6)).astype(float)
    targets = np.stack([rows[:, 0] * rows[:, i] + rng.normal(size=200) for i in range(threads)], axis=1)
    made = [models.Boosting(trees=4, leaves=8, threads=n) for n in (1, 2 * threads)]
    with limit_threads(2):
        made.append(models.Boosting(trees=4, leaves=8))
        for model in made:
            model.fit(rows, targets, 0)
    for other in made[1:]:
        for name, array in made[0].arrays().items():
            assert np.array_equal(array, other.arrays()[name]), name


def test_equivalent_designs_get_equal_predictions(problem, proxy):
    designs = SPACE.sample(300, 5)
    one, two = proxy.means(designs, problem.workload), proxy.means(SPACE.canonical(designs), problem.workload)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_intervals_cover_what_they_say(problem):
    """90 % intervals hold 85 to 95 % of held-out designs, averaged over metrics and training sets."""
    shares = []
    for seed in range(6):
        made = train_on_problem(problem, 250, seed=seed, settings=FAST)
        test = held_out(problem, 3000, 50 + seed, made.training.designs)
        found = evaluate(made, problem.workload, test, problem.simulator.evaluate(test, problem.workload))
        shares += [row["coverage"] for row in found["metrics"].values()]
    assert 0.85 <= np.mean(shares) <= 0.95, shares


def test_wider_levels_are_wider(problem, proxy):
    designs = SPACE.sample(100, 1)
    widths = [
        np.mean(said.high["time_ns"] - said.low["time_ns"])
        for said in (proxy.predict(designs, problem.workload, level) for level in (0.5, 0.8, 0.9, 0.95, 0.99))
    ]
    assert (np.diff(widths) > 0).all()
    with pytest.raises(ArchGymError, match="the level is 0.7"):
        proxy.predict(designs, problem.workload, 0.7)


def test_relative_rmse_by_hand():
    assert relative_rmse_percent(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == 50.0
    assert relative_rmse_percent(np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([1.0, 0.0])) == 50.0


def test_weights_count_repeats(problem):
    designs = np.repeat(SPACE.sample(30, 0, feasible=True), [1, 2, 3] * 10, axis=0)
    data = from_evaluation(problem, designs, problem.evaluate(designs)[0], ["time_ns"])
    assert data.weight.sum() == 60 and len(data) == len(np.unique(SPACE.canonical(designs), axis=0))


def test_fingerprint_is_of_the_data_not_its_order(problem, proxy):
    data = proxy.training
    order = np.random.default_rng(0).permutation(len(data))
    assert data.take(order).fingerprint == data.fingerprint
    assert data.take(order[:-1]).fingerprint != data.fingerprint


def test_too_little_data_is_refused(problem):
    with pytest.raises(ArchGymError, match="at least 20"):
        train_on_problem(problem, 10)


def test_infeasibility_beyond_the_space_is_learned(problem):
    """Designs that only the simulator refuses are predicted to be refused."""
    designs = SPACE.sample(600, 3)
    evaluation = problem.simulator.evaluate(designs, problem.workload)
    refused = (designs[:, 2] == 3) & (designs[:, 1] >= 3)
    violation = evaluation.violation.copy()
    violation[refused & (violation == "")] = "too_hot"
    from archgym.simulator import Evaluation

    data = from_evaluation(problem, designs, Evaluation.build(evaluation.metrics, violation), ["time_ns"])
    about = {"simulator": "toy", "version": "1", "space": "small", "fidelity": None, "options": {}}
    from archgym.proxies.training import choose_metrics

    made = fit(data, choose_metrics(problem, ["time_ns"]), settings=FAST, about=about, calibrate=False)
    test = SPACE.sample(1000, 9)
    hot = (test[:, 2] == 3) & (test[:, 1] >= 3)
    said = made.predict(test, problem.workload).violation
    open_rows = SPACE.violations(test) == ""
    assert ((said == "too_hot") == hot)[open_rows].mean() > 0.98
    assert (said[~open_rows] == "fast_depth").all()


# --- several workloads -----------------------------------------------------------------------------------------------


def test_one_proxy_for_several_workloads(tmp_path):
    for name in ("light", "heavy"):
        collect(make_problem(f"toy/{name}"), tmp_path, count=250, seed=1)
    data, metrics, first = from_dataset(Dataset(tmp_path))
    made = fit(data, metrics, settings=FAST, about={"simulator": "toy", "version": "1", "space": "small",
                                                  "fidelity": None, "options": {}})  # fmt: skip
    assert made.about["workload_features"] == ["load"]
    designs = SPACE.sample(400, 7, feasible=True)
    for name in ("light", "heavy"):
        problem = make_problem(f"toy/{name}")
        truth = problem.simulator.evaluate(designs, problem.workload)
        assert relative_rmse_percent(made.means(designs, problem.workload)["time_ns"], truth.metrics["time_ns"]) < 6
    assert first.simulator.name == "toy"
    with pytest.raises(ArchGymError, match="at least three workloads"):
        unseen_workload_errors(data, metrics, settings=FAST)


def test_an_unknown_workload_is_refused_or_flagged(problem, proxy):
    other = make_problem("toy/heavy")
    with pytest.raises(ArchGymError, match="was trained on light"):
        proxy.means(SPACE.sample(3, 0), other.workload)


# --- the simulator -------------------------------------------------------------------------------------------------


def test_the_proxy_is_a_simulator(file, problem):
    made = make_problem("toy/light", simulator=f"proxy:{file}")
    assert made.simulator.stands_for.name == "toy" and made.space.names == problem.space.names
    designs = SPACE.sample(500, 3)
    evaluation, rewards = made.evaluate(designs)
    truth = problem.evaluate(designs)[0]
    assert np.array_equal(evaluation.feasible, truth.feasible) and np.isfinite(rewards).all()
    assert np.isnan(evaluation.metrics["time_ns"][~evaluation.feasible]).all()
    assert relative_rmse_percent(*[e.metrics["time_ns"][truth.feasible] for e in (evaluation, truth)]) < 6
    one = made.evaluate(designs[::-1])[0]
    assert np.array_equal(one.metrics["time_ns"][::-1], evaluation.metrics["time_ns"], equal_nan=True)
    made_by_metric = make_problem("toy/light", simulator=f"proxy:{file}", objective="energy_pj")
    assert np.isfinite(made_by_metric.evaluate(designs)[1]).all()


def test_it_pickles_with_what_it_learned(file):
    made = make_problem("toy/light", simulator=f"proxy:{file}")
    designs = made.space.sample(20, 0)
    check_copies(made, lambda problem: problem.evaluate(designs))


def test_agents_and_environments_take_it(file, tmp_path):
    import gymnasium

    from archgym.envs import DesignEnv

    made = make_problem("toy/light", simulator=f"proxy:{file}")
    done = search(made, make_agent("ga", made, 1), 200, log=tmp_path / "x.arrows")
    assert done.evaluations == 200
    table = Dataset(tmp_path / "x.arrows").table()
    assert "+proxy." in table.column("simulator_version")[0].as_py() and "proxy_outside" in table.column_names
    env = DesignEnv("toy", "light", simulator=f"proxy:{file}")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation) and isinstance(env, gymnasium.Env)
    assert env.step(env.action_space.sample())[1] > -25


def test_designs_outside_the_training_ranges_are_flagged(problem, tmp_path):
    designs = SPACE.sample(600, 0)
    designs = designs[designs[:, 1] < 4]
    data = from_evaluation(problem, designs, problem.simulator.evaluate(designs, problem.workload), ["time_ns"])
    from archgym.proxies.training import choose_metrics, facts_of

    made = fit(data, choose_metrics(problem, ["time_ns"]), settings=FAST, about=facts_of(problem))
    simulator = load_proxy(made.save(tmp_path / "x.proxy.npz"), Toy())
    test = SPACE.sample(300, 4, feasible=True)
    flags = simulator.evaluate(test, problem.workload).metrics["proxy_outside"]
    assert np.array_equal(flags == 1, test[:, 1] >= 4)


def test_every_kth_design_is_checked_the_same_ones_always(file, problem):
    made = make_problem("toy/light", simulator=f"proxy:{file}?every=4")
    designs = np.unique(SPACE.canonical(SPACE.sample(4000, 2)), axis=0)
    evaluation = made.evaluate(designs)[0]
    checked = evaluation.metrics["proxy_checked"] == 1
    feasible = SPACE.violations(designs) == ""
    assert 0.15 < checked[feasible].mean() < 0.35
    truth = problem.evaluate(designs)[0]
    assert np.array_equal(evaluation.metrics["time_ns"][checked], truth.metrics["time_ns"][checked])
    single = np.concatenate([made.evaluate(d[None])[0].metrics["time_ns"] for d in designs[:40]])
    assert np.array_equal(single, evaluation.metrics["time_ns"][:40], equal_nan=True)


def test_uncertain_designs_are_checked(file, problem):
    plain = make_problem("toy/light", simulator=f"proxy:{file}")
    mixed = make_problem("toy/light", simulator=f"proxy:{file}?uncertain=0.03")
    designs = SPACE.sample(800, 2, feasible=True)
    before = plain.evaluate(designs)[0]
    after = mixed.evaluate(designs)[0]
    wide = before.metrics["proxy_relative_error"] > 0.03
    assert 0 < wide.sum() < len(designs)
    assert np.array_equal(after.metrics["proxy_checked"] == 1, wide)
    truth = problem.evaluate(designs)[0].metrics["time_ns"]
    errors = [relative_rmse_percent(e.metrics["time_ns"], truth) for e in (before, after)]
    assert errors[1] < errors[0]


def test_it_trains_on(problem, tmp_path):
    made = train_on_problem(problem, 80, settings=FAST)
    simulator = load_proxy(f"{made.save(tmp_path / 'x.proxy.npz')}?every=2&retrain=150", Toy())
    test = held_out(problem, 1000, 3, made.training.designs)
    truth = problem.simulator.evaluate(test, problem.workload)
    before = evaluate(simulator.proxy, problem.workload, test, truth)
    simulator.evaluate(SPACE.sample(800, 1), problem.workload)
    after = evaluate(simulator.proxy, problem.workload, test, truth)
    assert simulator.proxy.about["designs"] > made.about["designs"] + 50
    rmse = [e["metrics"]["time_ns"]["relative_rmse_percent"] for e in (before, after)]
    assert rmse[1] < 0.8 * rmse[0]


def test_budgets_count_proxy_evaluations(file):
    made = make_problem("toy/light", simulator=f"proxy:{file}")
    with Evaluator(made, budget=50) as evaluator:
        evaluator.evaluate(SPACE.sample(80, 1))
        assert evaluator.used == 50


def test_proxy_paths():
    assert parse_path("a/b.npz?every=5&uncertain=0.1")[1] == {"every": 5, "uncertain": 0.1}
    for bad in ("x?evry=5", "x?every=a"):
        with pytest.raises(ArchGymError):
            parse_path(bad)


# --- files ---------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("something in the file was executed",))


def rewritten(file, tmp_path, edit):
    with np.load(file, allow_pickle=False) as source:
        arrays = {name: source[name] for name in source.files}
    about = json.loads(bytes(arrays["about"]).decode())
    edit(about, arrays)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    path = tmp_path / "y.proxy.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(Bomb()), b"\x93NUMPY" + b"x" * 50, bytes(1000)])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "x.proxy.npz"
    path.write_bytes(content)
    with pytest.raises(ArchGymError, match="the proxy "):
        load_proxy(path, Toy())


def test_pickles_inside_are_not_opened(file, tmp_path):
    path = tmp_path / "x.proxy.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, buffer.getvalue() if name == "factors.npy" else source.read(name))
    with pytest.raises(ArchGymError, match="the proxy "):
        load_proxy(path, Toy())


def test_truncated_files_are_refused(file, tmp_path):
    content = file.read_bytes()
    for keep in (10, len(content) // 2, len(content) - 10):
        path = tmp_path / f"{keep}.proxy.npz"
        path.write_bytes(content[:keep])
        with pytest.raises(ArchGymError, match="the proxy "):
            load_proxy(path, Toy())


def set_in(key, value):
    return lambda about, arrays: about.__setitem__(key, value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (set_in("format", 9), "format 9"),
        (set_in("simulator", "dram"), "a proxy of 'dram'"),
        (set_in("version", "0"), "version '0'"),
        (set_in("space", "large"), "the space 'large'"),
        (set_in("parameters", ["a"]), "other parameters"),
        (set_in("workload_features", [3]), "workload_features.0. of the proxy .* is 3"),
        (set_in("targets", 3), "targets of the proxy .* is 3; expected a list"),
        (lambda about, arrays: about["parts"]["model"].update(model="os.system"), "unknown"),
        (lambda about, arrays: arrays.pop("model.0.root"), "malformed"),
        (lambda about, arrays: arrays.__setitem__("factors", np.zeros((1, 1))), "malformed"),
        (lambda about, arrays: arrays.__setitem__("seen.0", np.zeros(99, bool)), "malformed"),
        (lambda about, arrays: arrays.__setitem__("training.designs", np.full((2, 6), 99)), "cannot be used|index"),
        (lambda about, arrays: arrays["model.0.left"].__setitem__(slice(None), 10**6), "malformed"),
    ],
)
def test_harmful_files_are_refused(file, tmp_path, edit, words):
    with pytest.raises(ArchGymError, match=words) as caught:
        load_proxy(rewritten(file, tmp_path, edit), Toy())
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ArchGymError, match="does not exist"):
        load_proxy(tmp_path / "none.npz", Toy())


# --- the command line --------------------------------------------------------------------------------------------------


def run(*arguments, code=0):
    result = CliRunner().invoke(group, [*map(str, arguments), "--json"])
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_commands(tmp_path):
    fast = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    made = run("train", "toy/light", "--out", tmp_path / "p.proxy.npz", "-n", 150, *fast)
    assert made["errors"]["time_ns"]["relative_rmse_percent"] < 20
    collect(make_problem("toy/light"), tmp_path / "data", count=200)
    assert run("train", tmp_path / "data", "--out", tmp_path / "q.proxy.npz", *fast)["designs"] > 100
    found = run("evaluate", tmp_path / "p.proxy.npz", "toy/light", "-n", 500)
    assert found["metrics"]["time_ns"]["kendall_tau"] > 0.8 and found["designs_per_s"] > 1000
    used = run("use", tmp_path / "p.proxy.npz", "toy/light", "--budget", 300, "--check", 5)
    assert used["simulator_evaluations"] == 5 and used["reward"] > 0
    best = max(make_problem("toy/light").evaluate(SPACE.sample(3000, 0))[1])
    assert used["reward"] > best - 0.1


def test_the_experiment_is_one_command(tmp_path):
    fast = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    found = run(
        "compare", "toy/light", "--out", tmp_path, "--agents", "random,ga", "--sizes", "40,120", "--test", 300, *fast
    )
    table = {(r["source"], r["size"]): r["relative_rmse_percent"] for r in found["table"]}
    assert set(table) == {(s, n) for s in ("random", "ga", "all agents") for n in (40, 120)}
    assert table["random", 120] < table["random", 40]
    assert (tmp_path / "experiment.png").stat().st_size > 1000 and (tmp_path / "experiment.json").exists()


def test_speed_is_measured(problem, proxy):
    assert predictions_per_second(proxy, problem.workload, SPACE.sample(20_000, 0), 0.2) > 5000
