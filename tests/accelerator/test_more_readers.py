"""ZigZag's workloads, MAESTRO's networks and folders of layers."""

from __future__ import annotations

import pytest
import yaml

from archgym.errors import ArchGymError
from archgym.networks import network
from archgym.networks.readers import read_network, write_network
from archgym.simulators.external.zigzag import workload_entry


@pytest.mark.parametrize("name", ["alexnet_grouped", "mobilenet_v2", "bert_base_s128"])
def test_what_zigzag_is_given_reads_back(name, tmp_path) -> None:
    given = network(name).merged()
    path = tmp_path / "workload.yaml"
    path.write_text(yaml.safe_dump([workload_entry(layer) | {"id": i} for i, layer in enumerate(given.layers)]))
    read = read_network(path)
    assert [layer.macs for layer in read.layers] == [layer.macs for layer in given.layers]
    for ours, back in zip(given.layers, read.layers, strict=True):
        assert (ours.weight_words, ours.output_words, ours.input_words) == (
            back.weight_words, back.output_words, back.input_words
        )  # fmt: skip
        assert (ours.bounds, ours.stride_p, ours.stride_q) == (back.bounds, back.stride_p, back.stride_q)


ZIGZAG = """
- id: 0
  name: conv
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=1*oy+3*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [2, 64, 3, 112, 56, 7, 5]
  operand_precision: {W: 8, I: 8, O: 16, O_final: 8}
- id: 1
  name: pool
  operator_type: Pooling
  equation: O[b][g][oy][ox]+=W[fx][fy]*I[b][g][iy][ix]
  loop_dims: [B, G, OY, OX, FX, FY]
  loop_sizes: [1, 64, 56, 56, 3, 3]
- id: 2
  name: product
  operator_type: Gemm
  equation: O[b][d][k]+=I[b][d][c]*W[c][k]
  loop_dims: [B, D, C, K]
  loop_sizes: [1, 12, 64, 30]
- id: 3
  name: scores
  operator_type: Gemm
  equation: O[b][d][k]+=I[b][d][c]*W[b][c][k]
  loop_dims: [B, D, C, K]
  loop_sizes: [8, 12, 64, 30]
"""


def test_a_zigzag_workload_of_its_own_kind(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ZIGZAG)
    read = read_network(path)
    conv, product, scores = read.layers
    assert (conv.N, conv.K, conv.C, conv.P, conv.Q, conv.R, conv.S) == (2, 64, 3, 112, 56, 7, 5)
    assert (conv.stride_p, conv.stride_q, conv.dilation_r, conv.dilation_s) == (1, 2, 3, 1)
    assert (product.op, product.P, product.C, product.K) == ("gemm", 12, 64, 30)
    assert (scores.op, scores.G, scores.macs) == ("bmm", 8, 8 * 12 * 64 * 30)
    assert "pool" in read.description


def test_an_operator_of_another_name_is_read_by_its_equation(tmp_path) -> None:
    read = []
    for name, text in (("own", ZIGZAG), ("fancy", ZIGZAG.replace("operator_type: Conv", "operator_type: Fancy"))):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        read.append(read_network(path).layers)
    assert read[0] == read[1]


def test_the_size_of_an_input_and_its_padding_change_no_loop(tmp_path) -> None:
    (tmp_path / "own.yaml").write_text(ZIGZAG)
    (tmp_path / "padded.yaml").write_text(ZIGZAG.replace("  loop_dims: [B, K,", f"  {INPUT}\n  loop_dims: [B, K,", 1))
    assert read_network(tmp_path / "own.yaml").layers == read_network(tmp_path / "padded.yaml").layers


INPUT = "pr_loop_dims: [IX, IY]\n  pr_loop_sizes: [115, 112]\n  padding: [[0, 0], [9, 9]]"


