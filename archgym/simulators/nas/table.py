"""Tables of trained cells: our own, and those that a user has (neutral Parquet or CSV, NATS-Bench).

In memory a table is one float64 array of 15,625 numbers a column, in code order, so that a look-up is one gather.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from archgym.errors import ArchGymError
from archgym.reading import checked, parse_json
from archgym.simulators.nas import cells
from archgym.simulators.nas.fidelity import Fidelity
from archgym.simulators.nas.parquet import read_parquet
from archgym.writing import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANCE = 10.0


@dataclass(frozen=True, order=True)
class Key:
    """One kind of result: split, schedule, epochs."""

    split: str
    schedule: str
    epochs: int

    def __str__(self) -> str:
        return f"split={self.split},schedule={self.schedule},epochs={self.epochs}"


@dataclass
class CellTable:
    """Results of training every cell.

    Attributes:
        name: the data set and its origin, for people.
        mean: key -> mean accuracy over the recorded runs in percent, ``(15625,)`` in code order.
        runs: key -> single runs ``(r, 15625)``; those of a cell come first, the rest of its column is NaN.
        seconds: (schedule, epochs) -> training seconds of the recorded runs of a cell, summed; may be empty.
        run_seconds: the same for one run.
        seconds_modelled: True where the seconds come from a formula and not from a clock.
        latency: device -> latency in milliseconds ``(15625,)``.
        chance: accuracy of guessing, in percent.
        cross_entropy: key -> mean cross-entropy of single runs in nats, as ``runs``; empty where the file has none.
        train_loss: training loss of single runs over their last epochs, as ``runs``; None where there is none.
        metadata: what the file says of itself.
        fingerprint: hash of the content.
        missing: how many cells have no result.
    """

    name: str
    mean: dict[Key, NDArray[np.float64]]
    runs: dict[Key, NDArray[np.float64]]
    seconds: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict)
    run_seconds: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict)
    seconds_modelled: bool = False
    latency: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    chance: float = CHANCE
    cross_entropy: dict[Key, NDArray[np.float64]] = field(default_factory=dict)
    train_loss: NDArray[np.float64] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    missing: int = 0

    def kinds(self) -> list[Key]:
        """All kinds of results there are, sorted."""
        return sorted({*self.mean, *self.runs})

    def resolve(self, fidelity: Fidelity) -> Fidelity:
        """The fidelity with every blank filled; what the table lacks is an error that lists what it has."""
        keys = self.kinds()
        splits = [key.split for key in keys]
        split = fidelity.split or ("valid" if "valid" in splits else "test")
        fitting = [
            key
            for key in keys
            if key.split == split
            and fidelity.schedule in (None, key.schedule)
            and fidelity.epochs in (None, key.epochs)
        ]
        if fitting:
            longest = max(fitting, key=lambda key: (key.epochs, key.schedule == "full"))
            run = fidelity.run or ("mean" if longest in self.mean else "single")
            if longest in (self.mean if run == "mean" else self.runs):
                return fidelity.filled(
                    split=split, schedule=longest.schedule, epochs=longest.epochs, run=run, noise="none"
                )
        have = "; ".join(
            f"{key},run={'|'.join(n for n, d in (('mean', self.mean), ('single', self.runs)) if key in d)}"
            for key in keys
        )
        raise ArchGymError(f"table {self.name!r} has no result for {fidelity}; it has {have}")

    def noise_deviation(self, key: Key) -> float:
        """Pooled standard deviation of one run around its cell's mean, in points, over live cells with at least two
        runs; NaN where there are none. Members of a class share their runs and count once."""
        runs = self.runs.get(key)
        if runs is None:
            return float("nan")
        columns = runs[:, live_representatives()]
        count = np.isfinite(columns).sum(0)
        columns = columns[:, count > 1]
        if not columns.size:
            return float("nan")
        squares = np.nansum((columns - np.nanmean(columns, axis=0)) ** 2)
        return float(np.sqrt(squares / (count[count > 1] - 1).sum()))

    def column(self, fidelity: Fidelity, codes: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        """Accuracy in percent of the cells ``codes`` under a resolved fidelity, float64 ``(n,)``."""
        key = Key(str(fidelity.split), str(fidelity.schedule), int(fidelity.epochs or 0))
        if fidelity.noise == "gaussian":
            deviation = self.noise_deviation(key)
            if not np.isfinite(deviation):
                raise ArchGymError(f"table {self.name!r} has no cell with two runs, so the seed noise is unknown")
            noisy = self.mean[key][codes] + deviation * _normal(seed, codes, key.epochs)
            exact = cells.is_dead(cells.rows(codes))
            return np.where(exact, self.mean[key][codes], np.clip(noisy, self.chance / 2, 100.0))
        if fidelity.run == "mean":
            return self.mean[key].take(codes)
        runs = self.runs[key]
        if len(runs) == 1:
            return runs[0].take(codes)
        count = np.maximum(np.isfinite(runs).sum(0), 1)
        drawn = _counter(seed, codes, key.epochs) % count[codes].astype(np.uint64)
        return runs[drawn.astype(np.int64), codes]

    def train_seconds(self, fidelity: Fidelity) -> NDArray[np.float64] | None:
        """Seconds that a query of a resolved fidelity stands for, ``(15625,)``: one run, or all recorded runs for
        their mean; None where the table has none."""
        source = self.run_seconds if fidelity.run == "single" or fidelity.noise == "gaussian" else self.seconds
        return source.get((str(fidelity.schedule), int(fidelity.epochs or 0)))


@cache
def live_representatives() -> NDArray[np.int64]:
    """Codes of the representatives of the live function classes, ascending."""
    codes = cells.representatives("function")
    codes = np.sort(codes[~cells.is_dead(cells.rows(codes))])
    codes.setflags(write=False)
    return codes


def space_averages(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean and median over the whole space and mean over the live cells, of values ``(15625,)`` in code order.

    Exact where every cell is known. Of a partial table the dead cells are all known, so that the known live cells
    stand for all live ones: they are weighted to their share of the space.
    """
    dead = cells.is_dead(cells.all_rows())
    known = np.isfinite(values)
    live = known & ~dead
    weight = np.where(live, (~dead).sum() / max(live.sum(), 1), dead.astype(np.float64))[known]
    order = np.argsort(values[known], kind="stable")
    share = weight[order].cumsum() / weight.sum()
    sorted_values = values[known][order]
    lower = int(np.searchsorted(share, 0.5 - 1e-12))
    upper = int(np.searchsorted(share, 0.5 + 1e-12))
    return {
        "mean": float(np.average(values[known], weights=weight)),
        "median": float((sorted_values[lower] + sorted_values[min(upper, len(sorted_values) - 1)]) / 2),
        "live": float(values[live].mean()),
    }


