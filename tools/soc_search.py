"""Search an SoC problem for its best known design: parallel local searches with restarts, all walkers in one batch.

Every walker proposes children by 1-4 random edits of its design (an edit redraws one parameter that is active, or
moves an ordered one by a step, or copies one task's whole choice to another design's) and takes the best child where
it is not worse; walkers that lag behind are restarted from copies of better ones. Deterministic for a seed and a
number of evaluations.

    python tools/soc_search.py all --evaluations 5000000 --seed 1 --out best.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from archgym.problem import make_problem


def search(
    problem,
    evaluations: int,
    seed: int,
    walkers: int = 64,
    children: int = 32,
    start=None,
    report: float = 10.0,
):
    """Best (reward, design) among ``evaluations`` simulations. The temperature of acceptance falls to 0 from 2 % of a
    walker's reward. ``start``: rows to begin with, beside random ones."""
    rng = np.random.default_rng(seed)
    space = problem.space
    ordered = np.array([p.ordered and len(p) > 2 for p in space.parameters])

    def rewards_of(rows):
        return problem.objective(problem.simulator.evaluate(rows, problem.workload))

    current = space.sample(walkers * 16, rng)
    rewards = rewards_of(current)
    if start is not None and len(start):
        current = np.concatenate([start, current])
        rewards = np.concatenate([rewards_of(start), rewards])
    keep = np.argsort(-rewards)[:walkers]
    current, rewards = current[keep], rewards[keep]
    used, rounds, shown = walkers * 16, 0, time.time()
    best_reward, best = float(rewards[0]), current[0].copy()
    while used < evaluations:
        rows = np.repeat(current, children, axis=0)
        n = len(rows)
        edits = rng.integers(1, 5, n)
        for k in range(4):
            active = np.flatnonzero(edits > k)
            column = rng.integers(0, space.dimension, len(active))
            fresh = (rng.random(len(active)) * space.nvec[column]).astype(np.int64)
            step = rows[active, column] + rng.choice([-1, 1], len(active))
            small = ordered[column] & (rng.random(len(active)) < 0.5)
            value = np.where(small, np.clip(step, 0, space.nvec[column] - 1), fresh)
            rows[active, column] = value
        # Crossover between walkers: a contiguous stretch of parameters (a task's or a block's) from another design.
        crossed = np.flatnonzero(rng.random(n) < 0.1)
        other = rng.integers(0, walkers, len(crossed))
        start = rng.integers(0, space.dimension, len(crossed))
        length = rng.integers(1, 12, len(crossed))
        columns = np.arange(space.dimension)[None, :]
        taken = (columns >= start[:, None]) & (columns < (start + length)[:, None])
        rows[crossed] = np.where(taken, current[other], rows[crossed])
        made = rewards_of(rows).reshape(walkers, children)
        used += n
        pick = np.argmax(made, axis=1)
        gain = made[np.arange(walkers), pick]
        # Accept a slightly worse child now and then, relative to how far the walker is from the budgets.
        cooling = max(0.0, 1.0 - used / evaluations)
        worse = np.minimum(gain - rewards, 0.0) / (cooling * 0.02 * np.abs(rewards) + 1e-12)
        accept = rng.random(walkers) < np.exp(worse)
        chosen = rows.reshape(walkers, children, -1)[np.arange(walkers), pick]
        current = np.where(accept[:, None], chosen, current)
        rewards = np.where(accept, gain, rewards)
        if rewards.max() > best_reward:
            best_reward, best = float(rewards.max()), current[np.argmax(rewards)].copy()
        rounds += 1
        if rounds % 100 == 0:  # the worst eighth starts again from the better half
            order = np.argsort(rewards)
            lag, lead = order[: walkers // 8], order[walkers // 2 :]
            source = rng.choice(lead, len(lag))
            current[lag], rewards[lag] = current[source], rewards[source]
            current[order[-1]], rewards[order[-1]] = best, best_reward
        if time.time() - shown > report:
            shown = time.time()
            print(f"{used} evaluations: best {best_reward:.6g}, median walker {np.median(rewards):.4g}", flush=True)
    return best_reward, best, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload")
    parser.add_argument("--mode", default="farsi")
    parser.add_argument("--objective", default="farsi-distance")
    parser.add_argument("--evaluations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    problem = make_problem(f"soc/{args.workload}", objective=args.objective, mode=args.mode)
    start = time.perf_counter()
    reward, design, used = search(problem, args.evaluations, args.seed)
    row = problem.space.canonical(design)
    evaluation = problem.simulator.evaluate(row, problem.workload)
    record = {
        "problem": f"soc/{args.workload}",
        "mode": args.mode,
        "objective": args.objective,
        "reward": reward,
        "evaluations": used,
        "seed": args.seed,
        "seconds": round(time.perf_counter() - start, 1),
        "metrics": {name: float(column[0]) for name, column in evaluation.metrics.items()},
        "design": problem.space.decode(row)[0],
        "command": f"python tools/soc_search.py {args.workload} --mode {args.mode} --objective {args.objective} "
        f"--evaluations {args.evaluations} --seed {args.seed}",
    }
    print(json.dumps({key: value for key, value in record.items() if key != "design"}, indent=1))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
