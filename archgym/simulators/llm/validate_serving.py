"""Serving against the reference data: schedules, recorded servers, measured steady states and power."""

from __future__ import annotations

__all__ = ()

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote
from archgym.measure import Group, compare
from archgym.reading import quote_path, read_json, taking_apart
from archgym.simulators.llm.devices import ELEMENT_BYTES
from archgym.simulators.llm.iteration import Layout, build, cache_bytes, engine, weight_bytes
from archgym.simulators.llm.profile import (
    check_count,
    check_requests,
    find_device,
    find_model,
    read_columns,
    read_run,
    replay,
)  # fmt: skip

POLICIES = {"vllm": "PROMPTS_FIRST", "sarathi": "CHUNKED", "orca": "ORCA"}
ROUTERS = {"round_robin": "ROUND_ROBIN", "lor": "LEAST_WAITING"}
MEAN, PERCENTILE, ONE = 0.05, 0.08, 0.08
"""Bounds on errors of recorded runs: means, percentiles, median error of one request."""
STEADY_BUDGET = 8192
"""Tokens an iteration of a measured server may hold; its rows do not say."""
FITTED = ("vllm",)
"""Engines whose constants were fitted (on Llama-3.1-70B): their bound holds for that model."""
FITTED_MODEL = "llama3.1-70b"


RUN_FILES = ("meta.json", "requests.csv.gz", "dense.csv.gz", "per_sequence.csv.gz", "attention.csv.gz")
"""What a recorded run cannot be replayed without."""


def groups(ref: Path) -> Iterator[Group]:
    """Groups of the files that are there."""
    if all((ref / "schedules" / name).is_file() for name in ("runs.json", "traces.csv")):
        with taking_apart(ref / "schedules", "recorded schedules"):
            yield from schedules(ref / "schedules")
    if (ref / "vllm").is_dir():
        for folder in sorted((ref / "vllm").iterdir()):
            if all((folder / name).is_file() for name in RUN_FILES):
                with taking_apart(folder, "recorded run"):
                    yield from recorded(folder)
    if (ref / "serving_measured.csv.gz").is_file():
        with taking_apart(ref / "serving_measured.csv.gz", "measured servers"):
            yield from steady(ref / "serving_measured.csv.gz")
    if (ref / "splitwise_measured.csv").is_file():
        with taking_apart(ref / "splitwise_measured.csv", "measured power"):
            yield from energy(ref / "splitwise_measured.csv")


# --- schedules -----------------------------------------------------------------------------------------------------


def schedules(folder: Path) -> Iterator[Group]:
    """Batches by digest, times and restarts of every request."""
    traces = read_columns(
        folder / "traces.csv", ("arrived_s", "prompt_tokens", "output_tokens"), "request traces"
    )  # fmt: skip
    path = folder / "requests.csv.gz"
    columns = ("run", "id", "first_scheduled_s", "first_token_s", "finished_s", "restarts")
    known = read_columns(path, columns, "results of requests") if path.is_file() else None
    runs = read_json(folder / "runs.json", "list of runs")
    counts, digests, described, times, restarts = [], [], [], [], []
    check_requests(traces["arrived_s"], traces["prompt_tokens"], traces["output_tokens"], folder / "traces.csv")
    for run in runs:
        for key in ("stages", "replicas", "block_size", "num_blocks", "batch_cap"):
            check_count(run[key], key, folder / "runs.json")
        here = traces["trace"] == run["trace"]
        if not here.any() or (np.diff(traces["arrived_s"][here]) < 0).any():
            raise ArchGymError(
                f"the trace {quote(run['trace'])} of {quote_path(folder)} has no requests, or not in order of arrival"
            )
        lines, counted, rows = run_schedule(
            run, *(traces[name][here] for name in ("arrived_s", "prompt_tokens", "output_tokens"))
        )
        described.append({"run": run["run"], "policy": run["scheduler"], "stages": run["stages"]})
        counts.append((counted, run["batches"]))
        digests.append(hashlib.sha256(lines.encode()).hexdigest() == run["sha256_of_all_batches"])
        if known is not None:
            mine = known["run"] == run["run"]
            ids = known["id"][mine].astype(np.int64)
            for name, field in (
                ("first_scheduled_s", "scheduled"),
                ("first_token_s", "first"),
                ("finished_s", "finished"),
            ):
                times.append(np.stack([rows[field][ids], known[name][mine]]))
            restarts.append(np.stack([rows["restarts"][ids], known["restarts"][mine]]))
    exact = {"exact": 1.0}
    yield compare("serving.schedule/batches", *np.array(counts).T, required=exact, rows=described)
    yield compare("serving.schedule/digest", digests, np.ones(len(digests)), required=exact, rows=described)
    if times:
        yield compare("serving.schedule/times", *np.concatenate(times, axis=1), required=exact)
        yield compare("serving.schedule/restarts", *np.concatenate(restarts, axis=1), required=exact)


