"""Differentiable search: the two-level gradients in closed form, the mixture against single networks, every method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archgym.simulators.nas import cells
from archgym.simulators.nas.data import DataRecipe
from archgym.simulators.nas.macro import macro

from .test_training import CELLS, toy_data

torch = pytest.importorskip("torch")

from archgym.simulators.nas.differentiable import bilevel  # noqa: E402
from archgym.simulators.nas.differentiable import methods as m  # noqa: E402
from archgym.simulators.nas.differentiable.mixture import OUT_OF, MixtureNetwork  # noqa: E402
from archgym.simulators.nas.differentiable.search import (  # noqa: E402
    Search,
    SearchRecipe,
    expected_random_search,
    run_search,
    worth,
)

ALL = torch.ones((6, 5), dtype=torch.bool)
RECIPE = SearchRecipe(
    data=DataRecipe(train=80, valid=20, test=20), epochs=3, batch=20, choice_rate=0.05, matching_batches=1
)


# --- the toy problem of the DARTS paper: L_val = a w - 2 a + 1, L_train = (w - a)^2, start (a, w) = (2, -2) ------------


def toy_training(weights: Any, choices: Any) -> Any:
    return ((weights[0] - choices[0]) ** 2).sum()


def toy_validation(weights: Any, choices: Any) -> Any:
    return (choices[0] * weights[0] - 2.0 * choices[0] + 1.0).sum()


def toy(*values: float) -> list[Any]:
    return [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values]


def descend(tensor: Any, gradient: Any, rate: float) -> None:
    with torch.no_grad():
        tensor -= rate * gradient


@pytest.mark.parametrize(("inner", "expected"), [(None, 2.0), (0.1, 2 / 1.2), (0.5, 1.0)])
def test_darts_ends_where_the_closed_form_says(inner: float | None, expected: float) -> None:
    (a, w) = toy(2.0, -2.0)
    for _ in range(1500):
        if inner is None:
            (gradient,) = bilevel.first_order(toy_validation, [w], [a])
        else:
            (gradient,) = bilevel.second_order(toy_training, toy_validation, [w], [a], inner)
        descend(a, gradient, 0.02)
        descend(w, bilevel.gradients(toy_training([w], [a]), [w])[0], 0.2)
    assert (a.item(), w.item()) == pytest.approx((expected, expected), abs=1e-3)


@pytest.mark.parametrize(("both", "expected"), [(10.0, (1.0811, 1.0270)), (50.0, (1.0152, 1.0051))])
def test_rarts_ends_near_the_optimum_of_both_levels(both: float, expected: tuple[float, float]) -> None:
    (a, w, y) = toy(2.0, -2.0, -2.0)
    rate = 0.4 / both
    for _ in range(int(80 * both)):
        descend(w, bilevel.rarts_weights(toy_training, [w], [y], [a], both, both)[0], rate)
        descend(y, bilevel.rarts_weights(toy_validation, [y], [w], [a], 1.0, both)[0], rate)
        descend(a, bilevel.rarts_choices(toy_training, toy_validation, [w], [y], [a], both)[0], rate)
    assert (a.item(), w.item()) == pytest.approx(expected, abs=1e-3)


def test_the_step_ahead_is_the_optimisers_next_step() -> None:
    """With momentum and weight decay: the gradient of a loss of w' alone tells where w' is."""
    (a, w) = toy(0.7, 1.5)
    buffer = [torch.tensor([0.3], dtype=torch.float64)]
    seen = []

    def validation(weights: Any, choices: Any) -> Any:
        seen.append(float(weights[0].detach()))
        return (weights[0] * 0.0 + choices[0] * 0.0).sum()

    bilevel.second_order(toy_training, validation, [w], [a], 0.1, buffer, 0.9, 0.01)
    optimiser = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)
    optimiser.state[w]["momentum_buffer"] = buffer[0].clone()
    w.grad = bilevel.gradients(toy_training([w], [a]), [w])[0]
    optimiser.step()
    assert seen[0] == pytest.approx(float(w.detach()), abs=1e-12)


# --- the mixture --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist1d-C8S2", "digits-C8S2"])
@pytest.mark.parametrize("ops", CELLS)
def test_one_open_operation_an_edge_is_the_cells_network(name: str, ops: list[int]) -> None:
    from archgym.simulators.nas.network import CellNetwork

    skeleton = macro(name)
    mixture = MixtureNetwork(name)
    weights = mixture.initial(0, torch.float64)
    network = CellNetwork(ops, skeleton).double().train()
    at = iter(weights)

    def fill(*targets: Any) -> None:
        for target in targets:
            target.data.copy_(next(at).detach())

    fill(network.stem[0].weight, network.stem[1].weight, network.stem[1].bias)
    for block in network.blocks:
        if not hasattr(block, "ops"):
            for part in (block.a, block.b):
                fill(part[1].weight, part[2].weight, part[2].bias)
            fill(block.shortcut.weight)
            continue
        channels = None
        for edges in OUT_OF:
            both = {2: next(at).detach(), 3: next(at).detach()}
            channels = both[2].shape[1]
            for k, edge in enumerate(edges):
                if ops[edge] in both:
                    block.edges[edge][1].weight.data.copy_(both[ops[edge]][k * channels : (k + 1) * channels])
    fill(network.norm.weight, network.norm.bias, network.classifier.weight, network.classifier.bias)
    shape = (12, *(skeleton.size,) * skeleton.dimensions)
    x = torch.as_tensor(np.random.default_rng(0).normal(size=shape))
    p = torch.nn.functional.one_hot(torch.tensor(ops), 5).double()
    with torch.no_grad():
        assert torch.allclose(mixture.logits(weights, x, p), network(x[:, None]), atol=1e-6)


def test_partial_channels_pass_the_rest_by() -> None:
    mixture = MixtureNetwork("mnist1d-C8S2", partial=2)
    weights = mixture.initial(0)
    x = torch.randn((4, 40), generator=torch.Generator().manual_seed(0))
    nothing, skip = torch.zeros((6, 5)), torch.zeros((6, 5))
    skip[:, 1] = 1.0
    b = torch.tensor([1.0, 0.5, 0.5, 0.2, 0.3, 0.5])
    assert not torch.allclose(mixture.logits(weights, x, nothing, b), mixture.logits(weights, x, skip, b))
    assert torch.isfinite(mixture.logits(weights, x, nothing, b)).all()
    convolutions = [s for s, e in zip(mixture.shapes, mixture.edge_of, strict=True) if e]
    assert all(shape[1] in (4, 8) for shape in convolutions)


# --- samples ------------------------------------------------------------------------------------------------------------


def test_samples_keep_to_the_allowed_operations_and_their_probabilities() -> None:
    allowed = ALL.clone()
    allowed[2, [0, 4]] = False
    choices = torch.randn((6, 5), generator=torch.Generator().manual_seed(1), requires_grad=True)
    p = m.probabilities(choices, allowed)
    generator = torch.Generator().manual_seed(0)
    counted = torch.zeros((6, 5))
    for _ in range(600):
        gates = m.mixture_weights(m.METHODS["gdas"], choices, allowed, 1.0, generator)
        counted += gates.detach().round()
    assert torch.allclose(counted / 600, p.detach(), atol=0.09)
    for name in m.METHODS:
        if name == "proxyless":
            continue
        weights = m.mixture_weights(m.METHODS[name], choices, allowed, 0.7, generator)
        assert (weights[~allowed] == 0).all() and (weights.detach() >= 0).all(), name
        if name != "sharp":
            assert torch.allclose(weights.sum(-1), torch.ones(6), atol=1e-5), name
        (gradient,) = torch.autograd.grad((weights * torch.arange(5.0)).sum(), [choices])
        assert gradient[allowed].abs().sum() > 0 and (gradient[~allowed] == 0).all(), name


def test_two_paths_leave_the_other_probabilities_alone() -> None:
    choices = torch.randn((6, 5), generator=torch.Generator().manual_seed(1), requires_grad=True)
    gates, pairs = m.two_paths(choices, ALL, torch.Generator().manual_seed(0))
    assert torch.allclose(gates.detach().sum(-1), torch.ones(6)) and (pairs[:, 0] != pairs[:, 1]).all()
    before = choices.detach()
    moved = m.keep_other_probabilities(before, before + torch.randn(6, 5), pairs)
    old, new = torch.softmax(before, -1), torch.softmax(moved, -1)
    others = torch.ones_like(old).scatter(1, pairs, 0.0).bool()
    assert torch.allclose(old[others], new[others], atol=1e-6) and not torch.allclose(old, new)
    assert (torch.autograd.grad((gates * torch.arange(5.0)).sum(), [choices])[0][others] == 0).all()


def test_divergence_from_the_uniform_dirichlet() -> None:
    assert float(m.dirichlet_divergence(torch.zeros((6, 5)), ALL)) == pytest.approx(0.0, abs=1e-6)
    assert float(m.dirichlet_divergence(torch.full((6, 5), 3.0), ALL)) > 1.0


# --- searches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*m.METHODS, "fewshot-darts"])
def test_equal_seeds_give_equal_searches(name: str) -> None:
    data = toy_data(RECIPE.data)
    recipe = replace(RECIPE, method=name)
    runs = [list(Search(recipe, seed, data).epochs()) for seed in (0, 0, 1)]
    assert len(runs[0]) == 3
    for one, two in zip(runs[0], runs[1], strict=True):
        assert np.array_equal(one.probabilities, two.probabilities) and one.cell == two.cell
    last = runs[0][-1]
    assert not np.array_equal(last.probabilities, runs[2][-1].probabilities)
    assert not (cells.rows(last.cell_without_none) == cells.NONE).any()
    assert last.probabilities.sum(1) == pytest.approx(np.ones(6)) and last.entropy < np.log(5)
    assert np.isfinite(last.training_loss)
    if name == "fewshot-darts":
        assert ((last.probabilities > 0).sum(1) < 5).sum() == 2  # two edges were split


@pytest.mark.parametrize("name", ["darts", "pc-darts"])
def test_choices_rest_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(RECIPE.data)
    search = Search(replace(RECIPE, method=name, epochs=10), 0, data)
    seen = [epoch.probabilities for epoch in search.epochs()]
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[2], seen[3])
    monkeypatch.setattr("archgym.simulators.nas.differentiable.search.load_data", lambda recipe: data)
    result = run_search(replace(RECIPE, method=name, epochs=4), 0)
    assert [epoch["validation_loss"] is None for epoch in result["trajectory"]] == [True, False, False, False]
    json.dumps(result, allow_nan=False)


def test_worth_and_the_expected_random_search() -> None:
    values = np.arange(cells.CELLS, dtype=np.float64)
    values[cells.is_dead(cells.all_rows())] = -1.0
    best = worth(int(np.argmax(values)), values)
    assert best["regret_points"] == 0.0 and best["percentile"] > 99.9
    rng = np.random.default_rng(0)
    signal, result = rng.random(cells.CELLS), rng.random(cells.CELLS)
    drawn = rng.integers(0, cells.CELLS, (20_000, 7))
    chosen = drawn[np.arange(20_000), signal[drawn].argmax(1)]
    assert expected_random_search(signal, result, 7) == pytest.approx(result[chosen].mean(), abs=0.01)


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dart"], "did you mean 'darts'"),
        (["fewshot-dart"], "did you mean 'fewshot-darts'"),
        (["darts", "--epochs", "0"], "0 epochs"),
        (["darts", "--choice-rate", "nan"], "rate is nan"),
        (["darts", "--device", "gpu"], "--latency FILE"),
        (["darts", "--workload", "darts-cifar10"], "unknown workload with data"),
        ([","], "at least one method"),
    ],
)
def test_bad_options_end_before_any_file(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from archgym.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["nas", "search", *arguments, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and not list(tmp_path.iterdir())
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_finished_searches_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mnist1d")
    from archgym.cli import main

    def run(*more: str) -> Any:
        capsys.readouterr()
        arguments = ["nas", "search", "darts", "--epochs", "1", "--workload", "nb201-mnist1d", "--json"]
        main([*arguments, "--out", str(tmp_path), *more], standalone_mode=False)
        return json.loads(capsys.readouterr().out)["searches"]

    first = run()
    assert run() == first and first[0]["cell_worth"]["regret_points"] >= 0
    assert [row["seed"] for row in run("--seeds", "2")] == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["darts-s0.json", "darts-s1.json"]
    with pytest.raises(SystemExit):
        run("--choice-rate", "0.1")
    assert "other settings" in capsys.readouterr().err


# --- agents -------------------------------------------------------------------------------------------------------------


def test_every_method_is_an_agent() -> None:
    from archgym.agents.base import load_agent
    from archgym.registry import AGENTS, CELL_AGENTS

    assert [*m.METHODS, "neas"] == list(CELL_AGENTS) and not set(CELL_AGENTS) & set(AGENTS)
    for name in CELL_AGENTS:
        assert load_agent(name).name == name and load_agent(name).__doc__
        if name in m.METHODS:
            assert load_agent(name).hyperparameters().epochs == m.METHODS[name].epochs


def test_an_agent_keeps_the_contract_and_asks_for_derived_cells_first() -> None:
    pytest.importorskip("mnist1d")
    from archgym.agents import make_agent, search
    from archgym.problem import make_problem

    problem = make_problem("nas/nb201-mnist1d")

    result = search(problem, make_agent("darts", problem, 0, epochs=2), 40)
    again = search(problem, make_agent("darts", problem, 0, epochs=2), 40)
    assert result.evaluations == 40 and result.improvements == again.improvements
    whole = search(problem, make_agent("darts", problem, 0, epochs=1), 20_000)
    assert whole.evaluations == cells.CELLS and whole.regret == 0.0


@pytest.mark.parametrize("problem", ["synthetic/rugged", "codesign/nb201-mnist1d"])
def test_agents_of_cells_refuse_other_problems(
    problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from archgym.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["run", problem, "--agent", "darts", "--budget", "5", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and not (tmp_path / "out").exists()
    assert "trains a supernet" in capsys.readouterr().err


@pytest.mark.parametrize("partial", [1, 2])
def test_operations_of_weight_zero_are_left_out_without_a_trace(partial: int) -> None:
    network = MixtureNetwork(RECIPE.macro, partial=partial)
    weights = network.initial(0, torch.float64)
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 40)))
    p = torch.zeros(6, 5, dtype=torch.float64)
    for edge, op in enumerate((cells.CONV3, cells.POOL, cells.CONV1, cells.CONV3, cells.SKIP, cells.NONE)):
        p[edge, op] = 0.7
    open_ones, every = network.logits(weights, x, p), network.logits(weights, x, p.clone().requires_grad_())
    assert torch.allclose(open_ones, every, rtol=0, atol=1e-10)
    for found, wanted in zip(
        bilevel.gradients(open_ones.square().sum(), weights),
        bilevel.gradients(every.square().sum(), weights),
        strict=True,
    ):
        assert torch.allclose(found, wanted, rtol=0, atol=1e-9)