def _counter(seed: int, codes: NDArray[np.int64], epochs: int, stream: int = 0) -> NDArray[np.uint64]:
    """Counter-based random 64-bit numbers: a function of (seed, cell, epochs) alone."""
    key = int(seed) * 0x9E3779B97F4A7C15 + int(epochs) * 0xD1342543DE82EF95 + stream * 0xDA942042E4DD58B5
    return cells.scatter(cells.scatter(codes.astype(np.uint64) + np.uint64(key & (2**64 - 1))))


def _normal(seed: int, codes: NDArray[np.int64], epochs: int) -> NDArray[np.float64]:
    u = (_counter(seed, codes, epochs, 1) >> np.uint64(11)).astype(np.float64) / 2.0**53
    v = (_counter(seed, codes, epochs, 2) >> np.uint64(11)).astype(np.float64) / 2.0**53
    result: NDArray[np.float64] = np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)
    return result


# --- our own table -----------------------------------------------------------------------------------------------------


def own_table_path(name: str) -> Path:
    """Where a table of this project lies in the package."""
    file = f"{name.replace('-', '_')}.parquet"
    return Path(str(resources.files(__package__) / "data" / file))


def own_table_loader(name: str) -> Callable[[], CellTable] | None:
    """What loads a table of this project; None where this installation does not have it."""
    return partial(own_table, name) if own_table_path(name).is_file() else None


@cache
def own_table(name: str = "nb201-mnist1d-v2") -> CellTable:
    """A table trained by this project: the function classes of the cell space on the generated mnist1d.

    ``nb201-mnist1d`` and ``nb201-mnist1d-v2`` differ in recipe and data; never compare their rows.
    """
    path = own_table_path(name)
    if not path.is_file():
        raise ArchGymError(f"the table {name} is not in this installation; build it with nas build-table")
    return read_own_table(path)


