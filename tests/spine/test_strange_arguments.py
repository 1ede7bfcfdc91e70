"""What is given of another type or size than expected is one sentence, from Python as at the command line, and leaves no file."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from archgym.agents import make_agent, search
from archgym.cli import main
from archgym.console import Number
from archgym.datasets import read_trials
from archgym.envs import DesignEnv, DesignVectorEnv
from archgym.errors import ArchGymError, quote
from archgym.evaluator import Evaluator
from archgym.problem import make_problem
from archgym.proxies.models import make_model
from archgym.writing import replacing

NAME = "synthetic/rugged"
PROBLEM = make_problem(NAME)
WIDTH = PROBLEM.space.dimension


@pytest.mark.parametrize(
    "given",
    [
        {"objective": 3}, {"objective": ["loss"]}, {"fix": "x0"}, {"only": "x0"}, {"fix": {"x0": float("nan")}},
        {"workload_options": "x"}, {"workload_options": [1]}, {"simulator": 3}, {"workload": "rugged"}, {"fidelity": 3},
        {"space": 3}, {"references": [1]}, {"references": {"loss": 10**400}}, {"references": {"loss": float("inf")}},
        {"references": {"loss": "x"}}, {"references": {"los": 1.0}},
    ],
    ids=str,
)  # fmt: skip
def test_problems(given):
    with pytest.raises(ArchGymError):
        make_problem(NAME, **given)


@pytest.mark.parametrize("action", [np.nan, 0.5, -1, 10**6, 2.0**70, None, "x"], ids=str)
def test_an_action_that_is_no_design_is_refused_and_not_cut_down_to_one(action):
    row = [action] * WIDTH
    env, vector = DesignEnv("synthetic", "rugged"), DesignVectorEnv("synthetic", "rugged", num_envs=2)
    env.reset(seed=0), vector.reset(seed=0)
    for step in (lambda: env.step(row), lambda: vector.step([row, row]), lambda: env.step(action)):
        with pytest.raises(ArchGymError) as caught:
            step()
        assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300
    assert env.step([1.0] * WIDTH)[1] == env.step([1] * WIDTH)[1]


def test_seeds_of_sub_environments():
    env = DesignVectorEnv("synthetic", "rugged", num_envs=2)
    for seed in (1.5, [1, 1.5], ["a", "b"], [1]):
        with pytest.raises(ArchGymError, match="seed"):
            env.reset(seed=seed)


@pytest.mark.parametrize("about", [{"run": 3}, {"study": float("nan")}, {"run": "\ud800"}, {"study": ["x"]}, {"run": "a\0"},
                                   {"run": 1 + 2j}], ids=str)  # fmt: skip
def test_no_run_writes_what_no_reader_takes(about, tmp_path):
    log = tmp_path / "x.arrows"
    with pytest.raises(ArchGymError):
        search(PROBLEM, make_agent("random", PROBLEM, 0), 4, log=log, **about)
    with pytest.raises(ArchGymError):
        Evaluator(PROBLEM, budget=4, log=lambda schema: None, run={"agent": "x", **about})  # type: ignore[arg-type,return-value]
    assert not log.exists()
    search(PROBLEM, make_agent("random", PROBLEM, 0), 4, log=log, run="x" * 10_000)
    assert len(read_trials(log)) == 4


def test_searches():
    with pytest.raises(ArchGymError, match="make_agent"):
        search(PROBLEM, "random", 5)  # type: ignore[arg-type]
    for count in (-1, 1.5, None):
        with pytest.raises(ArchGymError, match="number of designs"):
            PROBLEM.space.sample(count, 0)  # type: ignore[arg-type]
    for value in (float("nan"), float("inf"), -1, 1.5, "x"):
        with pytest.raises(ArchGymError, match="the setting leaves"):
            make_model("boosting", leaves=value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", NAME, "--seed", str(2**63 - 1), "--seeds", "3", "--budget", "3"),
        ("run", NAME, "--seed", str(2**63), "--budget", "3"),
        ("run", "dram/random:seed=-1"),
        ("run", "dram/stream:start=-64"),
        ("run", f"dram/stream:start={2**63 - 1}"),
        ("proxy", "train", NAME, "--set", "leaves=nan"),
        ("proxy", "train", NAME, "--set", "leaves=inf"),
    ],
    ids=" ".join,
)
def test_the_command_line(arguments, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output
    assert not out.exists()


def test_a_file_without_a_name_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", "/"):
        with pytest.raises(ArchGymError, match="names no file"), replacing(Path(path)):
            pass


def test_a_quotation_stays_on_one_line():
    assert "\n" not in quote(np.arange(100.0).reshape(10, 10)) and quote("a\nb") == "'a\\nb'"


def test_the_command_line_of_studies_and_suites(tmp_path):
    study, suite = tmp_path / "s.yaml", tmp_path / "u.yaml"
    study.write_text(f"budget: 4\nproblems: [{NAME}]\nagents: [random]\n")
    suite.write_text("name: u\nversion: 1\nbudgets: [5]\nseeds: 1\nproblems: [{problem: synthetic/branin}]\n")
    out = tmp_path / "out"
    for arguments in (
        ("study", "run", study, "--out", out, "--executor", "serial", "--limit", "-1"),
        ("study", "run", study, "--out", out, "--executor", "serial:3"),
        ("study", "run", study, "--out", out, "--executor", "processes:2", "--workers", "3"),
        ("suite", "run", "archgym-8", "--out", out, "--agent", "ga", "--hyper", "populations=16"),
        ("suite", "measure", suite, "--samples", "200", "--seeds", "2", "--methods", "nope"),
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output
        assert not out.exists()


def _commands(command):
    yield command
    for name in getattr(command, "list_commands", lambda _: ())(None):
        yield from _commands(command.get_command(None, name))


def test_no_option_takes_what_is_no_number():
    kinds = {
        option.opts[0]: option.type
        for command in _commands(main)
        for option in command.params
        if isinstance(option.type, click.FloatRange | type(click.FLOAT))
    }
    assert {name for name, kind in kinds.items() if not isinstance(kind, Number)} <= {
        "--budget-seconds", "--choice-rate", "--minutes",  # which are checked where they are used
    }  # fmt: skip
    for name, kind in kinds.items():
        if isinstance(kind, Number):
            with pytest.raises(click.BadParameter, match="not a number"):
                kind.convert("nan", None, None)
            assert kind.convert("2", None, None) == 2.0, name