@pytest.mark.parametrize(
    "old, new, word",
    [
        ("[2, 64, 3, 112, 56, 7, 5]", "[2, 64, 3, 112, 56, 7]", "one length"),
        ("ix=2*ox+1*fx", "ix=2*ox+1*k", "no product"),
        ("ix=2*ox+1*fx", "ix=ox", "no sum"),
        ("*I[b][c][iy][ix]", "*I[b][c][iy]", "used by no index of the input"),
        ("loop_dims: [B, K, C, OY, OX, FY, FX]", "loop_dims: [B, K, C, OY, OX, FY, FZ]", "has no loop"),
        ("loop_dims: [B, K, C, OY, OX, FY, FX]", "loop_dims: [B, K, C, OY, OX, FY, fy]", "'fy' twice"),
        ("ix=2*ox+1*fx, iy", "ix=2*ox+1*fx, ix=1*ox+1*fx, iy", "'ix' has a second relation"),
        ("ix=2*ox+1*fx, iy", "ix=2*ox+1*fx, iz=1*ox+1*fx, iy", "used by no index"),
        ("iy=1*oy+3*fy", "iy=1*ox+3*fy", "'ox' indexes a tensor"),
        ("iy=1*oy+3*fy", "k=1*oy+3*fy", "'k' has a relation, and is a loop itself"),
        ("[ix=2*ox+1*fx, iy=1*oy+3*fy]", "ix=2*ox+1*fx", "expected a list"),
        ("W[k][c][fy][fx]", "W[k][k][c][fy][fx]", "'k' indexes a tensor"),
        ("W[k][c][fy][fx]*I", "I[k][c][fy][fx]*I", "multiplies I by itself"),
        ("  loop_dims: [B, K,", "  groups: 2\n  loop_dims: [B, K,", "unknown field 'groups'"),
        ("operator_type: Conv", "operator_type: [Conv]", "expected a text"),
        ("  loop_dims: [B, K,", f"  {INPUT.replace('IX', 'IZ')}\n  loop_dims: [B, K,", "which no relation makes"),
        ("  loop_dims: [B, K,", f"  {INPUT.replace('115, ', '')}\n  loop_dims: [B, K,", "not lists of one length"),
        (
            "  loop_dims: [B, K,",
            f"  {INPUT.replace('115', '50')}\n  loop_dims: [B, K,",
            "is 50 with its padding, but the loops reach 115",
        ),
        ("  loop_dims: [B, K,", f"  {INPUT.replace('[9, 9]', '[9]')}\n  loop_dims: [B, K,", "expected two counts"),
        ("  loop_dims: [B, K,", "  time_dim: OY\n  loop_dims: [B, K,", "unknown field 'time_dim'"),
    ],
)
def test_what_a_zigzag_entry_cannot_be_is_said(old, new, word, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ZIGZAG.replace(old, new))
    with pytest.raises(ArchGymError, match=word):
        read_network(path)


def test_a_folder_is_its_files_in_order(tmp_path) -> None:
    given = network("alexnet_torchvision")
    for i, layer in enumerate(given.layers):
        one = type(given)("", [layer])
        write_network(one, tmp_path / f"layer{i + 1}.yaml")
    (tmp_path / "layer10.csv").write_text("Layer name, M, N, K,\nlast, 4, 5, 6,\n")
    (tmp_path / "notes.txt").write_text("not a layer")
    read = read_network(tmp_path)
    assert [layer.macs for layer in read.layers] == [*(layer.macs for layer in given.layers), 120]
    assert read.layers[0].name == "layer1" and read.name == tmp_path.name
    assert read.description.endswith("passed over: notes.txt")
    (tmp_path / "part").mkdir()
    assert read_network(tmp_path).description.endswith("passed over: notes.txt, part")
    (tmp_path / "broken.yaml").write_text("layers: 3")
    with pytest.raises(ArchGymError, match=r"broken\.yaml"):
        read_network(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchGymError, match="holds no layers"):
        read_network(tmp_path / "empty")


def test_scalesim_files_with_titles_of_sections(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
        "Stage 1,\nconv1, 32, 32, 3, 3, 3, 8, 1,\n,,,,,,,\n== Stage 2 ==,,,,,,,\nconv2, 30, 30, 3, 3, 8, 8, 2,\n"
    )
    assert [layer.name for layer in read_network(path).layers] == ["conv1", "conv2"]


MAESTRO = """Network tiny {
  Layer one { // a remark
    Type: CONV
    Stride { X: 2, Y: 2 }
    Dimensions { K: 8, C: 3, R: 3, S: 3, Y: 33, X: 17 }
    Dataflow { SpatialMap(1,1) K; TemporalMap(Sz(R),1) Y; Cluster(4, P); SpatialMap(1,1) C; }
  }
  /* more
     remarks */
  Layer two { Type: DSCONV Dimensions { K: 1, C: 16, R: 3, S: 3, Y: 10, X: 10 } }
}
"""


