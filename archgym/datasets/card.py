"""A dataset's card, written from the data: how it was sampled, how diverse it is, what it does not cover.

It follows the points that guidelines for engineering design data ask for (Picard et al., "DATED: Guidelines for
Creating Synthetic Datasets for Engineering Design Applications", IDETC 2023): sampling, diversity in design space and
in performance space, infeasible designs, splits, reproduction, limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.dataset import Dataset
from archgym.datasets.problems import ProblemInfo
from archgym.datasets.schema import TrialSchema
from archgym.datasets.verify import _Reservoir, info
from archgym.errors import MissingExtraError
from archgym.problem import Problem
from archgym.writing import write_text

SAMPLE = 20_000
REFERENCE = 2_000
CELLS = 10


@dataclass
class _Taken:
    problem: ProblemInfo
    rows: int
    table: pa.Table
    agents: Counter[str]


def _take(dataset: Dataset) -> list[_Taken]:
    """A uniform sample of each problem's rows (objectives and versions together) with exact counts."""
    reservoirs: dict[tuple[str, str], _Reservoir] = {}
    counts: Counter[tuple[str, str]] = Counter()
    infos: dict[tuple[str, str], ProblemInfo] = {}
    agents: dict[tuple[str, str], Counter[str]] = {}
    for about, batch, rows in dataset.groups():
        name = (about.problem, about.key[1])
        infos.setdefault(name, about)
        counts[name] += batch.num_rows
        reservoirs.setdefault(name, _Reservoir(SAMPLE, 5)).offer(batch, rows)
        tally = batch.column("agent").value_counts()
        agents.setdefault(name, Counter()).update({row["values"]: row["counts"] for row in tally.to_pylist()})
    return [
        _Taken(infos[name], counts[name], pa.Table.from_batches(reservoir.batches), agents[name])
        for name, reservoir in reservoirs.items()
    ]


def design_diversity(problem: Problem, table: pa.Table) -> dict[str, Any]:
    """How a sample of trials spreads over the design space.

    ``levels``: parameter -> share of its values that occur. ``entropy``: parameter -> entropy of the values over its
    maximum (1 = even). ``pairs``: mean share of the two-parameter value combinations that occur. ``distance``: mean
    share of parameters in which two random trials differ, over that of uniform draws. ``distinct``: share of the
    trials that are no repeat of another's canonical design.
    """
    designs = TrialSchema(problem, {}).designs(table)
    space = problem.space
    levels, entropy = {}, {}
    for j, parameter in enumerate(space.parameters):
        count = np.bincount(designs[:, j], minlength=len(parameter))
        share = count[count > 0] / len(designs)
        levels[parameter.name] = float((count > 0).mean())
        top = np.log(len(parameter)) if len(parameter) > 1 else 1.0
        entropy[parameter.name] = float(-(share * np.log(share)).sum() / top) if len(parameter) > 1 else 1.0
    pairs = []
    for j in range(space.dimension):
        for k in range(j):
            cells = int(space.nvec[j] * space.nvec[k])
            seen = len(np.unique(designs[:, j] * space.nvec[k] + designs[:, k]))
            pairs.append(seen / min(cells, len(designs)))
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, len(designs), (2, min(20_000, 50 * len(designs))))
    differ = (designs[one] != designs[two])[one != two].mean() if (one != two).any() else 0.0
    even = float((1 - 1 / space.nvec).mean())
    distinct = len(np.unique(space.canonical(designs), axis=0)) / len(designs)
    return {
        "levels": levels,
        "entropy": entropy,
        "pairs": float(np.mean(pairs)) if pairs else 1.0,
        "distance": float(differ / even) if even else 0.0,
        "distinct": distinct,
    }


def metric_diversity(problem: Problem | None, names: Sequence[str], table: pa.Table) -> dict[str, Any]:
    """Quantiles of each metric, and how much of what uniform designs reach the trials cover.

    ``coverage``: of the cells of a 10 x 10 log grid over the first two metrics that hold a uniform design, the share
    that also holds a trial; None without the simulator.
    """
    result: dict[str, Any] = {"metrics": {}, "coverage": None, "correlation": {}}
    columns = {name: table.column(name).to_numpy().astype(np.float64) for name in names}
    for name, column in columns.items():
        known = column[np.isfinite(column)]
        if not len(known):
            continue
        quantiles = np.quantile(known, [0, 0.05, 0.5, 0.95, 1])
        spread = np.log10(quantiles[4] / quantiles[0]) if quantiles[0] > 0 else None
        result["metrics"][name] = {
            **dict(zip(("min", "q05", "median", "q95", "max"), map(float, quantiles), strict=True)),
            "decades": None if spread is None else float(spread),
        }
    if problem is None:
        return result
    plane = _plane(columns, names)
    if plane is None:
        return result
    first, second = plane
    evaluation = problem.evaluate(problem.space.sample(REFERENCE, 1), seed=0)[0]
    reference = np.stack([evaluation.metrics[name][evaluation.feasible] for name in (first, second)])
    mine = np.stack([columns[first], columns[second]])
    reference, mine = (_log(part[:, np.isfinite(part).all(axis=0)]) for part in (reference, mine))
    if not reference.shape[1]:
        return result
    low, high = reference.min(axis=1), reference.max(axis=1)
    cell = [_cells(part, low, high) for part in (reference, mine)]
    wanted = np.unique(cell[0][cell[0] >= 0])
    result["plane"] = [first, second]
    result["coverage"] = float(np.isin(wanted, cell[1]).mean())
    result["beyond"] = float((cell[1] < 0).mean()) if len(cell[1]) else 0.0
    return result


