"""Suites: reading, running, scoring; what a forged entry is refused for, and that an honest one holds."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.cli import main
from archgym.datasets.shards import read_shard
from archgym.errors import ArchGymError
from archgym.reports.board import board_of, board_of_verified, read_board
from archgym.studies.executors import make_executor
from archgym.studies.store import Study
from archgym.suites import Entry, Suite, SuiteProblem, load_suite, parse_suite, ready_suites, run_entry, verify
from archgym.suites.entry import VARIABLE, belongs, new_entry, open_command_entry, study_spec
from archgym.suites.measure import draws_for, measure
from archgym.suites.packed import FILE as PACKED
from archgym.suites.packed import read_packed
from archgym.suites.packing import pack
from archgym.suites.scale import normalised
from archgym.suites.score import mean_ranks, score
from archgym.suites.writing import suite_text, write_suite

TEXT = """
name: small
version: 1
budgets: [20, 60]
seeds: 2
problems:
- {problem: synthetic/branin}
- {problem: synthetic/packing, scale: log, unit: 0.5, meets: -22}
"""


@pytest.fixture(scope="module")
def suite() -> Suite:
    loaded = parse_suite(TEXT)
    problems = [
        measure(problem, samples=4000, seeds=4, methods=["ga", "re", "local"], evaluations=400)
        for problem in loaded.problems
    ]
    return parse_suite(suite_text(loaded, problems))


@pytest.fixture(scope="module")
def honest(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite") / "entry"
    result = run_entry(suite, folder, "ga", {"population": 24})
    assert result.done == result.runs == 4
    return folder


# --- reading ---------------------------------------------------------------------------------------------------------


def test_ready_suites_are_listed_and_their_problems_are_those_that_were_measured() -> None:
    listed = CliRunner().invoke(main, ["suite", "list", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)["suites"]] == list(ready_suites())
    for name in ready_suites():
        loaded = load_suite(name)
        assert loaded.name == name
        for problem in loaded.problems:
            assert problem.known is not None, problem.title
            problem.make()
        made = new_entry(loaded, "random", {})
        assert [run.id for run in study_spec(loaded, made).runs()] == [run.id for run in made.runs(loaded)]


def test_a_title_is_written_as_on_the_command_line() -> None:
    options = {
        "objective": "edp",
        "only": {"A": ["x", "y"], "B": [2]},
        "fix": {"C": True},
        "workload_options": {"n": 5},
    }
    title = SuiteProblem("dram/sort", {**options, "space": "wide"}).title
    assert title == "dram/sort, edp, only A=x,y B=2, fix C=true, space=wide, n=5"


@pytest.mark.parametrize(
    "change, word",
    [
        ("budgets: [60, 20]", "increasing"),
        ("budgets: []", "increasing"),
        ("seeds: 0", ">= 1"),
        ("name: ../x", "name"),
        ("problems: [{problem: nope/x}]", "unknown simulator"),
        ("problems: [{problem: synthetic}]", "without a workload"),
        ("problems: [{problem: synthetic/branin, scale: log, unit: 0}]", "unit"),
        ("problems: [{problem: synthetic/branin, measuring: {sample: 5}}]", "sample"),
        ("problems: [{problem: synthetic/branin, measuring: {samples: 5}}]", "at least one a seed"),
        ("problems: [{problem: synthetic/branin, measuring: {methods: []}}]", "at least one agent"),
        ("problems: [{problem: synthetic/branin, measuring: {methods: [gaa]}}]", "gaa"),
        ("seeds: two", "seeds"),
        ("sedes: 2", "sedes"),
        ("problems: []", "no problems"),
        ("problems: [{problem: synthetic/branin}, {problem: synthetic/branin}]", "twice"),
        ("problems: [{problem: synthetic/branin, scael: log}]", "scael"),
        ("problems: [{problem: synthetic/branin, scale: cubic}]", "scale"),
        ("version: [1]", "version"),
    ],
)
def test_a_bad_suite_is_refused_in_a_sentence(change: str, word: str) -> None:
    key = change.partition(":")[0]
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith(key) or key == "sedes")
    if key == "problems":
        text = text.partition("- {")[0]
    with pytest.raises(ArchGymError, match=word) as caught:
        parse_suite(f"{text}\n{change}\n")
    assert "\n" not in str(caught.value)


def test_a_suite_read_back_is_the_same(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    write_suite(path, suite, suite.problems)
    assert load_suite(path) == suite
    assert load_suite(path).fingerprint == suite.fingerprint


def test_another_version_of_a_simulator_is_refused(suite: Suite) -> None:
    text = suite.text.replace(f"version: '{suite.problems[0].known.version}'", "version: 'other'", 1)  # type: ignore[union-attr]
    assert text != suite.text
    with pytest.raises(ArchGymError, match="simulator version other"):
        parse_suite(text).problems[0].make()


# --- scales and grades -----------------------------------------------------------------------------------------------


def test_best_is_zero_and_the_median_is_one(suite: Suite) -> None:
    for problem in suite.problems:
        known = problem.known
        assert known is not None
        ends = normalised(problem, [known.best.reward, known.baseline, -np.inf, np.nan, known.baseline - 5])
        np.testing.assert_allclose(ends, [0, 1, 1, 1, 1])


def test_the_median_of_a_problem_with_budgets_is_that_of_designs_that_meet_them(suite: Suite) -> None:
    known = suite.problems[1].known
    assert (known is not None and known.baseline >= -22 > known.quantiles["0.5"]) or known.baseline > known.quantiles[
        "0.5"
    ]


def test_a_result_above_an_exhaustive_optimum_is_an_error(suite: Suite) -> None:
    problem = suite.problems[0]
    assert problem.known is not None and problem.known.best.exhaustive
    with pytest.raises(ArchGymError, match="exhaustive optimum"):
        normalised(problem, [problem.known.best.reward + 1.0])


@given(st.integers(0, 1000), st.integers(1, 1000))
@settings(deadline=None)
def test_an_interval_of_draws_holds_its_estimate(hits: int, more: int) -> None:
    draws, low, high = draws_for(hits, hits + more)
    if high is None:
        assert hits == 0 and draws == low
    else:
        assert low <= draws <= high


def test_draws_of_a_known_share() -> None:
    # One design of a hundred: (1 - .01) ** 68.97 is one half.
    assert draws_for(100, 10_000)[0] == pytest.approx(np.log(0.5) / np.log(0.99))


# --- honest and forged entries ---------------------------------------------------------------------------------------


def test_an_honest_entry_holds_and_is_scored(suite: Suite, honest: Path) -> None:
    verified = verify(suite, honest)
    assert verified.holds, verified.findings
    assert verified.repeated == 1 and verified.simulated > 4
    result = score(suite, verified)
    value, low, high = result["score"]
    assert 0 <= low <= value <= high <= 1
    assert result["at"]["60"][0] <= result["at"]["20"][0]
    assert result["agent"] == "ga (population=24)"
    assert set(result["problems"][suite.problems[1].key]["meets"]) == {"20", "60"}
    assert mean_ranks(suite, {"a": verified, "b": verified}, 60)["mean_ranks"] == {"a": 1.5, "b": 1.5}


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None], about: dict[str, Any] | None = None) -> None:
    """Write a shard again with changed columns (name -> list) or metadata."""
    schema, batches, _ = read_shard(path)
    table = pa.Table.from_batches(batches, schema)
    columns = {name: table.column(name).to_pylist() for name in table.schema.names}
    change(columns)
    if about:
        info = json.loads(schema.metadata[b"archgym"]) | about
        schema = schema.with_metadata({"archgym": json.dumps(info)})
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _edit_reward(columns: dict[str, Any]) -> None:
    columns["reward"][3] = max(columns["reward"]) + 1e-3


def _edit_metric_and_reward(columns: dict[str, Any]) -> None:
    best = int(np.argmin(columns["loss"]))
    columns["loss"][best] -= 0.5
    columns["reward"][best] += 0.5


def _future(columns: dict[str, Any]) -> None:
    columns["time_s"][-1] += 1e6


def _past(columns: dict[str, Any]) -> None:
    columns["time_s"][-1] -= 1e6


def _reorder(columns: dict[str, Any]) -> None:
    for name in columns:
        columns[name][2], columns[name][5] = columns[name][5], columns[name][2]


def _drop(columns: dict[str, Any]) -> None:
    for name in columns:
        del columns[name][0]


def _cut(columns: dict[str, Any]) -> None:
    for name in columns:
        del columns[name][-20:]


def _free(columns: dict[str, Any]) -> None:
    columns["cached"][columns["cached"].index(False)] = True


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], dict[str, Any] | None, str]] = {
    "a reward edited": (_edit_reward, None, "reward-edited"),
    "a metric and its reward edited": (_edit_metric_and_reward, None, "result-differs"),
    "a trial from the future": (_future, None, "future-trial"),
    "a result before its evaluation": (_past, None, "out-of-order"),
    "trials in another order": (_reorder, None, "out-of-order"),
    "the first trial left out": (_drop, None, "out-of-order"),
    "an evaluation that cost nothing": (_free, None, "miscounted"),
    "the last trials left out": (_cut, None, "does-not-repeat"),
    "another simulator": (lambda columns: None, {"simulator_version": "0"}, "wrong-version"),
    "another objective": (lambda columns: None, {"objective": "other"}, "wrong-problem"),
    "another seed": (lambda columns: None, {"seed": 7}, "wrong-run"),
    "another agent": (lambda columns: None, {"agent": "random"}, "wrong-run"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_entry_is_refused_by_name(suite: Suite, honest: Path, tmp_path: Path, name: str) -> None:
    change, about, kind = FORGERIES[name]
    folder = tmp_path / "forged"
    shutil.copytree(honest, folder)
    run = Entry.read(folder).runs(suite)[0]
    _rewrite(Study(folder).shard(run), change, about)
    found = verify(suite, folder)
    assert [finding.kind for finding in found.findings] == [kind], found.findings


def test_a_swapped_design_is_refused(suite: Suite, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(honest, folder)
    run = Entry.read(folder).runs(suite)[0]
    path = Study(folder).shard(run)
    names = suite.problems[0].make().space.names

    def swap(columns: dict[str, Any]) -> None:
        best = int(np.argmax(columns["reward"]))
        # A neighbour of the best design that was not asked for: the count of designs stays.
        seen = set(zip(*(columns[name] for name in names), strict=True))
        values = suite.problems[0].make().space[names[0]].values
        row = [columns[name][best] for name in names]
        new = next(value for value in values if (value, *row[1:]) not in seen)
        columns[names[0]][best] = new

    _rewrite(path, swap)
    assert [finding.kind for finding in verify(suite, folder).findings] == ["result-differs"]


def test_an_overdrawn_budget_is_refused(suite: Suite, honest: Path, tmp_path: Path) -> None:
    text = suite.text.replace("- 60\n", "- 80\n")
    larger = parse_suite(text)
    folder = tmp_path / "larger"
    run_entry(larger, folder, "random")
    # The trials of a larger budget under the names of the suite's own runs.
    forged = tmp_path / "forged"
    run_entry(suite, forged, "random")
    for mine, theirs in zip(Entry.read(forged).runs(suite), Entry.read(folder).runs(larger), strict=True):
        source = Study(folder).shard(theirs)
        schema, _, _ = read_shard(source)
        info = json.loads(schema.metadata[b"archgym"])
        _rewrite(source, lambda columns: None, info | {"run": mine.id})
        shutil.copy(source, Study(forged).shard(mine))
    kinds = {finding.kind for finding in verify(suite, forged).findings}
    assert kinds == {"budget-overdrawn"}


def test_a_missing_run_and_an_entry_of_another_suite_are_refused(suite: Suite, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    shutil.copytree(honest, folder)
    Study(folder).shard(Entry.read(folder).runs(suite)[2]).unlink()
    assert [finding.kind for finding in verify(suite, folder).findings] == ["missing-run"]
    other = parse_suite(suite.text.replace("version: 1\n", "version: 2\n", 1))
    with pytest.raises(ArchGymError, match="version 1, not of small version 2"):
        verify(other, folder)


def test_an_agent_that_does_not_repeat_is_found(suite: Suite, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    shutil.copytree(honest, folder)
    run_entry(suite, tmp_path / "random", "random")
    entry = Entry.read(folder)
    theirs = Entry.read(tmp_path / "random").runs(suite)
    for mine, other in zip(entry.runs(suite), theirs, strict=True):
        source = Study(tmp_path / "random").shard(other)
        about = {"agent": "ga", "run": mine.id}
        _rewrite(source, lambda columns: None, about)
        shutil.copy(source, Study(folder).shard(mine))
    assert [finding.kind for finding in verify(suite, folder).findings] == ["does-not-repeat"]


def test_a_run_that_is_another_seeds_is_found(suite: Suite, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    shutil.copytree(honest, folder)
    first, second = (run for run in Entry.read(folder).runs(suite) if run.problem == suite.problems[1].problem)
    target = Study(folder).shard(second)
    shutil.copy(Study(folder).shard(first), target)
    _rewrite(target, lambda columns: None, {"seed": second.seed, "run": second.id})
    assert [(finding.kind, finding.run) for finding in verify(suite, folder).findings] == [
        ("does-not-repeat", second.id)
    ]
    assert "does-not-repeat" in board_of(suite, [honest, folder], str).refused[0]["reason"]


def test_nothing_that_an_entry_names_is_imported(
    suite: Suite, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(honest, "entry")
    Path("entry/evil.py").write_text("raise SystemExit('imported')\n")
    entry = replace(Entry.read("entry"), agent="entry.evil:Agent")
    entry.write(Path("entry"))
    found = verify(suite, "entry")
    assert {finding.kind for finding in found.findings} == {"missing-run"}
    assert score(suite, found)["agent"].startswith("entry.evil:Agent (crossover=")


def test_an_entry_that_was_run_before_its_suite_was_measured_belongs_to_it(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text(TEXT)
    entry = new_entry(parse_suite(TEXT), "random", {})
    assert entry.suite_fingerprint != suite.fingerprint
    belongs(entry, suite, tmp_path)
    result = CliRunner().invoke(
        main, ["suite", "run", str(path), "--agent", "random", "--executor", "serial", "--out", str(tmp_path / "entry")]
    )
    assert result.exit_code == 0 and "not measured yet" in result.stdout
    held = CliRunner().invoke(main, ["suite", "verify", str(path), str(tmp_path / "entry")])
    assert held.exit_code == 0 and "random holds" in held.stdout and "no score" in held.stdout
    with pytest.raises(ArchGymError, match="scored at"):
        belongs(replace(entry, budget=-1), suite, tmp_path)
    with pytest.raises(ArchGymError, match="call it something else"):
        new_entry(suite, "ga", {}, "python mine.py")


def test_results_of_another_machine_may_differ_in_the_last_bits(suite: Suite, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    shutil.copytree(honest, folder)

    def nudge(columns: dict[str, Any]) -> None:
        for name in ("loss", "reward"):
            columns[name] = [value * (1 + 1e-13) for value in columns[name]]

    _rewrite(Study(folder).shard(Entry.read(folder).runs(suite)[0]), nudge)
    assert verify(suite, folder).holds


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"suite": 1}',
        '{"suite": "small", "agent": "../../x", "suite_version": 1, "suite_fingerprint": "a"}',
    ],
)
def test_a_hostile_entry_file_is_a_sentence(suite: Suite, tmp_path: Path, text: str) -> None:
    (tmp_path / "entry.json").write_text(text)
    with pytest.raises(ArchGymError):
        verify(suite, tmp_path)


# --- running ---------------------------------------------------------------------------------------------------------


def test_an_entry_goes_on_and_does_not_mix(suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    run_entry(suite, folder, "random", max_seconds=0)
    with pytest.raises(ArchGymError, match="--resume"):
        run_entry(suite, folder, "random")
    with pytest.raises(ArchGymError, match="holds the entry of random"):
        run_entry(suite, folder, "ga", resume=True)
    assert run_entry(suite, folder, "random", resume=True).done == 4
    assert verify(suite, folder).holds


def test_the_documented_loop_on_an_environment_makes_an_entry(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "suite.md").read_text(encoding="utf-8")
    program = page.partition("```py\n# gym_loop.py\n")[2].partition("```")[0]
    entry = open_command_entry(suite, tmp_path / "entry", "python gym_loop.py", "hill-climbing", budget=20)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "entry"))
    exec(compile(program, "gym_loop.py", "exec"), {})
    rows = Study(tmp_path / "entry").results()
    assert [row["run"] for row in rows] == [run.id for run in entry.runs(suite)]
    assert all(row["evaluations"] == 20 for row in rows) and max(len(row["curve"]) for row in rows) > 2
    found = verify(suite, tmp_path / "entry", sample=0)
    assert found.holds and found.entry.outside


def test_a_program_of_ones_own_searches_and_is_marked(
    suite: Suite, honest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    write_suite(path, suite, suite.problems)
    program = tmp_path / "mine.py"
    program.write_text(
        "from archgym.suites import given_runs\n"
        "for run in given_runs():\n"
        "    while not run.over:\n"
        "        run.evaluate(run.problem.space.sample(8, run.rng))\n"
        "    print('searched')\n"
    )
    command = ["suite", "run", str(path), "--command", f"{sys.executable} {program}", "--out", str(tmp_path / "entry")]
    result = CliRunner().invoke(main, [*command, "--json"])
    assert result.exit_code == 0, result.output
    # The program's own words do not stand before the JSON.
    printed = capfd.readouterr()
    assert "searched" in printed.err and "searched" not in printed.out
    numbers = json.loads(result.stdout)
    assert numbers["done"] == numbers["runs"] == 4 and numbers["score"]["holds"] and numbers["score"]["agent"] == "mine"
    entries = {"mine": tmp_path / "entry", "ga": honest}
    found = {name: verify(suite, folder, sample=0, repeat=0) for name, folder in entries.items()}
    table = board_of_verified(suite, found).parts.sections[0]
    assert '<th scope="row">ga</th>' in table and '<th scope="row">mine <small>outside archgym</small></th>' in table
    assert (
        main(
            ["suite", "pack", str(path), str(tmp_path / "entry"), "--out", str(tmp_path / "packed")],
            standalone_mode=False,
        )
        is None
    )
    found["mine"] = verify(suite, tmp_path / "packed", sample=0, repeat=0)
    table = board_of_verified(suite, found).parts.sections[0]
    assert "mine <small>outside archgym, packed: evaluations as it says</small></th>" in table


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["run", "small.yaml", "--command", " "], "--command is empty"),
        (["run", "small.yaml", "--command", "true", "--workers", "2"], "--workers belongs to --agent"),
        (["run", "small.yaml", "--agent", "random", "--called", "mine"], "--called belongs to --command"),
        (["run", "small.yaml", "--agent", "random", "--max-minutes", "-1"], "max-minutes"),
        (["run", "small.yaml", "--agent", "random"], "unknown workload"),
        (["run", "small.yaml", "--command", "true"], "unknown workload"),
        (["describe", "small.yaml"], "unknown workload"),
        (["score", "small.yaml", "nowhere"], "no measured scale"),
        (["board", "archgym-8", "nowhere", "./nowhere"], "twice"),
        (["measure", "archgym-8"], "of your own"),
        (["measure", "small.yaml", "--only", "hartmann"], "title of no problem"),
        (["measure", "small.yaml", "--methods", ","], "at least one agent"),
        (["measure", "small.yaml", "--samples", "100", "--seeds", "101"], "at least one a seed"),
    ],
)
def test_the_command_line_refuses_before_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(TEXT.replace("synthetic/branin", "synthetic/bran"))
    result = CliRunner().invoke(main, ["suite", *arguments])
    assert result.exit_code == 2 and word in result.stderr, result.output
    assert os.listdir() == ["small.yaml"]


def test_verify_takes_the_seed_of_its_sample(
    suite: Suite, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seeds = importlib.import_module("archgym.suites.verify"), []
    monkeypatch.setattr(
        module, "verify", lambda *given, seed, **more: seeds.append(seed) or verify(*given, seed=seed, **more)
    )
    write_suite(tmp_path / "small.yaml", suite, suite.problems)
    arguments = ["suite", "verify", str(tmp_path / "small.yaml"), str(honest), "--sample", "1", "--repeat", "0"]
    assert CliRunner().invoke(main, [*arguments, "--seed", "7"]).exit_code == 0 and seeds == [7]
    assert CliRunner().invoke(main, [*arguments, "--seed", "-1"]).exit_code == 2


def test_the_command_line_verifies_and_draws_a_board(suite: Suite, honest: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "small.yaml"
    write_suite(path, suite, suite.problems)
    result = CliRunner().invoke(main, ["suite", "verify", str(path), str(honest), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["holds"]
    broken = tmp_path / "broken"
    shutil.copytree(honest, broken)
    _rewrite(Study(broken).shard(Entry.read(broken).runs(suite)[0]), _edit_reward)
    assert CliRunner().invoke(main, ["suite", "verify", str(path), str(broken)]).exit_code == 1
    page = tmp_path / "board.html"
    result = CliRunner().invoke(
        main, ["suite", "board", str(path), str(honest), str(broken), "--out", str(page), "--json"]
    )
    made = json.loads(result.stdout)
    assert [row["agent"] for row in made["entries"]] == ["ga (population=24)"]
    assert "reward-edited" in made["refused"][0]["reason"]
    text = page.read_text()
    assert "ga (population=24)" in text and "sortable" in text and "http://" not in text.partition("<script")[0]
    # What a site keeps of a board makes the same page.
    parts = board_of(suite, [honest], lambda folder: folder.name).parts
    parts.write(tmp_path / "board.json")
    assert read_board(tmp_path / "board.json") == parts
    assert [curves.quartiles.keys() for curves in parts.curves.values()] == [{"ga (population=24)"}] * len(
        suite.problems
    )
    assert (tmp_path / "board.json").stat().st_size < 0.1 * page.stat().st_size
    described = CliRunner().invoke(main, ["suite", "describe", str(path), "--json"])
    assert json.loads(described.stdout)["problems"][0]["known"]["draws"] > 1


def test_an_agent_of_ones_own_runs_by_its_module(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agents.py").write_text(
        "from archgym.agents.random_search import RandomSearch\n\n\nclass Mine(RandomSearch):\n    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path / "small.yaml", suite, suite.problems)
    command = [
        "suite",
        "run",
        "small.yaml",
        "--agent",
        "my_agents:Mine",
        "--out",
        "entry",
        "--executor",
        "serial",
        "--json",
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert numbers["score"]["holds"] and numbers["score"]["agent"] == "my_agents:Mine"
    assert any("no agent of archgym" in note for note in numbers["score"]["notes"])
    wrong = CliRunner().invoke(main, [*command[:3], "--agent", "my_agents:Yours", "--out", "other"])
    assert wrong.exit_code == 2 and "my_agents:Yours" in wrong.output


# --- smaller budgets, packed entries ---------------------------------------------------------------------------------


def test_a_dear_problem_and_a_short_entry_have_smaller_budgets(suite: Suite, tmp_path: Path) -> None:
    dear = parse_suite(
        suite.text.replace("- problem: synthetic/packing\n", "- problem: synthetic/packing\n  budget: 20\n")
    )
    assert dear.problems[1].budget == 20 and dear.fingerprint != suite.fingerprint
    assert run_entry(dear, tmp_path / "whole", "random", executor=make_executor("serial")).done == 4
    verified = verify(dear, tmp_path / "whole")
    assert verified.holds, verified.findings
    assert [run.evaluations for run in verified.runs] == [60, 20, 60, 20]
    assert run_entry(dear, tmp_path / "short", "random", budget=20, executor=make_executor("serial")).done == 4
    short = verify(dear, tmp_path / "short")
    assert short.holds and {run.evaluations for run in short.runs} == {20}
    result = score(dear, short)
    assert result["budgets"] == [20] and list(result["at"]) == ["20"] and result["score"] == result["at"]["20"]
    assert result["at"]["20"] == score(dear, verified)["at"]["20"]
    with pytest.raises(ArchGymError, match=r"scored at \[20, 60\]"):
        run_entry(dear, tmp_path / "odd", "random", budget=30)
    with pytest.raises(ArchGymError, match="not of random, 60 evaluations"):
        run_entry(dear, tmp_path / "short", "random", resume=True)
    with pytest.raises(ArchGymError, match="expected one of"):
        parse_suite(
            suite.text.replace("- problem: synthetic/packing\n", "- problem: synthetic/packing\n  budget: 30\n")
        )


@pytest.fixture(scope="module")
def packed(suite: Suite, honest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packed") / "entry"
    made = pack(suite, honest, target)
    assert made["runs"] == 4 and made["bytes"] < 20_000
    return target


def test_a_packed_entry_scores_as_the_whole(suite: Suite, honest: Path, packed: Path, tmp_path: Path) -> None:
    verified = verify(suite, packed)
    assert verified.holds and verified.repeated == 1 and "packed" in verified.notes[0]
    assert score(suite, verified) == score(suite, verify(suite, honest)) | {"packed": True}
    assert pack(suite, packed, tmp_path / "again")["steps"] == verified.simulated
    assert (tmp_path / "again" / PACKED).read_bytes() == (packed / PACKED).read_bytes()
    with pytest.raises(ArchGymError, match="already"):
        pack(suite, honest, packed)


def _repack(source: Path, target: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    shutil.copytree(source, target)
    rows = [json.loads(line) for line in gzip.decompress((target / PACKED).read_bytes()).splitlines()]
    change(rows)
    (target / PACKED).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def _raise_last(rows: list[dict[str, Any]]) -> None:
    rows[0]["steps"][-1][1] += 0.01


def _overdraw(rows: list[dict[str, Any]]) -> None:
    rows[1]["evaluations"] = 61


def _leave_out(rows: list[dict[str, Any]]) -> None:
    del rows[2]


def _sooner(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["steps"] = [[1, *row["steps"][-1][1:]]]


def _outside(rows: list[dict[str, Any]]) -> None:
    rows[0]["steps"][-1][2][0] = 10**6


def _fall(rows: list[dict[str, Any]]) -> None:
    rows[0]["steps"].append(rows[0]["steps"][0])


@pytest.mark.parametrize(
    "change, kind",
    [
        (_raise_last, "result-differs"),
        (_overdraw, "budget-overdrawn"),
        (_leave_out, "missing-run"),
        (_sooner, "does-not-repeat"),
        (_outside, "unreadable"),
        (_fall, None),
    ],
)
def test_a_forged_packed_entry_is_refused_by_name(
    suite: Suite, packed: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], kind: str | None
) -> None:
    _repack(packed, tmp_path / "forged", change)
    if kind is None:
        with pytest.raises(ArchGymError, match="do not rise"):
            verify(suite, tmp_path / "forged")
    else:
        assert [finding.kind for finding in verify(suite, tmp_path / "forged").findings] == [kind]


def test_measured_parts_are_taken_over_and_measured_where_missing(suite: Suite, tmp_path: Path) -> None:
    bare, whole = tmp_path / "bare.yaml", tmp_path / "whole.yaml"
    write_suite(whole, suite, suite.problems)
    bare.write_text(TEXT + "- {problem: synthetic/hartmann6, measuring: {samples: 500, seeds: 5, evaluations: 0}}\n")
    command = ["suite", "measure", str(bare), "--missing", "--like", str(whole), "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert [row["problem"] for row in json.loads(result.stdout)["measured"]] == ["synthetic/hartmann6"]
    made = load_suite(bare)
    assert [problem.known for problem in made.problems[:2]] == [problem.known for problem in suite.problems]
    known = made.problems[2].known
    assert known is not None and known.samples == 500 and known.seeds == 5 and known.best.exhaustive
    assert made.problems[2].measuring.evaluations == 0
    assert json.loads(CliRunner().invoke(main, command).stdout)["measured"] == []


# --- learning from other workloads -----------------------------------------------------------------------------------


def test_a_suite_may_name_what_to_learn_from(tmp_path: Path) -> None:
    text = "name: small\nversion: 1\nbudgets: [4]\nseeds: 1\ntrain: [systolic/train, dram/sort]\nproblems: [systolic/resnet18]\n"
    loaded = parse_suite(text.replace("[systolic/resnet18]", "[{problem: systolic/resnet18}, {problem: dram/gzip}]"))
    train = loaded.training(loaded.problems[0])
    assert "systolic/resnet50" in train and "systolic/resnet18" not in train and len(train) > 10
    assert loaded.training(loaded.problems[1]) == ("dram/sort",)
    assert parse_suite(suite_text(loaded, loaded.problems)).train == loaded.train
    own = parse_suite(text.replace("[systolic/resnet18]", "[{problem: systolic/resnet50}]"))
    assert "systolic/resnet50" not in own.training(own.problems[0]) and "systolic/vgg16" in own.training(
        own.problems[0]
    )
    with pytest.raises(ArchGymError, match="did you mean 'systolic'"):
        parse_suite(
            text.replace("systolic/train", "systolc/train").replace("[systolic/resnet18]", "[{problem: dram/gzip}]")
        )
    (tmp_path / "small.yaml").write_text(text.replace("[systolic/resnet18]", "[{problem: systolic/resnet18}]"))
    program = tmp_path / "mine.py"
    program.write_text(
        "from archgym.suites import given_runs\n"
        "for run in given_runs():\n"
        "    assert 'systolic/resnet50' in run.train and 'systolic/resnet18' not in run.train\n"
        "    while not run.over:\n"
        "        run.evaluate(run.problem.space.sample(2, run.rng))\n"
    )
    command = ["suite", "run", str(tmp_path / "small.yaml"), "--command", f"{sys.executable} {program}", "--json"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "entry")])
    assert result.exit_code == 0 and json.loads(result.stdout)["done"] == 1, result.output


# --- what ships ------------------------------------------------------------------------------------------------------

SHIPPED = sorted((Path(__file__).parents[2] / "data" / "suites").glob("*/*/entry.json"))


def test_what_ships_is_what_make_suites_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    tool = importlib.import_module("make_suites")
    shipped = [(path.parents[1].name, path.parent.name) for path in SHIPPED]
    assert sorted(shipped) == sorted((suite, entry) for suite, entries in tool.ENTRIES.items() for entry in entries)
    for path in SHIPPED:
        assert Entry.read(path.parent).command == tool.OUTSIDE.get(path.parent.name, ""), path


def test_shipped_entries_belong_to_their_suites_and_are_whole() -> None:
    assert {path.parents[1].name for path in SHIPPED} == set(ready_suites())
    for path in SHIPPED:
        loaded, entry = load_suite(path.parents[1].name), Entry.read(path.parent)
        belongs(entry, loaded, path.parent)
        assert entry.agent == path.parent.name
        assert set(read_packed(path.parent)) == {run.id for run in entry.runs(loaded)}
    assert sum(path.stat().st_size for path in SHIPPED[0].parents[2].rglob("*")) < 20_000_000


@pytest.mark.parametrize("name", ready_suites())
def test_a_shipped_entry_holds_here(name: str) -> None:
    verified = verify(load_suite(name), SHIPPED[0].parents[2] / name / "random")
    assert verified.holds and verified.repeated == 1, verified.findings


@pytest.mark.parametrize("name", ready_suites())
def test_the_best_known_of_a_ready_suite_took_ten_times_its_budget_by_three_methods(name: str) -> None:
    loaded = load_suite(name)
    for problem in loaded.problems:
        assert problem.known is not None
        best = problem.known.best
        searched = [method for method in best.methods if method != "shipped"]
        enough = best.evaluations >= 10 * min(problem.budget or loaded.budget, loaded.budget)
        assert best.exhaustive or (enough and len(searched) >= 3), problem.title


def test_the_problems_of_the_large_suite_are_graded_hard() -> None:
    draws = [problem.known.draws for problem in load_suite("archgym-24").problems if problem.known is not None]
    assert len(draws) == 24 and min(draws) >= 300 and sum(n > 10_000 for n in draws) >= 16


def test_the_boards_of_the_site_name_every_shipped_entry() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for name in {path.parents[1].name for path in SHIPPED}:
        data = docs / "boards" / f"{name}.json"
        assert data.is_file(), f"run tools/suite_docs.py {name}, and link its board from docs/suite.md"
        assert f"(boards/{name}.html)" in (docs / "suite.md").read_text(encoding="utf-8")
        parts = read_board(data)
        assert parts.title.endswith(f"{name} version {load_suite(name).version}")
        for entry in {path.parent.name for path in SHIPPED if path.parents[1].name == name}:
            assert re.search(rf'<th scope="row">{re.escape(entry)}( .*?)?</th>', parts.sections[0]), entry
            assert all(entry in curves.quartiles for curves in parts.curves.values()), entry


def test_the_page_of_suites_has_every_ready_suite() -> None:
    page = (Path(__file__).parents[2] / "docs" / "suite.md").read_text()
    for name in ready_suites():
        table = page.partition(f"<!-- grades of {name} -->")[2].partition("<!-- end -->")[0]
        for problem in load_suite(name).problems:
            assert problem.known is not None and f"`{problem.title}` |" in table
            assert f"{problem.known.draws:,.0f}" in table
