"""Shapes of language models: the catalogue, parameter and FLOP counts, and readers.

``model("llama3.1-70b")`` is one of the catalogue (``data/models.json``, each with its source); ``model("file:PATH")``
reads a user's: a JSON of the same fields, or a Hugging Face ``config.json``. Dense models with multi-head, grouped or
multi-query attention, mixtures of experts, latent attention (MLA) and sliding windows are covered; what a file has
beyond that is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError
from archgym.reading import own_file, quote_path, read_json
from archgym.simulators.llm.huggingface import fields_of


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer.

    Attributes:
        name: what it is called.
        hidden, layers, heads, kv_heads, head_dim: width, blocks, query heads, key and value heads, size of a head (of
            a query's, under MLA).
        ffn: inner width of the dense feed-forward layer.
        gated: True where it has a gate (three matrices instead of two).
        vocab: entries of the vocabulary.
        experts, topk, expert_ffn: routed experts, how many a token visits, their inner width; 0 experts where dense.
        shared_experts: experts that every token visits.
        dense_layers: first layers that are dense in spite of experts.
        sliding_window: how far back every other layer looks, in tokens; 0 where all layers look back to the start.
        q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim: latent attention; 0 without.
        tied: True where the embedding is also the head.
        source: where the figures are from.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    gated: bool = True
    experts: int = 0
    topk: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    sliding_window: int = 0
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    tied: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                least = 1 if field.default is MISSING else 0
                if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**31:
                    raise ArchGymError(
                        f"model {self.name[:40]!r}: {field.name} is {str(value)[:40]!r}; expected a whole number from {least}"
                    )
            elif field.type != "int" and not isinstance(value, bool if field.type == "bool" else str):
                raise ArchGymError(
                    f"model {str(self.name)[:40]!r}: {field.name} is {str(value)[:40]!r}; expected "
                    + ("true or false" if field.type == "bool" else "text")
                )
        if self.heads % self.kv_heads:
            raise ArchGymError(
                f"model {self.name[:40]!r}: {self.heads} heads do not divide into {self.kv_heads} groups of keys and values"
            )
        if self.experts and not (1 <= self.topk <= self.experts and self.expert_ffn):
            raise ArchGymError(
                f"model {self.name[:40]!r}: {self.experts} experts need 1 <= topk <= experts and an expert_ffn"
            )
        if self.dense_layers > self.layers:
            raise ArchGymError(f"model {self.name[:40]!r}: {self.dense_layers} dense layers of {self.layers}")
        if self.kv_lora_rank and not (self.qk_nope_head_dim and self.qk_rope_head_dim and self.v_head_dim):
            raise ArchGymError(
                f"model {self.name[:40]!r}: latent attention needs qk_nope_head_dim, qk_rope_head_dim and v_head_dim"
            )

    @property
    def fingerprint(self) -> str:
        """Hash of the shape."""
        shape = [getattr(self, field.name) for field in fields(self) if field.name not in ("name", "source")]
        return blake2b(json.dumps(shape).encode(), digest_size=8).hexdigest()

    @property
    def mla(self) -> bool:
        """True with latent attention."""
        return self.kv_lora_rank > 0

    @property
    def value_dim(self) -> int:
        """Size of a value head."""
        return self.v_head_dim if self.mla else self.head_dim

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    # --- parameters ------------------------------------------------------------------------------------------------

    def attention_matrices(self, tp: int = 1) -> list[tuple[int, int]]:
        """The matrices (outputs n, inputs k) of one layer's attention on one of ``tp`` devices. Key and value heads
        are replicated where there are fewer of them than devices; latent projections are on every device."""
        h, a = self.hidden, self.heads // tp
        if self.mla:
            query = (
                [(self.q_lora_rank, h), (a * self.head_dim, self.q_lora_rank)]
                if self.q_lora_rank
                else [(a * self.head_dim, h)]
            )
            return [
                *query,
                (self.kv_lora_rank + self.qk_rope_head_dim, h),
                (a * (self.qk_nope_head_dim + self.v_head_dim), self.kv_lora_rank),
                (h, a * self.v_head_dim),
            ]
        kv = max(self.kv_heads // tp, 1)
        return [((a + 2 * kv) * self.head_dim, h), (h, a * self.head_dim)]

    def ffn_matrices(self, tp: int = 1) -> list[tuple[int, int]]:
        """The matrices (n, k) of one dense feed-forward layer on one of ``tp`` devices."""
        inner = self.ffn // tp
        return [(inner * (2 if self.gated else 1), self.hidden), (self.hidden, inner)]

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer's attention."""
        return sum(n * k for n, k in self.attention_matrices())

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert."""
        return (3 if self.gated else 2) * self.hidden * self.expert_ffn

    @property
    def ffn_parameters(self) -> int:
        """Parameters of one dense feed-forward layer."""
        return (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding; the head has as many again, unless tied."""
        return self.vocab * self.hidden

    def layer_parameters(self, moe: bool) -> int:
        """Parameters of one layer, norms and router included."""
        norms = 2 * self.hidden
        if not moe:
            return self.attention_parameters + self.ffn_parameters + norms
        experts = (self.experts + self.shared_experts) * self.expert_parameters
        return self.attention_parameters + experts + self.hidden * self.experts + norms

    @property
    def parameters(self) -> int:
        """All parameters."""
        dense = self.layers - self.moe_layers
        layers = dense * self.layer_parameters(False) + self.moe_layers * self.layer_parameters(True)
        return layers + (1 if self.tied else 2) * self.embedding_parameters + self.hidden

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets."""
        idle = (self.experts - self.topk) * self.expert_parameters * self.moe_layers
        return self.parameters - idle

    # --- work ------------------------------------------------------------------------------------------------------

    def mean_context(self, sequence: float) -> float:
        """Tokens that a token attends to, averaged over a causal sequence and over the layers."""
        full = sequence / 2
        if not self.sliding_window or sequence <= self.sliding_window:
            return full
        window = float(self.sliding_window)
        return (full + window * (1 - window / (2 * sequence))) / 2

    def forward_flops(self, tokens: float, sequence: float) -> float:
        """Model FLOP of a forward pass over ``tokens`` tokens in sequences of ``sequence``: matrix products, causal
        attention and the head; the embedding is a look-up."""
        matrices = self.active_parameters - (0 if self.tied else self.embedding_parameters)
        attention = 2.0 * self.layers * self.heads * (self.head_dim + self.value_dim) * self.mean_context(sequence)
        return tokens * (2.0 * matrices + attention)

    def step_flops(self, tokens: float, sequence: float) -> float:
        """Model FLOP of a training step, backward twice the forward; recomputation does not count (MFU)."""
        return 3.0 * self.forward_flops(tokens, sequence)


# --- reading -------------------------------------------------------------------------------------------------------


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object of a user's file; ``what`` names it in sentences."""
    found = read_json(path, what, 4 << 20)
    if not isinstance(found, dict):
        raise ArchGymError(f"the {what} {quote_path(path)} holds no JSON object")
    return found


