"""ONNX models: multiply-accumulates are right for every kind of product, and nothing is dropped."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from archgym import make_problem
from archgym.cli import main
from archgym.errors import ArchGymError
from archgym.networks.readers import read_network

onnx = pytest.importorskip("onnx")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def save(path, nodes, inputs, weights=(), outputs=("y",), opset=21, opsets=(), functions=()):
    """A model of nodes; inputs and weights are (name, shape)."""
    tensors = [
        onnx.numpy_helper.from_array(np.zeros(shape, np.float32) if not isinstance(shape, np.ndarray) else shape, name)
        for name, shape in weights
    ]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs], tensors,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *opsets], functions=list(functions), ir_version=10
    )
    path.write_bytes(model.SerializeToString())
    return path


def layers(path, **options):
    return read_network(path, **options).layers


@pytest.mark.parametrize(
    "shape, weight, attributes, macs",
    [
        ((1, 3, 32, 32), (16, 3, 3, 3), {"pads": [1, 1, 1, 1]}, 16 * 3 * 9 * 32 * 32),
        ((2, 3, 32, 32), (16, 3, 3, 5), {"strides": [2, 1]}, 2 * 16 * 3 * 15 * 15 * 28),
        ((1, 8, 20, 20), (16, 2, 3, 3), {"group": 4, "dilations": [2, 2]}, 16 * 2 * 9 * 16 * 16),
        ((1, 8, 20, 20), (8, 1, 3, 3), {"group": 8, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 8 * 9 * 10 * 10),
        ((1, 4, 50), (6, 4, 5), {"strides": [3]}, 6 * 4 * 5 * 16),
        ((1, 4, 8, 9, 10), (6, 4, 3, 3, 1), {}, 6 * 4 * 9 * 6 * 7 * 10),
    ],
)
def test_convolutions(shape, weight, attributes, macs, tmp_path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)
    (layer,) = layers(save(tmp_path / "m.onnx", [node], [("x", shape)], [("w", weight)]))
    assert layer.macs == macs and layer.name == "conv"
    if "group" in attributes:
        assert layer.G == attributes["group"] and layer.op == ("depthwise" if layer.C == 1 else "conv")
    if len(shape) == 4:
        strides, holes = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        assert [layer.stride_p, layer.stride_q, layer.dilation_r, layer.dilation_s] == [*strides, *holes]


def test_transposed_convolutions_count_every_tap_of_every_input(tmp_path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], group=2)
    (layer,) = layers(save(tmp_path / "m.onnx", [node], [("x", (1, 8, 7, 9))], [("w", (8, 3, 4, 4))]))
    assert layer.macs == 8 * 3 * 16 * 7 * 9 and layer.G == 2


@pytest.mark.parametrize(
    "op, a, b, attributes, expected",
    [
        ("Gemm", (5, 7), (7, 11), {}, (5, 11, 7, 1)),
        ("Gemm", (7, 5), (11, 7), {"transA": 1, "transB": 1}, (5, 11, 7, 1)),
        ("MatMul", (4, 5, 7), (7, 11), {}, (20, 11, 7, 1)),
        ("MatMul", (2, 3, 5, 7), (2, 3, 7, 11), {}, (5, 11, 7, 6)),
        ("MatMul", (2, 1, 5, 7), (3, 7, 11), {}, (5, 11, 7, 6)),
        ("MatMul", (7,), (7, 11), {}, (1, 11, 7, 1)),
        ("MatMul", (5, 7), (7,), {}, (5, 1, 7, 1)),
        ("Einsum", (2, 6, 5, 8), (2, 9, 5, 8), {"equation": "bihd,bjhd->bhij"}, (6, 9, 8, 10)),
        ("Einsum", (5, 7), (7, 11), {"equation": "ij,jk->ik"}, (5, 11, 7, 1)),
    ],
)
def test_products(op, a, b, attributes, expected, tmp_path) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    (layer,) = layers(save(tmp_path / "m.onnx", [node], [("x", a), ("w", b)]))
    assert (layer.P, layer.K, layer.C, layer.G) == expected
    assert layer.op == ("gemm" if expected[3] == 1 else "bmm")


def test_attention_has_two_products(tmp_path) -> None:
    wide = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="own", q_num_heads=8, kv_num_heads=2)
    inputs = [("q", (2, 16, 8 * 32)), ("k", (2, 24, 2 * 32)), ("v", (2, 24, 2 * 48))]
    scores, values = layers(save(tmp_path / "m.onnx", [wide], inputs, opset=23))
    assert (scores.P, scores.K, scores.C, scores.G) == (16, 24, 32, 16)
    assert (values.P, values.K, values.C, values.G) == (16, 48, 24, 16)
    four = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    inputs = [("q", (2, 8, 16, 32)), ("k", (2, 2, 24, 32)), ("v", (2, 2, 24, 48))]
    assert [layer.macs for layer in layers(save(tmp_path / "n.onnx", [four], inputs, opset=23))] == [
        scores.macs,
        values.macs,
    ]


def test_quantised_operators_and_functions_of_the_model(tmp_path) -> None:
    quantised = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    graph = helper.make_graph(
        [quantised], "q", [helper.make_tensor_value_info("a", onnx.TensorProto.INT8, (4, 6))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(np.zeros((6, 5), np.int8), "w")],
    )  # fmt: skip
    (tmp_path / "q.onnx").write_bytes(helper.make_model(graph, ir_version=10).SerializeToString())
    assert layers(tmp_path / "q.onnx")[0].macs == 4 * 6 * 5
    body = [helper.make_node("MatMul", ["p", "q"], ["t"]), helper.make_node("Relu", ["t"], ["r"])]
    function = helper.make_function("mine", "block", ["p", "q"], ["r"], body, [helper.make_opsetid("", 21)])
    nodes = [
        helper.make_node("block", ["x", "w"], ["h"], domain="mine"),
        helper.make_node("block", ["h", "v"], ["y"], domain="mine"),
    ]
    path = save(tmp_path / "f.onnx", nodes, [("x", (4, 6))], [("w", (6, 5)), ("v", (5, 3))],
                opsets=[helper.make_opsetid("mine", 1)], functions=[function])  # fmt: skip
    assert [layer.macs for layer in layers(path)] == [4 * 6 * 5, 4 * 5 * 3]


def test_what_is_not_known_is_named_never_dropped(tmp_path) -> None:
    nodes = [
        helper.make_node("Blend", ["x", "w"], ["h"], name="my_blend", domain="mine"),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [("x", (4, 6)), ("h0", (4, 6))], [("w", (6, 6)), ("v", (6, 3))],
                opsets=[helper.make_opsetid("mine", 1)])  # fmt: skip
    with pytest.raises(ArchGymError, match=r"Blend 'my_blend' \(mine\) has weights \(36 words\)"):
        layers(path)
    # Left out, its result still has no shape, which the product after it says.
    with pytest.raises(ArchGymError, match="whose shape cannot be inferred"):
        layers(path, left_out="Blend")
    with pytest.raises(ArchGymError, match="no operator 'Blond' to leave out"):
        other = save(
            tmp_path / "n.onnx", [helper.make_node("MatMul", ["x", "v"], ["y"])], [("x", (4, 6))], [("v", (6, 3))]
        )
        layers(other, left_out="Blond")
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)
    path = save(tmp_path / "l.onnx", [lstm], [("x", (3, 1, 4))], [("w", (1, 20, 4)), ("r", (1, 20, 5))])
    with pytest.raises(ArchGymError, match="is recurrent"):
        layers(path)
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "v"], ["z"])], "then", [], [
        helper.make_tensor_value_info("z", FLOAT, None)])  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [node], "b", [helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, ()),
                      helper.make_tensor_value_info("x", FLOAT, (4, 6))],
        [helper.make_tensor_value_info("y", FLOAT, None)], [onnx.numpy_helper.from_array(np.zeros((6, 3), np.float32), "v")],
    )  # fmt: skip
    (tmp_path / "i.onnx").write_bytes(helper.make_model(graph, ir_version=10).SerializeToString())
    with pytest.raises(ArchGymError, match="If .* products of its own"):
        layers(tmp_path / "i.onnx")


def test_open_dimensions_are_given_or_asked_for(tmp_path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = save(tmp_path / "m.onnx", [node], [("x", ("batch", 3, "height", 32))], [("w", (8, 3, 3, 3))])
    with pytest.raises(ArchGymError, match=r"dimension 2 \(height\) open"):
        layers(path)
    assert layers(path, input="2x3x16x32")[0].macs == 2 * 8 * 27 * 14 * 30
    assert layers(path, input="x:1x3x16x32")[0].macs == 8 * 27 * 14 * 30
    for bad in ("1x3x16x33", "1x3x16", "z:1x3x16x32", "1x3xhuhx32"):
        with pytest.raises(ArchGymError):
            layers(path, input=bad)
    # An open batch alone is one.
    path = save(tmp_path / "n.onnx", [node], [("x", ("batch", 3, 16, 32))], [("w", (8, 3, 3, 3))])
    assert layers(path)[0].N == 1
    # Reshapes by computed shapes are followed.
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Shape", ["h"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]), helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["to"], axis=0), helper.make_node("Reshape", ["h", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]  # fmt: skip
    weights = [("w", (8, 3, 3, 3)), ("zero", np.array(0)), ("axis", np.array([0])), ("minus", np.array([-1])),
               ("v", (10, 8 * 14 * 30))]  # fmt: skip
    path = save(tmp_path / "r.onnx", nodes, [("x", (1, 3, 16, 32))], weights)
    assert layers(path)[1].macs == 10 * 8 * 14 * 30


def test_a_model_is_a_workload_everywhere(tmp_path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    path = save(tmp_path / "m.onnx", [node], [("x", ("n", 3, 16, 16))], [("w", (8, 3, 3, 3))])
    problem = make_problem(f"systolic/file:{path}", workload_options={"batch": 4})
    assert problem.workload.macs == 4 * 8 * 27 * 14 * 14
    result = CliRunner().invoke(main, ["describe", f"systolic/file:{path}"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "op, names, sentence",
    [("MultiHeadAttention", ["x"], "'node' packs query"), ("MultiHeadAttention", ["x", "", ""], "'node' packs query"),
     ("Conv", ["x"], r"m\.onnx cannot be used"), ("Gemm", ["x"], r"m\.onnx cannot be used")],
)  # fmt: skip
def test_operators_that_lack_inputs_are_a_sentence(op, names, sentence, tmp_path) -> None:
    domain = "com.microsoft" if op == "MultiHeadAttention" else ""
    node = helper.make_node(op, names, ["y"], name="node", domain=domain, **({"num_heads": 2} if domain else {}))
    opsets = [helper.make_opsetid(domain, 1)] if domain else []
    path = save(tmp_path / "m.onnx", [node], [("x", (1, 4, 2, 3, 8) if domain else (4, 8))], opsets=opsets)
    with pytest.raises(ArchGymError, match=sentence):
        read_network(path)


@pytest.mark.parametrize(
    "op, shapes, attributes, sentence",
    [
        ("MatMul", [(2, 3, 4), (3, 4, 5)], {}, "batches do not fit"),
        ("Gemm", [(2, 3), (4, 5)], {}, "multiplies .* do not fit|cannot be inferred"),
        ("Einsum", [(3, 4), (5, 6)], {"equation": "ij,jk->ik"}, "4 and 5 along the index j"),
        ("Einsum", [(3, 3), (3, 4)], {"equation": "ii,ij->ij"}, "each index once"),
        ("FusedMatMul", [(2, 3, 4), (2, 4, 5)], {"transBatchA": 1}, "transposes its batch"),
        ("Conv", [(1, 3, 2, 2), (4, 3, 3, 3)], {}, r"m\.onnx.* has P = 0"),
    ],
)
def test_products_that_do_not_fit_are_refused(op, shapes, attributes, sentence, tmp_path) -> None:
    domain = "com.microsoft" if op == "FusedMatMul" else ""
    node = helper.make_node(op, ["x", "w"], ["y"], name="node", domain=domain, **attributes)
    opsets = [helper.make_opsetid(domain, 1)] if domain else []
    path = save(tmp_path / "m.onnx", [node], [("x", shapes[0])], [("w", shapes[1])], opsets=opsets)
    with pytest.raises(ArchGymError, match=sentence):
        read_network(path)


def test_attention_looks_back_at_earlier_keys(tmp_path) -> None:
    """Queries of 3 tokens see 3 + 5 keys; 2 heads of 4."""
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v", "", "", "", "p", "p"], ["y"], domain="com.microsoft", num_heads=2
    )
    inputs = [(name, (1, 3, 8)) for name in "qkv"]
    path = save(tmp_path / "m.onnx", [node], [*inputs, ("p", (1, 2, 5, 4))], opsets=opsets)
    assert [layer.macs for layer in layers(path)] == [2 * 3 * 8 * 4] * 2
    node = helper.make_node("Attention", ["x", "w", "b", "", "p"], ["y"], domain="com.microsoft", num_heads=2)
    inputs = [("x", (1, 3, 8)), ("p", (2, 1, 2, 5, 4))]
    path = save(tmp_path / "m.onnx", [node], inputs, [("w", (8, 24)), ("b", (24,))], opsets=opsets)
    assert [layer.macs for layer in layers(path)] == [3 * 8 * 24, 2 * 3 * 8 * 4, 2 * 3 * 8 * 4]


def test_damaged_models_are_a_sentence(tmp_path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [("x", (1, 3, 16, 16))], [("w", (8, 3, 3, 3)), ("v", (7, 5))])
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(150):
        changed = bytearray(content[: len(content) * trial // 40] if trial < 40 else content)
        if trial >= 40:
            # The graph's own bytes, not the zeros of its weights.
            for at in rng.integers(0, len(changed), 2):
                changed[at] = rng.integers(0, 256)
        path.write_bytes(bytes(changed))
        try:
            read_network(path)
        except ArchGymError as error:
            assert len(str(error)) <= 330 and "\n" not in str(error)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ArchGymError, match="no ONNX model"):
        read_network(tmp_path / "text.onnx")
