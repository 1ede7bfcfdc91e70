"""Architecture spaces of a user's own: ``arch:FILE.py:NAME`` and the language they are written in."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.networks import language as lang
from archgym.networks.arch_file import network_of
from archgym.networks.language import (
    Activation,
    Architecture,
    Built,
    Choice,
    Concatenate,
    Conv,
    Depthwise,
    Dropout,
    Identity,
    Linear,
    Norm,
    Optional,
    Parallel,
    Part,
    Pool,
    Repeat,
    Residual,
    Scope,
    Sequence,
    Shape,
)
from archgym.problem import make_problem
from archgym.simulator import names_own_file, runs_own_code

FILE = """
from archgym.networks.language import *

block = Sequence(Conv(Choice("filters", 4, 8), kernel=Choice("kernel", 1, 3)), Norm(), Activation())
net = Sequence(Repeat(Residual(block), Choice("blocks", 0, 1, 2)), Optional("pooled", Pool("max")))
number, plain = 7, Conv(8)


def made():
    return Sequence(Conv(8), net)


def broken():
    raise KeyError("no width")


def even():
    return Conv(8, kernel=Choice("kernel", 3, 4))


def twice():
    return Sequence(Conv(Choice("filters", 4, 8)), Conv(Choice("filters", 4, 16)))


def unfit():
    return Sequence(Choice("head", a=Linear(8), b=GlobalPool()), Conv(8))
