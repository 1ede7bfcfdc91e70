"""Measure the ready suites, make the entries that ship with them, and write what they say into docs/suite.md.

    python tools/make_suites.py [SUITE ...] [--entries ga,re] [--budget 1000]

The entries of a suite are those that ``ENTRIES`` names for it; ``--entries`` makes others, of agents or of the outside
optimisers in ``OUTSIDE`` (``archgym[peers]``). What is there already is kept: problems that are measured, and entries in
data/suites/SUITE/ENTRY. The whole entries lie under out/suites, so that an interrupted run goes on where it was; each is
verified before it is packed. Minutes to an hour a suite.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from archgym.suites import ready_suites

ROOT = Path(__file__).parents[1]
EIGHT = ("random", "sobol", "local", "sa", "ga", "nsga2", "re", "aco")
ENTRIES = {
    "archgym-8": (*EIGHT, "grid", "walk", "reinforce"),
    "archgym-24": (*EIGHT, "grid", "walk", "mcts", "reinforce", "nsga3", "ppo-fast", "pymoo-ga"),
    "archgym-mf": ("random", "ga", "bo", "hyperband", "bohb", "mfga", "mfbo"),
    "archgym-mo": (*EIGHT, "walk"),
    "archgym-transfer": EIGHT,
}
"""Suite -> the entries that ship with it, of what takes some milliseconds an evaluation at most, tens where budgets are small."""
OUTSIDE = {
    "pymoo-ga": "python examples/peers/pymoo_ga.py",
    "nevergrad-portfolio": "python examples/peers/nevergrad_portfolio.py",
    "optuna-tpe": "python examples/peers/optuna_tpe.py",
}
"""Entry of an outside optimiser -> the program that searches."""


def archgym(*arguments: str) -> None:
    """Run ``archgym`` with these arguments, and the programs that it starts with this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(
        [sys.executable, "-m", "archgym", *arguments], cwd=ROOT, check=True, env={**os.environ, "PATH": path}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", help="ready suites [all]")
    parser.add_argument("--entries", help="agents, or outside optimisers, separated by commas [those that ship]")
    parser.add_argument("--budget", help="one of the suite's budgets [the largest]")
    args = parser.parse_args()
    paths = ready_suites()
    for name in args.suites or paths:
        archgym("suite", "measure", str(paths[name]), "--missing")
        for entry in filter(None, ENTRIES[name] if args.entries is None else args.entries.split(",")):
            packed, whole = ROOT / "data" / "suites" / name / entry, ROOT / "out" / "suites" / name / entry
            if (packed / "entry.json").exists():
                continue
            searched = ["--command", OUTSIDE[entry], "--called", entry] if entry in OUTSIDE else ["--agent", entry]
            budget = ["--budget", args.budget] if args.budget else []
            archgym("suite", "run", name, *searched, *budget, "--out", str(whole), "--resume")
            archgym("suite", "pack", name, str(whole), "--out", str(packed))
        subprocess.run([sys.executable, str(ROOT / "tools" / "suite_docs.py"), name], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
