"""Entries of agents that search at several fidelities: scored by cost, and refused where the log lies about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.datasets.shards import read_shard
from archgym.studies.store import Study
from archgym.suites import Suite, parse_suite, run_entry, verify
from archgym.suites.measure import measure
from archgym.suites.packing import pack
from archgym.suites.scale import normalised
from archgym.suites.score import score
from archgym.suites.writing import suite_text
from tests import rungs

TEXT = """
name: rungs
version: 1
budgets: [10, 30]
seeds: 2
problems:
- {problem: rungs/light}
- {problem: rungs/heavy}
"""


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    with rungs.registered():
        loaded = parse_suite(TEXT)
        problems = [
            measure(problem, samples=2000, seeds=4, methods=["ga", "re", "local"], evaluations=600)
            for problem in loaded.problems
        ]
        yield parse_suite(suite_text(loaded, problems))


@pytest.fixture(scope="module")
def honest(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite") / "entry"
    assert run_entry(suite, folder, "bohb").done == 4
    return folder


def test_an_honest_entry_holds_and_is_scored_by_cost(suite: Suite, honest: Path, tmp_path: Path) -> None:
    found = verify(suite, honest, repeat=4)
    assert found.holds, found.findings
    assert found.repeated == 4
    for run in found.runs:
        assert run.evaluations == 30
        assert [at for at, _ in run.curve] == sorted({at for at, _ in run.curve})
        # What each run's own line of results says is what verifying finds.
        record = {row["run"]: row for row in Study(honest).results()}[run.spec.id]
        assert [tuple(step) for step in record["curve"]] == run.curve
    assert score(suite, found)["runs"] == 4
    pack(suite, honest, tmp_path / "packed")
    packed = verify(suite, tmp_path / "packed", repeat=1)
    assert packed.holds and packed.repeated == 1
    assert score(suite, packed)["score"] == score(suite, found)["score"]


def _edited(honest: Path, folder: Path, change) -> Path:
    shutil.copytree(honest, folder)
    path = sorted(folder.rglob("*.arrows"))[0]
    schema, batches, _ = read_shard(path)
    table = pa.Table.from_batches(batches, schema).unify_dictionaries()
    table = change(table)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return folder


def _set(table: pa.Table, name: str, values) -> pa.Table:
    place = table.schema.get_field_index(name)
    column = pa.array(values)
    if pa.types.is_dictionary(table.schema.field(place).type):
        column = column.dictionary_encode()
    return table.set_column(place, table.schema.field(place).with_type(column.type), column)


def _cheap_as_full(table: pa.Table) -> pa.Table:
    names = table.column("fidelity").to_pylist()
    return _set(table, "fidelity", ["" for _ in names])


def _cost(table: pa.Table) -> pa.Table:
    return _set(table, "cost", np.where(np.arange(len(table)) == 4, 0.01, table.column("cost").to_numpy()))


def _unknown(table: pa.Table) -> pa.Table:
    names = table.column("fidelity").to_pylist()
    return _set(table, "fidelity", [*names[:-1], "tenth"])


def _cheaper(table: pa.Table) -> pa.Table:
    """Pays a ninth for a result that costs a third: of a design that was not evaluated for a ninth."""
    names = table.column("fidelity").to_pylist()
    cost = table.column("cost").to_numpy().copy()
    row = 1 + 9 + 3 + 1  # the first of the second bracket
    assert names[row] == "third"
    names[row], cost[row] = "ninth", 1 / 9
    return _set(_set(table, "fidelity", names), "cost", cost)


def _prices(table: pa.Table) -> pa.Table:
    about = table.schema.metadata[b"archgym"].replace(b"0.3333333333333333", b"0.1333333333333333")
    return table.replace_schema_metadata({b"archgym": about})


@pytest.mark.parametrize(
    "change, kind",
    [
        (_cheap_as_full, "budget-overdrawn"),
        (_cost, "miscounted"),
        (_unknown, "wrong-problem"),
        (_cheaper, "result-differs"),
        (_prices, "wrong-problem"),
    ],
)
def test_a_log_that_lies_about_its_fidelities_is_refused_by_name(
    suite: Suite, honest: Path, tmp_path: Path, change, kind: str
) -> None:
    found = verify(suite, _edited(honest, tmp_path / "forged", change), sample=10_000, repeat=0)
    assert [finding.kind for finding in found.findings] == [kind]


def test_another_run_of_a_study_goes_on(suite: Suite, honest: Path, tmp_path: Path) -> None:
    """A killed entry resumes to the same bits."""
    folder = tmp_path / "cut"
    shutil.copytree(honest, folder)
    (folder / "results.jsonl").unlink()
    for path in sorted(folder.rglob("*.arrows"))[:2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run_entry(suite, folder, "bohb", resume=True)
    again, first = verify(suite, folder, repeat=0), verify(suite, honest, repeat=0)
    assert again.holds
    assert {run.spec.id: run.curve for run in again.runs} == {run.spec.id: run.curve for run in first.runs}


def test_what_an_entry_needs_to_be_as_good_as_another(suite: Suite, honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(suite.text, encoding="utf-8")
    run_entry(suite, tmp_path / "random", "random", budget=10)
    asked = ["suite", "cost", str(path), str(honest), str(tmp_path / "random")]
    shown = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert shown.exit_code == 0 and "of 2 problems" in " ".join(shown.output.split())
    rows = json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)
    curves = {run.spec.id: run.curve for run in verify(suite, honest, repeat=0).runs}
    for row, problem in zip(rows["problems"], suite.problems, strict=True):
        assert row["budget"] == 10
        mine = [curve for run, curve in curves.items() if problem.key in run or problem.problem in run]
        medians = [
            np.median([normalised(problem, max((r for e, r in curve if e <= at), default=-np.inf)) for curve in mine])
            for at in range(1, 11)
        ]
        assert row["half"] == medians[4]
        needs = next((at for at, median in enumerate(medians, 1) if median <= row["other"]), None)
        assert row["needs"] == needs
    assert rows["at_most_half"] == sum(row["needs"] is not None and row["needs"] <= 5 for row in rows["problems"])
    same = CliRunner().invoke(main, ["suite", "cost", str(path), *[str(honest)] * 2, "--json"])
    same = json.loads(same.stdout)
    assert all(row["needs"] == row["other_needs"] for row in same["problems"]) and same["mean_ratio"][0] == 1
    early = json.loads(CliRunner().invoke(main, [*asked, "--at", "3", "--json"]).stdout)
    for row, whole in zip(early["problems"], rows["problems"], strict=True):
        assert row["other"] >= whole["other"] and row["other_needs"] <= row["budget"] == 3
        assert row["ratio"] == row["needs"] / row["other_needs"] if row["needs"] else row["ratio"] >= 2
    mean, low, high = early["mean_ratio"]
    assert low <= high and mean == pytest.approx(np.exp(np.mean(np.log([row["ratio"] for row in early["problems"]]))))
