"""Write the table of optima of the synthetic landscapes: ``python tools/synthetic_optima.py``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from archgym.problem import Optimum, make_problem, optimum_key
from archgym.simulators.synthetic import landscapes
from archgym.writing import write_json

SHARES = ("0", "0.01", "0.1", "0.25", "0.5", "0.75", "0.9", "0.99", "0.999", "0.9999", "1")
ENUMERATED = 2_000_000
"""Spaces up to this size are enumerated for the quantiles; the optima are exact in any case."""


def rows() -> list[dict[str, object]]:
    """One row a landscape: what identifies the problem, and its optimum."""
    result = []
    for name, landscape in landscapes.LANDSCAPES.items():
        problem = make_problem(f"synthetic/{name}")
        _, rewards = problem.evaluate(landscape.best[None])
        quantiles: dict[str, float] = {}
        if problem.space.size <= ENUMERATED:
            every = np.concatenate([problem.evaluate(batch)[1] for batch in problem.space.batches()])
            assert every.max() <= rewards[0]
            quantiles = {share: float(np.quantile(every, float(share))) for share in SHARES}
        optimum = Optimum(
            reward=float(rewards[0]),
            design=problem.space.decode(landscape.best[None])[0],
            exhaustive=True,
            designs=problem.space.size,
            quantiles=quantiles,
            command="python tools/synthetic_optima.py",
        )
        result.append({**optimum_key(problem), **asdict(optimum)})
    return result


if __name__ == "__main__":
    write_json(Path(landscapes.__file__).with_name("optima.json"), rows())
