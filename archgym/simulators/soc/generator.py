"""Random layered task graphs, in the manner of TGFF (Dick, Rhodes and Wolf, "TGFF: Task graphs for free", CODES 1998).

For generalisation studies: graphs of a chosen size, depth and connectivity whose figures (work, bytes, accelerators)
are drawn from ranges that span those of the AR/VR workloads. A seed fixes the graph.
"""

from __future__ import annotations

import math

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.soc.blocks import library
from archgym.simulators.soc.task_graph import (
    INSTRUCTIONS_PER_CYCLE,
    MAX_TASKS,
    SINK,
    SOURCE,
    AcceleratorFigures,
    Edge,
    Part,
    Task,
    TaskGraph,
)

CYCLES = (1e5, 1e9)
"""Cycles of a task on the CPU."""
BYTES_PER_EDGE = (1e3, 1e7)
SPEEDUP = (2.0, 20.0)
"""Accelerator at unroll 1 and 100 MHz over the CPU at 1 GHz, in time."""
AREA_UM2 = (5e2, 2e5)
POWER_PER_UM2 = (1.0, 2.0)
"""Microwatt per um2, as for the AR/VR accelerators."""
ITERATIONS = (1, 256, 1024, 16384)


def generate(
    tasks: int = 12,
    layers: int = 4,
    out_degree: float = 1.5,
    accelerated: float = 1.0,
    slack: float = 0.1,
    seed: int = 0,
) -> TaskGraph:
    """A random layered task graph.

    Args:
        tasks: tasks with work, 1..59.
        layers: depth; every layer holds at least one task, and edges run from a layer to a later one.
        out_degree: mean children a task that is not in the last layer, at least 1.
        accelerated: share of tasks that have an accelerator.
        slack: latency budget as a share of the run time on one CPU without contention.
        seed: fixes the graph.

    Raises:
        ArchGymError: one sentence, for values out of range.
    """
    for name, value in (("tasks", tasks), ("layers", layers), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArchGymError(f"{name} of the generated graph is {value!r}; expected a whole number")
    if not 1 <= tasks <= MAX_TASKS - 3:
        raise ArchGymError(f"a generated graph has 1..{MAX_TASKS - 3} tasks, not {tasks}; change 'tasks'")
    if not 1 <= layers <= tasks:
        raise ArchGymError(f"{tasks} tasks make 1..{tasks} layers, not {layers}; change 'layers'")
    if not (math.isfinite(out_degree) and out_degree >= 1):
        raise ArchGymError(f"out_degree is {out_degree}; expected a number of at least 1")
    if not 0 <= accelerated <= 1:
        raise ArchGymError(f"accelerated is {accelerated}; expected a share between 0 and 1")
    if not (math.isfinite(slack) and slack > 0):
        raise ArchGymError(f"slack is {slack}; expected a positive number")
    if seed < 0:
        raise ArchGymError(f"the seed of the generated graph is {seed}; expected 0 or more")
    rng = np.random.default_rng(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    # One task a layer first, the others anywhere; task order is layer order.
    layer_of = np.sort(np.concatenate([np.arange(layers), rng.integers(0, layers, tasks - layers)]))
    names = [f"task{t}" for t in range(tasks)]
    made = [Task(SOURCE, 0.0)]
    for name in names:
        cycles = float(round(log_uniform(*CYCLES)))
        figures = None
        if rng.random() < accelerated:
            cpu_s = cycles * INSTRUCTIONS_PER_CYCLE / library().cpu_rate
            area = round(log_uniform(*AREA_UM2))
            figures = AcceleratorFigures(
                cycles=float(max(1, round(cpu_s / rng.uniform(*SPEEDUP) * library().accelerator_clock_hz))),
                power=round(area * rng.uniform(*POWER_PER_UM2), 3),
                area_um2=float(area),
                iterations=int(rng.choice(ITERATIONS)),
            )
        made.append(Task(name, cycles, figures))
    made.append(Task(SINK, 0.0))

    pairs: set[tuple[int, int]] = set()
    for t in range(tasks):
        if layer_of[t] > 0:  # a parent in the layer before, so that depth is what it says
            before = np.flatnonzero(layer_of == layer_of[t] - 1)
            pairs.add((int(rng.choice(before)), t))
    inner = int((layer_of < layers - 1).sum())
    wanted = round(out_degree * inner)
    candidates = [
        (a, b) for a in range(tasks) for b in range(tasks) if layer_of[a] < layer_of[b] and (a, b) not in pairs
    ]
    extra = rng.permutation(len(candidates))[: max(0, wanted - len(pairs))]
    pairs |= {candidates[i] for i in extra}
    edges = []
    for t in range(tasks):
        if layer_of[t] == 0:
            edges.append(Edge(SOURCE, names[t], float(round(log_uniform(*BYTES_PER_EDGE)))))
    for a, b in sorted(pairs):
        edges.append(Edge(names[a], names[b], float(round(log_uniform(*BYTES_PER_EDGE)))))
    # One dummy collects the outputs; its completion is the latency.
    parents = {a for a, _ in pairs}
    last = "output"
    made.insert(-1, Task(last, 0.0))
    for t in range(tasks):
        if t not in parents:
            edges.append(Edge(names[t], last, float(round(log_uniform(*BYTES_PER_EDGE)))))
    edges.append(Edge(last, SINK, 1.0))

    cpu_s = sum(task.work for task in made) / library().cpu_rate
    area_mm2 = library().cpu_area_m2 * 1e6 + library().area_scaling * 8 * 1e-6 * sum(
        task.accelerator.area_um2 for task in made if task.accelerator is not None
    )
    cpu_w = library().cpu_rate / library().cpu_instructions_per_joule
    name = f"generated-{tasks}-{layers}-{seed}"
    part = Part(name, last, slack * cpu_s, cpu_w / 2, area_mm2 * 1e-6)
    return TaskGraph(
        name, f"random layered task graph: {tasks} tasks in {layers} layers, seed {seed}", made, edges, [part]
    )
