"""What lies under a folder: runs, studies, entries of suites and datasets, read once and again only where it grew.

Nothing outside the folder is read: links are not followed, whatever they point at, and names in addresses are looked up
among what was found, never opened.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from archgym.datasets.files import has_end, open_file
from archgym.datasets.shards import SUFFIX, UNFINISHED
from archgym.errors import ArchGymError, UnknownNameError
from archgym.problem import Problem, problem_of_options
from archgym.reports.data import ProblemReport, Run, reports_of, runs_in
from archgym.studies.store import PACKED, PROBLEMS, RESULTS, RUNS, SPEC, Study
from archgym.suites.entry import FILE as ENTRY
from archgym.suites.entry import Entry
from archgym.suites.packed import FILE as IMPROVEMENTS
from archgym.suites.suite import Suite, load_suite, ready_suites

T = TypeVar("T")

DEPTH = 12
"""Levels of folders that are searched."""
GROWING_S = 60.0
"""A shard without an end that was written to within so many seconds belongs to a run that goes on."""
_KEPT = {
    "reports": 4,
    "runs": 4,
    "objective": 4,
    "problem": 64,
    "about": 10_000,
    "study": 8,
    "board": 8,
    "simulated": 256,
}
"""How many results of each kind are kept."""
_STUDY = (SPEC, RESULTS, RESULTS + PACKED)
_DESCRIPTIONS = (ENTRY, *_STUDY, PROBLEMS, PROBLEMS + PACKED, IMPROVEMENTS)


@dataclass(frozen=True)
class Item:
    """Something to look at.

    Attributes:
        key: its path below the folder as text; ``.`` for the folder itself.
        kind: ``run``, ``study``, ``entry`` or ``dataset``.
        path: its folder.
        files: its shards or Parquet files, sorted.
        others: the other files that may be read: results and descriptions.
    """

    key: str
    kind: str
    path: Path
    files: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    def signature(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a file of it does."""
        found = []
        for path in (*self.files, *self.others):
            try:
                about = path.stat(follow_symlinks=False)
            except OSError:
                continue
            found.append((str(path), about.st_size, about.st_mtime_ns))
        return tuple(found)

    @property
    def has_results(self) -> bool:
        """Whether it has the results of a study."""
        return any(path.name.startswith(RESULTS) and path.stat().st_size for path in self.others)

    @property
    def growing(self) -> bool:
        """Whether a run of it goes on."""
        since = time.time() - GROWING_S
        for path in self.files:
            try:
                if path.suffix == SUFFIX and path.stat().st_mtime > since and not _closed(path):
                    return True
            except OSError:
                continue
        return False


def _closed(path: Path) -> bool:
    with path.open("rb") as file:  # Arrow opens no name that is not UTF-8
        return has_end(pa.PythonFile(file))


def find_items(root: Path) -> list[Item]:
    """What lies under ``root``, by name; a folder that is something is not searched for more."""
    found: list[Item] = []
    _search(root, root, 0, found)
    return sorted(found, key=lambda item: item.key)


def _search(root: Path, folder: Path, depth: int, found: list[Item]) -> None:
    folders, files = _listed(folder)
    names = {path.name for path in files}
    others = tuple(path for path in files if path.name in _DESCRIPTIONS)
    kind = "entry" if ENTRY in names else "study" if names & {*_STUDY} else ""
    if not kind and any(path.name == "trials" and _trials(_listed(path)[1]) for path in folders):
        kind = "run"
    if kind:
        found.append(Item(_key(root, folder), kind, folder, _below(folder, depth), others))
        return
    if own := _trials(files):
        found.append(Item(_key(root, folder), "dataset", folder, own))
    if depth < DEPTH:
        for inner in folders:
            _search(root, inner, depth + 1, found)


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files in a folder, sorted; no links, and nothing hidden but the mark of unfinished files."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and entry.name != UNFINISHED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    files.append(Path(entry.path))
    except OSError:
        pass
    return sorted(folders), sorted(files)


