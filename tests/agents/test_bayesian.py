"""The models of Bayesian optimisation give what their formulas and libraries give."""

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


def _mixed():
    from archgym.space import DesignSpace, Parameter

    return DesignSpace(
        [
            Parameter("size", (1, 2, 4, 8, 16)),
            Parameter("policy", ("open", "closed", "adaptive"), ordered=False),
            Parameter("flag", (False, True), ordered=False),
            Parameter("fixed", (3,)),
            Parameter("kind", ("a", "b", "c", "d"), ordered=False),
        ]
    )


@pytest.mark.parametrize("rough", [False, True])
def test_the_mixed_process_descends_its_own_gradient(rough):
    from archgym.agents.mixed_gp import MixedGP

    rng = np.random.default_rng(0)
    space = _mixed()
    model = MixedGP(space, rough)
    x = model.features(np.unique(space.sample(40, 1), axis=0))
    y = rng.normal(size=len(x))
    log = model._log + rng.normal(size=len(model._log)) * 0.5
    step = 1e-5
    numeric = [
        (model._loss(log + e, x, y)[0] - model._loss(log - e, x, y)[0]) / (2 * step) for e in np.eye(len(log)) * step
    ]
    np.testing.assert_allclose(model._loss(log, x, y)[1], numeric, rtol=1e-5, atol=1e-6)


def test_the_mixed_process_predicts_what_the_formulas_say():
    from archgym.agents.mixed_gp import ROOT5, MixedGP

    space = _mixed()
    designs = np.unique(space.sample(60, 2), axis=0)
    y = np.sin(designs.sum(axis=1).astype(float))
    y = (y - y.mean()) / y.std()
    model = MixedGP(space)
    model.fit(designs, y)
    points = space.sample(30, 3)
    mean, deviation = model.predict(points)
    scales = np.exp(model._log[: space.dimension])
    ordered = np.array([p.ordered for p in space.parameters])

    def kernel(a, b):
        apart = np.where(ordered, (a[:, None] - b) / np.maximum(space.nvec - 1, 1), (a[:, None] != b).astype(float))
        r = ROOT5 * np.sqrt(((apart / scales) ** 2).sum(axis=2))
        return model._signal * (1 + r + r * r / 3) * np.exp(-r)

    inverse = np.linalg.inv(kernel(designs, designs) + model._noise * np.eye(len(y)))
    cross = kernel(points, designs)
    np.testing.assert_allclose(mean, cross @ inverse @ (y - y.mean()) + y.mean(), atol=1e-5)
    variance = model._signal - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    np.testing.assert_allclose(deviation**2, np.maximum(variance, 1e-12), atol=1e-5)
    # Believing a point is observing its mean there.
    believed = model.believe(7)
    more = np.concatenate([designs, points[7:8]])
    inverse = np.linalg.inv(kernel(more, more) + model._noise * np.eye(len(more)))
    cross = kernel(points, more)
    expected = model._signal - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    np.testing.assert_allclose(believed**2, np.maximum(expected, 1e-12), atol=1e-5)


def test_the_logarithm_of_the_improvement_has_no_floor():
    from archgym.agents.bayesian import log_improvement

    z = np.array([-40.0, -12.0, -6.1, -5.9, -1.0, 0.0, 3.0])
    found = log_improvement(z.copy())
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()
    from scipy.integrate import quad
    from scipy.stats import norm

    for value, expected in zip(z[2:], found[2:], strict=True):
        integral = quad(lambda u, v=value: u * norm.pdf(u - v), 0.0, 12.0, epsabs=0.0)[0]
        assert expected == pytest.approx(np.log(integral), abs=0.02)


