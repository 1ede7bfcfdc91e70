"""Readers: what each format means, and one sentence that names the place where a file is wrong."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Layer, Network
from archgym.networks.readers import read_network, timeloop_layer, write_network

sizes = st.integers(1, 40)


@st.composite
def layers(draw):
    op = draw(st.sampled_from(("conv", "depthwise", "gemm", "bmm")))
    names = {"conv": "NKCPQRSG", "depthwise": "NKPQRSG", "gemm": "NKCP", "bmm": "NKCPG"}[op]
    steps = ("stride_p", "stride_q", "dilation_r", "dilation_s") if op in ("conv", "depthwise") else ()
    fields = {name: draw(sizes) for name in (*names, *steps, "count")}
    return Layer(draw(st.text("abc.-_1", min_size=1, max_size=8)), op, **fields)


@settings(max_examples=60, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=5, unique_by=lambda layer: layer.name))
def test_own_form_round_trips(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("net") / "n.yaml"
    network = Network("drawn", drawn)
    again = read_network(write_network(network, path))
    assert again.layers == network.layers and again.name == "drawn"


def test_own_form_shorthands(tmp_path):
    path = tmp_path / "n.yaml"
    path.write_text(
        "layers:\n"
        "- {name: a, op: conv, K: 8, C: 4, P: 5, Q: 6, R: 3, S: 3, stride: [2, 1], dilation: 2}\n"
        "- {name: b, op: bmm, M: 2, N: 3, K: 4, batch: 5, count: 6}\n"
    )
    network = read_network(path)
    assert network.name == "n"
    assert network.layers[0] == Layer(
        "a", "conv", K=8, C=4, P=5, Q=6, R=3, S=3, stride_p=2, stride_q=1, dilation_r=2, dilation_s=2
    )
    assert network.layers[1] == Layer("b", "bmm", P=2, K=3, C=4, G=5, count=6)


@pytest.mark.parametrize("name", networks.names())
def test_every_network_survives_a_file(tmp_path, name):
    network = networks.network(name)
    assert read_network(write_network(network, tmp_path / "n.yaml")).fingerprint == network.fingerprint


def test_timeloop_reference_problems(ref):
    files = sorted((ref / "accelerator" / "timeloop_cases").glob("*.json"))
    seen = 0
    for file in files:
        case = json.loads(file.read_text())
        if "problem" not in case or not set(case["problem"]["instance"]) >= {"M", "C", "P", "Q", "R", "S"}:
            continue
        layer = timeloop_layer(case["problem"])
        instance = case["problem"]["instance"]
        assert (layer.K, layer.C, layer.P, layer.R) == tuple(instance[d] for d in "MCPR")
        assert layer.stride_p == instance.get("Wstride", 1)
        seen += 1
    assert seen >= 3


def test_timeloop_forms(tmp_path):
    old = {"problem": {"shape": "cnn-layer", "C": 3, "M": 96, "P": 55, "Q": 54, "R": 11, "S": 10, "Wstride": 4}}
    path = tmp_path / "conv1.yaml"
    path.write_text(yaml.safe_dump(old))
    layer = read_network(path).layers[0]
    assert layer == Layer("conv1", K=96, C=3, P=55, Q=54, R=11, S=10, stride_p=4)
    spaces = [
        {"name": "Weights", "projection": [[["C"]], [["R"]], [["S"]]]},
        {"name": "Outputs", "projection": [[["N"]], [["C"]], [["P"]], [["Q"]]], "read_write": True},
    ]
    shape = {"name": "dw", "dimensions": ["C", "R", "S", "N", "P", "Q"], "data_spaces": spaces}
    instance = {"C": 32, "R": 3, "S": 3, "N": 1, "P": 7, "Q": 7, "Wstride": 2, "Hstride": 2}
    layer = timeloop_layer({"shape": shape, "instance": instance})
    assert layer == Layer("dw", "depthwise", G=32, P=7, Q=7, R=3, S=3, stride_p=2, stride_q=2)
    product = {"shape": {"dimensions": ["M", "N", "K"]}, "instance": {"M": 2, "N": 3, "K": 4}}
    assert timeloop_layer(product) == Layer("layer", "gemm", P=2, K=3, C=4)


def test_scalesim_topology(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
        "Conv1, 230, 230, 7, 7, 3, 64, 2,\n\n"
        "Conv2, 58, 58, 3, 3, 64, 64, 1,\n"
        "Conv2, 58, 58, 3, 3, 64, 64, 1,\n"
    )
    network = read_network(path)
    # SCALE-Sim rounds the output up: 113, where the network has 112.
    assert network.layers[0] == Layer("Conv1", K=64, C=3, P=113, Q=113, R=7, S=7, stride_p=2, stride_q=2)
    assert [layer.name for layer in network.layers] == ["Conv1", "Conv2", "Conv2-2"]
    path.write_text("Layer, M, N, K,\nfc, 1, 1000, 512,\n")
    assert read_network(path).layers[0] == Layer("fc", "gemm", P=1, K=1000, C=512)


def test_gamma_tables(tmp_path, ref):
    known = json.loads((ref / "accelerator" / "gamma_layers.json").read_text())
    for name, table in known.items():
        path = tmp_path / f"{name}.csv"
        lines = [table["columns"], *table["rows"]]
        path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
        network = read_network(path)
        assert len(network.layers) == len(table["rows"])
    path = tmp_path / "mobilenet_v2.csv"
    assert read_network(path).layers[1] == Layer("mobilenet_v2-1", "depthwise", G=32, P=110, Q=110, R=3, S=3)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("a.yaml", "layers: [", "line 1"),
        ("a.yaml", "layers:\n- {name: c, op: conv, K: 0}\n", r"layers\[0\] \(c\): K is 0"),
        ("a.yaml", "layers:\n- {name: c, op: conv, K: -4}\n", "K is -4"),
        ("a.yaml", "layers:\n- {name: c, op: konv}\n", r"layers\[0\] \(c\): unknown op"),
        ("a.yaml", "layers:\n- {name: c, kernel: 3}\n", "unknown field 'kernel'"),
        ("a.yaml", "layers:\n- 7\n", r"layers\[0\] is 7"),
        ("a.yaml", "layers: []\n", "no layers"),
        ("a.yaml", "hello\n", "no list 'layers'"),
        ("a.yaml", "problem: {shape: {dimensions: [C, Z]}, instance: {C: 2, Z: 2}}\n", "dim 'Z'"),
        ("a.yaml", "problem: {shape: cnn-layer, instance: {C: 2, M: -1}}\n", "M is -1"),
        ("a.yaml", "problem: 3\n", "problem is 3"),
        ("a.csv", "Layer, M, N, K,\nfc, 1, 1000,\n", "line 2: 3 cells"),
        ("a.csv", "Layer name, a, b, c, d, e, f, g\nx, 5, 5, 7, 7, 1, 1, 1\n", "line 2: the filter 7 x 7 is larger"),
        ("a.csv", "Layer name, a, b, c, d, e, f, g\nx, 5, 5, three, 1, 1, 1, 1\n", "filter height is 'three'"),
        ("a.csv", "K,C,Y,X,R,S,T\n1,2,3,4,1,1,9\n", "T is '9'"),
        ("a.csv", "K,C,Y,X,R,S,T\n1,2,3,4,1\n", "5 cells under 7"),
        ("a.csv", "", "empty"),
        ("a.txt", "hello", "neither .yaml nor .csv"),
    ],
)
def test_bad_files_name_the_place(tmp_path, file, text, words):
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(ArchGymError, match=words) as error:
        read_network(path)
    assert "\n" not in str(error.value) and file in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ArchGymError, match="cannot read"):
        read_network(tmp_path / "nothing.yaml")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(ArchGymError, match="not a text file"):
        read_network(tmp_path / "b.csv")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=80), st.sampled_from((".yaml", ".csv", ".txt")))
def test_any_text_is_read_or_refused_in_one_sentence(tmp_path_factory, text, suffix):
    path = tmp_path_factory.mktemp("any") / f"f{suffix}"
    path.write_text(text, encoding="utf-8")
    try:
        macs, sentence = read_network(path).macs, ""
    except ArchGymError as refusal:
        macs, sentence = 0, str(refusal)
    assert macs > 0 or len(sentence.splitlines()) == 1
