"""What inherited weights are worth: how well children that start from their parent's weights are ordered, beside children
that train as long from scratch."""

from __future__ import annotations

__all__ = ()

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells, live
from archgym.simulators.nas.fidelity import Fidelity
from archgym.simulators.nas.statistics import mean_interval, tau

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from archgym.simulators.nas.workload import NasWorkload

FEWEST_CHILDREN = 6
"""Children of a parent below which their order says nothing."""


def children_of(parent: int) -> NDArray[np.int64]:
    """Live cells that differ from a cell on one edge, one a function class and none of the parent's own, in code order."""
    row = cells.rows(parent)
    codes = np.array(
        [int(cells.codes(np.where(np.arange(6) == edge, op, row))) for edge in range(6) for op in range(5)]
    )
    codes = codes[~cells.is_dead(cells.rows(codes))]
    number = cells.classes("function")
    codes = codes[number[codes] != number[parent]]
    _, first = np.unique(number[codes], return_index=True)
    return np.sort(codes[first])


def inheritance_statistics(
    workload: NasWorkload,
    parents: int = 10,
    epochs: int = 1,
    seed: int = 0,
    on_parent: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train random parents in full, and all their children for ``epochs`` from the parent's weights and from scratch.

    Kendall's tau with the table's test accuracy is taken within every parent; intervals are Student's over parents, 95 %.
    Networks are trained with seeds that the table does not hold. ``child_cpu_s`` is the processor time of a child's training
    alone, ``child_judged_cpu_s`` with the judgement of its validation samples.
    """
    if not workload.has_table or not workload.data:
        raise ArchGymError(f"{workload.name} has no table and data together; choose nb201-mnist1d or nb201-mnist1d-v2")
    truth = workload.table.column(workload.table.resolve(Fidelity(split="test")), np.arange(cells.CELLS), 0)
    rng = np.random.default_rng([seed, 13])
    drawn = rng.permutation(np.flatnonzero(~cells.is_dead(cells.all_rows()) & np.isfinite(truth)))
    rows: list[dict[str, float]] = []
    for parent in drawn.tolist():
        children = children_of(parent)
        children = children[np.isfinite(truth[children])]
        if len(children) < FEWEST_CHILDREN:
            continue
        rows.append(_of_parent(workload, parent, children, truth[children], epochs, 1000 + seed))
        if on_parent is not None:
            on_parent(len(rows), parents)
        if len(rows) == parents:
            break
    result: dict[str, Any] = {"parents": len(rows), "children": int(sum(row["children"] for row in rows))}
    for name in ("parent_cpu_s", "child_cpu_s", "child_judged_cpu_s"):
        # The median: the first parent may include the compilation of the kernels.
        result[name] = float(np.median([row[name] for row in rows]))
    for name in ("inherited_percent", "scratch_percent", "tau_inherited", "tau_scratch", "tau_macs"):
        values = np.array([row[name] for row in rows])
        result[name], result[f"{name}_interval"] = mean_interval(values)
    gain = np.array([row["tau_inherited"] - row["tau_scratch"] for row in rows])
    result["tau_gain"], result["tau_gain_interval"] = mean_interval(gain)
    return result


def _of_parent(
    workload: NasWorkload, parent: int, children: NDArray[np.int64], truth: NDArray[np.float64], epochs: int, seed: int
) -> dict[str, float]:
    from archgym.simulators.nas.data import load_data
    from archgym.simulators.nas.table import cell_macs

    inherit = Fidelity("train", epochs=epochs, inherit="parent")
    load_data(live.base_recipe(workload).data)
    begin = time.process_time()
    live.train(workload, np.array([parent]), Fidelity("train", inherit="parent"), seed)
    parent_s = time.process_time() - begin
    begin = time.process_time()
    inherited, _ = live.train(workload, children, inherit, seed, parents=np.full(len(children), parent))
    judged_s = (time.process_time() - begin) / len(children)
    full = live.base_recipe(workload)
    made, data = live.recipe(workload, inherit), load_data(full.data)
    first = int(children[0])
    child_s = [
        live.inherited(workload, first, parent, seed, data, made, full, "parent", "valid").seconds[-1] for _ in range(3)
    ]
    scratch, _ = live.train(workload, children, Fidelity("train", epochs=epochs), seed)
    return {
        "children": len(children), "parent_cpu_s": parent_s, "child_judged_cpu_s": judged_s,
        "child_cpu_s": float(np.median(child_s)), "inherited_percent": float(inherited.mean()),
        "scratch_percent": float(scratch.mean()), "tau_inherited": tau(inherited, truth),
        "tau_scratch": tau(scratch, truth), "tau_macs": tau(cell_macs(workload.macro_name)[children], truth),
    }  # fmt: skip
