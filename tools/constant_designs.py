"""What one design for all workloads is worth, without reading any feature: for each DRAM recording, of the optima of the
others that with the least mean regret over the others, against the best of 100 random draws.

    python tools/constant_designs.py
"""

from __future__ import annotations

import numpy as np

from archgym.problem import Optimum, make_problem

RECORDINGS = ("gzip", "sqlite", "python", "matmul", "graph", "sort", "hashjoin", "nn-inference")
DRAWS = 100


def best_of_draws(optimum: Optimum, chance: float) -> float:
    """The reward that the best of :data:`DRAWS` independent uniform draws stays below with this chance."""
    shares = sorted(optimum.quantiles, key=float)
    values = [optimum.quantiles[share] for share in shares]
    return float(np.interp(chance ** (1.0 / DRAWS), [float(share) for share in shares], values))


def main() -> None:
    problems = [make_problem(f"dram/{name}") for name in RECORDINGS]
    optima = [problem.optimum for problem in problems]
    known = [optimum for optimum in optima if optimum is not None]
    designs = np.concatenate([p.space.encode(o.design) for p, o in zip(problems, known, strict=True)])
    regrets = np.array(
        [[o.regret_of(reward) for reward in p.evaluate(designs)[1]] for p, o in zip(problems, known, strict=True)]
    )
    print(f"recording, regret of one design for all others, regret of the best of {DRAWS} draws: median, 5 to 95 %")
    for i, (name, optimum) in enumerate(zip(RECORDINGS, known, strict=True)):
        others = [j for j in range(len(RECORDINGS)) if j != i]
        chosen = others[int(regrets[np.ix_(others, others)].mean(axis=0).argmin())]
        median, low, high = (optimum.regret_of(best_of_draws(optimum, chance)) for chance in (0.5, 0.95, 0.05))
        print(f"{name:14s} {regrets[i, chosen]:.3f}  {median:.3f}  {low:.3f} to {high:.3f}", flush=True)


if __name__ == "__main__":
    main()
