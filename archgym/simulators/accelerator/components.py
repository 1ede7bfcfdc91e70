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
takes the laws of a family from it, times ``scale``. Units: pJ a vector access (one row), pJ a cycle of leakage, um2.

``python -m archgym.simulators.accelerator.components`` prints how far the laws are from the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError

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

    rows: tuple[Mapping[str, Any], ...]
    laws: Mapping[str, Law]


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

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        def need(mapping: Mapping[str, Any], key: str, place: str) -> Any:
            if not isinstance(mapping, Mapping) or key not in mapping:
                raise ArchGymError(
                    f"the technology file {where} lacks {key!r} in {place}; see the existing files for its form"
                )
            return mapping[key]

        text = json.dumps(content, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.name = str(need(content, "name", "its top level"))
        self.source = str(content.get("source", ""))
        self.node_nm = float(need(content, "node_nm", "its top level"))
        self.classes: dict[str, str] = dict(need(content, "classes", "its top level"))
        base = technology(str(content["base"])) if "base" in content else None
        self.families: dict[str, Family] = {}
        for name, entry in need(content, "families", "its top level").items():
            if "laws" in entry:
                laws = {q: _law(need(entry["laws"], q, f"the laws of {name}"), where) for q in QUANTITIES}
            elif base is not None and name in base.families:
                scale = need(entry, "scale", f"family {name}")
                laws = {
                    q: base.families[name].laws[q].scaled(float(need(scale, q, f"the scale of {name}")))
                    for q in QUANTITIES
                }
            else:
                raise ArchGymError(
                    f"family {name!r} of the technology file {where} has no laws; give laws, or a base and a scale"
                )
            self.families[name] = Family(tuple(entry.get("rows", ())), laws)
        for kind, family in self.classes.items():
            if family not in self.families:
                raise UnknownNameError(f"family of class {kind!r} in {where}:", family, self.families)
        mac = need(content, "mac", "its top level")
        self.mac_pj = float(need(mac, "compute_pj", "mac"))
        self.mac_area_um2 = float(need(mac, "area_um2", "mac"))
        dram = need(content, "dram", "its top level")
        self.dram_read_pj_per_bit = float(need(dram, "read_pj_per_bit", "dram"))
        self.dram_write_pj_per_bit = float(need(dram, "write_pj_per_bit", "dram"))

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
        result = {quantity: np.array(family.laws[quantity](depth, width_bits)) for quantity in QUANTITIES}
        for row in family.rows:
            same = (depth == row["depth"]) & (width_bits == row["width_bits"])
            for quantity in QUANTITIES:
                if same.any() and row.get(quantity) is not None:
                    result[quantity][same] = row[quantity]
        return result


def _law(entry: Mapping[str, Any], where: str) -> Law:
    terms = []
    for term in entry["terms"]:
        powers = {name: float(power) for name, power in term.items() if name != "coefficient"}
        for name in powers:
            if name not in _VARIABLES:
                raise UnknownNameError(f"variable of a law in {where}:", name, _VARIABLES)
        terms.append((float(term["coefficient"]), tuple(powers.items())))
    return Law(
        tuple(terms),
        float(entry.get("depth_cap", np.inf)),
        float(entry.get("width_cap", np.inf)),
        float(entry.get("least_depth", 1.0)),
    )


def technologies() -> tuple[str, ...]:
    """Names of the technologies that come with the package."""
    folder = resources.files(__package__) / "technologies"
    return tuple(sorted(entry.name[: -len(".json")] for entry in folder.iterdir() if entry.name.endswith(".json")))


@lru_cache(maxsize=64)
def technology(name: str) -> Technology:
    """A technology by name, or ``file:PATH`` for the user's own file."""
    if name.startswith("file:"):
        path = Path(name[len("file:") :])
        try:
            return Technology(json.loads(path.read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise ArchGymError(f"cannot read the technology file {path}: {error.strerror}") from None
        except json.JSONDecodeError as error:
            raise ArchGymError(f"the technology file {path} is no JSON: {error.msg} in line {error.lineno}") from None
    if name not in technologies():
        raise UnknownNameError("technology", name, technologies())
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
                    if row.get(quantity):
                        fitted = row.get("fitted", True)
                        ours = float(family.laws[quantity](row["depth"], row["width_bits"]))
                        used = quantity in fitted if isinstance(fitted, list) else bool(fitted)
                        errors[used].append(abs(ours / row[quantity] - 1.0))
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


if __name__ == "__main__":
    print("| technology | family | quantity | rows | mean error | worst error | other rows | worst |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for e in fit_errors():
        other = f"{e.other_rows} | {e.other_worst:.1%}" if e.other_rows else "0 | -"
        print(
            f"| {e.technology} | {e.family} | {e.quantity} | {e.fitted_rows} | {e.mean_error:.1%} | "
            f"{e.worst_error:.1%} | {other} |"
        )