def test_maestros_networks(tmp_path) -> None:
    path = tmp_path / "tiny.m"
    path.write_text(MAESTRO)
    one, two = read_network(path).layers
    assert (one.K, one.C, one.P, one.Q, one.stride_p) == (8, 3, 16, 8, 2) and (two.G, two.P, two.op) == (
        16,
        8,
        "depthwise",
    )


@pytest.mark.parametrize(
    "old, new, line, word",
    [
        ("Type: CONV", "Type: LSTM", 3, "LSTM"),
        ("K: 8", "K: many", 5, "many"),
        ("R: 3, S: 3, Y: 33", "R: 3, Y: 33", 2, "lack S"),
        ("Sz(R)", "Sz(Q)", 6, "Sz"),
        ("SpatialMap(1,1) K", "SidewaysMap(1,1) K", 6, "SidewaysMap"),
        ("Layer two", "Layer", 10, "understood|expected"),
        ("}\n}\n", "}\n", 10, "expected|end of the file"),
        ("Y: 33", "Y: 1", 2, "larger"),
        ("Cluster", "@", 6, "@"),
        ("Stride { X: 2, Y: 2 }", "Stride { X: 2, Z: 2 }", 4, "unknown dim of Stride .?'Z'"),
        ("Stride { X: 2, Y: 2 }", "Stride { X: 2 } Stride { Y: 2 }", 4, "second Stride"),
        ("    Type: CONV\n", "", 2, "no Type"),
        ("Type: CONV", "Type: CONV Type: DSCONV", 3, "second Type"),
        ("R: 3, S: 3, Y: 33", "G: 2, R: 3, S: 3, Y: 33", 5, "unknown dim of Dimensions .?'G'"),
        ("Dimensions { K: 8", "Dimensions { K: 8 } Dimensions { K: 8", 5, "second Dimensions"),
        ("K: 1, C: 16", "K: 4, C: 16", 10, "DSCONV of 16 channels with K: 4"),
        ("Cluster(4, P)", "Cluster(4, Q)", 6, "expected P or L"),
        ("}\n}\n", "}\n}\nNetwork more { }\n", 12, "second block"),
    ],
)
def test_what_is_wrong_in_a_network_is_said_with_its_line(old, new, line, word, tmp_path) -> None:
    path = tmp_path / "tiny.m"
    path.write_text(MAESTRO.replace(old, new, 1))
    with pytest.raises(ArchGymError, match=rf"line {line}.*({word})"):
        read_network(path)


def test_a_line_of_slashes_costs_no_more_than_another(tmp_path) -> None:
    """Whether remarks come before a network is found out in one pass."""
    path = tmp_path / "mine.csv"
    path.write_text("/" * 500 + "\nLayer name, M, N, K,\nlast, 4, 5, 6,\n")
    assert [layer.name for layer in read_network(path).layers] == ["last"]
    path = tmp_path / "mine.txt"
    path.write_text("/" * 500 + "\n// and more\n\n" + MAESTRO)
    assert len(read_network(path).layers) == 2


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "K,C,Y,X,R,S,T,stride\n64,3,32,32,3,3,1,2\n", "'STRIDE' is not understood"),
        ("b.csv", "K,C,Y,X,R,S,T,K\n64,3,32,32,3,3,1,9\n", "'K' stands twice"),
        (
            "c.csv",
            "Layer Name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Dilation\n"
            "conv, 32, 32, 3, 3, 16, 8, 2\n",
            "'Dilation' is not understood",
        ),
        (
            "d.m",
            "Network x { Layer y { Type: CONV Dimensions { K: 64, C: 3, R: 3, S: 3, Y: 32, X: 32, K: 8 } } }",
            "K stands twice",
        ),
    ],
)
def test_what_would_be_lost_is_refused_by_name(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(ArchGymError) as caught:
        read_network(tmp_path / name)
    assert sentence.replace("'", "") in str(caught.value).replace("'", "").replace('"', "")
