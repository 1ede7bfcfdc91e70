"""The commands that take an executor, on a Ray cluster of two nodes of which one is killed in the middle: the bits are those
of this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.datasets import read_trials
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.datasets.shards import read_shard
from archgym.studies.store import Study
from archgym.suites import Entry, parse_suite, verify

SUITE = """
name: spread
version: 1
budgets: [40]
seeds: 6
problems:
- {problem: synthetic/separable}
- {problem: synthetic/rugged}
"""


@contextmanager
def two_nodes() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a cluster of two processors on two nodes, and what kills the second node (once)."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1)]

    def kill() -> None:
        if nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    try:
        cluster.wait_for_nodes()
        yield cluster.address, kill
        assert not nodes, "no node was killed"
    finally:
        cluster.shutdown()


def archgym(*arguments: Any) -> dict[str, Any]:
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def trials(folder: Path) -> dict[str, Any]:
    """Run -> its trials without the clocks."""
    found = {}
    for path in sorted(folder.rglob("*.arrows")):
        schema, batches, _ = read_shard(path)
        names = [name for name in schema.names if name not in CLOCK_COLUMNS]
        found[str(path.relative_to(folder))] = [batch.select(names).to_pydict() for batch in batches]
    return found


@pytest.mark.slow
def test_an_entry_by_ray_is_that_of_this_machine_when_a_node_dies_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spread.yaml"
    path.write_text(SUITE)
    here = archgym("suite", "run", path, "--agent", "ga", "--executor", "serial", "--out", tmp_path / "here")
    appended = Study.append
    with two_nodes() as (address, kill):

        def append(self: Study, record: Any) -> None:
            appended(self, record)
            if len(self.results()) == 3:
                kill()

        monkeypatch.setattr(Study, "append", append)
        ray = archgym(
            "suite", "run", path, "--agent", "ga", "--executor", f"ray:{address}", "--out", tmp_path / "there"
        )
    assert here["done"] == here["runs"] == ray["done"] == ray["runs"] == 12
    assert trials(tmp_path / "there") == trials(tmp_path / "here") and len(trials(tmp_path / "there")) == 12
    assert Entry.read(tmp_path / "there").agent == "ga"
    assert verify(parse_suite(SUITE), tmp_path / "there").holds


@pytest.mark.slow
def test_designs_by_ray_are_those_of_this_machine_when_a_node_dies_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enumerated(executor: str, folder: Path) -> Any:
        answer = archgym("enumerate", "synthetic/branin", "--executor", executor, "--out", folder)
        return answer["optima"], {path.name: path.read_bytes() for path in folder.glob("*.parquet")}

    def sampled(executor: str, folder: Path) -> str:
        options = ("--count", 200, "--seed", 3, "--executor", executor, "-o", folder)
        answer = archgym("dataset", "sample", "synthetic/hartmann6", *options)
        return repr(read_trials(answer["files"][0]).drop_columns(list(CLOCK_COLUMNS)).to_pydict())

    here = enumerated("serial", tmp_path / "here"), sampled("serial", tmp_path / "drawn")
    with two_nodes() as (address, kill):
        from archgym.studies.ray_executor import RayExecutor

        each = RayExecutor.each

        def dying(self: RayExecutor, task: Any, jobs: Any) -> Iterator[tuple[int, Any]]:
            for number, result in enumerate(each(self, task, jobs)):
                if number == 2:
                    kill()
                yield result

        monkeypatch.setattr(RayExecutor, "each", dying)
        try:
            there = enumerated(f"ray:{address}", tmp_path / "ray"), sampled(f"ray:{address}", tmp_path / "drawn-ray")
        finally:
            import ray

            ray.shutdown()
    assert there == here and len(here[0][1]) >= 1
