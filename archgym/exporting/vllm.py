"""vLLM: the arguments of ``vllm serve``, one configuration for all instances of a kind, and the commands that start them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.exporting.importing import Importer, Said, mapping_of, number, quietly
from archgym.problem import Problem
from archgym.reading import quote_path, read_text
from archgym.simulators.llm.devices import ELEMENT_BYTES
from archgym.simulators.llm.iteration import RUNTIME_BYTES, weight_bytes
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.serving_space import DEFAULTS
from archgym.space import Value
from archgym.writing import yaml_text

_PORT = 8000
#: vLLM's arguments -> our parameters; numbers as they are.
_NUMBERS = {
    "tensor-parallel-size": "tp", "pipeline-parallel-size": "pp", "data-parallel-size": "dp_attention",
    "max-num-batched-tokens": "budget", "max-num-seqs": "max_running", "block-size": "block",
}  # fmt: skip
_NOT_DESIGNED = {"model", "dtype", "max-model-len", "port", "host", "served-model-name", "trust-remote-code", "seed"}
_READ = {*_NUMBERS, "gpu-memory-utilization", "quantization", "kv-cache-dtype", "enable-prefix-caching",
         "no-enable-prefix-caching", "enable-expert-parallel", "enable-chunked-prefill", "kv-transfer-config",
         "no-enable-chunked-prefill"}  # fmt: skip
_SHORT = {"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size"}


class VllmExporter(Exporter, Importer):
    """``serve.yaml`` (and ``prefill.yaml`` where prompts have instances of their own), ``serve.sh``."""

    name = "vllm"
    title = "vLLM"
    units = {
        "*-parallel-size": "devices",
        "max-num-batched-tokens": "tokens an iteration",
        "max-num-seqs": "sequences",
        "block-size": "tokens",
        "gpu-memory-utilization": "a share of the device's memory",
        "max-model-len": "tokens",
        "port": "a TCP port",
    }
    simulators = ("llm-serving",)
    files = ("serve.yaml",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        simulator: Any = whole_simulator(problem)
        work: Any = problem.workload
        space = simulator.space(work)
        row = space.encode(design)
        value = DEFAULTS | {name: word for name, word in space.decode(row)[0].items() if name in DEFAULTS}
        value |= {"dp_attention": int(space.ranks(row)[0]), "ep": int(space.expert_parallel(row)[0])}
        size, serving, feeding = (int(part[0]) for part in space.split(row))
        memory = float(space.hardware(row)["memory"][0])
        arguments = {
            kind: _arguments(work.model, value, memory, space.longest, kind)
            for kind in (("serve", "prefill") if feeding else ("serve",))
        }
        for kind, entries in arguments.items():
            text = yaml_text(entries)
            (folder / f"{kind}.yaml").write_text(text, encoding="utf-8")
        (folder / "serve.sh").write_text(_script(arguments, {"serve": serving, "prefill": feeding}), encoding="utf-8")
        files = {"serve.yaml": "arguments of an instance: devices, tokens, requests; memory as a share of the device's"}
        if feeding:
            files["prefill.yaml"] = "the same for instances that process prompts"
        files["serve.sh"] = f"a command for each of {serving + feeding} instances"
        return Written(files, _unsaid(work, space, row, value, size, serving, feeding), "sh serve.sh")

    def claims(self, path: Path, text: str) -> bool:
        if path.suffix.lower() in (".sh", ".txt"):
            return re.search(r"\bvllm\s+serve\b", text) is not None
        content = quietly(text)
        return isinstance(content, dict) and len({_key(k) for k in content} & (_READ | {"model"})) >= 2

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        command = _command(text, place)
        found = _arguments_of(mapping_of(text, place) if command is None else command)
        work: Any = problem.workload
        said = Said({ours: number(found[key], place, key) for key, ours in _NUMBERS.items() if key in found})
        values = said.values
        quantization = str(found.get("quantization", "none")).lower()
        words = {"none": "bf16", "null": "bf16", "fp8": "fp8", "nvfp4": "fp4", "modelopt_fp4": "fp4", "mxfp4": "fp4"}
        if quantization not in words:
            raise ArchGymError(
                f"{place}: quantization {quote(quantization, 40)} is not modelled; known: fp8, modelopt_fp4"
            )
        values["weights"] = words[quantization]
        values["kv"] = "fp8" if str(found.get("kv-cache-dtype", "auto")).startswith("fp8") else "bf16"
        values["prefix_cache"] = not _on(found.get("no-enable-prefix-caching")) and _on(
            found.get("enable-prefix-caching", True)
        )
        chunked = not _on(found.get("no-enable-chunked-prefill")) and _on(found.get("enable-chunked-prefill", True))
        values["policy"] = "mixed" if chunked else "prompts_first"
        values["mode"] = "disaggregated" if found.get("kv-transfer-config") else "aggregated"
        prefill = path.with_name("prefill.yaml")
        if values["mode"] == "disaggregated":
            said.unplaced.append("How many instances prefill: vLLM's arguments are those of one instance.")
            if prefill.is_file():
                at, key = quote_path(prefill), "tensor-parallel-size"
                other = _arguments_of(mapping_of(read_text(prefill, "configuration"), at))
                values["prefill_tp"] = number(other.get(key, 1), at, key)
        spread = _on(found.get("enable-expert-parallel"))
        values["ep"] = values.get("tp", 1) * values.get("dp_attention", 1) if spread else 1
        share = number(found.get("gpu-memory-utilization", 0.9), place, "gpu-memory-utilization")
        memory = float(work.device.mem_bytes)
        fixed = _fixed_bytes(work.model, values) / memory
        values["kv_fraction"] = round((share - fixed) / (1 - fixed), 4) if fixed < 1 else share
        said.unplaced += [f"{key}: no part of a design." for key in found if key not in _READ | _NOT_DESIGNED]
        return said


def _fixed_bytes(model: Model, value: Mapping[str, Any]) -> float:
    """Bytes of a device that are not the cache's: weights and the runtime."""
    width = ELEMENT_BYTES[str(value["weights"])]
    ranks = value.get("dp_attention", 1) if model.moe_layers else 1
    return float(weight_bytes(model, value.get("tp", 1), ranks, value.get("pp", 1), width)) + RUNTIME_BYTES


