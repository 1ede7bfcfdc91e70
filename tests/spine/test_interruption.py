"""Runs that are really killed, or really run out of room, go on to the same trials bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archgym.datasets import read_trials

ROOT = Path(__file__).parents[2]
RUN = ["run", "synthetic/rugged", "--agent", "ga", "--hyper", "ga.population=8", "--budget", "1000", "--seeds", "1"]
CLOCKS = ["evaluation_s", "time_s"]


def command(*arguments):
    return [sys.executable, "-m", "archgym", *RUN, *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def trials(folder):
    return read_trials(folder / "trials").drop_columns(CLOCKS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command("--out", folder / "run"), check=True, capture_output=True, env=ENVIRONMENT)
    return trials(folder / "run")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_moment_a_run_goes_on_to_the_same_trials(undisturbed, tmp_path):
    folder, shard = tmp_path / "run", tmp_path / "run" / "trials" / "ga-s0.arrows"
    sizes = []
    for least in (1, 30_000, 120_000):
        resume = ["--resume"] if sizes else []
        process = subprocess.Popen(
            command("--out", folder, *resume), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and (not shard.exists() or shard.stat().st_size < least):
            time.sleep(0.001)
        process.kill()
        assert process.wait() < 0, "the run ended before it could be killed"
        sizes.append(shard.stat().st_size)
    assert sizes == sorted(sizes)
    subprocess.run(command("--out", folder, "--resume"), check=True, capture_output=True, env=ENVIRONMENT)
    assert trials(folder).equals(undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("room", [100_000, 5_000, 1_000])  # enough for some batches, for none, not for the schema
def test_without_room_for_its_trials_a_run_ends_with_a_sentence_and_goes_on_later(undisturbed, tmp_path, room):
    import resource

    folder = tmp_path / "run"
    limited = subprocess.run(
        command("--out", folder),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        # The kernel refuses what would make a file larger, as it does on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY)),
    )
    assert limited.returncode == 2
    sentences = [line for line in limited.stderr.splitlines() if line.startswith("archgym: ")]
    assert len(sentences) == 1 and "cannot write" in sentences[0] and "Traceback" not in limited.stderr
    kept = 0 if room == 1_000 else len(read_trials(folder / "trials"))
    assert kept < len(undisturbed) and (kept > 0) == (room == 100_000)
    subprocess.run(command("--out", folder, "--resume"), check=True, capture_output=True, env=ENVIRONMENT)
    assert trials(folder).equals(undisturbed)
