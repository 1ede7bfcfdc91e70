"""The command line end to end, in a process of its own, and its one-sentence errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.datasets import read_trials

ROOT = Path(__file__).parents[2]


def archgym(*arguments, cwd=None):
    """Run the command line in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "archgym", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


def invoke(*arguments):
    """Run it in this process, where the small test simulator is registered."""
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_run_writes_trials_and_prints_json(bowl, tmp_path):
    done = invoke("run", "bowl/deep", "--agent", "random,ga", "--hyper", "ga.population=8", "--budget", 40, "--seeds", 2,
                  "--out", tmp_path / "a", "--json")  # fmt: skip
    assert done.exit_code == 0
    result = json.loads(done.output)
    assert [(r["agent"], r["seed"]) for r in result["runs"]] == [("random", 0), ("random", 1), ("ga", 0), ("ga", 1)]
    assert all(r["evaluations"] == 40 for r in result["runs"])
    assert result["runs"][2]["hyperparameters"]["population"] == 8
    assert len(read_trials(result["dataset"])) == 160 == result["trials"] - result["repeats"]
    assert json.loads((tmp_path / "a" / "run.json").read_text())["budget"] == 40


def test_a_run_repeats_itself_and_resumes(bowl, tmp_path):
    first = json.loads(
        invoke("run", "bowl/deep", "--agent", "ga", "--budget", 60, "--out", tmp_path / "a", "--json").output
    )
    again = json.loads(
        invoke("run", "bowl/deep", "--agent", "ga", "--budget", 60, "--out", tmp_path / "b", "--json").output
    )
    assert first["runs"][0]["design"] == again["runs"][0]["design"]
    refused = invoke("run", "bowl/deep", "--agent", "ga", "--budget", 60, "--out", tmp_path / "a")
    assert refused.exit_code == 2 and "--resume" in refused.output
    resumed = invoke("run", "bowl/deep", "--agent", "ga", "--budget", 60, "--out", tmp_path / "a", "--resume", "--json")
    assert json.loads(resumed.output)["runs"][0]["reward"] == first["runs"][0]["reward"]


def test_enumerate_finds_the_optimum_and_resumes(bowl, tmp_path):
    out = tmp_path / "all"
    done = json.loads(
        invoke("enumerate", "bowl/deep", "--objectives", "time_ns,power_mw", "--out", out, "--json").output
    )
    by_name = {row["objective"]: row for row in done["optima"]}
    assert by_name["time_ns"]["designs"] == 512 and by_name["time_ns"]["exhaustive"]
    assert by_name["time_ns"]["design"] == {"size": 11, "speed_mhz": 800.0, "policy": "lazy", "patience": 4}
    assert by_name["time_ns"]["quantiles"]["1"] == by_name["time_ns"]["reward"]
    next(out.glob("shard-*.parquet")).write_bytes(b"torn")
    table = tmp_path / "optima.json"
    again = json.loads(
        invoke(
            "enumerate", "bowl/deep", "--objectives", "time_ns,power_mw", "--out", out, "--update", table, "--json"
        ).output
    )
    assert (
        again["optima"] == done["optima"] == json.loads(table.read_text())[::-1]
        or len(json.loads(table.read_text())) == 2
    )
    assert invoke("enumerate", "bowl/flat", "--out", out).exit_code == 2


