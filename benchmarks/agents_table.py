"""How well agents search at equal budgets of distinct designs, beside outside optimisers: the table of docs/agents.md.

    python benchmarks/agents_table.py --out entries                          # every agent and peer below, resumable
    python benchmarks/agents_table.py --out entries --only bo,ga,pymoo-ga    # some of them
    python benchmarks/agents_table.py --out entries --only ""                # only print what is there

Normalised regret: 0 is the optimum (or, where none is known, the best design of all runs), 1 the median of uniform designs.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from scipy.stats import bootstrap

from archgym.studies.store import Study
from archgym.suites import parse_suite, run_entry
from archgym.suites.entry import run_command
from archgym.suites.suite import Suite

BUDGETS = (100, 300, 1000)
PROBLEMS: dict[str, dict[str, Any]] = {
    "systolic/resnet18": {},
    "soc/edge_detection": {},
    "mapping/resnet18-2": {},
    "synthetic/rugged": {},
    "synthetic/packing": {},
    "synthetic/ackley": {},
    "dram/matmul": {"objective": "edp", "space": "archgym", "workload_options": {"requests": 1000}},
}
AGENTS = {
    "random": 1000, "local": 1000, "sa": 1000, "ga": 1000, "re": 1000, "nsga2": 1000, "aco": 1000, "portfolio": 1000,
    "bo": 1000, "tpe": 300, "cmaes": 300,
}  # fmt: skip
"""Agents and the largest budget that each is run with: what is dear is run with less."""
PEERS = {
    "pymoo-ga": ("pymoo_ga.py", 1000),
    "pymoo-mixed": ("pymoo_ga.py mixed", 1000),
    "nevergrad-portfolio": ("nevergrad_portfolio.py", 1000),
    "optuna-tpe": ("optuna_tpe.py", 300),
    "optuna-cmaes": ("optuna_cmaes.py", 300),
    "ngopt": ("nevergrad_portfolio.py NGOpt", 300),
    "turbo": ("botorch_turbo.py", 100),
    "optuna-gp": ("optuna_gp.py", 100),
    "smac3": ("smac3.py", 100),
}
FOLDER = Path(__file__).parents[1] / "examples" / "peers"


def suite_of(seeds: int) -> Suite:
    """The problems as a suite, so that outside optimisers have their door to it."""
    problems = [{"problem": name, "options": options} for name, options in PROBLEMS.items()]
    content = {"name": "agents-table", "version": 1, "budgets": list(BUDGETS), "seeds": seeds, "problems": problems}
    return parse_suite(yaml.safe_dump(content, sort_keys=False))


def cpu_seconds() -> float:
    """Processor seconds of this process and of those that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def do(name: str, suite: Suite, folder: Path, most: int) -> None:
    """Run what is missing of an entry, and note the processor time."""
    before = cpu_seconds()
    had = len(Study(folder).results()) if folder.exists() else 0
    if name in AGENTS:
        run_entry(suite, folder, name, budget=min(AGENTS[name], most), resume=True)
    else:
        program, budget = PEERS[name]
        command = f"{shlex.quote(sys.executable)} {shlex.quote(str(FOLDER))}/{program}"
        run_command(suite, folder, command, name, budget=min(budget, most), resume=True)
    new = Study(folder).results()[had:]
    if new:
        with (folder / "cpu.jsonl").open("a") as file:
            evaluations = sum(row["evaluations"] for row in new)
            file.write(json.dumps({"cpu_s": cpu_seconds() - before, "evaluations": evaluations}) + "\n")


def best_at(curve: list[list[float]], budget: int) -> float:
    """The best reward within ``budget`` evaluations."""
    return max(reward for evaluations, reward in curve if evaluations <= budget)


