"""One generic environment over any problem, alone (:class:`DesignEnv`) or as a batch (:class:`DesignVectorEnv`).

The classes are imported on first use, so that registering ids costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archgym.envs.registration import ENVIRONMENTS, register_environments

if TYPE_CHECKING:
    from archgym.envs.design_env import DesignEnv
    from archgym.envs.vector_env import DesignVectorEnv

__all__ = ["ENVIRONMENTS", "DesignEnv", "DesignVectorEnv", "register_environments"]


def __getattr__(name: str) -> Any:
    if name == "DesignEnv":
        from archgym.envs.design_env import DesignEnv

        return DesignEnv
    if name == "DesignVectorEnv":
        from archgym.envs.vector_env import DesignVectorEnv

        return DesignVectorEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