def _plane(columns: dict[str, NDArray[np.float64]], names: Sequence[str]) -> tuple[str, str] | None:
    varied = [n for n in names if len(np.unique(columns[n][np.isfinite(columns[n])])) > 1]
    return (varied[0], varied[1]) if len(varied) > 1 else None


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values))


def _cells(points: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cell of each point, -1 outside."""
    width = np.where(high > low, high - low, 1.0)[:, None]
    where = np.floor((points - low[:, None]) / width * CELLS)
    where = np.where(points == high[:, None], CELLS - 1, where)
    inside = ((where >= 0) & (where < CELLS)).all(axis=0)
    return np.where(inside, where[0] * CELLS + where[1], -1).astype(np.int64)


def card(
    paths: Path | str | Sequence[Path | str], out: Path, *, plots: bool = True, trust: bool = False, title: str = ""
) -> dict[str, Any]:
    """Write ``README.md`` (and its plots) into the folder ``out``; returns the numbers in it, JSON-able."""
    dataset = Dataset(paths)
    about = info(paths)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sections, numbers, limits = [], [], []
    for taken in _take(dataset):
        problem, why = None, ""
        try:
            problem = taken.problem.make(trust=trust)
        except ValueError as error:
            why = str(error)
        metrics = metric_diversity(problem, taken.problem.metrics, taken.table)
        design = design_diversity(problem, taken.table) if problem is not None else None
        feasible = float(np.mean(taken.table.column("feasible").to_pylist()))
        entry = {
            "problem": taken.problem.problem,
            "space": taken.problem.key[1],
            "rows": taken.rows,
            "agents": dict(taken.agents),
            "feasible": feasible,
            "space_size": None if problem is None else problem.space.size,
            "design": design,
            "metric": metrics,
            "plot": None,
        }
        if plots:
            entry["plot"] = _plot(out, taken, problem)
        numbers.append(entry)
        sections.append(_section(entry, taken, why))
        limits += _limits(entry, why)
    text = _page(title or "Design trials", about, sections, limits)
    write_text(out / "README.md", text)
    return {"card": str(out / "README.md"), "rows": about["rows"], "problems": numbers, "limits": limits}


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _section(entry: dict[str, Any], taken: _Taken, why: str) -> str:
    lines = [f"### {entry['problem']} (space `{entry['space']}`)", ""]
    size = entry["space_size"]
    of = f" of a space of {size:.4g} designs" if size else ""
    lines.append(f"{entry['rows']:,} trials{of}; {_share(entry['feasible'])} feasible.")
    lines += ["", "| agent | trials |", "| --- | --- |"]
    lines += [f"| {agent or '(none)'} | {count:,} |" for agent, count in sorted(entry["agents"].items())]
    if entry["design"] is not None:
        design = entry["design"]
        lines += [
            "",
            f"Design space: {_share(design['distinct'])} of the sampled trials are distinct designs; "
            f"{_share(design['pairs'])} of the two-parameter combinations occur; two trials differ in "
            f"{_share(design['distance'])} as many parameters as two uniform draws would.",
            "",
            "| parameter | values that occur | evenness (entropy) |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {_share(design['levels'][name])} | {design['entropy'][name]:.2f} |"
            for name in design["levels"]
        ]
    else:
        lines += ["", f"Design space: not analysed ({why})."]
    lines += [
        "",
        "| metric | min | 5 % | median | 95 % | max | decades |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in entry["metric"]["metrics"].items():
        numbers = " | ".join(f"{row[part]:.6g}" for part in ("min", "q05", "median", "q95", "max"))
        lines.append(f"| {name} | {numbers} | {'' if row['decades'] is None else format(row['decades'], '.2f')} |")
    if entry["metric"]["coverage"] is not None:
        first, second = entry["metric"]["plane"]
        lines += [
            "",
            f"Metric space: the trials cover {_share(entry['metric']['coverage'])} of the ({first}, {second}) cells "
            f"that {REFERENCE:,} uniform designs reach; {_share(entry['metric']['beyond'])} of the trials lie beyond.",
        ]
    if entry["plot"]:
        lines += ["", f"![Coverage of {entry['problem']}]({Path(entry['plot']).name})"]
    return "\n".join(lines)


def _limits(entry: dict[str, Any], why: str) -> list[str]:
    """What a reader must know before trusting a model trained on this."""
    name, found = entry["problem"], []
    if entry["design"] is not None:
        design = entry["design"]
        missing = [p for p, share in design["levels"].items() if share < 1]
        if missing:
            found.append(f"{name}: some values of {', '.join(missing)} never occur; a model cannot know them.")
        uneven = [p for p, value in design["entropy"].items() if value < 0.8]
        if uneven:
            found.append(f"{name}: {', '.join(uneven)} are sampled unevenly, as a searching agent does.")
        if design["pairs"] < 0.9:
            found.append(f"{name}: {_share(1 - design['pairs'])} of the two-parameter combinations never occur.")
        if design["distinct"] < 0.9:
            found.append(f"{name}: {_share(1 - design['distinct'])} of the trials repeat a design; split by design.")
    coverage = entry["metric"]["coverage"]
    if coverage is not None and coverage < 0.9:
        found.append(f"{name}: {_share(1 - coverage)} of the metric cells that uniform designs reach hold no trial.")
    if len(entry["agents"]) == 1:
        found.append(f"{name}: all trials come from one agent ({next(iter(entry['agents']))}).")
    if entry["feasible"] < 1:
        found.append(f"{name}: {_share(1 - entry['feasible'])} of the trials are infeasible and have no metrics.")
    if why:
        found.append(f"{name}: could not be made here ({why}).")
    return found


def _page(title: str, about: dict[str, Any], sections: list[str], limits: list[str]) -> str:
    versions = sorted({f"{row['problem'].partition('/')[0]} {row['simulator_version']}" for row in about["problems"]})
    objectives = sorted({row["objective"] for row in about["problems"]})
    columns = "\n".join(
        f"| {row['name']} | {row['type']} | {row['role']} | {row['unit']} |" for row in about["columns"]
    )
    listed = "\n".join(f"- {limit}" for limit in limits) or "- none found by the checks of this card"
    return f"""# {title}

{about["rows"]:,} trials of {about["runs"]} runs in {about["files"]} files ({about["bytes"] / 1e6:.1f} MB).
One row is one evaluated design with everything that is needed to repeat it. Written by archgym from the data itself;
nothing on this page was entered by hand.

## How it was sampled

Every trial was proposed by the agent in its `agent` column, with the hyperparameters and seed in the row, and evaluated
by a deterministic simulator. Simulators: {", ".join(versions)}. Objectives: {", ".join(objectives)} (the reward
column refers to the row's objective; the metrics do not depend on it).
{about["cached"]:,} trials repeat a design of their own run (`cached`);
{about["rows"] - about["feasible"]:,} are infeasible and name the broken constraint.

## Diversity, in design space and in metric space

Shares are of a uniform sample of at most {SAMPLE:,} trials a problem.

{chr(10).join(sections)}

## Known limits

{listed}
- Metrics are those of the simulators; what they model and where not to trust them is in the simulators' own pages.

## Use

Split by canonical design, agent, workload or region (`archgym dataset split`), never by row. Check with
`archgym dataset verify`, which also simulates a sample again.

## Columns

| column | type | role | unit |
| --- | --- | --- | --- |
{columns}
"""


def _plot(out: Path, taken: _Taken, problem: Problem | None) -> str | None:
    """Coverage in two panels: trials a value of each parameter, and the first two metrics by agent."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise MissingExtraError("plots of a card", "plot", "matplotlib is not installed") from None
    from matplotlib.figure import Figure

    del matplotlib
    columns = {n: taken.table.column(n).to_numpy().astype(np.float64) for n in taken.problem.metrics}
    plane = _plane(columns, taken.problem.metrics)
    panels = (problem is not None) + (plane is not None)
    if not panels:
        return None
    figure = Figure(figsize=(6.5 * panels, 4.2), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    if problem is not None:
        axis = axes.pop(0)
        designs = TrialSchema(problem, {}).designs(taken.table)
        space = problem.space
        shares = np.full((space.dimension, int(space.nvec.max())), np.nan)
        for j, levels in enumerate(space.nvec):
            shares[j, :levels] = np.bincount(designs[:, j], minlength=levels) / len(designs) * levels
        image = axis.imshow(shares, aspect="auto", cmap="viridis", vmin=0, vmax=2, interpolation="nearest")
        axis.set_yticks(range(space.dimension), space.names, fontsize=7)
        axis.set_xlabel("value index")
        axis.set_title("trials a value, 1 = even", fontsize=9)
        figure.colorbar(image, ax=axis)
    if plane is not None:
        axis = axes.pop(0)
        agents = np.array(taken.table.column("agent").to_pylist(), dtype=object)
        for agent in sorted(set(agents.tolist())):
            rows = np.flatnonzero(agents == agent)[:3000]
            axis.plot(columns[plane[0]][rows], columns[plane[1]][rows], ".", ms=3, alpha=0.5, label=agent or "(none)")
        for scale, name in ((axis.set_xscale, plane[0]), (axis.set_yscale, plane[1])):
            if np.nanmin(columns[name]) > 0:
                scale("log")
        axis.set_xlabel(plane[0])
        axis.set_ylabel(plane[1])
        axis.legend(fontsize=7)
        axis.set_title(taken.problem.problem, fontsize=9)
    name = "".join(c if c.isalnum() else "-" for c in f"{taken.problem.problem}-{taken.problem.key[1]}")
    path = out / f"coverage-{name}.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return str(path)
