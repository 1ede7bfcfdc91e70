"""Readers: what each format means, and one sentence that names the place where a file is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Layer, Network
from archgym.networks.readers import read_network, write_network
from archgym.networks.timeloop import timeloop_layer
from archgym.simulators.systolic import SystolicSimulator

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
        {"name": "Inputs", "projection": [[["N"]], [["C"]], [["R"], ["P", "Ws"]], [["S"], ["Q", "Hs"]]]},
        {"name": "Outputs", "projection": [[["N"]], [["C"]], [["P"]], [["Q"]]], "read_write": True},
    ]
    shape = {"name": "dw", "dimensions": ["C", "R", "S", "N", "P", "Q"], "data_spaces": spaces}
    shape["coefficients"] = [{"name": "Ws", "default": 1}, {"name": "Hs", "default": 2}]
    instance = {"C": 32, "R": 3, "S": 3, "N": 1, "P": 7, "Q": 7, "Ws": 2}
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


# --- nothing is dropped ------------------------------------------------------------------------------------------------

CONV = Layer("conv", K=16, C=8, P=16, Q=16, R=3, S=3)
HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides"
SPACES = """
    data_spaces:
    - {name: Weights, projection: [[[C]], [[M]], [[R]], [[S]]]}
    - {name: Inputs, projection: [[[N]], [[C]], [[R, dil], [P, a]], [[S], [Q, b]]]}
    - {name: Outputs, projection: [[[N]], [[M]], [[Q]], [[P]]], read_write: true}
