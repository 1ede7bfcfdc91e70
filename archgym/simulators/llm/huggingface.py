"""Reader of Hugging Face ``config.json`` files: the shape of a decoder from its published configuration.

Each supported ``model_type`` says which of its keys hold what and what it means where a key is absent. Others are
refused by name: a guess would be a wrong model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.reading import quote_path

_PLAIN = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
}
_GPT2 = {"hidden": "n_embd", "layers": "n_layer", "heads": "n_head", "vocab": "vocab_size"}
_MIXTRAL = {"experts": "num_local_experts", "topk": "num_experts_per_tok"}
_QWEN_MOE = {"experts": "num_experts", "topk": "num_experts_per_tok", "expert_ffn": "moe_intermediate_size"}
_DEEPSEEK = {
    "experts": "n_routed_experts",
    "topk": "num_experts_per_tok",
    "expert_ffn": "moe_intermediate_size",
    "shared_experts": "n_shared_experts",
    "dense_layers": "first_k_dense_replace",
}
#: model_type -> (keys, gated, tied where the file does not say)
TYPES: dict[str, tuple[dict[str, str], bool, bool]] = {
    "llama": (_PLAIN, True, False),
    "mistral": (_PLAIN, True, False),
    "qwen2": (_PLAIN, True, False),
    "qwen3": (_PLAIN, True, False),
    "phi3": (_PLAIN, True, False),
    "gemma": (_PLAIN, True, True),
    "gemma2": (_PLAIN, True, True),
    "gpt_neox": (_PLAIN, False, False),
    "gpt2": (_GPT2, False, True),
    "mpt": ({"hidden": "d_model", "layers": "n_layers", "heads": "n_heads", "vocab": "vocab_size"}, False, True),
    "mixtral": (_PLAIN | _MIXTRAL, True, False),
    "gpt_oss": (_PLAIN | _MIXTRAL, True, False),
    "minimax_m2": (_PLAIN | _MIXTRAL, True, False),
    "qwen3_moe": (_PLAIN | _QWEN_MOE, True, False),
    "deepseek_v2": (_PLAIN | _DEEPSEEK, True, False),
    "deepseek_v3": (_PLAIN | _DEEPSEEK, True, False),
}
_LATENT = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def fields_of(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields of the model that a ``config.json`` describes; a sentence where a field is missing or the architecture is another."""
    architectures = config.get("architectures")
    kind = config.get("model_type")
    if kind is None and isinstance(architectures, list) and architectures:
        kind = str(architectures[0])
    if not isinstance(kind, str) or kind not in TYPES:
        raise ArchGymError(
            f"{quote_path(path)} describes the architecture {str(kind)[:40]!r}, which is not among those that are read: "
            f"{', '.join(sorted(TYPES))}"
        )
    if config.get("is_encoder_decoder"):
        raise ArchGymError(f"{quote_path(path)} describes an encoder with a decoder; only decoders are read")
    keys, gated, tied = TYPES[kind]

    def number(key: str) -> int:
        value = config.get(key)
        if value is None:
            raise ArchGymError(f"{quote_path(path)} lacks {key!r}, which a model of type {kind!r} needs")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArchGymError(f"{quote_path(path)}: {key} is {str(value)[:40]!r}; expected a whole number")
        return value

    values: dict[str, Any] = {field: number(key) for field, key in keys.items()}
    hidden, heads = values["hidden"], values["heads"]
    if not heads > 0:
        raise ArchGymError(f"{quote_path(path)}: {keys['heads']} is {heads}; expected a positive number")
    if "ffn" not in values:
        inner = config.get("n_inner")
        ratio = number("expansion_ratio") if config.get("expansion_ratio") is not None else 4
        values["ffn"] = number("n_inner") if inner is not None else ratio * hidden
    if values.get("experts") and "expert_ffn" not in values:
        values["expert_ffn"] = values["ffn"]
    values["kv_heads"] = number("num_key_value_heads") if config.get("num_key_value_heads") is not None else heads
    if kind.startswith("deepseek"):
        values |= {key: number(key) for key in _LATENT}
        values["q_lora_rank"] = number("q_lora_rank") if config.get("q_lora_rank") is not None else 0
        values["head_dim"] = values["qk_nope_head_dim"] + values["qk_rope_head_dim"]
        values["kv_heads"] = heads
    elif config.get("head_dim") is not None:
        values["head_dim"] = number("head_dim")
    elif hidden % heads:
        raise ArchGymError(
            f"{quote_path(path)}: {heads} heads do not divide the hidden size {hidden} and no head_dim is given"
        )
    else:
        values["head_dim"] = hidden // heads
    # Only layers that alternate count as windows: elsewhere the key is kept by models that do not use it.
    if kind in ("gpt_oss", "gemma2"):
        values["sliding_window"] = number("sliding_window")
    embedding = config.get("tie_word_embeddings", tied)
    if not isinstance(embedding, bool):
        raise ArchGymError(
            f"{quote_path(path)}: tie_word_embeddings is {str(embedding)[:40]!r}; expected true or false"
        )
    name = str(config.get("_name_or_path") or path.parent.name or path.stem)[-80:]
    return {
        "name": name,
        "gated": gated,
        "tied": embedding,
        "source": f"Hugging Face config.json, type {kind}",
        **values,
    }
