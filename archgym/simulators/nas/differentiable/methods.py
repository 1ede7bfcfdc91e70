"""What the differentiable searches differ in: how mixture weights come from the choices, and which extra terms the
losses have. The loop that they share is in :mod:`archgym.simulators.nas.differentiable.search`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from archgym.errors import UnknownNameError

FEWSHOT = "fewshot-"


@dataclass(frozen=True)
class Method:
    """One search.

    Attributes:
        name: as in commands and agents; origin: the paper.
        mixture: how an edge's weights come from its choices: ``softmax``, ``gumbel`` (soft sample), ``gumbel-hard``
            (one operation, straight-through gradient), ``dirichlet``, ``max-w`` (1 - max p + p), ``two-path``.
        order: of the gradient of the choices: 1, 2, or 0 for the relaxed single-level problem with two copies.
        partial: one channel in so many enters the mixture, and edges have weights of their own.
        warm_up: share of the epochs in which the choices rest, at first (PC-DARTS rests for 15 of 50): operations
            without weights look best as long as the others are untrained.
        first_temperature, last_temperature: of the samples, linear over the run.
        divergence: weight of KL(Dirichlet || uniform Dirichlet).
        distillation: weight of the divergence from the vote of earlier snapshots of the supernet.
        latency: weight of the expected latency, relative to that of the uniform mixture.
        power_annealing: cosine power of the annealing of the weights' rate; 1 = the plain cosine.
        epochs: length of a search where none is asked for: longer where a step trains one operation an edge (GDAS
            itself runs for 240 epochs where DARTS runs for 50).
    """

    name: str
    origin: str
    mixture: str = "softmax"
    order: int = 1
    partial: int = 1
    warm_up: float = 0.3
    first_temperature: float = 1.0
    last_temperature: float = 1.0
    divergence: float = 0.0
    distillation: float = 0.0
    latency: float = 0.0
    power_annealing: float = 1.0
    epochs: int = 30


METHODS = {
    method.name: method
    for method in (
        Method("darts", "DARTS, first order (Liu et al., ICLR 2019)"),
        Method("darts2", "DARTS, second order (Liu et al., ICLR 2019)", order=2),
        Method("pc-darts", "PC-DARTS (Xu et al., ICLR 2020)", partial=2),
        Method(
            "gdas",
            "GDAS (Dong and Yang, CVPR 2019)",
            "gumbel-hard",
            first_temperature=10.0,
            last_temperature=0.1,
            epochs=80,
        ),
        Method("snas", "SNAS (Xie et al., ICLR 2019)", "gumbel", first_temperature=5.0, last_temperature=0.3),
        Method("drnas", "DrNAS (Chen et al., ICLR 2021)", "dirichlet", divergence=1e-3),
        Method("rarts", "RARTS (Xue et al., IEEE Access 2022)", order=0),
        Method("sd-darts", "SD-DARTS (arXiv 2302.05629)", distillation=1.0),
        Method("sharp", "sharpDARTS (Hundt et al., arXiv 1903.09900)", "max-w", power_annealing=10.0),
        Method("proxyless", "ProxylessNAS (Cai et al., ICLR 2019)", "two-path", latency=0.1),
    )
}


def method_of(name: str) -> tuple[Method, bool]:
    """The method called ``name``, and whether it searches in sub-spaces (``fewshot-`` before the name)."""
    plain = name.removeprefix(FEWSHOT)
    if plain not in METHODS:
        raise UnknownNameError("differentiable search", name, [*METHODS, *(FEWSHOT + known for known in METHODS)])
    return METHODS[plain], name.startswith(FEWSHOT)


def probabilities(choices: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the allowed operations of every edge, ``(6, 5)``."""
    return torch.softmax(choices.masked_fill(~allowed, -torch.inf), dim=-1)


def mixture_weights(
    method: Method, choices: Tensor, allowed: Tensor, temperature: float, generator: torch.Generator
) -> Tensor:
    """The mixture weights ``(6, 5)`` of one batch, differentiable in the choices."""
    p = probabilities(choices, allowed)
    if method.mixture == "softmax":
        return p
    if method.mixture == "max-w":
        return torch.where(allowed, 1.0 - p.max(-1, keepdim=True).values + p, 0.0)
    if method.mixture == "dirichlet":
        concentration = F.elu(choices) + 1.0
        rows = [
            torch.zeros(5, dtype=p.dtype).index_put(
                (torch.nonzero(allowed[e])[:, 0],), _dirichlet(concentration[e][allowed[e]], generator)
            )
            for e in range(6)
        ]
        return torch.stack(rows)
    uniform = torch.rand(p.shape, generator=generator, dtype=p.dtype).clamp_min(1e-9)
    noise = -torch.log(-torch.log(uniform))
    soft = torch.softmax((torch.log(p.clamp_min(1e-30)) + noise) / temperature, dim=-1)
    soft = torch.where(allowed, soft, 0.0)
    if method.mixture == "gumbel":
        return soft
    hard = F.one_hot(soft.argmax(-1), 5).to(p.dtype)
    return hard - soft.detach() + soft


def _dirichlet(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """A pathwise sample; torch draws from its global generator, which the search has seeded for itself."""
    result: Tensor = torch.distributions.Dirichlet(concentration, validate_args=False).rsample()
    return result


def dirichlet_divergence(choices: Tensor, allowed: Tensor) -> Tensor:
    """Sum over edges of KL(Dir(elu(a) + 1) || Dir(1))."""
    total = torch.zeros((), dtype=choices.dtype)
    for edge in range(6):
        here = (F.elu(choices[edge]) + 1.0)[allowed[edge]]
        total = total + torch.distributions.kl_divergence(
            torch.distributions.Dirichlet(here, validate_args=False),
            torch.distributions.Dirichlet(torch.ones_like(here), validate_args=False),
        )
    return total


def two_paths(choices: Tensor, allowed: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """ProxylessNAS's gates: two operations an edge, drawn by their probabilities without replacement.

    Returns the gates ``(6, 5)`` (one operation open, the gradient through the softmax over the pair) and the pairs,
    int64 ``(6, 2)``.
    """
    p = probabilities(choices.detach(), allowed)
    pairs = torch.multinomial(p.clamp_min(1e-12) * allowed, 2, generator=generator)
    soft = torch.softmax(choices.gather(1, pairs), dim=-1)
    first = torch.rand(6, generator=generator, dtype=p.dtype) < soft.detach()[:, 0]
    hard = torch.stack([first, ~first], dim=1).to(p.dtype)
    gates = torch.zeros_like(p).scatter(1, pairs, hard - soft.detach() + soft)
    return gates, pairs


def one_path(choices: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """One open operation an edge, drawn by the probabilities, ``(6, 5)``, without a gradient."""
    p = probabilities(choices.detach(), allowed)
    return F.one_hot(torch.multinomial(p, 1, generator=generator)[:, 0], 5).to(p.dtype)


def keep_other_probabilities(before: Tensor, after: Tensor, pairs: Tensor) -> Tensor:
    """The choices after a step of the pairs alone, each pair shifted so that the other probabilities stay."""
    with torch.no_grad():
        old, new = before.gather(1, pairs), after.gather(1, pairs)
        new = new + torch.logsumexp(old, 1, keepdim=True) - torch.logsumexp(new, 1, keepdim=True)
        return before.scatter(1, pairs, new)
