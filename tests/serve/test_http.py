"""``archgym serve``: sessions over HTTP, their answers, their shards, and that a kill loses nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from archgym.datasets import verify as dataset
from archgym.problem import make_problem
from archgym.serve.sessions import Sessions
from tests.serve.conftest import ROOT, TOKEN, Client, process, running


def designs(count: int, seed: int = 0) -> list[list[int]]:
    return make_problem("synthetic/branin").space.sample(count, seed).tolist()


# --- a session -------------------------------------------------------------------------------------------------------


def test_a_session_is_a_run_whose_answers_are_the_simulators(client: Client, tmp_path: Path):
    problem = make_problem("dram/sort")
    here = client.open(problem="dram/sort", budget=6, seed=3, agent="mine", settings={"model": "m", "t": 0.5})
    space = client.get(f"{here}/space").json
    assert [p["name"] for p in space["parameters"]] == list(problem.space.names)
    assert [p["values"] for p in space["parameters"]] == [list(p.values) for p in problem.space.parameters]
    assert {rule["parameter"] for rule in space["inactive"]} == {rule.parameter for rule in problem.space.inactive}
    assert [rule["name"] for rule in space["constraints"]] == [rule.name for rule in problem.space.constraints]
    rows = problem.space.sample(4, 1)
    named = problem.space.decode(rows)
    answer = client.post(f"{here}/evaluate", {"designs": [named[0], named[1], rows[2].tolist(), named[0]]}).json
    evaluation, rewards = problem.evaluate(rows[[0, 1, 2, 0]], seed=3)
    assert [trial["reward"] for trial in answer["trials"]] == rewards.tolist()
    assert [trial["design"] for trial in answer["trials"]] == [named[i] for i in (0, 1, 2, 0)]
    for name, column in evaluation.metrics.items():
        assert [trial["metrics"][name] for trial in answer["trials"]] == column.tolist()
    assert [trial["repeat"] for trial in answer["trials"]] == [False, False, False, True]
    assert (answer["used"], answer["remaining"], answer["refused"], answer["closed"]) == (3, 3, 0, False)
    best = client.get(f"{here}/best?count=2").json["trials"]
    assert [trial["reward"] for trial in best] == sorted(rewards[:3].tolist())[::-1][:2]
    history = client.get(f"{here}/history?start=1&count=2").json
    assert history["total"] == 4 and [trial["index"] for trial in history["trials"]] == [1, 2]
    assert history["trials"] == answer["trials"][1:3]
    status = client.post(f"{here}/close").json
    assert status["closed"] and status["trials"] == 4 and status["used"] == 3
    assert client.post(f"{here}/evaluate", {"designs": [named[3]]}).kind == "closed"
    found = dataset.verify(tmp_path / "sessions")
    assert found["holds"] and found["rows"] == 3
    report = client.post(f"{here}/report").json
    assert "mine found" in report["sentence"]
    assert "<html" in Path(report["page"]).read_text(encoding="utf-8")[:500]


def test_the_budget_ends_within_a_request_and_closes_the_session(client: Client):
    here = client.open(budget=3)
    assert client.post(f"{here}/report").kind == "bad_request"  # it would simulate beyond the budget
    answer = client.post(f"{here}/evaluate", {"designs": designs(5)}).json
    assert (len(answer["trials"]), answer["refused"], answer["remaining"], answer["closed"]) == (3, 2, 0, True)
    reply = client.post(f"{here}/evaluate", {"designs": designs(1)})
    assert reply.status == 409 and "budget is used up (3 of 3 evaluations)" in reply.json["error"]["message"]
    assert client.get(here).json["reason"] == "the budget is used up"
    assert client.post(f"{here}/report").json["used"] == 3


def test_infeasible_designs_have_a_violation_and_no_metrics(client: Client):
    problem = make_problem("synthetic/packing")
    rows = np.random.default_rng(0).integers(0, problem.space.nvec, (500, problem.space.dimension))
    broken = rows[problem.space.violations(rows) != ""][:1]
    here = client.open(problem="synthetic/packing")
    trial = client.post(f"{here}/evaluate", {"designs": broken.tolist()}).json["trials"][0]
    assert not trial["feasible"] and trial["violation"] and set(trial["metrics"].values()) == {None}
    assert np.isfinite(trial["reward"])


def test_describe_gives_away_no_optimum(client: Client):
    text = client.post("/v1/describe", {"problem": "dram/sort", "options": {"space": "archgym"}}).content.decode()
    assert "optimum" not in text and "NoRefresh" in text
    assert (
        client.post("/v1/describe", {"problem": "dram/srt"}).json["error"]["message"].endswith("did you mean 'sort'?")
    )
    problems = client.get("/v1/problems").json["simulators"]
    assert "gzip" in next(row for row in problems if row["simulator"] == "dram")["workloads"]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_answered_again(client: Client):
    here = client.open(key="one")
    assert client.open(key="one") == here
    assert client.post("/v1/sessions", {"problem": "synthetic/branin", "budget": 21, "key": "one"}).kind == "key_used"
    first = client.post(f"{here}/evaluate", {"designs": designs(4), "key": "a"})
    client.post(f"{here}/evaluate", {"designs": designs(4, 1), "key": "b"})
    assert client.post(f"{here}/evaluate", {"designs": designs(4), "key": "a"}).content == first.content
    assert client.post(f"{here}/evaluate", {"designs": designs(4, 2), "key": "a"}).kind == "key_used"
    assert client.get(here).json["used"] == 8


def test_many_threads_with_one_key_pay_once(client: Client):
    here = client.open(budget=20)
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(client.post(f"{here}/evaluate", {"designs": designs(6), "key": "same"}).content)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12 and len(set(answers)) == 1
    assert client.get(here).json["trials"] == 6


def test_concurrent_requests_to_one_session_keep_the_budget(client: Client, tmp_path: Path):
    here = client.open(budget=50)
    got: list[int] = []

    def ask(seed: int) -> None:
        reply = client.post(f"{here}/evaluate", {"designs": designs(7, seed)})
        if reply.status == 200:
            got.extend(trial["index"] for trial in reply.json["trials"])
        else:
            assert reply.kind == "closed"

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = client.get(here).json
    assert status["used"] == 50 and status["closed"]
    assert sorted(got) == list(range(status["trials"]))
    assert dataset.verify(tmp_path / "sessions")["rows"] == 50


# --- after a kill ----------------------------------------------------------------------------------------------------


def test_a_session_is_the_same_in_a_new_server(tmp_path: Path):
    with running(Sessions(tmp_path)) as client:
        here = client.open(budget=12, key="opened")
        first = client.post(f"{here}/evaluate", {"designs": [*designs(4), designs(1)[0]], "key": "a"}).content
        history = client.get(f"{here}/history").content
        status = client.get(here).content
    with running(Sessions(tmp_path)) as client:
        assert client.open(budget=12, key="opened") == here
        assert client.get(here).content == status
        assert client.get(f"{here}/history").content == history
        assert client.post(f"{here}/evaluate", {"designs": [*designs(4), designs(1)[0]], "key": "a"}).content == first
        last = client.post(f"{here}/evaluate", {"designs": designs(20, 5), "key": "b"})
        assert last.json["used"] == 12
    shard = next(tmp_path.rglob("*.arrows"))
    whole = shard.read_bytes()
    with running(Sessions(tmp_path)) as client:  # a closed session is read, never written
        assert client.post(f"{here}/evaluate", {"designs": designs(20, 5), "key": "b"}).content == last.content
        assert client.get(here).json["closed"]
    assert shard.read_bytes() == whole


@pytest.mark.parametrize("cut", ["journal", "shard", "done", "torn line"])
def test_a_request_that_was_cut_goes_on(tmp_path: Path, cut: str):
    """What a kill leaves: a request without trials, trials without their end, a whole request that was not answered, half a
    line."""
    with running(Sessions(tmp_path / "whole")) as client:
        here = client.open(budget=12)
        client.post(f"{here}/evaluate", {"designs": designs(4), "key": "a"})
        before = shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        second = client.post(f"{here}/evaluate", {"designs": designs(5, 1), "key": "b"}).content
        history = client.get(f"{here}/history").content
    name = here.rpartition("/")[2]
    journal = before / name / "requests.jsonl"
    lines = (tmp_path / "whole" / name / "requests.jsonl").read_bytes().splitlines(keepends=True)
    assert [list(json.loads(line)) for line in lines] == [["key", "designs"], ["done"]] * 2
    if cut == "torn line":
        journal.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    else:
        journal.write_bytes(b"".join(lines[: 4 if cut == "done" else 3]))
    if cut in ("shard", "done"):
        shutil.copyfile(next((tmp_path / "whole" / name).rglob("*.arrows")), next((before / name).rglob("*.arrows")))
    with running(Sessions(tmp_path / "cut")) as client:
        assert client.get(here).json["used"] == (9 if cut in ("shard", "done") else 4)
        assert client.post(f"{here}/evaluate", {"designs": designs(5, 1), "key": "b"}).content == second
        assert client.get(f"{here}/history").content == history


@pytest.mark.slow
def test_a_killed_server_goes_on(tmp_path: Path):
    with process(tmp_path) as (child, client):
        here = client.open(budget=240, key="long")
        first = client.post(f"{here}/evaluate", {"designs": designs(50), "key": "0"}).content
        failed = threading.Event()

        def ask() -> None:
            for number in range(1, 400):
                try:
                    client.post(f"{here}/evaluate", {"designs": designs(3, number), "key": str(number)})
                except OSError:
                    failed.set()
                    return

        thread = threading.Thread(target=ask)
        thread.start()
        while client.get(here).json["used"] < 80:
            pass
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        thread.join()
        assert failed.is_set()
    with process(tmp_path) as (child, client):
        assert client.post(f"{here}/evaluate", {"designs": designs(50), "key": "0"}).content == first
        status: dict[str, object] = {}
        for number in range(1, 400):
            reply = client.post(f"{here}/evaluate", {"designs": designs(3, number), "key": str(number)})
            if reply.status != 200:
                break
        status = client.get(here).json
        assert status["used"] == 240 and status["closed"]
        history = [trial["reward"] for trial in client.get(f"{here}/history?count=1000").json["trials"]]
        child.terminate()
        assert child.wait(30) == 0 or child.returncode == -signal.SIGTERM
    with running(Sessions(tmp_path / "unkilled")) as client:
        here = client.open(budget=240)
        client.post(f"{here}/evaluate", {"designs": designs(50)})
        for number in range(1, 400):
            if client.post(f"{here}/evaluate", {"designs": designs(3, number)}).status != 200:
                break
        assert [trial["reward"] for trial in client.get(f"{here}/history?count=1000").json["trials"]] == history
    assert dataset.verify(next(tmp_path.glob("synthetic-*")))["holds"]


def test_two_servers_do_not_share_a_folder(tmp_path: Path):
    from archgym.errors import ArchGymError

    pytest.importorskip("fcntl")
    sessions = Sessions(tmp_path)
    with pytest.raises(ArchGymError, match="another 'archgym serve' uses"):
        Sessions(tmp_path)
    sessions.shut()
    Sessions(tmp_path).shut()


@pytest.mark.parametrize("more", [(), ("--suite", "archgym-8", "--called", "mine"), ("--mcp=http",)])
def test_a_port_that_is_taken_leaves_nothing_behind(tmp_path: Path, monkeypatch, more: tuple[str, ...]):
    from click.testing import CliRunner

    from archgym.cli import main

    if "--mcp=http" in more:
        pytest.importorskip("mcp")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for folder in ((), ("--out", "new/folder")):
            done = CliRunner().invoke(main, ["serve", "--port", port, *folder, *more])
            assert done.exit_code == 2 and f"cannot listen at 127.0.0.1:{port}" in done.output
            assert done.output.count("\n") == 1 and not list(tmp_path.iterdir())


# --- an entry to a suite -------------------------------------------------------------------------------------------------


def test_the_runs_of_a_suite_verify_as_an_entry(tmp_path: Path):
    from archgym.serve.entry import EntrySessions
    from archgym.suites import parse_suite, verify

    text = """
