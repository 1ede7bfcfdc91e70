"""Replay of a real server: operator times that its own profiler measured, requests with their time stamps.

A folder holds ``dense.csv.gz`` (layer, tokens, time_us), ``per_sequence.csv.gz`` (layer, sequences, time_us),
``attention.csv.gz`` (prefill_chunk, kv_prefill, n_decode, kv_decode, time_us), ``requests.csv.gz`` and ``meta.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.reading import quote_path, read_json
from archgym.simulators.llm import devices, models
from archgym.simulators.llm.devices import ELEMENT_BYTES, Device
from archgym.simulators.llm.iteration import cache_blocks, cache_bytes
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.operators import Operators
from archgym.simulators.llm.requests import MAX_TOKENS

HOST_US = 1100.0
"""Host overhead of an iteration of vLLM 0.19, us, fitted on the run of Llama-3.1-8B on an RTX PRO 6000."""
AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
DEFAULTS: dict[str, Any] = {
    "tensor_parallel_size": 1, "max_num_seqs": 256, "max_num_batched_tokens": 8192, "block_size": 16,
    "gpu_memory_utilization": 0.9, "enable_prefix_caching": True, "dtype": "bfloat16", "kv_cache_dtype": "auto",
}  # fmt: skip
"""What vLLM takes where the record of a run does not say."""
_OTHER_WEIGHTS = {"embedding": 0.0, "final_layernorm": 0.0, "layernorm": 2.0}
"""How often a layer runs an operator, where it is not once; 0: once a pass."""


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        name: the folder's.
        model, device: what ran where; no device where it is unknown (nothing then bounds its memory).
        options: the engine's options.
        requests: columns of the requests, float64 ``(n,)``: prompt_tokens, output_tokens, queued_s, scheduled_s,
            first_token_s, last_token_s.
    """

    name: str
    folder: Path
    model: Model
    device: Device | None
    options: Mapping[str, Any]
    requests: Mapping[str, NDArray[np.float64]]


def read_columns(path: Path, numbers: Iterable[str], what: str) -> dict[str, NDArray[Any]]:
    """Columns of a CSV (also ``.gz``): ``numbers`` as float64, the others as text.

    Raises:
        ArchGymError: where the file is no CSV, lacks a column, or holds something else than numbers.
    """
    import pyarrow as pa
    import pyarrow.csv as pcsv

    where = f"the {what} {quote_path(path)}"
    try:
        table = pcsv.read_csv(path, convert_options=pcsv.ConvertOptions(strings_can_be_null=False))
    except FileNotFoundError:
        raise ArchGymError(f"there is no {what} {quote_path(path)}") from None
    except (pa.ArrowException, OSError) as error:
        raise ArchGymError(f"{where} is no CSV ({str(error)[:80]})") from None
    columns: dict[str, NDArray[Any]] = {}
    for name in numbers:
        if name not in table.column_names:
            raise ArchGymError(f"{where} lacks the column {name!r}")
        try:
            column = table.column(name).cast(pa.float64()).to_numpy()
        except pa.ArrowException:
            raise ArchGymError(f"{where} holds something else than numbers in the column {name!r}") from None
        columns[name] = np.asarray(column, dtype=np.float64)
    for name in table.column_names:
        if name not in columns:
            values = table.column(name).to_pylist()
            columns[name] = np.array(["" if value is None else str(value) for value in values], dtype=object)
    return columns


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.rpartition("/")[2].lower())


def _nearest(name: str, known: Mapping[str, str]) -> str | None:
    """The known name that ``name`` is, or begins with, or that begins with it, punctuation aside."""
    wanted = _plain(name)
    plain = {_plain(other): target for other, target in known.items()}
    if wanted in plain:
        return plain[wanted]
    begins = [other for other in plain if other and wanted.startswith(other)]
    if begins:
        return plain[max(begins, key=len)]
    longer = [other for other in plain if wanted and other.startswith(wanted)]
    return plain[min(longer, key=len)] if longer else None


def find_model(name: str) -> Model | None:
    """The model of the catalogue that a published name means (``meta-llama/Llama-3.1-8B-Instruct``), or None."""
    found = _nearest(name, {key: key for key in models.catalogue()})
    return None if found is None else models.catalogue()[found]


def find_device(name: str) -> Device | None:
    """The device of the catalogue that a short name means (``rtxpro6000``), or None."""
    found = _nearest(name, devices.aliases())
    return None if found is None else devices.catalogue()[found]


