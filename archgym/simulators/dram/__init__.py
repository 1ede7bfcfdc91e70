"""The DRAM memory-controller simulator: ``DramSimulator`` and its workload ``Trace``."""

from archgym.simulators.dram.simulator import DramSimulator
from archgym.simulators.dram.trace import Trace

__all__ = ["DramSimulator", "Trace"]
