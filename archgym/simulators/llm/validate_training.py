"""Training steps against recorded and measured ones: ``training.calculon``, ``training.refusals``,
``training.measured/...``, ``training.published``, ``training.memory/...``."""

from __future__ import annotations

__all__ = ()

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.measure import Group, compare
from archgym.reading import taking_apart
from archgym.simulators.llm import calculon
from archgym.simulators.llm.devices import device
from archgym.simulators.llm.fit_training import DEVICES
from archgym.simulators.llm.kernels import calculon as calculon_kernel
from archgym.simulators.llm.kernels import training as kernel
from archgym.simulators.llm.measured import MeasuredStep, read_steps
from archgym.simulators.llm.models import Model, read_object
from archgym.simulators.llm.training_model import StepModel, cluster_vector

GIB = 2.0**30


def groups(ref: Path) -> Iterator[Group]:
    """Groups of the files that the folder holds."""
    if all((ref / "calculon" / name).is_file() for name in ("runs.csv.gz", "models.json", "systems.json")):
        with taking_apart(ref / "calculon", "recorded runs"):
            yield from _recorded(ref / "calculon")
    if (ref / "calculon" / "systems.json").is_file():
        with taking_apart(ref / "calculon" / "systems.json", "file of systems"):
            yield from _published_by_calculon(ref / "calculon" / "systems.json")
    if (ref / "training_measured.csv").is_file():
        with taking_apart(ref / "training_measured.csv", "table of measured steps"):
            yield from _measured(ref / "training_measured.csv")
    yield _published()
    if (ref / "training_memory_published.csv").is_file():
        with taking_apart(ref / "training_memory_published.csv", "table of published memory"):
            yield from _memory(ref / "training_memory_published.csv")


# --- recorded runs of Calculon -------------------------------------------------------------------------------------


def _recorded(folder: Path) -> Iterator[Group]:
    rows, models, systems = calculon.read_runs(folder)
    out, verdict = calculon.evaluate(*calculon.pack_runs(rows, models, systems))
    good = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    if good:
        ours, theirs, shown = [], [], []
        for i in good:
            for j, name in enumerate(calculon_kernel.RESULTS):
                text = rows[i].get(name, "")
                if text != "":
                    ours.append(out[i, j])
                    theirs.append(float(text))
                    shown.append({"run": i, "model": rows[i]["model"], "system": rows[i]["system"], "result": name})
        found = compare(
            "training.calculon", ours, theirs, exact_within=1e-12, required={"exact": 1.0, "runs": 1.0}, rows=shown
        )
        wrong = {row["run"] for row, a, b in zip(shown, ours, theirs, strict=True) if not _equal(a, b)}
        yield replace(found, statistics={"runs": 1.0 - len(wrong) / len(good)})
    bad = [i for i, row in enumerate(rows) if row["status"] != "ok"]
    if bad:
        same = np.array([calculon.VERDICTS[verdict[i]] in _expected(rows[i]["status"]) for i in bad])
        found = compare(
            "training.refusals",
            same.astype(np.float64),
            np.ones(len(same)),
            required={"exact": 1.0},
            rows=[{"run": i, "status": rows[i]["status"], "verdict": calculon.VERDICTS[verdict[i]]} for i in bad],
        )
        yield replace(found, mean_error=float("nan"), worst_error=float("nan"))


def _equal(ours: float, theirs: float) -> bool:
    return ours == theirs or abs(ours - theirs) <= 1e-12 * abs(theirs)


_STATUS = {
    "big enough": ("tier_size",),
    "fully used": ("tier_filled",),
    "at least 3 blocks": ("offload_blocks",),
    "split batch_seq": ("sequence_divide",),
    "Mem tier1": ("memory_capacity",),
    "Mem tier2": ("offload_capacity",),
    "interleav": ("layers_divide",),
    "chunk": ("layers_divide",),
}
"""Words of the reference's messages -> the verdicts that mean the same."""


def _expected(status: str) -> Sequence[str]:
    return next((verdicts for words, verdicts in _STATUS.items() if words in status), ("devices_divide", "heads_divide",
                "batch_divide", "switches", "layers_divide"))  # fmt: skip


# --- measured steps ------------------------------------------------------------------------------------------------


def step_times(steps: Sequence[MeasuredStep]) -> NDArray[np.float64]:
    """Seconds of each measured step as the fidelity ``closed`` has them."""
    return np.array([StepModel.of(step).metrics(step.design[None])["step_time_s"][0] for step in steps])


