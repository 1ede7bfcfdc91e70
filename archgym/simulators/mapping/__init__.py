"""The mapping of one layer on a two-level cluster machine: what GAMMA and ArchGym's MaestroGym search."""

from archgym.simulators.mapping.simulator import LayerWorkload, MappingSimulator

__all__ = ["LayerWorkload", "MappingSimulator"]
