"""Layers of an ONNX model: its convolutions, matrix products and attention, under the names of their nodes.

Only shapes count. They come from the model and from ONNX's own shape inference; dimensions that the model leaves open are
given by the option ``input``, an open batch is 1. Every operator is counted, known to do no multiply-accumulates that a layer
would stand for, or refused by its name; nothing is dropped. Needs the extra ``onnx``; weights in files beside the model are not
read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, MissingExtraError, quote
from archgym.networks.convolution import convolution_layer
from archgym.networks.fields import at, names_of
from archgym.networks.layers import Layer, Network, gemm
from archgym.reading import quote_path, read_bytes, taking_apart

MAX_MODEL = 1 << 31
"""Bytes of a model, the most that its format can hold."""

# Operators without multiply-accumulates of a product: element-wise, reductions, normalisation, pooling, copies, control of types.
_FREE = frozenset(
    """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat
    ConcatFromSequence Constant ConstantOfShape Cos Cosh CumProd CumSum DepthToSpace DequantizeLinear Det Div Dropout
    DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid
    HardSwish Hardmax Identity ImageDecoder InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual
    Log LogSoftmax LpNormalization LpPool Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul
    Multinomial Neg NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement
    OptionalHasElement Or PRelu Pad Pow QuantizeLinear RMSNormalization RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round Scatter
    ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split
    SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter TfIdfVectorizer
    ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
    BiasGelu FastGelu QuickGelu SkipLayerNormalization SimplifiedLayerNormalization SkipSimplifiedLayerNormalization
    EmbedLayerNormalization QLinearAdd QLinearMul QLinearSigmoid QLinearAveragePool QLinearGlobalAveragePool QLinearConcat
    QLinearLeakyRelu QLinearSoftmax QLinearWhere QLinearReduceMean NhwcMaxPool
    """.split()  # noqa: SIM905
)
_RECURRENT = ("LSTM", "GRU", "RNN")
_BRANCHING = ("If", "Loop", "Scan", "SequenceMap")
_DOMAINS = ("", "ai.onnx", "com.microsoft")


def read_onnx(
    path: Path, *, name: str | None = None, input: str | Sequence[int] = "", left_out: str | Sequence[str] = ""
) -> Network:
    """Read an ONNX model.

    Args:
        path: the ``.onnx`` file.
        name: of the network; the graph's own or the file's stem where None.
        input: shapes of inputs whose dimensions the model leaves open: ``1x3x224x224`` for its one input, or
            ``ids:1x128,mask:1x128``.
        left_out: operators that are to count nothing, by type or node name, several separated by commas or in a list.

    Raises:
        ArchGymError: one sentence: the file is no ONNX model, an operator or a shape is not known.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("ONNX", "onnx") from None
    place = quote_path(path)
    content = read_bytes(path, "ONNX model", MAX_MODEL)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ArchGymError(f"{place} is no ONNX model: {quote(str(error), 80, marks=False)}") from None
    if not model.graph.node:
        raise ArchGymError(f"{place} is no ONNX model with operators; expected a graph")
    _set_inputs(model, input, place)
    model = _inferred(model, place)
    with taking_apart(path, "ONNX model"):  # operators that lack inputs, or whose tensors have too few dimensions
        reader = _Reader(model, place, names_of(left_out))
        for node in model.graph.node:
            reader.visit(node)
    if not reader.layers:
        raise ArchGymError(f"{place} runs no convolution and no matrix product; expected at least one")
    title = name or re.sub(r"\W+", "_", model.graph.name).strip("_") or path.stem
    unused = [word for word in reader.left_out if word not in reader.skipped]
    if unused:
        raise ArchGymError(f"{place} has no operator {quote(unused[0], 40)} to leave out")
    remark = f"; left out: {', '.join(sorted(reader.skipped))}" if reader.skipped else ""
    return Network(title, reader.layers.values(), f"read from {path.name}{remark}")


# --- shapes ------------------------------------------------------------------------------------------------------------


