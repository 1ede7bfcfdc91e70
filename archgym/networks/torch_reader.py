"""Layer shapes of a PyTorch model, found by running it once on an example input.

Every matrix product and convolution is seen where PyTorch dispatches it, whether it comes from a module or from a
function call; the modules that are running give the names. Element-wise operations, normalisation and pooling cost no
multiply-accumulates here and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.layers import Layer, Network, gemm


def workload_from_torch(model: Any, example_input: Any, *, name: str | None = None) -> Network:
    """The network of a ``torch.nn.Module``.

    Args:
        model: the module; it is run once in evaluation mode without gradients, and left as it was.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments. Its batch becomes the
            network's batch.
        name: of the network; the class's name in lower case where None.

    Returns:
        A network with one layer a convolution (1-D, 2-D, grouped, depthwise), linear layer and matrix product;
        attention gives its two products. Equal layers of one module count up.

    Raises:
        ArchGymError: one sentence that names the layer, for transposed or 3-D convolutions and recurrent layers, for
            a model that fails on the example, and for one without any product.
        MissingExtraError: without PyTorch.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("reading a PyTorch model", "rl", "PyTorch is not installed") from None

    if not isinstance(model, torch.nn.Module):
        raise ArchGymError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if isinstance(example_input, Mapping):
        keywords = dict(example_input)
    else:
        arguments = tuple(example_input) if isinstance(example_input, (tuple, list)) else (example_input,)
    recorder = _recorder(torch)
    handles = recorder.watch(model)
    modes = {module: module.training for module in model.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        # The fused path of nn.MultiheadAttention would hide its products.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), recorder:
            model(*arguments, **keywords)
    except ArchGymError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ArchGymError(
            f"the model fails on the example input ({type(error).__name__}: {reason[0] if reason else 'no message'}); "
            "give an input that its forward() takes"
        ) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if not recorder.layers:
        raise ArchGymError(f"{type(model).__name__} has no convolution or matrix product; nothing to map")
    title = name or type(model).__name__.lower()
    return Network(title, recorder.layers.values(), f"{type(model).__name__}, read from PyTorch")


def _recorder(torch: Any) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten

    class Recorder(TorchDispatchMode):
        """Collects layers under the names of the modules that run."""

        def __init__(self) -> None:
            super().__init__()
            self.layers: dict[str, Layer] = {}
            self.running: list[str] = []

        def watch(self, model: Any) -> list[Any]:
            handles = []
            for path, module in model.named_modules():
                title = path or type(model).__name__.lower()

                def enter(module: Any, _inputs: Any, title: str = title) -> None:
                    _refuse(torch, module, title)
                    self.running.append(title)

                def leave(_module: Any, _inputs: Any, _outputs: Any) -> None:
                    self.running.pop()

                handles.append(module.register_forward_pre_hook(enter))
                handles.append(module.register_forward_hook(leave))
            return handles

        @property
        def place(self) -> str:
            return self.running[-1] if self.running else "model"

        def add(self, layer: Layer) -> None:
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
            if min(M, N, K, batch) > 0:
                self.add(gemm(self.place + part, M, N, K, batch=batch))

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            packet = function.overloadpacket
            title = packet.__name__
            if packet in (aten.convolution, aten._convolution, aten.convolution_overrideable):
                self.convolution(args, result)
            elif packet is aten.addmm:
                self.product(args[1].shape[0], args[2].shape[1], args[1].shape[1])
            elif packet is aten.mm:
                self.product(args[0].shape[0], args[1].shape[1], args[0].shape[1])
            elif packet in (aten.bmm, aten.baddbmm):
                left, right = args[-2:] if packet is aten.bmm else args[1:3]
                self.product(left.shape[1], right.shape[2], left.shape[2], left.shape[0])
            elif packet is aten.mv:
                self.product(args[0].shape[0], 1, args[0].shape[1])
            elif packet in (aten.dot, aten.vdot):
                self.product(1, 1, args[0].shape[0])
            elif title.startswith("_scaled_dot_product"):
                query, key, value = args[:3]
                batch = math.prod(query.shape[:-2])
                tokens, width, context = query.shape[-2], query.shape[-1], key.shape[-2]
                self.product(tokens, context, width, batch, ".scores")
                self.product(tokens, value.shape[-1], context, batch, ".values")
            elif title in _UNSUPPORTED:
                raise ArchGymError(f"layer {self.place!r} runs {title}, which is not supported; {_ADVICE}")
            return result

        def convolution(self, args: Any, result: Any) -> None:
            inputs, weight, _bias, stride, _padding, dilation, transposed = args[:7]
            groups = args[8]
            axes = weight.dim() - 2
            if transposed:
                raise ArchGymError(
                    f"layer {self.place!r} is a transposed convolution, which is not supported; {_ADVICE}"
                )
            if axes > 2:
                raise ArchGymError(f"layer {self.place!r} is a {axes}-D convolution, which is not supported; {_ADVICE}")
            outputs, channels = weight.shape[0] // groups, weight.shape[1]
            out, taps = [*result.shape[2:], 1], [*weight.shape[2:], 1]
            steps, holes = [*stride, 1], [*dilation, 1]
            if axes == 2 and len(stride) == 1:
                steps = [stride[0], stride[0]]
            if axes == 2 and len(dilation) == 1:
                holes = [dilation[0], dilation[0]]
            self.add(
                Layer(
                    self.place,
                    "depthwise" if groups > 1 and channels == 1 else "conv",
                    N=inputs.shape[0] if inputs.dim() > axes + 1 else 1,
                    K=outputs,
                    C=channels,
                    P=out[0],
                    Q=out[1],
                    R=taps[0],
                    S=taps[1],
                    G=groups,
                    stride_p=steps[0],
                    stride_q=steps[1],
                    dilation_r=holes[0],
                    dilation_s=holes[1],
                )
            )

    return Recorder()


_ADVICE = "leave it out or describe the network in a file"
_UNSUPPORTED = frozenset(
    {
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "mkldnn_rnn_layer",
        "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell",
        "_cdist_forward",
        "_trilinear",
        "_sparse_mm",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
        "addbmm",
        "_int_mm",
    }
)


def _refuse(torch: Any, module: Any, title: str) -> None:
    """Complain about modules whose products would not be seen for what they are."""
    nn = torch.nn
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        raise ArchGymError(f"layer {title!r} is recurrent ({type(module).__name__}), which is not supported; {_ADVICE}")
