"""What a ranking rests on: assumed coefficients changed by half, one at a time, and whether the order changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from archgym.objective import make_objective
from archgym.simulators.llm.training import LlmTrainingSimulator, TrainingWorkload
from archgym.simulators.llm.training_model import constants

FACTORS = (0.5, 1.5)


@dataclass(frozen=True)
class Flip:
    """One assumed coefficient times a factor.

    Attributes:
        coefficient: its name.
        factor: 0.5 or 1.5.
        best_changes: True where another of the designs is best then.
        order_kept: share of the pairs of designs whose order stays.
        best: place, in the given order, of the design that is best then.
    """

    coefficient: str
    factor: float
    best_changes: bool
    order_kept: float
    best: int


def sensitivity(
    simulator: LlmTrainingSimulator, workload: TrainingWorkload, designs: ArrayLike, objective: str
) -> list[Flip]:
    """How the ranking of feasible designs changes with each assumed coefficient within 50 % of its value."""
    rows = simulator.space(workload).check(designs)
    made = make_objective(objective, simulator, workload)
    base = made(simulator.evaluate(rows, workload))
    found = []
    assumed = [name for name, row in constants().items() if row["kind"] == "assumed"]
    for name in [*asdict(simulator.costs), *assumed]:
        for factor in FACTORS:
            other = LlmTrainingSimulator(simulator.space_name, **simulator.given_options)
            if name in assumed:
                other.changed = {name: factor * float(constants()[name]["value"]["default"])}
            else:
                other.costs = simulator.costs.scaled(name, factor)
            # The base's objective: a common reference does not change an order.
            rewards = made(other.evaluate(rows, workload))
            upper = np.triu_indices(len(rows), 1)
            before = np.sign((base[:, None] - base[None, :])[upper])
            after = np.sign((rewards[:, None] - rewards[None, :])[upper])
            kept = float(np.mean(before == after)) if len(before) else 1.0
            best = int(np.argmax(rewards))
            changes = bool(rewards[best] > rewards[int(np.argmax(base))] + 1e-12)
            found.append(Flip(name, factor, changes, kept, best))
    return found