def _arguments(model: Model, value: Mapping[str, Any], memory: float, longest: int, kind: str) -> dict[str, Any]:
    own = dict(value) if kind == "serve" else {**value, "tp": value["prefill_tp"], "pp": 1}
    fixed = _fixed_bytes(model, own) / memory
    # Our share is of what weights and the runtime leave, vLLM's of the whole memory.
    share = fixed + float(value["kv_fraction"]) * (1 - fixed)
    found: dict[str, Any] = {"model": _model_name(model), "dtype": "bfloat16"}
    found |= {theirs: int(own[ours]) for theirs, ours in _NUMBERS.items()}
    found["gpu-memory-utilization"] = round(share, 6)
    found["max-model-len"] = longest
    quantization = {"bf16": None, "fp8": "fp8", "fp4": "modelopt_fp4"}[str(value["weights"])]
    if quantization:
        found["quantization"] = quantization
    found["kv-cache-dtype"] = "fp8" if value["kv"] == "fp8" else "auto"
    found["enable-prefix-caching" if value["prefix_cache"] else "no-enable-prefix-caching"] = True
    found["enable-chunked-prefill" if value["policy"] in ("mixed", "chunked") else "no-enable-chunked-prefill"] = True
    if int(value["ep"]) > 1:
        found["enable-expert-parallel"] = True
    if value["mode"] == "disaggregated":
        role = "kv_producer" if kind == "prefill" else "kv_consumer"
        found["kv-transfer-config"] = json.dumps({"kv_connector": "NixlConnector", "kv_role": role})
    return found