def _set_inputs(model: Any, given: str | Sequence[int], place: str) -> None:
    """Fill in what the inputs leave open: by ``given``, and an open first dimension (the batch) with 1."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    shapes = _shapes_of(given, inputs, place)
    for name, value in inputs.items():
        if not value.type.HasField("tensor_type"):
            continue
        dims = value.type.tensor_type.shape.dim
        wanted = shapes.get(name)
        if wanted is not None and (not value.type.tensor_type.HasField("shape") or not len(dims)):
            for size in wanted:
                dims.add().dim_value = size
            continue
        if wanted is not None and len(wanted) != len(dims):
            raise ArchGymError(f"input {quote(name, 40)} of {place} has {len(dims)} dimensions, not {len(wanted)}")
        for i, dim in enumerate(dims):
            known = dim.HasField("dim_value") and dim.dim_value > 0
            if wanted is not None:
                if known and dim.dim_value != wanted[i]:
                    raise ArchGymError(
                        f"input {quote(name, 40)} of {place} has {dim.dim_value} along dimension {i}, not {wanted[i]}"
                    )
                dim.dim_value = wanted[i]
            elif not known and i == 0:
                dim.dim_value = 1
            elif not known:
                word = dim.dim_param or "?"
                raise ArchGymError(
                    f"input {quote(name, 40)} of {place} leaves dimension {i} ({quote(word, 20, marks=False)}) open; give its "
                    f"shape as the option input, for instance input={name[:20]}:1x128"
                )


def _shapes_of(given: str | Sequence[int], inputs: Mapping[str, Any], place: str) -> dict[str, list[int]]:
    if not isinstance(given, str):
        given = "x".join(str(size) for size in given) if isinstance(given, Sequence) else str(given)
    found = {}
    for part in filter(None, (word.strip() for word in given.split(","))):
        name, _, shape = part.rpartition(":")
        if not name:
            if len(inputs) != 1:
                raise ArchGymError(
                    f"{place} has {len(inputs)} inputs ({quote(', '.join(inputs), 60, marks=False)}); give input=NAME:1x128,..."
                )
            name = next(iter(inputs))
        if name not in inputs:
            raise ArchGymError(
                f"{place} has no input {quote(name, 40)}; it has {quote(', '.join(inputs), 80, marks=False)}"
            )
        if name in found:
            raise ArchGymError(f"the shape of the input {quote(name, 40)} is given twice; give it once")
        sizes = shape.lower().split("x")
        if not all(size.isdigit() and 0 < int(size) < 2**31 for size in sizes):
            raise ArchGymError(f"the shape {quote(shape, 40)} of input {quote(name, 40)} is none; write 1x3x224x224")
        found[name] = [int(size) for size in sizes]
    return found


def _inferred(model: Any, place: str) -> Any:
    """The model with functions of its own inlined and shapes inferred."""
    import onnx
    from onnx.inliner import inline_local_functions

    try:
        if model.functions:
            model = inline_local_functions(model)
        # What the outputs claim may rest on other inputs.
        for value in model.graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        del model.graph.value_info[:]
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise ArchGymError(f"the shapes in {place} cannot be inferred: {quote(str(error), 120, marks=False)}") from None


class _Reader:
    """Turns nodes into layers.

    Attributes:
        layers: by name.
        skipped: names of ``left_out`` that were met.
    """

    def __init__(self, model: Any, place: str, left_out: Sequence[str]) -> None:
        self.place, self.left_out = place, left_out
        self.layers: dict[str, Layer] = {}
        self.skipped: set[str] = set()
        self.weights = {tensor.name: [*tensor.dims] for tensor in model.graph.initializer}
        self.weights |= {tensor.values.name: [*tensor.dims] for tensor in model.graph.sparse_initializer}
        self.shapes: dict[str, list[int] | None] = dict(self.weights)
        for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                known = all(dim.HasField("dim_value") for dim in dims)
                self.shapes[value.name] = [dim.dim_value for dim in dims] if known else None
        # What comes of weights by copies (dequantised, transposed) is a weight still.
        self.constant = set(self.weights)
        for node in model.graph.node:
            if node.op_type in ("Constant", "ConstantOfShape"):
                self.constant.update(node.output)
                for attribute in node.attribute:
                    if attribute.name == "value" and node.op_type == "Constant":
                        self.shapes[node.output[0]] = [*attribute.t.dims]
            elif node.input and all(name in self.constant for name in node.input if name):
                self.constant.update(node.output)

    def title(self, node: Any) -> str:
        return node.name or (node.output[0] if node.output else "") or node.op_type

    def fail(self, node: Any, what: str) -> ArchGymError:
        return ArchGymError(f"{self.place}: {node.op_type} {quote(self.title(node), 40)} {what}")

    def shape(self, node: Any, name: str) -> list[int]:
        found = self.shapes.get(name)
        if found is None:
            raise self.fail(
                node,
                f"works on {quote(name, 40)}, whose shape cannot be inferred; give all inputs fixed shapes (option input), or "
                "simplify the model",
            )
        return found

    def visit(self, node: Any) -> None:
        """Count one node."""
        kind = node.op_type
        for word in (kind, f"{node.domain}::{kind}", node.name):
            if word and word in self.left_out:
                self.skipped.add(word)
                return
        count = _COUNTED.get(kind) if node.domain in _DOMAINS else None
        if count is not None:
            count(self, node)
            return
        if kind in _FREE and node.domain in _DOMAINS:
            return
        if kind in _RECURRENT:
            raise self.fail(
                node, "is recurrent, which no layer describes; leave it out (left_out) or describe the layers in a file"
            )
        if kind in _BRANCHING:
            if not _works(node):
                return
            raise self.fail(node, "holds a program with products of its own, whose runs are not known; unroll it")
        heavy = [name for name in node.input if name in self.weights]
        words = math.prod(self.weights[heavy[0]]) if heavy else 0
        has = f" has weights ({words:,} words) and" if heavy else ""
        raise self.fail(
            node,
            f"({node.domain or 'ai.onnx'}){has} is not known; describe the network in a file, or leave it out with "
            f"left_out={kind[:40]}",
        )

    def add(self, node: Any, layer: Layer, part: str = "") -> None:
        name, number = self.title(node) + part, 1
        while name in self.layers:
            number += 1
            name = f"{self.title(node)}{part}-{number}"
        self.layers[name] = replace(layer, name=name)

    def product(self, node: Any, M: int, N: int, K: int, batch: int = 1, part: str = "") -> None:
        """``batch`` products of ``M x K`` and ``K x N``; none where a size is zero."""
        if min(M, N, K, batch) > 0:
            self.add(node, gemm("product", M, N, K, batch=batch), part)


def _works(node: Any) -> bool:
    """Whether a branching node holds anything but free operators."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                if inner.op_type in _BRANCHING:
                    if _works(inner):
                        return True
                elif inner.op_type not in _FREE or inner.domain not in _DOMAINS:
                    return True
    return False


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


