"""Training many networks at once in torch, on a CPU or a GPU.

M networks stand side by side on the channel axis: activations are ``(batch, M * c, ...)``, convolutions are grouped,
batch norm is a network's own by construction, and the loss is the sum over networks of each one's mean
cross-entropy, so that gradients neither mix nor scale with M. Weights and the order of the data are those of
:mod:`archgym.simulators.nas.trainer`: a network trained in a group equals the same network trained alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archgym.errors import ArchGymError, quote
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import Data
from archgym.simulators.nas.macro import Macro, macro
from archgym.simulators.nas.trainer import TrainRecipe, TrainResult, initial_parameters


class NetworkGroup:
    """M networks of one skeleton with their parameters and running moments, as stacked tensors.

    Args:
        codes: cell code of each network; theta: flat initial parameters of each, in the order of
            :func:`archgym.simulators.nas.trainer.layer_shapes`.
    """

    def __init__(
        self, codes: Sequence[int], theta: Sequence[np.ndarray[Any, Any]], skeleton: Macro, device: str = "cpu"
    ) -> None:
        self.macro, self.count, self.device = skeleton, len(codes), usable_device(device)
        self.ops = cells.rows(np.asarray(codes, dtype=np.int64))
        self.parameters: list[Tensor] = []
        self.moments: list[tuple[Tensor, Tensor]] = []
        self.training = True
        everyone = list(range(self.count))
        position = [0] * self.count
        flats = [torch.as_tensor(flat, device=self.device) for flat in theta]

        def take(networks: list[int], *shape: int) -> Tensor:
            size = int(np.prod(shape))
            parts = []
            for m in networks:
                parts.append(flats[m][position[m] : position[m] + size].reshape(shape))
                position[m] += size
            tensor = torch.stack(parts).requires_grad_()
            self.parameters.append(tensor)
            return tensor

        def conv_norm(networks: list[int], outputs: int, inputs: int, kernel: int) -> dict[str, Any]:
            area = (kernel,) * skeleton.dimensions
            return {"w": take(networks, outputs, inputs, *area), **norm(networks, outputs)}

        def norm(networks: list[int], channels: int) -> dict[str, Any]:
            gamma, beta = take(networks, channels), take(networks, channels)
            size = len(networks) * channels
            mean, variance = torch.zeros(size, device=self.device), torch.ones(size, device=self.device)
            self.moments.append((mean, variance))
            return {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}

        # The order of these calls is the order of the flat vector.
        self.stem = conv_norm(everyone, skeleton.width, skeleton.inputs, 3)
        self.blocks: list[tuple[str, Any]] = []
        c = skeleton.width
        for stage in range(skeleton.stages):
            if stage:
                a = conv_norm(everyone, 2 * c, c, 3)
                b = conv_norm(everyone, 2 * c, 2 * c, 3)
                point = (1,) * skeleton.dimensions
                self.blocks.append(("reduction", {"a": a, "b": b, "shortcut": take(everyone, 2 * c, c, *point)}))
                c *= 2
            for _ in range(skeleton.cells):
                # A network takes its edges' parameters in edge order; so does this loop, network by network.
                cell: list[list[dict[str, Any]]] = []
                for edge in range(6):
                    uses = []
                    for op in range(1, 5):
                        networks = [m for m in everyone if self.ops[m, edge] == op]
                        if not networks:
                            continue
                        use: dict[str, Any] = {"op": op, "index": torch.tensor(networks, device=self.device)}
                        if op in (cells.CONV1, cells.CONV3):
                            use |= conv_norm(networks, c, c, 1 if op == cells.CONV1 else 3)
                        uses.append(use)
                    cell.append(uses)
                self.blocks.append(("cell", cell))
        self.last = norm(everyone, c)
        self.weight = take(everyone, skeleton.classes, c)
        self.bias = take(everyone, skeleton.classes)

    def _norm(self, x: Tensor, layer: dict[str, Any]) -> Tensor:
        return F.batch_norm(
            x, layer["mean"], layer["variance"], layer["gamma"].reshape(-1), layer["beta"].reshape(-1),
            self.training, 0.1, 1e-5,
        )  # fmt: skip

    def _conv(self, x: Tensor, w: Tensor, stride: int = 1) -> Tensor:
        conv = F.conv2d if self.macro.dimensions == 2 else F.conv1d
        return conv(x, w.flatten(0, 1), stride=stride, padding=w.shape[-1] // 2, groups=len(w))

    def _relu_conv_norm(self, x: Tensor, layer: dict[str, Any], stride: int = 1) -> Tensor:
        return self._norm(self._conv(torch.relu(x), layer["w"], stride), layer)

    def _cell(self, x: Tensor, cell: list[list[dict[str, Any]]]) -> Tensor:
        pool = F.avg_pool2d if self.macro.dimensions == 2 else F.avg_pool1d
        batch, count = len(x), self.count
        split = (batch, count, x.shape[1] // count, *x.shape[2:])
        nodes = [x]
        for target in (1, 2, 3):
            total = torch.zeros_like(x).view(split)
            for edge, (source, to) in enumerate(cells.EDGES):
                if to != target:
                    continue
                for use in cell[edge]:
                    part = nodes[source].view(split).index_select(1, use["index"]).flatten(1, 2)
                    if use["op"] == cells.POOL:
                        part = pool(part, 3, 1, 1, count_include_pad=False)
                    elif use["op"] != cells.SKIP:
                        part = self._relu_conv_norm(part, use)
                    part = part.view(batch, len(use["index"]), *split[2:])
                    total = total.index_add(1, use["index"], part)
            nodes.append(total.reshape(x.shape))
        return nodes[3]

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, M, classes)`` of inputs ``(batch, channels, ...)`` that all networks share."""
        pool = F.avg_pool2d if self.macro.dimensions == 2 else F.avg_pool1d
        x = x.repeat(1, self.count, *([1] * self.macro.dimensions))
        x = self._norm(self._conv(x, self.stem["w"]), self.stem)
        for kind, block in self.blocks:
            if kind == "cell":
                x = self._cell(x, block)
            else:
                pooled = pool(x, 2, 2, ceil_mode=True, count_include_pad=False)
                main = self._relu_conv_norm(self._relu_conv_norm(x, block["a"], 2), block["b"])
                x = self._conv(pooled, block["shortcut"]) + main
        x = torch.relu(self._norm(x, self.last)).flatten(2).mean(-1)
        return torch.einsum("bmc,mkc->bmk", x.view(len(x), self.count, -1), self.weight) + self.bias


