"""The compiled PPO: its gradient is that of its objective, its draws are those of its distribution, and it learns."""

import pickle

import numpy as np
import pytest

from archgym.agents import make_agent, search
from archgym.agents.autoregressive import draw, improve, softmax, surrogate
from archgym.problem import make_problem
from archgym.threads import limit_threads

OFFSETS = np.array([0, 3, 4, 8])
VALUES, D, WIDTH = 8, 3, 6


def network(rng):
    net = rng.normal(size=(1 + 2 * VALUES + D, WIDTH)).astype(np.float32)
    net[0, -1] = 1.0
    net[1 : 1 + VALUES, -1] = 0.0
    return net


def forward(net, design):
    """Log-probabilities of all values of each parameter, and the baselines, of one design, in plain NumPy."""
    net = net.astype(np.float64)
    total, logs, baseline = net[0].copy(), [], []
    for j, chosen in enumerate(design):
        hidden = np.maximum(total, 0.0)
        logits = net[1 + VALUES + OFFSETS[j] : 1 + VALUES + OFFSETS[j + 1]] @ hidden
        logs.append(logits - np.log(np.exp(logits).sum()))
        baseline.append(net[1 + 2 * VALUES + j] @ hidden)
        total += net[1 + OFFSETS[j] + chosen]
    return logs, np.array(baseline)


def objective(net, designs, old, returns, advantages, clip, weight):
    total = 0.0
    for i, design in enumerate(designs):
        logs, baseline = forward(net, design)
        for j, log in enumerate(logs):
            ratio = np.exp(log[design[j]] - old[i, j])
            total += min(ratio * advantages[i, j], np.clip(ratio, 1 - clip, 1 + clip) * advantages[i, j])
            total -= weight * (np.exp(log) * log).sum() + 0.5 * (returns[i] - baseline[j]) ** 2
    return total / designs.size


def test_the_gradient_is_that_of_the_objective():
    rng = np.random.default_rng(0)
    net, designs = network(rng), rng.integers(0, np.diff(OFFSETS), (5, D))
    old = np.array([[log[x] for log, x in zip(forward(net, design)[0], design, strict=True)] for design in designs])
    old = (old + rng.normal(0, 0.3, old.shape)).astype(np.float32)  # some ratios are beyond the clip
    returns = rng.normal(size=5).astype(np.float32)
    advantages = rng.normal(size=(5, D)).astype(np.float32)
    gradient = np.zeros_like(net)
    context, of_context = np.zeros((2, 5, WIDTH), dtype=np.float32)
    surrogate(net, OFFSETS, context, designs, old, returns, advantages, 0.2, 0.1, gradient, of_context)
    assert of_context.sum(axis=0) == pytest.approx(gradient[0], abs=1e-6), "a context is added to the start"
    assert not gradient[1 : 1 + VALUES, -1].any() and gradient[0, -1] == 0.0, "the constant unit is not learnt"
    told = (designs, old, returns, advantages, 0.2, 0.1)
    for r, m in [(r, m) for r in range(len(net)) for m in range(WIDTH - 1)]:
        high, low = net.astype(np.float64), net.astype(np.float64)
        high[r, m] += 1e-5
        low[r, m] -= 1e-5
        slope = (objective(high, *told) - objective(low, *told)) / 2e-5
        assert gradient[r, m] == pytest.approx(slope, rel=2e-3, abs=2e-5)