name: small
version: 1
budgets: [5, 12]
seeds: 2
problems:
- {problem: synthetic/branin}
- {problem: synthetic/packing, options: {objective: loss}}
"""
    suite = parse_suite(text)
    for attempt in range(2):  # the second server goes on with the entry of the first
        with running(EntrySessions(suite, tmp_path, "my-model")) as client:
            runs = client.get("/v1/problems").json["runs"]
            assert len(runs) == 4 and {run["budget"] for run in runs} == {12}
            for run in runs[: 2 if attempt == 0 else 4]:
                asked = {key: run[key] for key in ("problem", "options", "budget", "seed")}
                here = client.open(**asked)
                assert client.open(**asked) == here  # one run, one session
                space = make_problem(run["problem"], **run["options"]).space
                rows = space.sample(20, 100 + run["seed"]).tolist()
                reply = client.post(f"{here}/evaluate", {"designs": rows, "key": "all"})
                assert reply.json["used"] == 12 and reply.json["closed"]
            asked = {"problem": "synthetic/branin", "budget": 12, "seed": 0}
            for wrong in ({"budget": 13}, {"seed": 2}, {"problem": "synthetic/ackley"}, {"settings": {"a": 1}}):
                assert client.post("/v1/sessions", asked | wrong).kind == "bad_request"
    verified = verify(suite, tmp_path)
    assert verified.findings == [] and len(verified.runs) == 4
    assert {run.evaluations for run in verified.runs} == {12}
    assert verified.entry.agent == "my-model"


# --- what the documentation says -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def _environment(client: Client) -> dict[str, str]:
    return {**os.environ, "ARCHGYM_SERVE_URL": client.url, "ARCHGYM_SERVE_TOKEN": TOKEN}


def test_the_client_in_the_documentation(client: Client, page: str, tmp_path: Path):
    text = re.findall(r"^```py\n(.*?)^```", page, flags=re.S | re.M)[0]
    assert len([line for line in text.splitlines() if line.strip()]) <= 20 and "archgym" not in text
    (tmp_path / "client.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "client.py"], cwd=tmp_path, env=_environment(client), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reward"] <= 0
    assert client.get("/v1/sessions").json["sessions"][0]["agent"] == "mine"


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("sh") is None, reason="needs curl and sh")
def test_the_client_in_curl(client: Client, page: str, tmp_path: Path):
    blocks = re.findall(r"^```sh\n(.*?)^```", page, flags=re.S | re.M)
    text = next(block for block in blocks if "curl" in block)
    done = subprocess.run(
        ["sh", "-e", "-c", text], cwd=tmp_path, env=_environment(client), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert client.get("/v1/sessions").json["sessions"][0]["closed"]


def test_the_description_holds_every_operation_and_is_well_formed(client: Client):
    jsonschema = pytest.importorskip("jsonschema")
    from archgym.serve.http import OPERATIONS, STATUS

    reply = client.send("GET", "/openapi.json", headers={"Authorization": ""})
    described = reply.json
    assert reply.status == 200 and described["openapi"].startswith("3.1")
    assert {(op.method.lower(), op.path) for op in OPERATIONS} == {
        (method, path) for path, methods in described["paths"].items() for method in methods
    }
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for ref in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(described)):
        assert ref in described["components"]["schemas"]
    here = client.open()
    body = client.post(f"{here}/evaluate", {"designs": designs(2)}).json
    whole = {"$ref": "#/components/schemas/Evaluated", "components": described["components"]}
    jsonschema.validate(body, whole)
    assert all(kind in described["info"]["description"] for kind in STATUS)
