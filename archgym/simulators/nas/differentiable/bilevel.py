"""The two-level problem min over a of L_val(w*(a), a), w*(a) = argmin over w of L_train(w, a), by gradients.

A loss is a function of (weights, choices), both lists of tensors; all functions here return gradients or move the
tensors they are given, and know nothing of networks: the toy problem of the DARTS paper tests them in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def gradients(loss: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    """Gradients, zero where the loss does not depend on a tensor."""
    found = torch.autograd.grad(loss, list(of), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, of, strict=True)]


def first_order(validation: Loss, weights: Sequence[Tensor], choices: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of the validation loss in the choices with the weights as they are (DARTS, first order)."""
    return gradients(validation(weights, choices), choices)


def second_order(
    training: Loss,
    validation: Loss,
    weights: Sequence[Tensor],
    choices: Sequence[Tensor],
    rate: float,
    momentum: Sequence[Tensor] | None = None,
    mu: float = 0.0,
    decay: float = 0.0,
) -> list[Tensor]:
    """Gradient of L_val(w', a), w' = w - rate * (momentum-corrected gradient of L_train), the second derivative by
    finite differences (Liu et al., "DARTS", ICLR 2019, equations 7 and 8).

    Args:
        rate: inner step; momentum, mu, decay: of the optimiser of the weights, so that w' is its next step.
    """
    steps = gradients(training(weights, choices), weights)
    with torch.no_grad():
        ahead = []
        for k, (w, g) in enumerate(zip(weights, steps, strict=True)):
            g = g + decay * w
            if momentum is not None:
                g = g + mu * momentum[k]
            ahead.append((w - rate * g).requires_grad_())
    every = gradients(validation(ahead, choices), [*ahead, *choices])
    at_weights, at_choices = every[: len(ahead)], every[len(ahead) :]
    size = float(torch.sqrt(sum((v.double() ** 2).sum() for v in at_weights)))
    if size == 0.0:
        return at_choices
    epsilon = 0.01 / size
    shifted = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            moved = [(w + sign * epsilon * v).requires_grad_() for w, v in zip(weights, at_weights, strict=True)]
        shifted.append(gradients(training(moved, choices), choices))
    return [
        g - rate * (plus - minus) / (2.0 * epsilon)
        for g, plus, minus in zip(at_choices, shifted[0], shifted[1], strict=True)
    ]


def rarts_weights(
    training: Loss,
    weights: Sequence[Tensor],
    copies: Sequence[Tensor],
    choices: Sequence[Tensor],
    weight: float,
    pull: float,
) -> list[Tensor]:
    """Gradient in w of weight * L_train(w, a) + pull / 2 * |w - y|^2 (RARTS, Xue et al., IEEE Access 2022)."""
    steps = gradients(weight * training(weights, choices), weights)
    return [g + pull * (w - y).detach() for g, w, y in zip(steps, weights, copies, strict=True)]


def rarts_choices(
    training: Loss,
    validation: Loss,
    weights: Sequence[Tensor],
    copies: Sequence[Tensor],
    choices: Sequence[Tensor],
    weight: float,
) -> list[Tensor]:
    """Gradient in the choices of weight * L_train(w, a) + L_val(y, a)."""
    return gradients(weight * training(weights, choices) + validation(copies, choices), choices)
