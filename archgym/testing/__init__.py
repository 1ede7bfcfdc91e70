"""Contract checks, public: run them on your own simulator, agent or objective.

Each raises ``AssertionError`` with a sentence that says what was broken; it returns None where all holds.
"""

from archgym.testing.checks import (
    check_agent,
    check_copies,
    check_objective,
    check_resume,
    check_simulator,
    check_space,
)

__all__ = ["check_agent", "check_copies", "check_objective", "check_resume", "check_simulator", "check_space"]
