"""Operators: run times of matrix products, attention, experts and collectives on a device.

Two ways, one interface. *Closed forms* (:mod:`archgym.simulators.llm.kernels.operators`) take rows of constants that
``archgym llm fit`` fitted to measured tables; the constants and their errors are in ``data/operators.json``. *Tables*
correct the closed forms by the measured times of a folder of reference data, interpolated between the measured shapes
(so that what lies beyond them follows the closed form).

``Operators(device("h100"))`` gives the rows for kernels (:meth:`Operators.gemm_row`, ...) and times as NumPy columns
(:meth:`Operators.gemm`, ...). Devices without a fit of their own use that of the device named in their record, scaled
by their peaks and bandwidths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulators.llm.devices import ELEMENT_BYTES, Device
from archgym.simulators.llm.kernels import operators as kernels

Row = NDArray[np.float64]
PRECISIONS = ("bf16", "fp8", "fp4")
TYPE_NAMES = {"bfloat16": "bf16", "float16": "bf16", "fp16": "bf16", "fp8": "fp8", "nvfp4": "fp4"}
"""Names of types in the reference tables -> precision."""
HOP_S = 5e-6
"""Seconds that a message takes between two nodes. [assumption]"""
NIC_SHARE = 0.85
"""Share of the NICs' rate that collectives between nodes reach. [assumption]"""