def run_schedule(
    run: Mapping[str, Any], arrived: NDArray[Any], prompt: NDArray[Any], output: NDArray[Any], skip: bool = False
) -> tuple[str, int, Any]:
    """Simulate one run of the reference. Returns the lines of its batches as the digest takes them, their number, and
    the requests; no lines where stretches are skipped."""
    from archgym.simulators.llm.kernels import serving as kernel

    try:
        server = np.zeros(1, kernel.SERVER)
        server["policy"] = getattr(kernel, POLICIES[run["scheduler"]])
        server["router"] = getattr(kernel, ROUTERS[run["router"]])
        server["stages"], server["replicas"] = run["stages"], run["replicas"]
        server["cap"], server["batch"] = run["batch_cap"], run["plain_cap"]
        server["budget"], server["padded"] = run["chunk_size"], run["max_tokens_in_batch"]
        server["block"], server["blocks"] = run["block_size"], run["num_blocks"]
        server["watermark"] = int(run["watermark"] * run["num_blocks"])
        server["reserved"], server["skip"] = run["max_tokens"] // run["block_size"], skip
        cost = law_cost(run["law"])
        batches = np.zeros((0 if skip else int(run["batches"]), len(kernel.RECORD)))
    except KeyError as error:
        raise ArchGymError(f"a run of schedules/runs.json lacks or does not know {error}") from None
    pieces = np.zeros((0 if skip else len(arrived) * 64, 3), np.int64)
    totals = np.zeros(len(kernel.TOTALS))
    while True:
        rows = kernel.fresh(arrived, prompt.astype(np.int64), output.astype(np.int64))
        count, noted = kernel.simulate(rows, server[0], cost, totals, batches, pieces)
        if count <= len(batches) and noted <= len(pieces):
            break
        batches, pieces = np.zeros((count, len(kernel.RECORD))), np.zeros((noted, 3), np.int64)
    return ("" if skip else _lines(batches[:count], pieces[:noted])), int(totals[0]), rows


def law_cost(law: Any) -> Any:
    """The linear law as a cost."""
    from archgym.simulators.llm.kernels.serving import LAW, Cost

    constants = np.array(law, dtype=np.float64)
    if constants.shape != (5,) or not (np.isfinite(constants) & (constants >= 0)).all():
        raise ArchGymError(f"the law of a run is {quote(law, 60)}; expected five numbers from 0 up")
    none = np.zeros(2)
    return Cost(
        LAW, constants, none, none, none, none, none, none, none, none, none, none, 0.0, 0.0, 0.0
    )  # fmt: skip


def _lines(batches: NDArray[np.float64], pieces: NDArray[np.int64]) -> str:
    begin = np.searchsorted(pieces[:, 0], np.arange(len(batches) + 1))
    words = [f"{request}:{tokens}" for _, request, tokens in pieces.tolist()]
    lines = []
    for i, row in enumerate(batches.tolist()):
        prefills = " ".join(words[begin[i] : begin[i + 1]])
        lines.append(
            f"{int(row[0])},{row[1]!r},{row[2]!r},{int(row[3])},{int(row[4])},{prefills},{int(row[6])},{int(row[7])}\n"
        )
    return "".join(lines)


# --- recorded servers ------------------------------------------------------------------------------------------------


def recorded(folder: Path) -> Iterator[Group]:
    """One recorded run: mean and percentiles of TTFT, TPOT and E2E, and each request's E2E."""
    run = read_run(folder)
    rows, _ = replay(run)
    truth = times(
        run.requests["queued_s"], run.requests["first_token_s"], run.requests["last_token_s"],
        run.requests["output_tokens"],
    )  # fmt: skip
    ours = times(rows["arrived"], rows["first"], rows["finished"], run.requests["output_tokens"])
    for metric in truth:
        a, b = ours[metric], truth[metric]
        name = f"serving.vllm/{run.name}/{metric}"
        yield compare(f"{name}_mean", [a.mean()], [b.mean()], required={"worst_error": MEAN})
        points = (50, 90, 95, 99)
        described = [{"percentile": p} for p in points]
        yield compare(
            f"{name}_percentiles", np.percentile(a, points), np.percentile(b, points),
            required={"worst_error": PERCENTILE}, rows=described,
        )  # fmt: skip
    error = np.abs(ours["e2e_s"] / truth["e2e_s"] - 1)
    yield compare(
        f"serving.vllm/{run.name}/e2e_of_the_median_request", [1 + np.median(error)], [1.0],
        required={"worst_error": ONE},
    )  # fmt: skip


def times(arrived: Any, first: Any, last: Any, output: Any) -> dict[str, NDArray[np.float64]]:
    """TTFT, TPOT (of requests with more than one token) and E2E in seconds."""
    several = np.asarray(output) > 1
    return {
        "ttft_s": np.asarray(first - arrived),
        "tpot_s": ((last - first)[several] / (output[several] - 1)),
        "e2e_s": np.asarray(last - arrived),
    }


# --- steady state ----------------------------------------------------------------------------------------------------