def usable_device(name: str) -> torch.device:
    """The torch device of a name; a sentence where this machine does not have it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        why = (str(error) or "it is none of PyTorch's").splitlines()[0].rstrip(".")
        raise ArchGymError(f"this machine cannot train on the device {quote(name)} ({why}); leave it out") from None
    return device


def train_group(
    jobs: Sequence[tuple[int, int]], data: Data, recipe: TrainRecipe, *, device: str = "cpu", logits: bool = False
) -> list[TrainResult]:
    """Train (code, seed) jobs together; results in the order of the jobs. Jobs of different seeds are trained one
    seed after the other, since the order of the data is the seed's. Seconds are the group's, divided by its size."""
    results: dict[int, TrainResult] = {}
    for seed in sorted({seed for _, seed in jobs}):
        places = [i for i, (_, other) in enumerate(jobs) if other == seed]
        group = _train_seed([jobs[i][0] for i in places], seed, data, recipe, device, logits)
        results.update(zip(places, group, strict=True))
    return [results[i] for i in range(len(jobs))]


def _train_seed(
    codes: Sequence[int], seed: int, data: Data, recipe: TrainRecipe, device: str, keep_logits: bool
) -> list[TrainResult]:
    skeleton = macro(recipe.macro)
    group = NetworkGroup(codes, [initial_parameters(code, seed, recipe.macro) for code in codes], skeleton, device)
    return train_together(group, seed, data, recipe, keep_logits)


class Group(Protocol):
    """Networks side by side: what :func:`train_together` needs of them.

    Attributes:
        count: networks M.
        device: where they are.
        parameters: all of them, of all networks.
        training: whether norms take the moments of the batch.
    """

    count: int
    device: torch.device
    parameters: list[Tensor]
    training: bool

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, M, classes)`` of inputs ``(batch, channels, ...)`` that all networks share."""


def train_together(
    group: Group, seed: int, data: Data, recipe: TrainRecipe, keep_logits: bool = False
) -> list[TrainResult]:
    """Train the networks of a group side by side by a recipe; ``seed`` is that of the order of the data. Results in the
    order of the networks, seconds divided by their number."""
    # TensorFloat-32 has ten bits of mantissa: a table is not trained with it.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device, count = group.device, group.count
    optimiser = torch.optim.SGD(
        group.parameters, lr=recipe.rate, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )

    def inputs(x: np.ndarray[Any, Any]) -> Tensor:
        return torch.as_tensor(x, device=device)[:, None]

    x_train, y_train = inputs(data.x_train), torch.as_tensor(data.y_train, device=device)
    steps = recipe.data.train // recipe.batch
    rates = recipe.rates(steps)
    valid: list[Any] = []
    test: list[Any] = []
    losses: list[Any] = []
    seconds: list[float] = []
    spent, done, total, seen = 0.0, 0, torch.zeros(count, device=device), 0
    last = None
    for checkpoint in recipe.checkpoints:
        begin = time.perf_counter()
        total.zero_()
        seen = 0
        for epoch in range(done, checkpoint):
            order = torch.as_tensor(recipe.order(seed, epoch), device=device)
            for step in range(steps):
                rows = order[step * recipe.batch : (step + 1) * recipe.batch]
                for settings in optimiser.param_groups:
                    settings["lr"] = float(rates[epoch * steps + step])
                optimiser.zero_grad(set_to_none=True)
                out = group.forward(x_train[rows])
                target = y_train[rows, None].expand(-1, count)
                loss = F.cross_entropy(out.transpose(1, 2), target, reduction="none").mean(0)
                loss.sum().backward()
                optimiser.step()
                total += loss.detach()
                seen += 1
        if group.device.type == "cuda":
            torch.cuda.synchronize()
        spent += (time.perf_counter() - begin) / count
        done = checkpoint
        seconds.append(spent)
        losses.append((total / seen).cpu().numpy())
        part = recipe.intermediate_samples if checkpoint < recipe.epochs else 0
        for split, x, y in ((valid, data.x_valid, data.y_valid), (test, data.x_test, data.y_test)):
            if part:
                x, y = x[:part], y[:part]
            answers = predict_group(group, inputs(x))
            right = answers.argmax(-1).cpu().numpy() == y[:, None]
            split.append(100.0 * right.sum(0) / len(y))
            if split is valid and keep_logits:
                last = answers.cpu().numpy()
    return [
        TrainResult(
            np.array([row[m] for row in valid]), np.array([row[m] for row in test]),
            np.array([row[m] for row in losses]), np.array(seconds), None if last is None else last[:, m],
        )
        for m in range(count)
    ]  # fmt: skip


@torch.no_grad()
def predict_group(group: Group, x: Tensor, batch: int = 500) -> Tensor:
    """Logits ``(samples, M, classes)`` with the running moments."""
    group.training = False
    try:
        return torch.cat([group.forward(part) for part in x.split(batch)])
    finally:
        group.training = True
