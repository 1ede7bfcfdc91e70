"""A user's own program as a simulator: results, failures by name, files, and how often it is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.simulator import Simulator, median_references
from archgym.store import Stored, using
from archgym.testing import check_simulator
from tests.bowl import BowlSimulator
from tests.external.program_cases import MODES, Case, Function, Good

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The folder where runs are noted; the simulators by name, and a store of the test's own."""
    monkeypatch.setenv("ARCHGYM_TEST_LOG", str(tmp_path))
    monkeypatch.setenv("ARCHGYM_STORE", str(tmp_path / "store.sqlite"))
    for cls in (Case, Good):
        if cls.name not in SIMULATORS:
            SIMULATORS.register(cls.name, cls)
    yield tmp_path
    for cls in (Case, Good):
        SIMULATORS.unregister(cls.name)


def starts(folder: Path) -> int:
    path = folder / "log"
    return path.stat().st_size // 2 if path.exists() else 0


def design(simulator: Simulator, **values):
    space = simulator.space(next(iter(simulator.workloads().values())))
    base = {"mode": "ok", "depth": 4, "spare": True, "order": ("b", "c", "a")}
    return space.encode({**{k: v for k, v in base.items() if k in simulator_names(space)}, **values})


def simulator_names(space):
    return {*space.names, *space.permutations}


def test_results_are_read_and_failures_have_names(log, tmp_path, capfd):
    simulator = Case(time_limit_s=0.7, workers=6, scratch=str(tmp_path))
    workload = simulator.workloads()["heavy"]
    designs = np.concatenate([design(simulator, mode=mode) for mode in MODES])
    begin = time.monotonic()
    found = simulator.evaluate(designs, workload)
    assert time.monotonic() - begin < 60  # hanging children are ended, too
    assert found.violation.tolist() == ["", "crashed", "no_memory", "time_limit", "unreadable_output", ""]
    assert found.metrics["time_ns"][0] == 110.5 and found.metrics["energy_pj"][0] == 5e3
    assert found.metrics["time_ns"][5] == 110.5 and np.isnan(found.metrics["time_ns"][1:5]).all()
    assert starts(log) == 1 + 2 + 1 + 1 + 2 + 2  # a crash, and what gives no result, is tried twice
    why = {failure.violation: failure for failure in simulator.failures}
    assert set(why) == {"crashed", "time_limit", "unreadable_output"}
    assert "SIGSEGV" in why["crashed"].reason and "assertion failed: depth" in why["crashed"].reason
    assert "no time_ns" in why["unreadable_output"].reason and "0.7 s" in why["time_limit"].reason
    folder = why["crashed"].folder
    assert (folder / "stderr.txt").read_text().startswith("assertion failed")
    assert (folder / "settings").read_text() == "depth=4\nload=7\norder='b,c,a'\nspare=1\n"
    assert {path.name for path in tmp_path.glob("archgym-*")} == {f.folder.name for f in simulator.failures}
    assert "crashed with mode=crash" in capfd.readouterr().err


def test_broken_constraints_start_nothing_and_batches_come_in_order(log):
    simulator = Case()
    workload = simulator.workloads()["light"]
    broken = design(simulator, mode="mute", depth=8)
    assert simulator.evaluate(broken, workload).violation.tolist() == ["shallow"] and starts(log) == 0
    mixed = np.concatenate([design(simulator, depth=d) for d in (8, 1, 4)] + [broken])
    found = simulator.evaluate(mixed, workload)
    assert found.metrics["time_ns"][:3].tolist() == [90.5, 20.5, 50.5] and found.violation[3] == "shallow"
    assert not list(Path(log).glob("archgym-*"))


def test_a_program_keeps_the_contract(log):
    with using(log / "contract.sqlite"):
        check_simulator(make_problem("good/light", references="none").simulator, samples=12)


