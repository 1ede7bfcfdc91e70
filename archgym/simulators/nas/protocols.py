"""The tabular protocols of the literature as ready studies: random search, regularised evolution and REINFORCE with
a fixed number of queries, over hundreds of seeds at once.

An agent sees a cheap signal (one 12-epoch run in the published protocol), and is judged by the accuracy (200 epochs,
test, mean of the runs) of the cell with the best signal among those it asked for (Dong et al., "NATS-Bench", TPAMI
2021). All seeds advance together, one array operation a step; the agents of :mod:`archgym.agents` are the general
ones, these are for reproducing the literature's tables in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from archgym.errors import UnknownNameError
from archgym.simulators.nas import cells

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from archgym.simulators.nas.table import CellTable


@dataclass(frozen=True)
class ProtocolResult:
    """Outcome of one protocol over many seeds.

    Attributes:
        protocol: its name.
        chosen: code of the chosen cell a seed, int64 ``(seeds,)``.
        result: its accuracy in percent, float64 ``(seeds,)``.
        curve: best-so-far by the signal: accuracy of the cell that would be chosen after each query, averaged over
            the seeds, float64 ``(queries,)``.
    """

    protocol: str
    chosen: NDArray[np.int64]
    result: NDArray[np.float64]
    curve: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds, in percent."""
        return float(self.result.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, in points."""
        return float(self.result.std(ddof=1))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, in points."""
        return self.deviation / float(np.sqrt(len(self.result)))


def random_search(signal: NDArray[np.float64], queries: int, seeds: int, seed: int = 0) -> NDArray[np.int64]:
    """Codes asked for by uniform random search with replacement, int64 ``(seeds, queries)``."""
    return np.random.default_rng([seed, 1]).integers(0, cells.CELLS, size=(seeds, queries))


def regularised_evolution(
    signal: NDArray[np.float64], queries: int, seeds: int, seed: int = 0, population: int = 10, sample: int = 3
) -> NDArray[np.int64]:
    """Codes asked for by regularised (ageing) evolution (Real et al., AAAI 2019), int64 ``(seeds, queries)``.

    ``population`` random cells; then the best of ``sample`` members (drawn with replacement) has one random edge set
    to another random operation, and the child takes the place of the oldest.
    """
    rng = np.random.default_rng([seed, 2])
    asked = np.empty((seeds, queries), dtype=np.int64)
    first = min(population, queries)
    asked[:, :first] = rng.integers(0, cells.CELLS, size=(seeds, first))
    everyone = np.arange(seeds)
    for step in range(first, queries):
        # The population is the last ``population`` queries.
        drawn = asked[everyone[:, None], step - first + rng.integers(0, first, size=(seeds, sample))]
        parent = drawn[everyone, signal[drawn].argmax(1)]
        asked[:, step] = cells.neighbour_codes()[parent, rng.integers(0, 24, size=seeds)]
    return asked


def reinforce(
    signal: NDArray[np.float64],
    queries: int,
    seeds: int,
    seed: int = 0,
    rate: float = 0.1,
    baseline_decay: float = 0.9,
) -> NDArray[np.int64]:
    """Codes asked for by REINFORCE (Williams 1992), int64 ``(seeds, queries)``: one categorical distribution an edge
    (6 x 5 logits from zero), Adam with ``rate``, an exponential moving average of the rewards as baseline."""
    rng = np.random.default_rng([seed, 3])
    logits = np.zeros((seeds, 6, 5))
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    baseline = np.zeros(seeds)
    asked = np.empty((seeds, queries), dtype=np.int64)
    for step in range(queries):
        exponent = np.exp(logits - logits.max(-1, keepdims=True))
        probability = exponent / exponent.sum(-1, keepdims=True)
        cumulated = probability.cumsum(-1)
        drawn = np.minimum((rng.random((seeds, 6, 1)) >= cumulated).sum(-1), 4)
        asked[:, step] = cells.codes(drawn)
        reward = signal[asked[:, step]]
        baseline = reward if step == 0 else baseline_decay * baseline + (1 - baseline_decay) * reward
        gradient = (reward - baseline)[:, None, None] * (probability - cells.to_one_hot(drawn))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        logits -= rate * (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
    return asked


PROTOCOLS: dict[str, Callable[..., NDArray[np.int64]]] = {
    "random-search": random_search,
    "regularised-evolution": regularised_evolution,
    "reinforce": reinforce,
}


def run_protocol(
    protocol: str,
    signal: ArrayLike,
    result: ArrayLike,
    *,
    queries: int = 100,
    seeds: int = 500,
    seed: int = 0,
    **options: float,
) -> ProtocolResult:
    """Run one protocol for many seeds.

    Args:
        protocol: a name in ``PROTOCOLS``.
        signal: what the agent sees of each cell, ``(15625,)`` in code order (percent).
        result: by what the chosen cell is judged, same form.
        queries: budget of a seed; a repeated cell counts again, as in the published protocol.
        seeds: independent repetitions; seed: of the generator of all of them.
        options: of the protocol (``population``, ``sample``, ``rate``, ``baseline_decay``).
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    seen, judged = np.asarray(signal, dtype=np.float64), np.asarray(result, dtype=np.float64)
    asked = PROTOCOLS[protocol](seen, queries, seeds, seed, **options)
    values = seen[asked]
    running = np.maximum.accumulate(values, axis=1)
    # The first query that reaches the running maximum is the incumbent.
    is_new = np.concatenate([np.ones((seeds, 1), dtype=bool), values[:, 1:] > running[:, :-1]], axis=1)
    incumbent = np.maximum.accumulate(np.where(is_new, np.arange(queries), 0), axis=1)
    chosen = np.take_along_axis(asked, incumbent, axis=1)
    return ProtocolResult(protocol, chosen[:, -1], judged[chosen[:, -1]], judged[chosen].mean(0))


def compare_protocols(
    table: CellTable,
    *,
    signal_table: CellTable | None = None,
    signal: str = "table",
    result: str = "table:split=test",
    protocols: Sequence[str] = tuple(PROTOCOLS),
    queries: int = 100,
    seeds: int = 500,
    seed: int = 0,
) -> dict[str, ProtocolResult]:
    """All protocols on a table; ``signal`` and ``result`` are fidelity texts. The signal may come from another table
    of the same space (``signal_table``): a cell found on one data set, judged on another."""
    from archgym.simulators.nas.fidelity import parse_fidelity

    everything = np.arange(cells.CELLS)
    source = signal_table or table
    seen = source.column(source.resolve(parse_fidelity(signal)), everything, seed)
    judged = table.column(table.resolve(parse_fidelity(result)), everything, seed)
    return {name: run_protocol(name, seen, judged, queries=queries, seeds=seeds, seed=seed) for name in protocols}


PUBLISHED_SIGNAL = "table:split=test,epochs=12,run=single"
PUBLISHED_RESULT = "table:split=test,epochs=200,run=mean"


def published_protocols(
    path: Path,
    *,
    datasets: Sequence[str] = ("cifar10", "cifar100", "imagenet16"),
    queries: int = 100,
    seeds: int = 500,
    seed: int = 0,
) -> dict[str, dict[str, ProtocolResult]]:
    """NAS-Bench-201's protocol on a neutral table of it: data set -> protocol -> result.

    The search runs on CIFAR-10 and sees one 12-epoch run; the chosen cell is judged on every data set by its
    200-epoch test mean.
    """
    from archgym.simulators.nas.table import read_neutral

    source = read_neutral(path, "cifar10")
    return {
        dataset: compare_protocols(
            source if dataset == "cifar10" else read_neutral(path, dataset),
            signal_table=source,
            signal=PUBLISHED_SIGNAL,
            result=PUBLISHED_RESULT,
            queries=queries,
            seeds=seeds,
            seed=seed,
        )
        for dataset in datasets
    }
