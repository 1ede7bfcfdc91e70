"""Workloads of the SoC simulator: directed acyclic graphs of tasks that exchange bytes.

A task graph starts at the dummy task ``source`` (the input) and ends at the dummy task ``sink`` (the output). Tasks in
between have work, counted in instructions of the CPU, and may have an accelerator. Dummy tasks have no work, take no
time and use no energy. An edge carries bytes from the memory its parent writes to.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import name_of, parse_yaml, quote_path, read_text
from archgym.simulator import Workload
from archgym.writing import yaml_text

SOURCE, SINK = "source", "sink"
INSTRUCTIONS_PER_CYCLE = 2.0
"""Instructions the A53 finishes a cycle; work = 2 x its cycles."""
BURST_BYTES = 1024
MAX_TASKS = 62
"""Sets of tasks are single 64-bit words in the kernel."""
LEAST, MOST = 1e-12, 1e18
"""Positive numbers of a graph lie between these: products and ratios of some stay finite."""

BUILTIN = ("audio_decoder", "edge_detection", "hpvm_cava")


@dataclass(frozen=True)
class AcceleratorFigures:
    """What is known of a task's accelerator at unroll 1 and 100 MHz.

    Attributes:
        cycles: cycles of one run.
        power: raw figure, in units of the workload's ``power_unit_w`` (the reference reads it as femtojoule a run).
        area_um2: area before technology scaling.
        iterations: trip count of the loop that can be unrolled.
    """

    cycles: float
    power: float
    area_um2: float
    iterations: int


@dataclass(frozen=True)
class Task:
    """One task: cycles on the CPU (0 for a dummy) and, where it has one, its accelerator."""

    name: str
    cycles: float
    accelerator: AcceleratorFigures | None = None
    power_unit_w: float = 1e-6

    @property
    def work(self) -> float:
        """Instructions; 0 for a dummy."""
        return INSTRUCTIONS_PER_CYCLE * self.cycles


@dataclass(frozen=True)
class Edge:
    """``bytes`` that ``source`` writes and ``target`` reads; both are task names."""

    source: str
    target: str
    bytes: float


@dataclass(frozen=True)
class Part:
    """One application of a workload: its last task and its budgets (s, W, m2)."""

    name: str
    last_task: str
    latency_budget_s: float
    power_budget_w: float
    area_budget_m2: float


class TaskGraph(Workload):
    """A task graph, checked; one or several applications (``parts``).

    Args:
        name, description: as for any workload.
        tasks: in task order, which decides ties in the schedule; ``source`` first, ``sink`` last or anywhere.
        edges: in file order, which decides the order of a task's children.
        parts: the applications whose latency counts.
        first_accelerator: the task whose accelerator comes first in ArchGym's library, the only one its vectors can
            use; the first task with an accelerator where None.

    Raises:
        ArchGymError: one sentence, for a cycle, a missing task, negative work and the like.
    """

    def __init__(
        self,
        name: str,
        description: str,
        tasks: Sequence[Task],
        edges: Sequence[Edge],
        parts: Sequence[Part],
        first_accelerator: str | None = None,
    ) -> None:
        super().__init__(name, description)
        self.tasks, self.edges, self.parts = tuple(tasks), tuple(edges), tuple(parts)
        self.index = {task.name: i for i, task in enumerate(self.tasks)}
        _check(self)
        accelerated = [task.name for task in self.tasks if task.accelerator is not None]
        if first_accelerator is not None and first_accelerator not in accelerated:
            raise UnknownNameError(f"first_accelerator of {name!r}", first_accelerator, accelerated)
        self.first_accelerator = first_accelerator or (accelerated[0] if accelerated else None)
        order = self.index
        self.children: tuple[tuple[int, ...], ...] = tuple(
            tuple(order[e.target] for e in self.edges if e.source == task.name) for task in self.tasks
        )
        self.parents: tuple[tuple[int, ...], ...] = tuple(
            tuple(sorted(order[e.source] for e in self.edges if e.target == task.name)) for task in self.tasks
        )
        self.edge_bytes = {(order[e.source], order[e.target]): float(e.bytes) for e in self.edges}
        self.work = np.array([task.work for task in self.tasks])
        self.source, self.sink = order[SOURCE], order[SINK]
        self.last_tasks = tuple(order[part.last_task] for part in self.parts)
        self.dice = np.array([self._dice(t) for t in range(len(self.tasks))])

    def __repr__(self) -> str:
        return f"TaskGraph({self.name!r}, {len(self.tasks)} tasks, {len(self.edges)} edges)"

    @property
    def real_tasks(self) -> tuple[int, ...]:
        """Tasks with work, in task order."""
        return tuple(t for t, work in enumerate(self.work) if work > 0)

    def bytes_between(self, parent: int, child: int) -> float:
        """Bytes on the edge between two task indices."""
        return self.edge_bytes[parent, child]

    def written_bytes(self, t: int) -> float:
        """Bytes a task writes, over all its children."""
        return float(sum(self.edge_bytes[t, c] for c in self.children[t]))

    def _dice(self, t: int) -> int:
        """Bursts into which a task's run is cut: its smallest read in units of 1024 bytes."""
        if t in (self.source, self.sink):
            return 1
        dice = int(min(self.edge_bytes[p, t] for p in self.parents[t]) // BURST_BYTES)
        if dice == 0:
            return 1
        smallest_write = min((self.edge_bytes[t, c] for c in self.children[t]), default=0.0)
        if smallest_write // dice == 0 or self.work[t] // dice == 0:
            return 1
        return dice

    def burst_unit(self, t: int, partner: int, write: bool) -> float:
        """Bytes of one burst of task ``t`` on the edge to (write) or from (read) ``partner``."""
        size = self.edge_bytes[t, partner] if write else self.edge_bytes[partner, t]
        return float(size // int(self.dice[t]))

    @property
    def power_budget_w(self) -> float:
        """Sum over the applications."""
        return sum(part.power_budget_w for part in self.parts)

    @property
    def area_budget_m2(self) -> float:
        """Sum over the applications."""
        return sum(part.area_budget_m2 for part in self.parts)

    @cached_property
    def fingerprint(self) -> str:
        content: dict[str, Any] = {
            "tasks": [asdict(task) for task in self.tasks],
            "edges": [asdict(edge) for edge in self.edges],
            "parts": [asdict(part) for part in self.parts],
        }
        first = next((task.name for task in self.tasks if task.accelerator is not None), None)
        if self.first_accelerator != _UNMARKED.get(first, first):
            content["first_accelerator"] = self.first_accelerator
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def features(self) -> dict[str, float]:
        """Size, depth, width and balance of the graph on log scales."""
        depth = [0] * len(self.tasks)
        for t in self.topological_order():
            depth[t] = 1 + max((depth[p] for p in self.parents[t]), default=-1)
        work = self.work[list(self.real_tasks)] if self.real_tasks else np.ones(1)
        levels = np.bincount(depth)
        traffic = sum(self.edge_bytes.values())
        share = work / work.sum()
        return {
            "log10_tasks": math.log10(len(self.tasks)),
            "edges_per_task": len(self.edges) / len(self.tasks),
            "depth_share": len(levels) / len(self.tasks),
            "width_share": float(levels.max()) / len(self.tasks),
            "log10_work": math.log10(work.sum()) / 12.0,
            "log10_bytes": math.log10(max(traffic, 1.0)) / 12.0,
            "log10_bytes_per_instruction": math.log10(max(traffic, 1.0) / work.sum()) / 6.0,
            "work_entropy": float(-(share * np.log(share)).sum() / max(math.log(len(work)), 1.0)),
            "applications": len(self.parts) / 3.0,
        }

    def topological_order(self) -> tuple[int, ...]:
        """Task indices, parents before children, ties by task order."""
        return _topological_order(len(self.tasks), self.parents)


def _topological_order(count: int, parents: Sequence[Sequence[int]]) -> tuple[int, ...]:
    done: list[int] = []
    placed = [False] * count
    while len(done) < count:
        ready = [t for t in range(count) if not placed[t] and all(placed[p] for p in parents[t])]
        if not ready:
            break
        for t in ready:
            placed[t] = True
        done += ready
    return tuple(done)


def _check(graph: TaskGraph) -> None:
    """Raise one sentence for the first fault of a graph."""
    _check_tasks(graph, graph.name)
    _check_edges(graph, graph.name)
    _check_reached(graph, graph.name)
    _check_acyclic(graph, graph.name)
    name = graph.name
    if not graph.parts:
        raise ArchGymError(f"task graph {name!r} has no last task; its completion is the latency")
    for part in graph.parts:
        if part.last_task not in graph.index:
            raise UnknownNameError(f"last_task of {name!r}", part.last_task, graph.index)
        for budget, value in (
            ("latency_s", part.latency_budget_s),
            ("power_w", part.power_budget_w),
            ("area_mm2", part.area_budget_m2),
        ):
            if not LEAST <= value <= MOST:
                raise ArchGymError(f"the budget {budget} of {part.name!r} is {value:g}; expected a positive number")


def _check_tasks(graph: TaskGraph, name: str) -> None:
    if len(graph.index) != len(graph.tasks):
        names = [task.name for task in graph.tasks]
        twice = next(n for n in names if names.count(n) > 1)
        raise ArchGymError(f"task graph {name!r} lists task {twice!r} twice; names must differ")
    for dummy in (SOURCE, SINK):
        if dummy not in graph.index:
            raise ArchGymError(
                f"task graph {name!r} has no task {dummy!r}; every graph starts at source and ends at sink"
            )
        if graph.tasks[graph.index[dummy]].cycles:
            raise ArchGymError(
                f"task {dummy!r} of {name!r} has work; it stands for input or output and must have 0 cycles"
            )
    if len(graph.tasks) > MAX_TASKS:
        raise ArchGymError(f"task graph {name!r} has {len(graph.tasks)} tasks; at most {MAX_TASKS} are supported")
    for task in graph.tasks:
        if task.cycles and not LEAST <= task.cycles <= MOST:
            raise ArchGymError(
                f"task {task.name!r} of {name!r} has {task.cycles:g} cycles; expected 0, or {LEAST:g} to {MOST:g}"
            )
        if task.accelerator is not None:
            if task.cycles == 0:
                raise ArchGymError(f"task {task.name!r} of {name!r} has an accelerator but no work; leave one out")
            for key, value in asdict(task.accelerator).items():
                if not LEAST <= value <= MOST:
                    raise ArchGymError(
                        f"the accelerator of task {task.name!r} of {name!r} has {key} = {value:g}; "
                        f"expected a positive number from {LEAST:g} to {MOST:g}"
                    )
    if all(task.cycles == 0 for task in graph.tasks):
        raise ArchGymError(f"no task of {name!r} has work; give at least one task a positive number of cycles")


def _check_edges(graph: TaskGraph, name: str) -> None:
    pairs: set[tuple[str, str]] = set()
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            if end not in graph.index:
                raise UnknownNameError(f"task on edge {edge.source} -> {edge.target} of {name!r}", end, graph.index)
        if edge.source == edge.target:
            raise ArchGymError(f"task {edge.source!r} of {name!r} has an edge to itself; a task graph is acyclic")
        if edge.target == SOURCE or edge.source == SINK:
            raise ArchGymError(
                f"edge {edge.source} -> {edge.target} of {name!r} runs backwards; nothing enters source or leaves sink"
            )
        if (edge.source, edge.target) in pairs:
            raise ArchGymError(f"edge {edge.source} -> {edge.target} of {name!r} is listed twice; add its bytes up")
        pairs.add((edge.source, edge.target))
        if not 1 <= edge.bytes <= MOST:
            raise ArchGymError(
                f"edge {edge.source} -> {edge.target} of {name!r} carries {edge.bytes:g} bytes; expected at least 1"
            )


def _check_reached(graph: TaskGraph, name: str) -> None:
    has_parent, has_child = {edge.target for edge in graph.edges}, {edge.source for edge in graph.edges}
    for task in sorted(graph.tasks, key=lambda task: task.name in (SOURCE, SINK)):
        if task.name != SOURCE and task.name not in has_parent:
            raise ArchGymError(
                f"task {task.name!r} of {name!r} reads nothing; add an edge [source, {task.name}, bytes]"
            )
        if task.name != SINK and task.name not in has_child:
            raise ArchGymError(f"nobody reads task {task.name!r} of {name!r}; add an edge [{task.name}, sink, bytes]")


def _check_acyclic(graph: TaskGraph, name: str) -> None:
    parents = [[graph.index[e.source] for e in graph.edges if e.target == task.name] for task in graph.tasks]
    order = _topological_order(len(graph.tasks), parents)
    if len(order) < len(graph.tasks):
        # Walk back along unplaced parents until a task repeats: that is a cycle.
        left = set(range(len(graph.tasks))) - set(order)
        walk = [min(left)]
        while True:
            step = next(p for p in parents[walk[-1]] if p in left)
            if step in walk:
                cycle = [*walk[walk.index(step) :], step][::-1]
                break
            walk.append(step)
        shown = " -> ".join(graph.tasks[t].name for t in cycle)
        raise ArchGymError(f"task graph {name!r} has a cycle: {shown}; remove one of these edges")


# --- combinations ----------------------------------------------------------------------------------------------


def combine(graphs: Sequence[TaskGraph]) -> TaskGraph:
    """The union of task graphs, run at the same time: ``source`` and ``sink`` are merged, power and area budgets add
    up, every application keeps its own latency and latency budget. Task order is graph after graph."""
    if len(graphs) == 1:
        return graphs[0]
    name = "+".join(graph.name for graph in graphs)
    tasks: dict[str, Task] = {}
    for graph in graphs:
        for task in graph.tasks:
            if task.name in tasks and task.name not in (SOURCE, SINK):
                raise ArchGymError(f"cannot combine {name}: two of them have a task {task.name!r}; rename one")
            tasks.setdefault(task.name, task)
        for part in graph.parts:
            if part.last_task == SINK:
                raise ArchGymError(
                    f"cannot combine {name}: the last task of {part.name!r} is sink, which all of them share; "
                    "name the task before it"
                )
    return TaskGraph(
        name,
        "at the same time: " + ", ".join(graph.name for graph in graphs),
        list(tasks.values()),
        [edge for graph in graphs for edge in graph.edges],
        [part for graph in graphs for part in graph.parts],
        graphs[0].first_accelerator,
    )


# --- files -----------------------------------------------------------------------------------------------------

_UNMARKED: dict[str | None, str] = {"zoomProcess": "rotatorSet"}
"""First task with an accelerator -> the one that comes first in ArchGym's library without being part of the fingerprint, where it
is not that task itself: in the shipped audio decoder, whose fingerprint stands in tables and data sets that are older."""
_KEYS = {"name", "description", "last_task", "budgets", "power_unit_w", "first_accelerator", "tasks", "edges"}
_LARGEST = 1e18
"""Of every number in a file: far beyond any system, and far from where sums and products overflow."""
_BUDGETS = {"latency_s", "power_w", "area_mm2"}
_ACCELERATOR = {"cycles", "power", "area_um2", "iterations"}


def read_task_graph(path: Path) -> TaskGraph:
    """Read a task graph from a YAML file; see docs/simulators/soc.md for the format.

    Raises:
        ArchGymError: one sentence that names the first fault.
    """
    return parse_task_graph(read_text(path, "task graph file"), quote_path(path), default_name=path.stem)


def parse_task_graph(text: str, where: str = "task graph", default_name: str = "") -> TaskGraph:
    """The task graph in a YAML text; ``where`` names it in errors."""
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ArchGymError(f"{where} holds no mapping; expected the keys last_task, budgets, tasks and edges")
    _known_keys(data, _KEYS, where)
    for key in ("last_task", "budgets", "tasks", "edges"):
        if key not in data:
            raise ArchGymError(f"{where} has no {key!r}; expected last_task, budgets, tasks and edges")
    name = name_of(data.get("name"), where) or default_name or "task_graph"
    unit = _number(data.get("power_unit_w", 1e-6), where, "power_unit_w")
    if unit < LEAST:
        raise ArchGymError(f"power_unit_w in {where} is {unit:g}; expected a positive number")
    budgets = _mapping(data["budgets"], where, "budgets")
    _known_keys(budgets, _BUDGETS, f"budgets of {where}")
    for key in sorted(_BUDGETS):
        if key not in budgets:
            raise ArchGymError(f"budgets of {where} lack {key!r}; expected latency_s, power_w and area_mm2")
    tasks = [Task(SOURCE, 0.0)]
    for task_name, entry in _mapping(data["tasks"], where, "tasks").items():
        task_name = _name(task_name, where)
        if task_name in (SOURCE, SINK):
            raise ArchGymError(f"{where} lists the task {task_name!r}; it is always there, so leave it out")
        about = f"task {task_name!r} of {where}"
        entry = _mapping(entry, where, f"task {task_name!r}")
        _known_keys(entry, {"cycles", "accelerator"}, about)
        if "cycles" not in entry:
            raise ArchGymError(f"{about} has no 'cycles'; give its cycles on the CPU (0 for a dummy)")
        figures = None
        if entry.get("accelerator") is not None:
            given = _mapping(entry["accelerator"], where, f"the accelerator of task {task_name!r}")
            _known_keys(given, _ACCELERATOR, f"the accelerator of {about}")
            for key in ("cycles", "power", "area_um2"):
                if key not in given:
                    raise ArchGymError(f"the accelerator of {about} lacks {key!r}; expected cycles, power and area_um2")
            iterations = _number(given.get("iterations", 1), where, f"iterations of {task_name!r}")
            if iterations != int(iterations) or not 1 <= iterations <= 1e9:
                raise ArchGymError(
                    f"the accelerator of {about} has iterations = {iterations:g}; expected a whole number from 1 to 1e9"
                )
            figures = AcceleratorFigures(
                _number(given["cycles"], where, f"accelerator cycles of {task_name!r}"),
                _number(given["power"], where, f"accelerator power of {task_name!r}"),
                _number(given["area_um2"], where, f"accelerator area of {task_name!r}"),
                int(iterations),
            )
        tasks.append(Task(task_name, _number(entry["cycles"], where, f"cycles of {task_name!r}"), figures, unit))
    tasks.append(Task(SINK, 0.0))
    if not isinstance(data["edges"], list):
        raise ArchGymError(f"edges of {where} are not a list; expected [from, to, bytes] entries")
    edges = []
    for entry in data["edges"]:
        if not (isinstance(entry, list) and len(entry) == 3):
            raise ArchGymError(f"edge {quote(entry)} of {where} is not of the form [from, to, bytes]")
        edges.append(
            Edge(
                _name(entry[0], where),
                _name(entry[1], where),
                _number(entry[2], where, f"bytes of {entry[0]} -> {entry[1]}"),
            )
        )
    part = Part(
        name,
        _name(data["last_task"], where),
        _number(budgets["latency_s"], where, "latency_s"),
        _number(budgets["power_w"], where, "power_w"),
        _number(budgets["area_mm2"], where, "area_mm2") * 1e-6,
    )
    first = data.get("first_accelerator")
    description = str(data.get("description") or f"task graph {name}")
    return TaskGraph(name, description, tasks, edges, [part], None if first is None else str(first))


def write_task_graph(graph: TaskGraph, path: Path) -> None:
    """Write a task graph of one application in the format that :func:`read_task_graph` reads."""
    if len(graph.parts) != 1:
        raise ArchGymError(f"{graph.name!r} holds {len(graph.parts)} applications; write each to a file of its own")
    part = graph.parts[0]
    tasks: dict[str, Any] = {}
    units = {task.power_unit_w for task in graph.tasks if task.accelerator is not None}
    for task in graph.tasks:
        if task.name not in (SOURCE, SINK):
            tasks[task.name] = {"cycles": task.cycles}
            if task.accelerator is not None:
                tasks[task.name]["accelerator"] = asdict(task.accelerator)
    data = {
        "name": graph.name,
        "description": graph.description,
        "last_task": part.last_task,
        "budgets": {
            "latency_s": part.latency_budget_s,
            "power_w": part.power_budget_w,
            "area_mm2": part.area_budget_m2 * 1e6,
        },
        "power_unit_w": units.pop() if len(units) == 1 else 1e-6,
        "tasks": tasks,
        "edges": [[edge.source, edge.target, edge.bytes] for edge in graph.edges],
    }
    path.write_text(yaml_text(data, default_flow_style=None), encoding="utf-8")


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str | int) or not 0 < len(str(value)) <= 80:
        raise ArchGymError(f"a task of {where} is called {quote(value)}; expected a name of at most 80 characters")
    return str(value)


def _mapping(value: Any, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ArchGymError(f"{what} of {where} is {value!r:.60}; expected a mapping")
    return value


def _number(value: Any, where: str, what: str) -> float:
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArchGymError(f"{what} in {where} is {value!r:.60}; expected a number")
    if not -_LARGEST <= value <= _LARGEST:  # a NaN fails as well
        raise ArchGymError(f"{what} in {where} is {value:.3g}; expected a number of at most {_LARGEST:g}")
    return float(value)


def _known_keys(data: Mapping[Any, Any], known: Iterable[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise UnknownNameError(f"key in {where}", key, known)


# --- what comes with the package -------------------------------------------------------------------------------


@cache
def builtin(name: str) -> TaskGraph:
    """One of the task graphs that come with the package."""
    text = (resources.files(__package__) / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_task_graph(text, f"{name}.yaml", name)


@cache
def builtin_combination(names: tuple[str, ...]) -> TaskGraph:
    """The union of built-in task graphs, in the order given."""
    return combine([builtin(name) for name in names])
