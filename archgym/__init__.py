"""archgym: design hardware with machine learning, behind one step/reset API.

``import archgym`` registers the environments with Gymnasium and imports neither torch nor scikit-learn.
"""

from archgym._version import __version__
from archgym.caching import find_place
from archgym.envs.registration import register_environments
from archgym.errors import ArchGymError
from archgym.problem import Problem, make_problem
from archgym.registry import AGENTS, OBJECTIVES, SIMULATORS
from archgym.space import Constraint, DesignSpace, Inactive, Parameter

__all__ = [
    "AGENTS",
    "OBJECTIVES",
    "SIMULATORS",
    "ArchGymError",
    "Constraint",
    "DesignSpace",
    "Inactive",
    "Parameter",
    "Problem",
    "__version__",
    "make_problem",
    "register_environments",
]

find_place()
register_environments()
