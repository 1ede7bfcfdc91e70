"""Find the power budgets of the physical mode: 1.2 x the lowest power among designs that meet latency and area.

Writes archgym/simulators/soc/data/physical_budgets.json. Where the deadlines cannot be met within the area, the budget
is 1.2 x the power of the design that comes closest to them within the area, and the file says so.

    python tools/soc_physical_budgets.py --evaluations 200000 --seed 0 --repeats 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from soc_search import search

import archgym.simulators.soc.simulator as soc
from archgym.problem import make_problem

MARGIN = 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="searches a workload, with consecutive seeds")
    args = parser.parse_args()
    entries = {}
    # The largest first: a good design for several applications, without the others' tasks, is a start for fewer.
    for names in reversed(soc.COMBINATIONS):
        name = "+".join(names)
        problem = make_problem(f"soc/{name}", objective="power-under-budgets", mode="physical")
        space = problem.space
        start = [
            [space[p].index(entry["design"][p]) for p in space.names]
            for other, entry in entries.items()
            if set(names) <= set(other.split("+"))
        ]
        start_rows = np.array(start, dtype=np.int64).reshape(-1, space.dimension)
        tries = [search(problem, args.evaluations, args.seed + k, start=start_rows) for k in range(args.repeats)]
        _, design, _ = max(tries, key=lambda found: found[0])
        used = sum(found[2] for found in tries)
        metrics = {k: float(v[0]) for k, v in problem.simulator.evaluate(design, problem.workload).metrics.items()}
        area_budget = problem.workload.area_budget_m2 * 1e6
        met = metrics["deadline_ratio"] <= 1 and metrics["other_area_mm2"] <= area_budget
        if not met:
            objective = f"deadline_ratio@other_area_mm2<={area_budget!r}"
            problem = make_problem(f"soc/{name}", objective=objective, mode="physical")
            _, design, used = search(problem, args.evaluations, args.seed)
            metrics = {k: float(v[0]) for k, v in problem.simulator.evaluate(design, problem.workload).metrics.items()}
        entries[name] = {
            "power_w": float(f"{MARGIN * metrics['power_w']:.4g}"),
            "best_power_w": metrics["power_w"],
            "deadlines_met": bool(met),
            "deadline_ratio": metrics["deadline_ratio"],
            "area_mm2": metrics["area_mm2"],
            "evaluations": used,
            "design": problem.space.decode(problem.space.canonical(design))[0],
        }
        print(name, {k: v for k, v in entries[name].items() if k != "design"}, flush=True)
    record = {
        "procedure": "1.2 x the lowest power_w found among designs that meet every latency budget and the area budget "
        "in physical mode; where none does (deadlines_met false), 1.2 x the power of the fastest design found within "
        "the area",
        "command": f"python tools/soc_physical_budgets.py --evaluations {args.evaluations} --seed {args.seed} "
        f"--repeats {args.repeats}",
        "workloads": entries,
    }
    path = Path(soc.__file__).parent / "data" / "physical_budgets.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
