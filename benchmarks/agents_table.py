"""How well agents search at equal budgets of distinct designs, beside outside optimisers: the table of docs/agents.md.

    python benchmarks/agents_table.py --out entries                          # every agent and peer below, resumable
    python benchmarks/agents_table.py --out entries --only bo,ga,pymoo-ga    # some of them
    python benchmarks/agents_table.py --out entries --only ""                # only print what is there
    python benchmarks/agents_table.py --out data/suites/archgym-8 --suite archgym-8 --only ""    # the shipped entries
    python benchmarks/agents_table.py --out fronts --suite archgym-mo --only random,nsga2,nsga3,parego,pymoo-nsga2,optuna-nsga2

Normalised regret: 0 is the optimum (or, where none is known, the best design of all runs), 1 the median of uniform designs;
with ``--suite`` on the suite's measured scale, where a front is asked for the share of the best known hypervolume that is missing.
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

from archgym.studies.statistics import anytime
from archgym.studies.store import Study
from archgym.suites import load_suite, parse_suite, run_entry, verify
from archgym.suites.entry import run_command
from archgym.suites.scale import normalised
from archgym.suites.suite import Suite, SuiteProblem

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
    "bo": 1000, "tpe": 300, "cmaes": 300, "nsga3": 1000, "parego": 1000,
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
    "pymoo-nsga2": ("pymoo_nsga2.py", 1000),
    "optuna-nsga2": ("optuna_nsga2.py", 1000),
}
FRONTS = {"nsga3", "parego", "pymoo-nsga2", "optuna-nsga2"}
"""Of those, what is only run where it is named: they look for fronts."""
FOLDER = Path(__file__).parents[1] / "examples" / "peers"


Found = dict[tuple[str, int, str], dict[int, float]]
"""(problem's key, budget, agent) -> seed -> normalised regret."""


def suite_of(seeds: int, given: str | None) -> Suite:
    """The problems as a suite, so that outside optimisers have their door to it; or those of a given one."""
    if given:
        return parse_suite(yaml.safe_dump({**yaml.safe_load(load_suite(given).text), "seeds": seeds}, sort_keys=False))
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


def on_own_scale(suite: Suite, folder: Path, names: list[str]) -> Found:
    """Normalised regret between the best of all runs, or the known optimum, and the median of uniform designs."""
    rows = {name: Study(folder / name).results() for name in names}
    found: Found = {}
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
                    found.setdefault((p.key, budget, name), {})[row["seed"]] = float(np.clip(regret, 0.0, 1.0))
    return found


def on_suites_scale(suite: Suite, folder: Path, names: list[str]) -> Found:
    """Normalised regret, or missing hypervolume, on the scale that a suite's file holds."""
    found: Found = {}
    for name in names:
        verified = verify(suite, folder / name, sample=0, repeat=0)
        if not verified.holds:
            raise SystemExit(f"{folder / name} does not hold: {verified.findings[0].sentence}")
        for run in verified.runs:
            for budget in BUDGETS:
                if budget <= run.spec.budget:
                    regret = normalised(run.problem, anytime(run.curve, [budget]))[0]
                    found.setdefault((run.problem.key, budget, name), {})[run.spec.seed] = float(regret)
    return found


def compared(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Difference of medians, ours less theirs, with a 95 % interval over the seeds that both have."""
    seeds = sorted(set(ours) & set(theirs))
    a, b = np.array([ours[s] for s in seeds]), np.array([theirs[s] for s in seeds])

    def difference(x: Any, y: Any, axis: int = -1) -> Any:
        return np.median(x, axis=axis) - np.median(y, axis=axis)

    value = float(difference(a, b))
    if len(seeds) < 3 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return f"{value:+.4f} level" if not value else f"{value:+.4f} {'lost' if value > 0 else 'won'}"
    interval = bootstrap((a, b), difference, paired=True, method="percentile", n_resamples=2000, rng=0)
    low, high = interval.confidence_interval
    verdict = "lost" if low > 0 else "won" if high < 0 else "level"
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}] {verdict}"


def table(suite: Suite, found: Found, folder: Path, names: list[str]) -> None:
    """Print the table, and how the best of ours compares with the best of the others and each of ours with random."""
    columns = [(problem, budget) for problem in suite.problems for budget in BUDGETS]
    columns = [(p, budget) for p, budget in columns if any((p.key, budget, name) in found for name in names)]
    print("| | " + " | ".join(f"{p.title}, {budget}" for p, budget in columns) + " | seeds | ms |")
    print("| --- |" + " ---: |" * (len(columns) + 2))
    for name in names:
        cells = [found.get((p.key, budget, name)) for p, budget in columns]
        noted = folder / name / "cpu.jsonl"  # (an entry that others made has none)
        cost = [json.loads(line) for line in noted.read_text().splitlines()] if noted.is_file() else []
        ms = f"{1000 * sum(c['cpu_s'] for c in cost) / sum(c['evaluations'] for c in cost):.2g}" if cost else ""
        shown = ["" if cell is None else f"{np.median(list(cell.values())):.4f}" for cell in cells]
        seeds = sorted({len(cell) for cell in cells if cell})
        print(f"| {name} | " + " | ".join(shown) + f" | {'-'.join(map(str, seeds))} | {ms} |")
    print("\n| problem | evaluations | best of ours | best of the others | difference of medians |")
    print("| --- | ---: | --- | --- | --- |")
    for p, budget in columns:
        here = {name: found[p.key, budget, name] for name in names if (p.key, budget, name) in found}
        order = sorted(here, key=lambda name: float(np.median(list(here[name].values()))))
        ours = next((name for name in order if name not in PEERS and name != "random"), None)
        theirs = next((name for name in order if name in PEERS), None)
        if ours and theirs:
            print(f"| {p.title} | {budget} | {ours} | {theirs} | {compared(here[ours], here[theirs])} |")
    against_random(columns, found, [name for name in names if name not in PEERS])


def against_random(columns: list[tuple[SuiteProblem, int]], found: Found, names: list[str]) -> None:
    """Print where an agent's median is away from random's, by its interval, at the least budget."""
    least = [(p, budget) for p, budget in columns if budget == BUDGETS[0]]
    if "random" in names and len(names) > 1:
        print(f"\n| after {BUDGETS[0]} evaluations | better than random | level | worse than random |")
        print("| --- | --- | --- | --- |")
    for name in names:
        verdicts: dict[str, list[str]] = {"won": [], "level": [], "lost": []}
        for p, budget in least:
            own, uniform = found.get((p.key, budget, name)), found.get((p.key, budget, "random"))
            if name != "random" and own and uniform:
                verdicts[compared(own, uniform).split()[-1]].append(p.title)
        if any(verdicts.values()):
            print(
                f"| {name} | " + " | ".join(f"{len(v)}: {', '.join(v)}" if v else "0" for v in verdicts.values()) + " |"
            )


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the entries, one each.")
@click.option("--seeds", default=5, show_default=True, help="Runs a problem; the same number each time.")
@click.option(
    "--most", type=int, default=1000, show_default=True, help="Largest budget of what is run; 100, 300 or 1000."
)
@click.option(
    "--only",
    default=",".join(name for name in [*AGENTS, *PEERS] if name not in FRONTS),
    help="Agents and peers to run, with commas.",
)
@click.option("--suite", "given", help="A suite (name or file) in place of the problems of docs/agents.md.")
def main(out: Path, seeds: int, only: str, most: int, given: str | None) -> None:
    """Run what is missing, then print the table of everything that is there."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the peers
    suite = suite_of(seeds, given)
    for name in filter(None, only.split(",")):
        do(name, suite, out / name, most)
    known = [*AGENTS, *PEERS]
    there = {path.parent.name for path in out.glob("*/entry.json")}
    names = [name for name in known if name in there] + sorted(there - {*known})
    found = (on_suites_scale if given else on_own_scale)(suite, out, names)
    table(suite, found, out, names)


if __name__ == "__main__":
    main()
