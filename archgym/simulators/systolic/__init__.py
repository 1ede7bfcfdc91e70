"""Systolic arrays with SCALE-Sim's closed forms."""

from archgym.simulators.systolic.simulator import SystolicSimulator

__all__ = ["SystolicSimulator"]
