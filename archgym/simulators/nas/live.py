"""Accuracies that are made now: cells that are trained, from scratch or from inherited weights, and cells judged with
the weights of a supernet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from archgym.announcing import duration
from archgym.errors import ArchGymError
from archgym.simulator import Live
from archgym.simulators.nas import cells, table
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.trainer import TrainRecipe, TrainResult, can_train, train_cell, train_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archgym.simulators.nas.data import Data
    from archgym.simulators.nas.fidelity import Fidelity
    from archgym.simulators.nas.supernet.training import SupernetRecipe
    from archgym.simulators.nas.workload import NasWorkload

# Virtual seconds: a least-squares fit of the processor seconds of the table's trainings (one core, compiled kernels),
# a sample = constant + slope * MACs; a twentieth of a second judges a cell with a supernet's weights. A formula and
# not a clock, so that a budget in seconds ends a run at the same design on every machine.
SECONDS_A_SAMPLE = 5.3e-6
SECONDS_A_MAC = 1.3e-10
SUPERNET_SECONDS = 0.05

# Of the torch trainer on one core: a step of one network takes 10 ms on the digits' skeleton (batch 50, 0.13 million
# MACs) and 21 ms on MNIST's (0.43 million). Only for people's expectations.
SECONDS_A_TORCH_STEP = 5e-3
SECONDS_A_TORCH_MAC = 7.5e-10

GROUP = 64
"""Networks that are trained side by side on an accelerator, and designs a piece at most."""
PIECE_SECONDS = 10.0
"""Seconds that a piece of a batch may take, where a design takes less."""

SUPERNET_STEPS = 10_000
SUPERNET_SEEDS = 3
"""Supernets behind ``run=mean`` where the package ships none."""
PARENTS = 256
"""Trained parents that are remembered."""
INHERITED_RATE = 0.5
"""Rate at which a child goes on from its parent's weights, in rates of a training from scratch: the full one undoes part of
what is inherited (Net2Net takes a tenth)."""


def base_recipe(workload: NasWorkload, train_epochs: int | None = None) -> TrainRecipe:
    """The recipe of a workload's full training: its table's own, so that training at the table's settings gives the
    table's rows."""
    from archgym.simulators.nas.data import RECIPES
    from archgym.simulators.nas.recipes import TABLE_RECIPES

    if not workload.data:
        raise ArchGymError(
            f"{workload.name} has no data to train on; choose nb201-mnist1d, nb201-digits or nb201-mnist"
        )
    if workload.own_recipe is not None:
        base = workload.own_recipe
    elif workload.name in TABLE_RECIPES:
        base = TABLE_RECIPES[workload.name]
    elif workload.data == "mnist1d":
        base = TABLE_RECIPES["nb201-mnist1d"]
    else:
        base = TrainRecipe(
            data=RECIPES[workload.data], macro=workload.macro_name, epochs=20, checkpoints=(20,), batch=50
        )
    return base if train_epochs is None else shortened(base, train_epochs)


def shortened(base: TrainRecipe, epochs: int) -> TrainRecipe:
    """A run of its own, annealed to zero at ``epochs``."""
    return base if epochs == base.epochs else replace(base, epochs=epochs, checkpoints=(epochs,))


def recipe(workload: NasWorkload, fidelity: Fidelity, train_epochs: int | None = None) -> TrainRecipe:
    """The recipe behind a ``train`` fidelity; a sentence for a checkpoint that the run does not have."""
    base = base_recipe(workload)
    if fidelity.inherit is not None:
        short = shortened(base, fidelity.epochs or train_epochs or 1)
        return replace(short, rate=base.rate * INHERITED_RATE) if fidelity.inherit == "parent" else short
    epochs = fidelity.epochs or train_epochs or base.epochs
    if fidelity.schedule == "full":
        if epochs not in base.checkpoints:
            raise ArchGymError(
                f"the training run has checkpoints at epochs {', '.join(map(str, base.checkpoints))}; "
                f"{epochs} is none of them (schedule=short trains a run of its own)"
            )
        return base
    return shortened(base, epochs)


