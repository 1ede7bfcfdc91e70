"""Terminals without characters, folders that cannot be written."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archgym import caching

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "command", [["describe", "systolic/resnet18"], ["run", "synthetic/rugged", "--budget", "50", "--agent", "ga"]]
)
def test_terminals_that_lack_characters(tmp_path, command, encoding):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "archgym", *command], cwd=tmp_path, env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr[-1000:]


def test_without_a_place_for_compiled_code_there_is_one_for_the_process(monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(caching, "_writable", lambda folder: False)
    caching.find_place()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.is_dir() and capsys.readouterr().err.count("compiled code cannot be kept here") == 1
    monkeypatch.setattr(caching, "_writable", lambda path: path == folder)
    caching.find_place()
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder) and not capsys.readouterr().err


READ_ONLY = """
set -e
for folder in {folders}; do mount --bind $folder $folder; mount -o remount,ro,bind $folder; done
touch {package}/x 2>/dev/null && exit 77
exec {python} -m archgym {command}
"""


def _mounts() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(
            ["unshare", "-m", "mount", "--bind", "/tmp", "/tmp"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or not _mounts(), reason="needs mounts of its own")
@pytest.mark.parametrize("temporary", [True, False])
def test_a_read_only_package_and_home(tmp_path, temporary):
    shutil.copytree(ROOT / "archgym", tmp_path / "archgym", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    (tmp_path / "out").mkdir()
    folders = [tmp_path / "archgym", tmp_path / "home"]
    if not temporary:
        (tmp_path / "tmp").mkdir()
        folders += [folder for folder in map(Path, ("/tmp", "/var/tmp", "/usr/tmp")) if folder.is_dir()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path / "home")}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR"):
        environment.pop(name, None)
    command = "describe systolic/resnet18 --json"
    script = READ_ONLY.format(
        folders=" ".join(map(str, folders)), package=tmp_path / "archgym", python=sys.executable, command=command
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=tmp_path / "home", env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert "Traceback" not in done.stderr and done.stderr.count("compiled code cannot be kept") == 1


def test_the_nearest_folder_that_exists_decides(tmp_path):
    assert caching._writable(tmp_path / "not" / "yet")


@pytest.mark.parametrize("first", ["", "import numba; "])
def test_long_compilations_are_announced_once_and_only_where_wanted(tmp_path, first):
    program = first + (
        "from archgym import caching; caching.PATIENCE_S = 0.01\n"
        "def compiled(n):\n"
        "    import numba\n"
        "    return numba.njit(lambda x: x + n)(1)\n"
        "compiled(1)\n"
        "with caching.announce_compilation(False): compiled(2)\n"
        "with caching.announce_compilation(): compiled(3); compiled(4)\n"
        "compiled(5)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == "archgym: compiling, once for this machine\n"


@pytest.mark.parametrize("json", [True, False])
def test_commands_announce_compilations_but_not_to_programs(monkeypatch, json):
    from click.testing import CliRunner

    from archgym import cli

    seen = []
    monkeypatch.setattr(cli, "_shortened", lambda names: seen.append(caching._news.wanted) or "")
    monkeypatch.setattr(cli, "print_json", lambda rows: seen.append(caching._news.wanted))
    CliRunner().invoke(cli.main, ["list", *(["--json"] if json else [])])
    assert seen and set(seen) == {not json} and not caching._news.wanted


def _commands(folder: Path) -> list[list[str]]:
    """Every command that says something, on small things; later ones read what earlier ones wrote. After ``!``: refused."""
    study = folder / "study.yaml"
    study.write_text(
        "name: s\nbudget: 12\nseeds: 2\nproblems: [synthetic/rugged]\nagents: [random, ga]\n", encoding="utf-8"
    )
    text = """
        list | list --json | describe synthetic/rugged | describe soc/audio_decoder | doctor | llm devices | llm models
        run synthetic/rugged --agent random,ga --budget 30 --seeds 2 --out {0}/run --report
        run dram/stream --budget 8 --agent random --out {0}/dram --no-report
        report {0}/run | dataset info {0}/run | dataset verify {0}/run | dataset card {0}/run -o {0}/card
        dataset merge {0}/run -o {0}/merged | dataset split {0}/run -o {0}/split | dataset sample synthetic/rugged -n 20 -o {0}/sample
        dataset export {0}/run --format csv -o {0}/csv | dataset query {0}/run "select count(*) from trials"
        study list | study describe {0}/study.yaml | study run {0}/study.yaml --out {0}/study --executor serial | study stats {0}/study
        suite list | ! suite describe unknown | nas protocols | nas statistics | show soc/audio_decoder | export dram/stream
        proxy train {0}/run --model forest -o {0}/p.npz | ! validate dram | ! store info | ! bench nothing | ! dataset info {0}/nothing
        ! run soc/file:{0}/study.yaml
    """
    return [shlex.split(one.format(folder)) for line in text.strip().splitlines() for one in line.split("|")]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii"])
def test_every_command_on_a_terminal_that_lacks_characters(tmp_path, monkeypatch, encoding):
    from click.testing import CliRunner

    from archgym.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("ARCHGYM_REF", raising=False)
    (tmp_path / "größe").mkdir()
    for words in _commands(tmp_path / "größe"):
        command = words[1:] if words[0] == "!" else words
        done = CliRunner(charset=encoding).invoke(main, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{command}: {done.exception!r}"
        # Click writes UTF-8 where Python says ASCII.
        told = (done.stdout_bytes + done.stderr_bytes).decode(encoding, "replace")
        assert told and done.exit_code == (2 if words[0] == "!" else 0), f"{command}: {told[-300:]}"