def read_assembled(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Columns and metadata of a table written by :mod:`archgym.simulators.nas.build_table`."""
    columns, metadata = read_parquet(path)
    raw = metadata.get(b"archgym")
    if raw is None:
        raise ArchGymError(f"{path} is not a table of this command: it has no metadata 'archgym'")
    return columns, checked(
        parse_json(raw, f"the metadata of {path.name}"), dict[str, Any], f"the metadata of {path.name}"
    )


class _Recipe(msgspec.Struct):
    checkpoints: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]], msgspec.Meta(min_length=1)]


def _column(columns: Mapping[str, Any], name: str, path: Path, rows: int, kinds: str = "iuf") -> NDArray[Any]:
    """A column of numbers of a kind, one a row."""
    column = columns.get(name)
    if not isinstance(column, np.ndarray) or column.dtype.kind not in kinds or column.shape != (rows,):
        raise ArchGymError(f"{path.name} is not a table of this command: its column {name!r} is missing or malformed")
    return column


def read_own_table(path: Path) -> CellTable:
    """A table written by :mod:`archgym.simulators.nas.build_table`."""
    columns, metadata = read_assembled(path)
    class_of = cells.classes("function")
    representatives = cells.representatives("function")
    dead = cells.is_dead(cells.rows(np.arange(cells.CELLS)))
    recipe: _Recipe = checked(metadata.get("recipe"), _Recipe, f"the recipe in {path.name}")
    rows = len(columns.get("code", ()))
    code = _column(columns, "code", path, rows, "iu").astype(np.int64)
    if not rows or code.min() < 0 or code.max() >= cells.CELLS:
        raise ArchGymError(f"{path.name} is not a table of this command: its codes are not those of cells")
    number = class_of[code]
    count = np.bincount(number, minlength=len(representatives))
    # The k-th row of a class goes to run k: rows are sorted by (code, seed).
    order = np.lexsort((_column(columns, "seed", path, rows, "iu"), number))
    place = np.empty(len(code), dtype=np.int64)
    place[order] = np.arange(len(code)) - np.repeat(np.cumsum(count) - count, count)
    depth = int(count.max())
    table = CellTable(str(metadata.get("name", "nb201-mnist1d")), {}, {}, metadata=metadata)

    def spread(values: NDArray[Any]) -> NDArray[np.float64]:
        by_class = np.full((depth, len(representatives)), np.nan)
        by_class[place, number] = values
        return by_class[:, class_of]

    for epoch in recipe.checkpoints:
        for split in ("valid", "test"):
            runs = spread(_column(columns, f"{split}_e{epoch}", path, rows) / 100.0)
            runs[:, dead] = np.nan
            runs[0, dead] = CHANCE
            key = Key(split, "full", int(epoch))
            table.runs[key], table.mean[key] = runs, _column_mean(runs)
            name = f"{split}_cross_entropy_e{epoch}"
            if name in columns:
                entropy = _column(columns, name, path, rows)
                table.cross_entropy[key] = spread(entropy.astype(np.float64))
                table.cross_entropy[key][0, dead] = np.log(100.0 / CHANCE)
        seconds = spread(_column(columns, f"seconds_e{epoch}", path, rows).astype(np.float64))
        seconds[:, dead] = 0.0
        table.seconds["full", int(epoch)] = np.nansum(seconds, axis=0)
        table.run_seconds["full", int(epoch)] = np.where(dead, 0.0, _column_mean(seconds))
    if "train_loss" in columns:
        table.train_loss = spread(_column(columns, "train_loss", path, rows).astype(np.float64))
    any_key = next(iter(table.mean))
    table.missing = int(np.isnan(table.mean[any_key]).sum())
    digest = hashlib.sha256(path.read_bytes())
    table.fingerprint = digest.hexdigest()[:16]
    return table


def _column_mean(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    count = np.isfinite(runs).sum(0)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = np.where(count > 0, np.nansum(runs, axis=0) / np.maximum(count, 1), np.nan)
    return result


# --- tables of a user --------------------------------------------------------------------------------------------------

# Column names of the neutral form; others are declared by a mapping.
_ACCURACY = re.compile(
    r"^(?P<dataset>[A-Za-z0-9-]+)_(?P<split>valid|test)_acc(?:_(?P<epochs>\d+)ep)?(?:_(?P<run>onerun|run\d+))?$"
)
_LATENCY = re.compile(r"^latency_(?P<unit>ns|us|ms|s)_(?P<device>\w+)$")
_MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
_PICKLES = (".pkl", ".pickle", ".pth", ".pt", ".joblib")


def read_columns(path: Path) -> dict[str, Any]:
    """Columns of a CSV or Parquet file by name (NumPy arrays; strings as lists). Refuses pickles and what cannot be
    read, with one sentence."""
    if not path.is_file():
        raise ArchGymError(f"there is no file {str(path)!r}; give the path of a CSV or Parquet table")
    head = path.open("rb").read(6)
    if path.suffix.lower() in _PICKLES or head[:1] == b"\x80":
        raise ArchGymError(
            f"{path.name} is a pickle, which runs code when it is read; convert it to Parquet or CSV where you trust it"
        )
    if head[:4] == b"PAR1":
        return read_parquet(path)[0]
    if path.suffix.lower() not in (".csv", ".txt", ".tsv"):
        raise ArchGymError(f"{path.name} is neither Parquet nor CSV; give a file of one of these forms")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ArchGymError(f"{path.name} is not text in UTF-8; give a CSV or Parquet file") from None
    lines = list(csv.reader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    if not lines:
        raise ArchGymError(f"{path.name} is empty; expected a header line and one row a cell")
    header, body = lines[0], [line for line in lines[1:] if line]
    for number, line in enumerate(body, start=2):
        if len(line) != len(header):
            raise ArchGymError(f"line {number} of {path.name} has {len(line)} fields; the header has {len(header)}")
    result: dict[str, Any] = {}
    for k, name in enumerate(header):
        texts = [line[k] for line in body]
        try:
            result[name] = np.array([float(item) if item.strip() else np.nan for item in texts])
        except ValueError:
            result[name] = texts
    return result


def _cell_codes(columns: Mapping[str, Any], path: Path, partial: bool) -> NDArray[np.int64]:
    if "arch_str" not in columns:
        raise ArchGymError(
            f"{path.name} has no column 'arch_str' with the architecture strings; it has {', '.join(list(columns)[:8])}"
        )
    texts = columns["arch_str"]
    if not isinstance(texts, list):
        raise ArchGymError(f"column 'arch_str' of {path.name} holds numbers; expected architecture strings")
    codes = cells.codes_of_strings(texts)
    if len(np.unique(codes)) != len(codes):
        ordered = np.sort(codes)
        twice = ordered[:-1][ordered[1:] == ordered[:-1]][0]
        raise ArchGymError(
            f"{path.name} lists the cell {cells.to_string(cells.rows(twice))} twice; expected one row a cell"
        )
    if len(codes) != cells.CELLS and not partial:
        raise ArchGymError(
            f"{path.name} has {len(codes):,} rows; expected all {cells.CELLS:,} cells (partial=true accepts fewer)"
        )
    return codes


def _numbers(
    columns: Mapping[str, Any], name: str, path: Path, codes: NDArray[np.int64], partial: bool, low: float, high: float
) -> NDArray[np.float64]:
    """A column in code order, checked."""
    if name not in columns:
        raise ArchGymError(f"{path.name} has no column {name!r}; it has {', '.join(list(columns)[:8])}")
    values = columns[name]
    if isinstance(values, list) or not np.issubdtype(np.asarray(values).dtype, np.number):
        raise ArchGymError(f"column {name!r} of {path.name} holds text; expected numbers")
    values = np.asarray(values, dtype=np.float64)
    bad = int(np.isnan(values).sum())
    if bad and not partial:
        raise ArchGymError(f"column {name!r} of {path.name} has {bad} missing value(s) (partial=true accepts them)")
    wrong = ~np.isnan(values) & ~((values >= low) & (values <= high))
    if wrong.any():
        raise ArchGymError(
            f"column {name!r} of {path.name} has the value {values[wrong][0]:g} in row {int(np.flatnonzero(wrong)[0])}; "
            f"expected {low:g} to {high:g}"
        )
    result = np.full(cells.CELLS, np.nan)
    result[codes] = values
    return result


def read_neutral(
    path: Path,
    dataset: str | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    partial: bool = False,
    seconds_model: Sequence[float] | None = None,
) -> CellTable:
    """Read a neutral table: ``arch_str`` and one accuracy column a (data set, split, epochs, run).

    Args:
        path: CSV or Parquet. Columns ``<dataset>_<valid|test>_acc[_<epochs>ep][_onerun|_run<k>]`` (mean over runs
            without a run suffix), ``latency_<unit>_<device>``, ``<dataset>_seconds[_<epochs>ep]`` (one run).
        dataset: which data set's columns; may be left out where the file has one, or has ``cifar10``.
        columns: column name -> {"split", "epochs", "run": "mean" | "single", "schedule": "full" | "short"} where the
            names are other ones.
        partial: accept missing cells and missing values.
        seconds_model: (a, b): training seconds = epochs * (a + b * macs), where the file has no seconds.

    Epochs default to the longest of the file. The longest run is ``schedule=full``, a shorter one ``short`` (a run of
    its own, as in NATS-Bench), unless ``columns`` says otherwise.

    Raises:
        ArchGymError: missing columns, wrong row count, values outside 0..100, NaN, pickles.
    """
    stored = read_columns(path)
    codes = _cell_codes(stored, path, partial)
    declared: list[tuple[str, str, int | None, str, str | None]] = []
    if columns:
        for name, about in columns.items():
            if about.get("split") not in ("valid", "test"):
                raise ArchGymError(f"column mapping of {name!r} has split {about.get('split')!r}; choose valid or test")
            declared.append(
                (name, str(about["split"]), about.get("epochs"), str(about.get("run", "mean")), about.get("schedule"))
            )
    else:
        matches = [match for match in map(_ACCURACY.match, stored) if match]
        known = list(dict.fromkeys(match["dataset"] for match in matches))
        if not known:
            raise ArchGymError(
                f"{path.name} has no accuracy column such as 'cifar10_test_acc_200ep'; name its columns by a mapping"
            )
        if dataset is None:
            if len(known) > 1 and "cifar10" not in known:
                raise ArchGymError(f"{path.name} has the data sets {', '.join(known)}; choose one with dataset=")
            dataset = "cifar10" if "cifar10" in known else known[0]
        if dataset not in known:
            raise ArchGymError(f"{path.name} has no data set {dataset!r}; it has {', '.join(known)}")
        for match in matches:
            if match["dataset"] == dataset:
                epochs = int(match["epochs"]) if match["epochs"] else None
                declared.append((match[0], match["split"], epochs, "single" if match["run"] else "mean", None))
    longest = max((epochs for _, _, epochs, _, _ in declared if epochs), default=1)
    table = CellTable(f"{path.stem}/{dataset or 'custom'}", {}, {})
    singles: dict[Key, list[NDArray[np.float64]]] = {}
    digest = hashlib.sha256()
    for name, split, given, run, schedule in sorted(declared):
        epochs = given or longest
        key = Key(split, schedule or ("full" if epochs == longest else "short"), int(epochs))
        values = _numbers(stored, name, path, codes, partial, 0.0, 100.0)
        digest.update(f"{name} {key} {run}".encode() + values.tobytes())
        if run == "mean":
            table.mean[key] = values
        else:
            singles.setdefault(key, []).append(values)
    for key, values_list in singles.items():
        runs = np.stack(values_list)
        # Each cell's runs first, gaps last.
        table.runs[key] = np.take_along_axis(runs, np.argsort(np.isnan(runs), axis=0, kind="stable"), axis=0)
        if key not in table.mean and len(values_list) > 1:
            table.mean[key] = _column_mean(runs)
    for name in stored:
        timed = _LATENCY.match(name)
        if timed:
            scale = _MILLISECONDS[timed["unit"]]
            table.latency[timed["device"]] = scale * _numbers(stored, name, path, codes, partial, 0.0, 1e12)
    _read_seconds(table, stored, path, codes, partial, dataset, longest, seconds_model)
    table.missing = cells.CELLS - len(codes)
    if not any(np.isfinite(column).any() for column in [*table.mean.values(), *(r[0] for r in table.runs.values())]):
        raise ArchGymError(f"{path.name} holds no accuracy of any cell; give a table with results")
    table.chance = float(np.nanmin(np.concatenate(list(table.mean.values()) or [r[0] for r in table.runs.values()])))
    table.fingerprint = digest.hexdigest()[:16]
    table.metadata = {"file": path.name, "dataset": dataset, "rows": len(codes)}
    return table


def _read_seconds(
    table: CellTable,
    stored: Mapping[str, Any],
    path: Path,
    codes: NDArray[np.int64],
    partial: bool,
    dataset: str | None,
    longest: int,
    model: Sequence[float] | None,
) -> None:
    for key in table.kinds():
        at = (key.schedule, key.epochs)
        for name in (f"{dataset}_seconds_{key.epochs}ep", f"{dataset}_seconds" if key.epochs == longest else ""):
            if name in stored:
                table.run_seconds[at] = table.seconds[at] = _numbers(stored, name, path, codes, partial, 0.0, 1e12)
        if at not in table.seconds and model is not None:
            if len(model) != 2:
                raise ArchGymError(
                    f"seconds_model has {len(model)} number(s); give two, a and b of epochs * (a + b * macs)"
                )
            macs = cell_macs(dataset_macro(dataset or "cifar10"))
            table.run_seconds[at] = table.seconds[at] = key.epochs * (model[0] + model[1] * macs)
            table.seconds_modelled = True


def dataset_macro(dataset: str) -> str:
    """Name of the skeleton that a data set's table was made with: the published one, else CIFAR-10's."""
    from archgym.simulators.nas.macro import MACROS

    aliases = {"imagenet16-120": "imagenet16", "ImageNet16-120": "imagenet16", "cifar10-valid": "cifar10"}
    name = aliases.get(dataset, dataset)
    return name if name in MACROS else "cifar10"


@cache
def cell_macs(macro_name: str) -> NDArray[np.float64]:
    """MACs of all cells in code order for a skeleton."""
    from archgym.simulators.nas.macro import macro

    rows = cells.all_rows()
    values = macro(macro_name).macs((rows == cells.CONV1).sum(1), (rows == cells.CONV3).sum(1)).astype(np.float64)
    values.setflags(write=False)
    return values


@cache
def cell_parameters(macro_name: str) -> NDArray[np.float64]:
    """Parameters of all cells in code order for a skeleton."""
    from archgym.simulators.nas.macro import macro

    rows = cells.all_rows()
    values = macro(macro_name).parameters((rows == cells.CONV1).sum(1), (rows == cells.CONV3).sum(1)).astype(np.float64)
    values.setflags(write=False)
    return values


def read_indices(path: Path) -> NDArray[np.int64]:
    """The published index of every cell in code order ``(15625,)``, from a file with columns ``index`` and
    ``arch_str`` (that order is no formula)."""
    stored = read_columns(path)
    codes = _cell_codes(stored, path, False)
    numbers = _numbers(stored, "index", path, codes, False, 0, cells.CELLS - 1).astype(np.int64)
    if len(np.unique(numbers)) != cells.CELLS:
        raise ArchGymError(
            f"column 'index' of {path.name} repeats a number; expected each of 0..{cells.CELLS - 1} once"
        )
    return numbers


def export_nats_bench(
    api: Any, output: Path, datasets: Iterable[str] = ("cifar10", "cifar100", "ImageNet16-120")
) -> Path:
    """Write a neutral Parquet from an open NATS-Bench topology API (package ``nats_bench``, opened by the user).

    The package unpickles its own files when it is opened: do that only with files that you trust; this function and
    everything after it reads no pickle. It asks the API once for every cell, epochs setting and split (minutes to
    hours, by the disk), with ``is_random=False``, so that means over the recorded runs are written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(api)
    columns: dict[str, list[Any]] = {"index": list(range(count)), "arch_str": []}
    for index in range(count):
        columns["arch_str"].append(api.arch(index))
        for dataset in datasets:
            for epochs, hp in ((12, "12"), (200, "200")):
                info = api.get_more_info(index, dataset, hp=hp, is_random=False)
                label = dataset.replace("ImageNet16-120", "imagenet16")
                columns.setdefault(f"{label}_test_acc_{epochs}ep", []).append(float(info["test-accuracy"]))
                other = "cifar10-valid" if dataset == "cifar10" else dataset
                valid = api.get_more_info(index, other, hp=hp, is_random=False)
                columns.setdefault(f"{label}_valid_acc_{epochs}ep", []).append(float(valid["valid-accuracy"]))
                columns.setdefault(f"{label}_seconds_{epochs}ep", []).append(float(valid["train-all-time"]))
    with replacing(output) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
    return output


def read_table_file(path: Path, **options: Any) -> CellTable:
    """A user's file: a table of ``build_table`` (told by its metadata) or a neutral one."""
    if path.is_file() and path.open("rb").read(4) == b"PAR1":
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(path).metadata or {}
        except Exception as error:  # pyarrow raises several kinds for broken files
            raise ArchGymError(
                f"cannot read {path.name} as Parquet: {(str(error).splitlines() or [''])[0][:160]}"
            ) from None
        about = parse_json(metadata.get(b"archgym", b"null"), f"the metadata of {path.name}")
        if isinstance(about, dict) and "recipe" in about and not options:
            return read_own_table(path)
    return read_neutral(path, **options)
