"""pymoo's NSGA-II on integer vectors over the problem's Pareto metrics; what is infeasible breaks a constraint.

archgym suite run SUITE --command "python examples/peers/pymoo_nsga2.py" --called pymoo-nsga2 --out entries/pymoo-nsga2
"""

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize

from archgym.suites import BudgetExhausted, given_runs


class Searched(Problem):
    def __init__(self, run):
        self.run, space = run, run.problem.space
        objectives = len(run.problem.pareto_metrics)
        super().__init__(space.dimension, objectives, n_ieq_constr=1, xl=0, xu=space.nvec - 1, vtype=int)

    def _evaluate(self, x, out):
        _, evaluation, rewards = self.run.evaluate(x.astype(np.int64))
        if len(rewards) < len(x):
            raise BudgetExhausted
        losses = self.run.problem.losses(evaluation)
        out["F"], out["G"] = np.where(np.isfinite(losses), losses, 1e30), 1.0 - evaluation.feasible[:, None]


def main():
    integer = {"repair": RoundingRepair(), "vtype": float}
    for run in given_runs():
        try:
            while not run.over:  # anew once it has converged, or has had the budget
                nsga2 = NSGA2(40, IntegerRandomSampling(), crossover=SBX(**integer), mutation=PM(**integer))
                minimize(Searched(run), nsga2, ("n_gen", 2 + run.budget // 20), seed=int(run.rng.integers(2**31)))
        except BudgetExhausted:
            pass


if __name__ == "__main__":
    main()
