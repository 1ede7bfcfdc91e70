"""What devices cost: a linear law whose coefficients are assumptions, in one table that a user replaces.

``data/costs.json`` has them; ``costs="file:PATH"`` reads a JSON of the same fields (those left out keep their values).
A ranking by cost should not rest on one of them: :func:`flips` says whether it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import own_file
from archgym.simulators.llm.models import read_object

SECONDS_A_YEAR = 365.25 * 24 * 3600
JOULES_A_KWH = 3.6e6
BASE_W, W_PER_PFLOPS = 310.0, 376.0
"""Power limit of a designed device: least squares over the data sheets of ``data/devices.json`` (at worst 27 % off);
memory bandwidth adds nothing there."""


@dataclass(frozen=True)
class Costs:
    """Coefficients of cost, all of them assumptions.

    Attributes:
        usd_per_device: of a device with its share of the server, USD.
        usd_per_pflops: a PFLOP/s of bf16.
        usd_per_tb_per_s: a TB/s of memory bandwidth.
        usd_per_gb: a GB (1e9 bytes) of memory.
        usd_per_link_gb_per_s, usd_per_nic_gb_per_s: a GB/s of the fast link and of the network.
        years: over which the price is written off.
        used_share: share of that time in use.
        usd_per_kwh: of electricity.
        power_overhead: power of the building over that of the devices.
    """

    usd_per_device: float
    usd_per_pflops: float
    usd_per_tb_per_s: float
    usd_per_gb: float
    usd_per_link_gb_per_s: float
    usd_per_nic_gb_per_s: float
    years: float
    used_share: float
    usd_per_kwh: float
    power_overhead: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12
            if not good or (value == 0 and name in ("years", "used_share")):
                raise ArchGymError(f"the cost {name} is {quote(value)}; expected a number from 0 up")

    def device_usd(
        self, flops: ArrayLike, mem_rate: ArrayLike, mem: ArrayLike, link: ArrayLike, nic: ArrayLike
    ) -> NDArray[np.float64]:
        """Price of a device in USD from its bf16 FLOP/s, memory byte/s and bytes, link and NIC byte/s."""
        flops, mem_rate, mem, link, nic = (np.asarray(x, dtype=np.float64) for x in (flops, mem_rate, mem, link, nic))
        return np.asarray(
            self.usd_per_device
            + self.usd_per_pflops * flops / 1e15
            + self.usd_per_tb_per_s * mem_rate / 1e12
            + self.usd_per_gb * mem / 1e9
            + self.usd_per_link_gb_per_s * link / 1e9
            + self.usd_per_nic_gb_per_s * nic / 1e9
        )

    def usd_per_s(self, device_usd: ArrayLike, watts: ArrayLike) -> NDArray[np.float64]:
        """What a device costs a second of use: its price written off, and its electricity."""
        price = np.asarray(device_usd, dtype=np.float64) / (self.years * SECONDS_A_YEAR * self.used_share)
        return price + np.asarray(watts, dtype=np.float64) * self.power_overhead * self.usd_per_kwh / 3.6e6

    def usd(self, devices_usd: ArrayLike, seconds: ArrayLike, joules: ArrayLike) -> NDArray[np.float64]:
        """What devices of that price cost for some seconds of use, with the energy that they take."""
        joules = np.asarray(joules, dtype=np.float64)
        price = np.asarray(devices_usd, dtype=np.float64) / (self.years * SECONDS_A_YEAR * self.used_share)
        return np.asarray(price * np.asarray(seconds) + joules * self.power_overhead * self.usd_per_kwh / JOULES_A_KWH)

    def scaled(self, name: str, factor: float) -> Costs:
        """The same with one coefficient times ``factor``."""
        return replace(self, **{name: getattr(self, name) * factor})


@cache
def _stated() -> Mapping[str, float]:
    text = resources.files("archgym.simulators.llm").joinpath("data/costs.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return {field.name: float(found[field.name]) for field in fields(Costs)}


def costs(source: str | Mapping[str, Any] = "") -> Costs:
    """The package's coefficients, with some replaced: by name, or by those of ``file:PATH``."""
    if isinstance(source, str):
        if not source:
            return Costs(**_stated())
        path = own_file(source)
        if path is None:
            raise ArchGymError(
                f"costs is {quote(source)}; expected file:PATH of a JSON object with coefficients of cost"
            )
        source = read_object(path, "file of costs")
    given = {name: value for name, value in source.items() if name != "comment"}
    for name in given:
        if name not in _stated():
            raise UnknownNameError("coefficient of cost", str(name)[:80], _stated())
    return Costs(**{**_stated(), **given})


def design_w(flops: ArrayLike) -> NDArray[np.float64]:
    """Power limit of designed devices, W, from their dense bf16 FLOP/s."""
    return np.asarray(BASE_W + W_PER_PFLOPS * np.asarray(flops, dtype=np.float64) / 1e15)


def flips(best: Callable[[Costs], Any], table: Costs, share: float = 0.5) -> list[str]:
    """Coefficients whose change by ``share`` up or down changes what ``best`` picks, each with the direction
    (``"usd_per_gb -50 %"``); empty where the choice rests on none of them."""
    now = best(table)
    found = []
    for name in asdict(table):
        for sign in (-1, 1):
            if best(table.scaled(name, 1 + sign * share)) != now:
                found.append(f"{name} {sign * share * 100:+.0f} %")
    return found
