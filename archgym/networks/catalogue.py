"""The networks that come with the package, built from their published shapes.

Convolutional networks: AlexNet (Krizhevsky et al. 2012, grouped; and the one-tower form of 2014), VGG-16 (Simonyan &
Zisserman 2014), ResNet-18 and ResNet-50 v1.5 (He et al. 2015, the stride in the 3x3), MobileNet v1 (Howard et al.
2017) and v2 (Sandler et al. 2018), EfficientNet-B0 (Tan & Le 2019). Transformers: BERT-base (Devlin et al. 2018),
GPT-2 small (Radford et al. 2019), Llama 2 7B (Touvron et al. 2023), Llama 3 8B (2024, grouped-query attention). The
layer lists of ArchGym's Timeloop environment (Krishnan et al. 2023) are there under ``archgym_...``.

Transformers take a context: the tokens of the prompt in prefill, the length of the key-value cache in decode. A
suffix says it (``llama2_7b_decode_ctx4096``, ``bert_base_s384``), or the option ``context``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from archgym.errors import ArchGymError, UnknownNameError
from archgym.networks.layers import Layer, Network, conv, gemm


def _half(size: int) -> int:
    """Output size of a stride-2 layer with 'same' padding."""
    return -(-size // 2)


# --- convolutional networks --------------------------------------------------------------------------------------


def _alexnet_grouped() -> list[Layer]:
    return [
        conv("conv1", 96, 3, 55, 55, 11, 11, stride=4),
        conv("conv2", 256, 96, 27, 27, 5, 5, groups=2),
        conv("conv3", 384, 256, 13, 13, 3, 3),
        conv("conv4", 384, 384, 13, 13, 3, 3, groups=2),
        conv("conv5", 256, 384, 13, 13, 3, 3, groups=2),
        *_classifier((9216, 4096, 4096, 1000), first=6),
    ]


def _alexnet_torchvision() -> list[Layer]:
    return [
        conv("conv1", 64, 3, 55, 55, 11, 11, stride=4),
        conv("conv2", 192, 64, 27, 27, 5, 5),
        conv("conv3", 384, 192, 13, 13, 3, 3),
        conv("conv4", 256, 384, 13, 13, 3, 3),
        conv("conv5", 256, 256, 13, 13, 3, 3),
        *_classifier((9216, 4096, 4096, 1000), first=6),
    ]


def _classifier(widths: tuple[int, ...], first: int = 1) -> list[Layer]:
    return [gemm(f"fc{first + i}", 1, outputs, inputs) for i, (inputs, outputs) in enumerate(pairwise(widths))]


def _vgg16() -> list[Layer]:
    layers: list[Layer] = []
    channels, size = 3, 224
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers.append(conv(f"conv{len(layers) + 1}", width, channels, size, size, 3, 3))
            channels = width
        size //= 2
    return layers + _classifier((512 * 7 * 7, 4096, 4096, 1000))


def _resnet18() -> list[Layer]:
    layers = [conv("conv1", 64, 3, 112, 112, 7, 7, stride=2), conv("stage1.conv", 64, 64, 56, 56, 3, 3, count=4)]
    channels, size = 64, 56
    for stage, width in enumerate((128, 256, 512), start=2):
        size //= 2
        layers += [
            conv(f"stage{stage}.first", width, channels, size, size, 3, 3, stride=2),
            conv(f"stage{stage}.shortcut", width, channels, size, size, 1, 1, stride=2),
            conv(f"stage{stage}.conv", width, width, size, size, 3, 3, count=3),
        ]
        channels = width
    return [*layers, gemm("fc", 1, 1000, 512)]


def _resnet50(repeats_apart: bool = False) -> list[Layer]:
    """ResNet-50 v1.5; ``repeats_apart`` lists every instance by itself."""
    layers = [conv("conv1", 64, 3, 112, 112, 7, 7, stride=2)]
    channels, size = 64, 56
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        inner, stride = size, 1 if stage == 1 else 2
        size //= stride
        layers += [
            conv(f"stage{stage}.first.reduce", width, channels, inner, inner, 1, 1),
            conv(f"stage{stage}.first.spatial", width, width, size, size, 3, 3, stride=stride),
            conv(f"stage{stage}.first.expand", 4 * width, width, size, size, 1, 1),
            conv(f"stage{stage}.first.shortcut", 4 * width, channels, size, size, 1, 1, stride=stride),
        ]
        channels = 4 * width
        blocks = [(f"stage{stage}.block{i + 2}", 1) for i in range(depth - 1)]
        for block, count in blocks if repeats_apart else [(f"stage{stage}.rest", depth - 1)]:
            layers += [
                conv(f"{block}.reduce", width, channels, size, size, 1, 1, count=count),
                conv(f"{block}.spatial", width, width, size, size, 3, 3, count=count),
                conv(f"{block}.expand", channels, width, size, size, 1, 1, count=count),
            ]
    return [*layers, gemm("fc", 1, 1000, 2048)]


def _mobilenet_v1() -> list[Layer]:
    size, channels = 112, 32
    layers = [conv("conv1", 32, 3, size, size, 3, 3, stride=2)]
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for i, (width, stride) in enumerate(plan, start=1):
        size //= stride
        layers += [
            conv(f"depthwise{i}", channels, channels, size, size, 3, 3, stride=stride, groups=channels),
            conv(f"pointwise{i}", width, channels, size, size, 1, 1),
        ]
        channels = width
    return [*layers, gemm("fc", 1, 1000, 1024)]


def _mobilenet_v2(dense_depthwise: bool = False) -> list[Layer]:
    """MobileNet v2; ``dense_depthwise`` gives the depthwise layers as full convolutions, as ArchGym's list does."""
    size, channels = 112, 32
    layers = [conv("conv1", 32, 3, size, size, 3, 3, stride=2)]
    # Expansion, output channels, repeats, first stride (table 2 of the paper).
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    block = 0
    for expansion, width, repeats, first_stride in plan:
        for repeat in range(repeats):
            block += 1
            stride, wide = (first_stride if repeat == 0 else 1), channels * expansion
            if expansion != 1:
                layers.append(conv(f"block{block}.expand", wide, channels, size, size, 1, 1))
            size = size // stride
            groups = 1 if dense_depthwise else wide
            layers += [
                conv(f"block{block}.depthwise", wide, wide, size, size, 3, 3, stride=stride, groups=groups),
                conv(f"block{block}.project", width, wide, size, size, 1, 1),
            ]
            channels = width
    return [*layers, conv("last", 1280, 320, size, size, 1, 1), gemm("fc", 1, 1000, 1280)]


