"""Search algorithms: one file an agent. ``make_agent("ga", problem, seed=0, population=32)`` makes one."""

from archgym.agents.base import Agent, Hyperparameters, Searcher, hyper, hyperparameter_ranges, make_agent
from archgym.agents.search import RunResult, search

__all__ = [
    "Agent",
    "Hyperparameters",
    "RunResult",
    "Searcher",
    "hyper",
    "hyperparameter_ranges",
    "make_agent",
    "search",
]
