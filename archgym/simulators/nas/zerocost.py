"""Zero-cost scores: how good a network looks before any training.

Scores and their origins: ``grad_norm`` and ``snip`` (Abdelfattah et al., ICLR 2021; Lee et al., ICLR 2019),
``synflow`` (Tanaka et al., NeurIPS 2020), ``naswot`` (Mellor et al., ICML 2021), ``jacov`` (its first version),
``zen`` (Lin et al., ICCV 2021). All at initialisation with a seeded generator; w = convolution and linear weights;
one batch. Higher = predicted better. Dead cells, and any cell with a score that is not finite, get the smallest
finite score of the table minus 1: finite, and ranked last.

The scores of the function classes on the skeleton of our own table come with the package; others are computed live.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError
from archgym.simulators.nas import cells
from archgym.simulators.nas.fidelity import PROXIES
from archgym.simulators.nas.parquet import read_parquet
from archgym.writing import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from archgym.simulators.nas.macro import Macro
    from archgym.simulators.nas.workload import NasWorkload

BATCH = 32
SCORE_BLOCK = 32


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("a zero-cost score that is computed live", "nas", str(error)) from None
    return torch


def _weights(network: nn.Module) -> list[nn.Parameter]:
    from torch import nn

    return [m.weight for m in network.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))]


def _gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights with their gradients of the mean cross-entropy."""
    torch = _torch()
    network.train()
    network.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(network(x), y).backward()
    return [(w, w.grad if w.grad is not None else torch.zeros_like(w)) for w in _weights(network)]


