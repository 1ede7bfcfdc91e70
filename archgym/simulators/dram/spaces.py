"""The design spaces of the memory controller, and designs as rows of the controller's own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archgym.space import Designs, DesignSpace, Inactive, Mask, Parameter

#: Values of the policies in the order of the controller's numbers.
POLICIES: Mapping[str, tuple[str, ...]] = {
    "PagePolicy": ("Open", "OpenAdaptive", "Closed", "ClosedAdaptive"),
    "Scheduler": ("Fifo", "FrFcfsGrp", "FrFcfs"),
    "SchedulerBuffer": ("Bankwise", "ReadWrite", "Shared"),
    "RespQueue": ("Fifo", "Reorder"),
    "RefreshPolicy": ("NoRefresh", "AllBank", "PerBank"),
    "Arbiter": ("Simple", "Fifo", "Reorder"),
}
#: The ten parameters in the order of the controller's row, by ArchGym's names.
NAMES = (
    "PagePolicy",
    "Scheduler",
    "SchedulerBuffer",
    "RequestBufferSize",
    "RespQueue",
    "RefreshPolicy",
    "RefreshMaxPostponed",
    "RefreshMaxPulledin",
    "Arbiter",
    "MaxActiveTransactions",
)
_DESCRIPTIONS = {
    "PagePolicy": "whether a row stays open after an access",
    "Scheduler": "which request a bank serves next",
    "SchedulerBuffer": "how the request buffer is shared: a bank, reads and writes apart, or all together",
    "RequestBufferSize": "entries of the request buffer (a bank, a direction or in all)",
    "RespQueue": "order of the responses: as data ends, or as requests were admitted",
    "RefreshPolicy": "no refresh, all banks of a rank at once, or single banks",
    "RefreshMaxPostponed": "refreshes that may be postponed under load",
    "RefreshMaxPulledin": "refreshes that may be done ahead when idle",
    "Arbiter": "how requests enter the controller",
    "MaxActiveTransactions": "requests in flight that the arbiter allows",
}
_UNITS = {"RequestBufferSize": "entries", "MaxActiveTransactions": "requests"}
POWERS = (1, 2, 4, 8, 16, 32, 64, 128)


def controller_parameters(
    sizes: Sequence[int],
    limits: Sequence[int],
    active: Sequence[int],
    refresh: Sequence[str] = ("NoRefresh", "AllBank"),
) -> list[Parameter]:
    """ArchGym's ten parameters with the given buffer sizes, refresh limits and transaction limits."""
    values: dict[str, Sequence[int | str]] = {
        **POLICIES,
        "RefreshPolicy": tuple(refresh),
        "RequestBufferSize": tuple(sizes),
        "RefreshMaxPostponed": tuple(limits),
        "RefreshMaxPulledin": tuple(limits),
        "MaxActiveTransactions": tuple(active),
    }
    return [
        Parameter(name, tuple(values[name]), name not in POLICIES, _UNITS.get(name, ""), _DESCRIPTIONS[name])
        for name in NAMES
    ]


def inactive_rules(parameters: Sequence[Parameter]) -> list[Inactive]:
    """Parameters without effect: refresh limits without refresh, the transaction limit under the Simple arbiter."""
    place = {parameter.name: j for j, parameter in enumerate(parameters)}
    none = parameters[place["RefreshPolicy"]].index("NoRefresh")
    simple = parameters[place["Arbiter"]].index("Simple")

    def without_refresh(designs: Designs) -> Mask:
        mask: Mask = designs[:, place["RefreshPolicy"]] == none
        return mask

    def simple_arbiter(designs: Designs) -> Mask:
        mask: Mask = designs[:, place["Arbiter"]] == simple
        return mask

    return [
        Inactive("RefreshMaxPostponed", without_refresh, "there is no refresh to postpone"),
        Inactive("RefreshMaxPulledin", without_refresh, "there is no refresh to pull in"),
        Inactive("MaxActiveTransactions", simple_arbiter, "the Simple arbiter has no transaction limit"),
    ]


def archgym_space() -> DesignSpace:
    """ArchGym's space as its ant colony searched it: 1,769,472 designs."""
    parameters = controller_parameters(range(1, 9), range(1, 9), POWERS)
    return DesignSpace(parameters, inactive=inactive_rules(parameters))


def archgym_rl_space() -> DesignSpace:
    """ArchGym's space as its RL agents and Vizier searched it: 442,368 designs."""
    parameters = controller_parameters(POWERS, (1, 2, 4, 8), POWERS)
    return DesignSpace(parameters, inactive=inactive_rules(parameters))


SPACES: Mapping[str, Callable[[], DesignSpace]] = {
    "archgym": archgym_space,
    "archgym-rl": archgym_rl_space,
}


def kernel_rows(space: DesignSpace, designs: Designs) -> NDArray[np.int64]:
    """Designs as rows of the controller: int64 ``(n, 10)``, policies as their place in ``POLICIES``, numbers as such."""
    rows = np.empty((len(designs), len(NAMES)), dtype=np.int64)
    for j, name in enumerate(NAMES):
        place = space.position(name)
        values = space.parameters[place].values
        if name in POLICIES:
            table = np.array([POLICIES[name].index(str(value)) for value in values], dtype=np.int64)
        else:
            table = np.array(values, dtype=np.int64)
        rows[:, j] = table[designs[:, place]]
    return rows