def read_run(folder: Path) -> Run:
    """A recorded run from its folder; the device is told by the folder's name (``MODEL_DEVICE_tpN``)."""
    meta = read_json(folder / "meta.json", "record of a run")
    if not isinstance(meta, dict) or not isinstance(meta.get("model"), str):
        raise ArchGymError(f"the record {quote_path(folder / 'meta.json')} names no model")
    own = [folder / name for name in ("model.json", "config.json") if (folder / name).is_file()]
    model = models.read_model(own[0]) if own else find_model(meta["model"])
    if model is None:
        raise ArchGymError(
            f"the run {quote_path(folder)} is of the unknown model {quote(meta['model'])}; put its config.json beside it"
        )
    given = meta.get("engine_kwargs", {})
    options = {**DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    options |= {key: meta[key] for key in ("num_gpu_blocks", "host_us") if key in meta}
    for key in ("tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "block_size"):
        check_count(options[key], key, folder / "meta.json")
    device = None
    for part in (str(meta.get("device", "")), *folder.name.split("_")[1:]):
        device = device or (find_device(part) if part else None)
    columns = ("prompt_tokens", "output_tokens", "queued_s", "scheduled_s", "first_token_s", "last_token_s")
    requests = read_columns(folder / "requests.csv.gz", columns, "requests")
    check_requests(requests["queued_s"], requests["prompt_tokens"], requests["output_tokens"], folder)
    # The simulation takes requests in order of arrival.
    order = np.argsort(requests["queued_s"], kind="stable")
    return Run(folder.name, folder, model, device, options, {name: column[order] for name, column in requests.items()})


def check_count(value: object, what: str, path: Path) -> None:
    """Refuse what is no whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ArchGymError(f"{quote_path(path)}: {what} is {quote(value, 40)}; expected a whole number from 1")


def check_requests(
    arrived: NDArray[np.float64], prompt: NDArray[np.float64], output: NDArray[np.float64], path: Path
) -> None:
    """Refuse times of arrival that are none, and numbers of tokens below 1 or that are not whole."""
    good = np.isfinite(arrived)
    for tokens in (prompt, output):
        good &= (tokens >= 1) & (tokens <= MAX_TOKENS) & (tokens == np.floor(tokens))
    if not good.all():
        i = int(np.argmin(good))
        raise ArchGymError(
            f"request {i} of {quote_path(path)} arrives at {arrived[i]:g} s with {prompt[i]:g} + {output[i]:g} tokens; "
            f"expected seconds and whole numbers from 1 to {MAX_TOKENS:,}"
        )
    if not len(arrived):
        raise ArchGymError(f"{quote_path(path)} holds no requests")


# --- costs ---------------------------------------------------------------------------------------------------------


def _finite(path: Path, numbers: Sequence[str], what: str) -> dict[str, NDArray[Any]]:
    """:func:`read_columns` of a table that has a number from 0 up in each of these columns."""
    rows = read_columns(path, numbers, what)
    for name in numbers:
        if not len(rows[name]) or not (np.isfinite(rows[name]) & (rows[name] >= 0)).all():
            raise ArchGymError(f"the {what} {quote_path(path)} lacks numbers from 0 up in the column {name!r}")
    return rows


def _by_layer(path: Path, axis: str) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    rows = _finite(path, (axis, "time_us"), "operator table")
    if "layer" not in rows:
        raise ArchGymError(f"the operator table {quote_path(path)} lacks the column 'layer'")
    found = {}
    for name in sorted(set(rows["layer"])):
        here = rows["layer"] == name
        order = np.argsort(rows[axis][here])
        found[str(name)] = rows[axis][here][order], rows["time_us"][here][order] * 1e-6
    return found


def attention_table(path: Path) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Axes and seconds of the attention table, the nodes that were not measured filled in linearly between those
    that were, along the decodes' context first, then the prompts', the decodes and the chunk."""
    rows = _finite(path, (*AXES, "time_us"), "attention table")
    axes = [np.unique(np.append(rows[name], 0.0)) for name in AXES]
    table = np.full([len(axis) for axis in axes], np.nan)
    table[tuple(np.searchsorted(axis, rows[name]) for axis, name in zip(axes, AXES, strict=True))] = (
        rows["time_us"] * 1e-6
    )
    # Without decodes their context does not matter, without prompts that of prompts.
    table[:, :, 0, :] = table[:, :, 0, :1]
    table[0] = table[0, :1]
    table[0, :, 0, :] = 0.0
    for along in (3, 1, 2, 0):
        view, grid = np.moveaxis(table, along, -1), axes[along]
        for index in np.ndindex(view.shape[:-1]):
            line = view[index]
            known = ~np.isnan(line)
            if known.any() and not known.all():
                line[~known] = np.interp(grid[~known], grid[known], line[known])
    return axes, table


def profile_cost(run: Run) -> Any:
    """The cost of iterations from the run's own tables, tensor parallelism's all-reduces and the host added."""
    from archgym.simulators.llm.kernels.serving import TABLE, Cost

    dense = _by_layer(run.folder / "dense.csv.gz", "tokens")
    ends = _by_layer(run.folder / "per_sequence.csv.gz", "sequences")
    axes, attention = attention_table(run.folder / "attention.csv.gz")
    layers, tp = run.model.layers, int(run.options["tensor_parallel_size"])
    tokens = np.unique(np.concatenate([grid for grid, _ in dense.values()]))
    seconds = np.full(len(tokens), float(run.options.get("host_us", HOST_US)) * 1e-6)
    for name, (grid, time) in dense.items():
        often = _OTHER_WEIGHTS.get(name, 1.0) * layers or 1.0
        seconds += often * np.interp(tokens, grid, time)
    if tp > 1:
        if run.device is None:
            raise ArchGymError(f"the run {run.name} is of an unknown device: the time of its all-reduces is not known")
        message = tokens * run.model.hidden * 2.0
        seconds += 2 * layers * Operators(run.device).collective("all_reduce", tp, message, "vllm_graph")
    emitting = np.unique(np.concatenate([grid for grid, _ in ends.values()]))
    head = np.sum([np.interp(emitting, grid, time) for grid, time in ends.values()], axis=0)
    width = ELEMENT_BYTES["bf16"]
    token = layers * float(cache_bytes(run.model, tp, width))
    return Cost(
        TABLE, np.zeros(6), tokens, seconds, np.zeros(len(tokens)), emitting, head, axes[0], axes[1], axes[2], axes[3],
        layers * attention.ravel(), token, 0.0, 0.0,
    )  # fmt: skip


def blocks(run: Run) -> int:
    """Memory blocks of the server: recorded, or seen in its log where memory ran short, or what the device leaves; as
    many as all requests can fill where nothing says. What the log shows counts only where it is near what the
    device leaves: far below it, requests waited for something else than memory."""
    block = int(run.options["block_size"])
    everything = int(np.sum(-(-(run.requests["prompt_tokens"] + run.requests["output_tokens"]) // block)))
    for name in ("num_gpu_blocks", "num_gpu_blocks_override"):
        if name in run.options:
            return int(run.options[name])
    seen = _seen_blocks(run, block)
    if run.device is None:
        return everything if seen is None else seen
    tp = int(run.options["tensor_parallel_size"])
    width = ELEMENT_BYTES["bf16"]
    memory = run.device.mem_bytes * float(run.options["gpu_memory_utilization"])
    found = max(1, int(cache_blocks(run.model, memory, 1.0, block, tp, 1, 1, width, width)))
    return seen if seen is not None and 0.6 < seen / found < 1.5 else found


def _seen_blocks(run: Run, block: int) -> int | None:
    """Blocks in use at the moments of the log when requests waited although more could have run: then memory was full.
    None where there were hardly any such moments, or where the blocks in use differed between them: a full memory is
    always equally full."""
    path = run.folder / "timeseries.csv.gz"
    if not path.is_file():
        return None
    log = read_columns(path, ("t", "running", "waiting"), "log of a run")
    r = run.requests
    span = np.maximum(r["last_token_s"] - r["first_token_s"], 1e-9)
    used = []
    for t, running, waiting in zip(log["t"], log["running"], log["waiting"], strict=True):
        if waiting < 1 or running >= int(run.options["max_num_seqs"]) - 1 or running < 1:
            continue
        live = np.flatnonzero((r["scheduled_s"] <= t) & (t < r["last_token_s"]))
        # Those that were preempted are the latest to come.
        live = live[np.argsort(r["scheduled_s"][live], kind="stable")][: int(running)]
        if len(live) < running:
            continue
        done = np.clip((t - r["first_token_s"][live]) / span[live], 0.0, 1.0) * r["output_tokens"][live]
        used.append(np.sum(np.ceil((r["prompt_tokens"][live] + done) / block)))
    if len(used) < 5 or np.median(used) < 0.85 * np.quantile(used, 0.9):
        return None
    return int(np.quantile(used, 0.9))


def replay(run: Run, skip: bool = True) -> tuple[Any, dict[str, float]]:
    """Simulate the run. Returns its requests (an array of ``kernels.serving.REQUEST``) and the totals."""
    from archgym.simulators.llm.kernels import serving as kernel

    r, options = run.requests, run.options
    rows = kernel.fresh(
        r["queued_s"], r["prompt_tokens"].astype(np.int64), r["output_tokens"].astype(np.int64)
    )  # fmt: skip
    server = np.zeros(1, kernel.SERVER)
    server["policy"], server["stages"], server["replicas"] = kernel.MIXED, 1, 1
    server["cap"], server["budget"] = options["max_num_seqs"], options["max_num_batched_tokens"]
    server["block"], server["blocks"] = options["block_size"], blocks(run)
    server["cache"], server["skip"] = bool(options["enable_prefix_caching"]), skip
    totals = np.zeros(len(kernel.TOTALS))
    kernel.simulate(
        rows, server[0], profile_cost(run), totals, np.zeros((0, len(kernel.RECORD))), np.zeros((0, 3), np.int64)
    )
    return rows, dict(zip(kernel.TOTALS, totals.tolist(), strict=True))
