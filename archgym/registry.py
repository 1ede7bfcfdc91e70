"""Names -> lazily imported simulators, agents, objectives and stand-ins, and what validates and measures them.

What comes with the package is listed here, one line each. Third parties add theirs with an entry point in the group
``archgym.simulators``, ``archgym.agents``, ``archgym.objectives``, ``archgym.stand_ins``, ``archgym.validators`` or
``archgym.benches`` (name = dotted path ``package.module:attribute``), or at run time with ``SIMULATORS.register("name", target)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError


class Registry(Mapping[str, str]):
    """A mapping of names to dotted paths (or objects) that imports a thing when it is first asked for."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind, self.group = kind, group
        self._targets: dict[str, Any] = dict(builtin)
        self._scanned = False

    def _all(self) -> dict[str, Any]:
        if not self._scanned:
            self._scanned = True
            from importlib.metadata import entry_points  # slow to import, and to scan a large installation with

            for point in entry_points(group=self.group):
                self._targets.setdefault(point.name, point.value)
        return self._targets

    def register(self, name: str, target: Any) -> None:
        """Add ``name``: a dotted path ``"package.module:attribute"`` or the object itself. Names are unique."""
        if name in self._all():
            raise ArchGymError(f"{self.kind} {name!r} is registered already; choose another name")
        if "/" in name or not name:
            raise ArchGymError(f"{name!r} cannot name a {self.kind}; use a non-empty name without a slash")
        self._targets[name] = target

    def unregister(self, name: str) -> None:
        """Remove ``name``."""
        self.load(name)
        del self._targets[name]

    def load(self, name: str) -> Any:
        """The registered object; unknown names raise a sentence with the nearest match."""
        targets = self._all()
        if name not in targets:
            raise UnknownNameError(self.kind, name, targets)
        target = targets[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(importlib.import_module(module), attribute)
            targets[name] = target
        return target

    def __getitem__(self, name: str) -> str:
        target = self._all()[name]
        return target if isinstance(target, str) else f"{target.__module__}:{getattr(target, '__qualname__', target)}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


SIMULATORS = Registry(
    "simulator",
    "archgym.simulators",
    {
        "dram": "archgym.simulators.dram:DramSimulator",
        "accelerator": "archgym.simulators.accelerator.simulator:AcceleratorSimulator",
        "mapping": "archgym.simulators.mapping:MappingSimulator",
        "systolic": "archgym.simulators.systolic:SystolicSimulator",
        "soc": "archgym.simulators.soc:SocSimulator",
        "nas": "archgym.simulators.nas:NasSimulator",
        "llm-serving": "archgym.simulators.llm.serving:LlmServing",
        "llm-training": "archgym.simulators.llm.training:LlmTrainingSimulator",
        "codesign": "archgym.simulators.codesign:CoDesignSimulator",
        "synthetic": "archgym.simulators.synthetic:Synthetic",
    },
)

AGENTS = Registry(
    "agent",
    "archgym.agents",
    {
        "random": "archgym.agents.random_search:RandomSearch",
        "sobol": "archgym.agents.sobol:SobolSearch",
        "grid": "archgym.agents.grid:GridSearch",
        "walk": "archgym.agents.random_walk:RandomWalk",
        "local": "archgym.agents.local_search:LocalSearch",
        "sa": "archgym.agents.simulated_annealing:SimulatedAnnealing",
        "ga": "archgym.agents.genetic:GeneticAlgorithm",
        "nsga2": "archgym.agents.nsga2:NSGA2",
        "nsga3": "archgym.agents.nsga3:NSGA3",
        "parego": "archgym.agents.parego:ParEGO",
        "re": "archgym.agents.regularized_evolution:RegularizedEvolution",
        "aco": "archgym.agents.ant_colony:AntColony",
        "mcts": "archgym.agents.tree_search:TreeSearch",
        "transfer": "archgym.agents.transfer:Transfer",
        "diffusion": "archgym.agents.diffusion:Diffusion",
        "bo": "archgym.agents.bayesian:BayesianOptimization",
        "mfbo": "archgym.agents.multi_fidelity_bayesian:MultiFidelityBayesian",
        "portfolio": "archgym.agents.portfolio:Portfolio",
        "hyperband": "archgym.agents.hyperband:Hyperband",
        "mfga": "archgym.agents.multi_fidelity_genetic:MultiFidelityGenetic",
        "bohb": "archgym.agents.bohb:BOHB",
        "cio": "archgym.agents.constrained_iterative:ConstrainedIterative",
        "botorch": "archgym.agents.botorch_agent:BoTorchOptimization",
        "qnehvi": "archgym.agents.qnehvi:ExpectedHypervolume",
        "reinforce": "archgym.agents.reinforce:Reinforce",
        "ppo-fast": "archgym.agents.ppo_fast:FastPPO",
        "tpe": "archgym.agents.optuna_agents:TPE",
        "cmaes": "archgym.agents.optuna_agents:CMAES",
        "ppo": "archgym.agents.sb3_agents:PPO",
        "maskable-ppo": "archgym.agents.sb3_agents:MaskablePPO",
        "a2c": "archgym.agents.sb3_agents:A2C",
        "dqn": "archgym.agents.sb3_agents:DQN",
        "sac": "archgym.agents.sb3_agents:SAC",
    },
)

# Agents that search one kind of space alone; AGENTS search any.
CELL_AGENTS = Registry(
    "agent of cells",
    "archgym.cell_agents",
    {
        "darts": "archgym.agents.differentiable:Darts",
        "darts2": "archgym.agents.differentiable:Darts2",
        "pc-darts": "archgym.agents.differentiable:PcDarts",
        "gdas": "archgym.agents.differentiable:Gdas",
        "snas": "archgym.agents.differentiable:Snas",
        "drnas": "archgym.agents.differentiable:DrNas",
        "rarts": "archgym.agents.differentiable:Rarts",
        "sd-darts": "archgym.agents.differentiable:SdDarts",
        "sharp": "archgym.agents.differentiable:Sharp",
        "proxyless": "archgym.agents.differentiable:Proxyless",
        "neas": "archgym.agents.ensemble_shrinking:EnsembleShrinking",
    },
)

OBJECTIVES = Registry("objective", "archgym.objectives", {})

STAND_INS = Registry("stand-in", "archgym.stand_ins", {"proxy": "archgym.proxies:load_proxy"})
"""What ``make_problem(simulator="KIND:WHAT")`` calls with WHAT and the true simulator, to get one that answers for it."""

VALIDATORS = Registry(
    "thing to validate",
    "archgym.validators",
    {
        "dram": "archgym.simulators.dram.validate:validate",
        "dram-event": "archgym.simulators.dram.validate:validate_event",
        "accelerator": "archgym.simulators.accelerator.validate:validate",
        "mapping": "archgym.simulators.mapping.validate:validate",
        "systolic": "archgym.simulators.systolic.validate:validate",
        "soc": "archgym.simulators.soc.validate:validate",
        "nas": "archgym.simulators.nas.validate:validate",
        "llm": "archgym.simulators.llm.validate:validate",
    },
)
"""What ``archgym validate NAME`` calls with a folder of reference data, to get groups (:class:`archgym.measure.Group`)."""

BENCHES = Registry(
    "thing to measure",
    "archgym.benches",
    {
        "dram": "archgym.simulators.dram.bench:bench",
        "accelerator": "archgym.simulators.accelerator.bench:bench",
        "mapping": "archgym.simulators.mapping.bench:bench",
        "systolic": "archgym.simulators.systolic.bench:bench",
        "soc": "archgym.simulators.soc.bench:bench",
        "nas": "archgym.simulators.nas.bench:bench",
        "llm": "archgym.simulators.llm.bench:bench",
        "agents": "archgym.agents.bench:bench",
        "proxy": "archgym.proxies.bench:bench",
        "env": "archgym.envs.bench:bench",
        "store": "archgym.store.bench:bench",
        "ui": "archgym.ui.bench:bench",
    },
)
"""What ``archgym bench NAME`` calls with a number of threads, to get figures (:class:`archgym.measure.Figure`)."""

EXPORTERS = Registry(
    "export format",
    "archgym.exporters",
    {
        "json": "archgym.exporting.values:JsonExporter",
        "csv": "archgym.exporting.values:CsvExporter",
        "dramsys4": "archgym.exporting.dramsys:Dramsys4Exporter",
        "dramsys5": "archgym.exporting.dramsys:Dramsys5Exporter",
        "dramsim3": "archgym.exporting.dramsim3:Dramsim3Exporter",
        "ramulator2": "archgym.exporting.ramulator2:Ramulator2Exporter",
        "scalesim": "archgym.exporting.scalesim:ScaleSimExporter",
        "timeloop": "archgym.exporting.timeloop:TimeloopExporter",
        "zigzag": "archgym.exporting.zigzag:ZigZagExporter",
        "maestro": "archgym.exporting.maestro:MaestroExporter",
        "megatron": "archgym.exporting.megatron:MegatronExporter",
        "vllm": "archgym.exporting.vllm:VllmExporter",
    },
)
"""Formats of ``archgym export``; see :class:`archgym.exporting.Exporter`."""