def read_measured(path: Path) -> list[dict[str, Any]]:
    """Rows of measured servers that run aggregated, with the model and device they mean; others are left out."""
    numbers = ("isl", "osl", "concurrency", "tp", "tpot_ms")
    table = read_columns(path, numbers, "measured servers")
    for name in ("model", "system", "backend", "precision", "mode"):
        if name not in table:
            raise ArchGymError(f"the measured servers {quote_path(path)} lack the column {name!r}")
    rows = []
    for i in range(len(table["tp"])):
        row = {name: column[i] for name, column in table.items()}
        row["of"], row["on"] = find_model(row["model"]), find_device(row["system"])
        if row["mode"] == "agg" and row["of"] is not None and row["on"] is not None and row["tpot_ms"] > 0:
            rows.append(row)
    return rows


def predict_steady(rows: list[dict[str, Any]], constants: NDArray[np.float64]) -> NDArray[np.float64]:
    """TPOT and TTFT, s, of measured rows of one model, ``(n, 2)``."""
    from archgym.simulators.llm.kernels.serving import MIXED
    from archgym.simulators.llm.kernels.steady import closed_loops

    parts: dict[tuple[Any, ...], int] = {}
    index = []
    for row in rows:
        ranks, ep = (int(float(row.get(name) or 1)) for name in ("attention_dp", "moe_ep"))
        weights = row["precision"] if row["precision"] in ELEMENT_BYTES else "bf16"
        part = (Layout(int(row["tp"]), ranks, ep, weights, "bf16"), row["on"])
        index.append(parts.setdefault(part, len(parts)))
    tables = build(rows[0]["of"], list(parts), constants)
    columns = np.array([[row["concurrency"], row["isl"], row["osl"]] for row in rows])
    server = np.tile(np.array([MIXED, 1, STEADY_BUDGET]), (len(rows), 1))
    out = np.zeros((len(rows), 2))
    closed_loops(tables, np.array(index), server, columns, out)
    return out


def steady(path: Path) -> Iterator[Group]:
    """TPOT (bounded for the model and engine that were fitted) and TTFT of one group an engine, device and model."""
    cases: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in read_measured(path):
        cases.setdefault((row["backend"], row["on"].name, row["of"].name), []).append(row)
    constants = engine("vllm")
    for (backend, device, model), rows in sorted(cases.items()):
        found = predict_steady(rows, constants)
        fitted = backend in FITTED and model == FITTED_MODEL
        name = f"serving.steady/{backend}/{device}" + ("" if fitted else f"/{model}")
        described = [{key: row[key] for key in ("model", "tp", "isl", "osl", "concurrency")} for row in rows]
        truth = np.array([row["tpot_ms"] for row in rows]) * 1e-3
        yield compare(name, found[:, 0], truth, required={"mean_error": 0.10} if fitted else {}, rows=described)
        first = np.array([float(row.get("ttft_ms") or "nan") for row in rows]) * 1e-3
        have = first > 0
        if have.any():
            kept = [row for row, there in zip(described, have, strict=True) if there]
            yield compare(f"{name}/ttft", found[have, 1], first[have], rows=kept)


# --- energy ----------------------------------------------------------------------------------------------------------


def energy(path: Path) -> Iterator[Group]:
    """Mean power of generation, as a share of the device's limit, from the bandwidth that the measured steps use.

    Rows whose mean power lies below what a device takes that reads nothing are a group apart, without a bound: there
    the samples of the power meter missed most of the run."""
    from archgym.simulators.llm.serving import DECODE_POWER, decode_power_share

    numbers = ("tp", "prompt_tokens", "batch", "output_tokens", "decode_step_ms", "mean_power_of_tdp")
    table = read_columns(path, numbers, "measured power")
    ours, truth, described = [], [], []
    for i in range(len(table["tp"])):
        row = {name: column[i] for name, column in table.items()}
        model, device = find_model(row["model"]), find_device(row["device"])
        if model is None or device is None or not row["mean_power_of_tdp"] > 0 or row["output_tokens"] < 2:
            continue
        width = ELEMENT_BYTES["bf16"]
        cached = row["batch"] * (row["prompt_tokens"] + row["output_tokens"] / 2)
        traffic = weight_bytes(model, row["tp"], 1, 1, width)
        traffic = traffic + cached * model.layers * cache_bytes(model, row["tp"], width)
        used = float(traffic) / (row["decode_step_ms"] * 1e-3) / device.mem_bytes_per_s
        ours.append(float(decode_power_share(used)))
        truth.append(row["mean_power_of_tdp"])
        described.append({key: row[key] for key in ("model", "device", "tp", "batch", "prompt_tokens")})
    low = np.array(truth) < DECODE_POWER
    for name, kept, required in (
        ("serving.energy", np.flatnonzero(~low), {"mean_error": 0.08}),
        ("serving.energy/below_idle", np.flatnonzero(low), {}),
    ):
        if len(kept):
            yield compare(
                name, np.array(ours)[kept], np.array(truth)[kept], required=required, rows=[described[i] for i in kept]
            )
