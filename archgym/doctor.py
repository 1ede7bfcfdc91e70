"""``archgym doctor``: is everything here that is needed, does it work, and what to do about each finding."""

from __future__ import annotations

__all__ = ()

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from archgym.console import print_table
from archgym.extras import NOT_FOR_USE, packages
from archgym.threads import usable_cores


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def findings(selftest: bool) -> list[dict[str, Any]]:
    """What was looked at: each with ``what``, ``status`` (ok, note, problem), ``finding`` and ``advice``."""
    rows: list[dict[str, Any]] = []

    def add(what: str, status: str, finding: str, advice: str = "") -> None:
        rows.append({"what": what, "status": status, "finding": finding, "advice": advice})

    add(
        "Python",
        "ok" if sys.version_info >= (3, 11) else "problem",
        platform.python_version(),
        "use Python 3.11 or newer",
    )
    asked = packages()
    for package in asked.get("", ()):
        found = _version(package)
        add(package, "ok" if found else "problem", found or "missing", f"pip install {package}")
    for extra, brings in asked.items():
        if not extra or extra in NOT_FOR_USE:
            continue
        have = {package: _version(package) for package in brings}
        missing = [package for package, found in have.items() if not found]
        text = ", ".join(f"{package} {found}" for package, found in have.items() if found)
        add(
            f"extra {extra}",
            "note" if missing else "ok",
            f"{', '.join(missing)} missing" if missing else text,
            f"pip install 'archgym[{extra}]' if you want it",
        )
    _threads(add)
    _caches(add)
    if selftest:
        _selftest(add)
        _fresh_process(add)
    return rows


def _threads(add: Any) -> None:
    cores = usable_cores()
    asked = os.environ.get("NUMBA_NUM_THREADS")
    fits = asked is None or (asked.isdigit() and 1 <= int(asked) <= cores)
    text = f"{cores} cores" + (f", NUMBA_NUM_THREADS={asked}" if asked else "")
    add("threads", "ok" if fits else "problem", text, f"set NUMBA_NUM_THREADS to 1..{cores} or unset it")
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > cores * 0.75
        add("load", "note" if busy else "ok", f"{load:.1f}", "benchmarks want a quiet machine")


def _caches(add: Any) -> None:
    where = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent)
    writable = os.access(where, os.W_OK) if where.exists() else os.access(where.parent, os.W_OK)
    add(
        "cache of compiled kernels",
        "ok" if writable else "problem",
        f"{where}{'' if writable else ' is not writable'}",
        "set NUMBA_CACHE_DIR to a folder you can write, or every start compiles anew",
    )
    free = os.statvfs(tempfile.gettempdir()) if hasattr(os, "statvfs") else None
    if free is not None:
        gigabytes = free.f_bavail * free.f_frsize / 1e9
        add("free disk", "ok" if gigabytes > 1 else "problem", f"{gigabytes:.1f} GB", "free some space for the trials")


def _selftest(add: Any) -> None:
    """A short search on the fastest simulator that is registered, with its trials on disk and read again."""
    from archgym.agents import make_agent, search
    from archgym.datasets import read_trials
    from archgym.problem import make_problem
    from archgym.registry import SIMULATORS

    name = next((n for n in ("synthetic", "systolic", "dram") if n in SIMULATORS), None)
    if name is None:
        add("self-test", "problem", "no simulator is registered", "install archgym again")
        return
    start = time.perf_counter()
    try:
        problem = make_problem(name)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "doctor.arrows"
            result = search(problem, make_agent("ga", problem, 0), 200, log=log)
            rows = len(read_trials(log))
        assert result.best is not None
        assert rows == result.evaluations
    except Exception as error:  # whatever is wrong here is a finding, not a crash
        add(
            "self-test",
            "problem",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "report this with the output",
        )
        return
    add("self-test", "ok", f"{result.evaluations} evaluations of {problem.name} in {time.perf_counter() - start:.1f} s")


def _fresh_process(add: Any) -> None:
    """Whether a process that did not import archgym, such as a remote runner of RLlib's, finds an environment's id."""
    from archgym.envs.registration import ENVIRONMENTS

    name = f"archgym:{next(iter(ENVIRONMENTS))}"
    code = f"import gymnasium; gymnasium.make({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        add("ids in fresh processes", "problem", f"{name}: {last[:200]}", "install archgym where the workers run, too")
        return
    finding = f"{name} works: workers that do not import archgym (RLlib's remote runners) take the import with the id"
    add("ids in fresh processes", "ok", finding)


@click.command()
@click.option("--selftest/--no-selftest", default=True, help="run a short search as well")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def doctor(selftest: bool, as_json: bool) -> None:
    """Check the installation: versions, extras, threads, caches and a self-test; exit code 1 with a problem."""
    from rich.console import Console
    from rich.table import Table

    rows = findings(selftest)
    healthy = all(row["status"] != "problem" for row in rows)
    if as_json:
        click.echo(json.dumps({"findings": rows, "healthy": healthy}))
    else:
        table = Table()
        for column in ("", "what", "finding", "what to do"):
            table.add_column(column, overflow="fold")
        signs = {"ok": "ok", "note": "[yellow]note[/yellow]", "problem": "[red]problem[/red]"}
        for row in rows:
            table.add_row(
                signs[row["status"]],
                row["what"],
                row["finding"],
                "" if row["status"] == "ok" else row["advice"].replace("[", "\\["),
            )
        print_table(Console(), table)
    if not healthy:
        sys.exit(1)