# --- operators ---------------------------------------------------------------------------------------------------------


def _convolution(data: int, weight: int, transposed: bool = False) -> Callable[[_Reader, Any], None]:
    """A counter of convolutions whose input and weights are the inputs of these numbers."""

    def count(reader: _Reader, node: Any) -> None:
        inputs, weights = reader.shape(node, node.input[data]), reader.shape(node, node.input[weight])
        given = _attributes(node)
        result = inputs if transposed else reader.shape(node, node.output[0])
        axes = len(weights) - 2
        groups = int(given.get("group", 1))
        steps, holes = list(given.get("strides", [1] * axes)), list(given.get("dilations", [1] * axes))
        if not 1 <= axes <= 3 or len(inputs) != axes + 2 or groups < 1 or len(steps) != axes or len(holes) != axes:
            raise reader.fail(
                node, f"has an input of {len(inputs)} and weights of {len(weights)} dimensions; expected 3 to 5"
            )
        if weights[0] % groups or inputs[1] != (weights[0] if transposed else weights[1] * groups):
            raise reader.fail(node, f"has {inputs[1]} channels, which do not fit weights {weights} in {groups} groups")
        title = reader.title(node)
        reader.add(
            node,
            at(
                f"{reader.place}: {node.op_type}",
                lambda: convolution_layer(title, inputs, weights, result, steps, holes, groups, transposed=transposed),
            ),
        )

    return count


