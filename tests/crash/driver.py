"""Kill commands at changes of the file system, repeat them, and compare what they leave with an undisturbed run.

Run with ``LD_PRELOAD`` set to the library of ``crash.c``; prints one JSON object a command. Each attempt is a fork of this
process, so that the package is imported once.

``python tests/crash/driver.py FOLDER POINTS [COMMAND ...]``
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from archgym.cli import main
from archgym.datasets.dataset import read_trials
from archgym.datasets.schema import CLOCK_COLUMNS
from archgym.problem import make_problem

# {out} is the folder that is killed in; {in} holds a finished run.
COMMANDS = {
    "sample": "dataset sample synthetic/rugged -n 60 -o {out}/s",
    "sample-agent": "dataset sample synthetic/rugged -n 40 --method agent:walk -o {out}/s",
    "merge": "dataset merge {in}/run -o {out}/m",
    "split": "dataset split {in}/run -o {out}/s",
    "croissant": "dataset export {in}/run --format croissant -o {out}/c",
    "huggingface": "dataset export {in}/run --format huggingface -o {out}/h",
    "csv": "dataset export {in}/run --format csv -o {out}/c.csv",
    "card": "dataset card {in}/run -o {out}/card --no-plots",
    "enumerate": "enumerate bowl/deep --space fast --out {out}/e --update {out}/optima.json",
    "report": "report {in}/run --out {out}/report.html",
    "run": "run systolic/file:{in}/mine.csv --agent random,local --budget 12 --out {out}/r --no-report --resume",
    "export": "export {in}/run --to csv --out {out}/x",
    "proxy": "proxy train synthetic/rugged --designs 40 --model gp -o {out}/p.proxy.npz",
}

ONCE = ("export",)
"""Commands that refuse a folder that they have finished."""


def attempt(arguments: list[str], root: Path, at: int) -> tuple[int, int, str]:
    """Run a command in a fork that is killed at its ``at``-th change below ``root``: (signal or 0, exit code, output)."""
    told = root.parent / "told.txt"
    process = os.fork()
    if process == 0:
        os.environ.update(CRASH_ROOT=str(root), CRASH_AT=str(at), CRASH_COUNT=str(root.parent / "count.txt"))
        code = 0
        with told.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                main.main(arguments, standalone_mode=False)
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}")
                code = 99
        os.environ.pop("CRASH_ROOT")
        sys.stdout.flush()
        # By C's own exit, in which the library tells its count: to take Python down takes ten times as long as a command.
        ctypes.CDLL(None).exit(code)
    status = os.waitpid(process, 0)[1]
    return os.WTERMSIG(status), os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0, told.read_text()


def content(path: Path) -> str:
    """A digest of what a file says, clocks left out."""
    if path.suffix in (".arrows", ".parquet"):
        try:
            table = read_trials(path)
        except ValueError:  # a shard of an enumeration
            import pyarrow.parquet as pq

            table = pq.read_table(path)
        table = table.drop_columns([name for name in CLOCK_COLUMNS if name in table.schema.names])
        return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as source:
            arrays = {name: source[name] for name in source.files}
        about = json.loads(bytes(arrays.pop("about")))
        about.pop("training_s")
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.hexdigest()
    if path.name == "run.json":
        about = json.loads(path.read_text())
        for run in about["runs"]:
            run["simulation_s"] = run["agent_s"] = 0.0
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): content(path) for path in sorted(root.rglob("*")) if path.is_file()}


def check(name: str, folder: Path, points: int) -> dict[str, Any]:
    """Kill one command at ``points`` sampled changes (all of them where 0) and say what went wrong."""
    root = folder / name / "out"
    arguments = COMMANDS[name].format(out=root, **{"in": folder}).split()

    def fresh() -> None:
        shutil.rmtree(root.parent, ignore_errors=True)
        root.mkdir(parents=True)

    # Once in this process: what the command imports and compiles is there for all forks.
    fresh()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        main.main(arguments, standalone_mode=False)
    fresh()
    _, code, told = attempt(arguments, root, 0)
    if code:
        return {"command": name, "changes": 0, "points": [], "faults": [f"fails undisturbed: {told[-300:]}"]}
    changes = int((root.parent / "count.txt").read_text())
    wanted = tree(root)
    chosen = list(range(1, changes + 1))
    if points and len(chosen) > points:
        # The last change always: then all is done, and the command is repeated all the same.
        chosen = sorted({changes, *random.Random(name).sample(chosen, points - 1)})
    faults = []
    for at in chosen:
        fresh()
        killed, _, _ = attempt(arguments, root, at)
        if killed != 9:
            faults.append(f"at {at}: was not killed")
            continue
        done = name in ONCE and tree(root) == wanted
        _, code, told = attempt(arguments, root, 0)
        if code != (2 if done else 0):
            faults.append(f"at {at}: the repeated command ends in {code}: {told.strip()[-200:]}")
        elif (found := tree(root)) != wanted:
            apart = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            faults.append(f"at {at}: differs in {', '.join(apart)}")
    # Everything done, and the command repeated once more.
    _, code, told = attempt(arguments, root, 0)
    if code != (2 if name in ONCE else 0) or tree(root) != wanted:
        faults.append(f"repeated when all is done: {code} {told.strip()[-200:]}")
    return {"command": name, "changes": changes, "points": chosen, "faults": faults}


if __name__ == "__main__":
    where, number, *names = Path(sys.argv[1]).resolve(), int(sys.argv[2]), *sys.argv[3:]
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from archgym.registry import SIMULATORS
    from tests.bowl import BowlSimulator

    SIMULATORS.register("bowl", BowlSimulator)
    make_problem("synthetic/rugged")
    columns = "IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides"
    (where / "mine.csv").write_text(f"Layer name, {columns},\none, 9, 9, 3, 3, 4, 8, 1,\n")
    own = make_problem(f"systolic/file:{where / 'mine.csv'}")  # compiled here, once for all forks
    own.evaluate(own.space.sample(1, 0))
    with contextlib.redirect_stdout(io.StringIO()):
        run = [
            "run",
            "synthetic/rugged",
            "--agent",
            "random,walk",
            "--budget",
            "40",
            "--out",
            str(where / "run"),
            "--no-report",
        ]
        main.main(run, standalone_mode=False)
    for command in names or COMMANDS:
        print(json.dumps(check(command, where, number)), flush=True)
