"""Energy and area of storage, main memory and MACs as functions of class, depth and width, from technology files.

A technology is a JSON file in ``technologies/`` (or the user's own, ``file:PATH``). It names the component classes and
the family each belongs to; a family has the ``rows`` known from tables and ``laws`` for everything between. Where a
row has exactly the depth and width asked for, the row counts; else the law. A law is a sum of terms ``coefficient x
product of variable ** power`` over the variables

| variable | meaning |
| --- | --- |
| ``depth`` | rows, at least ``least_depth`` |
| ``width`` | bits of a row |
| ``capped_depth``, ``capped_width`` | the same, at most ``depth_cap``, ``width_cap`` |
| ``address_bits`` | ceil(log2(depth)) |

Below ``least_depth`` a law holds its value there: periphery does not shrink with the rows. A technology with a ``base``
takes the laws of a family from it, times ``scale``. Units: pJ a vector access (one row), pJ of leakage a cycle of one
nanosecond (mW), um2.

:func:`fit_errors` says how far the laws are from the rows; ``tools/component_errors.py`` prints it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, all_different, quote
from archgym.reading import checked, own_file, read_json

CLASSES = ("regfile", "smartbuffer_RF", "SRAM", "smartbuffer_SRAM")
"""The storage classes of the accelerator's space."""
QUANTITIES = ("read_pj", "write_pj", "leak_pj", "area_um2")
_VARIABLES = ("depth", "width", "capped_depth", "capped_width", "address_bits")


@dataclass(frozen=True)
class Law:
    """One quantity of a family as a sum of terms; see the module's first lines."""

    terms: tuple[tuple[float, tuple[tuple[str, float], ...]], ...]
    depth_cap: float = np.inf
    width_cap: float = np.inf
    least_depth: float = 1.0
    scale: float = 1.0

    def __call__(self, depth: ArrayLike, width_bits: ArrayLike) -> NDArray[np.float64]:
        """Values for arrays of depths and widths of one shape."""
        rows = np.maximum(np.asarray(depth, dtype=np.float64), self.least_depth)
        bits = np.asarray(width_bits, dtype=np.float64)
        values = {
            "depth": rows,
            "width": bits,
            "capped_depth": np.minimum(rows, self.depth_cap),
            "capped_width": np.minimum(bits, self.width_cap),
            "address_bits": np.ceil(np.log2(rows)),
        }
        total = np.zeros(np.broadcast_shapes(rows.shape, bits.shape))
        for coefficient, powers in self.terms:
            term = np.full(total.shape, coefficient)
            for variable, power in powers:
                term = term * values[variable] ** power
            total = total + term
        return total * self.scale

    def scaled(self, factor: float) -> Law:
        return Law(self.terms, self.depth_cap, self.width_cap, self.least_depth, self.scale * factor)


@dataclass(frozen=True)
class Family:
    """Storage of one kind: known rows and laws."""

    rows: tuple[_Row, ...]
    laws: Mapping[str, Law]


