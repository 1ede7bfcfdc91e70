"""Measure the ready suites, make the entries of archgym's own agents, and write what they say into docs/suite.md.

    python tools/make_suites.py [SUITE ...] [--agents ga,re] [--budget 1000]

What is there already is kept: problems that are measured, and entries in data/suites/SUITE/AGENT. The whole entries lie
under out/suites, so that an interrupted run goes on where it was. Minutes to an hour a suite.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from archgym.suites import ready_suites

ROOT = Path(__file__).parents[1]
AGENTS = ("random", "sobol", "grid", "walk", "local", "sa", "ga", "nsga2", "re", "aco", "mcts", "reinforce")
"""All but the slowest: agents that take less than some milliseconds an evaluation and need no extra."""
OF_A_SUITE = {"archgym-mf": ("random", "ga", "hyperband", "bohb", "mfga")}
"""Suite -> its entries, where they are others."""


def archgym(*arguments: str) -> None:
    """Run ``archgym`` with these arguments."""
    subprocess.run([sys.executable, "-m", "archgym", *arguments], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", help="ready suites [all]")
    parser.add_argument("--agents", help="agents separated by commas [those of the tables]")
    parser.add_argument("--budget", help="one of the suite's budgets [the largest]")
    args = parser.parse_args()
    paths = ready_suites()
    for name in args.suites or paths:
        archgym("suite", "measure", str(paths[name]), "--missing")
        agents = OF_A_SUITE.get(name, AGENTS) if args.agents is None else args.agents.split(",")
        for agent in filter(None, agents):
            packed, whole = ROOT / "data" / "suites" / name / agent, ROOT / "out" / "suites" / name / agent
            if (packed / "entry.json").exists():
                continue
            budget = ["--budget", args.budget] if args.budget else []
            archgym("suite", "run", name, "--agent", agent, *budget, "--out", str(whole), "--resume")
            archgym("suite", "pack", name, str(whole), "--out", str(packed))
        subprocess.run([sys.executable, str(ROOT / "tools" / "suite_docs.py"), name], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
