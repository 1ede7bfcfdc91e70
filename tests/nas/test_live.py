"""Cells that are trained now: it is said, it takes bounded memory, and a result belongs to its design alone."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from archgym import announcing
from archgym.cli import main
from archgym.combining import parse_parts
from archgym.datasets import read_trials
from archgym.errors import ArchGymError
from archgym.evaluator import Evaluator
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.simulators.nas import cells, live
from archgym.simulators.nas.trainer import TrainResult


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "_SAID", set())


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Training replaced by a formula whose results hold a megabyte each; the sizes of the calls."""
    sizes: list[int] = []

    def trained(jobs: Any, data: Any, made: Any, device: str = "cpu") -> list[TrainResult]:
        sizes.append(len(jobs))
        count = len(made.checkpoints)
        return [
            TrainResult(
                np.full(count, code % 97.0), np.full(count, code % 89.0), np.zeros(count), np.zeros(count),
                parameters=np.zeros(2**18, dtype=np.float32),
            )
            for code, _ in jobs
        ]  # fmt: skip

    monkeypatch.setattr(live, "train_networks", trained)
    return sizes


def test_memory_does_not_grow_with_the_batch(stub: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    problem = make_problem("nas/nb201-digits")
    every = cells.all_rows()
    alive = every[~cells.is_dead(every)]
    peaks = []
    problem.evaluate(alive[:200])
    for count in (200, 4000):
        tracemalloc.start()
        evaluation = problem.simulator.evaluate(alive[:count], problem.workload)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        np.testing.assert_array_equal(evaluation.metrics["accuracy_percent"], cells.codes(alive[:count]) % 97)
    # A megabyte a trained network: the batches would hold 200 and 4,000 of them.
    assert peaks[0] < 100 and peaks[1] < peaks[0] + 20, peaks
    assert max(stub) <= live.GROUP


def test_it_is_announced_once_and_logged_as_it_comes(
    stub: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = make_problem("nas/nb201-digits")
    designs = problem.space.sample(40, 0)
    seen = []
    with Evaluator(problem, budget=30, log=tmp_path / "trials.arrows", run={}) as evaluator:
        evaluator.on_trials = lambda e: seen.append(e.used)
        told = evaluator.evaluate(designs)[0]
    problem.evaluate(designs[:3])
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1 and "nas/nb201-digits trains a network" in lines[0] and " s each" in lines[0], lines
    assert said.out == ""
    piece = problem.simulator.live(problem.workload).piece
    assert len(seen) >= 30 // piece > 1 and seen[-1] == 30
    np.testing.assert_array_equal(told, designs[: len(told)])
    assert read_trials(tmp_path).num_rows == 30


def test_a_long_batch_says_how_far_it_is(
    stub: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(announcing, "EVERY_S", 0.0)
    problem = make_problem("nas/nb201-digits")
    problem.evaluate(problem.space.sample(20, 0))
    assert "of 20 designs, about" in capsys.readouterr().err


def test_what_is_looked_up_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("nas/nb201-mnist1d", {}), ("nas/nb201-digits", {"fidelity": "formula"}), ("dram/sort", {})):
        problem = make_problem(name, **options)
        problem.evaluate(problem.space.sample(3, 0))
        assert problem.simulator.live(problem.workload, problem.fidelity) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "fidelity, word",
    [
        ("train:epochs=1", "for every new design"),
        ("train:inherit=parent,epochs=1", "parent"),
        ("train:inherit=supernet,epochs=1", "supernet"),
        ("supernet:policy=fair,steps=777", "supernet"),
    ],
)
@pytest.mark.parametrize("name", ["nas", "codesign"])
def test_fidelities_that_train_are_live(name: str, fidelity: str, word: str) -> None:
    simulator = SIMULATORS.load(name)()
    workload = simulator.load_workload("nb201-mnist1d")
    found = simulator.live(workload, fidelity)
    assert found is not None and word in found.what and 0 < found.seconds < 100
    assert simulator.live(workload) is None
    # Nothing to train on, no such checkpoint: no error here.
    assert simulator.live(workload, "train:schedule=full,epochs=3") is None
    if name == "nas":
        assert simulator.live(simulator.load_workload("darts-cifar10"), "train") is None


def test_lists_and_descriptions_tell_live_workloads_from_tables() -> None:
    rows = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)["simulators"]
    found = {row["simulator"]: row["live_workloads"] for row in rows}
    assert found.pop("nas") == ["nb201-digits", "nb201-mnist", "joint-mnist1d", "nb201-pair"]
    assert found.pop("codesign") == ["nb201-digits", "nb201-mnist"]
    assert not any(found.values())
    assert "trained live" in CliRunner().invoke(main, ["list"]).stdout
    for problem, seconds in (("nas/nb201-digits", True), ("codesign/nb201-digits", True), ("nas/nb201-mnist1d", False)):
        shown = json.loads(CliRunner().invoke(main, ["describe", problem, "--json"]).stdout)["live"]
        assert (shown is not None and shown["seconds"] > 0) is seconds
    assert "live:" in CliRunner().invoke(main, ["describe", "nas/nb201-digits"]).stdout


def test_groups_leave_live_workloads_out() -> None:
    for name in ("nas", "codesign"):
        simulator = SIMULATORS.load(name)()
        groups = simulator.workload_groups()
        assert groups["all"] == ("nb201-mnist1d", "nb201-mnist1d-v2")
        assert parse_parts("all", simulator)
        with pytest.raises(ArchGymError, match="too few"):
            parse_parts("test", simulator)


@pytest.mark.slow
def test_a_trained_result_belongs_to_its_design_alone() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    problem = make_problem("nas/nb201-digits", train_epochs=1)
    designs = problem.space.sample(3, 1)
    together, _ = problem.evaluate(designs, seed=0)
    for row in range(3):
        alone, _ = problem.evaluate(designs[row : row + 1], seed=0)
        assert alone.metrics["accuracy_percent"][0] == together.metrics["accuracy_percent"][row]
