"""Enumerations and samples by an executor give the bits that this machine gives, also where a worker dies in the middle."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.agents.collect import collect
from archgym.cli import main
from archgym.datasets import read_trials
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.enumeration import enumerate_problem
from archgym.errors import ArchGymError
from archgym.problem import Problem, make_problem
from archgym.store import using
from archgym.studies.executors import ProcessExecutor, SerialExecutor
from archgym.studies.spread import Spread, spread
from archgym.testing.checks import same_evaluation
from tests.bowl import BowlSimulator

NARROW = {"fix": {"dataflow": "ws", "bandwidth": 64}, "only": {"array_rows": [16, 32], "array_columns": [16, 64, 256]}}


def remade(problem: Problem, simulator) -> Problem:
    return Problem(problem.name, simulator, problem.workload, problem.objective, problem.fidelity, problem.options)


class Mortal(BowlSimulator):
    """Ends its process once, at the first design whose index is 3 in the first parameter."""

    neutral_options = BowlSimulator.neutral_options | {"flag", "always"}

    def __init__(self, space=None, flag="", always=False):
        super().__init__(space)
        self.flag, self.always = flag, always

    def evaluate(self, designs, workload, **kwargs):
        if self.flag and (np.atleast_2d(designs)[:, 0] == 3).any() and (self.always or not os.path.exists(self.flag)):
            open(self.flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(designs, workload, **kwargs)

    def references(self, workload):
        return BowlSimulator().references(workload)  # they are evaluated by the driver


def test_pieces_are_put_together_in_order(tmp_path):
    problem = make_problem("systolic/resnet18+alexnet", **NARROW)
    designs = problem.space.sample(500, 0)
    apart = spread(problem, SerialExecutor())
    inner = apart.simulator.whole.whole
    assert isinstance(inner, Spread)
    one, rewards = problem.evaluate(designs)
    other, others = apart.evaluate(designs)
    assert same_evaluation(one, other) and np.array_equal(rewards, others)
    assert len(inner.evaluate(designs[:0] * 0, inner.load_workload("alexnet"))) == 0
    with using(tmp_path / "s.sqlite"):
        kept = spread(make_problem("systolic/resnet18+alexnet", **NARROW), SerialExecutor())
    assert same_evaluation(one, kept.evaluate(designs)[0]) and same_evaluation(one, kept.evaluate(designs)[0])


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.slow
def test_processes_enumerate_and_sample_alike_and_survive_a_death(bowl, tmp_path):
    mortal = remade(bowl, Mortal(flag=str(tmp_path / "dead")))
    executor = ProcessExecutor(2)
    try:
        rows = enumerate_problem(spread(mortal, executor), ["time_ns"], tmp_path / "processes", shard=100)
        assert (tmp_path / "dead").exists()
        assert rows == enumerate_problem(remade(bowl, BowlSimulator()), ["time_ns"], tmp_path / "here", shard=100)
        assert shards(tmp_path / "processes") == shards(tmp_path / "here") and len(shards(tmp_path / "here")) > 1
        found = collect(spread(mortal, executor), tmp_path / "sampled", count=120, seed=3)
        plain = collect(remade(bowl, BowlSimulator()), tmp_path / "plain", count=120, seed=3)
        tables = [
            read_trials(made["files"][0]).drop_columns(list(CLOCK_COLUMNS)).to_pydict() for made in (found, plain)
        ]
        assert len(tables[0]["reward"]) == 120 and repr(tables[0]) == repr(tables[1])  # NaN, too
    finally:
        executor.close()
    hopeless, executor = remade(bowl, Mortal(flag=str(tmp_path / "dead"), always=True)), ProcessExecutor(1)
    try:  # one worker: for two twice as many die before it gives up
        with pytest.raises(ArchGymError, match="died each time"):
            spread(hopeless, executor).evaluate(bowl.space.sample(100, 0))
    finally:
        executor.close()


@pytest.mark.slow
def test_the_commands_take_an_executor(tmp_path):
    fixed = [
        "--fix",
        "dataflow=ws",
        "--fix",
        "bandwidth=64",
        "--only",
        "array_rows=16,32",
        "--only",
        "ifmap_sram_kb=16",
    ]
    answers = []
    for executor in ("serial", "processes:1"):
        out = tmp_path / executor[:6]
        done = CliRunner().invoke(
            main, ["enumerate", "systolic/alexnet", *fixed, "--executor", executor, "--out", str(out), "--json"]
        )
        assert done.exit_code == 0, done.output
        answers.append((json.loads(done.stdout)["optima"], shards(out)))
    assert answers[0][1] == answers[1][1] and answers[0][0] == answers[1][0]
    wrong = CliRunner().invoke(
        main, ["dataset", "sample", "synthetic", "-o", str(tmp_path / "x"), "--executor", "cloud"]
    )
    assert wrong.exit_code == 2 and "unknown executor" in wrong.output


@pytest.mark.slow
@pytest.mark.stress  # what tests/suites/test_ray.py does by the commands
def test_ray_enumerates_and_samples_alike_when_a_node_dies_in_the_middle(bowl, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from archgym.studies.ray_executor import RayExecutor

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        cluster.wait_for_nodes()
        problem = spread(bowl, RayExecutor(workers=2))
        dying = []

        def progress(done, total):
            if not dying:
                dying.append(cluster.remove_node(node, allow_graceful=False))

        rows = enumerate_problem(problem, ["time_ns"], tmp_path / "ray", shard=60, progress=progress)
        assert dying
        found = collect(problem, tmp_path / "sampled", count=100, seed=3)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert rows == enumerate_problem(bowl, ["time_ns"], tmp_path / "here", shard=60)
    assert shards(tmp_path / "ray") == shards(tmp_path / "here")
    plain = collect(bowl, tmp_path / "plain", count=100, seed=3)
    tables = [read_trials(made["files"][0]).drop_columns(list(CLOCK_COLUMNS)).to_pydict() for made in (found, plain)]
    assert repr(tables[0]) == repr(tables[1])
