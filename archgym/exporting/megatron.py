"""Megatron-LM: the arguments of ``pretrain_gpt.py`` under ``torchrun``, as one shell script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, number
from archgym.problem import Problem
from archgym.reading import quote_path
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.training_spaces import LAYOUT, LayoutSpace
from archgym.space import Value

#: Megatron's arguments -> our parameters; numbers as they are.
_NUMBERS = {
    "tensor-model-parallel-size": "tp", "pipeline-model-parallel-size": "pp", "context-parallel-size": "cp",
    "expert-model-parallel-size": "ep", "micro-batch-size": "micro_batch",
    "num-virtual-stages-per-pipeline-rank": "interleaving",
}  # fmt: skip
_SHARDING = {1: "optim", 2: "optim_grads", 3: "optim_grads_params"}
#: Arguments that say the model, the job and the launcher, not the layout.
_JOB = {
    "num-layers", "hidden-size", "ffn-hidden-size", "num-attention-heads", "group-query-attention", "num-query-groups",
    "kv-channels", "seq-length", "max-position-embeddings", "swiglu", "vocab-size", "untie-embeddings-and-output-weights",
    "num-experts", "moe-router-topk", "moe-ffn-hidden-size", "moe-shared-expert-intermediate-size", "moe-layer-freq",
    "multi-latent-attention", "q-lora-rank", "kv-lora-rank", "qk-head-dim", "qk-pos-emb-head-dim", "v-head-dim", "bf16",
    "global-batch-size", "nnodes", "nproc-per-node", "nproc_per_node", "normalization", "disable-bias-linear",
    "position-embedding-type", "use-rotary-position-embeddings", "use-mcore-models", "transformer-impl", "mock-data",
    "tokenizer-type", "train-iters", "lr", "use-flash-attn", "attention-backend", "use-precision-aware-optimizer",
    "recompute-method", "recompute-num-layers", "fp8-recipe", "window-size",
}  # fmt: skip
_LAYOUT_FLAGS = {
    *_NUMBERS, "num-layers-per-virtual-pipeline-stage", "recompute-granularity", "recompute-activations",
    "sequence-parallel", "tp-comm-overlap", "overlap-grad-reduce", "overlap-param-gather", "use-distributed-optimizer",
    "use-megatron-fsdp", "data-parallel-sharding-strategy", "fp8-format", "optimizer-cpu-offload", "use-tp-pp-dp-mapping",
}  # fmt: skip


class MegatronExporter(Exporter, Importer):
    """``train.sh``: torchrun with the arguments of the model, the batch and the layout."""

    name = "megatron"
    title = "Megatron-LM"
    units = {
        "nnodes": "machines",
        "nproc-per-node": "devices",
        "*-parallel-size": "devices",
        "*batch-size": "sequences",
        "seq-length": "tokens",
        "max-position-embeddings": "tokens",
        "vocab-size": "tokens",
        "num-layers": "layers",
        "recompute-num-layers": "layers",
        "num-virtual-stages-per-pipeline-rank": "stages a device",
        "num-attention-heads": "heads",
        "num-query-groups": "heads of keys and values",
        "num-experts": "experts",
        "moe-router-topk": "experts a token",
        "moe-layer-freq": "1 for a layer with experts, 0 for one without",
        "*hidden-size": "elements of a vector",
        "kv-channels": "elements of a vector",
        "*-intermediate-size": "elements of a vector",
        "*-lora-rank": "elements of a vector",
        "*-head-dim": "elements of a vector",
    }
    simulators = ("llm-training",)
    files = ("train.sh",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        simulator: Any = whole_simulator(problem)
        work: Any = problem.workload
        space = simulator.space(work)
        if not isinstance(space, LayoutSpace):
            raise ArchGymError("the space calculon holds Calculon's own execution; export it as json")
        value = _values(space, design)
        own = space.kind == "codesign"
        devices = int(design["devices"]) if own else work.devices
        node = min(int(design["node_devices"]) if own else work.device.node_devices, devices)
        lines = [
            f"torchrun --nnodes={-(-devices // node)} --nproc-per-node={node} pretrain_gpt.py",
            *_pairs(_model_arguments(work.model, work.sequence)),
            *_pairs({"global-batch-size": work.batch, **_layout_arguments(value)}),
            '"$@"',
        ]
        text = "#!/bin/sh\n# Data, tokenizer, learning rate and checkpoints are yours: give their arguments to this script.\n"
        (folder / "train.sh").write_text(text + "exec " + " \\\n  ".join(lines) + "\n", encoding="utf-8")
        return Written(
            {"train.sh": "degrees in devices, batches in sequences, lengths in tokens; precision bf16 or fp8"},
            _unsaid(work, space, value, design, devices, node),
            "sh train.sh --mock-data --tokenizer-type NullTokenizer --train-iters 10 --lr 1e-4",
        )

    def claims(self, path: Path, text: str) -> bool:
        return "--tensor-model-parallel-size" in text or "--pipeline-model-parallel-size" in text

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        found = _arguments(text, place)
        work: Any = problem.workload
        said = Said({ours: 1 for ours in _NUMBERS.values()})
        values = said.values
        values |= {ours: number(found[key], place, key) for key, ours in _NUMBERS.items() if key in found}
        if (key := "num-layers-per-virtual-pipeline-stage") in found:
            each = number(found[key], place, key)
            values["interleaving"] = work.model.layers / values["pp"] / max(each, 1)
        values["recompute"] = str(
            found.get("recompute-granularity", "selective" if "recompute-activations" in found else "none")
        )
        values["zero"] = 1 if "use-distributed-optimizer" in found else 0
        if "use-megatron-fsdp" in found:
            word = str(found.get("data-parallel-sharding-strategy", "optim_grads_params"))
            values["zero"] = next((stage for stage, name in _SHARDING.items() if name == word), 0)
        values["tp_comm"] = "rs_ag" if "sequence-parallel" in found else "ar"
        values["tp_overlap"] = "ring" if "tp-comm-overlap" in found else "none"
        values["dp_overlap"] = "overlap-grad-reduce" in found
        values["ag_redo"] = "sequence-parallel" in found
        values["precision"] = "fp8" if "fp8-format" in found else "bf16"
        values["offload"] = "optimizer" if "optimizer-cpu-offload" in found else "none"
        values["order"] = "tp-cp-pp-dp" if "use-tp-pp-dp-mapping" in found else "tp-cp-dp-pp"
        nodes, a_node = (found.get(key, found.get(key.replace("-", "_"))) for key in ("nnodes", "nproc-per-node"))
        if a_node is not None:
            values["node_devices"] = number(a_node, place, "nproc-per-node")
            values["devices"] = values["node_devices"] * number(nodes or 1, place, "nnodes")
        _check_job(said, work, found, place)
        said.unplaced += [f"--{key}: no part of a layout here." for key in found if key not in _JOB | _LAYOUT_FLAGS]
        return said


def _values(space: LayoutSpace, design: Mapping[str, Value]) -> dict[str, Any]:
    """All fifteen parameters of a layout: those that have no effect as the model takes them."""
    numbers = space.decoded(space.encode(design))[0][0]
    found: dict[str, Any] = {}
    for parameter, value in zip(LAYOUT, numbers, strict=True):
        numeric = all(isinstance(v, int) for v in parameter.values)
        found[parameter.name] = int(value) if numeric else parameter.values[int(value)]
        if all(isinstance(v, bool) for v in parameter.values):
            found[parameter.name] = bool(value)
    return found


def _model_arguments(model: Model, sequence: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num-layers": model.layers, "hidden-size": model.hidden, "ffn-hidden-size": model.ffn,
        "num-attention-heads": model.heads, "kv-channels": model.head_dim, "seq-length": sequence,
        "max-position-embeddings": sequence, "vocab-size": model.vocab,
    }  # fmt: skip
    if model.kv_heads != model.heads:
        found |= {"group-query-attention": True, "num-query-groups": model.kv_heads}
    found["swiglu"] = model.gated
    found["untie-embeddings-and-output-weights"] = not model.tied
    if model.experts:
        found |= {"num-experts": model.experts, "moe-router-topk": model.topk, "moe-ffn-hidden-size": model.expert_ffn}
        if model.shared_experts:
            found["moe-shared-expert-intermediate-size"] = model.shared_experts * model.expert_ffn
        if model.dense_layers:
            found["moe-layer-freq"] = f"([0]*{model.dense_layers}+[1]*{model.moe_layers})"
    if model.mla:
        found |= {"multi-latent-attention": True, "kv-lora-rank": model.kv_lora_rank, "qk-head-dim": model.qk_nope_head_dim,
                  "qk-pos-emb-head-dim": model.qk_rope_head_dim, "v-head-dim": model.v_head_dim}  # fmt: skip
        if model.q_lora_rank:
            found["q-lora-rank"] = model.q_lora_rank
    return found


def _layout_arguments(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {theirs: value[ours] for theirs, ours in _NUMBERS.items() if ours != "interleaving"}
    if value["interleaving"] > 1:
        found["num-virtual-stages-per-pipeline-rank"] = value["interleaving"]
    if value["recompute"] == "full":
        found |= {"recompute-granularity": "full", "recompute-method": "uniform", "recompute-num-layers": 1}
    elif value["recompute"] == "selective":
        found["recompute-granularity"] = "selective"
    if value["zero"] >= 1:
        found["use-distributed-optimizer"] = True
    if value["zero"] >= 2:
        found |= {"use-megatron-fsdp": True, "data-parallel-sharding-strategy": _SHARDING[value["zero"]]}
    found["sequence-parallel"] = value["tp_comm"] != "ar"
    found["tp-comm-overlap"] = value["tp_overlap"] != "none"
    found["overlap-grad-reduce"] = value["dp_overlap"]
    found["overlap-param-gather"] = value["dp_overlap"] and value["zero"] >= 1
    found["bf16"] = True
    if value["precision"] == "fp8":
        found["fp8-format"] = "hybrid"
    if value["offload"] != "none":
        found |= {"optimizer-cpu-offload": True, "use-precision-aware-optimizer": True}
    found["use-tp-pp-dp-mapping"] = value["order"] == "tp-cp-pp-dp"
    return found


def _pairs(arguments: Mapping[str, Any]) -> list[str]:
    return [
        f"--{key}" if value is True else f"--{key} {shlex.quote(str(value))}"
        for key, value in arguments.items()
        if value is not False
    ]


def _unsaid(
    work: Any, space: LayoutSpace, value: Mapping[str, Any], design: Mapping[str, Value], devices: int, node: int
) -> list[str]:
    unsaid = [
        f"The device ({work.device.title or work.device.name}): start the script on {devices} of them, {node} a node "
        f"(torchrun's --node-rank and --rdzv-endpoint are yours)."
    ]
    if value["tp_comm"] == "p2p_rs_ag":
        unsaid.append(
            "tp_comm p2p_rs_ag: sequence parallelism with collectives is written, without sends to neighbours."
        )
    if value["tp_overlap"] == "pipe":
        unsaid.append("tp_overlap pipe: Megatron chooses between rings and pipelines by a configuration of its own.")
    if value["tp_overlap"] != "none" and value["tp_comm"] == "ar":
        unsaid.append(
            "tp_overlap without sequence parallelism: Megatron overlaps the traffic of sequence parallelism alone."
        )
    if value["tp_comm"] != "ar" and not value["ag_redo"]:
        unsaid.append("ag_redo false: Megatron gathers activations again in the backward pass.")
    if value["zero"] >= 2:
        unsaid.append("zero 2 and 3 are Megatron-FSDP, which does not go with a pipeline.")
    if value["offload"] in ("optimizer+weights", "all"):
        unsaid.append(f"offload {value['offload']}: Megatron moves the optimizer alone.")
    if value["order"] == "tp-dp-cp-pp":
        unsaid.append("order tp-dp-cp-pp: Megatron's order tp-cp-dp-pp is written.")
    if work.model.sliding_window:
        unsaid.append(f"The sliding window of {work.model.sliding_window} tokens.")
    if space.kind == "codesign":
        figures = [f"{name} {design[name]}" for name in space.names if name not in {p.name for p in LAYOUT}]
        unsaid.append("The cluster that was designed: " + ", ".join(figures) + ".")
    return unsaid


def _arguments(text: str, place: str) -> dict[str, Any]:
    """All ``--name [value ...]`` of a script, the last of equal ones."""
    text = re.sub(r"\\\n", " ", text)
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    try:
        words = shlex.split(text, comments=False)
    except ValueError as error:
        raise ArchGymError(f"{place} cannot be read as a shell script ({error})") from None
    found: dict[str, Any] = {}
    for at, word in enumerate(words):
        if not re.match(r"--[A-Za-z]", word):
            continue
        key, equals, given = word[2:].partition("=")
        value: Any = given
        if not equals:
            follows = words[at + 1] if at + 1 < len(words) else ""
            value = True if not follows or follows.startswith("-") or follows in ("$@", ")", ";", "&") else follows
        if isinstance(value, str) and value.startswith("$"):
            raise ArchGymError(f"{place}: --{key[:40]} is the variable {value[:40]}; write its value out")
        found[key] = value
    return found


def _check_job(said: Said, work: Any, found: Mapping[str, Any], place: str) -> None:
    """Say where the script trains another model or batch than the problem's."""
    expected = {"global-batch-size": work.batch, **_model_arguments(work.model, work.sequence)}
    for key, value in expected.items():
        if key in found and not isinstance(value, bool) and str(found[key]) != str(value):
            said.unplaced.append(
                f"--{key} is {str(found[key])[:20]} in the file and {value} in the problem, which holds."
            )
