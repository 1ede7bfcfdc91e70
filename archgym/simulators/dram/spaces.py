"""The design spaces of the memory controller, and designs as rows of the controller's own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.addressmap import MAP_NAMES
from archgym.simulators.dram.devices import Device, devices
from archgym.space import Constraint, Designs, DesignSpace, Inactive, Mask, Parameter

#: Values of the policies in the order of the controller's numbers.
POLICIES: Mapping[str, tuple[str, ...]] = {
    "PagePolicy": ("Open", "OpenAdaptive", "Closed", "ClosedAdaptive"),
    "Scheduler": ("Fifo", "FrFcfsGrp", "FrFcfs"),
    "SchedulerBuffer": ("Bankwise", "ReadWrite", "Shared"),
    "RespQueue": ("Fifo", "Reorder"),
    "RefreshPolicy": ("NoRefresh", "AllBank", "PerBank"),
    "Arbiter": ("Simple", "Fifo", "Reorder"),
    "PowerDownPolicy": ("NoPowerDown", "Staggered"),
    "CmdMux": ("Oldest", "Strict"),
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
#: The two further columns of the general controller's row.
WIDE_NAMES = (*NAMES, "PowerDownPolicy", "CmdMux")
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
    "PowerDownPolicy": "whether idle ranks are put to sleep, deeper with every refresh that finds them idle",
    "CmdMux": "which bank's command is issued: the oldest request's, or column commands strictly in order",
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
    descriptions = dict(_DESCRIPTIONS)
    if "NoRefresh" in refresh:
        descriptions["RefreshPolicy"] += (
            "; without refresh a memory loses its data, so that NoRefresh is for comparison only"
        )
    return [
        Parameter(name, tuple(values[name]), name not in POLICIES, _UNITS.get(name, ""), descriptions[name])
        for name in NAMES
    ]


def inactive_rules(parameters: Sequence[Parameter]) -> list[Inactive]:
    """Parameters without effect: refresh limits without refresh, the transaction limit under the Simple arbiter."""
    place = {parameter.name: j for j, parameter in enumerate(parameters)}
    policies = parameters[place["RefreshPolicy"]].values
    none = policies.index("NoRefresh") if "NoRefresh" in policies else -1
    simple = parameters[place["Arbiter"]].index("Simple")

    def without_refresh(designs: Designs) -> Mask:
        mask: Mask = designs[:, place["RefreshPolicy"]] == none
        return mask

    def simple_arbiter(designs: Designs) -> Mask:
        mask: Mask = designs[:, place["Arbiter"]] == simple
        return mask

    refreshless = [
        Inactive("RefreshMaxPostponed", without_refresh, "there is no refresh to postpone"),
        Inactive("RefreshMaxPulledin", without_refresh, "there is no refresh to pull in"),
    ]
    return [
        *(refreshless if none >= 0 else ()),
        Inactive("MaxActiveTransactions", simple_arbiter, "the Simple arbiter has no transaction limit"),
    ]


def deployable_space(device: Device) -> DesignSpace:
    """ArchGym's ten parameters without NoRefresh: 884,736 designs on DDR; twice as many on a memory that can also refresh
    single banks."""
    refresh = ("AllBank", "PerBank") if device.supports_per_bank_refresh else ("AllBank",)
    parameters = controller_parameters(range(1, 9), range(1, 9), POWERS, refresh)
    return DesignSpace(parameters, inactive=inactive_rules(parameters))


def archgym_space() -> DesignSpace:
    """ArchGym's space as its ant colony searched it, with controllers that never refresh: 1,769,472 designs."""
    parameters = controller_parameters(range(1, 9), range(1, 9), POWERS)
    return DesignSpace(parameters, inactive=inactive_rules(parameters))


def archgym_rl_space() -> DesignSpace:
    """ArchGym's space as its RL agents and Vizier searched it: 442,368 designs."""
    parameters = controller_parameters(POWERS, (1, 2, 4, 8), POWERS)
    return DesignSpace(parameters, inactive=inactive_rules(parameters))