def regrets(suite: Suite, folder: Path, names: list[str]) -> dict[tuple[str, int, str], dict[int, float]]:
    """(problem, budget, name) -> seed -> normalised regret."""
    rows = {name: Study(folder / name).results() for name in names}
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for p in suite.problems:
        problem = p.make()
        evaluation, rewards = problem.evaluate(problem.space.sample(4000, 99))
        median = float(np.median(rewards[evaluation.feasible]))
        own = [(name, row) for name in names for row in rows[name] if row["problem_key"] == p.key]
        top = problem.optimum.reward if problem.optimum is not None else max(row["best"] for _, row in own)
        for name, row in own:
            for budget in BUDGETS:
                if budget <= row["budget"]:
                    regret = (top - best_at(row["curve"], budget)) / (top - median)
                    found.setdefault((p.problem, budget, name), {})[row["seed"]] = float(np.clip(regret, 0.0, 1.0))
    return found


def compared(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Difference of medians, ours less theirs, with a 95 % interval over the seeds that both have."""
    seeds = sorted(set(ours) & set(theirs))
    a, b = np.array([ours[s] for s in seeds]), np.array([theirs[s] for s in seeds])

    def difference(x: Any, y: Any, axis: int = -1) -> Any:
        return np.median(x, axis=axis) - np.median(y, axis=axis)

    value = float(difference(a, b))
    if len(seeds) < 3 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return f"{value:+.4f}"
    interval = bootstrap((a, b), difference, paired=True, method="percentile", n_resamples=2000, rng=0)
    low, high = interval.confidence_interval
    verdict = "lost" if low > 0 else "won" if high < 0 else "level"
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}] {verdict}"


def table(suite: Suite, folder: Path, names: list[str]) -> None:
    """Print the table, and how the best of ours compares with the best of the others."""
    found = regrets(suite, folder, names)
    columns = [(problem, budget) for problem in PROBLEMS for budget in BUDGETS]
    print("| | " + " | ".join(f"{problem.split('/')[1]}, {budget}" for problem, budget in columns) + " | seeds | ms |")
    print("| --- |" + " ---: |" * (len(columns) + 2))
    for name in names:
        cells = [found.get((*column, name)) for column in columns]
        cost = [json.loads(line) for line in (folder / name / "cpu.jsonl").read_text().splitlines()]
        ms = 1000 * sum(c["cpu_s"] for c in cost) / max(sum(c["evaluations"] for c in cost), 1)
        shown = ["" if cell is None else f"{np.median(list(cell.values())):.4f}" for cell in cells]
        seeds = sorted({len(cell) for cell in cells if cell})
        print(f"| {name} | " + " | ".join(shown) + f" | {'-'.join(map(str, seeds))} | {ms:.2g} |")
    print("\n| problem | evaluations | best of ours | best of the others | difference of medians |")
    print("| --- | ---: | --- | --- | --- |")
    for column in columns:
        here = {name: found[(*column, name)] for name in names if (*column, name) in found}
        order = sorted(here, key=lambda name: float(np.median(list(here[name].values()))))
        ours = next((name for name in order if name in AGENTS and name != "random"), None)
        theirs = next((name for name in order if name in PEERS), None)
        if ours and theirs:
            print(f"| {column[0]} | {column[1]} | {ours} | {theirs} | {compared(here[ours], here[theirs])} |")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the entries, one each.")
@click.option("--seeds", default=5, show_default=True, help="Runs a problem; the same number each time.")
@click.option(
    "--most", type=int, default=1000, show_default=True, help="Largest budget of what is run; 100, 300 or 1000."
)
@click.option("--only", default=",".join([*AGENTS, *PEERS]), help="Agents and peers to run, with commas.")
def main(out: Path, seeds: int, only: str, most: int) -> None:
    """Run what is missing, then print the table of everything that is there."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the peers
    suite = suite_of(seeds)
    for name in filter(None, only.split(",")):
        do(name, suite, out / name, most)
    table(suite, out, [name for name in [*AGENTS, *PEERS] if (out / name / "cpu.jsonl").is_file()])


if __name__ == "__main__":
    main()