def _trials(files: list[Path]) -> tuple[Path, ...]:
    """The shards among files, or where there are none the finished Parquet files."""
    shards = tuple(path for path in files if path.suffix == SUFFIX)
    if shards or any(path.name == UNFINISHED for path in files):
        return shards
    return tuple(path for path in files if path.suffix == ".parquet")


def _below(folder: Path, depth: int) -> tuple[Path, ...]:
    folders, files = _listed(folder)
    own = _trials(files)
    return own + (tuple(path for inner in folders for path in _below(inner, depth + 1)) if depth < DEPTH else ())


def _key(root: Path, folder: Path) -> str:
    relative = os.fsencode(folder.relative_to(root))
    return relative.decode("utf-8", "backslashreplace")


@dataclass
class _Slot:
    lock: threading.RLock = field(default_factory=threading.RLock)
    made: bool = False
    value: Any = None


@dataclass
class Folder:
    """A folder that is looked at, with what was read of it.

    Args:
        root: the folder.
        trust: also run the model files that trials name.
    """

    root: Path
    trust: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _items: dict[str, Item] = field(default_factory=dict, repr=False)
    _made: dict[str, OrderedDict[Hashable, _Slot]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ArchGymError(f"{self.root} is no folder; give one with runs, studies or datasets in it")
        self.root = self.root.resolve()

    def items(self) -> list[Item]:
        """What lies in the folder now."""
        found = find_items(self.root)
        self._items = {item.key: item for item in found}
        return found

    def item(self, key: str) -> Item:
        """The item of that name, its files as they are now."""
        self.items()
        if key not in self._items:
            raise UnknownNameError("run, study or dataset", key, self._items)
        return self._items[key]

    def kept(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for the same key; of each kind the latest few are kept."""
        with self._lock:
            slots = self._made.setdefault(kind, OrderedDict())
            slot = slots.setdefault(key, _Slot())
            slots.move_to_end(key)
            while len(slots) > _KEPT[kind]:
                slots.popitem(last=False)
        with slot.lock:  # whoever asks for the same thing waits for it, others do not
            if not slot.made:
                slot.value, slot.made = make(), True
            found: T = slot.value
            return found

    def has(self, kind: str, key: Hashable) -> bool:
        """Whether it was made and kept."""
        with self._lock:
            return kind in self._made and key in self._made[kind] and self._made[kind][key].made

    def reports(self, item: Item) -> list[ProblemReport]:
        """The item's runs by problem; only files that changed are read again."""
        return self.kept("reports", (item.key, item.signature()), lambda: self._reports(item))

    def _reports(self, item: Item) -> list[ProblemReport]:
        known: dict[Path, tuple[tuple[int, int], list[Run]]] = self.kept("runs", item.key, dict)

        def read(path: Path) -> list[Run]:
            try:
                about = path.stat()
            except OSError:
                return []
            state = about.st_size, about.st_mtime_ns
            if path not in known or known[path][0] != state:
                known[path] = state, runs_in(path)
            return known[path][1]

        with ThreadPoolExecutor(2) as pool:
            runs = [run for found in pool.map(read, item.files) for run in found]
        if not runs:
            raise ArchGymError(f"{item.key} holds no trials yet")
        return reports_of(runs, trust=self.trust, make=self._problem)

    def _problem(self, name: str, options: Mapping[str, Any]) -> Problem:
        return self.kept("problem", (name, repr(options)), lambda: problem_of_options(name, options))

    def report(self, item: Item, number: int, objective: str = "") -> ProblemReport:
        """One of the item's problems, by another objective where one is named."""
        reports = self.reports(item)
        if not 0 <= number < len(reports):
            raise ArchGymError(f"{item.key} has {len(reports)} problems, numbered from 0; there is no number {number}")
        report = reports[number]
        if not objective or objective == report.objective:
            return report
        key = (item.key, item.signature(), number, objective)
        return self.kept("objective", key, lambda: report.by_objective(objective))

    # --- the list ----------------------------------------------------------------------------------------------

    def listed(self) -> list[dict[str, Any]]:
        """The items with what their files say of them without being read whole; suites stand at the end."""
        rows = []
        suites: dict[tuple[str, int], list[str]] = {}
        for item in self.items():
            about = self.about(item)
            rows.append({"key": item.key, "kind": item.kind, "live": item.growing, **about})
            if "suite" in about:
                suites.setdefault((about["suite"], about["version"]), []).append(item.key)
        for (name, version), keys in sorted(suites.items()):
            rows.append(
                {"key": f"{name}@{version}", "kind": "suite", "live": False, "title": f"{name}, version {version}",
                 "problems": [], "agents": [], "files": len(keys), "bytes": 0, "changed": 0.0, "error": ""}
            )  # fmt: skip
        return rows

    def about(self, item: Item) -> dict[str, Any]:
        """What an item is, without reading it whole."""
        return self.kept("about", (item.key, item.signature()), lambda: _about(item))

    def entries(self, name: str, version: int) -> list[Item]:
        """The entries of a suite."""
        found = []
        for item in self.items():
            if item.kind == "entry":
                about = self.about(item)
                if (about.get("suite"), about.get("version")) == (name, version):
                    found.append(item)
        return found

    def suite(self, name: str, version: int) -> Suite:
        """A suite that ships, or whose file lies in the folder or beside an entry's runs."""
        for path in [*ready_suites().values(), *self._yaml(self.root, 0)]:
            try:
                suite = load_suite(path)
            except ArchGymError:
                continue
            if (suite.name, suite.version) == (name, version):
                return suite
        raise ArchGymError(f"there is no suite {name} version {version}; put its YAML file into the folder")

    def _yaml(self, folder: Path, depth: int) -> list[Path]:
        folders, files = _listed(folder)
        own = [path for path in files if path.suffix in (".yaml", ".yml") and path.stat().st_size < 1 << 20]
        return own + ([path for inner in folders for path in self._yaml(inner, depth + 1)] if depth < 4 else [])


def check_links(item: Item) -> None:
    """Refuse an item of which a description, or a run that the board reads, is a link, before a reader that follows links
    takes it."""
    paths = [item.path / name for name in _DESCRIPTIONS]
    if item.kind == "entry":
        paths += [item.path / RUNS, *(item.path / RUNS).rglob("*")]
    for path in paths:
        if path.is_symlink():
            raise ArchGymError(f"{path.relative_to(item.path)} of {item.key} is a link, which is not followed")


def _about(item: Item) -> dict[str, Any]:
    """What an item is, from the descriptions in its files; at most a few of them are opened."""
    problems: dict[str, None] = {}
    agents: dict[str, None] = {}
    row: dict[str, Any] = {"title": item.key if item.key != "." else item.path.name, "error": ""}
    try:
        check_links(item)
        if item.kind == "entry":
            entry = Entry.read(item.path)
            row |= {"suite": entry.suite, "version": entry.suite_version, "title": f"{row['title']}: {entry.name}"}
        if item.kind in ("study", "entry"):
            for record in Study(item.path).results():
                problems[record["problem"]] = agents[record["agent"]] = None
        for path in item.files[:: max(1, len(item.files) // 16)]:
            file = open_file(path)
            problems |= {info.problem: None for info in file.problems}
            if file.run is not None:
                agents[str(file.run.get("agent", ""))] = None
    except (ArchGymError, OSError) as error:
        row["error"] = str(error)
    sizes = item.signature()
    return row | {
        "problems": list(problems), "agents": list(agents), "files": len(item.files),
        "bytes": sum(size for _, size, _ in sizes), "changed": max((when for _, _, when in sizes), default=0) / 1e9,
    }  # fmt: skip
