"""Layers, networks and the catalogue: shapes equal to the reference lists, totals as published."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Layer, Network, conv, gemm

MACS = {
    "alexnet_grouped": (8, 8, 724_406_816),
    "alexnet_torchvision": (8, 8, 714_188_480),
    "vgg16": (16, 16, 15_470_264_320),
    "resnet18": (12, 21, 1_814_073_344),
    "resnet50": (30, 54, 4_089_184_256),
    "mobilenet_v1": (28, 28, 568_740_352),
    "mobilenet_v2": (53, 53, 300_774_272),
    "mobilenet_v3_large": (64, 64, 216_588_608),
    "efficientnet_b0": (82, 82, 385_814_752),
    "bert_base_s128": (6, 72, 11_173_625_856),
    "bert_base_s512": (6, 72, 48_318_382_080),
    "gpt2_small_prefill_s1024": (7, 73, 106_339_037_952),
    "gpt2_small_decode_ctx1024": (7, 73, 142_406_400),
    "llama2_7b_decode_ctx2048": (7, 193, 7_143_948_288),
    "llama2_7b_prefill_s512": (7, 193, 3_384_565_301_248),
    "llama3_8b_decode_ctx2048": (7, 193, 8_041_529_344),
}
JOINED_LATER = {"mobilenet_v3_large"}
"""Networks that the reference list does not have."""
ARCHGYM_MACS = {
    "archgym_alexnet": 1_076_634_144,
    "archgym_resnet50": 4_089_184_256,
    "archgym_vgg01": 7_485_456_384,
    "archgym_vgg02": 11_629_428_736,
    "archgym_mobilenet_v2": 5_549_139_968,
    "archgym_efficientnet": 392_108_800,
    "archgym_keyword_spotting": 95_973_376,
}
ARCHGYM_FILES = {
    "AlexNet": "alexnet",
    "EfficientNet": "efficientnet",
    "KeywordSpotting": "keyword_spotting",
    "VGG01": "vgg01",
    "VGG02": "vgg02",
    "mobilenet_v2": "mobilenet_v2",
    "resnet50": "resnet50",
    "CognitiveImpairmentDetection_No_FC": "cognitive_no_fc",
    "CognitiveImpairmentDetection_Orig_10_Sec": "cognitive_10s",
    "CognitiveImpairmentDetection_Orig_5_sec": "cognitive_5s",
    "CognitiveImpairmentDetection_Small_V1": "cognitive_small_v1",
    "CognitiveImpairmentDetection_Small_V2": "cognitive_small_v2",
    "CognitiveImpairmentDetection_Small_V3": "cognitive_small_v3",
}


@pytest.mark.parametrize("name", MACS)
def test_totals(name):
    network = networks.network(name)
    assert (len(network.layers), network.layer_count, network.macs) == MACS[name]


@pytest.mark.parametrize("name", ARCHGYM_MACS)
def test_archgym_totals(name):
    assert networks.network(name).macs == ARCHGYM_MACS[name]


def test_shapes_equal_the_reference_list(ref):
    known = json.loads((ref / "accelerator" / "workloads.json").read_text())["workloads"]
    assert set(known) == set(MACS) - JOINED_LATER
    for name, table in known.items():
        theirs: Counter = Counter()
        for row in table["layers"]:
            groups = row["groups"]
            shape = (row["N"], row["K"] // groups, row["C"] // groups, *(row[d] for d in "PQRS"), groups, row["stride"])
            theirs[shape] += row["count"]
        ours: Counter = Counter()
        for layer in networks.network(name).layers:
            ours[(*layer.bounds, layer.stride_p)] += layer.count
        assert ours == theirs, name


def test_shapes_equal_archgyms_lists(ref):
    known = json.loads((ref / "accelerator" / "archgym_timeloop_layers.json").read_text())["workloads"]
    for theirs, ours in ARCHGYM_FILES.items():
        expected = []
        for row in known[theirs]:
            depthwise = "M" not in row
            channels = (1, 1) if depthwise else (row["M"], row["C"])
            sizes = (row["N"], *channels, *(row[d] for d in "PQRS"), row["C"] if depthwise else 1)
            expected.append((*sizes, row["Wstride"], row["Hstride"]))
        layers = networks.network(f"archgym_{ours}").layers
        assert [(*layer.bounds, layer.stride_p, layer.stride_q) for layer in layers] == expected, theirs


def test_catalogue_is_complete_and_lazy():
    catalogue = networks.Catalogue()
    assert set(MACS) | set(ARCHGYM_MACS) | {"alexnet"} <= set(catalogue)
    assert all(catalogue[name].name == name for name in catalogue)
    assert catalogue["alexnet"].fingerprint == catalogue["archgym_alexnet"].fingerprint


def test_batch_scales_macs_and_shares_weights():
    for name in ("resnet18", "gpt2_small_decode_ctx1024"):
        one, eight = networks.network(name), networks.network(name, batch=8)
        assert eight.macs == 8 * one.macs
        assert eight.fingerprint != one.fingerprint
    cnn = networks.network("resnet18")
    assert networks.network("resnet18", batch=8).weight_words == cnn.weight_words


def test_contexts():
    named = networks.network("llama2_7b_decode_ctx4096")
    assert named.fingerprint == networks.network("llama2_7b_decode", context=4096).fingerprint
    assert named.macs > networks.network("llama2_7b_decode_ctx2048").macs
    # Weights are read once a token; attention grows with the cache: 2 * width MACs a block and position.
    grown = named.macs - networks.network("llama2_7b_decode_ctx2048").macs
    assert grown == 2 * 2048 * 4096 * 32


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet19", {}, "resnet18"),
        ("resnet18", {"context": 5}, "takes no context"),
        ("resnet18", {"batch": 0}, "batch of network 'resnet18' is 0"),
        ("bert_base_decode", {}, "encoder"),
        ("gpt2_small_decode_s5", {}, "suffix"),
        ("gpt2_small_decode_ctx7", {"context": 7}, "names its context"),
        ("gpt2_small_decode_ctx0", {}, "context"),
    ],
)
def test_bad_names_get_one_sentence(name, options, words):
    with pytest.raises(ArchGymError, match=words) as error:
        networks.network(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"K": 0}, "layer 'x' has K = 0"),
        ({"P": -3}, "P = -3"),
        ({"Q": 2.5}, "Q = 2.5"),
        ({"count": True}, "count = True"),
        ({"op": "convolution"}, "did you mean 'conv'"),
        ({"op": "depthwise", "C": 4}, "C = 4"),
        ({"op": "gemm", "R": 3}, "R = 3"),
        ({"op": "gemm", "G": 3}, "bmm"),
        ({"K": 2**30, "C": 2**30}, "counted exactly"),
    ],
)
def test_bad_layers_name_the_field(fields, words):
    with pytest.raises(ArchGymError, match=words.replace("*", r"\*")):
        Layer("x", **fields)


def test_networks_need_layers_with_distinct_names():
    with pytest.raises(ArchGymError, match="no layers"):
        Network("n", [])
    with pytest.raises(ArchGymError, match="two layers named 'a'"):
        Network("n", [gemm("a", 1, 2, 3), gemm("a", 1, 2, 3)])
    with pytest.raises(ArchGymError, match="groups must divide"):
        conv("c", 6, 4, 1, 1, 1, 1, groups=4)


def test_merged_keeps_the_work():
    network = networks.network("archgym_resnet50")
    merged = network.merged()
    assert merged.macs == network.macs and merged.layer_count == network.layer_count
    assert len(merged.layers) < len(network.layers)


def test_input_extents():
    layer = conv("c", 8, 8, 5, 7, 3, 3, stride=2, dilation=2)
    assert (layer.input_rows, layer.input_columns) == (4 * 2 + 2 * 2 + 1, 6 * 2 + 2 * 2 + 1)