def _gemm(reader: _Reader, node: Any) -> None:
    given = _attributes(node)
    first, second = (reader.shape(node, node.input[i]) for i in ((0, 3) if node.op_type == "QGemm" else (0, 1)))
    if len(first) != 2 or len(second) != 2:
        raise reader.fail(node, "multiplies tensors that are no matrices")
    M, K = first[::-1] if given.get("transA") else first
    inner, N = second[::-1] if given.get("transB") else second
    if inner != K:
        raise reader.fail(node, f"multiplies {first} by {second}, which do not fit")
    reader.product(node, M, N, K)


def _matmul(first: int, second: int) -> Callable[[_Reader, Any], None]:
    """A counter of products, the last two dimensions each, whose operands are the inputs of these numbers."""

    def count(reader: _Reader, node: Any) -> None:
        given = _attributes(node)
        if given.get("transBatchA") or given.get("transBatchB"):
            raise reader.fail(node, "transposes its batch (transBatchA, transBatchB), which is not read")
        names = node.input[first], node.input[second]
        a, b = (list(reader.shape(node, name)) for name in names)
        if not a or not b:
            raise reader.fail(node, "multiplies a scalar")
        a, b = (a if len(a) > 1 else [1, *a]), (b if len(b) > 1 else [*b, 1])
        if given.get("transA"):
            a[-2:] = a[:-3:-1]
        if given.get("transB"):
            b[-2:] = b[:-3:-1]
        if a[-1] != b[-2]:
            raise reader.fail(node, f"multiplies {a} by {b}, which do not fit")
        width = max(len(a), len(b)) - 2
        left, right = ([1] * (width + 2 - len(x)) + x[:-2] for x in (a, b))
        stack = [max(x, y) for x, y in zip(left, right, strict=True)]
        if any(min(x, y) not in (1, most) for x, y, most in zip(left, right, stack, strict=True)):
            raise reader.fail(node, f"multiplies {a} by {b}, whose batches do not fit")
        if all(size == 1 for size in right):
            # One right operand for all: a product of more rows.
            reader.product(node, math.prod(stack) * a[-2], b[-1], a[-1])
        else:
            reader.product(node, a[-2], b[-1], a[-1], math.prod(stack))

    return count


def _packed(reader: _Reader, node: Any) -> None:
    """``MatMulNBits``: weights packed to fewer bits, with their sizes as attributes."""
    given = _attributes(node)
    rows = reader.shape(node, node.input[0])
    if not {"K", "N"} <= set(given):
        raise reader.fail(node, "lacks the sizes K and N")
    reader.product(node, math.prod(rows[:-1]), int(given["N"]), int(given["K"]))


def _einsum(reader: _Reader, node: Any) -> None:
    """A product of two tensors: indices of both and the result are its batch, those of both alone are summed."""
    equation = _attributes(node).get("equation", b"").decode("ascii", "replace").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if len(parts) == 1:
        return
    if len(parts) != 2 or not arrow or "." in equation or not all(part.isalpha() for part in parts):
        raise reader.fail(node, f"has the equation {quote(equation, 40)}; known: two tensors with named indices")
    size: dict[str, int] = {}
    if any(len(set(part)) < len(part) for part in parts) or not set(result) <= set(terms):
        raise reader.fail(node, f"has the equation {quote(equation, 40)}; known: each index once a tensor")
    for part, name in zip(parts, node.input, strict=True):
        shape = reader.shape(node, name)
        if len(shape) != len(part):
            raise reader.fail(node, f"has the equation {quote(equation, 40)} for a tensor of {len(shape)} dimensions")
        for index, extent in zip(part, shape, strict=True):
            if 1 < size.get(index, 1) != extent > 1:
                raise reader.fail(
                    node, f"has {size[index]} and {extent} along the index {index} of {quote(equation, 40)}"
                )
            size[index] = max(size.get(index, 1), extent)
    first, second = set(parts[0]), set(parts[1])

    def extent_of(indices: set[str]) -> int:
        return math.prod(size[index] for index in indices)

    kept = set(result)
    M, N = extent_of((first - second) & kept), extent_of((second - first) & kept)
    reader.product(node, M, N, extent_of((first & second) - kept), extent_of(first & second & kept))


