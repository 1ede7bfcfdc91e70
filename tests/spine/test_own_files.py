"""A run's folder knows what it was made from: it works from any working directory, when it was moved, and when the files are
no longer what they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from archgym import files, locating
from archgym.cli import main
from archgym.datasets import verify as dataset
from archgym.datasets.shards import find_shards
from archgym.errors import ArchGymError
from archgym.locating import Kept, digest, following, located
from archgym.problem import make_problem, problem_of_options


def ask(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.stdout if "--json" in arguments and not code else done.output


def trace(path: Path, lines: int = 120, step: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("read", "write")
    path.write_text("".join(f"{10 * i}: {kinds[i % 3 == 0]} 0x{64 * (i * step % 500):x}\n" for i in range(lines)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on a trace that was named relative to a folder that we are no longer in."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    trace(here / "traces" / "mine.stl")
    monkeypatch.chdir(here)
    ask("run", "dram/file:traces/mine.stl", "--agent", "random", "--budget", 6, "--out", tmp_path / "run", "--json")
    monkeypatch.chdir(there)
    return tmp_path / "run"


NAME = "dram/file:traces/mine.stl"


def everything_works(run: Path, out: Path, budget: int) -> None:
    found = dataset.verify(run, trust=True)
    assert found["holds"] and found["problems"][0]["simulated"] == found["rows"], found
    json.loads(ask("run", NAME, "--agent", "random", "--budget", budget, "--resume", "--out", run, "--json"))
    assert dataset.verify(run, trust=True)["rows"] == budget
    page = Path(json.loads(ask("report", run, "--json"))["report"]).read_text(encoding="utf-8")
    assert "there is no" not in page
    ask("export", run, "--to", "json", "--out", out / "json")
    ask("export", run, "--to", "dramsys4", "--out", out / "dramsys")
    best = json.loads(next((out / "json").glob("*.json")).read_text(encoding="utf-8"))
    assert best
    compared = json.loads(ask("compare", NAME, "--design", out / "json" / "design.json", "--with", run, "--json"))
    assert compared["reward"] == compared["best_reward"]


def test_a_run_works_from_elsewhere_and_when_it_was_moved(run: Path, tmp_path: Path):
    everything_works(run, tmp_path / "first", 9)
    shutil.rmtree(tmp_path / "here")
    moved = tmp_path / "moved"
    run.rename(moved)
    everything_works(moved, tmp_path / "second", 12)
    # Another file of that name here is not what the trials were made with.
    trace(Path("traces/mine.stl"), lines=50, step=3)
    everything_works(moved, tmp_path / "third", 14)
    output = ask("run", NAME, "--agent", "random", "--budget", 15, "--resume", "--out", moved)
    assert "has changed since" in " ".join(output.split())


def test_a_resumed_run_is_that_of_one_place(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from archgym.datasets import read_trials

    ask("run", NAME, "--agent", "random", "--budget", 10, "--resume", "--out", run, "--json")
    monkeypatch.chdir(tmp_path / "here")
    ask("run", NAME, "--agent", "random", "--budget", 10, "--out", tmp_path / "whole", "--json")
    a, b = (read_trials(folder).drop(["evaluation_s", "time_s"]) for folder in (run, tmp_path / "whole"))
    assert a.equals(b)


def test_a_new_problem_takes_the_file_as_it_is(run: Path, tmp_path: Path):
    """Also after trials were read that were made with another content."""
    find_shards(run)
    trace(Path("traces/mine.stl"), lines=50, step=3)
    old = problem_of_options(NAME, {})
    new = make_problem(NAME)
    assert new.workload.fingerprint != old.workload.fingerprint
    assert new.workload.name == old.workload.name == "file:traces/mine.stl"
    assert [name for name, _ in new.files] == ["traces/mine.stl"]


def test_a_large_file_is_known_by_its_content_and_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MOST", 100)
    monkeypatch.chdir(tmp_path)
    trace(tmp_path / "big.stl")
    ask("run", "dram/file:big.stl", "--agent", "random", "--budget", 4, "--out", "run", "--json")
    assert not list(Path("run").rglob("*.stl"))
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert dataset.verify("../run", trust=True)["problems"][0]["simulated"] == 4  # by its absolute path
    trace(tmp_path / "big.stl", lines=60)
    trace(tmp_path / "sub" / "big.stl", lines=60)
    output = ask("run", "dram/file:big.stl", "--agent", "random", "--budget", 6, "--resume", "--out", "../run", code=2)
    assert "has changed since these trials were made" in " ".join(output.split())


def test_options_and_folders_that_are_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    source = Path(files.__file__).parent / "simulators/accelerator/technologies"
    shutil.copyfile(sorted(source.glob("*.json"))[0], tmp_path / "mine.json")
    problem = make_problem("accelerator/alexnet", space="reduced", technology="file:mine.json")
    assert problem.files == (("mine.json", Path("mine.json")),)
    files.keep_files(tmp_path / "shards", problem.files)
    folder = tmp_path / "net"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.yaml").write_text("a: 1")
    files.keep_files(tmp_path / "shards", [("net", folder), ("none", tmp_path / "none"), ("..", tmp_path)])
    kept = files.kept_beside([tmp_path / "shards" / "x.arrows"])
    assert {file.name for file in kept} == {"mine.json", "net"}
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with following(kept):
        assert (located("net") / "deep" / "a.yaml").read_text() == "a: 1"
        assert located("mine.json").read_bytes() == (tmp_path / "mine.json").read_bytes()
        assert located("other.json") == Path("other.json")
    assert located("net") == Path("net")


def test_a_study_goes_on_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = tmp_path / "here"
    trace(here / "mine.stl")
    monkeypatch.chdir(here)
    Path("study.yaml").write_text(
        "name: s\nbudget: 4\nseeds: 2\nproblems: [{problem: 'dram/file:mine.stl'}]\nagents: [random]\nlog: trials\n"
    )
    out = tmp_path / "study"
    ask("study", "run", "study.yaml", "--out", out, "--executor", "serial", "--limit", 1, "--json")
    monkeypatch.chdir(tmp_path)
    (here / "mine.stl").rename(tmp_path / "renamed.stl")
    result = json.loads(
        ask("study", "run", here / "study.yaml", "--out", out, "--executor", "serial", "--resume", "--json")
    )
    assert result["done"] == 2
    assert dataset.verify(out, trust=True)["problems"][0]["simulated"] == 8


def test_notes_of_others_lead_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A note is data: it can only name content, by its digest."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    notes = tmp_path / "shards" / files.FOLDER
    notes.mkdir(parents=True)
    about = {"name": "x.stl", "absolute": str(secret), "sha256": "0" * 64, "bytes": 1, "copied": True}
    (notes / "a.json").write_text(json.dumps(about))
    (notes / "b.json").write_text(json.dumps({**about, "name": "../../secret", "sha256": digest(secret)}))
    (notes / "c.json").write_text("{")
    (notes / "d.json").write_text(json.dumps({**about, "more": 1}))
    monkeypatch.chdir(tmp_path)
    with following(files.kept_beside([tmp_path / "shards" / "x.arrows"])):
        assert located("x.stl") == Path("x.stl")
        Path("x.stl").write_text("mine")
        with pytest.raises(ArchGymError, match="has changed since"):
            located("x.stl")
    many = tmp_path / "many"
    many.mkdir()
    monkeypatch.setattr(locating, "MOST_FILES", 3)
    for i in range(5):
        (many / str(i)).write_text("x")
    assert digest(many) == "" and digest(tmp_path / "none") == ""
    assert Kept("a", Path("a"), "0", None).copy is None


def test_trials_of_two_contents_of_one_file_are_not_one_problem(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path / "here")
    trace(Path("traces/mine.stl"), lines=50, step=3)
    ask("run", NAME, "--agent", "random", "--budget", 6, "--out", tmp_path / "other", "--json")
    for command in (("dataset", "info", run, tmp_path / "other"), ("dataset", "merge", run, tmp_path / "other", "-o", "m"),
                    ("report", tmp_path)):  # fmt: skip
        assert "different contents of the file traces/mine.stl" in " ".join(ask(*command, code=2).split())
    # Each by itself, and two of one content together, are what they were.
    ask("run", NAME, "--agent", "random", "--budget", 7, "--out", tmp_path / "same", "--json")
    assert json.loads(ask("dataset", "info", tmp_path / "other", tmp_path / "same", "--json"))["rows"] == 13
    ask("dataset", "info", run)
