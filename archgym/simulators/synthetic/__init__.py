"""Test functions with known optima, behind the same interface as the hardware simulators."""

from archgym.simulators.synthetic.landscapes import LANDSCAPES, Landscape
from archgym.simulators.synthetic.simulator import Synthetic

__all__ = ["LANDSCAPES", "Landscape", "Synthetic"]
