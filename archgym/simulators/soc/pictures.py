"""Pictures of a design: its block diagram with the mapping, and the schedule as a Gantt chart.

Drawn from an explicit design, its task graph and its simulated result; :mod:`archgym.simulators.soc.show` draws from a
row of the design space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archgym.errors import ArchGymError
from archgym.simulators.soc.blocks import Accelerator
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.model import Network, Result
from archgym.simulators.soc.task_graph import TaskGraph
from archgym.svg import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"cpu": "#9ecae1", "accelerator": "#a1d99b", "sram": "#fdd0a2", "dram": "#fdae6b", "bus": "#d9d9d9"}
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def draw(design: SocDesign, graph: TaskGraph, result: Result, *, gantt: bool = True, diagram: bool = True) -> Figure:
    """The block diagram above the schedule, or one of the two.

    Raises:
        ArchGymError: where neither is asked for.
        MissingExtraError: without matplotlib.
    """
    if not (gantt or diagram):
        raise ArchGymError("there is nothing to draw; ask for the diagram, the Gantt chart or both")
    heights = [5.5] * diagram + [1.2 + 0.32 * len(design.pes)] * gantt
    figure = new_figure("drawing a design", (11, sum(heights)))
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if diagram:
        draw_blocks(axes[0], design, graph, result)
    if gantt:
        draw_schedule(axes[-1], design, graph, result)
    return figure


# --- block diagram ---------------------------------------------------------------------------------------------


def draw_blocks(axes: Axes, design: SocDesign, graph: TaskGraph, result: Result) -> None:
    """Buses as bars side by side, their processing elements above and memories below, each with the tasks it runs or
    stores; links between buses as arcs. Pruned buses are left out, as in the simulation."""
    network = Network(design, graph)
    buses = [node for node in network.blocks if network.is_bus(node)]
    stacks = []
    for bus in buses:
        near = network.neighbours[bus]
        pes = [n for n in near if network.is_pe(n)]
        memories = [n for n in near if network.is_memory(n) and network.records[n]]
        stacks.append((bus, pes, memories))
    x = 0.0
    centre: dict[int, float] = {}
    columns = 4
    top = bottom = 0.0
    for bus, pes, memories in stacks:
        width = max(1, min(columns, len(pes)), min(columns, len(memories)))
        centre[bus] = x + width / 2
        _box(axes, x + 0.05, -0.2, width - 0.1, 0.4, COLOURS["bus"], _bus_text(network, bus))
        for k, pe in enumerate(pes):
            left, level = x + (k % width), 0.55 + 0.95 * (k // width)
            tasks = [graph.tasks[t].name for t, host in enumerate(network.task_pe) if host == pe and graph.work[t] > 0]
            kind = "accelerator" if isinstance(design.pes[pe], Accelerator) else "cpu"
            _box(axes, left + 0.05, level, 0.9, 0.8, COLOURS[kind], _pe_text(design, pe, tasks))
            top = max(top, level + 0.9)
            if k < width:
                axes.plot([left + 0.5] * 2, [0.2, level], color="#666666", lw=1, zorder=0)
        for k, memory in enumerate(memories):
            left, level = x + (k % width), -0.55 - 0.95 * (k // width) - 0.8
            block = design.memories[memory - network.pe_count - network.bus_count]
            writers = [
                graph.tasks[t].name for t, m in enumerate(network.task_memory) if m == memory and graph.children[t]
            ]
            text = (
                f"{block.kind.upper()}\n{block.bytes_per_cycle} B x {block.clock_mhz} MHz\n"
                f"{result.capacity_bytes[memory] / 1e6:.3g} MB\n" + _wrap(writers)
            )
            _box(axes, left + 0.05, level, 0.9, 0.8, COLOURS[block.kind], text)
            bottom = min(bottom, level - 0.1)
            if k < width:
                axes.plot([left + 0.5] * 2, [-0.2, level + 0.8], color="#666666", lw=1, zorder=0)
        x += width + 0.4
    for i, a in enumerate(buses):
        for b in network.neighbours[a]:
            if network.is_bus(b) and b in buses[i + 1 :]:
                bend = 0.0 if buses.index(b) == i + 1 else 0.25
                axes.annotate(
                    "",
                    (centre[b], 0.0),
                    (centre[a], 0.0),
                    arrowprops={"arrowstyle": "-", "color": "#333333", "lw": 2, "connectionstyle": f"arc3,rad={bend}"},
                    zorder=0,
                )
    axes.set_xlim(-0.1, max(x - 0.3, 1.0))
    axes.set_ylim(bottom - 0.1, top + 0.1)
    axes.axis("off")
    budget = max(part.latency_budget_s for part in graph.parts)
    axes.set_title(
        f"{graph.name}: latency {_time(max(result.latency_s))} (budget {_time(budget)}), power "
        f"{result.power_w * 1e3:.3g} mW, area {result.area_m2 * 1e6:.3g} mm2",
        fontsize=10,
    )


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.04"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor="#444444", lw=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=6, clip_on=True)


def _wrap(names: list[str], limit: int = 3) -> str:
    shown = names[:limit] + ([f"+ {len(names) - limit} more"] if len(names) > limit else [])
    return "\n".join(shown)


def _pe_text(design: SocDesign, pe: int, tasks: list[str]) -> str:
    element = design.pes[pe]
    if isinstance(element, Accelerator):
        return f"{element.task}\nx{element.unroll}, {element.clock_mhz} MHz"
    return f"CPU {pe}\n" + (_wrap(tasks) or "(idle)")


def _bus_text(network: Network, node: int) -> str:
    bus = network.design.buses[node - network.pe_count]
    return f"bus {node - network.pe_count}: {bus.bytes_per_cycle} B x {bus.clock_mhz} MHz"


# --- Gantt chart -----------------------------------------------------------------------------------------------


def draw_schedule(axes: Axes, design: SocDesign, graph: TaskGraph, result: Result) -> None:
    """Tasks over processing elements and time: a bar a task, hatched where a memory or bus limits it; thin lines at
    the phases' ends; a thin bar where a task has its inputs and waits for its processing element."""
    total = max(result.end_s) or 1.0
    scale, unit = next(((s, u) for s, u in _UNITS if total >= s), _UNITS[-1])
    elements = [pe for pe in range(len(design.pes)) if any(design.task_pe[task.name] == pe for task in graph.tasks)]
    line = {pe: i for i, pe in enumerate(elements)}
    colours = _task_colours(len(graph.tasks))
    for t, task in enumerate(graph.tasks):
        if task.work == 0:
            continue
        y = line[design.task_pe[task.name]]
        if result.start_s[t] > result.launch_s[t]:
            axes.barh(y, (result.start_s[t] - result.launch_s[t]) / scale, left=result.launch_s[t] / scale, height=0.08,
                      color=colours[t], alpha=0.6)  # fmt: skip
        width = (result.end_s[t] - result.start_s[t]) / scale
        axes.barh(y, width, left=result.start_s[t] / scale, height=0.62, color=colours[t], edgecolor="#333333", lw=0.4)
        if width > 0.06 * total / scale:
            axes.text(
                (result.start_s[t] + result.end_s[t]) / 2 / scale, y, task.name, ha="center", va="center", fontsize=6.5
            )
        for phase in result.phases:
            if phase.instructions.get(t) and phase.bottleneck.get(t, "pe") != "pe":
                axes.barh(y, phase.duration_s / scale, left=phase.start_s / scale, height=0.62, facecolor="none",
                          hatch="////", edgecolor="#333333", lw=0.0)  # fmt: skip
    for phase in result.phases:
        axes.axvline((phase.start_s + phase.duration_s) / scale, color="#bbbbbb", lw=0.5, zorder=0)
    for part in graph.parts:
        if part.latency_budget_s <= 1.05 * total:
            axes.axvline(part.latency_budget_s / scale, color="#cb181d", lw=1.2, ls="--")
    axes.set_yticks(range(len(elements)), [_pe_label(design, pe) for pe in elements], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02 * total / scale)
    axes.set_xlabel(f"time in {unit} (dashed: deadlines; hatched: limited by a memory or bus)", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)


def _pe_label(design: SocDesign, pe: int) -> str:
    element = design.pes[pe]
    return f"accelerator {element.task}" if isinstance(element, Accelerator) else f"CPU {pe}"


def _task_colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab20"](t % 20) for t in range(count)]


def _time(seconds: float) -> str:
    scale, unit = next(((s, u) for s, u in _UNITS if seconds >= s), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"