@pytest.mark.parametrize("name", ["synthetic/packing", "soc/audio_decoder"])
def test_bo_keeps_to_canonical_designs_that_the_constraints_allow(name):
    from archgym.agents import make_agent
    from archgym.problem import make_problem

    problem = make_problem(name)
    agent, seen = make_agent("bo", problem, 0), []
    while len(seen) < 40:
        designs = agent.ask(64)
        if seen:  # (the first designs are drawn, not chosen)
            assert np.array_equal(designs, problem.space.canonical(designs))
        assert (problem.space.violations(designs) == "").all()
        seen += [row.tobytes() for row in problem.space.canonical(designs)]
        agent.tell(designs, *problem.evaluate(designs))
    assert len(set(seen)) == len(seen)


def test_what_a_change_makes_active_is_drawn_anew():
    from archgym.agents.moves import awakened
    from archgym.problem import make_problem

    space = make_problem("soc/audio_decoder").space
    designs = np.unique(space.canonical(space.sample(30, 0)), axis=0)
    found, start = (
        awakened(space, designs, 20, np.random.default_rng(1)).reshape(-1, space.dimension),
        np.repeat(designs, 20, 0),
    )
    assert np.array_equal(space.canonical(found), start)
    # A task on a processor has no unrolling of its own: its canonical value is the first, here it is any.
    task = next(name.partition(".")[2] for name in space.names if name.startswith("unroll."))
    pe, unroll = space.position(f"pe.{task}"), space.position(f"unroll.{task}")
    off = start[:, pe] != space[f"pe.{task}"].index("accel")
    assert np.array_equal(found[~off, unroll], start[~off, unroll])
    assert len(np.unique(found[off, unroll])) > 5 > 1 == len(np.unique(start[off, unroll]))


def test_bo_holds_where_a_design_has_56_parameters():
    from archgym.agents import make_agent, search
    from archgym.problem import make_problem

    problem = make_problem("soc/audio_decoder")
    best = [search(problem, make_agent("bo", problem, seed), 80).best.reward for seed in range(3)]
    drawn = np.sort(problem.evaluate(problem.space.sample(4000, 0))[1])
    # As good as the best of a thousand uniform designs.
    assert np.median(best) >= drawn[-4]


def test_a_batch_grows_with_what_is_known():
    from archgym.agents import make_agent
    from archgym.problem import make_problem

    problem = make_problem("synthetic/branin")
    agent, sizes = make_agent("bo", problem, 0, initial=5, ramp=4, batch=3), []
    while sum(sizes) < 20:
        designs = agent.ask(64)
        sizes.append(len(designs))
        agent.tell(designs, *problem.evaluate(designs))
    assert sizes == [5, 1, 1, 1, 2, 2, 3, 3, 3]


def test_a_probe_is_one_change_of_the_best_trial():
    from archgym.agents import make_agent
    from archgym.problem import make_problem

    problem = make_problem("synthetic/rugged")
    apart = {}
    for probe in ("never", "always"):
        agent, trials, rewards, apart[probe] = make_agent("bo", problem, 0, probe=probe), [], [], []
        for _ in range(6):
            designs = agent.ask(64)
            if trials:
                best = np.concatenate(trials)[np.argmax(np.concatenate(rewards))]
                apart[probe].append(int((designs[-1] != best).sum()))
            evaluation, reward = problem.evaluate(designs)
            agent.tell(designs, evaluation, reward)
            trials.append(designs), rewards.append(reward)
    assert apart["always"] == [1] * 5 != apart["never"]


@pytest.mark.parametrize(
    "name, probes",
    [("soc/edge_detection", True), ("soc/all", True), ("mapping/resnet18-2", False), ("dram/gzip", False)],
)
def test_changes_are_probed_where_many_make_no_difference(name, probes):
    from archgym.agents import make_agent
    from archgym.problem import make_problem

    assert make_agent("bo", make_problem(name), 0)._probes is probes


def test_threads_of_blas_come_back_when_the_last_agent_leaves():
    from threadpoolctl import threadpool_info, threadpool_limits

    from archgym.agents.bayesian import one_thread

    def counts():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        first, second = one_thread(), one_thread()
        assert counts() == {2}
        with first:
            second.__enter__()
            assert counts() == {1}
        assert counts() == {1}  # the other one, of another thread, still sums
        second.__exit__(None, None, None)
        assert counts() == {2}