@cache
def constants() -> Mapping[str, Any]:
    """The fitted constants: operator -> ``device/type`` (collectives: ``device/impl/op``) -> constants and errors."""
    text = resources.files(__package__).joinpath("data/operators.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass(frozen=True)
class Grid:
    """Logarithms of measured over closed time on a grid; see :func:`kernels.operators.corrected`."""

    x: Row
    y: Row
    z: Row
    values: NDArray[np.float64]

    @staticmethod
    def none() -> Grid:
        """No correction."""
        return Grid(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros((1, 1, 1)))

    @staticmethod
    def of(points: NDArray[np.float64], log_ratios: NDArray[np.float64]) -> Grid:
        """A grid from scattered points ``(n, 3)``: the distinct coordinates are the axes; nodes that were not measured
        take the mean of their nearest measured neighbours."""
        if not len(points):
            return Grid.none()
        axes = [np.unique(points[:, j]) for j in range(3)]
        index = [np.searchsorted(axis, points[:, j]) for j, axis in enumerate(axes)]
        shape = tuple(len(axis) for axis in axes)
        total, count = np.zeros(shape), np.zeros(shape)
        np.add.at(total, tuple(index), log_ratios)
        np.add.at(count, tuple(index), 1.0)
        values = np.where(count > 0, total / np.maximum(count, 1), 0.0)
        missing = np.argwhere(count == 0)
        if len(missing):
            from scipy.spatial import cKDTree

            known = np.argwhere(count > 0)
            span = np.array([max(np.ptp(axis), 1e-9) for axis in axes])
            where = np.stack([axes[j][known[:, j]] for j in range(3)], axis=1) / span
            asked = np.stack([axes[j][missing[:, j]] for j in range(3)], axis=1) / span
            near = min(4, len(known))
            distance, neighbour = cKDTree(where).query(asked, k=near)
            distance, neighbour = distance.reshape(len(asked), near), neighbour.reshape(len(asked), near)
            weight = 1.0 / np.maximum(distance, 1e-9)
            near_values = values[tuple(known[neighbour].transpose(2, 0, 1))]
            values[tuple(missing.T)] = (weight * near_values).sum(axis=1) / weight.sum(axis=1)
        return Grid(axes[0], axes[1], axes[2], values)


class Operators:
    """The operators of one device.

    Args:
        device: the device.
        tables: folder of reference data (``ref/llm`` or its ``ops``) whose measured times correct the closed forms;
            closed forms alone where None.
    """

    def __init__(self, device: Device, tables: Path | None = None) -> None:
        self.device = device
        self.measured = _measured(Path(tables), device.name) if tables is not None else {}

    # --- rows for kernels ------------------------------------------------------------------------------------------

    def has(self, operator: str, key: str) -> bool:
        """Whether the device, or the one it scales, has constants of this operator and type."""
        table = constants()[operator]
        return any(f"{name}/{key}" in table for name in (self.device.name, self.device.operators, "h100_sxm"))

    def fit(self, operator: str, key: str) -> Mapping[str, float]:
        """Constants of an operator and type: the device's own, else those of the device that it scales."""
        table = constants()[operator]
        for name in (self.device.name, self.device.operators, "h100_sxm"):
            if f"{name}/{key}" in table:
                found: Mapping[str, float] = table[f"{name}/{key}"]["constants"]
                return found
        raise ArchGymError(f"there are no constants of {operator} for {key!r} in data/operators.json")

    def gemm_row(self, precision: str = "bf16") -> Row:
        """Constants of :func:`kernels.operators.gemm_s`."""
        return gemm_row(self.fit("gemm", precision), self.device, precision)

    def prefill_row(self, precision: str = "bf16") -> Row:
        """Constants of :func:`kernels.operators.attention_prefill_s`."""
        return attention_row(self.fit("attention_prefill", "bf16"), self.device, ELEMENT_BYTES[precision])

    def decode_row(self, precision: str = "bf16") -> Row:
        """Constants of :func:`kernels.operators.attention_decode_s`; ``precision`` is the cache's."""
        return attention_row(self.fit("attention_decode", "bf16"), self.device, ELEMENT_BYTES[precision])

    def moe_row(self, precision: str = "bf16") -> Row:
        """Constants of :func:`kernels.operators.moe_s`."""
        return moe_row(self.fit("moe", precision), self.device, precision)

    def collective_row(self, op: str, impl: str = "nccl") -> Row:
        """Constants of :func:`kernels.operators.collective_s` for one operation and library (``nccl``,
        ``vllm_graph``, ``vllm_eager``; the library's own where it has the operation, else NCCL's)."""
        if op not in kernels.COLLECTIVES:
            raise UnknownNameError("collective", op, kernels.COLLECTIVES)
        for name in (self.device.name, self.device.operators):
            for library in (impl, "nccl"):
                if f"{name}/{library}/{op}" in constants()["collectives"]:
                    return collective_row(constants()["collectives"][f"{name}/{library}/{op}"]["constants"])
        return collective_row(constants()["collectives"][f"h100_sxm/nccl/{op}"]["constants"])

    def collective_rows(self, impl: str = "nccl") -> NDArray[np.float64]:
        """The rows of all operations in the order of ``kernels.operators.COLLECTIVES``."""
        return np.stack([self.collective_row(op, impl) for op in kernels.COLLECTIVES])

    # --- corrections -----------------------------------------------------------------------------------------------

    def gemm_grid(self, precision: str = "bf16") -> Grid:
        """Corrections over (log2 m, log2 n, log2 k)."""
        rows = self.measured.get(("gemm", precision))
        if rows is None:
            return Grid.none()
        closed = _gemm(self.gemm_row(precision), rows["m"], rows["n"], rows["k"])
        points = np.log2(np.stack([rows["m"], rows["n"], rows["k"]], axis=1))
        return Grid.of(points, np.log(rows["time_s"] / closed))

    def prefill_grid(self) -> Grid:
        """Corrections over (log2 tokens of a sequence, log2 batch * heads, log2 heads / kv heads)."""
        rows = self.measured.get(("attention_prefill", "bf16"))
        if rows is None:
            return Grid.none()
        closed = self.attention_prefill(rows["batch"], rows["heads"], rows["kv_heads"], rows["seq"], table=False)
        points = np.stack([rows["seq"], rows["batch"] * rows["heads"], rows["heads"] / rows["kv_heads"]], axis=1)
        return Grid.of(np.log2(points), np.log(rows["time_s"] / closed))

    def decode_grid(self) -> Grid:
        """Corrections over (log2 context, log2 batch * kv heads, log2 heads / kv heads)."""
        rows = self.measured.get(("attention_decode", "bf16"))
        if rows is None:
            return Grid.none()
        closed = self.attention_decode(rows["batch"], rows["heads"], rows["kv_heads"], rows["seq"], table=False)
        points = np.stack([rows["seq"], rows["batch"] * rows["kv_heads"], rows["heads"] / rows["kv_heads"]], axis=1)
        return Grid.of(np.log2(points), np.log(rows["time_s"] / closed))

    # --- times as columns ------------------------------------------------------------------------------------------

    def gemm(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, precision: str = "bf16") -> NDArray[np.float64]:
        """Seconds of products (m, k) x (k, n); the arguments broadcast."""
        m, n, k = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (m, n, k)))
        time = _gemm(self.gemm_row(precision), m, n, k)
        return self._corrected(time, self.gemm_grid(precision), np.log2(m), np.log2(n), np.log2(k))

    def attention_prefill(
        self,
        batch: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        tokens: ArrayLike,
        past: ArrayLike = 0.0,
        head_dim: float = 128.0,
        table: bool = True,
    ) -> NDArray[np.float64]:
        """Seconds of causal attention over ``tokens`` new tokens each of ``batch`` sequences."""
        batch, heads, kv_heads, tokens, past = np.broadcast_arrays(
            *(np.asarray(x, dtype=np.float64) for x in (batch, heads, kv_heads, tokens, past))
        )
        row = self.prefill_row()
        time = np.array(
            [
                kernels.attention_prefill_s(row, b, a, kv, head_dim, t, p, 0.0)
                for b, a, kv, t, p in zip(batch.flat, heads.flat, kv_heads.flat, tokens.flat, past.flat, strict=True)
            ]
        ).reshape(batch.shape)
        if not table:
            return time
        return self._corrected(
            time, self.prefill_grid(), np.log2(tokens), np.log2(batch * heads), np.log2(heads / kv_heads)
        )

    def attention_decode(
        self,
        batch: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        context: ArrayLike,
        head_dim: float = 128.0,
        table: bool = True,
    ) -> NDArray[np.float64]:
        """Seconds of attention of one new token each of ``batch`` sequences over ``context`` cached tokens."""
        batch, heads, kv_heads, context = np.broadcast_arrays(
            *(np.asarray(x, dtype=np.float64) for x in (batch, heads, kv_heads, context))
        )
        row = self.decode_row()
        time = np.array(
            [
                kernels.attention_decode_s(row, b, a, kv, head_dim, t, 0.0)
                for b, a, kv, t in zip(batch.flat, heads.flat, kv_heads.flat, context.flat, strict=True)
            ]
        ).reshape(batch.shape)
        if not table:
            return time
        return self._corrected(
            time, self.decode_grid(), np.log2(context), np.log2(batch * kv_heads), np.log2(heads / kv_heads)
        )

    def collective(
        self, op: str, members: ArrayLike, message: ArrayLike, impl: str = "nccl", inside: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Seconds of a collective of ``message`` bytes over ``members`` devices, ``inside`` of them in a node (as
        many as the fast link joins where None)."""
        members, message = np.broadcast_arrays(
            np.asarray(members, dtype=np.float64), np.asarray(message, dtype=np.float64)
        )
        local = np.minimum(members, self.device.domain_devices if inside is None else np.asarray(inside, np.float64))
        row, number = self.collective_row(op, impl), kernels.COLLECTIVES.index(op)
        link, nic = self.device.link_bytes_per_s, self.device.nic_bytes_per_s
        return np.array(
            [
                kernels.collective_s(row, number, n, i, y, link, nic, HOP_S)
                for n, i, y in zip(members.flat, local.flat, message.flat, strict=True)
            ]
        ).reshape(members.shape)

    def _corrected(
        self,
        time: NDArray[np.float64],
        grid: Grid,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        z: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        if grid.values.size == 1:
            return time
        arguments = zip(time.flat, x.flat, y.flat, z.flat, strict=True)
        return np.array(
            [kernels.corrected(t, grid.x, grid.y, grid.z, grid.values, a, b, c) for t, a, b, c in arguments]
        ).reshape(time.shape)


def _gemm(row: Row, m: NDArray[np.float64], n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    # The compiled function takes scalars and is plain arithmetic; columns go through it one by one.
    return np.array([kernels.gemm_s(row, *sizes) for sizes in zip(m.flat, n.flat, k.flat, strict=True)]).reshape(
        m.shape
    )


# --- rows from constants -------------------------------------------------------------------------------------------


def gemm_row(fit: Mapping[str, float], device: Device, precision: str) -> Row:
    """A row of gemm constants; a type that the device lacks runs as bf16."""
    peak = device.peak(precision) or device.peak("bf16")
    width = ELEMENT_BYTES[precision] if device.peak(precision) else ELEMENT_BYTES["bf16"]
    return np.array(
        [
            fit["launch_us"] * 1e-6,
            peak * fit["compute"],
            device.mem_bytes_per_s * fit["memory"],
            fit["k_half"],
            fit["p"],
            fit["area"],
            width,
        ]
    )


def attention_row(fit: Mapping[str, float], device: Device, width: float) -> Row:
    """A row of prefill or decode constants; ``width`` bytes an element of keys and values."""
    return np.array(
        [
            fit["launch_us"] * 1e-6,
            device.bf16_flops * fit["compute"],
            device.mem_bytes_per_s * fit["memory"],
            fit["s_half"],
            fit["p"],
            fit["rows"] if "rows" in fit else fit["split_us"] * 1e-6,
            width,
        ]
    )


def moe_row(fit: Mapping[str, float], device: Device, precision: str) -> Row:
    """A row of moe constants."""
    row = gemm_row({**fit, "k_half": fit["m_half"], "area": fit["hottest"]}, device, precision)
    return np.append(row, fit["passes"])


def collective_row(fit: Mapping[str, float]) -> Row:
    """A row of collective constants."""
    return np.array(
        [
            fit["launch_us"] * 1e-6,
            fit["member_us"] * 1e-6,
            fit["share"],
            fit["members_exponent"],
            fit["quick_launch_us"] * 1e-6,
            fit["quick_share"],
            NIC_SHARE,
        ]
    )


# --- measured tables -----------------------------------------------------------------------------------------------

TABLES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention_prefill": ("heads", "kv_heads", "batch", "seq"),
    "attention_decode": ("heads", "kv_heads", "batch", "seq"),
    "moe": ("hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "num_tokens"),
    "collectives": ("num_gpus", "bytes"),
}
"""Operator -> numeric columns of its table; ``time_ms`` comes with each."""
TYPE_COLUMN = {"gemm": "dtype", "moe": "moe_dtype"}


def table_folder(folder: Path) -> Path:
    """The folder of operator tables in a folder of reference data: itself, or its ``ops``, or its ``llm/ops``."""
    for place in (folder / "ops", folder / "llm" / "ops", folder):
        if any((place / f"{name}.csv.gz").is_file() for name in TABLES):
            return place
    raise ArchGymError(f"{str(folder)[:120]} holds no operator tables (ops/gemm.csv.gz, ...); name a folder that does")


def folder_digest(folder: Path) -> str:
    """What stands for the operator tables of a folder: a digest of their content."""
    digest = blake2b(digest_size=8)
    for path in sorted(table_folder(folder).glob("*.csv.gz")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def read_table(folder: Path, operator: str) -> dict[str, NDArray[Any]] | None:
    """One table as columns, or None where the folder lacks it; times in seconds as ``time_s``."""
    import pyarrow as pa
    import pyarrow.csv as pcsv

    path = folder / f"{operator}.csv.gz"
    if not path.is_file():
        return None
    try:
        table = pcsv.read_csv(path)
    except (pa.ArrowException, OSError) as error:
        raise ArchGymError(f"{str(path)[-120:]} is no CSV ({str(error)[:80]})") from None
    for column in ("device", *TABLES[operator], "time_ms"):
        if column not in table.column_names:
            raise ArchGymError(f"{str(path)[-120:]} lacks the column {column!r} of a table of {operator}")
    result: dict[str, NDArray[Any]] = {
        name: table.column(name).to_numpy().astype(np.float64) for name in TABLES[operator]
    }
    for name in table.column_names:
        if name not in (*result, "time_ms", "power_w"):
            result[name] = np.array(table.column(name).to_pylist(), dtype=object)
    result["time_s"] = table.column("time_ms").to_numpy().astype(np.float64) / 1e3
    return result


def _measured(folder: Path, device: str) -> dict[tuple[str, str], dict[str, NDArray[Any]]]:
    place = table_folder(folder)
    found: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
    for operator in ("gemm", "attention_prefill", "attention_decode"):
        rows = read_table(place, operator)
        if rows is None:
            continue
        here = rows["device"] == device
        kinds = rows[TYPE_COLUMN[operator]] if operator in TYPE_COLUMN else np.full(len(here), "bfloat16", dtype=object)
        for kind in np.unique(kinds[here].astype(str)):
            kept = here & (kinds == kind)
            if kind in TYPE_NAMES:
                found[operator, TYPE_NAMES[kind]] = {name: column[kept] for name, column in rows.items()}
    if not found:
        raise ArchGymError(
            f"{str(place)[:120]} holds no measured operators of the device {device!r}; use fidelity closed"
        )
    return found
