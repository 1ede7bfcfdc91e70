"""One step of one network of a supernet: on the compiled kernels where they have the skeleton, else in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.nas import cells
from archgym.simulators.nas.data import Data
from archgym.simulators.nas.macro import macro
from archgym.simulators.nas.trainer import can_train

Floats = NDArray[np.float32]
P = ParamSpec("P")
T = TypeVar("T")
_LABELS = np.zeros((0, 0), dtype=np.float32)


class Engine(Protocol):
    """What training and evaluation need of a network, given as (cell code, flat parameters)."""

    def gradient(
        self, code: int, theta: Floats, rows: NDArray[np.int64], targets: Floats | None = None
    ) -> tuple[Floats, Floats, float]:
        """Gradient of the mean cross-entropy over the training samples ``rows`` (a batch), logits ``(batch,
        classes)`` and that loss. ``targets`` are probabilities ``(batch, classes)`` in place of the labels."""
        ...

    def loss(self, code: int, theta: Floats, rows: NDArray[np.int64]) -> float:
        """Mean cross-entropy of a batch under its own moments, without a gradient."""
        ...

    def judge(
        self, code: int, theta: Floats, batches: NDArray[np.int64], x: Floats, y: NDArray[np.int64]
    ) -> tuple[float, float]:
        """Accuracy in percent and mean cross-entropy on (x, y) with the moments of the training samples ``batches``
        ``(number, batch)``: exact moments of each batch, averaged."""
        ...


class KernelEngine:
    """On the compiled kernels; one object a thread (it owns the work space)."""

    def __init__(self, data: Data, macro_name: str, batch: int) -> None:
        from archgym.simulators.nas.kernels import training as kernels

        self._kernels, self._data, self._batch = kernels, data, batch
        skeleton = macro(macro_name)
        self._width, self._classes = skeleton.width, skeleton.classes
        self._space = (
            kernels.allocate(skeleton.width, batch, skeleton.size),
            kernels.allocate(2 * skeleton.width, batch, skeleton.size // 2),
            kernels.allocate_extra(skeleton.width, batch, skeleton.size),
        )
        self._running = np.zeros((16, 2, 2 * skeleton.width), dtype=np.float32)
        self._logits = np.zeros((batch, skeleton.classes), dtype=np.float32)
        self._none = np.zeros(0, dtype=np.float32)

    def _run(self, code: int, theta: Floats, grad: Floats, rows: NDArray[np.int64], targets: Floats) -> float:
        loss, _ = self._kernels.forward_backward(
            cells.rows(code), theta, grad, self._running, self._data.x_train, self._data.y_train, rows, 0,
            *self._space, self._logits, self._width, True, targets,
        )  # fmt: skip
        return float(loss) / self._batch

    def gradient(
        self, code: int, theta: Floats, rows: NDArray[np.int64], targets: Floats | None = None
    ) -> tuple[Floats, Floats, float]:
        grad = np.zeros_like(theta)
        loss = self._run(code, theta, grad, rows, _LABELS if targets is None else targets)
        return grad, self._logits, loss

    def loss(self, code: int, theta: Floats, rows: NDArray[np.int64]) -> float:
        return self._run(code, theta, self._none, rows, _LABELS)

    def judge(
        self, code: int, theta: Floats, batches: NDArray[np.int64], x: Floats, y: NDArray[np.int64]
    ) -> tuple[float, float]:
        _, loss, hits = self._predicted(code, theta, batches, x, y)
        return 100.0 * hits / len(y), loss / len(y)

    def logits(self, code: int, theta: Floats, batches: NDArray[np.int64], x: Floats, y: NDArray[np.int64]) -> Floats:
        """Logits ``(samples, classes)`` on x, of what :meth:`judge` judges."""
        return self._predicted(code, theta, batches, x, y)[0]

    def _predicted(
        self, code: int, theta: Floats, batches: NDArray[np.int64], x: Floats, y: NDArray[np.int64]
    ) -> tuple[Floats, float, int]:
        moments = np.zeros(self._running.shape)
        for rows in batches:
            # From zero the kernel leaves its momentum's share of the batch's moments.
            self._running[:] = 0.0
            self._run(code, theta, self._none, rows, _LABELS)
            moments += self._running
        running = (moments / (self._kernels.BN_MOMENTUM * len(batches))).astype(np.float32)
        found: tuple[Floats, float, int] = self._kernels.predict(
            cells.rows(code), theta, running, x, y, self._batch, self._width, self._classes
        )
        return found


def one_torch_thread(call: Callable[P, T]) -> Callable[P, T]:
    """Run a function with torch on one thread, so that sums have one order on every machine (and small networks are
    faster on one)."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return alone


class TorchEngine:
    """In torch, for the skeletons that the kernels do not have."""

    def __init__(self, data: Data, macro_name: str, batch: int) -> None:
        import torch

        self._torch, self._macro, self._batch = torch, macro(macro_name), batch
        self._x, self._y = self._inputs(data.x_train), torch.as_tensor(data.y_train)
        self._networks: dict[int, Any] = {}

    def _inputs(self, x: Floats) -> Any:
        return self._torch.as_tensor(x)[:, None]

    def _network(self, code: int, theta: Floats) -> Any:
        from archgym.simulators.nas.network import CellNetwork, load_flat

        network = self._networks.get(code)
        if network is None:
            if len(self._networks) > 512:
                self._networks.clear()
            network = self._networks[code] = CellNetwork(cells.rows(code).tolist(), self._macro)
        load_flat(network, self._torch.as_tensor(theta))
        return network

    @one_torch_thread
    def gradient(
        self, code: int, theta: Floats, rows: NDArray[np.int64], targets: Floats | None = None
    ) -> tuple[Floats, Floats, float]:
        torch = self._torch
        network = self._network(code, theta).train()
        network.zero_grad(set_to_none=True)
        logits = network(self._x[rows])
        wanted = self._y[rows] if targets is None else torch.as_tensor(targets)
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        loss.backward()
        flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in network.parameters()]
        return torch.cat(flat).numpy(), logits.detach().numpy(), float(loss.detach())

    @one_torch_thread
    def loss(self, code: int, theta: Floats, rows: NDArray[np.int64]) -> float:
        with self._torch.no_grad():
            logits = self._network(code, theta).train()(self._x[rows])
            return float(self._torch.nn.functional.cross_entropy(logits, self._y[rows]))

    @one_torch_thread
    def judge(
        self, code: int, theta: Floats, batches: NDArray[np.int64], x: Floats, y: NDArray[np.int64]
    ) -> tuple[float, float]:
        torch = self._torch
        network = self._network(code, theta).train()
        norms = [m for m in network.modules() if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
        for norm in norms:
            norm.momentum = None  # the plain average over the batches
            norm.reset_running_stats()
        with torch.no_grad():
            for rows in batches:
                network(self._x[rows])
            logits = torch.cat([network.eval()(part) for part in self._inputs(x).split(500)])
            labels = torch.as_tensor(y)
            loss = float(torch.nn.functional.cross_entropy(logits, labels))
            hits = int((logits.argmax(-1) == labels).sum())
        return 100.0 * hits / len(y), loss


def make_engine(data: Data, macro_name: str, batch: int) -> Engine:
    """The engine of a skeleton."""
    return (KernelEngine if can_train(macro_name) else TorchEngine)(data, macro_name, batch)