def from_fields(kind: type[Any], name: str, given: Mapping[str, Any], what: str) -> Any:
    """A dataclass from a mapping: every field without a default must be there, none beyond."""
    known = {field.name: field for field in fields(kind) if field.name != "name"}
    for key in given:
        if key not in known and key not in ("comment", "aliases", "name"):
            raise UnknownNameError(f"field of a {what}", str(key)[:80], known)
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ArchGymError(f"{what} {name[:60]!r} lacks {key!r}; needed are {', '.join(_needed(known.values()))}")
    values = {key: value for key, value in given.items() if key in known}
    for key, value in values.items():
        if known[key].type == "bool" and value in (0, 1):
            values[key] = bool(value)
        elif known[key].type == "int" and isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    return kind(name=name, **values)


def _needed(known: Iterable[Any]) -> list[str]:
    return [field.name for field in known if field.default is MISSING and field.default_factory is MISSING]


@cache
def catalogue() -> Mapping[str, Model]:
    """The models that come with the package, by name."""
    text = resources.files(__package__).joinpath("data/models.json").read_text(encoding="utf-8")
    return {name: from_fields(Model, name, row, "model") for name, row in json.loads(text).items()}


def model(name: str) -> Model:
    """A model of the catalogue by name, or ``file:PATH`` for a user's JSON or Hugging Face ``config.json``."""
    if (path := own_file(name)) is not None:
        return read_model(path)
    known = catalogue()
    if name not in known:
        raise UnknownNameError("model", name[:80], known)
    return known[name]


def read_model(path: Path) -> Model:
    """A user's model: a JSON object of :class:`Model`'s fields, or a Hugging Face ``config.json``."""
    found = read_object(path, "model")
    if "model_type" in found or "architectures" in found:
        return Model(**fields_of(found, path))
    return from_fields(Model, str(found.get("name", path.stem))[:80], found, "model")
