"""The simulator contract check accepts a good simulator and names what is wrong with bad ones."""

from __future__ import annotations

import numpy as np
import pytest

from archgym.simulator import Evaluation
from archgym.testing import check_simulator
from tests.bowl import BowlSimulator


def test_the_small_simulator_keeps_the_contract():
    check_simulator(BowlSimulator())
    check_simulator(BowlSimulator(space="fast"))


class Stateful(BowlSimulator):
    calls = 0

    def evaluate(self, designs, workload, **kwargs):
        self.calls += 1
        made = super().evaluate(designs, workload, **kwargs)
        return Evaluation.build({k: v + self.calls for k, v in made.metrics.items()}, made.violation)


class IgnoresInactive(BowlSimulator):
    def evaluate(self, designs, workload, **kwargs):
        made = super().evaluate(designs, workload, **kwargs)
        return Evaluation.build({k: v + np.atleast_2d(designs)[:, 3] for k, v in made.metrics.items()}, made.violation)


class WinsByFailing(BowlSimulator):
    def evaluate(self, designs, workload, **kwargs):
        made = super().evaluate(designs, workload, **kwargs)
        return Evaluation({k: np.nan_to_num(v) for k, v in made.metrics.items()}, made.feasible, made.violation)


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (Stateful, "two evaluations of the same designs differ"),
        (IgnoresInactive, "canonical form evaluate differently"),
        (WinsByFailing, "infeasible design is not NaN"),
    ],
)
def test_broken_simulators_are_named(cls, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_simulator(cls(), samples=300)