def _mobilenet_v3_large() -> list[Layer]:
    size, channels = 112, 16
    layers = [conv("conv1", 16, 3, size, size, 3, 3, stride=2)]
    # Filter, expanded and output channels, squeeze and excitation, stride (table 1 of Howard et al., ICCV 2019).
    plan = (
        (3, 16, 16, False, 1), (3, 64, 24, False, 2), (3, 72, 24, False, 1), (5, 72, 40, True, 2), (5, 120, 40, True, 1),
        (5, 120, 40, True, 1), (3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1),
        (3, 184, 80, False, 1), (3, 480, 112, True, 1), (3, 672, 112, True, 1), (5, 672, 160, True, 2),
        (5, 960, 160, True, 1), (5, 960, 160, True, 1),
    )  # fmt: skip
    for block, (kernel, wide, width, squeezes, stride) in enumerate(plan, start=1):
        if wide != channels:
            layers.append(conv(f"block{block}.expand", wide, channels, size, size, 1, 1))
        size //= stride
        layers.append(
            conv(f"block{block}.depthwise", wide, wide, size, size, kernel, kernel, stride=stride, groups=wide)
        )
        if squeezes:
            # A quarter of the channels, rounded to a multiple of eight.
            squeezed = (wide // 4 + 4) // 8 * 8
            layers += [
                gemm(f"block{block}.squeeze", 1, squeezed, wide),
                gemm(f"block{block}.excite", 1, wide, squeezed),
            ]
        layers.append(conv(f"block{block}.project", width, wide, size, size, 1, 1))
        channels = width
    return [*layers, conv("last", 960, 160, size, size, 1, 1), gemm("fc1", 1, 1280, 960), gemm("fc2", 1, 1000, 1280)]


def _efficientnet_b0(rows: int = 224, columns: int = 224, input_channels: int = 3, classes: int = 1000) -> list[Layer]:
    rows, columns, channels = _half(rows), _half(columns), 32
    layers = [conv("stem", 32, input_channels, rows, columns, 3, 3, stride=2)]
    # Expansion, output channels, repeats, first stride, filter (table 1 of the paper); squeeze to a quarter of the
    # block's input channels.
    plan = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    block = 0
    for expansion, width, repeats, first_stride, kernel in plan:
        for repeat in range(repeats):
            block += 1
            stride, wide, squeezed = (first_stride if repeat == 0 else 1), channels * expansion, channels // 4
            if expansion != 1:
                layers.append(conv(f"block{block}.expand", wide, channels, rows, columns, 1, 1))
            if stride == 2:
                rows, columns = _half(rows), _half(columns)
            layers += [
                conv(f"block{block}.depthwise", wide, wide, rows, columns, kernel, kernel, stride=stride, groups=wide),
                gemm(f"block{block}.squeeze", 1, squeezed, wide),
                gemm(f"block{block}.excite", 1, wide, squeezed),
                conv(f"block{block}.project", width, wide, rows, columns, 1, 1),
            ]
            channels = width
    return [*layers, conv("head", 1280, 320, rows, columns, 1, 1), gemm("fc", 1, classes, 1280)]


# --- transformers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transformer:
    """Shapes of a transformer.

    Args:
        width: of the model; heads share it equally.
        heads, kv_heads: query heads, and key-value heads (fewer in grouped-query attention: each serves
            ``heads / kv_heads`` query heads, whose rows stand one below the other in one product).
        hidden: width of the feed-forward layer.
        blocks: number of blocks.
        vocabulary: of the output layer, 0 for none.
        gated: the feed-forward layer has a gate beside the up-projection (SwiGLU).
    """

    width: int
    heads: int
    kv_heads: int
    hidden: int
    blocks: int
    vocabulary: int
    gated: bool

    def layers(self, tokens: int, context: int) -> list[Layer]:
        """The products of a pass over ``tokens`` new tokens that look at ``context`` tokens (themselves included in
        prefill). A causal mask saves nothing here; the output layer runs on the last token alone."""
        head = self.width // self.heads
        shared = self.heads // self.kv_heads
        layers = [
            gemm("qkv_projection", tokens, self.width + 2 * self.kv_heads * head, self.width, count=self.blocks),
            gemm("attention_scores", shared * tokens, context, head, batch=self.kv_heads, count=self.blocks),
            gemm("attention_values", shared * tokens, head, context, batch=self.kv_heads, count=self.blocks),
            gemm("output_projection", tokens, self.width, self.width, count=self.blocks),
            gemm(
                "gate_up" if self.gated else "up", tokens, (1 + self.gated) * self.hidden, self.width, count=self.blocks
            ),
            gemm("down", tokens, self.width, self.hidden, count=self.blocks),
        ]
        if self.vocabulary:
            layers.append(gemm("lm_head", 1, self.vocabulary, self.width))
        return layers


TRANSFORMERS = {
    "bert_base": Transformer(768, 12, 12, 3072, 12, 0, gated=False),
    "gpt2_small": Transformer(768, 12, 12, 3072, 12, 50257, gated=False),
    "llama2_7b": Transformer(4096, 32, 32, 11008, 32, 32000, gated=True),
    "llama3_8b": Transformer(4096, 32, 8, 14336, 32, 128256, gated=True),
}


# --- ArchGym's lists ---------------------------------------------------------------------------------------------


def _archgym_alexnet() -> list[Layer]:
    """AlexNet's five convolutions without groups, on which ArchGym's targets are defined."""
    return [
        conv("conv1", 96, 3, 55, 55, 11, 11, stride=4),
        conv("conv2", 256, 96, 27, 27, 5, 5),
        conv("conv3", 384, 256, 13, 13, 3, 3),
        conv("conv4", 384, 384, 13, 13, 3, 3),
        conv("conv5", 256, 384, 13, 13, 3, 3),
    ]


def _archgym_vgg01() -> list[Layer]:
    """Eight convolutions of VGG-11."""
    plan: tuple[tuple[int, int, int], ...] = (
        (64, 3, 224),
        (128, 64, 112),
        (256, 128, 56),
        (256, 256, 56),
        (512, 256, 28),
        (512, 512, 28),
    )
    plan += ((512, 512, 14), (512, 512, 14))
    return [conv(f"conv{i}", K, C, size, size, 3, 3) for i, (K, C, size) in enumerate(plan, start=1)]


def _archgym_vgg02() -> list[Layer]:
    """Thirteen convolutions after VGG-16's configuration C; the last one is 16 x 16 in ArchGym's list."""
    plan: tuple[tuple[int, int, int, int], ...]
    plan = ((64, 3, 224, 3), (64, 64, 224, 3), (128, 64, 112, 3), (128, 128, 112, 3), (256, 128, 56, 3))
    plan += ((256, 256, 56, 3), (256, 256, 56, 1), (512, 256, 28, 3), (512, 512, 28, 3), (512, 512, 28, 1))
    plan += ((512, 512, 14, 3), (512, 512, 14, 3), (256, 512, 16, 1))
    return [conv(f"conv{i}", K, C, size, size, r, r) for i, (K, C, size, r) in enumerate(plan, start=1)]


def _archgym_keyword_spotting() -> list[Layer]:
    return [
        conv("conv1", 64, 1, 33, 82, 8, 20),
        conv("conv2", 64, 64, 13, 32, 4, 10),
        gemm("fc", 1, 4, 64 * 13 * 32),
    ]


def _archgym_cognitive(first: int, samples: int, rest: tuple[tuple[int, int], ...], classifier: bool) -> list[Layer]:
    """A 1-D network on a waveform: a 40-tap filter bank, then 18-tap layers of ``(channels, samples)``."""
    layers, channels = [conv("conv1", first, 1, samples, 1, 1, 40)], first
    for i, (width, length) in enumerate(rest, start=2):
        layers.append(conv(f"conv{i}", width, channels, length, 1, 18, 1))
        channels = width
    return layers + ([gemm("fc", 1, 1, channels)] if classifier else [])


_LONG = ((512, 2047), (1024, 1023), (2048, 511))
_SHORT = ((512, 1023), (1024, 511), (2048, 255))


# --- by name -----------------------------------------------------------------------------------------------------

_CNNS: dict[str, tuple[Callable[[], list[Layer]], str]] = {
    "alexnet_grouped": (_alexnet_grouped, "AlexNet with two groups in conv2, conv4 and conv5, 227 x 227"),
    "alexnet_torchvision": (_alexnet_torchvision, "AlexNet with one tower, 224 x 224"),
    "vgg16": (_vgg16, "VGG-16, 224 x 224"),
    "resnet18": (_resnet18, "ResNet-18, 224 x 224"),
    "resnet50": (_resnet50, "ResNet-50 v1.5, 224 x 224"),
    "mobilenet_v1": (_mobilenet_v1, "MobileNet v1, 224 x 224"),
    "mobilenet_v2": (_mobilenet_v2, "MobileNet v2, 224 x 224"),
    "efficientnet_b0": (_efficientnet_b0, "EfficientNet-B0, 224 x 224"),
}
_ARCHGYM: dict[str, tuple[Callable[[], list[Layer]], str]] = {
    "archgym_alexnet": (_archgym_alexnet, "AlexNet's five convolutions without groups (ArchGym's list)"),
    "archgym_resnet50": (
        lambda: _resnet50(repeats_apart=True),
        "ResNet-50 with every layer by itself (ArchGym's list)",
    ),
    "archgym_vgg01": (_archgym_vgg01, "the convolutions of VGG-11 (ArchGym's list)"),
    "archgym_vgg02": (_archgym_vgg02, "thirteen convolutions after VGG-16 (ArchGym's list)"),
    "archgym_mobilenet_v2": (
        lambda: _mobilenet_v2(dense_depthwise=True),
        "MobileNet v2 with its depthwise layers as dense convolutions (ArchGym's list)",
    ),
    "archgym_efficientnet": (
        lambda: _efficientnet_b0(1024, 40, 1, 1),
        "EfficientNet-B0 on 1024 x 40 spectrograms (ArchGym's list)",
    ),
    "archgym_keyword_spotting": (_archgym_keyword_spotting, "keyword spotting (ArchGym's list)"),
    "archgym_cognitive_no_fc": (
        lambda: _archgym_cognitive(256, 1024, _SHORT, False),
        "cognitive impairment detection, convolutions alone (ArchGym's list)",
    ),
    "archgym_cognitive_10s": (
        lambda: _archgym_cognitive(256, 2048, _LONG, True),
        "cognitive impairment detection on 10 s (ArchGym's list)",
    ),
    "archgym_cognitive_5s": (
        lambda: _archgym_cognitive(256, 1024, _SHORT, True),
        "cognitive impairment detection on 5 s (ArchGym's list)",
    ),
    "archgym_cognitive_small_v1": (
        lambda: _archgym_cognitive(256, 1024, ((1024, 511),), True),
        "cognitive impairment detection, small, 256 and 1024 channels (ArchGym's list)",
    ),
    "archgym_cognitive_small_v2": (
        lambda: _archgym_cognitive(128, 1024, ((256, 511),), True),
        "cognitive impairment detection, small, 128 and 256 channels (ArchGym's list)",
    ),
    "archgym_cognitive_small_v3": (
        lambda: _archgym_cognitive(64, 1024, ((128, 511),), True),
        "cognitive impairment detection, small, 64 and 128 channels (ArchGym's list)",
    ),
}
# What joined since the groups of workloads (train, test) were first published stands last, so that they stay.
_LATER: dict[str, tuple[Callable[[], list[Layer]], str]] = {
    "mobilenet_v3_large": (_mobilenet_v3_large, "MobileNet v3 Large, 224 x 224"),
}
_ALIASES = {"alexnet": "archgym_alexnet"}
#: Transformer names in the catalogue; other contexts are built on demand.
_LANGUAGE = (
    "bert_base_s128",
    "bert_base_s512",
    "gpt2_small_prefill_s1024",
    "gpt2_small_decode_ctx1024",
    "llama2_7b_decode_ctx2048",
    "llama2_7b_prefill_s512",
    "llama3_8b_decode_ctx2048",
    "llama3_8b_prefill_s512",
)
_LANGUAGE_NAME = re.compile(
    rf"(?P<model>{'|'.join(TRANSFORMERS)})(?:_(?P<phase>prefill|decode))?(?:_(?P<mark>s|ctx)(?P<context>\d+))?"
)
_DEFAULT_CONTEXT = {"bert_base": 128, "gpt2_small": 1024, "llama2_7b": 2048, "llama3_8b": 2048}


def names() -> tuple[str, ...]:
    """Names of the catalogue."""
    return (*_CNNS, *_LANGUAGE, *_ALIASES, *_ARCHGYM, *_LATER)


def network(name: str, *, batch: int = 1, context: int | None = None) -> Network:
    """A network by name.

    Args:
        name: one of :func:`names`, or a transformer with another context (``gpt2_small_decode_ctx333``).
        batch: inputs at once (images, sequences).
        context: transformers only: tokens of the prompt (prefill) or of the key-value cache (decode).

    Raises:
        ArchGymError: for an unknown name or an option that does not fit.
    """
    for value, what in ((batch, "batch"), (1 if context is None else context, "context")):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArchGymError(f"{what} of network {name!r} is {value!r}; expected a whole number from 1 on")
    match = _LANGUAGE_NAME.fullmatch(name)
    if match is None and context is not None:
        raise ArchGymError(f"network {name!r} takes no context; leave the option out or choose a transformer")
    return (_build(name) if match is None else _language(match, name, context)).with_batch(batch)


def _language(match: re.Match[str], name: str, context: int | None) -> Network:
    model, phase = match["model"], match["phase"] or "prefill"
    if model == "bert_base" and phase == "decode":
        raise ArchGymError(f"network {name!r} does not exist: BERT is an encoder; leave 'decode' out")
    if match["mark"] and (match["mark"] == "ctx") != (phase == "decode"):
        raise ArchGymError(
            f"network {name!r} mixes up its suffix; write _s<tokens> for prefill, _ctx<tokens> for decode"
        )
    if match["context"] and context is not None:
        raise ArchGymError(f"network {name!r} names its context already; leave out the option context={context}")
    length = context or int(match["context"] or _DEFAULT_CONTEXT[model])
    if length < 1:
        raise ArchGymError(f"context of network {name!r} is 0; expected a whole number from 1 on")
    return _transformer(model, phase, length)


@lru_cache(maxsize=64)
def _transformer(model: str, phase: str, context: int) -> Network:
    layers = TRANSFORMERS[model].layers(context if phase == "prefill" else 1, context)
    if model == "bert_base":
        return Network(f"{model}_s{context}", layers, f"BERT-base encoder on {context} tokens")
    suffix, words = (
        (f"s{context}", f"a prompt of {context} tokens")
        if phase == "prefill"
        else (
            f"ctx{context}",
            f"one token after {context} cached ones",
        )
    )
    return Network(f"{model}_{phase}_{suffix}", layers, f"{model} {phase}: {words}")


@cache
def _build(name: str) -> Network:
    known = {**_CNNS, **_ARCHGYM, **_LATER}
    build = known.get(_ALIASES.get(name, name))
    if build is None:
        raise UnknownNameError("network", name, (*names(), *TRANSFORMERS))
    return Network(name, build[0](), build[1])


class Catalogue(Mapping[str, Network]):
    """The catalogue as a mapping; networks are built on first access."""

    def __getitem__(self, name: str) -> Network:
        if name not in names():
            raise KeyError(name)
        return network(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())
