"""The multiply-accumulates of public models against PyTorch's own counter, or what is not counted by name.

Runs where torchvision, timm or transformers are installed (all by ``pip install --no-deps``: they bring no version of
PyTorch of their own); everything is on PyTorch's ``meta`` device or tiny with random weights, nothing is downloaded.
"""

# ruff: noqa: SIM905 (lists of names read better as words)

from __future__ import annotations

import importlib.util
import re
import sys
import warnings

import pytest

from archgym.errors import ArchGymError
from archgym.networks.torch_reader import workload_from_torch

torch = pytest.importorskip("torch")
FlopCounterMode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
pytestmark = pytest.mark.slow

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def find_torchvision():
    """Import torchvision, if it is there, also in a build for another PyTorch: the compiled operators of that do not load, and
    models of pictures need none of them but their names."""
    while True:
        try:
            return pytest.importorskip("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[module]
            _LIBRARY.define(f"{missing[1]}(Tensor x) -> Tensor")


TORCHVISION = (
    "alexnet vgg16_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 googlenet inception_v3 squeezenet1_1 "
    "mobilenet_v2 mobilenet_v3_large mnasnet1_0 shufflenet_v2_x1_0 efficientnet_b0 efficientnet_v2_s regnet_y_400mf "
    "convnext_tiny vit_b_16 swin_t swin_v2_t maxvit_t segmentation.fcn_resnet50 segmentation.deeplabv3_mobilenet_v3_large "
    "video.r3d_18 video.mvit_v2_s"
).split()
TIMM = (
    "resnet26d resnetv2_50 seresnet18 res2net50_26w_4s rexnet_100 ghostnet_100 hardcorenas_a tf_efficientnetv2_b0 "
    "mixnet_s mobilenetv4_conv_small lcnet_050 fbnetv3_b regnetx_002 repvgg_a0 convnextv2_atto inception_next_tiny "
    "poolformer_s12 efficientformer_l1 efficientvit_b0 mobileone_s0 mobilevit_xxs edgenext_xx_small deit_tiny_patch16_224 "
    "swin_tiny_patch4_window7_224 pvt_v2_b0 levit_128s xcit_nano_12_p16_224 mixer_s32_224 gmlp_s16_224 resmlp_12_224 "
    "coat_lite_tiny twins_svt_small beit_base_patch16_224 volo_d1_224 hrnet_w18_small"
).split()
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
    "vocab_size": 256, "max_position_embeddings": 128, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_shared_experts": 1, "shared_expert_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
OWN = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]}, "gptj": {"rotary_dim": 8}, "falcon": {"head_dim": None},
    "deepseek_v3": {"head_dim": 8},
}  # fmt: skip
DENSE_FAMILIES = (
    "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neo gpt_neox gptj opt bloom falcon starcoder2 "
    "cohere olmo olmo2 stablelm granite smollm3 glm helium bert roberta electra albert"
).split()
MIXTURES = "mixtral qwen2_moe qwen3_moe deepseek_v2 deepseek_v3 gpt_oss olmoe granitemoe phimoe glm4_moe".split()


def compare(model, inputs):
    """``equal``, or a word that names what is not: the difference, the refusal."""
    counter = FlopCounterMode(display=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), counter, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.eval()
            model(**inputs) if isinstance(inputs, dict) else model(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    try:
        network = workload_from_torch(model, inputs)
    except ArchGymError as error:
        assert "is recurrent" in str(error) or " runs " in str(error), error
        return f"refused: {error}"
    ours, theirs = sum(layer.macs * layer.count for layer in network.layers), counter.get_total_flops() // 2
    if ours == theirs:
        return "equal"
    assert "they differ in" in network.description, f"{ours:,} here, {theirs:,} there, and nothing says so"
    return network.description.rpartition("they differ in ")[2]


def named(found):
    """Whether all that differs is work that PyTorch's counter leaves out (attention on a CPU, for one)."""
    return all(part.rstrip(")").endswith("(which it does not count") for part in found.split("), "))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    zoo = find_torchvision().models
    *module, title = name.split(".")
    with torch.device("cpu" if title.startswith("regnet") else "meta"):  # whose weights are read while they are drawn
        make = getattr(getattr(zoo, module[0]) if module else zoo, title)
        kwargs = {"weights": None, "weights_backbone": None} if module[:1] == ["segmentation"] else {"weights": None}
        model = make(**kwargs)
        side = 299 if "inception" in title else 224
        image = torch.zeros(1, 3, *((16, 224, 224) if module[:1] == ["video"] else (side, side)))
    assert compare(model, image) == "equal"


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    find_torchvision()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    size = model.pretrained_cfg["input_size"]
    found = compare(model, torch.zeros(1, *size))
    assert found == "equal" or named(found), found


@pytest.mark.parametrize("family", [*DENSE_FAMILIES, *MIXTURES])
def test_transformers(family):
    if importlib.util.find_spec("torchvision") is not None:
        find_torchvision()  # which transformers imports where it is there
    transformers = pytest.importorskip("transformers")
    fields = {**SMALL, **(EXPERTS if family in MIXTURES else {}), **OWN.get(family, {})}
    config = transformers.AutoConfig.for_model(family, **{k: v for k, v in fields.items() if v is not None})
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    found = compare(model, {"input_ids": torch.arange(16)[None] + 3})
    assert found == "equal" or named(found) or found.startswith("refused"), found
