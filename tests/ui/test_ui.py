"""The local web application without a browser: what it finds, shows and refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.problem import make_problem
from archgym.reports.data import load_report
from tests.ui.conftest import COOKIE, TOKEN


def test_the_list_holds_runs_studies_entries_suites_and_datasets(server):
    rows = {row["key"]: row for row in server.ask("items")["items"]}
    kinds = {key: row["kind"] for key, row in rows.items()}
    assert kinds == {
        "deep": "run", "merged": "dataset", "study": "study", "entries/ga": "entry", "small@3": "suite",
    }  # fmt: skip
    assert rows["deep"]["problems"] == ["bowl/deep"] and set(rows["deep"]["agents"]) == {"random", "walk", "ga"}
    assert not any(row["error"] or row["live"] for row in rows.values())


def test_only_who_knows_the_token_sees_anything(server):
    for path in ("/", "/api/items", "/static/ui.js", "/?token=wrong", "/api/events"):
        for cookie in ("", f"{COOKIE}=wrong", "archgym-ui=" + TOKEN, "=;;\x01"):
            status, headers, body = server.get(path, cookie)
            assert status == 403 and b"items" not in body, path
            assert headers["content-security-policy"].startswith("default-src 'none'")
    status, headers, _ = server.get(f"/?at=deep&token={TOKEN}&x=a%26b", cookie="")
    assert status == 303 and headers["location"] == "?at=deep&x=a%26b"
    kept = headers["set-cookie"].lower()
    assert "httponly" in kept and "samesite=strict" in kept
    kept = headers["set-cookie"].partition(";")[0]
    assert server.get("/", kept)[0] == 200
    # Cookies of other applications at this address stand beside it, whatever is in them.
    assert server.get("/", f'other={{"a": [1, 2]}}; {kept}')[0] == 200


def test_every_answer_forbids_foreign_content(server):
    for path in ("/", "/api/items", "/api/item?at=deep", "/static/ui.js", "/no/such/page"):
        _, headers, _ = server.get(path)
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "'unsafe-inline'" not in headers["content-security-policy"].split("style-src")[0]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_nothing_outside_the_folder_is_served(server, folder, tmp_path):
    outside = tmp_path / "outside"
    (outside / "trials").mkdir(parents=True)
    (outside / "trials" / "secret.arrows").write_bytes((folder / "deep/trials/ga-s0.arrows").read_bytes())
    (outside / "results.jsonl").write_bytes((folder / "study/results.jsonl").read_bytes())
    inner = folder / "links"
    (inner / "trials").mkdir(parents=True)
    try:
        (inner / "all").symlink_to(outside)
        (inner / "trials" / "one.arrows").symlink_to(outside / "trials" / "secret.arrows")
        (inner / "study").mkdir()
        (inner / "study" / "study.yaml").write_text("name: linked")
        (inner / "study" / "results.jsonl").symlink_to(outside / "results.jsonl")
        keys = [row["key"] for row in server.ask("items")["items"]]
        assert not any(key.startswith("links") for key in keys if key != "links/study")
        assert "link" in server.ask("study", at="links/study")["refused"]
        for at in ("../outside", str(outside), "links", "links/all", "deep/../../outside", "..", "/", "links/trials"):
            assert "unknown run" in server.ask("item", at=at)["refused"]
        for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
            assert server.get(path)[0] == 404
        shutil.copytree(folder / "entries" / "ga", inner / "entry")
        (run,) = (inner / "entry").rglob("*.arrows")
        run.unlink()
        run.symlink_to(next((folder / "entries" / "ga").rglob("*.arrows")))
        rows = {row["key"]: row for row in server.ask("items")["items"]}
        assert "is a link" in rows["links/entry"]["error"]
        assert server.ask("item", at="small@3")["entries"] == ["entries/ga"]
    finally:
        shutil.rmtree(inner)


@pytest.mark.parametrize("at", ["deep", "merged", "entries/ga", "study"])
def test_every_item_has_its_charts_and_tables(server, at):
    item = server.ask("item", at=at)
    assert item["trials"] > 0 and item["missing"] == ""
    for name in item["charts"]:
        made = server.ask("chart", at=at, name=name)
        assert made is None or made["figure"]["data"], name
    for name in ("facts", "best", "found", "changes"):
        assert "<" in server.ask("text", at=at, name=name)["html"] or name == "changes"
    assert len(server.ask("designs", at=at)["rows"]) > 1


def test_another_objective_ranks_the_same_trials(server, folder):
    (report,) = load_report(folder / "deep")
    made = report.by_objective("power_mw")
    problem = make_problem("bowl/deep", objective="power_mw")
    for run in made.runs:
        designs = problem.space.encode(run.table.select(list(problem.space.names)).to_pylist())
        assert np.array_equal(run.table.column("reward").to_numpy(), problem.evaluate(designs)[1])
    shown = server.ask("designs", at="deep", objective="power_mw")
    power = dict(zip(shown["columns"], shown["rows"][0]["values"], strict=True))["power_mw"]
    assert power == min(np.nanmin(run.table.column("power_mw").to_numpy()) for run in made.runs)
    assert "unknown objective" in server.ask("designs", at="deep", objective="nonsense")["refused"]


def test_conditions_choose_designs(server, folder):
    (report,) = load_report(folder / "deep")
    table = report.trials
    size, policy = table.column("size").to_numpy(), np.array(table.column("policy").to_pylist())
    expected = (size >= 6) & (size <= 11) & (policy == "lazy")
    made = server.ask("designs", at="deep", where="size>=6, size<=11, policy=lazy")
    assert made["count"] == expected.sum() > 0
    for row in made["rows"]:
        cells = dict(zip(made["columns"], row["values"], strict=True))
        assert 6 <= cells["size"] <= 11 and cells["policy"] == "lazy"
    rewards = [row["values"][0] for row in made["rows"]]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] == table.column("reward").to_numpy()[expected].max()
    assert "cannot read the condition" in server.ask("designs", at="deep", where="rubbish")["refused"]
    assert server.ask("designs", at="deep", where="size>99") == {**made, "count": 0, "rows": []}


def test_designs_side_by_side_and_exported(server):
    names = [row["name"] for row in server.ask("designs", at="deep")["rows"][:2]]
    text = server.ask("side", at="deep", pick=names)["html"]
    assert "design 1" in text and "design 2" in text and "speed" in text
    assert "names no design" in server.ask("side", at="deep", pick="x")["refused"]
    assert "refused" in server.ask("side", at="deep", pick="99-0-0-0")
    assert server.ask("pictures", at="deep") == []
    status, headers, body = server.get(f"/export?at=deep&design={names[0]}&to=json")
    assert status == 200 and headers["content-disposition"] == 'attachment; filename="json.zip"'
    assert "json/README.md" in zipfile.ZipFile(io.BytesIO(body)).namelist()
    assert server.get(f"/export?at=deep&design={names[0]}&to=../../x")[0] == 422


def test_sql_reads_the_trials_and_nothing_else(server):
    made = server.ask("sql", at="deep", sql="SELECT agent, count(*) FROM trials GROUP BY agent ORDER BY agent")
    assert [row[0] for row in made["rows"]] == ["ga", "random", "walk"] and made["numbers"] == [False, True]
    assert server.ask("sql", at="deep", sql="SELECT * FROM trials, range(9)")["more"]
    for text in (
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "COPY trials TO '/tmp/archgym-ui-test'",
        "ATTACH '/tmp/archgym-ui-test.db'", "INSTALL httpfs", "SET enable_external_access = true", "SELECT * FROM table",
        "SELECT * FROM text", "nonsense", "", "SELECT getenv('HOME')",
    ):  # fmt: skip
        assert "refused" in server.ask("sql", at="deep", sql=text), text


def test_sql_that_never_ends_is_stopped(server, monkeypatch):
    from archgym.ui import views

    monkeypatch.setattr(views, "SQL_SECONDS", 0.2)
    text = "SELECT count(*) FROM range(10000000) a, range(10000000) b, trials WHERE a.range * b.range % 7 = 3"
    assert "INTERRUPT" in server.ask("sql", at="deep", sql=text)["refused"].upper()


def test_a_study_and_a_suite_have_their_boards(server):
    made = server.ask("study", at="study")
    assert "tuned regret" in made["html"] and set(made["figures"]) == {"study-tuned", "study-untuned", "study-profile"}
    item = server.ask("item", at="small@3")
    assert item["kind"] == "suite" and item["entries"] == ["entries/ga"]
    assert server.ask("item", at="entries/ga")["results"] and not server.ask("item", at="deep")["results"]
    assert "measured" in server.ask("board", at="small@3")["refused"]  # nobody measured this suite


@pytest.mark.parametrize(
    "query",
    ["chart?at=deep&name=x", "chart?at=deep&p=-1", "chart?at=deep&p=7&name=anytime", "text?at=deep&name=../x", "item?at=",
     "side?at=deep&pick=" + "1-" * 9000, "board?at=x@y", "board?at=x@" + "9" * 5000, "item?at=x@" + "9" * 5000,
     "study?at=deep", "sql?at=nowhere&sql=SELECT+1"],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_said_in_a_sentence(server, query):
    status, _, body = server.get(f"/api/{query}")
    assert status == 200 and 0 < len(json.loads(body)["refused"]) <= 300


def test_a_damaged_file_is_named_and_the_rest_is_shown(serve, folder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "torn.arrows").write_bytes(b"\xff" * 100)
    (tmp_path / os.fsdecode(b"n\xe9\xff")).mkdir()
    good = tmp_path / os.fsdecode(b"n\xe9\xff") / "good.arrows"
    good.write_bytes((folder / "deep/trials/ga-s0.arrows").read_bytes())
    rows = {row["key"]: row for row in serve(tmp_path).ask("items")["items"]}
    assert "torn.arrows" in rows["bad"]["error"]
    odd = rows["n\\xe9\\xff"]
    assert odd["problems"] == ["bowl/deep"] or odd["error"]


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    for arguments in (["ui", str(tmp_path / "nowhere")], ["ui", str(tmp_path), "--host", "256.1.1.1"]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
    done = CliRunner().invoke(main, ["ui", str(tmp_path)], env={"ARCHGYM_UI_TOKEN": "short"})
    assert done.exit_code == 2


def test_the_command_prints_an_address_that_works(folder):
    import urllib.request

    process = subprocess.Popen(
        [sys.executable, "-m", "archgym", "ui", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ARCHGYM_UI_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(folder)
        address = process.stdout.readline().strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address, timeout=60) as answer:
            assert b"archgym" in answer.read() and "token" not in answer.url
    finally:
        process.terminate()
        process.wait(timeout=30)