def test_python_functions_may_crash_and_hang(tmp_path):
    simulator = Function(workers=2, retries=0, scratch=str(tmp_path), keep="none")
    workload = simulator.workloads()["default"]
    modes = ("ok", "raise", "exit", "own", "nan", "hang", "ok")
    designs = np.concatenate([design(simulator, mode=mode, depth=2) for mode in modes])
    found = simulator.evaluate(designs, workload)
    expected = ["", "crashed", "crashed", "too_deep", "unreadable_output", "time_limit", ""]
    assert found.violation.tolist() == expected
    assert found.metrics["time_ns"][[0, 6]].tolist() == [5.0, 5.0]
    reasons = [failure.reason for failure in simulator.failures]
    assert any("RuntimeError: broken pipe stage" in reason for reason in reasons) and any("7" in r for r in reasons)
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_with_a_class_is_said_in_a_sentence(log):
    class NoProgram(Good):
        command = ("$here/not-there",)

    class Misspelt(Good):
        inputs = {"settings": "$deepth"}

    class Dollar(Good):
        inputs = {"settings": "cost: 5$"}

    class Nothing(Good):
        command = ()

    for cls, sentence in ((NoProgram, "not there or not executable"), (Misspelt, "depth"), (Dollar, r"\$\$")):
        simulator = cls()
        with pytest.raises(ArchGymError, match=sentence):
            simulator.evaluate(design(simulator), simulator.workloads()["light"])
    with pytest.raises(ArchGymError, match="neither a command"):
        Nothing()
    with pytest.raises(ArchGymError, match="time_limit_s"):
        Good(time_limit_s=0)


def test_another_program_is_another_simulator(log, tmp_path):
    tool = tmp_path / "tool"

    class Tool(Good):
        command = (str(tool), "$depth")
        outputs = {"time_ns": r"took (\d+)", "energy_pj": r"used (\d+)"}

    def write(factor):
        tool.write_text(f"#!/bin/sh\necho took $(( $1 * {factor} )) used 1\n")
        tool.chmod(0o755)
        os.utime(tool, ns=(factor, factor))

    kept = Stored(Tool(), str(tmp_path / "s.sqlite"))

    def answer(simulator=None):
        simulator = simulator or Stored(Tool(), str(tmp_path / "s.sqlite"))
        return simulator.evaluate(design(simulator), simulator.workloads()["light"]).metrics["time_ns"].tolist()

    write(10)
    assert answer() == answer(kept) == [40.0]
    write(20)  # built anew, version forgotten
    assert answer() == answer(kept) == [80.0]
    write(10)
    assert answer(kept) == [40.0]
    assert answer() == [40.0]


# --- how often it is started -----------------------------------------------------------------------------------------------


def call(*words):
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done


def test_nothing_is_started_unasked_and_nothing_twice(log, tmp_path):
    call("describe", "good/light")
    assert starts(log) == 0
    command = ["run", "good/light", "--agent", "ga,random", "--budget", "8"]
    out = str(tmp_path / "a")
    said = call(*command, "--out", out)
    first = starts(log)
    canonical = 4 * 6 + 2 * 6  # depths below four have no spare
    assert 8 < first <= canonical
    assert "for reference values" in said.stderr
    call(*command, "--out", out, "--resume")
    call("report", out, "--trust")
    call("dataset", "verify", out, "--trust")
    again = json.loads(call(*command, "--out", str(tmp_path / "b"), "--json").stdout)
    assert [run["from_store"] for run in again["runs"]] == [8, 8]
    assert starts(log) == first
    call("dataset", "verify", out, "--trust", "--sample", "3")  # asked: simulated, not looked up
    assert starts(log) == first + 3


@pytest.mark.parametrize(("given", "scale"), [({"time_ns": 50}, 50.0), ("none", 1.0)])
def test_references_given_by_hand_start_nothing(log, tmp_path, given, scale):
    text = given if given == "none" else json.dumps(given)
    command = ["run", "good/light", "--agent", "random", "--budget", "3", "-o", f"references={text}"]
    made = json.loads(call(*command, "--out", str(tmp_path / "a"), "--json").stdout)
    assert starts(log) == 3
    run = made["runs"][0]
    assert run["reward"] == pytest.approx(-np.log(run["metrics"]["time_ns"] / scale))
    assert made["options"]["references"] == given


def test_references_of_the_author_start_nothing(log):
    class Known(Good):
        reference_values = {"time_ns": 20.0}

    simulator = Stored(Known(), str(log / "s.sqlite"))
    assert simulator.references(simulator.workloads()["light"]) == {"time_ns": 20.0, "energy_pj": 1.0}
    assert starts(log) == 0
    with pytest.raises(ArchGymError, match="did you mean 'time_ns'"):
        make_problem("good/light", references={"time_nss": 1.0})
    with pytest.raises(ArchGymError, match="positive"):
        make_problem("good/light", references={"time_ns": -1.0})


