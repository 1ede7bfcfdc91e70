"""Programs as simulators: a user's own, and well-known ones."""

from archgym.simulators.external.isolated import Violation
from archgym.simulators.external.program import Job, ProcessSimulator, ProcessWorkload

__all__ = ["Job", "ProcessSimulator", "ProcessWorkload", "Violation"]