def wide_space(highest_address: int = 0) -> DesignSpace:
    """The controller together with its memory: device, address map, channels, ranks, power-down, larger buffers.

    Args:
        highest_address: of the trace; designs with less memory break the constraint ``capacity``.
    """
    known = devices()
    memory = [
        Parameter("Device", tuple(known), False, "", "speed grade and kind of the memory"),
        Parameter("AddressMap", MAP_NAMES, False, "", "which address bits select row, bank and column"),
        Parameter("Channels", (1, 2, 4), True, "channels", "independent controllers"),
        Parameter("Ranks", (1, 2), True, "ranks", "ranks of a channel"),
    ]
    own = controller_parameters(
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128), range(1, 9), POWERS, POLICIES["RefreshPolicy"]
    )
    own += [Parameter(name, POLICIES[name], False, "", _DESCRIPTIONS[name]) for name in WIDE_NAMES[len(NAMES) :]]
    parameters = [*memory, *own]
    place = {parameter.name: j for j, parameter in enumerate(parameters)}

    def at(name: str, value: str) -> Callable[[Designs], Mask]:
        j = place[name]
        index = parameters[j].index(value)
        return lambda designs: np.asarray(designs[:, j] == index)

    per_bank = np.array([device.supports_per_bank_refresh for device in known.values()])
    power_down = np.array([device.supports_power_down for device in known.values()])
    capacity = np.array([device.rank_bytes for device in known.values()], dtype=np.float64)
    channels, ranks = np.array(memory[2].values), np.array(memory[3].values)

    def enough(designs: Designs) -> Mask:
        bytes_ = capacity[designs[:, 0]] * channels[designs[:, 2]] * ranks[designs[:, 3]]
        return np.asarray(highest_address < bytes_)

    strict, fifo = at("CmdMux", "Strict"), at("Scheduler", "Fifo")
    of_banks, sleeps = at("RefreshPolicy", "PerBank"), at("PowerDownPolicy", "Staggered")
    constraints = [
        Constraint(
            "refresh_supported",
            "refresh of single banks needs LPDDR4 or HBM2",
            lambda designs: ~of_banks(designs) | per_bank[designs[:, 0]],
        ),
        Constraint(
            "power_down_supported",
            "power-down is modelled for DDR3 and DDR4",
            lambda designs: ~sleeps(designs) | power_down[designs[:, 0]],
        ),
        Constraint(
            "strict_fifo",
            "the Strict command multiplexer needs the Fifo scheduler, with others it deadlocks",
            lambda designs: ~strict(designs) | fifo(designs),
        ),
        Constraint("capacity", "the memory must hold every address of the trace", enough),
    ]
    return DesignSpace(parameters, constraints, inactive_rules(parameters))


USUAL: Mapping[str, int | str] = {
    "PagePolicy": "Open",
    "Scheduler": "FrFcfs",
    "SchedulerBuffer": "Bankwise",
    "RequestBufferSize": 8,
    "RespQueue": "Fifo",
    "RefreshPolicy": "AllBank",
    "RefreshMaxPostponed": 8,
    "RefreshMaxPulledin": 8,
    "Arbiter": "Simple",
    "MaxActiveTransactions": 128,
    "PowerDownPolicy": "NoPowerDown",
    "CmdMux": "Oldest",
}
"""The usual controller, to compare with: DRAMSys' own configuration of open pages and FR-FCFS."""
LOSES_DATA = (
    "NoRefresh: a DRAM that is never refreshed loses its data within some tens of milliseconds, so that no memory can be "
    "built like this; the space 'deployable' leaves it out"
)

SPACES: Mapping[str, Callable[..., DesignSpace]] = {
    "deployable": deployable_space,
    "archgym": archgym_space,
    "archgym-rl": archgym_rl_space,
    "wide": wide_space,
}


def usual_row() -> NDArray[np.int64]:
    """:data:`USUAL` as a row of the controller, int64 ``(12,)``."""
    return np.array([POLICIES[n].index(str(USUAL[n])) if n in POLICIES else USUAL[n] for n in WIDE_NAMES], np.int64)


def kernel_rows(space: DesignSpace, designs: Designs) -> NDArray[np.int64]:
    """Designs as rows of the controller: int64 ``(n, 12)``, policies as their place in ``POLICIES``, numbers as such.
    Columns that the space does not have are 0 (no power-down, the Oldest multiplexer)."""
    rows = np.zeros((len(designs), len(WIDE_NAMES)), dtype=np.int64)
    for column, place, table in _tables(space):
        rows[:, column] = table[designs[:, place]]
    return rows


@lru_cache(maxsize=16)
def _tables(space: DesignSpace) -> tuple[tuple[int, int, NDArray[np.int64]], ...]:
    """Column of the row, position in the space, and the row's number for each value index."""
    tables = []
    for column, name in enumerate(WIDE_NAMES):
        if name in space.names:
            place = space.position(name)
            values = space.parameters[place].values
            numbers = [POLICIES[name].index(str(value)) if name in POLICIES else int(value) for value in values]
            tables.append((column, place, np.array(numbers, dtype=np.int64)))
    return tuple(tables)
