"""Zero-cost scores layer by layer: what a network's layers say of it before any training.

The statistics behind ``grad_norm``, ``snip``, ``synflow`` and ``naswot`` (:mod:`archgym.simulators.nas.zerocost`), kept apart
for every layer in place of summed over the network: input of the model ``parzc`` (Dong et al., "ParZC: Parametric zero-cost
proxies", arXiv 2402.02105). Those of the function classes on the skeleton of our own tables come with the package.
"""

from __future__ import annotations

__all__ = ()

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.simulators.nas import cells
from archgym.simulators.nas.parquet import read_parquet
from archgym.writing import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATISTICS = ("grad_norm", "snip", "synflow", "naswot")
FIXED = ("stem", "reduction_a", "reduction_b", "shortcut", "classifier")
LAYERS = (*(f"stage{stage}_{edge}" for stage in range(2) for edge in cells.EDGE_NAMES), *FIXED)
"""The layers: the edges of the cell in both stages, then what is in every network."""
STEP = 1 / 16
"""Scores are natural logarithms, kept to this step (6 %): what a generator's seed moves them by is far more."""
BLOCK = 64
TINY = 1e-12


def live_layer_scores(code: int, x: NDArray[np.float32], y: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Scores ``(17, 4)`` of the layers of one live cell on one batch, as natural logarithms; 0 where an edge has no weights.

    ``grad_norm``: 2-norm of the loss's gradient by the layer's weights w; ``snip``: sum of abs(w * gradient); ``synflow``: sum of
    abs(w * gradient) of the network of absolute weights on an input of ones; ``naswot``: log determinant of the share of
    units before the layer on which two samples agree in sign, ``(batch, batch)``; 0 for layers that no ReLU precedes.
    """
    import torch

    from archgym.simulators.nas.macro import macro
    from archgym.simulators.nas.network import CellNetwork, load_flat
    from archgym.simulators.nas.trainer import initial_parameters

    skeleton = macro("mnist1d-C8S2")
    network = CellNetwork(cells.rows(int(code)).tolist(), skeleton)
    load_flat(network, torch.as_tensor(initial_parameters(code, seed, skeleton.name)))
    layers = _layers(network)
    result = np.zeros((len(LAYERS), len(STATISTICS)))

    def agreement(row: int) -> Any:
        def hook(_: Any, __: Any, out: Any) -> None:
            on = (out.detach() > 0).flatten(1).double()
            share = (on @ on.T + (1 - on) @ (1 - on).T) / on.shape[1]
            result[row, 3] = float(torch.logdet(share + 1e-6 * torch.eye(len(on), dtype=torch.float64)))

        return hook

    handles = [relu.register_forward_hook(agreement(row)) for row, (_, relu) in layers.items() if relu is not None]
    network.train()
    features = network.features(torch.as_tensor(x)[:, None])
    agreement(len(LAYERS) - 1)(None, None, features)
    logits = network.classifier(features.flatten(2).mean(-1))
    torch.nn.functional.cross_entropy(logits, torch.as_tensor(y)).backward()
    for handle in handles:
        handle.remove()
    for row, (weight, _) in layers.items():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        result[row, 0] = np.log(float(gradient.norm()) + TINY)
        result[row, 1] = np.log(float((weight.detach() * gradient).abs().sum()) + TINY)
    _flow(network)
    for row, (weight, _) in layers.items():
        flow = 0.0 if weight.grad is None else float((weight.detach() * weight.grad).abs().sum())
        result[row, 2] = np.log(flow + TINY)
    return result


def _layers(network: Any) -> dict[int, tuple[Any, Any]]:
    """Row in ``LAYERS`` -> the layer's weight and the ReLU before it, None where there is none."""
    first, reduction, second = network.blocks
    found: dict[int, tuple[Any, Any]] = {}
    for stage, cell in enumerate((first, second)):
        for edge, operation in enumerate(cell.edges):
            if cell.ops[edge] in (cells.CONV1, cells.CONV3):
                found[6 * stage + edge] = operation[1].weight, operation[0]
    found[12] = network.stem[0].weight, None
    found[13], found[14] = (reduction.a[1].weight, reduction.a[0]), (reduction.b[1].weight, reduction.b[0])
    found[15], found[16] = (reduction.shortcut.weight, None), (network.classifier.weight, None)
    return found


def _flow(network: Any) -> None:
    """Leave in the weights' ``grad`` that of the sum of logits of the linear network of absolute weights, on ones."""
    import torch

    network.eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
        for module in network.modules():
            if hasattr(module, "running_var"):
                module.running_mean.zero_()
                module.running_var.fill_(1.0)
    network.zero_grad(set_to_none=True)
    skeleton_input = torch.ones(1, network.stem[0].weight.shape[1], 40, dtype=torch.float64)
    network(skeleton_input).sum().backward()


def layer_scores_path() -> Path:
    """Where the shipped scores lie in the package."""
    return Path(str(resources.files(__package__) / "data" / "nb201_mnist1d_layers.parquet"))


@cache
def layer_scores() -> NDArray[np.float64]:
    """Shipped scores of every cell on the skeleton ``mnist1d-C8S2``, float64 ``(15625, 17, 4)`` in code order; read-only.

    A cell has those of its class's representative; dead cells have zeros.
    """
    stored, _ = read_parquet(layer_scores_path())
    number = cells.classes("function")
    by_class = np.zeros((number.max() + 1, len(LAYERS), len(STATISTICS)))
    names = [f"{layer}_{statistic}" for layer in LAYERS for statistic in STATISTICS]
    values = np.stack([stored[name] for name in names], axis=1).astype(np.float64) * STEP
    by_class[number[stored["code"].astype(np.int64)]] = values.reshape(-1, len(LAYERS), len(STATISTICS))
    result = by_class[number]
    result.setflags(write=False)
    return result


def build_layer_scores(output: Path, folder: Path, seed: int = 0, classes: int | None = None, log: Any = None) -> int:
    """Score the layers of the live function classes on the skeleton of our own tables and write the Parquet that ships:
    whole numbers of ``STEP``. Parts are kept in ``folder``, and a killed run goes on. Returns the number of classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from archgym.simulators.nas.build_table import plan
    from archgym.simulators.nas.macro import macro
    from archgym.simulators.nas.supernet.engine import one_torch_thread
    from archgym.simulators.nas.zerocost import scoring_batch

    codes = np.array([code for shard in plan((0,)) for code in shard.codes], dtype=np.int64)[:classes]
    folder.mkdir(parents=True, exist_ok=True)
    x, y = scoring_batch("mnist1d", macro("mnist1d-C8S2"), seed)
    scored = one_torch_thread(live_layer_scores)
    parts = []
    for start in range(0, len(codes), BLOCK):
        block = codes[start : start + BLOCK]
        path = folder / f"layers-seed{seed}-{start:05d}-{len(block)}.npy"
        if not path.exists():
            part = np.stack([scored(int(code), x, y, seed) for code in block])
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, part)
            if log is not None:
                print(f"{start + len(block)} of {len(codes)} classes", file=log, flush=True)
        parts.append(np.load(path, allow_pickle=False))
    order = np.argsort(codes)
    whole = np.round(np.concatenate(parts)[order] / STEP).astype(np.int16).reshape(len(codes), -1)
    names = [f"{layer}_{statistic}" for layer in LAYERS for statistic in STATISTICS]
    columns: dict[str, Any] = {"code": codes[order].astype(np.uint16), **dict(zip(names, whole.T, strict=True))}
    table = pa.table(columns).replace_schema_metadata({"archgym": f'{{"seed": {seed}, "batch": {len(x)}}}'})
    with replacing(output) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=15)
    return len(codes)


def layer_features(codes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of cells' layers ``(n, 17, 18)``: one-hot edge (six, zeros for fixed layers), one-hot operation (five), one-hot
    place (stage 1, stage 2, fixed), and the four scores, standardised over the layers of their row that have weights."""
    codes = np.asarray(codes, dtype=np.int64)
    return _all_layer_features()[codes]


@cache
def _all_layer_features() -> NDArray[np.float64]:
    scores, rows = layer_scores(), cells.all_rows()
    edge = np.zeros((len(LAYERS), 6))
    edge[np.arange(12), np.tile(np.arange(6), 2)] = 1.0
    place = np.zeros((len(LAYERS), 3))
    place[np.arange(len(LAYERS)), np.repeat([0, 1, 2], (6, 6, len(FIXED)))] = 1.0
    operation = np.zeros((len(rows), len(LAYERS), 5))
    operation[:, :12] = np.tile(rows[:, :, None] == np.arange(5), (1, 2, 1))
    there = scores[:, :, 2:3] != 0  # synflow's logarithm is exactly 0 for layers without weights alone
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, scores, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(there, scores - mean, 0) ** 2).sum(axis=0) / count)
    standard = np.where(there, (scores - mean) / np.maximum(spread, 1e-6), 0.0)
    fixed = np.broadcast_to(np.concatenate([edge, place], axis=1), (len(rows), len(LAYERS), 9))
    return np.concatenate([fixed[:, :, :6], operation, fixed[:, :, 6:], standard], axis=2)