def _measured(path: Path) -> Iterator[Group]:
    steps = read_steps(path)
    if not steps:
        return
    ours = step_times(steps)
    theirs = np.array([step.step_time_s for step in steps])
    known = np.array([step.device.operators in DEVICES and step.device.name[:4] in ("a100", "h100") for step in steps])
    dense = np.array([not step.model.experts for step in steps])
    kept = known & dense
    if kept.any():
        required = {"mean_error": 0.08, "worst_error": 0.40, "share_within_18_percent": 0.9}
        yield _steps("training.measured/dense-a100-h100", ours, theirs, steps, kept, required)
    for source in dict.fromkeys(step.source for step in steps):
        of = np.array([step.source == source for step in steps])
        for name, part in (
            (source, kept),
            (f"{source}/dense-other-devices", dense & ~known),
            (f"{source}/experts", ~dense),
        ):
            if (of & part).any():
                yield _steps(f"training.measured/{name}", ours, theirs, steps, of & part, {})


def _steps(
    name: str,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    steps: Sequence[MeasuredStep],
    kept: NDArray[np.bool_],
    required: dict[str, float],
) -> Group:
    rows: list[dict[str, Any]] = []
    for i in np.flatnonzero(kept).tolist():
        step = steps[i]
        values = {parameter: float(value) for parameter, value in zip(kernel.DESIGN, step.design, strict=True)}
        rows.append({"id": step.row["id"], "model": step.model.name, "device": step.device.name,
                     "devices": step.devices, "sequence": step.sequence, "batch": step.batch, **values})  # fmt: skip
    found = compare(name, ours[kept], theirs[kept], required=required, rows=rows)
    error = np.abs(ours[kept] / theirs[kept] - 1)
    shares = {"share_within_18_percent": float(np.mean(error <= 0.18)), "p90_error": float(np.quantile(error, 0.9))}
    return replace(found, statistics=shares)