"""


def rich() -> Part:
    """Every part, with choices wherever there can be one."""
    kernel = Choice("kernel", 1, 3, 5)
    operation = Choice(
        "operation",
        plain=Conv(Choice("filters", 8, 12), kernel, groups=Choice("groups", 1, 3), bias=Choice("bias", False, True)),
        separable=Sequence(Depthwise(kernel, multiplier=Choice("multiplier", 1, 2)), Conv(12, kernel=1)),
        skip=Identity(),
        pool=Pool("max", 3, Choice("pool_stride", 1, 2)),
    )
    block = Sequence(Residual(Sequence(operation, Norm(Choice("norm", "batch", "layer")))), Activation("relu"))
    sides = (Scope("left", Conv(Choice("filters", 4, 8))), Pool(Choice("mean", "average", "max"), 3, 1))
    return Sequence(
        Conv(6, stride=2, dilation=2),
        Repeat(block, Choice("blocks", 0, 1, 2), shared=False),
        Optional("mixed", Concatenate(*sides, Parallel(Conv(4), Sequence(Depthwise(5), Conv(4))))),
        Optional("halved", Pool("average", 2)),
        Dropout(Choice("rate", 0.0, 0.25)),
        Optional("hidden", Sequence(Linear(Choice("features", 16, 32)), Norm(), Activation("gelu"))),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "space.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("sizes", [(8, 8), (40,), (7, 5)])
def test_shapes_parameters_and_layers_are_those_of_the_network_in_torch(sizes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    from archgym.networks.torch_reader import workload_from_torch
    from archgym.simulators.nas.architecture_trainer import BuiltNetwork

    class Module(torch.nn.Module):
        def __init__(self, built: Built) -> None:
            super().__init__()
            self.made = BuiltNetwork(built, 0)
            self.made.training = False

        def forward(self, x):
            return self.made.forward(x)

    space = Architecture(rich(), Shape(1, sizes), 10)
    designs = space.space.sample(40, 1, feasible=True)[:12]
    for built in map(space.build, designs):
        module = Module(built)
        assert module(torch.zeros(3, 1, *sizes)).shape == (3, 1, 10)
        assert sum(p.numel() for p in module.made.parameters) == built.parameters
        seen, own = workload_from_torch(module, torch.zeros(1, 1, *sizes)), built.network("own")
        assert seen.macs == own.macs == built.macs
        assert sorted(seen.merged().array.tolist()) == sorted(own.merged().array.tolist())


def test_inactive_parameters_change_nothing_and_active_ones_do() -> None:
    space = Architecture(rich(), Shape(1, (8, 8)), 10)
    rules = {rule.parameter: rule for rule in space.space.inactive}
    seen = {"active": 0, "inactive": 0}
    for design in space.space.sample(60, 0, feasible=True):
        built = space._of(design)  # as it stands, before anything is made canonical
        assert built == space.build(design)
        for j, name in enumerate(space.space.names):
            other = design.copy()
            other[j] = (other[j] + 1) % space.space.nvec[j]
            if name in rules and rules[name].when(design[None])[0]:
                assert (space.space.canonical(other) == space.space.canonical(design)).all()
                assert space._of(other) == built
                seen["inactive"] += 1
            else:
                assert space._of(other) != built, name
                seen["active"] += 1
    assert min(seen.values()) > 100


def test_equal_networks_are_equal_whatever_their_designs() -> None:
    pair = [Choice(name, small=Conv(4, kernel=1), none=Identity(), large=Conv(4)) for name in ("a", "b")]
    for joined, equal in ((Parallel, True), (Sequence, False)):
        space = Architecture(Sequence(Conv(4), joined(*pair)), Shape(1, (8,)), 10)
        for first, second in itertools.permutations(("small", "none", "large"), 2):
            one, other = space.design({"a": first, "b": second}), space.design({"a": second, "b": first})
            # A sum has no order; a sequence has one, but for what is the identity.
            assert (space.build(one) == space.build(other)) is (equal or "none" in (first, second))


def test_choices_of_one_name_are_one_parameter_and_copies_have_their_own() -> None:
    part = Conv(Choice("filters", 4, 8))
    names = lambda body: Architecture(body, Shape(1, (8,)), 2).space.names  # noqa: E731
    assert names(Sequence(part, Conv(Choice("filters", 4, 8)))) == ("filters",)
    assert names(Sequence(part, Scope("deep", part))) == ("filters", "deep.filters")
    assert names(Repeat(part, 2, shared=False)) == ("0.filters", "1.filters")
    space = Architecture(Repeat(part, Choice("times", 1, 2), shared=False), Shape(1, (8,)), 2).space
    assert space.names == ("times", "times.0.filters", "times.1.filters")
    assert [rule.parameter for rule in space.inactive] == ["times.1.filters"]
    kinds = Architecture(Choice("kind", a=part, b=Identity()), Shape(1, (8,)), 2).space
    assert kinds["filters"].ordered and not kinds["kind"].ordered


def test_an_architecture_pickles_and_bounds_what_it_builds() -> None:
    space = Architecture(rich(), Shape(1, (40,)), 10)
    again = pickle.loads(pickle.dumps(space))
    assert again.text == space.text and again.space.names == space.space.names
    doubling = Architecture(Repeat(Concatenate(Identity(), Identity()), Choice("times", 1, 64)), Shape(1, (8,)), 2)
    assert doubling.space.violations(np.array([[0], [1]])).tolist() == ["", "shapes"]
    with pytest.raises(ArchGymError, match="channels; at most"):
        doubling.build([1])
    nested = Repeat(Repeat(Repeat(Activation(), 64), 64), Choice("times", 0, 1))
    with pytest.raises(ArchGymError, match="more than 2048 operations"):
        Architecture(nested, Shape(1, (8,)), 2).build([1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Choice("width"), "Choice 'width' needs either values or parts"),
        (lambda: Choice("width", 8, "wide"), "mixes kinds of values"),
        (lambda: Choice("width", 8, 8), "lists a value twice"),
        (lambda: Choice("a.b", 8), "is called 'a.b'; give a name of letters"),
        (lambda: Conv(0), "Conv: filters is 0; expected a whole number from 1"),
        (lambda: Conv(True), "Conv: filters is True"),
        (lambda: Conv(8, kernel=Choice("kernel", 3, 4)), "Conv: kernel is 4; expected an odd number"),
        (lambda: Conv(Choice("kind", a=Conv(8))), "of parts stands where a value is expected"),
        (lambda: Sequence(Choice("filters", 4, 8)).scan(lang.Scan()), "of values stands where a part is expected"),
        (lambda: Sequence(8), "Sequence holds a int; expected a part"),
        (lambda: Repeat(Conv(8), 65), "Repeat: times is 65; expected a whole number from 0 to 64"),
        (lambda: Activation("rely"), "did you mean 'relu'"),
        (lambda: Dropout(1), "Dropout: rate is 1; expected a number from 0 to below 1"),
        (lambda: Architecture(Conv(8), Shape(1, (8,)), 2), "no Choice, Optional or other choice"),
        (
            lambda: Architecture(Optional("a", Optional("a", Conv(8))), Shape(1, (8,)), 2),
            "the choice 'a' stands within itself",
        ),
        (
            lambda: Architecture(Parallel(Conv(Choice("f", 4, 8)), Conv(16)), Shape(1, (8,)), 2),
            "no design of the architecture fits together on 1x8: a sum adds 4x8 and 16x8",
        ),
        (
            lambda: Architecture(Conv(Choice("f", 4, 6), groups=3), Shape(3, (8,)), 2).build([0]),
            "the design does not fit together: 3 groups do not divide 3 input and 4 output channels",
        ),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(make, sentence) -> None:
    with pytest.raises(ArchGymError, match=sentence) as found:
        make()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("nas/arch:space.py", [], "names nothing in a file; write arch:FILE.py:NAME"),
        ("nas/arch:nothing.py:net", [], "cannot read nothing.py"),
        ("nas/arch:space.py:nett", [], "did you mean 'net'"),
        ("nas/arch:space.py:number", [], "number of space.py is a int; expected a part"),
        ("nas/arch:space.py:plain", [], "there is nothing to search"),
        ("nas/arch:space.py:broken", [], "broken() of space.py fails (line 14, KeyError: 'no width')"),
        ("nas/arch:space.py:even", [], "fails (line 18, Conv: kernel is 4; expected an odd number"),
        ("nas/arch:space.py:twice", [], "'filters' stands there twice with different values"),
        ("nas/arch:space.py:unfit", [], "a convolution comes where no positions are left"),
        ("nas/arch:space.py:net", ["-w", "rate=0"], "the learning rate is 0"),
        ("nas/arch:space.py:net", ["-w", "dat=mnist"], "did you mean 'data'"),
        ("nas/arch:space.py:net", ["--fidelity", "zero-cost"], "its levels are train and formula"),
        ("nas/arch:space.py:net", ["--fidelity", "train:epochs=7,schedule=full"], "7 is none of them"),
        ("systolic/arch:space.py:net", [], "lacks the option design"),
        ("systolic/arch:space.py:net", ["-w", 'design={"blocks": 1}'], "the design lacks 'filters'"),
        ("systolic/arch:space.py:net", ["-w", 'design={"block": 1}'], "did you mean 'blocks'"),
        ("systolic/arch:space.py:net", ["-w", 'design={"blocks": 9}'], "blocks cannot be 9"),
        ("systolic/arch:space.py:net", ["-w", "design=file:none.json"], "none.json"),
        ("systolic/arch:space.py:net", ["-w", "design={}", "-w", "input=1x2x3x4"], "the input shape is"),
        ("codesign/arch:space.py:net", [], "unknown workload of codesign"),
    ],
)
def test_faults_of_a_file_end_with_code_2_and_one_sentence(folder, name, options, sentence) -> None:
    done = CliRunner().invoke(main, ["describe", name, *options])
    assert done.exit_code == 2, done.output
    assert sentence in done.output and done.output.count("\n") == 1, done.output


def test_a_problem_is_made_again_and_its_cost_is_had_without_training(folder) -> None:
    problem = make_problem("nas/arch:space.py:made", fidelity="formula", objective="macs")
    assert problem.name == "nas/arch:space.py:made" and [file.name for _, file in problem.files] == ["space.py"]
    again = make_problem(problem.name, **json.loads(json.dumps(problem.options)))
    assert again.workload.fingerprint == problem.workload.fingerprint
    other = make_problem(problem.name, workload_options={"data": "mnist1d"})
    assert other.workload.fingerprint != problem.workload.fingerprint
    designs = problem.space.unrank(np.arange(problem.space.size))
    evaluation, rewards = problem.evaluate(designs)
    assert np.isfinite(rewards).all() and np.isnan(evaluation.metrics["accuracy_percent"]).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(problem)).evaluate(designs)[1], rewards)
    labels = problem.simulator.measured_as(designs, problem.workload)
    assert len(set(labels)) == len({row.tobytes() for row in problem.space.canonical(designs)}) == 18
    for row in (0, 7, 23):
        network = problem.workload.network(designs[row])
        assert (
            network.macs == evaluation.metrics["macs"][row]
            and network.weight_words < evaluation.metrics["parameters"][row]
        )
        named = problem.space.decode(designs[row])[0]
        assert network_of(problem.workload.name, named).fingerprint == network.fingerprint
    (folder / "best.json").write_text('{"blocks": 0, "pooled": false}')
    systolic = make_problem(
        "systolic/arch:space.py:made", workload_options={"design": "file:best.json", "batch": 2}, references="none"
    )
    assert systolic.workload.macs == 2 * evaluation.metrics["macs"][0]
    assert sorted(file.name for _, file in systolic.files) == ["best.json", "space.py"]


def test_a_training_belongs_to_its_network_and_seed_alone(folder) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    problem = make_problem("nas/arch:space.py:made", fidelity="train:epochs=1")
    designs = problem.space.encode(
        [{"blocks": b, "filters": f, "kernel": 3, "pooled": True} for b, f in ((0, 4), (0, 8), (1, 8))]
    )
    together = problem.evaluate(designs, seed=3)[0].metrics
    alone = problem.evaluate(designs[1:], seed=3)[0].metrics
    np.testing.assert_array_equal(together["accuracy_percent"][1:], alone["accuracy_percent"])
    assert together["accuracy_percent"][0] == together["accuracy_percent"][1]  # without blocks they have no filters
    assert problem.evaluate(designs[2:], seed=4)[0].metrics["accuracy_percent"][0] != alone["accuracy_percent"][1]
    assert problem.simulator.cheaper_fidelities(problem.workload) == ("train:epochs=2", "train:epochs=6")
    assert (
        problem.simulator.live(problem.workload).seconds > 0
        and problem.simulator.live(problem.workload, "formula") is None
    )


def test_trials_from_elsewhere_run_no_architecture_file() -> None:
    for name in ("arch:x.py:n", "2*arch:x.py:n", "resnet18+torch:x.py:n", "resnet18+3*arch:x.py:n"):
        assert runs_own_code(name) and names_own_file(name), name
    assert not runs_own_code("file:arch.py") and not runs_own_code("resnet18+vgg16")
