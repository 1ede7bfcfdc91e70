"""The environment ids, with string entry points, so that ``import archgym`` stays light."""

from __future__ import annotations

import gymnasium

ENVIRONMENTS: dict[str, str] = {
    "archgym/Dram-v0": "dram",
    "archgym/Accelerator-v0": "accelerator",
    "archgym/Mapping-v0": "mapping",
    "archgym/Systolic-v0": "systolic",
    "archgym/SoC-v0": "soc",
    "archgym/CellNas-v0": "nas",
    "archgym/LlmServing-v0": "llm-serving",
    "archgym/CoDesign-v0": "codesign",
    "archgym/LlmTraining-v0": "llm-training",
}
"""Environment id -> the simulator behind it."""


def register_environments() -> None:
    """Register every id with Gymnasium; doing it twice changes nothing."""
    for env_id, kind in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="archgym.envs.design_env:DesignEnv",
                vector_entry_point="archgym.envs.vector_env:DesignVectorEnv",
                kwargs={"kind": kind},
                disable_env_checker=True,
                order_enforce=False,
            )
