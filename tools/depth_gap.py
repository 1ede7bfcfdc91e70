"""The depth gap of the cells: how the order of cells in the table's network agrees with their order in a deeper one.

    python tools/depth_gap.py              # 24 random classes, three cells a stage in place of one; a quarter of an hour
    python tools/depth_gap.py --cells 2 --classes 60

After Yang et al., "NAS evaluation is frustratingly hard" (ICLR 2020): methods search cells in a shallow network and are
judged in a deep one. Cells are trained by the table's own recipe (seed 0) in torch; tau is Kendall's, with the mean test
accuracy of the table's seeds, and beside it that of the multiply-accumulates and that of one seed of the table with the
mean of the others on the same cells. Intervals are bootstraps over the cells.
"""

from __future__ import annotations

from dataclasses import replace

import click
import numpy as np
from scipy.stats import bootstrap, kendalltau

from archgym.simulators.nas import NasSimulator, cells, live
from archgym.simulators.nas.build_table import plan
from archgym.simulators.nas.data import load_data
from archgym.simulators.nas.fidelity import Fidelity
from archgym.simulators.nas.macro import MACROS, macro
from archgym.simulators.nas.table import Key, cell_macs


def tau_with_interval(a: np.ndarray, b: np.ndarray) -> str:
    """Kendall's tau of two columns ``(n,)``, with its 95 % interval over rows."""

    def statistic(x: np.ndarray, y: np.ndarray) -> float:
        return float(kendalltau(x, y).statistic)

    found = bootstrap((a, b), statistic, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=0)
    low, high = found.confidence_interval
    return f"{statistic(a, b):.3f} [{low:.3f}, {high:.3f}]"


@click.command()
@click.option("--cells", "depth", type=click.IntRange(1), default=3, show_default=True, help="cells a stage")
@click.option("--classes", type=click.IntRange(3), default=24, show_default=True, help="in the table's random order")
def main(depth: int, classes: int) -> None:
    """Train cells in the deeper network and compare."""
    workload = NasSimulator().load_workload("nb201-mnist1d-v2")
    codes = np.array([code for shard in plan((0,)) for code in shard.codes], dtype=np.int64)[:classes]
    own = live.base_recipe(workload)
    name = f"{own.macro}-N{depth}"
    MACROS[name] = replace(macro(own.macro), name=name, cells=depth)
    recipe = replace(own, macro=name, checkpoints=(own.epochs,))
    data = load_data(recipe.data)
    deep = np.empty(classes)
    with click.progressbar(range(classes), label="cells") as rows:
        for k in rows:
            deep[k] = live.train_networks([(int(codes[k]), 0)], data, recipe)[0].test[-1]
    table = workload.table
    resolved = table.resolve(Fidelity(split="test"))
    shallow = table.column(resolved, np.arange(cells.CELLS), 0)[codes]
    runs = table.runs[Key("test", str(resolved.schedule), int(resolved.epochs or 0))][:, codes]
    click.echo(
        f"{classes} classes; mean test accuracy {shallow.mean():.2f} with 1 cell a stage, {deep.mean():.2f} with {depth}"
    )
    click.echo(f"tau of the deep network with the table's mean   {tau_with_interval(shallow, deep)}")
    click.echo(
        f"tau of the deep network with the MACs           {tau_with_interval(cell_macs(own.macro)[codes], deep)}"
    )
    click.echo(
        f"tau of a seed of the table with the table's mean of the others  {tau_with_interval(runs[0], runs[1:].mean(axis=0))}"
    )
    best = np.argsort(-shallow)[: max(classes // 6, 1)]
    rank = np.argsort(np.argsort(-deep)) + 1
    click.echo(
        f"ranks in the deep network of the table's best {len(best)}: {', '.join(map(str, rank[best]))} of {classes}"
    )


if __name__ == "__main__":
    main()