"""
SHAPE = "problem:\n  shape:\n    name: conv\n    dimensions: [C, M, R, S, N, P, Q]\n" + (
    "    coefficients: [{name: a, default: %d}, {name: b, default: 1}, {name: dil, default: 1}]" + SPACES
)
BOUNDS = "C: 8, M: 16, R: 3, S: 3, P: 16, Q: 16"
READ = {
    "two strides.csv": (HEADER + ", Stride width,\nsp,33,65,3,5,8,16,2,4,\n",
                        [Layer("sp", K=16, C=8, P=16, Q=16, R=3, S=5, stride_p=2, stride_q=4)]),
    "ninth cell.csv": ("sp,33,65,3,5,8,16,2,4,\n", [Layer("sp", K=16, C=8, P=16, Q=16, R=3, S=5, stride_p=2, stride_q=4)]),
    "batch.csv": (HEADER + ", Batch Size,\nEmb, 16, 16, 1, 1, 3, 64, 1, 8,\n", [Layer("Emb", N=8, K=64, C=3, P=16, Q=16)]),
    "order.csv": ("Layer name, Batch, Channels, Num Filter, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Strides,\n"
                  "x, 2, 3, 4, 9, 8, 3, 2, 1,\n", [Layer("x", N=2, K=4, C=3, P=7, Q=7, R=3, S=2)]),
    "no header.csv": ("a,34,34,3,3,3,32,2,\nb,18,18,3,3,32,8,1,\n",
                      [Layer("a", K=32, C=3, P=17, Q=17, R=3, S=3, stride_p=2, stride_q=2),
                       Layer("b", K=8, C=32, P=16, Q=16, R=3, S=3)]),
    "no header, products.csv": ("fc, 1, 1000, 512,\n", [Layer("fc", "gemm", K=1000, C=512)]),
    "order of products.csv": ("Layer, K, M, N,\nfc, 512, 1, 1000,\n", [Layer("fc", "gemm", K=1000, C=512)]),
    "depthwise.csv": (HEADER + ",\nDP1,18,18,3,3,32,1,1,\n", [Layer("DP1", "depthwise", G=32, P=16, Q=16, R=3, S=3)]),
    "sections.csv": ("First part\n" + HEADER + "\na,5,5,3,3,1,1,1\nSecond part\n" + HEADER + "\nb,6,6,3,3,1,1,1\n",
                     [Layer("a", P=3, Q=3, R=3, S=3), Layer("b", P=4, Q=4, R=3, S=3)]),
    "dense.csv": (HEADER + ", Sparsity,\na,5,5,3,3,1,1,1,4:4,\n", [Layer("a", P=3, Q=3, R=3, S=3)]),
    "default.yaml": (SHAPE % 2 + "  instance: {" + BOUNDS + "}\n", [replace(CONV, stride_p=2)]),
    "own name.yaml": (SHAPE % 1 + "  instance: {" + BOUNDS + ", a: 2, b: 3, dil: 2}\n",
                      [replace(CONV, stride_p=2, stride_q=3, dilation_r=2)]),
    "other case.yaml": (SHAPE % 1 + "  instance: {c: 8, m: 16, r: 3, s: 3, p: 16, q: 16, A: 2}\n",
                        [replace(CONV, stride_p=2)]),
    "swapped.yaml": (SHAPE.replace("[P, a]", "[P, b]").replace("[Q, b]", "[Q, a]") % 1 + "  instance: {" + BOUNDS + ", a: 2}\n",
                     [replace(CONV, stride_q=2)]),
    "columns first.yaml": (SHAPE.replace("[[R, dil], [P, a]], [[S], [Q, b]]", "[[S], [Q, b]], [[R, dil], [P, a]]") % 2
                           + "  instance: {" + BOUNDS + "}\n", [replace(CONV, stride_p=2)]),
    "other letters.yaml": (
        "problem:\n  shape:\n    dimensions: [o, i, y, x, ky, kx]\n    coefficients: [{name: s, default: 2}]\n"
        "    data_spaces:\n    - {name: In, projection: [[[i]], [[ky], [y, s]], [[kx], [x, s]]]}\n"
        "    - {name: Filter, projection: [[[o]], [[i]], [[ky]], [[kx]]]}\n"
        "    - {name: Out, projection: [[[o]], [[y]], [[x]]], read_write: true}\n"
        "  instance: {o: 16, i: 8, y: 4, x: 5, ky: 3, kx: 2}\n",
        [Layer("other letters", K=16, C=8, P=4, Q=5, R=3, S=2, stride_p=2, stride_q=2)]),
    "read_write in quotes.yaml": (SHAPE.replace("[[C]], [[M]], [[R]], [[S]]]", "[[C]], [[M]], [[R]], [[S]]], read_write: 'False'")
                                  % 1 + "  instance: {" + BOUNDS + "}\n", [CONV]),
    "flat projections.yaml": (SHAPE.replace("[[[C]], [[M]], [[R]], [[S]]]", "[C, M, R, S]") % 1 + "  instance: {" + BOUNDS + "}\n",
                              [CONV]),
    "grouped.yaml": (
        "problem:\n  shape:\n    dimensions: [M, N, K, H]\n    data_spaces:\n"
        "    - {name: A, projection: [[[H]], [[M]], [[K]]]}\n    - {name: B, projection: [[[H]], [[K]], [[N]]]}\n"
        "    - {name: Z, projection: [[[H]], [[M]], [[N]]], read_write: true}\n  instance: {M: 2, N: 3, K: 4, H: 5}\n",
        [Layer("grouped", "bmm", P=2, K=3, C=4, G=5)]),
}  # fmt: skip


@pytest.mark.parametrize("file", READ)
def test_files_are_read_as_they_say(tmp_path, file):
    text, expected = READ[file]
    path = tmp_path / file
    path.write_text(text)
    assert list(read_network(path).layers) == expected


REFUSED = {
    "sparse.csv": (HEADER + ", Sparsity,\nConv1,34,34,3,3,3,32,2,2:4,\n", "sparse .'2:4'."),
    "ninth is sparse.csv": ("Conv1,34,34,3,3,3,32,2,2:4,\n", "sparse"),
    "unknown column.csv": (HEADER + ", Skew,\nConv1,34,34,3,3,3,32,2,7,\n", "the column 'Skew' is not understood"),
    "twice.csv": (HEADER + ", Stride,\nConv1,34,34,3,3,3,32,2,7,\n", "gives the stride twice"),
    "too many.csv": (HEADER + ",\nConv1,34,34,3,3,3,32,2,7,\n", "9 cells under 8 columns"),
    "without header.csv": ("Conv1,34,34,3,3,3,\n", "6 cells and no header"),
    "elementwise.yaml": ("problem:\n  shape:\n    dimensions: [M, N]\n    data_spaces:\n" + "".join(
        f"    - {{name: {n}, projection: [[[M]], [[N]]]{w}}}\n" for n, w in (("A", ""), ("B", ""), ("Z", ", read_write: true"))
    ) + "  instance: {M: 8, N: 8}\n", "element-wise"),
    "three operands.yaml": ("problem:\n  shape:\n    dimensions: [M, K]\n    data_spaces:\n" + "".join(
        f"    - {{name: {n}, projection: [[[{d}]]]{w}}}\n"
        for n, d, w in (("A", "K", ""), ("B", "K", ""), ("C", "M", ""), ("Z", "M", ", read_write: true"))
    ) + "  instance: {M: 8, K: 8}\n", "reads 3 data spaces"),
    "unknown key.yaml": (SHAPE % 1 + "  instance: {" + BOUNDS + ", stride: 2}\n", "unknown dim or coefficient 'stride'"),
    "densities.yaml": (SHAPE % 1 + "  instance: {" + BOUNDS + ", densities: {Inputs: 0.5}}\n", "Inputs sparse"),
    "template.yaml": ("{{include_text('base.yaml')}}\nproblem:\n  <<<: *base\n  instance: {C: 3}\n", "template"),
    "own name of a shape.yaml": ("problem: {shape: my-shape, instance: {C: 3, M: 4}}\n", "no shape of Timeloop's own"),
    "term.yaml": (SHAPE.replace("[Q, b]", "[Q, 3]") % 1 + "  instance: {" + BOUNDS + "}\n", "has the term"),
    "repeated.yaml": ("problem: {shape: cnn-layer, instance: {C: 3, M: 4, C: 5}}\n", "twice|repeat"),
    "step of weights.yaml": (SHAPE.replace("[[C]], [[M]], [[R]]", "[[C]], [[M]], [[R, a]]") % 2 + "  instance: {" + BOUNDS + "}\n",
                             "Weights is indexed by R x a = 2"),
    "step of outputs.yaml": (SHAPE.replace("[[Q]], [[P]]]", "[[Q]], [[P, b]]]") % 1 + "  instance: {" + BOUNDS + ", b: 2}\n",
                             "Outputs is indexed by P x b = 2"),
    "step of nothing.yaml": (SHAPE.replace("[P, a]", "[P]") % 2 + "  instance: {" + BOUNDS + "}\n", "'a' is 2, but no projection"),
    "missing dim.yaml": (SHAPE % 1 + "  instance: {M: 16, R: 3, S: 3, P: 16, Q: 16}\n", "no bound for the dim 'C'"),
    "missing channels.yaml": ("problem: {shape: cnn-layer, instance: {C: 8, R: 3, S: 3, P: 4, Q: 4}}\n", "no bound for the dim 'M'"),
    "missing rows.yaml": ("problem: {shape: cnn-layer, instance: {C: 8, M: 3, R: 3, S: 3}}\n", "no bound for the dim '[PQ]'"),
    "missing N of a product.yaml": ("problem: {shape: {dimensions: [M, N, K]}, instance: {M: 3, K: 4}}\n", "no bound for the dim 'N'"),
    "twice in a tensor.yaml": (SHAPE.replace("[[C]], [[M]]", "[[C]], [[C]], [[M]]") % 1 + "  instance: {" + BOUNDS + "}\n",
                               "'C' indexes Weights twice"),
    "in a window and beside it.yaml": (SHAPE.replace("[[N]], [[C]], [[R, dil]", "[[N]], [[C]], [[P]], [[R, dil]") % 1
                                       + "  instance: {" + BOUNDS + "}\n", "'P' indexes Inputs twice"),
    "coefficient twice.yaml": (SHAPE.replace("name: b", "name: a") % 1 + "  instance: {" + BOUNDS + "}\n", "'a', which is a coefficient"),
    "coefficients are none.yaml": (SHAPE.replace("[{name: a, default: %d}, {name: b, default: 1}, {name: dil, default: 1}]", "3")
                                   + "  instance: {" + BOUNDS + "}\n", "coefficients is 3"),
    "two spaces of a name.yaml": (SHAPE.replace("name: Inputs", "name: Weights") % 1 + "  instance: {" + BOUNDS + "}\n", "two data spaces"),
    "written or not.yaml": (SHAPE.replace("read_write: true", "read_write: sometimes") % 1 + "  instance: {" + BOUNDS + "}\n",
                            "'sometimes'; expected one read_write"),
    "layers and a problem.yaml": ("problem: {shape: cnn-layer}\nlayers: []\n", "beside a Timeloop problem"),
    "a header of nothing.csv": (HEADER + "\na,5,5,3,3,1,1,1\nb,5px,5px,3px,3px,cs,ks,ss\n", "neither a layer nor a header"),
    "open quotation.csv": (HEADER + '\na,5,5,3,3,1,1,1\n"b,5,5,3,3,1,1,1\nc,5,5,3,3,1,1,1\n', "line 3: a quotation mark"),
    "a batch of products.csv": ("M,N,K,0,T\n2,3,4,7,3\n", "0 is '7'"),
    "filters of a depthwise row.csv": ("K,C,Y,X,R,S,T\n4,32,9,9,3,3,2\n", "with K = 4"),
    "two strides in ours.yaml": ("layers:\n- {name: a, K: 8, stride: 2, stride_p: 3}\n", "both stride and stride_p"),
    "a product without rows.yaml": ("layers:\n- {name: a, op: gemm, N: 8, K: 9}\n", "lacks M"),
    "a layer of nothing.yaml": ("layers:\n- {name: a}\n", "gives no size"),
    "a list as a name.yaml": ("name: [a]\nlayers:\n- {name: a, K: 8}\n", "the name in"),
    "a word of YAML as a name.yaml": ("layers:\n- {name: on, K: 8}\n", "quotation marks"),
    "octal.yaml": ("layers:\n- {name: a, K: 010}\n", "'010', octal to some"),
    "sexagesimal.yaml": ("layers:\n- {name: a, K: 1:30}\n", "K is '1:30'"),
    "gemm without N.yaml": ("problem: {shape: gemm-ABZ, instance: {M: 3, K: 5}}\n", "no bound for the dim 'N'"),
    "semicolons.csv": ((HEADER + "\nc1,34,34,3,3,3,32,2\n").replace(",", ";"), "separate them by commas"),
    "a product with a filter.csv": ("K,C,Y,X,R,S,T\n64,64,32,32,3,3,3\n", "a product .T 3. with a filter"),
    "repeated in ours.yaml": ("layers:\n- {name: a, K: 8, K: 9}\n", "twice|repeat"),
}  # fmt: skip


@pytest.mark.parametrize("file", REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path, file):
    text, words = REFUSED[file]
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(ArchGymError, match=words) as found:
        read_network(path)
    assert len(str(found.value)) <= 300 and "\n" not in str(found.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_timeloop_shape_means_its_projections_whatever_the_names(data):
    """A convolution under drawn names, in a drawn order of dims, ranks and data spaces."""
    letters = data.draw(
        st.lists(st.text("abxyzQPRS", min_size=1, max_size=3), min_size=10, max_size=10, unique_by=str.lower)
    )
    n, m, c, p, q, r, s, g, a, b = letters
    bounds = dict(zip(letters[:8], data.draw(st.lists(st.integers(2, 9), min_size=8, max_size=8)), strict=True))
    steps = {a: data.draw(st.integers(1, 4)), b: data.draw(st.integers(1, 4))}
    windows = [[[r], [p, a]], [[s], [q, b]]]
    spaces = [
        {"name": "x", "projection": data.draw(st.permutations([[[n]], [[c]], [[g]]])) + windows},
        {"name": "y", "projection": data.draw(st.permutations([[[m]], [[c]], [[r]], [[s]], [[g]]]))},
        {
            "name": "z",
            "projection": data.draw(st.permutations([[[n]], [[m]], [[p]], [[q]], [[g]]])),
            "read_write": True,
        },
    ]
    asked = data.draw(st.sets(st.sampled_from([a, b])))
    problem = {
        "shape": {
            "dimensions": data.draw(st.permutations(letters[:8])),
            "coefficients": [{"name": key, "default": 7 if key in asked else steps[key]} for key in steps],
            "data_spaces": data.draw(st.permutations(spaces)),
        },
        "instance": bounds | {key: steps[key] for key in asked},
    }
    layer = timeloop_layer(problem)
    N, M, C, P, Q, R, S, G = bounds.values()
    swapped = q == "P" or p == "Q"
    rows, columns = ((Q, S, steps[b]), (P, R, steps[a])) if swapped else ((P, R, steps[a]), (Q, S, steps[b]))
    assert (layer.N, layer.K, layer.C, layer.G) == (N, M, C, G) and layer.macs == N * M * C * P * Q * R * S * G
    assert (layer.P, layer.R, layer.stride_p) == rows and (layer.Q, layer.S, layer.stride_q) == columns


def test_a_depthwise_topology_takes_the_cycles_of_scalesims_own_split(tmp_path):
    path, split = tmp_path / "dp.csv", tmp_path / "split.csv"
    path.write_text("DP1,18,18,3,3,32,1,1,\n")
    split.write_text(HEADER + ",\n" + "".join(f"DP1Channel_{i},18,18,3,3,1,1,1,\n" for i in range(32)))
    simulator = SystolicSimulator()
    whole, parts = read_network(path), read_network(split)
    rows = simulator.space(whole).sample(20, 0)
    first, second = simulator.evaluate(rows, whole), simulator.evaluate(rows, parts)
    cycles = first.metrics["latency_cycles"][first.feasible]
    assert np.array_equal(cycles, second.metrics["latency_cycles"][second.feasible])


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
        ("a.yaml", "layers: [", "line 2"),
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
        ("a.txt", "hello", "neither .yaml, .csv, .m nor .onnx"),
    ],
)
def test_bad_files_name_the_place(tmp_path, file, text, words):
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(ArchGymError, match=words) as error:
        read_network(path)
    assert "\n" not in str(error.value) and file in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ArchGymError, match="there is no network file"):
        read_network(tmp_path / "nothing.yaml")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(ArchGymError, match="UTF-8"):
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
