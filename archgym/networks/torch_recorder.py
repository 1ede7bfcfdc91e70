"""Sees every operation of a running PyTorch model and turns the products among them into layers.

An operation is one of three things: *counted* (it is a product, and becomes a layer), *free* (it does no
multiply-accumulates that a layer would stand for: element-wise work, reductions, normalisation, pooling, copies, gathers), or
*composed* of others, which are then seen one by one. Anything else is refused by name, so that no work vanishes. Beside each
product PyTorch's own counter (:mod:`torch.utils.flop_counter`) is asked, and where it says something else that is noted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from archgym.errors import ArchGymError
from archgym.networks.convolution import convolution_layer
from archgym.networks.layers import Layer, gemm

ADVICE = "leave it out or describe the network in a file"

# Rows of the left operand x columns of the result; the value is the name of the left operand in the operation's schema.
_ROWS_BY_COLUMNS = {
    "mm": "self", "addmm": "mat1", "_addmm_activation": "mat1", "mkldnn_linear": "self", "_int_mm": "self",
    "_scaled_mm": "self", "_scaled_mm_v2": "self", "_weight_int8pack_mm": "self", "_weight_int4pack_mm": "self",
    "_weight_int4pack_mm_for_cpu": "self", "_weight_int4pack_mm_with_scales_and_zeros": "self",
    "_dyn_quant_matmul_4bit": "inp", "_mixed_dtypes_linear": "input",
}  # fmt: skip
_CONVOLUTIONS = {"convolution", "_convolution", "convolution_overrideable"}
_SPARSE = {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}

# Free operations that PyTorch's own tags, aliases and signatures do not tell of; a trailing underscore (in place) is cut off.
_FREE = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _aminmax _assert_async _batch_norm_no_update
    _batch_norm_with_update _batch_norm_with_update_functional _chunk_cat _conj_physical _copy_from _embedding_bag
    _embedding_bag_forward_only _empty_affine_quantized _empty_per_channel_affine_quantized
    _fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fused_dropout _fused_moving_avg_obs_fq_helper
    _fused_moving_avg_obs_fq_helper_functional _fused_rms_norm _index_put_impl _is_all_true _is_any_true _lazy_clone
    _log_softmax _logcumsumexp _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _masked_scale
    _masked_softmax _mkldnn_reshape _mkldnn_transpose _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _pack_padded_sequence _pin_memory _prelu_kernel _reshape_copy _resize_output
    _safe_softmax _sample_dirichlet _softmax _stack _standard_gamma _to_copy _to_dense _to_sparse _to_sparse_bsr
    _to_sparse_csc _to_sparse_csr _transform_bias_rescale_qkv _unique _unique2 _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _weight_norm_interface abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
    adaptive_max_pool3d add all amax amin any arange argmax argmin as_strided as_strided_scatter avg_pool1d avg_pool2d
    avg_pool3d batch_norm_elemt bernoulli binary_cross_entropy binary_cross_entropy_with_logits bincount bitwise_and
    bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor block_diag bucketize cat cauchy celu channel_shuffle
    clone col2im complex constant_pad_nd copy copysign count_nonzero cudnn_batch_norm cummax cummin cumprod cumsum
    dequantize detach diag_embed diagonal_scatter dist div elu embedding embedding_renorm empty_like empty_permuted
    empty_quantized empty_strided eq exponential eye fake_quantize_per_channel_affine_cachemask
    fake_quantize_per_tensor_affine_cachemask fill flip floor_divide fractional_max_pool2d fractional_max_pool3d full
    full_like gather gcd ge gelu geometric glu grid_sampler_2d grid_sampler_3d gt hardshrink hardsigmoid hardswish hardtanh
    heaviside histc huber_loss im2col index index_add index_copy index_fill index_put index_reduce index_select int_repr isin
    isinf isnan kthvalue lcm le leaky_relu lift linalg_cross linalg_vector_norm linspace log_normal log_sigmoid_forward
    log_softmax logcumsumexp logspace lt masked_fill masked_scatter masked_select max max_pool2d_with_indices
    max_pool3d_with_indices max_unpool2d max_unpool3d mean median min mish mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d
    mkldnn_max_pool3d mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight mode mse_loss mul multinomial nanmedian
    narrow_copy native_batch_norm native_dropout native_group_norm native_layer_norm native_norm ne new_empty
    new_empty_strided new_full new_ones new_zeros nll_loss_forward nll_loss2d_forward nonzero nonzero_static norm normal
    normal_functional ones ones_like pixel_shuffle pixel_unshuffle poisson polar prod put q_per_channel_scales
    q_per_channel_zero_points quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm
    quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d rand rand_like randint randint_like randn_like random
    randperm range reflection_pad1d reflection_pad2d reflection_pad3d relu remainder renorm repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d resize resize_as roll rot90 rrelu_with_noise
    rrelu_with_noise_functional rsub scalar_tensor scatter scatter_add scatter_reduce searchsorted segment_reduce
    select_scatter set slice_scatter smooth_l1_loss soft_margin_loss softmax softplus softshrink sort sparse_coo_tensor
    squeeze stack std std_mean sub sum t take threshold to_mkldnn topk trace transpose tril tril_indices triu triu_indices
    uniform unique_consecutive unique_dim unique_dim_consecutive unsafe_split unsafe_split_with_sizes unsqueeze
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d var var_mean where xlogy zero zeros zeros_like
    """.split()  # noqa: SIM905
)
_FREE_ELSEWHERE = {
    "torchvision": {"nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"},
    "prims": {"convert_element_type", "device_put", "rev", "iota", "view_of", "broadcast_in_dim"},
}
_FREE_NAMESPACES = ("_c10d_functional", "c10d", "c10d_functional", "profiler", "debugprims", "rngprims")
_MULTIPLYING = ("linear", "conv", "matmul", "mm", "lstm", "gru", "rnn")


