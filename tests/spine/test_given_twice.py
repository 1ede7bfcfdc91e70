"""A name that is given twice is refused: of two values one would be lost."""

import pytest
from click.testing import CliRunner

from archgym.cli import agent_hyperparameters, main
from archgym.console import parse_options
from archgym.errors import ArchGymError
from archgym.proxies.simulator import parse_path
from archgym.studies.spec import parse_spec


def test_an_option_given_twice_is_refused():
    assert parse_options(("a-b=1", "c=2")) == {"a_b": 1, "c": 2}
    with pytest.raises(ArchGymError, match="given twice"):
        parse_options(("device=DDR3-1600", "device=DDR4-2400"))
    with pytest.raises(ArchGymError, match="given twice"):
        parse_options(("a-b=1", "a_b=1"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "synthetic/separable", "--agent", "ga,random,ga"),
        ("run", "synthetic/separable", "--agent", "ga", "--hyper", "population=16", "--hyper", "population=32"),
        ("run", "synthetic/separable", "--agent", "ga", "--hyper", "ga.population=16", "--hyper", "ga.population=32"),
        ("run", "dram/sort", "--requests", "100", "-w", "requests=50"),
        ("run", "dram/random:requests=100,gap=2,requests=50"),
        ("run", "dram/sort", "-o", "ranks=1", "-o", "ranks=2"),
        ("run", "dram/sort", "--fix", "PagePolicy=Open", "--fix", "PagePolicy=Closed"),
        ("enumerate", "synthetic/separable", "--objectives", "loss,loss"),
        ("proxy", "train", "synthetic/separable", "--set", "leaves=8", "--set", "leaves=16"),
        ("proxy", "compare", "synthetic/separable", "--agents", "ga,ga"),
        ("proxy", "compare", "synthetic/separable", "--seeds", "1,2,1"),
    ],
    ids=" ".join,
)
def test_the_command_line_refuses_what_is_given_twice(arguments, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output
    assert any(word in result.output for word in ("twice", "give one of them")) and not out.exists()


def test_a_hyperparameter_of_one_agent_counts_more_than_one_for_all():
    for pairs in (("population=16", "ga.population=32"), ("ga.population=32", "population=16")):
        assert agent_hyperparameters("ga", pairs, ["ga", "nsga2"]) == {"population": 32}
        assert agent_hyperparameters("nsga2", pairs, ["ga", "nsga2"]) == {"population": 16}


STUDY = "budget: 10\nseeds: {seeds}\nproblems: {problems}\nagents: {agents}\n"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"agents": "[ga, random, ga]"}, "agent 'ga'"),
        ({"agents": "[ga, {agent: ga, defaults: true}]"}, "agent 'ga'"),
        ({"agents": "[{agent: ga, grid: {population: [16, 32, 16]}}]"}, "population"),
        ({"problems": "[synthetic/separable, synthetic/separable]"}, "'synthetic/separable'"),
        ({"problems": "[synthetic/separable, {problem: synthetic/separable, budget: 5}]"}, "'synthetic/separable'"),
        ({"seeds": "[0, 1, 0]"}, "seeds"),
    ],
)
def test_a_study_names_each_of_its_parts_once(changed, named):
    plain = {"seeds": "2", "problems": "[synthetic/separable]", "agents": "[ga]"}
    with pytest.raises(ArchGymError, match=f"{named}.* twice"):
        parse_spec(STUDY.format(**plain | changed))
    # Entries of one agent may overlap: what both ask for runs once.
    several = "[ga, {agent: ga, grid: {population: [16, 64]}}, {agent: ga, budget: 5}]"
    spec = parse_spec(STUDY.format(**plain | {"agents": several}))
    assert len({run.id for run in spec.runs()}) == len(spec.runs()) == 2 * len(spec.settings)


def test_a_proxy_option_given_twice_is_refused():
    with pytest.raises(ArchGymError, match="twice"):
        parse_path("some.proxy.npz?every=10&every=20")