def test_draws_follow_the_distribution():
    rng = np.random.default_rng(1)
    net, n = network(rng) * np.float32(0.5), 60_000
    designs, log_p = np.empty((n, D), dtype=np.int64), np.empty((n, D), dtype=np.float32)
    baseline = np.empty_like(log_p)
    draw(net, OFFSETS, np.zeros((n, WIDTH), np.float32), rng.random((n, D)), designs, log_p, baseline)
    rows, counts = np.unique(designs, axis=0, return_counts=True)
    for row, count in zip(rows, counts, strict=True):
        logs, values = forward(net, row)
        p = np.exp(sum(log[x] for log, x in zip(logs, row, strict=True)))
        assert count / n == pytest.approx(p, abs=5 * np.sqrt(p / n) + 1e-4)
        first = np.flatnonzero((designs == row).all(axis=1))[0]
        assert np.exp(log_p[first].sum()) == pytest.approx(p, rel=1e-4)
        assert baseline[first] == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_a_context_moves_the_start_of_the_hidden_layer():
    rng = np.random.default_rng(3)
    net, context = network(rng), rng.normal(size=(40, WIDTH)).astype(np.float32)
    context[:, -1] = 0.0
    designs, (log_p, baseline) = np.empty((40, D), dtype=np.int64), np.empty((2, 40, D), dtype=np.float32)
    draw(net, OFFSETS, context, rng.random((40, D)), designs, log_p, baseline)
    for i, row in enumerate(designs):
        moved = net.copy()
        moved[0] += context[i]
        logs, values = forward(moved, row)
        assert log_p[i] == pytest.approx([log[x] for log, x in zip(logs, row, strict=True)], rel=1e-4, abs=1e-4)
        assert baseline[i] == pytest.approx(values, rel=1e-4, abs=1e-4)


def test_a_number_at_the_upper_end_still_draws_a_value():
    net = np.zeros((1 + 2 * VALUES + D, WIDTH), dtype=np.float32)
    designs, log_p = np.empty((1, D), dtype=np.int64), np.empty((1, D), dtype=np.float32)
    none, most = np.zeros((1, WIDTH), np.float32), np.full((1, D), np.nextafter(1.0, 0.0))
    draw(net, OFFSETS, none, most, designs, log_p, log_p.copy())
    assert designs.tolist() == [[2, 0, 3]]
    p, logs = np.empty((2, 4), dtype=np.float32)
    softmax(net[:4], net[0], p, logs)
    assert p == pytest.approx(0.25) and np.exp(logs) == pytest.approx(0.25)


def test_passes_raise_what_was_good():
    rng = np.random.default_rng(2)
    net, designs = network(rng), np.array([[0, 0, 1], [2, 0, 3]])
    log_p = np.array(
        [[log[x] for log, x in zip(forward(net, row)[0], row, strict=True)] for row in designs], np.float32
    )
    advantages = np.array([[1.0] * D, [-1.0] * D], dtype=np.float32)
    moments = np.zeros((2, *net.shape), dtype=np.float32)
    improve(net, moments, OFFSETS, designs, log_p, np.zeros(2, np.float32), advantages, 5, 0, 0.01, 0.2, 0.0, True)
    good, bad = (sum(log[x] for log, x in zip(forward(net, row)[0], row, strict=True)) for row in designs)
    assert good > log_p[0].sum() and bad < log_p[1].sum()


@pytest.mark.parametrize("mode", ["construct", "design"])
def test_beats_random_on_most_test_functions(mode):
    names = ("separable", "rugged", "packing", "hartmann6", "rastrigin")
    won = []
    for name in names:
        problem = make_problem(f"synthetic/{name}")
        ours = [search(problem, make_agent("ppo-fast", problem, s, action_mode=mode), 1000).regret for s in range(5)]
        uniform = [search(problem, make_agent("random", problem, s), 1000).regret for s in range(11)]
        won += [name] if np.median(ours) < np.median(uniform) else []
    assert len(won) >= 4, won


def test_only_the_choices_made_matter_in_design_mode():
    problem = make_problem("synthetic/rugged")
    agent = make_agent("ppo-fast", problem, 0, action_mode="design")
    search(problem, agent, 300)
    values = int(problem.space.nvec.sum())
    assert not agent._net[1 : 1 + values].any()


def test_threads_and_copies_change_nothing():
    problem = make_problem("synthetic/packing")

    def designs(threads, copied=False):
        agent, tried = make_agent("ppo-fast", problem, 5), []
        with limit_threads(threads):
            for _ in range(8):
                asked = agent.ask(1024)
                tried.append(asked.copy())
                agent.tell(asked, *problem.evaluate(asked))
                agent = pickle.loads(pickle.dumps(agent)) if copied else agent
        return np.concatenate(tried)

    first = designs(1)
    assert np.array_equal(first, designs(2)) and np.array_equal(first, designs(1, copied=True))
    assert (problem.space.violations(first) == "").all(), "what breaks a declared constraint is not proposed"
