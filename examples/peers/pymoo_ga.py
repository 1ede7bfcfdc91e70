"""pymoo's GA on integer vectors (SBX, polynomial mutation, rounding), or with "mixed" its mixed-variable GA.

archgym suite run SUITE --command "python examples/peers/pymoo_ga.py" --called pymoo-ga --out entries/pymoo-ga
archgym suite run SUITE --command "python examples/peers/pymoo_ga.py mixed" --called pymoo-mixed --out entries/pymoo-mixed
"""

import sys

import numpy as np
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.mixed import MixedVariableGA
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize

from archgym.suites import BudgetExhausted, given_runs


class Searched(Problem):
    def __init__(self, run, mixed):
        self.run, space = run, run.problem.space
        whole = {"n_var": space.dimension, "xl": 0, "xu": space.nvec - 1, "vtype": int}
        super().__init__(n_obj=1, n_ieq_constr=1, **({"vars": space.to_pymoo()} if mixed else whole))

    def _evaluate(self, x, out):
        designs = np.array(
            [self.run.problem.space.from_point(point) if isinstance(point, dict) else point for point in x]
        )
        _, evaluation, rewards = self.run.evaluate(designs.astype(np.int64))
        if len(rewards) < len(x):
            raise BudgetExhausted
        out["F"], out["G"] = -rewards[:, None], 1.0 - evaluation.feasible[:, None]


def main(kind="integer"):
    for run in given_runs():
        integer = {"repair": RoundingRepair(), "vtype": float}
        try:
            while not run.over:  # anew once it has converged, or has had the budget
                ga = (
                    MixedVariableGA(pop_size=20)
                    if kind == "mixed"
                    else GA(20, IntegerRandomSampling(), crossover=SBX(**integer), mutation=PM(**integer))
                )
                minimize(
                    Searched(run, kind == "mixed"),
                    ga,
                    ("n_gen", 2 + run.budget // 20),
                    seed=int(run.rng.integers(2**31)),
                )
        except BudgetExhausted:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
