"""pymoo's NSGA-II on the multi-objective view of a problem: all metrics of a population in one batch."""

from __future__ import annotations

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize

import archgym


class Designs(PymooProblem):
    """Value indices as integer variables; infeasible designs break one constraint."""

    def __init__(self, problem: archgym.Problem) -> None:
        self.problem = problem
        high = problem.space.nvec - 1
        count = len(problem.pareto_metrics)
        super().__init__(n_var=problem.space.dimension, n_obj=count, n_ieq_constr=1, xl=0, xu=high, vtype=int)

    def _evaluate(self, x, out, *args, **kwargs):
        evaluation, _ = self.problem.evaluate(x.astype(np.int64))
        losses = self.problem.losses(evaluation)
        out["F"] = np.where(np.isfinite(losses), losses, 1e300)
        out["G"] = np.where(evaluation.feasible, -1.0, 1.0)[:, None]


def main(generations: int = 12) -> int:
    """Return the size of the front that was found."""
    problem = archgym.make_problem("systolic/resnet18")
    algorithm = NSGA2(
        pop_size=40,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=3, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    result = minimize(Designs(problem), algorithm, ("n_gen", generations), seed=1)
    print(f"{len(result.F)} designs on the front of {[metric.name for metric in problem.pareto_metrics]}")
    return len(result.F)


if __name__ == "__main__":
    main()
