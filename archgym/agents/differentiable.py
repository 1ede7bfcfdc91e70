"""Differentiable architecture search as agents, for cell-NAS with data alone.

They train a supernet on the workload's data, never asking the simulator, and ask for the derived cell of every epoch.
What is left of the budget goes to the cells that the final choices hold most likely, in that order. The searches
themselves are in :mod:`archgym.simulators.nas.differentiable`; ``archgym nas search`` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archgym.agents.base import Hyperparameters, Searcher, hyper
from archgym.errors import ArchGymError
from archgym.evaluator import Evaluator
from archgym.problem import Problem
from archgym.simulators.nas import cells, live
from archgym.simulators.nas.workload import NasWorkload

CHUNK = 16


@dataclass(frozen=True)
class DifferentiableHyperparameters(Hyperparameters):
    """Of the differentiable searches."""

    epochs: int = hyper(30, low=1, high=10_000, log=True, doc="passes over the training data, one derived cell each")
    choice_rate: float = hyper(0.003, low=1e-5, high=1.0, log=True, doc="step of Adam on the choices")
    norm_all: bool = hyper(False, choices=(True, False), doc="give skip and pool a norm, as the convolutions have")
    fewshot: bool = hyper(False, choices=(True, False), doc="split the space twice by gradient matching")


@dataclass(frozen=True)
class GdasHyperparameters(DifferentiableHyperparameters):
    """Of gdas: longer, since a step trains one operation an edge."""

    epochs: int = hyper(80, low=1, high=10_000, log=True, doc="passes over the training data, one derived cell each")


class DifferentiableSearch(Searcher[DifferentiableHyperparameters]):
    """Base of the differentiable searches; ``name`` is the method."""

    hyperparameters = DifferentiableHyperparameters
    exact = False

    def __init__(
        self, problem: Problem, seed: int, hyperparameters: DifferentiableHyperparameters | None = None
    ) -> None:
        super().__init__(problem, seed, hyperparameters)
        workload = problem.workload
        cells = problem.space.dimension == 6
        if not (cells and isinstance(workload, NasWorkload) and workload.plain_cells and workload.data):
            raise ArchGymError(
                f"{self.name} trains a supernet of the nb201 cells on a workload's data, which {problem.name} does not "
                "have; choose nas/nb201-mnist1d, nas/nb201-digits or nas/nb201-mnist"
            )
        self._base = live.base_recipe(workload)

    def run(self, evaluator: Evaluator, batch: int = 1024) -> None:
        from archgym.simulators.nas.differentiable.search import Search, SearchRecipe

        base = self._base
        recipe = SearchRecipe(
            data=base.data, macro=base.macro, method=("fewshot-" if self.p.fewshot else "") + self.name,
            epochs=self.p.epochs, choice_rate=self.p.choice_rate, norm_all=self.p.norm_all,
        )  # fmt: skip
        probabilities = np.full((6, 5), 0.2)
        for epoch in Search(recipe, self.seed).epochs():
            probabilities = epoch.probabilities
            self.measured(
                {
                    "search/choice_entropy": epoch.entropy,
                    "search/training_loss": epoch.training_loss,
                    "search/validation_loss": epoch.validation_loss,
                    "search/skips": float(epoch.count(cells.SKIP)),
                    "search/pools": float(epoch.count(cells.POOL)),
                }
            )
            evaluator.evaluate(cells.rows(epoch.cell)[None])
        table = cells.all_rows()
        likelihood = np.log(np.maximum(probabilities, 1e-300))[np.arange(6), table].sum(1)
        order = np.argsort(-likelihood, kind="stable")
        for first in range(0, len(order), CHUNK):
            evaluator.evaluate(table[order[first : first + CHUNK]])


class Darts(DifferentiableSearch):
    """DARTS, first order: the choices follow the validation loss with the weights as they are (Liu et al., 2019)."""

    name = "darts"


class Darts2(DifferentiableSearch):
    """DARTS, second order: the validation loss one weight step ahead (Liu et al., 2019)."""

    name = "darts2"


class PcDarts(DifferentiableSearch):
    """PC-DARTS: half of the channels enter the mixture, edges are weighted, the choices rest first (Xu et al., 2020)."""

    name = "pc-darts"


class Gdas(DifferentiableSearch):
    """GDAS: one sampled operation an edge, straight-through Gumbel softmax (Dong and Yang, 2019)."""

    name = "gdas"
    hyperparameters = GdasHyperparameters


class Snas(DifferentiableSearch):
    """SNAS: a soft Gumbel-softmax sample with a falling temperature (Xie et al., 2019)."""

    name = "snas"


class DrNas(DifferentiableSearch):
    """DrNAS: mixture weights drawn from a learnt Dirichlet distribution (Chen et al., 2021)."""

    name = "drnas"


class Rarts(DifferentiableSearch):
    """RARTS: one level, two copies of the weights that pull at each other (Xue et al., 2022)."""

    name = "rarts"


class SdDarts(DifferentiableSearch):
    """SD-DARTS: the supernet learns from the vote of its own earlier snapshots, too (arXiv 2302.05629)."""

    name = "sd-darts"


class Sharp(DifferentiableSearch):
    """sharpDARTS: Max-W mixture weights and cosine power annealing (Hundt et al., 2019)."""

    name = "sharp"


class Proxyless(DifferentiableSearch):
    """ProxylessNAS: binary gates on two sampled paths, and the expected cost in the loss (Cai et al., 2019)."""

    name = "proxyless"