def _model_name(model: Model) -> str:
    """The model's name at Hugging Face where its figures come from there, else the one it has here."""
    found = re.search(r"huggingface\.co/([\w.\-]+/[\w.\-]+)", model.source)
    return found[1] if found else model.name


def _script(arguments: Mapping[str, Mapping[str, Any]], instances: Mapping[str, int]) -> str:
    lines = ["#!/bin/sh", "# One line an instance; give each its devices (CUDA_VISIBLE_DEVICES, or a host of its own)."]
    port = _PORT
    for kind, entries in arguments.items():
        for _ in range(instances[kind]):
            lines.append(f"vllm serve {shlex.quote(str(entries['model']))} --config {kind}.yaml --port {port} &")
            port += 1
    return "\n".join([*lines, "wait", ""])


def _unsaid(
    work: Any, space: Any, row: Any, value: Mapping[str, Any], size: int, serving: int, feeding: int
) -> list[str]:
    unsaid = [
        f"Instances: {serving} of {size} devices each"
        + (f" and {feeding} of {value['prefill_tp'] * value['dp_attention']} for prompts" if feeding else "")
        + f"; requests are spread over them by a router of yours ({value['router']}).",
        f"Device memory: the share counts weights and the {RUNTIME_BYTES / 2**30:g} GiB that the runtime is taken to need; "
        "vLLM measures its own.",
    ]
    if value["policy"] in ("orca", "chunked", "prompts_first"):
        unsaid.append(
            f"Batching {value['policy']}: vLLM's engine mixes prompts and answers in an iteration; "
            f"chunked prefill is {'on' if value['policy'] == 'chunked' else 'off'}."
        )
    if int(value["ep"]) not in (1, int(value["tp"]) * int(value["dp_attention"])):
        unsaid.append(
            f"Expert parallelism of {value['ep']}: vLLM spreads experts over all devices of an instance or none."
        )
    if value["weights"] == "fp4":
        unsaid.append("Weights in fp4 need a checkpoint that is quantised so; modelopt_fp4 is written.")
    if space.kind == "codesign":
        figures = {name: float(column[0]) for name, column in space.hardware(row).items()}
        unsaid.append("The device that was designed: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()) + ".")
    unsaid.append(f"Service levels ({work.ttft_s:g} s to the first token, {work.tpot_s:g} s a token) and the trace.")
    return unsaid


def _key(key: Any) -> str:
    return str(key).lstrip("-").replace("_", "-")


def _on(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _arguments_of(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Arguments by their long names, whichever way they are written."""
    return {_SHORT.get(_key(key), _key(key)): value for key, value in given.items()}


def _command(text: str, place: str) -> dict[str, Any] | None:
    """The arguments of the first ``vllm serve`` command of a script; None where it stands in comments alone, or nowhere."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not re.search(r"\bvllm\s+serve\b", line):
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ArchGymError(f"{place}: the command vllm serve cannot be read ({error})") from None
        if "serve" in words:
            return _given(words[words.index("serve") + 1 :], place)
    return None


def _given(words: Sequence[str], place: str) -> dict[str, Any]:
    """The arguments of one command."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(words):
        word = words[at]
        if word in ("&", ";", "&&", "|"):
            break
        if not word.startswith("-"):
            found.setdefault("model", word)
        elif "=" in word:
            key, _, value = word.partition("=")
            found[key] = value
        elif at + 1 < len(words) and not words[at + 1].startswith("-") and words[at + 1] not in ("&", ";", "&&", "|"):
            found[word] = words[at + 1]
            at += 1
        else:
            found[word] = "true"
        at += 1
    if "--config" in found and len(found) <= 4:
        raise ArchGymError(f"{place} names the configuration {quote(found['--config'], 40)}; give that file instead")
    return found
