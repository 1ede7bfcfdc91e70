"""One generic environment over any problem, alone (:class:`DesignEnv`) or as a batch (:class:`DesignVectorEnv`)."""

from archgym.envs.design_env import DesignEnv
from archgym.envs.registration import ENVIRONMENTS, register_environments
from archgym.envs.vector_env import DesignVectorEnv

__all__ = ["ENVIRONMENTS", "DesignEnv", "DesignVectorEnv", "register_environments"]