class Recorder(TorchDispatchMode):
    """Collects layers under the names of the modules that run.

    Args:
        left_out: names of operations (``mylib::blend``) of which the user says that they are to count nothing.
    """

    supports_higher_order_operators = True

    def __init__(self, left_out: Collection[str] = ()) -> None:
        super().__init__()
        self.layers: dict[str, Layer] = {}
        self.running: list[str] = []
        self.left_out = frozenset(left_out)
        self.skipped: dict[str, str] = {}
        self.macs = self.pytorch_macs = 0
        self.differences: dict[str, str] = {}
        self.thread: int | None = threading.get_ident()
        self.elsewhere: ArchGymError | None = None

    def watch(self, model: torch.nn.Module) -> list[Any]:
        """Follow which module runs; returns handles whose ``remove`` ends that. Scripted modules take no hooks: what
        they run is counted under the module around them."""
        handles: list[Any] = []
        for path, module in model.named_modules():
            title = path or type(model).__name__.lower()
            if isinstance(module, torch.jit.ScriptModule):
                _refuse_fused(module, title)
                continue

            def enter(module: Any, _inputs: Any, title: str = title) -> None:
                if self.thread is not None and threading.get_ident() != self.thread:
                    self.refuse_thread(title)
                    return
                if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
                    kind = type(module).__name__
                    raise ArchGymError(f"layer {title!r} is recurrent ({kind}), which is not supported; {ADVICE}")
                self.running.append(title)

            def leave(_module: Any, _inputs: Any, _outputs: Any) -> None:
                if self.thread is None or threading.get_ident() == self.thread:
                    self.running.pop()

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave))
        return handles

    def refuse_thread(self, title: str) -> None:
        """Refuse, when the model has run, what runs in another thread, of whose operations PyTorch tells nobody here. (What
        a thread raises may get lost.)"""
        self.elsewhere = self.elsewhere or ArchGymError(
            f"layer {title!r} runs in another thread, where its operations are not seen; run the model in one thread"
        )

    @property
    def place(self) -> str:
        return self.running[-1] if self.running else "model"

    @property
    def notes(self) -> str:
        """What was left out, and where PyTorch's own counter says something else; empty where neither."""
        parts = []
        if self.skipped:
            parts.append("left out: " + ", ".join(f"{name} ({place!r})" for name, place in self.skipped.items()))
        if self.differences:
            named = ", ".join(f"{name} ({what})" for name, what in self.differences.items())
            parts.append(
                f"{self.macs:,} multiply-accumulates, by PyTorch's counter {self.pytorch_macs:,}; they differ in {named}"
            )
        return "; ".join(parts)

    # --- what is done with an operation ------------------------------------------------------------------------------

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(function, torch._ops.OpOverload):
            return self._higher_order(function, args, kwargs)
        space, _, title = function._schema.name.partition("::")
        if any(tensor.is_nested for tensor in _tensors((args, kwargs))):
            raise ArchGymError(
                f"layer {self.place!r} runs on nested tensors, whose rows differ in length; give the model padded tensors"
            )
        count = _counter(space, title)
        if count is None and not _is_free(function, space, title):
            if f"{space}::{title}" in self.left_out:
                self.skipped.setdefault(f"{space}::{title}", self.place)
            else:
                with self:
                    result = function.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        result = function(*args, **kwargs)
        if count is not None:
            given = dict(zip([argument.name for argument in function._schema.arguments], args, strict=False)) | kwargs
            if any(tensor.layout in _SPARSE for tensor in _tensors(list(given.values()))):
                self._refuse_sparse(space, title)
            before = self.macs
            count(self, given, result)
            self._compare(function.overloadpacket, f"{space}::{title}", self.macs - before, args, kwargs, result)
        elif not (_is_free(function, space, title) or f"{space}::{title}" in self.left_out):
            # What writes into an argument may return nothing, and have multiplied all the same.
            written = [argument.alias_info for argument in function._schema.arguments]
            self._refuse(space, title, result, any(alias is not None and alias.is_write for alias in written))
        return result

    def _higher_order(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Control flow and fused attention, which hold whole programs of their own."""
        title = function.name() if callable(getattr(function, "name", None)) else str(function)
        if title == "cond":
            return self._branches(*args)
        result = function(*args, **kwargs)
        if title == "flex_attention":
            before = self.macs
            _attention(self, dict(zip(("query", "key", "value"), args, strict=False)), result)
            self._compare(function, title, self.macs - before, args, kwargs, result)
        elif title not in self.left_out:
            self._refuse("higher_order", title, result)
        else:
            self.skipped.setdefault(title, self.place)
        return result

    def _branches(self, predicate: Any, true_branch: Any, false_branch: Any, operands: Any) -> Any:
        """The branch that the example takes counts. PyTorch's counter takes the dearer one, which is then noted."""
        before = self.macs
        with self:
            result = (true_branch if predicate else false_branch)(*operands)
        other = Recorder(self.left_out)
        try:
            with other:
                (false_branch if predicate else true_branch)(*operands)
        except Exception:  # it is not what runs
            return result
        ours, more = self.macs - before, other.macs - (self.macs - before)
        if more > 0:
            self.pytorch_macs += more
            what = f"{other.macs:,} there, of the dearer branch; {ours:,} here, of the one that the example takes"
            self.differences.setdefault("cond", what)
        return result

    def _refuse_sparse(self, space: str, title: str) -> None:
        raise ArchGymError(
            f"layer {self.place!r} multiplies a sparse matrix ({space}::{title}), whose work no layer describes; give it "
            "dense"
        )

    def _refuse(self, space: str, title: str, result: Any, writes: bool = False) -> None:
        if not writes and not any(True for _ in _tensors([result])):
            return  # makes no tensor: a check, a size
        if "sparse" in title or any(tensor.layout in _SPARSE for tensor in _tensors([result])):
            self._refuse_sparse(space, title)
        raise ArchGymError(
            f"layer {self.place!r} runs {space}::{title}, whose multiply-accumulates are not known; describe the network in "
            f"a file, or leave the operation out with the option left_out={space}::{title}"
        )

    def _compare(self, packet: Any, title: str, ours: int, args: Any, kwargs: Any, result: Any) -> None:
        theirs: int | None = None
        if packet in flop_registry:
            try:
                theirs = int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
            except Exception:
                theirs = None
        self.pytorch_macs += theirs or 0
        if theirs != ours:
            what = "which it does not count" if theirs is None else f"{theirs:,} there, {ours:,} here"
            self.differences.setdefault(title, what)

    # --- layers ------------------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Add a layer; an equal one of the same module counts up."""
        self.macs += layer.macs
        name, number = layer.name, 1
        while name in self.layers:
            known = self.layers[name]
            if replace(known, count=1, name=layer.name) == layer:
                self.layers[name] = replace(known, count=known.count + 1)
                return
            number += 1
            name = f"{layer.name}-{number}"
        self.layers[name] = replace(layer, name=name)

    def product(self, M: int, N: int, K: int, batch: int = 1, part: str = "") -> None:
        """Add ``batch`` products of ``M x K`` and ``K x N``; none where a size is zero."""
        if min(M, N, K, batch) > 0:
            self.add(gemm(self.place + part, M, N, K, batch=batch))


class Elsewhere(TorchDispatchMode):
    """Sees the operations of a thread that a model starts while a recorder reads it; refuses those that may count.

    Args:
        recorder: of the thread that reads the model.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.recorder.thread is not None:
            named = isinstance(function, torch._ops.OpOverload)
            space, _, title = function._schema.name.partition("::") if named else ("", "", "")
            if not (named and _is_free(function, space, title)):
                self.recorder.refuse_thread(self.recorder.place)
        return function(*args, **(kwargs or {}))


def _refuse_fused(module: Any, title: str) -> None:
    """Refuse scripts of ``torch.jit.optimize_for_inference``: its convolutions do not pass PyTorch's dispatcher."""
    graph = getattr(module, "inlined_graph", None)  # a container has no forward, and so no graph
    if graph is not None and graph.findAllNodes("prim::mkldnn_convolution"):
        raise ArchGymError(
            f"layer {title!r} holds convolutions that torch.jit.optimize_for_inference has fused, which are not seen; give "
            "the model from before that"
        )


Count = Callable[[Recorder, dict[str, Any], Any], None]


def _tensors(values: Any) -> Any:
    """The tensors among (nested lists of) values."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _is_free(function: Any, space: str, title: str) -> bool:
    """Whether an operation does no multiply-accumulates that a layer would stand for."""
    schema, plain = function._schema, title.rstrip("_")
    if space == "aten":
        if plain in _FREE or torch.Tag.pointwise in function.tags or torch.Tag.view_copy in function.tags:
            return True
        if title.startswith("_foreach_"):
            return title != "_foreach_mm"
    elif space in _FREE_NAMESPACES or title in _FREE_ELSEWHERE.get(space, ()):
        return True
    elif space == "quantized":
        return title.endswith(("prepack", "unpack")) or not any(word in title for word in _MULTIPLYING)
    elif space != "prim":
        return False  # someone's own: its signature says nothing of its work
    takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    aliases = [returned.alias_info for returned in schema.returns]
    view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    return not takes or not schema.returns or view


def _counter(space: str, title: str) -> Count | None:
    plain = title.rstrip("_")
    if space == "aten":
        if plain in _ROWS_BY_COLUMNS:
            left = _ROWS_BY_COLUMNS[plain]
            return lambda recorder, given, result: _rows_by_columns(recorder, given[left], result)
        if plain in _CONVOLUTIONS:
            return _convolution
        if title.startswith("_scaled_dot_product") and not title.endswith("backward"):
            return _attention
        return _ATEN.get(plain)
    if space == "quantized" and not title.endswith(("prepack", "unpack")):
        if title.startswith("linear"):
            return lambda recorder, given, result: _rows_by_columns(recorder, next(iter(given.values())), result)
        if title.startswith("conv"):
            return _quantized_convolution
    if space == "quantized" and title == "matmul":
        return lambda recorder, given, result: _stacked(recorder, next(iter(given.values())), result)
    if (space, title) == ("torchvision", "deform_conv2d"):
        return _deformable_convolution
    return None


def _rows_by_columns(recorder: Recorder, left: Any, result: Any) -> None:
    recorder.product(math.prod(result.shape[:-1]), result.shape[-1], left.shape[-1])


def _stacked(recorder: Recorder, left: Any, result: Any) -> None:
    rows, columns = result.shape[-2:]
    recorder.product(rows, columns, left.shape[-1], math.prod(result.shape[:-2]))


def _attention(recorder: Recorder, given: dict[str, Any], _result: Any) -> None:
    query, key, value = given["query"], given["key"], given["value"]
    batch, context = math.prod(query.shape[:-2]), key.shape[-2]
    recorder.product(query.shape[-2], context, query.shape[-1], batch, ".scores")
    recorder.product(query.shape[-2], value.shape[-1], context, batch, ".values")


def _grouped(recorder: Recorder, given: dict[str, Any], result: Any) -> None:
    """Products of groups: of stacked matrices, or of one matrix cut at ``offs`` along its rows, columns or the summed dim.
    The cuts of tensors without content (the meta device) are not known: all rows then stand in one group."""
    left = given["self"] if "self" in given else given["input"]
    right, offsets = given["mat2"], given.get("offs")
    if left.dim() == 3 and right.dim() == 3:
        return _stacked(recorder, left, result)
    total = {(2, 3): left.shape[0], (3, 2): right.shape[-1], (2, 2): left.shape[-1]}[left.dim(), right.dim()]
    ends = [total] if offsets is None or offsets.device.type == "meta" else offsets.tolist()
    for size in (end - start for start, end in zip([0, *ends], ends, strict=False)):
        if left.dim() == 3:
            recorder.product(left.shape[1], size, left.shape[2])
        elif right.dim() == 3:
            recorder.product(size, right.shape[2], left.shape[1])
        else:
            recorder.product(left.shape[0], right.shape[1], size)
    return None


def _affine_grid(recorder: Recorder, given: dict[str, Any], result: Any) -> None:
    batch, *rows, axes = result.shape
    recorder.product(math.prod(rows), axes, axes + 1, batch)


_ATEN: dict[str, Count] = {
    "bmm": lambda r, given, result: _stacked(r, given["self"], result),
    "baddbmm": lambda r, given, result: _stacked(r, given["batch1"], result),
    "addbmm": lambda r, given, result: r.product(
        result.shape[0], result.shape[1], given["batch1"].shape[2], given["batch1"].shape[0]
    ),
    "mv": lambda r, given, result: r.product(result.shape[0], 1, given["vec"].shape[0]),
    "addmv": lambda r, given, result: r.product(result.shape[0], 1, given["vec"].shape[0]),
    "addr": lambda r, given, result: r.product(result.shape[0], result.shape[1], 1),
    "dot": lambda r, given, result: r.product(1, 1, given["self"].shape[0]),
    "vdot": lambda r, given, result: r.product(1, 1, given["self"].shape[0]),
    "_grouped_mm": _grouped,
    "_scaled_grouped_mm": _grouped,
    "_scaled_grouped_mm_v2": _grouped,
    "affine_grid_generator": _affine_grid,
}


# --- convolutions ----------------------------------------------------------------------------------------------------


def _convolution(recorder: Recorder, given: dict[str, Any], result: Any) -> None:
    inputs, weight = given["input"], given["weight"]
    add_convolution(
        recorder, inputs.shape, weight.shape, result.shape, given["stride"], given["dilation"], given["groups"],
        transposed=given["transposed"],
    )  # fmt: skip


def _quantized_convolution(recorder: Recorder, given: dict[str, Any], result: Any) -> None:
    inputs, packed = list(given.values())[:2]
    shape, axes = list(packed.unpack()[0].shape), result.dim() - 2
    # The weights of a 1-D convolution are kept as those of a 2-D one.
    add_convolution(
        recorder, inputs.shape, [*shape[:2], *shape[-axes:]], result.shape, packed.stride()[-axes:],
        packed.dilation()[-axes:], packed.groups(), transposed=bool(packed.transpose()),
    )  # fmt: skip


def _deformable_convolution(recorder: Recorder, given: dict[str, Any], result: Any) -> None:
    values = list(given.values())  # input, weight, offset, mask, bias, strides, paddings, dilations, groups
    add_convolution(
        recorder,
        values[0].shape,
        values[1].shape,
        result.shape,
        values[5:7],
        values[9:11],
        values[11],
        transposed=False,
    )


def add_convolution(
    recorder: Recorder,
    inputs: Sequence[int],
    weight: Sequence[int],
    result: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    transposed: bool,
) -> None:
    """A convolution of one to three axes; see :func:`archgym.networks.convolution.convolution_layer`."""
    batch = [] if len(inputs) == len(weight) else [1]
    layer = convolution_layer(
        recorder.place, [*batch, *inputs], weight, [*batch, *result], stride, dilation, groups, transposed=transposed
    )
    recorder.add(layer)