# --- published figures of one paper --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A model and layout of Korthikanti et al., "Reducing activation recomputation in large transformer models" (arXiv
    2205.05198), tables 3 and 5; times in seconds, with full recomputation and without sequence parallelism, and with
    selective recomputation and sequence parallelism."""

    hidden: int
    layers: int
    heads: int
    pipeline: int
    chunks: int
    devices: int
    batch: int
    micro_batch: int
    full_s: float
    selective_s: float


PUBLISHED = {
    "megatron-22B": Published(6144, 48, 64, 1, 1, 8, 4, 4, 1.42, 1.10),
    "gpt3-175B": Published(12288, 96, 96, 8, 3, 64, 64, 1, 18.13, 13.75),
    "turing-530B": Published(20480, 105, 128, 35, 3, 280, 280, 1, 49.05, 37.83),
    "megatron-1T": Published(25600, 128, 160, 64, 1, 512, 512, 1, 94.42, 71.49),
}
"""The four models; tensor parallel degree 8, sequences of 2,048 tokens, A100 80 GB."""


def published_step(name: str, mode: str) -> tuple[StepModel, NDArray[np.float64]]:
    """The model and design of one published run; ``mode`` as in the table of memory: none, sequence, selective,
    sequence+selective, full."""
    run = PUBLISHED[name]
    shape = Model(name, run.hidden, run.layers, run.heads, run.heads, run.hidden // run.heads, 4 * run.hidden, 51200,
                  gated=False, tied=True)  # fmt: skip
    chip = device("a100")
    made = StepModel(shape, chip, 2048, run.batch, "2022")
    made.clusters = cluster_vector(chip, run.devices)[None]
    values = dict.fromkeys(kernel.DESIGN, 0)
    values |= {
        "tp": 8,
        "pp": run.pipeline,
        "cp": 1,
        "ep": 1,
        "micro_batch": run.micro_batch,
        "interleaving": run.chunks,
    }
    values["recompute"] = {"selective": kernel.SELECTIVE, "full": kernel.FULL}.get(mode.split("+")[-1], kernel.NONE)
    if "sequence" in mode:
        values["tp_comm"], values["ag_redo"] = kernel.RS_AG, 1
    return made, np.array([[values[parameter] for parameter in kernel.DESIGN]], dtype=np.float64)


def _published() -> Group:
    ours, theirs, rows = [], [], []
    for name, run in PUBLISHED.items():
        for mode, seconds in (("full", run.full_s), ("sequence+selective", run.selective_s)):
            made, design = published_step(name, mode)
            ours.append(float(made.metrics(design)["step_time_s"][0]))
            theirs.append(seconds)
            rows.append({"model": name, "mode": mode})
    required = {"mean_error": 0.10, "worst_error": 0.15}
    return compare("training.published/arxiv-2205.05198", ours, theirs, required=required, rows=rows)


def _published_by_calculon(path: Path) -> Iterator[Group]:
    """The same figures by Calculon's model, on its own A100 with memory that never ends, as its authors checked it."""
    system = read_object(path, "file of systems").get("a100_80g")
    if not isinstance(system, dict):
        return
    packed = calculon.pack_system(system, "float16")[None]
    packed[:, calculon_kernel.CAPACITY : calculon_kernel.CAPACITY + 2] = np.inf
    ours, theirs, rows = [], [], []
    for name, run in PUBLISHED.items():
        model = np.array([[run.hidden, 4 * run.hidden, 2048, run.heads, run.hidden // run.heads, run.layers]])
        for mode, seconds in (("full", run.full_s), ("sequence+selective", run.selective_s)):
            full = mode == "full"
            values = dict.fromkeys(calculon_kernel.COLUMNS, 0)
            values |= {"tensor_par": 8, "pipeline_par": run.pipeline, "data_par": 1, "batch_size": run.batch}
            values |= {"pipeline_par_net": 1, "data_par_net": 1, "microbatch_size": run.micro_batch}
            values |= {"element_bytes": 2, "pipeline_interleaving": run.chunks, "training": 1}
            values["activation_recompute"] = calculon_kernel.FULL if full else calculon_kernel.ATTENTION
            values["tensor_par_comm_type"] = calculon_kernel.AR if full else calculon_kernel.RS_AG
            values["seq_par_ag_redo"] = 0 if full else 1
            design = np.array([[values[column] for column in calculon_kernel.COLUMNS]], dtype=np.int64)
            out, _ = calculon.evaluate(
                packed, model, np.zeros((1, 2), dtype=np.int64), design, np.array([run.devices], dtype=np.int64)
            )
            ours.append(out[0, calculon_kernel.RESULTS.index("total_time")])
            theirs.append(seconds)
            rows.append({"model": name, "mode": mode})
    required = {"mean_error": 0.03655, "worst_error": 0.08875}
    yield compare("training.published/arxiv-2205.05198/calculon", ours, theirs, required=required, rows=rows)


def stored_activations(name: str, mode: str) -> float:
    """Bytes of activations kept on the fullest device of a published run; what one layer needs while it computes is
    not counted, as in the paper."""
    made, design = published_step(name, mode)
    run = PUBLISHED[name]
    scratch = np.zeros(2)
    kernel.activation_bytes(made.model, design[0], scratch)
    stages = min(run.batch // run.micro_batch, run.pipeline)
    flight = stages * (1 + (run.pipeline - 1) / (run.pipeline * run.chunks)) if run.chunks > 1 else stages
    return float(scratch[0]) * -(-run.layers // run.pipeline) * flight


def _memory(path: Path) -> Iterator[Group]:
    with open(path, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for column in ("model", "mode"):
        if rows and column not in rows[0]:
            raise ArchGymError(f"{str(path)[-120:]} lacks the column {column!r} of published memory")
    found: dict[str, list[tuple[float, float, dict[str, Any]]]] = {}
    for row in rows:
        name, mode = row["model"], row["mode"]
        if name not in PUBLISHED:
            continue
        shown = {"model": name, "mode": mode}
        made, design = published_step(name, mode)
        metrics = made.metrics(design)
        stored = stored_activations(name, mode)
        if row.get("parameters_and_optimizer_GiB"):
            held = sum(float(metrics[part][0]) for part in ("weight_bytes", "gradient_bytes", "optimizer_bytes"))
            found.setdefault("parameters_and_optimizer", []).append(
                (held / GIB, float(row["parameters_and_optimizer_GiB"]), shown)
            )
        if row.get("activations_GiB"):
            found.setdefault("activations", []).append((stored / GIB, float(row["activations_GiB"]), shown))
        if row.get("activations_percent_of_none"):
            share = 100.0 * stored / stored_activations(name, "none")
            found.setdefault("activation_shares", []).append((share, float(row["activations_percent_of_none"]), shown))
    bounds = {"parameters_and_optimizer": 0.06, "activations": 0.10, "activation_shares": 0.10}
    for kind, triples in found.items():
        ours, theirs, shown_rows = zip(*triples, strict=True)
        yield compare(f"training.memory/{kind}", ours, theirs, required={"mean_error": bounds[kind]}, rows=shown_rows)