def test_quantiles_weigh_every_design(bowl, tmp_path):
    import numpy as np

    row = json.loads(invoke("enumerate", "bowl/deep", "--out", tmp_path / "e", "--json").output)["optima"][0]
    _, rewards = bowl.evaluate(bowl.space.unrank(np.arange(512)))
    for share, value in row["quantiles"].items():
        assert (rewards <= value).mean() >= float(share) - 1e-12
        assert (rewards < value).mean() <= float(share) + 1e-12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["lst"], "unknown command 'lst'; did you mean 'list'?"),
        (["run", "bowll/deep"], "did you mean 'bowl'"),
        (["run", "bowl/deap"], "did you mean 'deep'"),
        (["run", "bowl/deep", "--agent", "gaa"], "did you mean 'ga'"),
        (["run", "bowl/deep", "--agent", ","], "--agent is empty"),
        (["run", "bowl/deep", "--budget", "0"], "--budget is 0"),
        (["run", "bowl/deep", "--budget", "-1"], "--budget is -1"),
        (["run", "bowl/deep", "--seed", "-1"], "--seed is -1"),
        (["run", "bowl/deep", "--objective", "tim_ns"], "did you mean 'time_ns'"),
        (["run", "bowl/deep", "--space", "fst"], "did you mean 'fast'"),
        (["run", "bowl/deep", "--hyper", "population"], "write name=value"),
        (["run", "bowl/deep", "--hyper", "bo.population=4"], "unknown agent of this run"),
        (["run", "bowl/deep", "--option", "colour=red"], "unknown option of bowl 'colour'; known: offset, space"),
        (["run", "bowl/deep", "--agent", "random", "--out", "/proc/nowhere"], "cannot write"),
        (["run", "bowl/deep", "--agent", "random", "--out", "/dev/full"], "cannot write"),
        (["run", "bowl/file:missing.txt"], "does not exist"),
        (["describe", "nothing"], "unknown simulator"),
        (["validate", "bowl", "--ref", "/nowhere"], "unknown thing to validate"),
        (["validate", "soc", "--ref", "/nowhere"], "there is no reference data at /nowhere"),
        (["bench", "nothing"], "unknown thing to measure"),
    ],
)
def test_bad_input_gets_one_sentence_and_code_2(bowl, arguments, sentence):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert sentence in done.output.replace("\n", " ")
    assert "Traceback" not in done.output


def test_in_a_process_of_its_own(tmp_path):
    done = archgym("list", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert {row["simulator"] for row in json.loads(done.stdout)["simulators"]} >= {"dram", "systolic"}
    failed = archgym("describe", "drm/sort", cwd=tmp_path)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.strip() == "archgym: unknown simulator 'drm'; did you mean 'dram'?"
    assert archgym("--version").stdout.startswith("archgym")


def test_doctor_finds_this_machine_healthy():
    done = invoke("doctor", "--json")
    report = json.loads(done.output)
    assert report["healthy"], [row for row in report["findings"] if row["status"] == "problem"]
    assert any(row["what"] == "self-test" and row["status"] == "ok" for row in report["findings"])
    row = next(row for row in report["findings"] if row["what"] == "ids in fresh processes")
    assert row["status"] == "ok" and "archgym:archgym/" in row["finding"]


def test_tables_keep_their_first_column_whole(monkeypatch):
    from rich.console import Console
    from rich.table import Table

    from archgym.console import print_table

    name = "timeloop-random-pre297/instances"

    def printed(**options):
        table = Table("group", "sentence")
        table.add_row(name, "many words that a narrow terminal has to break " * 3)
        file = io.StringIO()
        print_table(Console(file=file, color_system=None, **options), table)
        return file.getvalue()

    assert name in printed(width=60, force_terminal=True)
    assert max(map(len, printed(width=60, force_terminal=True).splitlines())) == 60
    assert any(name in line and line.count("many") == 3 for line in printed().splitlines())  # a pipe: nothing is broken


def test_describe_lists_what_options_take(bowl):
    told = " ".join(invoke("describe", "soc/generated").output.split())
    assert "-o mode=farsi, physical (default farsi)" in told and "-w tasks=whole number (default 12)" in told
    made = json.loads(invoke("describe", "bowl/deep", "--json").stdout)
    assert made["options"]["space"]["values"] == ["default", "fast"]
    refused = invoke("describe", "soc/generated", "-w", "task=3")
    assert refused.exit_code == 2 and "did you mean 'tasks'" in refused.output
    refused = invoke("describe", "dram/random:requests=2000000000")
    assert refused.exit_code == 2 and "at most 20,000,000" in refused.output


def test_options_lists_what_the_flags_take():
    shown = invoke("options", "dram")
    assert shown.exit_code == 0, shown.output
    for line in (
        "-o address_map=rbc, brc, li, li-xor (default rbc)",
        "-w requests=whole number",
        "--space deployable, ",
    ):
        assert line in shown.stdout
    about = json.loads(invoke("options", "systolic/alexnet", "--json").stdout)
    assert about["workload_options"]["batch"]["default"] == 1 and "edp" in about["objective"]
    failed = invoke("options", "drm")
    assert failed.exit_code == 2 and "did you mean 'dram'" in failed.stderr
