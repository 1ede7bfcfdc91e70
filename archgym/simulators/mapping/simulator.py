"""The mapping problem: the genes of a mapping, the machine it runs on, and the metrics of the cluster analysis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.networks.layers import Layer, Network
from archgym.networks.simulator import network_options, own_network
from archgym.objective import LogRatio, Objective, log_ratio
from archgym.options import Option
from archgym.reading import own_file
from archgym.simulator import OWN_PYTHON, Evaluation, Metric, Simulator, Workload, names_own_file
from archgym.simulators.mapping.layers import layers as _catalogue
from archgym.space import Constraint, Designs, DesignSpace, Parameter

#: The dims in the order of the analysis.
DIMS = ("K", "C", "P", "Q", "R", "S")
#: Names of the dims in the genes: rows and columns are Y and X there.
SPREAD = ("K", "C", "X", "Y")
_SPREAD_DIM = np.array([0, 1, 3, 2], dtype=np.int64)
#: Gene letter of each dim.
_LETTERS = {"K": "k", "C": "c", "P": "y", "Q": "x", "R": "r", "S": "s"}
EDGE_RULES = ("covering", "maestro")

# Energy of one L2 and one L1 access in units of 0.00023 nJ, and area in square micrometres: the figures of MAESTRO
# (energy) and of ArchGym's MaestroGym (area).
_L2_PJ, _L1_PJ = 0.23 * 18.61, 0.23 * 1.68
_PE_AREA_UM2, _L2_AREA_UM2, _L1_AREA_UM2 = 4470.0, 4161.536, 4505.1889


class LayerWorkload(Workload):
    """One layer as a workload.

    A batch or groups that are not depthwise run one after the other: ``repeats`` counts them, and latency and energy
    scale with it. How often the layer occurs in its network does not matter here.
    """

    def __init__(self, layer: Layer, name: str | None = None) -> None:
        self.layer = layer = replace(layer, count=1)
        super().__init__(name or layer.name, _describe(layer))
        self._network = Network(self.name, [layer])
        self.depthwise = layer.op == "depthwise" and layer.K == 1
        self.repeats = layer.N * (1 if self.depthwise else layer.G)
        channels = (1, layer.G) if self.depthwise else (layer.K, layer.C)
        self.bounds = dict(zip(DIMS, (*channels, layer.P, layer.Q, layer.R, layer.S), strict=True))
        #: What :func:`archgym.simulators.mapping.kernels.clusters.evaluate` takes as ``layer``.
        self.array = np.array(
            [
                *self.bounds.values(),
                layer.stride_p,
                layer.stride_q,
                layer.dilation_r,
                layer.dilation_s,
                int(self.depthwise),
            ],
            dtype=np.int64,
        )

    @property
    def fingerprint(self) -> str:
        return self._network.fingerprint

    def features(self) -> dict[str, float]:
        own = {f"log2_{dim}": float(np.log2(bound)) / 10.0 for dim, bound in self.bounds.items()}
        return {**own, "depthwise": float(self.depthwise)}


def _describe(layer: Layer) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in zip("NKCPQRSG", layer.bounds, strict=True) if size > 1)
    return f"{layer.op} layer: {sizes or 'a single product'}"


class _Layers(Mapping[str, LayerWorkload]):
    """The catalogue; workloads are made on first access."""

    def __getitem__(self, name: str) -> LayerWorkload:
        return _workload(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_catalogue())

    def __len__(self) -> int:
        return len(_catalogue())


@cache
def _workload(name: str) -> LayerWorkload:
    return LayerWorkload(_catalogue()[name])


@cache
def permutations() -> NDArray[np.int64]:
    """The 720 loop orders by rank (lexicographic in K C P Q R S), int64 ``(720, 6)``, outermost first."""
    return np.array(list(itertools.permutations(range(6))), dtype=np.int64)


@cache
def _ranks() -> NDArray[np.int64]:
    """Rank of an order by its digits to the base 6."""
    table = np.full(6**6, -1, dtype=np.int64)
    table[permutations() @ 6 ** np.arange(5, -1, -1)] = np.arange(720)
    return table


def _with_idle_inside(order: NDArray[np.int64], idle: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ranks of the orders ``(n, 6)`` with the dims of ``idle`` ``(n, 6)`` moved innermost, in the order of ``DIMS``."""
    key = np.where(np.take_along_axis(idle, order, axis=1), 6 + order, np.arange(6))
    order = np.take_along_axis(order, np.argsort(key, axis=1, kind="stable"), axis=1)
    return _ranks()[order @ 6 ** np.arange(5, -1, -1)]


