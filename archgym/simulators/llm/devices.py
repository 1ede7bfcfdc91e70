"""Devices: one accelerator with its memory, links and power; ``data/devices.json`` has the figures and their sources.

``device("h100")`` finds one by name or alias; ``device("file:PATH")`` reads a user's JSON of the same fields. Peaks are
dense FLOP/s, links are bytes a second and direction, sizes are bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from hashlib import blake2b
from importlib import resources

from archgym.errors import ArchGymError, UnknownNameError
from archgym.reading import own_file
from archgym.simulators.llm.models import from_fields, read_object

ELEMENT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}
"""Bytes of a weight by type; fp4 with its scales (one byte for sixteen values)."""
GIB = float(2**30)


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        name, title: short and full name.
        bf16_flops, fp8_flops, fp4_flops: dense peaks, FLOP/s; 0 where the type is not supported.
        mem_bytes, mem_bytes_per_s: memory and its bandwidth.
        tdp_w: power limit.
        node_devices: devices of a server.
        domain_devices: devices that the fast link joins (a server, or a rack).
        link_bytes_per_s: fast link of a device, one direction.
        nic_bytes_per_s: network of a device beyond the fast link, one direction.
        host_bytes_per_s: link to the host's memory, one direction.
        host_mem_bytes: memory of the host for a device, for what is moved out of the device's. [assumption]
        operators: whose fitted operator constants hold for it (see :mod:`archgym.simulators.llm.operators`).
        source: where the figures are from.
    """

    name: str
    bf16_flops: float
    mem_bytes: float
    mem_bytes_per_s: float
    tdp_w: float
    link_bytes_per_s: float
    nic_bytes_per_s: float
    fp8_flops: float = 0.0
    fp4_flops: float = 0.0
    node_devices: int = 8
    domain_devices: int = 8
    host_bytes_per_s: float = 32e9
    host_mem_bytes: float = 128 * GIB
    operators: str = "h100_sxm"
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in ("float", "int"):
                optional = field.name in ("fp8_flops", "fp4_flops")
                good = isinstance(value, (int, float)) and not isinstance(value, bool) and (0 <= value < 1e21)
                if not good or (value == 0 and not optional):
                    raise ArchGymError(
                        f"device {self.name[:40]!r}: {field.name} is {str(value)[:40]!r}; expected a positive number"
                    )
                if field.type == "int" and int(value) != value:
                    raise ArchGymError(f"device {self.name[:40]!r}: {field.name} is {value}; expected a whole number")
            elif not isinstance(value, str):
                raise ArchGymError(
                    f"device {str(self.name)[:40]!r}: {field.name} is {str(value)[:40]!r}; expected text"
                )
        if self.domain_devices < self.node_devices:
            raise ArchGymError(
                f"device {self.name[:40]!r}: a fast-link domain of {self.domain_devices} is smaller than its node "
                f"of {self.node_devices}"
            )

    def peak(self, precision: str) -> float:
        """Dense FLOP/s of ``bf16``, ``fp8`` or ``fp4``; 0 where the device does not have the type."""
        return float(getattr(self, f"{precision}_flops"))

    @property
    def fingerprint(self) -> str:
        """Hash of the figures."""
        figures = [getattr(self, field.name) for field in fields(self) if field.name not in ("name", "title", "source")]
        return blake2b(json.dumps(figures).encode(), digest_size=8).hexdigest()


@cache
def catalogue() -> Mapping[str, Device]:
    """The devices that come with the package, by name."""
    return {name: from_fields(Device, name, row, "device") for name, row in _rows().items()}


@cache
def _rows() -> dict[str, dict[str, object]]:
    text = resources.files(__package__).joinpath("data/devices.json").read_text(encoding="utf-8")
    rows: dict[str, dict[str, object]] = json.loads(text)
    return rows


@cache
def aliases() -> Mapping[str, str]:
    """Every name and other name of a device, in lower case -> its name."""
    found = {name.lower(): name for name in _rows()}
    for name, row in _rows().items():
        others = row.get("aliases", [])
        assert isinstance(others, list)
        found |= {str(other).lower(): name for other in others}
    return found


def device(name: str) -> Device:
    """A device by name or alias, or ``file:PATH`` for a user's JSON."""
    if (path := own_file(name)) is not None:
        found = read_object(path, "device")
        result = from_fields(Device, str(found.get("name", path.stem))[:80], found, "device")
        if result.operators not in catalogue():
            raise UnknownNameError("device with operator constants", result.operators, catalogue())
        return result
    known = aliases()
    if name.lower() not in known:
        raise UnknownNameError("device", name[:80], known, own_file=True)
    return catalogue()[known[name.lower()]]