def grad_norm(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Sum over layers of the 2-norm of the loss's gradient."""
    return sum(float(g.norm()) for _, g in _gradients(network, x, y))


def snip(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Sum over weights of abs(weight * gradient of the loss)."""
    return sum(float((w.detach() * g).abs().sum()) for w, g in _gradients(network, x, y))


def synflow(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """log of the sum of abs(w) * dR/d abs(w), R the sum of the logits for an input of ones, all parameters absolute,
    norms an identity scale (mean 0, variance 1), double precision."""
    import copy

    torch = _torch()
    linear = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        for p in linear.parameters():
            p.abs_()
    linear.zero_grad(set_to_none=True)
    linear(torch.ones_like(x[:1], dtype=torch.float64)).sum().backward()
    total = sum((w * w.grad).abs().sum() for w in _weights(linear) if w.grad is not None)
    value = float(torch.as_tensor(total).detach())
    return math.log(value) if value > 0 else -math.inf


def naswot(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """log det K, K = sum over ReLU layers of A A' + (1 - A)(1 - A)', A = 0/1 activations ``(batch, units)``."""
    torch = _torch()
    from torch import nn

    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)

    def count(_: nn.Module, __: Any, out: Tensor) -> None:
        a = (out.detach() > 0).flatten(1).to(torch.float32)
        kernel.add_((a @ a.T + (1 - a) @ (1 - a).T).double().cpu())

    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        network.train()
        with torch.no_grad():
            features = network.features(x)
            count(network, None, features)  # the last ReLU, before the global average
    finally:
        for handle in handles:
            handle.remove()
    sign, value = np.linalg.slogdet(kernel.numpy())
    return float(value) if sign > 0 else -math.inf


def jacov(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """-sum of log(l + k) + 1 / (l + k) over the eigenvalues l of the correlation matrix of the samples' input
    Jacobians (of the sum of logits), k = 1e-5."""
    torch = _torch()
    network.train()
    inputs = x.clone().requires_grad_()
    network(inputs).sum().backward()
    jacobian = inputs.grad.flatten(1).double().cpu().numpy()
    if not np.ptp(jacobian, axis=1).all():
        return -math.inf
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian))
    if not torch.isfinite(torch.as_tensor(eigenvalues)).all():
        return -math.inf
    shifted = np.maximum(eigenvalues, 0.0) + 1e-5
    return float(-(np.log(shifted) + 1.0 / shifted).sum())


def zen(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """log of the mean over samples of the 1-norm of f(x) - f(x + 0.01 e), f before the global average, on Gaussian
    inputs, plus the sum over norms of the log of the root of their mean batch variance."""
    torch = _torch()
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    first = torch.randn(x.shape, generator=generator).to(x)
    second = first + 0.01 * torch.randn(x.shape, generator=generator).to(x)
    scale = []

    def spread(_: nn.Module, inputs: Any) -> None:
        axes = [0, *range(2, inputs[0].dim())]
        scale.append(0.5 * torch.log(inputs[0].detach().var(axes, unbiased=False).mean() + 1e-30))

    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    handles = [m.register_forward_pre_hook(spread) for m in norms]
    network.train()
    try:
        with torch.no_grad():
            base = network.features(first)
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad():
        difference = (base - network.features(second)).abs().flatten(1).sum(1).mean()
    value = float(difference)
    return math.log(value) + float(sum(scale)) if value > 0 else -math.inf


SCORES: dict[str, Callable[[Any, Any, Any], float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacov": jacov,
    "grad_norm": grad_norm,
    "snip": snip,
    "zen": zen,
}


def live_scores(
    code: int, skeleton: Macro, x: NDArray[np.float32], y: NDArray[np.int64], seed: int, proxies: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores and their seconds of one cell on one batch; a score that does not exist is NaN.

    The network starts from the weights that training starts from (cell code, seed); ``x`` has no channel axis where
    the skeleton has one input channel.
    """
    torch = _torch()
    from archgym.simulators.nas.network import CellNetwork, load_flat
    from archgym.simulators.nas.trainer import initial_parameters

    for proxy in proxies:
        if proxy not in SCORES:
            raise UnknownNameError("zero-cost score", proxy, SCORES)
    if cells.is_dead(cells.rows(int(code))):
        return dict.fromkeys(proxies, math.nan), dict.fromkeys(proxies, 0.0)
    theta = torch.as_tensor(initial_parameters(code, seed, skeleton.name))
    batch = torch.as_tensor(x)
    if batch.dim() == skeleton.dimensions + 1:
        batch = batch[:, None]
    labels = torch.as_tensor(y)
    values, seconds = {}, {}
    for proxy in proxies:
        network = CellNetwork(cells.rows(int(code)).tolist(), skeleton)
        load_flat(network, theta)
        begin = time.process_time()
        value = SCORES[proxy](network, batch, labels)
        seconds[proxy] = time.process_time() - begin
        values[proxy] = value if math.isfinite(value) else math.nan
    return values, seconds


def scoring_batch(workload_data: str, skeleton: Macro, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One batch of ``BATCH`` samples: of the workload's training data, or Gaussian noise with random labels where
    it has none."""
    rng = np.random.default_rng([seed, 2])
    if workload_data:
        from archgym.simulators.nas.data import load_data

        data = load_data(workload_data)
        rows = rng.permutation(len(data.x_train))[:BATCH]
        return data.x_train[rows], data.y_train[rows]
    shape = (BATCH, skeleton.inputs, *(skeleton.size,) * skeleton.dimensions)
    return rng.normal(size=shape).astype(np.float32), rng.integers(0, skeleton.classes, BATCH)


def fill_missing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores with the missing ones one below the smallest finite one (0 where there is none)."""
    finite = np.isfinite(values)
    lowest = values[finite].min() if finite.any() else 1.0
    return np.where(finite, values, lowest - 1.0)


def own_scores_path() -> Path:
    """Where the shipped scores lie in the package."""
    return Path(str(resources.files(__package__) / "data" / "nb201_mnist1d_zerocost.parquet"))


@cache
def own_scores() -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Shipped scores on the skeleton ``mnist1d-C8S2``: name -> (score, seconds) of every cell in code order, both
    ``(15625,)``; empty where the file is not there. Scores belong to function classes: an edge off every path
    changes none of them. Cells of classes that are not in the file are NaN; dead ones rank last."""
    path = own_scores_path()
    if not path.exists():
        return {}
    stored, _ = read_parquet(path)
    number = cells.classes("function")
    result = {}
    by_class = np.full(number.max() + 1, np.nan)
    code_class = number[stored["code"].astype(np.int64)]
    for proxy in PROXIES:
        if proxy in stored:
            scores, seconds = by_class.copy(), by_class.copy()
            scores[code_class] = stored[proxy]
            seconds[code_class] = stored[f"{proxy}_seconds"]
            present = np.zeros(len(by_class), dtype=bool)
            present[code_class] = True
            known = present[number] | cells.is_dead(cells.all_rows())
            result[proxy] = (np.where(known, fill_missing(scores[number]), np.nan), np.nan_to_num(seconds[number]))
    return result


def cell_scores(
    workload: NasWorkload, codes: NDArray[np.int64], proxy: str, seed: int, device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score and seconds ``(n,)`` of cells: shipped ones for our own skeleton where there are, else computed now, with
    seed 0 where shipped ones exist (so that all of a workload's scores are of one kind), else with ``seed``.

    A live score that is not finite is ``UNDEFINED``, so that a result does not depend on its batch.
    """

    # One skeleton, one initialisation: version 2's cells take the scores of version 1's batch.
    if workload.data in ("mnist1d", "mnist1d-v2") and proxy in own_scores():
        scores, seconds = (column.take(codes) for column in own_scores()[proxy])
        open_rows = np.flatnonzero(np.isnan(scores))
        if len(open_rows):
            scores[open_rows], seconds[open_rows] = _live(workload, codes[open_rows], proxy, 0, device)
        return scores, seconds
    return _live(workload, codes, proxy, seed, device)


def _live(
    workload: NasWorkload, codes: NDArray[np.int64], proxy: str, seed: int, device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from archgym.simulators.nas.macro import macro

    if device != "cpu":
        raise ArchGymError(f"zero-cost scores run on the processor; leave device={device!r} out")
    skeleton = macro(workload.macro_name)
    x, y = scoring_batch(workload.data, skeleton, seed)
    unique, inverse = np.unique(codes, return_inverse=True)
    scores, seconds = np.empty(len(unique)), np.empty(len(unique))
    for k, code in enumerate(unique):
        values, spent = live_scores(int(code), skeleton, x, y, seed, [proxy])
        scores[k], seconds[k] = values[proxy], spent[proxy]
    scores = np.where(np.isfinite(scores), scores, UNDEFINED)
    return scores[inverse.reshape(-1)], seconds[inverse.reshape(-1)]


UNDEFINED = -1e6
"""Live score of a cell that has none (dead, or not finite): below every real score, whatever the batch."""


def build_scores(
    output: Path, folder: Path, seeds: Sequence[int] = (0,), classes: int | None = None, log: Any = None
) -> int:
    """Score the live function classes on the skeleton of our own table and write the Parquet that ships.

    Scores are averaged over ``seeds`` (weights and batch). Classes come in the order in which the table trains them,
    so that the first ``classes`` are an unbiased sample; parts are kept in ``folder`` and a killed run goes on.
    Returns the number of classes written: those whose parts are there for every seed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from archgym.simulators.nas.build_table import plan
    from archgym.simulators.nas.macro import macro

    torch = _torch()
    torch.set_num_threads(1)
    skeleton = macro("mnist1d-C8S2")
    codes = np.array([code for shard in plan((0,)) for code in shard.codes], dtype=np.int64)
    if classes is not None:
        codes = codes[:classes]
    folder.mkdir(parents=True, exist_ok=True)
    totals = np.zeros((2, len(PROXIES), len(codes)))
    for seed in seeds:
        x, y = scoring_batch("mnist1d", skeleton, seed)
        for start in range(0, len(codes), SCORE_BLOCK):
            block = codes[start : start + SCORE_BLOCK]
            path = folder / f"zerocost-seed{seed}-{start:05d}-{len(block)}.npy"
            if not path.exists():
                part = np.empty((2, len(PROXIES), len(block)))
                for k, code in enumerate(block):
                    values, spent = live_scores(int(code), skeleton, x, y, seed, PROXIES)
                    part[0, :, k] = [values[proxy] for proxy in PROXIES]
                    part[1, :, k] = [spent[proxy] for proxy in PROXIES]
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, part)
                if log is not None:
                    print(f"seed {seed}: {start + len(block)} of {len(codes)} classes", file=log, flush=True)
            totals[:, :, start : start + SCORE_BLOCK] += np.load(path, allow_pickle=False) / len(seeds)
    order = np.argsort(codes)
    columns: dict[str, Any] = {"code": codes[order].astype(np.uint16)}
    for k, proxy in enumerate(PROXIES):
        columns[proxy] = totals[0, k, order].astype(np.float32)
        columns[f"{proxy}_seconds"] = np.round(totals[1, k, order], 4).astype(np.float32)
    table = pa.table(columns).replace_schema_metadata({"archgym": f'{{"seeds": {list(seeds)}, "batch": {BATCH}}}'})
    pq.write_table(table, output, compression="zstd", compression_level=15)
    return len(codes)
