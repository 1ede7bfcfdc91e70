"""What devices and energy cost: one table of assumed coefficients (``data/costs.json``), which a user replaces.

Nobody measured these coefficients. A ranking by cost should not rest on one of them: :func:`flips` says whether it
does, by moving each coefficient up and down by half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import parse_json, read_json

ASSUMED = "assumed prices"
"""What every output that rests on the table says."""
_YEAR_S = 365.25 * 24 * 3600
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Costs:
    """Assumed coefficients of cost and power.

    Attributes:
        base_usd, compute_usd_per_pflops, bandwidth_usd_per_tb_s, memory_usd_per_gb, link_usd_per_gb_s,
            nic_usd_per_gb_s: price of a device: constant, a PFLOP/s of dense bf16, a TB/s of memory bandwidth, a GB of
            memory, a GB/s and direction of the fast link and of the network.
        life_years: years over which the price is spread.
        electricity_usd_per_kwh, overhead_of_power: price of electricity; power of the building over that of devices.
        base_w, compute_w_per_pflops: power limit of a device that is designed rather than bought.
    """

    base_usd: float
    compute_usd_per_pflops: float
    bandwidth_usd_per_tb_s: float
    memory_usd_per_gb: float
    link_usd_per_gb_s: float
    nic_usd_per_gb_s: float
    life_years: float
    electricity_usd_per_kwh: float
    overhead_of_power: float
    base_w: float
    compute_w_per_pflops: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e12:
                raise ArchGymError(f"the cost coefficient {field.name} is {quote(value)}; expected a number from 0")
        if not self.life_years:
            raise ArchGymError("the cost coefficient life_years is 0; expected a positive number")

    def device_usd(
        self, flops: ArrayLike, bytes_per_s: ArrayLike, memory: ArrayLike, link: ArrayLike, nic: ArrayLike
    ) -> NDArray[np.float64]:
        """Price of devices, USD: dense bf16 FLOP/s, memory bytes/s, bytes, link and network bytes/s and direction."""
        figures = (np.asarray(x, dtype=np.float64) for x in (flops, bytes_per_s, memory, link, nic))
        p, b, m, k, n = figures
        return np.asarray(
            self.base_usd
            + self.compute_usd_per_pflops * p / 1e15
            + self.bandwidth_usd_per_tb_s * b / 1e12
            + self.memory_usd_per_gb * m / 1e9
            + self.link_usd_per_gb_s * k / 1e9
            + self.nic_usd_per_gb_s * n / 1e9
        )

    def device_w(self, flops: ArrayLike) -> NDArray[np.float64]:
        """Power limit of a designed device, W."""
        return np.asarray(self.base_w + self.compute_w_per_pflops * np.asarray(flops, dtype=np.float64) / 1e15)

    def usd(self, devices_usd: ArrayLike, seconds: ArrayLike, joules: ArrayLike) -> NDArray[np.float64]:
        """Cost of having devices of that price for some seconds, with the energy that they take."""
        energy = np.asarray(joules, dtype=np.float64) * self.overhead_of_power / _JOULES_PER_KWH
        rent = np.asarray(devices_usd, dtype=np.float64) * np.asarray(seconds, dtype=np.float64)
        return np.asarray(rent / (self.life_years * _YEAR_S) + energy * self.electricity_usd_per_kwh)


@cache
def _shipped() -> Costs:
    text = resources.files("archgym.simulators.llm").joinpath("data/costs.json").read_text(encoding="utf-8")
    return _made(parse_json(text, "data/costs.json"))


def _made(given: Mapping[str, Any]) -> Costs:
    return Costs(**{key: value for key, value in given.items() if key != "comment"})


def costs(given: str | Mapping[str, Any] | None = None) -> Costs:
    """The coefficients: those of the package, with some replaced by name, or by a JSON file of the same names
    (``file:PATH``)."""
    if given is None:
        return _shipped()
    if isinstance(given, str):
        if not given.startswith("file:"):
            raise ArchGymError(f"costs is {quote(given)}; give coefficients by name, or file:PATH of a JSON of them")
        given = read_json(Path(given[len("file:") :]), "cost table")
    if not isinstance(given, Mapping):
        raise ArchGymError("the cost table is no JSON object; expected coefficients by name")
    known = [field.name for field in fields(Costs)]
    for key in given:
        if key not in known and key != "comment":
            raise UnknownNameError("cost coefficient", str(key)[:80], known)
    return replace(_shipped(), **{key: value for key, value in given.items() if key != "comment"})


def flips(best: Callable[[Costs], Any], table: Costs, share: float = 0.5) -> list[str]:
    """Coefficients whose change by ``share`` up or down changes what ``best`` picks, each with the direction
    (``"memory_usd_per_gb -50 %"``); empty where the choice rests on none of them."""
    now = best(table)
    found = []
    for field in fields(table):
        for sign in (-1, 1):
            moved = replace(table, **{field.name: getattr(table, field.name) * (1 + sign * share)})
            if best(moved) != now:
                found.append(f"{field.name} {sign * share * 100:+.0f} %")
    return found