#: Outputs, weights and partial sums outermost in turn.
_REDUCED_ORDERS = ("KCYXRS", "YXKCRS", "CKYXRS")


def order_rank(order: str) -> int:
    """Rank of a loop order written outermost first in K C Y X R S, such as ``"KCYXRS"``."""
    letters = "KCYXRS"
    if sorted(order) != sorted(letters):
        raise ArchGymError(f"{order!r} is no loop order; write each of K C Y X R S once, outermost first")
    return int(_ranks()[int("".join(str(letters.index(letter)) for letter in order), 6)])


def _divisors(bound: int) -> tuple[int, ...]:
    small = [value for value in range(1, math.isqrt(bound) + 1) if bound % value == 0]
    return tuple(sorted({*small, *(bound // value for value in small)}))


def _powers(start: int, stop: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(start, stop + 1))


class MappingSimulator(Simulator):
    """Search for the mapping of one layer on a two-level cluster machine.

    Args:
        space: ``gamma`` (tiles are divisors, PEs and cluster powers of two), ``archgym17`` (the 17 genes of
            ArchGym's MaestroGym, and the cluster size beside them) or ``reduced`` (three tiles a dim, three orders,
            256 PEs: small enough to enumerate).
        noc_words_per_cycle: words that enter or leave each level in a cycle.
        offchip_words_per_cycle: words between L2 and memory in a cycle.
        l2_words, l1_words: capacity of the shared buffer and of each PE's; None for unlimited.
        clock_ghz: cycles a nanosecond.
        edges: ``covering`` or ``maestro``; see :mod:`archgym.simulators.mapping.kernels.clusters`.

    Violations: ``cluster-exceeds-pes``, ``l2-capacity``, ``l1-capacity`` and, under ``edges="maestro"``,
    ``miscounted-macs``.
    """

    name = "mapping"
    version = "1"
    spaces = ("gamma", "archgym17", "reduced")
    default_objective = "edp"
    default_workload = "resnet18-2"
    pareto = ("latency_cycles", "energy_uj", "area_mm2")
    metrics = (
        Metric("latency_cycles", "cycles", "min", "run time of the layer"),
        Metric("latency_ms", "ms", "min", "run time at the machine's clock"),
        Metric("energy_uj", "uJ", "min", "energy of the L2 and L1 accesses"),
        Metric("edp_uj_ms", "uJ*ms", "min", "energy-delay product"),
        Metric("area_mm2", "mm2", "min", "area of PEs and of the buffers that the mapping needs"),
        Metric("utilization", "", "max", "multiply-accumulates a cycle and PE, 1 at best"),
        Metric("l2_accesses", "words", "min", "reads and writes of the shared buffer"),
        Metric("l2_words", "words", "min", "double-buffered words of the shared buffer"),
        Metric("l1_words", "words", "min", "double-buffered words of one PE's buffer"),
    )

    def __init__(
        self,
        space: str | None = None,
        *,
        noc_words_per_cycle: int = 32,
        offchip_words_per_cycle: int = 16,
        l2_words: int | None = None,
        l1_words: int | None = None,
        clock_ghz: float = 1.0,
        edges: str = "covering",
    ) -> None:
        super().__init__(space)
        for value, what in (
            (noc_words_per_cycle, "noc_words_per_cycle"),
            (offchip_words_per_cycle, "offchip_words_per_cycle"),
            (1 if l2_words is None else l2_words, "l2_words"),
            (1 if l1_words is None else l1_words, "l1_words"),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**40:
                raise ArchGymError(f"{what} is {value!r}; expected a whole number from 1 on")
        if not isinstance(clock_ghz, (int, float)) or not 0 < clock_ghz < 1e6:
            raise ArchGymError(f"clock_ghz is {clock_ghz!r}; expected a positive number")
        if edges not in EDGE_RULES:
            raise UnknownNameError("edge rule", edges, EDGE_RULES)
        self.noc_words_per_cycle, self.offchip_words_per_cycle = noc_words_per_cycle, offchip_words_per_cycle
        self.l2_words, self.l1_words, self.clock_ghz, self.edges = l2_words, l1_words, float(clock_ghz), edges
        self._spaces: dict[str, DesignSpace] = {}

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return _Layers()

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A layer of the catalogue (``resnet18-2``), a layer of any network of the accelerator simulator
        (``resnet50:stage2.first.spatial``, with its own stride), or ``file:PATH``, ``torch:FILE.py:NAME`` or
        ``arch:FILE.py:NAME`` (which run FILE.py) with the option ``layer``. Option ``batch`` scales each."""
        if name.startswith(OWN_PYTHON):
            layer, batch = options.pop("layer", None), options.pop("batch", 1)
            return LayerWorkload(_pick(own_network(name, **options), layer).with_batch(batch), name)
        if (path := own_file(name)) is not None:
            return self.read_workload(path, **options)
        batch = options.pop("batch", 1)
        if options:
            raise ArchGymError(f"mapping has no workload option {next(iter(options))!r}; it takes batch")
        network, colon, layer = name.partition(":")
        if colon:
            from archgym.networks.catalogue import network as build

            return LayerWorkload(_pick(build(network), layer).with_batch(batch), name)
        known = _catalogue()
        if name not in known:
            raise UnknownNameError("workload of mapping", name, known)
        return _workload(name) if batch == 1 else LayerWorkload(known[name].with_batch(batch), name)

    def workload_options(self, name: str) -> Mapping[str, Option]:
        options = {"batch": Option(int, 1)}
        if names_own_file(name):
            options |= {"layer": Option(str | None), **network_options(name)}
        return options

    @classmethod
    def option_values(cls) -> Mapping[str, Any]:
        return {"edges": EDGE_RULES}

    def read_workload(self, path: Path, **options: Any) -> Workload:
        """A layer of a file that :func:`archgym.networks.readers.read_network` reads; option ``layer``
        names it where the file has several."""
        from archgym.networks.readers import read_network

        layer, batch = options.pop("layer", None), options.pop("batch", 1)
        network = read_network(path, **options)
        return LayerWorkload(_pick(network, layer).with_batch(batch), f"file:{path}")

    # --- design space ----------------------------------------------------------------------------------------------

    def space(self, workload: Workload) -> DesignSpace:
        work = self._check(workload)
        made = self._spaces.get(work.fingerprint)
        if made is None:
            made = self._spaces[work.fingerprint] = self._make_space(work)
        return made

    def _make_space(self, work: LayerWorkload) -> DesignSpace:
        full, reduced = self.space_name == "archgym17", self.space_name == "reduced"
        orders = tuple(order_rank(order) for order in _REDUCED_ORDERS) if reduced else tuple(range(720))

        def tile(dim: str, level: str) -> Parameter:
            bound = work.bounds[dim]
            if dim in "RS":
                values = tuple(range(max(bound - 1, 1), bound + 1))
            else:
                values = tuple(range(1, bound + 1)) if full else _divisors(bound)
                if reduced:
                    middle = min(values, key=lambda value: (abs(value * value - bound), value))
                    values = tuple(sorted({1, middle, bound}))
            what = f"tile of {dim} at the {'outer' if level == 'l2' else 'inner'} level"
            clamp = "" if level == "l2" else "; at most the outer tile, larger values are clamped"
            return Parameter(f"{_LETTERS[dim]}_{level}", values, True, "", what + clamp)

        def level(suffix: str) -> list[Parameter]:
            where = "outer" if suffix == "l2" else "inner"
            seed = Parameter(
                f"seed_{suffix}", orders, False, "", f"rank of the loop order at the {where} level, 0..719"
            )
            spread = Parameter(f"par_{suffix}", SPREAD, False, "", f"dim spread over the {where} level's units")
            taps = [tile(dim, suffix) for dim in ("S", "R")] if full else []
            tiles = [tile(dim, suffix) for dim in ("K", "C", "Q", "P")]
            if full and suffix == "l1":
                return [spread, *taps, *tiles, seed]
            return [seed, spread, *taps, *tiles]

        pes = tuple(range(1, 1025)) if full else (256,) if reduced else _powers(4, 10)
        clusters = (4, 32) if reduced else _powers(0, 6)
        machine = [
            Parameter("num_pe", pes, True, "PEs", "processing elements"),
            Parameter("cluster", clusters, True, "PEs", "PEs of one cluster, the units of the inner level"),
        ]
        parameters = [*level("l2"), *level("l1"), *machine]
        position = {p.name: i for i, p in enumerate(parameters)}
        pe_values, cluster_values = np.array(pes), np.array(clusters)

        def fits(designs: Designs) -> NDArray[np.bool_]:
            return cluster_values[designs[:, position["cluster"]]] <= pe_values[designs[:, position["num_pe"]]]

        rule = Constraint("cluster-exceeds-pes", "a cluster has at most as many PEs as the machine", fits)
        space = DesignSpace(parameters, [rule], canonicalize=lambda designs: self._canonical(designs, work, position))
        return space

    def _canonical(self, designs: Designs, work: LayerWorkload, position: Mapping[str, int]) -> Designs:
        """Clamp inner tiles to outer ones; move loops that run once (and are not spread) to the innermost places, in
        alphabetical order: they change nothing; in a depthwise layer spreading K means spreading C."""
        designs = designs.copy()
        for dim in DIMS:
            outer, inner = (position.get(f"{_LETTERS[dim]}_{level}") for level in ("l2", "l1"))
            if outer is not None and inner is not None:
                designs[:, inner] = np.minimum(designs[:, inner], designs[:, outer])
        tiles, spreads = self._tiles(designs, work, position), self._spreads(designs, work, position)
        listed = self._orders(work, position)
        for level, suffix in enumerate(("l2", "l1")):
            if work.depthwise:
                column = designs[:, position[f"par_{suffix}"]]
                column[column == 0] = 1
            given = np.array(list(work.bounds.values())) if level == 0 else tiles[:, 0]
            once = tiles[:, level] >= given
            once[np.arange(len(designs)), spreads[:, level]] = False
            column = designs[:, position[f"seed_{suffix}"]]
            asked = _with_idle_inside(permutations()[listed[column]], once)
            if len(listed) == len(permutations()):
                column[:] = asked
                continue
            for index in range(len(listed) - 1, -1, -1):
                same = _with_idle_inside(np.broadcast_to(permutations()[listed[index]], once.shape), once) == asked
                column[same] = index
        return designs

    def _orders(self, work: LayerWorkload, position: Mapping[str, int]) -> NDArray[np.int64]:
        """Ranks of the loop orders that the space lists."""
        return np.array(self.space(work).parameters[position["seed_l2"]].values, dtype=np.int64)

    def _tiles(self, designs: Designs, work: LayerWorkload, position: Mapping[str, int]) -> NDArray[np.int64]:
        """Tile sizes, int64 ``(n, 2, 6)``, inner ones clamped to outer ones."""
        parameters = self.space(work).parameters
        tiles = np.empty((len(designs), 2, 6), dtype=np.int64)
        for d, dim in enumerate(DIMS):
            for level, suffix in enumerate(("l2", "l1")):
                column = position.get(f"{_LETTERS[dim]}_{suffix}")
                if column is None:
                    tiles[:, level, d] = work.bounds[dim]
                else:
                    tiles[:, level, d] = np.array(parameters[column].values)[designs[:, column]]
            tiles[:, 1, d] = np.minimum(tiles[:, 1, d], tiles[:, 0, d])
        return tiles

    def _spreads(self, designs: Designs, work: LayerWorkload, position: Mapping[str, int]) -> NDArray[np.int64]:
        genes = np.stack([designs[:, position["par_l2"]], designs[:, position["par_l1"]]], axis=1)
        spreads = _SPREAD_DIM[genes]
        return np.where(spreads == 0, 1, spreads) if work.depthwise else spreads

    # --- evaluation ------------------------------------------------------------------------------------------------

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        from archgym.simulators.mapping.kernels import clusters

        work = self._check(workload)
        space = self.space(work)
        rows = space.check(designs)
        violation = space.violations(rows)
        position = {name: i for i, name in enumerate(space.names)}
        pes = np.array(space["num_pe"].values, dtype=np.int64)[rows[:, position["num_pe"]]]
        cluster = np.array(space["cluster"].values, dtype=np.int64)[rows[:, position["cluster"]]]
        # Designs that break a rule are evaluated on a harmless machine; their metrics are dropped below.
        units = np.stack([np.maximum(pes // cluster, 1), cluster], axis=1)
        seeds = self._orders(work, position)[rows[:, [position["seed_l2"], position["seed_l1"]]]]
        # A hop of one cycle into each level.
        bandwidths = np.empty((len(rows), 3), dtype=np.int64)
        bandwidths[:] = self.noc_words_per_cycle, self.offchip_words_per_cycle, 1
        counts = clusters.evaluate(
            work.array,
            self._tiles(rows, work, position),
            permutations()[seeds],
            self._spreads(rows, work, position),
            units,
            bandwidths,
            self.edges == "maestro",
        )
        layer_macs = work.layer.macs // work.repeats
        if self.edges == "maestro":
            violation[(violation == "") & (counts[:, clusters.MACS] != layer_macs)] = "miscounted-macs"
        for limit, column, name in (
            (self.l2_words, clusters.L2_WORDS, "l2-capacity"),
            (self.l1_words, clusters.L1_WORDS, "l1-capacity"),
        ):
            if limit is not None:
                violation[(violation == "") & (counts[:, column] > limit)] = name
        return Evaluation.build(self._metrics(counts, work, pes, layer_macs), violation)

    def _metrics(
        self, counts: NDArray[np.int64], work: LayerWorkload, pes: NDArray[np.int64], layer_macs: int
    ) -> dict[str, NDArray[np.float64]]:
        from archgym.simulators.mapping.kernels import clusters

        layer, repeats = work.layer, float(work.repeats)
        runtime = counts[:, clusters.RUNTIME].astype(np.float64)
        reads = counts[:, clusters.INPUT_READS] + counts[:, clusters.WEIGHT_READS]
        channels = layer.G if work.depthwise else layer.C
        inputs = channels * layer.input_rows * layer.input_columns
        weights = (layer.G if work.depthwise else layer.K * layer.C) * layer.R * layer.S
        l2 = (reads + inputs + weights + counts[:, clusters.OUTPUT_WRITES]).astype(np.float64)
        # Both operands are read, the partial sum is read and written. The tool takes the L2 reads for the words that
        # enter the PEs; the covering rule counts what the inner level moves.
        l1 = (reads if self.edges == "maestro" else counts[:, clusters.L1_FILLS]) + 4.0 * layer_macs
        cycles = runtime * repeats
        energy_uj = (_L2_PJ * l2 + _L1_PJ * l1) * repeats * 1e-6
        latency_ms = cycles / (self.clock_ghz * 1e6)
        l2_words, l1_words = counts[:, clusters.L2_WORDS], counts[:, clusters.L1_WORDS]
        area_um2 = (
            _PE_AREA_UM2 * pes + _L2_AREA_UM2 * np.ceil(l2_words / 32768) + _L1_AREA_UM2 * np.ceil(l1_words / 64) * pes
        )
        return {
            "latency_cycles": cycles,
            "latency_ms": latency_ms,
            "energy_uj": energy_uj,
            "edp_uj_ms": energy_uj * latency_ms,
            "area_mm2": area_um2 * 1e-6,
            "utilization": layer_macs / (np.maximum(runtime, 1.0) * pes),
            "l2_accesses": l2 * repeats,
            "l2_words": l2_words.astype(np.float64),
            "l1_words": l1_words.astype(np.float64),
        }

    # --- objectives ------------------------------------------------------------------------------------------------

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``latency``, ``energy``, ``edp`` and ``area`` as log ratios, and ArchGym's own three rewards: 1/runtime,
        1/(runtime * energy * 1e4) under the name of an energy, 1/area."""
        from archgym.simulators.mapping.objectives import Reciprocal

        def ratio(name: str, *metrics: str) -> LogRatio:
            return log_ratio(self, workload, metrics, name)

        return {
            "latency": ratio("latency", "latency_cycles"),
            "energy": ratio("energy", "energy_uj"),
            "edp": ratio("edp", "energy_uj", "latency_cycles"),
            "area": ratio("area", "area_mm2"),
            "archgym-latency": Reciprocal("archgym-latency", {"latency_cycles": 1.0}),
            "archgym-energy": Reciprocal("archgym-energy", {"latency_cycles": 1.0, "energy_uj": 1e3}, 1e4),
            "archgym-area": Reciprocal("archgym-area", {"area_mm2": 1e6}),
        }

    @staticmethod
    def _check(workload: Workload) -> LayerWorkload:
        if not isinstance(workload, LayerWorkload):
            raise ArchGymError(f"mapping works on one layer, not on a {type(workload).__name__}; use load_workload()")
        return workload


def _pick(network: Network, layer: str | None) -> Layer:
    names = [known.name for known in network.layers]
    if layer is None:
        if len(names) == 1:
            return network.layers[0]
        raise ArchGymError(
            f"network {network.name!r} has {len(names)} layers; name one with the option layer ({names[0]!r}, ...)"
        )
    if layer not in names:
        raise UnknownNameError(f"layer of {network.name}", layer, names)
    return network.layers[names.index(layer)]