def train_seconds(made: TrainRecipe, codes: NDArray[np.int64], epochs: int) -> NDArray[np.float64]:
    """Virtual seconds of so many epochs of cells ``(n,)``; dead cells are not trained."""
    samples = epochs * (made.data.train // made.batch) * made.batch
    seconds = samples * (SECONDS_A_SAMPLE + SECONDS_A_MAC * table.cell_macs(made.macro).take(codes))
    result: NDArray[np.float64] = np.where(cells.is_dead(cells.rows(codes)), 0.0, seconds)
    return result


def effort(workload: NasWorkload, fidelity: Fidelity, device: str, train_epochs: int | None) -> Live | None:
    """What the evaluation of a design takes where a network is trained for it; None where none is, or none can be."""
    if fidelity.source == "supernet":
        return _supernet_effort(workload, fidelity)
    if fidelity.source != "train":
        return None
    try:
        made = recipe(workload, fidelity, train_epochs)
    except ArchGymError:
        return None  # such a training does not exist; evaluating says so
    seconds = expected_seconds(made, made.epochs)
    what = "trains a network for every new design"
    if fidelity.inherit == "parent":
        what += ", and first its parent where that is not trained yet"
    elif fidelity.inherit == "supernet":
        first = expected_supernet_seconds(workload, "uniform", SUPERNET_STEPS)
        what += f" from a supernet, which is trained first where there is none yet ({duration(first)})"
    piece = GROUP if device != "cpu" else min(max(int(PIECE_SECONDS / max(seconds, 1e-3)), 1), GROUP)
    return Live(seconds, what, piece)


def _supernet_effort(workload: NasWorkload, fidelity: Fidelity) -> Live | None:
    from archgym.simulators.nas.supernet.scores import shipped_scores

    policy, steps = fidelity.policy or "uniform", fidelity.steps or SUPERNET_STEPS
    split = fidelity.split or "valid"
    if fidelity.run != "single" and split == "valid" and (policy, steps) in shipped_scores(workload.name):
        return None
    first = expected_supernet_seconds(workload, policy, steps)
    what = f"judges designs by a supernet, which is trained first where there is none yet ({duration(first)} a seed)"
    return Live(SUPERNET_SECONDS, what, GROUP)


def expected_seconds(made: TrainRecipe, epochs: int) -> float:
    """Seconds of so many epochs of the mean cell on one core; a training in torch has a fit of its own."""
    steps = epochs * (made.data.train // made.batch)
    macs = made.batch * float(np.mean(table.cell_macs(made.macro)))
    if can_train(made.macro):
        return float(steps * (made.batch * SECONDS_A_SAMPLE + macs * SECONDS_A_MAC))
    return float(steps * (SECONDS_A_TORCH_STEP + macs * SECONDS_A_TORCH_MAC))


def expected_supernet_seconds(workload: NasWorkload, policy: str, steps: int) -> float:
    """Seconds of a supernet's training, by its steps: a step is a step of one cell."""
    made = supernet_recipe(workload, policy, steps)
    base = replace(base_recipe(workload), batch=made.batch)
    return steps * expected_seconds(base, 1) / (base.data.train // base.batch)


def train(
    workload: NasWorkload,
    codes: NDArray[np.int64],
    fidelity: Fidelity,
    seed: int,
    device: str = "cpu",
    train_epochs: int | None = None,
    parents: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy in percent and virtual seconds of trained cells, both ``(n,)``.

    ``parents``: codes ``(n,)``, -1 where there is none, for ``inherit=parent``: a cell without a parent (or with a
    dead one) is trained in full from scratch, and is then what its children inherit from.
    """
    from archgym.simulators.nas.data import load_data

    made = recipe(workload, fidelity, train_epochs)
    data = load_data(made.data)
    from_nothing = np.full(len(codes), -1) if parents is None else parents
    has_parent = (from_nothing >= 0) & ~cells.is_dead(cells.rows(np.maximum(from_nothing, 0)))
    pairs = np.stack([codes, np.where(has_parent, from_nothing, -1)], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    at = made.checkpoints.index(fidelity.epochs) if fidelity.epochs in made.checkpoints else -1
    accuracy, seconds = np.full(len(unique), table.CHANCE), np.zeros(len(unique))
    dead = cells.is_dead(cells.rows(unique[:, 0]))
    live = unique[~dead]
    split = fidelity.split or "valid"

    def accuracy_of(result: TrainResult, checkpoint: int = at) -> float:
        return float(getattr(result, split)[checkpoint if len(getattr(result, split)) > 1 else -1])

    # Of a trained network only the accuracy is kept, so that memory does not grow with the batch.
    found: list[float] = []
    if fidelity.inherit is None:
        for start in range(0, len(live), GROUP):
            jobs = [(int(code), seed) for code in live[start : start + GROUP, 0]]
            found += map(accuracy_of, train_networks(jobs, data, made, device))
        epochs = np.full(len(live), made.checkpoints[at])
    else:
        full = base_recipe(workload)
        for code, parent in live:
            result = inherited(workload, int(code), int(parent), seed, data, made, full, fidelity.inherit, split)
            # At its end: a cell without a parent is trained by the full recipe, which has checkpoints of its own.
            found.append(accuracy_of(result, -1))
        scratch = (live[:, 1] < 0) & (fidelity.inherit == "parent")
        epochs = np.where(scratch, full.epochs, made.epochs)
    accuracy[~dead] = found
    for count in np.unique(epochs):
        seconds[np.flatnonzero(~dead)[epochs == count]] = train_seconds(made, live[epochs == count, 0], int(count))
    inverse = inverse.reshape(-1)
    return accuracy[inverse], seconds[inverse]


def train_networks(
    jobs: Sequence[tuple[int, int]], data: Data, made: TrainRecipe, device: str = "cpu"
) -> list[TrainResult]:
    """Train (code, seed) jobs from scratch: on the compiled kernels where they have the network, else in torch, on the
    processor one by one and on one thread: no slower than side by side, and a result belongs to its job alone."""
    if device == "cpu" and can_train(made.macro):
        return train_cells(jobs, data, made)
    from archgym.simulators.nas.supernet.engine import one_torch_thread
    from archgym.simulators.nas.torch_trainer import train_group

    if device == "cpu":
        alone = one_torch_thread(train_group)
        return [alone([job], data, made)[0] for job in jobs]
    return train_group(jobs, data, made, device=device)


# --- inherited weights -------------------------------------------------------------------------------------------------


_PARENTS: OrderedDict[tuple[str, int, int], TrainResult] = OrderedDict()
_LOCK = Lock()


def trained_parent(code: int, seed: int, data: Data, full: TrainRecipe) -> TrainResult:
    """A cell trained in full from scratch, with its weights; the last ``PARENTS`` are remembered."""
    key = (full.fingerprint, code, seed)
    with _LOCK:
        found = _PARENTS.get(key)
        if found is not None:
            _PARENTS.move_to_end(key)
            return found
    made = train_cell(code, seed, data, full, keep=True)
    with _LOCK:
        _PARENTS[key] = made
        while len(_PARENTS) > PARENTS:
            _PARENTS.popitem(last=False)
    return made


def inherited(
    workload: NasWorkload,
    code: int,
    parent: int,
    seed: int,
    data: Data,
    made: TrainRecipe,
    full: TrainRecipe,
    kind: str,
    split: str,
) -> TrainResult:
    """Train one cell from the weights of a supernet, or of its parent (-1: none, a full training from scratch), and judge
    it on a split: judging both would take longer than a short training."""
    from archgym.simulators.nas.inherit import child_weights

    if not can_train(made.macro):
        raise ArchGymError(f"{workload.name} has no inherited weights: they are for the one-dimensional networks")
    if kind == "supernet":
        from archgym.simulators.nas.supernet.training import cached_supernet

        supernet = cached_supernet(supernet_recipe(workload, "uniform", SUPERNET_STEPS), seed)
        weights = supernet.leaf_of(code).weights[supernet.store.index(code)]
        return train_cell(code, seed, data, made, start=(weights, None), splits=(split,))
    if parent < 0:
        return trained_parent(code, seed, data, full)
    given = trained_parent(parent, seed, data, full)
    assert given.parameters is not None and given.running is not None
    start = child_weights(parent, code, given.parameters, given.running, seed)
    return train_cell(code, seed, data, made, start=start, splits=(split,))


# --- supernets ---------------------------------------------------------------------------------------------------------


def supernet_recipe(workload: NasWorkload, policy: str, steps: int) -> SupernetRecipe:
    """The recipe of a workload's supernet."""
    from archgym.simulators.nas.supernet.training import SupernetRecipe

    base = base_recipe(workload)
    batch = 100 if can_train(base.macro) else base.batch
    return SupernetRecipe(data=base.data, macro=base.macro, policy=policy, steps=steps, batch=batch)


def supernet_scores(
    workload: NasWorkload, codes: NDArray[np.int64], fidelity: Fidelity, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy in percent, score (minus the cross-entropy in nats) and virtual seconds of cells, ``(n,)`` each.

    Cells of a function class share what its representative inherits. Shipped columns answer where there are any for
    the policy and the steps; else supernets are trained, once, into the cache folder.
    """
    from archgym.simulators.nas.supernet.scores import inherited_scores, shipped_scores
    from archgym.simulators.nas.supernet.training import cached_supernet

    policy, steps, split = fidelity.policy or "uniform", fidelity.steps or SUPERNET_STEPS, fidelity.split or "valid"
    shipped = shipped_scores(workload.name).get((policy, steps)) if split == "valid" else None
    run = fidelity.run or ("mean" if shipped is not None else "single")
    seeds = [seed] if run == "single" else sorted(shipped) if shipped is not None else list(range(SUPERNET_SEEDS))
    number = cells.classes("function")[codes]
    unique, inverse = np.unique(cells.representatives("function")[number], return_inverse=True)
    live = ~cells.is_dead(cells.rows(unique))
    accuracy = np.full((len(seeds), len(unique)), table.CHANCE)
    entropy = np.full((len(seeds), len(unique)), np.log(macro(workload.macro_name).classes))
    for k, one in enumerate(seeds):
        if shipped is not None and one in shipped:
            found = tuple(column[unique[live]] for column in shipped[one])
        else:
            trained = cached_supernet(supernet_recipe(workload, policy, steps), one)
            found = inherited_scores(trained, unique[live], split)
        accuracy[k, live], entropy[k, live] = found
    inverse = inverse.reshape(-1)
    seconds = np.where(live, SUPERNET_SECONDS * len(seeds), 0.0)
    return accuracy.mean(0)[inverse], -entropy.mean(0)[inverse], seconds[inverse]