Positive = Annotated[float, msgspec.Meta(gt=0, le=1e18)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
Power = Annotated[float, msgspec.Meta(ge=-8, le=8)]


class _Term(msgspec.Struct, forbid_unknown_fields=True):
    """coefficient x product of variable ** power."""

    coefficient: Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
    depth: Power | None = None
    width: Power | None = None
    capped_depth: Power | None = None
    capped_width: Power | None = None
    address_bits: Power | None = None


class _LawEntry(msgspec.Struct, forbid_unknown_fields=True):
    terms: list[_Term]
    depth_cap: Positive = np.inf
    width_cap: Positive = np.inf
    least_depth: Annotated[float, msgspec.Meta(ge=1, le=1e18)] = 1.0
    note: str = ""


class _Laws(msgspec.Struct, forbid_unknown_fields=True):
    read_pj: _LawEntry
    write_pj: _LawEntry
    leak_pj: _LawEntry
    area_um2: _LawEntry


class _Scale(msgspec.Struct, forbid_unknown_fields=True):
    read_pj: Amount
    write_pj: Amount
    leak_pj: Amount
    area_um2: Amount


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """What a table says of one size; None where it says nothing."""

    depth: Positive
    width_bits: Positive
    read_pj: Amount | None = None
    write_pj: Amount | None = None
    leak_pj: Amount | None = None
    area_um2: Amount | None = None
    fitted: bool | list[str] = True  # whether the laws were fitted to the row, or which of them


class _FamilyEntry(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[_Row] = []
    laws: _Laws | None = None
    scale: _Scale | None = None
    note: str = ""


class _Mac(msgspec.Struct, forbid_unknown_fields=True):
    compute_pj: Amount
    area_um2: Amount
    source: str = ""
    note: str = ""


class _Dram(msgspec.Struct, forbid_unknown_fields=True):
    read_pj_per_bit: Amount
    write_pj_per_bit: Amount
    leak_pj: Amount = 0.0  # not counted, as the area of main memory is not
    area_um2: Amount = 0.0
    source: str = ""
    note: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What a technology file holds."""

    name: str
    node_nm: Positive
    classes: dict[str, str]
    families: dict[str, _FamilyEntry]
    mac: _Mac
    dram: _Dram
    source: str = ""
    base: str | None = None
    note: str = ""


class Technology:
    """The component library of one technology.

    Attributes:
        name, source, node_nm: as in the file.
        fingerprint: hash of what the file says.
        classes: storage class -> family.
        families: name -> :class:`Family`.
        mac_pj, mac_area_um2: of one multiply-accumulate unit.
        dram_read_pj_per_bit, dram_write_pj_per_bit: of main memory, whose area and leakage are not counted.
    """

    def __init__(self, content: Any, where: str) -> None:
        about = f"the technology file {where}"
        data: _File = checked(content, _File, about)
        self.fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        self.name, self.source, self.node_nm = data.name, data.source, data.node_nm
        self.classes: dict[str, str] = data.classes
        if data.base is not None and data.base not in technologies():
            raise UnknownNameError(f"base of {about}", data.base, technologies())
        base = technology(data.base) if data.base is not None else None
        self.families: dict[str, Family] = {}
        for name, entry in data.families.items():
            if entry.laws is not None and entry.scale is not None:
                raise ArchGymError(f"family {quote(name)} of {about} has laws and a scale; give one of them")
            sizes = [(row.depth, row.width_bits) for row in entry.rows]
            all_different(sizes, f"depth and width_bits of the rows of family {quote(name)} of {about}")
            if entry.laws is not None:
                laws = {quantity: _law(law) for quantity, law in _quantities(entry.laws)}
            elif base is not None and name in base.families and entry.scale is not None:
                known = base.families[name].laws
                laws = {quantity: known[quantity].scaled(factor) for quantity, factor in _quantities(entry.scale)}
            else:
                raise ArchGymError(
                    f"family {quote(name)} of {about} has no laws; give laws, or a base that has it and a scale"
                )
            self.families[name] = Family(tuple(entry.rows), laws)
        for kind in CLASSES:
            if kind not in self.classes:
                raise ArchGymError(f"{about} has no family for the storage class {kind!r}; name it in 'classes'")
        for kind, family in self.classes.items():
            if kind not in CLASSES:
                raise UnknownNameError(f"storage class of {about}", kind, CLASSES)
            if family not in self.families:
                raise UnknownNameError(f"family of class {quote(kind)} in {where}:", family, self.families)
        self.mac_pj, self.mac_area_um2 = data.mac.compute_pj, data.mac.area_um2
        self.dram_read_pj_per_bit = data.dram.read_pj_per_bit
        self.dram_write_pj_per_bit = data.dram.write_pj_per_bit

    def storage(self, kind: str, depth: ArrayLike, width_bits: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Read, write and leakage energy and area of buffers of one class.

        Args:
            kind: a storage class (``regfile``, ``smartbuffer_RF``, ``SRAM``, ``smartbuffer_SRAM``).
            depth, width_bits: rows and bits a row, arrays that broadcast to one shape.

        Returns:
            Quantity -> array of that shape.
        """
        if kind not in self.classes:
            raise UnknownNameError(f"storage class of technology {self.name!r}", kind, self.classes)
        depth, width_bits = np.broadcast_arrays(np.asarray(depth), np.asarray(width_bits))
        if depth.size and (depth.min() < 1 or width_bits.min() < 1):
            raise ArchGymError(
                f"a {kind} has {depth.min()} rows of {width_bits.min()} bits; expected at least 1 of each"
            )
        family = self.families[self.classes[kind]]
        with np.errstate(all="ignore"):
            result = {quantity: np.array(family.laws[quantity](depth, width_bits)) for quantity in QUANTITIES}
        for quantity, column in result.items():
            if not ((column >= 0) & np.isfinite(column)).all():
                raise ArchGymError(
                    f"technology {quote(self.name)} gives a {kind} a {quantity} below 0 or beyond all numbers"
                )
        for row in family.rows:
            same = (depth == row.depth) & (width_bits == row.width_bits)
            for quantity in QUANTITIES:
                if same.any() and getattr(row, quantity) is not None:
                    result[quantity][same] = getattr(row, quantity)
        return result


def _quantities(values: _Laws | _Scale) -> Iterator[tuple[str, Any]]:
    return ((quantity, getattr(values, quantity)) for quantity in QUANTITIES)


def _law(entry: _LawEntry) -> Law:
    terms = []
    for term in entry.terms:
        powers = {name: float(getattr(term, name)) for name in _VARIABLES if getattr(term, name) is not None}
        terms.append((term.coefficient, tuple(powers.items())))
    return Law(tuple(terms), entry.depth_cap, entry.width_cap, entry.least_depth)


def technologies() -> tuple[str, ...]:
    """Names of the technologies that come with the package."""
    folder = resources.files(__package__) / "technologies"
    return tuple(sorted(entry.name[: -len(".json")] for entry in folder.iterdir() if entry.name.endswith(".json")))


def technology(name: str) -> Technology:
    """A technology by name, or ``file:PATH`` for the user's own file, which is read anew each time."""
    if (path := own_file(name)) is not None:
        return Technology(read_json(path, "technology file", limit=4 << 20), str(path))
    return _shipped(name)


@lru_cache(maxsize=64)
def _shipped(name: str) -> Technology:
    if name not in technologies():
        raise UnknownNameError("technology", name, technologies(), own_file=True)
    text = (resources.files(__package__) / "technologies" / f"{name}.json").read_text(encoding="utf-8")
    return Technology(json.loads(text), f"{name}.json")


@dataclass(frozen=True)
class FitError:
    """Errors of one law over the rows it was fitted to, and over the others."""

    technology: str
    family: str
    quantity: str
    fitted_rows: int
    mean_error: float
    worst_error: float
    other_rows: int
    other_worst: float


def fit_errors(names: tuple[str, ...] | None = None) -> Iterator[FitError]:
    """Relative errors of every law against the rows of its technology."""
    for name in names or technologies():
        library = technology(name)
        for family_name, family in library.families.items():
            for quantity in ("read_pj", "write_pj", "area_um2"):
                errors: dict[bool, list[float]] = {True: [], False: []}
                for row in family.rows:
                    known = getattr(row, quantity)
                    if known:
                        ours = float(family.laws[quantity](row.depth, row.width_bits))
                        used = quantity in row.fitted if isinstance(row.fitted, list) else row.fitted
                        errors[used].append(abs(ours / known - 1.0))
                if errors[True]:
                    yield FitError(
                        name,
                        family_name,
                        quantity,
                        len(errors[True]),
                        float(np.mean(errors[True])),
                        max(errors[True]),
                        len(errors[False]),
                        max(errors[False], default=float("nan")),
                    )
