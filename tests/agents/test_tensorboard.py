"""TensorBoard logs: the event files read back with TensorBoard's own reader, and runs that do not change by them."""

from __future__ import annotations

import builtins
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.agents import make_agent, search
from archgym.cli import main
from archgym.datasets import read_trials
from archgym.datasets.schema import CLOCK_COLUMNS

pytest.importorskip("tensorboard")


def scalars(folder):
    """Tag -> list of (step, value) of the event file in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def columns(path):
    """The trials without what a clock measured."""
    return repr(read_trials(path).drop_columns(list(CLOCK_COLUMNS)).to_pylist())


OWN = {
    "ga": (),
    "reinforce": ("rollout/reward_mean", "train/entropy"),
    "ppo-fast": ("rollout/reward_mean", "train/entropy"),
    "ppo": ("rollout/ep_rew_mean", "train/loss", "train/entropy_loss"),
    "maskable-ppo": ("rollout/ep_rew_mean", "train/loss"),
    "a2c": ("rollout/ep_rew_mean", "train/policy_loss"),
    "dqn": ("rollout/ep_rew_mean", "train/loss", "rollout/exploration_rate"),
    "sac": ("rollout/ep_rew_mean", "train/actor_loss"),
}


@pytest.mark.parametrize("name", OWN)
def test_the_log_holds_the_curves_and_changes_nothing(bowl, tmp_path, name):
    if name not in ("ga", "reinforce", "ppo-fast"):
        pytest.importorskip("stable_baselines3")
    plain = search(bowl, make_agent(name, bowl, 3), 96, log=tmp_path / "plain.arrows")
    logged = search(bowl, make_agent(name, bowl, 3), 96, log=tmp_path / "logged.arrows", tensorboard=tmp_path / "board")
    assert columns(tmp_path / "plain.arrows") == columns(tmp_path / "logged.arrows")
    assert plain.best.reward == logged.best.reward

    found = scalars(tmp_path / "board")
    curve = found["search/best_reward"]
    assert curve[: len(logged.improvements)] == [(n, pytest.approx(r, rel=1e-6)) for n, r in logged.improvements]
    assert curve[-1] == (logged.evaluations, pytest.approx(logged.best.reward, rel=1e-6))
    for tag in OWN[name]:
        steps, values = zip(*found[tag], strict=True)
        assert list(steps) == sorted(steps) and 0 < steps[-1] <= 96
        assert np.isfinite(values).all()


def test_a_resumed_run_has_one_whole_curve(bowl, tmp_path):
    log, board = tmp_path / "x.arrows", tmp_path / "board"

    def run(resume):
        return search(bowl, make_agent("ga", bowl, 0), 64, log=log, resume=resume, tensorboard=board)

    run(False)
    before = scalars(board)
    run(True)
    assert scalars(board) == before


def test_the_command_line_option(bowl, tmp_path):
    arguments = ["run", "bowl/deep", "--agent", "random,ga", "--seeds", "2", "--budget", "40", "--tensorboard"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["tensorboard"] == str(tmp_path / "out" / "tensorboard")
    for run in ("random-s0", "random-s1", "ga-s0", "ga-s1"):
        assert scalars(tmp_path / "out" / "tensorboard" / run)["search/best_reward"]


def test_without_tensorboard_one_sentence_names_the_extra(bowl, tmp_path, monkeypatch):
    real = builtins.__import__

    def no_tensorboard(name, *args, **kwargs):
        if name.startswith("tensorboard"):
            raise ImportError
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("tensorboard.compat.proto")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_tensorboard)
    arguments = ["run", "bowl/deep", "--agent", "random", "--budget", "8", "--tensorboard"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "pip install 'archgym[tensorboard]'" in done.output
    assert not list((tmp_path / "out").rglob("*.arrows"))


def test_a_log_goes_through_the_writer_that_others_replace(tmp_path, monkeypatch):
    """Weights & Biases puts its own class in the place of TensorBoard's before a run begins."""
    from tensorboard.summary.writer import event_file_writer

    from archgym.problem import make_problem

    steps = []

    class Replaced(event_file_writer.EventFileWriter):
        def add_event(self, event):
            steps.append(event.step)
            super().add_event(event)

    monkeypatch.setattr(event_file_writer, "EventFileWriter", Replaced)
    problem = make_problem("synthetic/branin")
    result = search(problem, make_agent("ga", problem, 0), 60, tensorboard=tmp_path)
    assert steps[-1] == result.evaluations == 60