def _attention(reader: _Reader, node: Any) -> None:
    """The two products of attention; heads stand in a dimension of their own, or within the last one."""
    given = _attributes(node)
    if node.domain == "com.microsoft" and node.op_type == "Attention":
        _fused_attention(reader, node, given)
        return
    if len(node.input) < 3 or not all(node.input[:3]):
        raise reader.fail(node, "packs query, key and value into fewer inputs, which is not read")
    query, key, value = (reader.shape(node, name) for name in node.input[:3])
    before = 6 if node.domain == "com.microsoft" else 4  # the input that holds the keys of earlier calls
    past = reader.shape(node, node.input[before]) if len(node.input) > before and node.input[before] else []
    if len(query) == 4:
        batch, heads, rows, depth = query
        context, width = key[2], value[3]
    elif len(query) == 3 and (heads := int(given.get("q_num_heads", given.get("num_heads", 0)))) > 0:
        batch, rows, depth = query[0], query[1], query[2] // heads
        context, shared = key[1], int(given.get("kv_num_heads", heads)) or heads
        width = value[2] // shared
    else:
        raise reader.fail(node, f"has a query of {len(query)} dimensions and no number of heads")
    context += past[2] if len(past) == 4 else 0
    reader.product(node, rows, context, depth, batch * heads, ".scores")
    reader.product(node, rows, width, context, batch * heads, ".values")


def _fused_attention(reader: _Reader, node: Any, given: Mapping[str, Any]) -> None:
    """ONNX Runtime's: the projections to query, key and value are inside."""
    data, weights = reader.shape(node, node.input[0]), reader.shape(node, node.input[1])
    heads = int(given.get("num_heads", 0))
    if len(data) != 3 or len(weights) != 2 or heads < 1:
        raise reader.fail(node, "has no input of three dimensions, weights of two and a number of heads")
    batch, rows, width = data
    sizes = list(given.get("qkv_hidden_sizes", [weights[1] // 3] * 3))
    past = reader.shape(node, node.input[4]) if len(node.input) > 4 and node.input[4] else []
    context = rows + (past[3] if len(past) == 5 else 0)
    reader.product(node, batch * rows, weights[1], width, 1, ".projection")
    reader.product(node, rows, context, sizes[0] // heads, batch * heads, ".scores")
    reader.product(node, rows, sizes[2] // heads, context, batch * heads, ".values")


_COUNTED: dict[str, Callable[[_Reader, Any], None]] = {
    "Conv": _convolution(0, 1), "ConvInteger": _convolution(0, 1), "QLinearConv": _convolution(0, 3),
    "FusedConv": _convolution(0, 1), "DeformConv": _convolution(0, 1), "ConvTranspose": _convolution(0, 1, transposed=True),
    "Gemm": _gemm, "FusedGemm": _gemm, "QGemm": _gemm,
    "MatMul": _matmul(0, 1), "MatMulInteger": _matmul(0, 1), "QLinearMatMul": _matmul(0, 3), "FusedMatMul": _matmul(0, 1),
    "MatMulIntegerToFloat": _matmul(0, 1), "DynamicQuantizeMatMul": _matmul(0, 1), "MatMulNBits": _packed,
    "Einsum": _einsum, "Attention": _attention, "MultiHeadAttention": _attention,
}  # fmt: skip
