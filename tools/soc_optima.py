"""Find a design that meets every budget for each workload and combination (farsi mode) and record them.

No design can score above -(number of budgets) x 1e-9, the value of a design that meets them all: where it is reached it
is the optimum. Writes optima.json and best_known.json (the three together) beside the simulator.

    python tools/soc_optima.py --evaluations 150000 --seed 1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from soc_search import search

import archgym.simulators.soc.simulator as soc
from archgym.problem import make_problem, optimum_key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    command = f"python tools/soc_optima.py --evaluations {args.evaluations} --seed {args.seed}"
    here = Path(soc.__file__).parent
    rows = []
    for name in soc.SocSimulator().workloads():
        problem = make_problem(f"soc/{name}")
        reward, design, used = search(problem, args.evaluations, args.seed)
        row = problem.space.canonical(design)
        named = problem.space.decode(row)[0]
        evaluation = problem.simulator.evaluate(row, problem.workload)
        metrics = {key: float(column[0]) for key, column in evaluation.metrics.items()}
        print(name, reward, metrics, flush=True)
        entry = {"reward": reward, "design": named, "exhaustive": False, "designs": used, "quantiles": {}}
        rows.append({**optimum_key(problem), **entry, "command": command})
        if name == "all":
            record = {
                "problem": problem.name,
                "objective": problem.objective.name,
                "distance": -reward,
                "reward": reward,
                "evaluations": used,
                "seed": args.seed,
                "metrics": metrics,
                "design": named,
                "explicit": problem.simulator.explicit(row[0], problem.workload).to_dict(),
                "command": command,
            }
            (here / "best_known.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (here / "optima.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
