"""Cell-NAS: neural cells as designs, their accuracy and cost. See :mod:`archgym.simulators.nas.simulator`."""

from archgym.simulators.nas.simulator import NasSimulator

__all__ = ["NasSimulator"]
