"""Layer shapes of a PyTorch model, found by running it once on an example input.

Every operation is seen where PyTorch dispatches it, whether it comes from a module or from a function call; the modules that
are running give the names. See :mod:`archgym.networks.torch_recorder` for what counts.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Any

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.layers import Network


def workload_from_torch(
    model: Any, example_input: Any, *, name: str | None = None, left_out: Collection[str] = ()
) -> Network:
    """The network of a ``torch.nn.Module``.

    Args:
        model: the module; it is run once in evaluation mode without gradients, and left as it was.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments. Its batch becomes the
            network's batch.
        name: of the network; the class's name in lower case where None.
        left_out: operations (``"mylib::blend"``) that are to count nothing, where the reader does not know them.

    Returns:
        A network with one layer a convolution (up to 3-D, grouped, depthwise, transposed), linear layer and matrix
        product, quantised ones and those of experts among them; attention gives its two products. Equal layers of one
        module count up. The description says where PyTorch's own counter gives another number.

    Raises:
        ArchGymError: one sentence that names the layer, for recurrent layers, sparse or nested tensors and operations of
            which is not known what they multiply, for a model that fails on the example, and for one without any product.
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
    from archgym.networks.torch_recorder import Elsewhere, Recorder

    def in_new_thread(*_event: Any) -> None:
        # The first event of a thread that the model starts: PyTorch's modes hold for one thread only.
        sys.setprofile(None)
        Elsewhere(recorder).__enter__()

    model = getattr(model, "_orig_mod", model)  # of torch.compile
    recorder = Recorder(left_out)
    handles = recorder.watch(model)
    modes = {module: module.training for module in model.modules() if hasattr(module, "training")}
    # Compiled code would run past the recorder; only who has imported the compiler can have any.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    fast_path, profile = torch.backends.mha.get_fastpath_enabled(), threading.getprofile()
    try:
        try:
            model.eval()
        except NotImplementedError:  # modules of torch.export have one mode only, and refuse to be asked for it
            for module in modes:
                module.training = False
        # The fused path of nn.MultiheadAttention would hide its products.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), eager, recorder:
            threading.setprofile(in_new_thread)
            model(*arguments, **keywords)
        if recorder.elsewhere is not None:
            raise recorder.elsewhere
    except ArchGymError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ArchGymError(
            f"the model fails on the example input ({type(error).__name__}: {reason[0] if reason else 'no message'}); "
            "give an input that its forward() takes"
        ) from None
    finally:
        threading.setprofile(profile)
        recorder.thread = None
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if not recorder.layers:
        raise ArchGymError(f"{type(model).__name__} has no convolution or matrix product; nothing to map")
    title, kind = name or type(model).__name__.lower(), type(model).__name__
    notes = recorder.notes
    return Network(title, recorder.layers.values(), f"{kind}, read from PyTorch" + (f"; {notes}" if notes else ""))
