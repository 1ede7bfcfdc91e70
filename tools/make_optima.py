"""Make the shipped tables of optima again, by the commands that their rows name.

    python tools/make_optima.py [--simulator dram] [--list]

A whole enumeration takes minutes to hours on one core. It is kept in shards under out/optima, so that an interrupted
run goes on where it was; a row whose problem no longer exists stays until it is taken out by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commands(table: Path) -> list[str]:
    """The commands that made a table, each once, in the order of its rows."""
    return list(dict.fromkeys(row["command"] for row in json.loads(table.read_text(encoding="utf-8"))))


def arguments(command: str, table: Path) -> list[str]:
    """What Python is given to run ``command`` so that it writes to ``table``."""
    program, *rest = shlex.split(command)
    if program == "python":  # a script of tools/, which knows its own table
        return rest
    folder = ROOT / "out" / "optima" / re.sub(r"[^\w.-]+", "-", " ".join(rest[1:]))
    return ["-m", "archgym", *rest, "--out", str(folder), "--update", str(table)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulator", action="append", help="package of a simulator, e.g. dram (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    args = parser.parse_args()
    tables = {path.parent.name: path for path in sorted((ROOT / "archgym" / "simulators").glob("*/optima.json"))}
    for name in args.simulator or tables:
        if name not in tables:
            parser.error(f"{name} has no table of optima; choose from {', '.join(tables)}")
        for command in commands(tables[name]):
            print(command, flush=True)
            if not args.list:
                subprocess.run([sys.executable, *arguments(command, tables[name])], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
