"""Address maps: which bits of a byte address select channel, rank, bank group, bank, row and column.

A map is a list of bit positions a field, least significant first, and optional XOR pairs. Every bit belongs to
exactly one field; the lowest bits select the byte within the channel's width and the column within a burst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.dram.devices import Device

FIELDS = ("byte", "column", "bank_group", "bank", "rank", "channel", "row")

#: Orders of fields from the least significant bit up. ``burst`` is the part of the column inside a burst; channel bits
#: always lie directly above the burst, so that consecutive lines go to different channels.
ORDERS = {
    "rbc": ("column", "bank_group", "bank", "rank", "row"),
    "brc": ("column", "row", "bank_group", "bank", "rank"),
    "li": ("bank_group", "bank", "rank", "column", "row"),
}
MAP_NAMES = (*ORDERS, "li-xor")


@dataclass(frozen=True)
class AddressMap:
    """Where the fields of an address are.

    Attributes:
        name: for people.
        bits: field -> bit positions, least significant first.
        xor: pairs (a, b): bit a becomes a xor b before the fields are read.
    """

    name: str
    bits: Mapping[str, tuple[int, ...]]
    xor: tuple[tuple[int, int], ...] = ()

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.bits.items())), self.xor))

    def width(self, name: str) -> int:
        """Number of bits of a field."""
        return len(self.bits.get(name, ()))

    @property
    def capacity(self) -> int:
        """Bytes that the map covers."""
        return 1 << sum(len(bits) for bits in self.bits.values())

    def check(self, device: Device, ranks: int, channels: int) -> None:
        """Raise a sentence where the map does not fit the device; return None where it does."""
        used = sorted(bit for bits in self.bits.values() for bit in bits)
        if used != list(range(len(used))):
            twice = [bit for bit, other in pairwise(used) if bit == other]
            missing = sorted(set(range(used[-1] + 1 if used else 0)) - set(used))
            fault = f"bit {twice[0]} twice" if twice else f"no field for bit {missing[0]}" if missing else "no bits"
            raise ArchGymError(f"address map {self.name!r} has {fault}; every bit must belong to exactly one field")
        wanted = _widths(device, ranks, channels)
        for name in FIELDS:
            if self.width(name) != wanted[name]:
                raise ArchGymError(
                    f"address map {self.name!r} has {self.width(name)} {name} bits; {device.name} with {ranks} ranks "
                    f"and {channels} channels needs {wanted[name]}"
                )
        low = wanted["byte"] + _log2(device.burst_length)
        byte = self.bits.get("byte", ())
        lowest = (*byte, *self.bits["column"])[:low]
        if byte != tuple(range(len(byte))) or sorted(lowest) != list(range(low)):
            raise ArchGymError(
                f"address map {self.name!r} does not keep a burst together: bits 0..{low - 1} must be the byte bits "
                "and the lowest column bits"
            )
        for a, b in self.xor:
            if a not in used or b not in used or a == b or a < low:
                raise ArchGymError(f"address map {self.name!r} has the XOR pair ({a}, {b}); both must be mapped bits")

    def decode(self, address: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Fields of byte addresses, each int64 of the shape of ``address``."""
        mixed = address.copy()
        for a, b in self.xor:
            mixed ^= ((address >> b) & 1) << a
        return {
            name: sum(
                (((mixed >> bit) & 1) << place for place, bit in enumerate(self.bits.get(name, ()))),
                start=np.zeros_like(address),
            )
            for name in FIELDS
        }


def named_map(name: str, device: Device, ranks: int | None = None, channels: int = 1) -> AddressMap:
    """A map by name for a device: ``rbc`` (row above bank above column), ``brc`` (bank above row), ``li`` (consecutive
    lines in different bank groups and banks) and ``li-xor`` (``li`` with bank bits XORed with the lowest row bits).
    ``-rankN`` and ``-channelN`` behind the name move these fields to bit N and up."""
    ranks = device.ranks if ranks is None else ranks
    base, *places = name.split("-xor")[0].split("-")
    moves = [re.fullmatch(r"(rank|channel)(\d+)", place) for place in name.replace("-xor", "").split("-")[1:]]
    if base not in ORDERS or not all(moves):
        raise ArchGymError(f"unknown address map {name!r}; known: {', '.join(MAP_NAMES)}")
    del places
    widths = _widths(device, ranks, channels)
    burst = _log2(device.burst_length)
    order: list[tuple[str, int]] = [("byte", widths["byte"]), ("column", burst), ("channel", widths["channel"])]
    order += [(field, widths[field] - (burst if field == "column" else 0)) for field in ORDERS[base]]
    flat = [field for field, count in order for _ in range(count)]
    for move in moves:
        assert move is not None
        field, place = move[1], int(move[2])
        moved = [f for f in flat if f == field]
        rest = [f for f in flat if f != field]
        if place > len(rest):
            raise ArchGymError(f"address map {name!r} puts {field} bits above the last address bit {len(rest) - 1}")
        flat = rest[:place] + moved + rest[place:]
    bits: dict[str, list[int]] = {field: [] for field in FIELDS}
    for position, field in enumerate(flat):
        bits[field].append(position)
    xor: Sequence[tuple[int, int]] = ()
    if name.endswith("-xor"):
        mixed = bits["bank_group"] + bits["bank"]
        xor = tuple(zip(mixed, bits["row"], strict=False))
    result = AddressMap(name, {field: tuple(places) for field, places in bits.items()}, tuple(xor))
    result.check(device, ranks, channels)
    return result


def _log2(count: int) -> int:
    if count < 1 or count & (count - 1):
        raise ArchGymError(f"an address field counts {count} values; only powers of two can be mapped")
    return count.bit_length() - 1


def _widths(device: Device, ranks: int, channels: int) -> dict[str, int]:
    return {
        "byte": _log2(device.word_bytes),
        "column": _log2(device.columns),
        "bank_group": _log2(device.bank_groups),
        "bank": _log2(device.banks // device.bank_groups),
        "rank": _log2(ranks),
        "channel": _log2(channels),
        "row": _log2(device.rows),
    }