def test_a_crash_among_the_references_is_not_fatal(capfd):
    class Fragile(BowlSimulator):
        def evaluate(self, designs, workload, **kwargs):
            if (np.atleast_2d(designs)[:, 0] == 0).any():
                raise ZeroDivisionError("division by a port")
            return super().evaluate(designs, workload, **kwargs)

    simulator = Fragile()
    workload = simulator.workloads()["deep"]
    found = simulator.references(workload)
    designs = simulator.space(workload).sample(64, 0)
    sound = BowlSimulator().evaluate(designs[designs[:, 0] > 0], workload)
    assert found["time_ns"] == np.median(sound.metrics["time_ns"][sound.feasible])
    assert "ZeroDivisionError among the designs for reference values" in capfd.readouterr().err

    class Hopeless(BowlSimulator):
        def evaluate(self, designs, workload, **kwargs):
            raise ZeroDivisionError

    assert set(median_references(Hopeless(), workload, 64).values()) == {1.0}


def test_a_ready_study_run_twice_simulates_nothing_the_second_time(log, tmp_path):
    from archgym.studies.spec import ready_studies

    text = ready_studies()["lottery-small"].read_text()
    head, rest = text.split("problems:\n")
    agents = rest[rest.index("agents:") :]
    spec = tmp_path / "study.yaml"
    spec.write_text(
        f"{head}problems: [good/light, good/heavy]\n{agents}".replace("budget: 300", "budget: 10")
        .replace("seeds: 6", "seeds: 1").replace("initial: [5, 100]", "initial: 5")
    )  # fmt: skip
    numbers = []
    for name in ("one", "two"):
        out = tmp_path / name
        done = json.loads(call("study", "run", str(spec), "--executor", "serial", "--out", str(out), "--json").stdout)
        numbers.append((starts(log), done["evaluations"], done["from_store"], done["runs"]))
    (first, evaluations, _, runs), (second, again, kept, _) = numbers
    assert first == second and 0 < first <= 2 * 36 and runs > 60
    assert evaluations == again == kept
    one, two = (
        {
            row["run"]: (row["best"], row["curve"])
            for row in map(json.loads, (tmp_path / name / "results.jsonl").read_text().splitlines())
        }
        for name in ("one", "two")
    )
    assert one == two and len(one) == runs
    rows = [json.loads(line) for line in (tmp_path / "one" / "problems.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in rows] == [64, 64]


def test_a_yardstick_may_be_left_out(log, tmp_path):
    spec = tmp_path / "study.yaml"
    spec.write_text(
        "name: plain\nbudget: 4\nseeds: 2\nyardstick: 0\nagents: [random, walk]\n"
        "problems: [{problem: good/light, references: {time_ns: 20}}]\n"
    )
    call("study", "run", str(spec), "--executor", "serial", "--out", str(tmp_path / "out"), "--json")
    assert 0 < starts(log) <= 16
    row = json.loads((tmp_path / "out" / "problems.jsonl").read_text())
    assert row["random_median"] is None and row["samples"] == 0
    stats = json.loads(call("study", "stats", str(tmp_path / "out"), "--json").stdout)
    assert all(0 <= agent["untuned_regret_iqm"][0] <= 1 for agent in stats["agents"])


# --- the tutorial ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_tutorial_of_the_docs(tmp_path):
    text = (ROOT / "docs" / "own-program.md").read_text()
    blocks = {kind: body for kind, body in re.findall(r"^```(c|py)\n(.*?)^```", text, flags=re.S | re.M)}
    assert len(blocks["py"].splitlines()) <= 24
    (tmp_path / "cache.c").write_text(blocks["c"])
    (tmp_path / "cache_simulator.py").write_text(blocks["py"])
    subprocess.run(["cc", "-O2", "-o", "cache", "cache.c"], cwd=tmp_path, check=True)
    environment = {**os.environ, "ARCHGYM_STORE": str(tmp_path / "s.sqlite"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "cache_simulator.py", "run", "cache/far", "--agent", "random", "--budget", "7", "--json"]
    answers = [
        json.loads(
            subprocess.run(
                [*command, "--out", f"run-{i}"],
                cwd=tmp_path,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )["runs"][0]
        for i in range(2)
    ]
    assert answers[0]["metrics"] == answers[1]["metrics"] and answers[1]["from_store"] == 7
    best = answers[0]["design"]
    assert answers[0]["metrics"]["area_um2"] == 1.5 * best["sets"] * best["ways"] + 20 * best["ways"]
    assert answers[0]["metrics"]["misses"] >= 64  # each of the 64 lines once
