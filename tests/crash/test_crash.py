"""Commands that write, killed at sampled writes, renames, mkdirs and unlinks: the same command, repeated, ends in what an
undisturbed run leaves. ``make crash`` tries every point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
QUICK = ("run", "export", "sample", "merge", "croissant", "enumerate", "card", "report")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("crash") / "crash.so"
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(path), str(HERE / "crash.c"), "-ldl"]
    subprocess.run(command, check=True)
    return path


def _drive(library: Path, folder: Path, points: int, names: tuple[str, ...]) -> list[dict]:
    env = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(HERE / "driver.py"), str(folder), str(points), *names]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or COMPILER is None, reason="needs LD_PRELOAD and a C compiler"
)


def test_commands_end_right_after_a_kill_at_any_change(library, tmp_path):
    told = _drive(library, tmp_path, 2, QUICK)
    assert [row["command"] for row in told] == list(QUICK)
    for row in told:
        assert row["faults"] == [] and row["changes"] >= len(row["points"]) > 0, row


@pytest.mark.slow
def test_further_commands_end_right_after_a_kill_at_any_change(library, tmp_path):
    told = _drive(library, tmp_path, 2, ("sample-agent", "split", "huggingface", "csv", "proxy"))
    assert len(told) == 5 and all(row["faults"] == [] for row in told), told
