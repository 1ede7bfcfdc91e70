"""Policies that carry over between the workloads of a simulator: trained over many, asked for a design of one never seen.

A policy is the network of :mod:`archgym.agents.autoregressive` with a second one before it, which turns the workload's features
into where the hidden layer starts. It is trained by PPO on all workloads at once. What a draw earns is its rank among the
draws for the same workload in the same batch, so that workloads and objectives of any scale weigh the same; noise on the
features keeps the policy from learning the workloads by heart.

Which of a few designs is best on a workload never seen can be told from how they did on workloads like it (algorithm selection:
Rice, Advances in Computers, 1976): a policy can keep the most likely designs of all workloads that it was trained on, its own
and those of policies from other seeds, each simulated on all of these workloads, and choose among them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from archgym.agents.autoregressive import Floats, adam, advantages_of, drawn, log_likelihood, surrogate, uniform
from archgym.agents.rewards import quantiles
from archgym.agents.starting import allowed
from archgym.errors import ArchGymError
from archgym.objective import Rewards
from archgym.problem import Problem, parse_name
from archgym.reading import checked, parse_json, quote_path, read_arrays
from archgym.space import Designs, DesignSpace
from archgym.writing import finite, replacing

Array = NDArray[np.float64]

WORST = -2.0
"""What an infeasible design earns; the worst feasible one of a batch earns -1, the best 1."""


DRAWS = 4096
"""Draws from a policy among which those are looked for that keep the declared constraints."""
HEATS = (1.0, 2.0, 4.0, 8.0, np.inf)
"""By what a policy's logits are divided, one after the other until a draw keeps the constraints; the last draws are uniform."""


@dataclass(frozen=True)
class Training:
    """How a policy is trained.

    Attributes:
        updates: batches of designs.
        workloads: workloads in a batch, drawn anew each time where there are more.
        designs: designs a workload and batch.
        epochs: passes over a batch.
        learning_rate: step of Adam, falling linearly to a tenth of it.
        entropy: weight of the entropy bonus, falling linearly to a tenth of it.
        clip: range of the probability ratio.
        width: units of the hidden layer.
        noise: deviation of the noise on the features, in deviations of the features over the workloads.
        bandwidth: how unlike, in ranks of the features, workloads are whose simulations still count where a design is chosen
            for one that was never seen; 0 for a policy that takes its most likely design.
        members: policies whose most likely designs are chosen among; the first one is kept.
        seed: of everything random.
    """

    updates: int = 300
    workloads: int = 16
    designs: int = 16
    epochs: int = 3
    learning_rate: float = 0.005
    entropy: float = 0.05
    clip: float = 0.2
    width: int = 64
    noise: float = 1.0
    bandwidth: float = 0.0
    members: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.bandwidth <= 10.0:
            raise ArchGymError(f"bandwidth is {self.bandwidth!r}; expected a number from 0 to 10")
        if self.members > 1 and self.bandwidth == 0.0:
            raise ArchGymError(
                f"members is {self.members}, but a policy chooses among the designs of its members only with a bandwidth above "
                "0; give one, or one member"
            )


class Memory:
    """The rewards of a problem's designs, each simulated once; at ``fidelity``, or the problem's own where None."""

    def __init__(self, problem: Problem, fidelity: str | None = None) -> None:
        problem.simulator.check_fidelity(problem.workload, fidelity)
        self.problem, self.fidelity, self._known = problem, fidelity, dict[bytes, tuple[float, bool]]()

    def __call__(self, designs: Designs) -> tuple[Rewards, NDArray[np.bool_]]:
        """Rewards and feasibility of designs ``(n, d)``."""
        canonical = self.problem.space.canonical(designs)
        keys = [row.tobytes() for row in canonical]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            evaluation, rewards = self.problem.evaluate(canonical[list(new.values())], fidelity=self.fidelity)
            for key, reward, feasible in zip(new, rewards.tolist(), evaluation.feasible.tolist(), strict=True):
                self._known[key] = reward, feasible
        told = [self._known[key] for key in keys]
        return np.array([reward for reward, _ in told]), np.array([feasible for _, feasible in told])

    def __len__(self) -> int:
        return len(self._known)

    @property
    def best(self) -> float:
        """The highest reward of a feasible design so far; NaN before there is one."""
        return max((reward for reward, feasible in self._known.values() if feasible), default=math.nan)


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """What a policy's file says of it."""

    format: int
    simulator: str
    parameters: list[str]
    levels: list[list[str]]
    features: Annotated[list[str], msgspec.Meta(max_length=10_000)]
    workloads: list[str]
    options: dict[str, Any]
    training: dict[str, Any]
    simulations: int


FORMATS = (1, 2)
"""Of the files that are read; the second may hold a shortlist."""
_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Shortlist:
    """Designs to choose from, and how good they were on the workloads that a policy was trained on.

    Attributes:
        designs: ``(m, d)``.
        worth: of each on each workload, 0 for the best to -1 from the median on, :data:`WORST` where infeasible; ``(n, m)``.
        features: of these workloads, ``(n, f)``.
        bandwidth: see :class:`Training`.
    """

    designs: Designs
    worth: Array
    features: Array
    bandwidth: float

    @classmethod
    def simulated(cls, designs: Designs, memories: Sequence[Memory], bandwidth: float) -> Shortlist:
        """The distinct ones of ``designs``, each simulated on all problems of ``memories``."""
        problems = [memory.problem for memory in memories]
        distinct = np.unique(problems[0].space.canonical(designs), axis=0)
        worth = np.array([_worth(*memory(distinct)) for memory in memories])
        return cls(distinct, worth, features_of(problems)[1], bandwidth)

    def best(self, space: DesignSpace, features: Array) -> Designs:
        """The design ``(1, d)`` with the best mean worth over the workloads, weighted by how near their features are to those
        given ``(f,)``, among the designs that keep the constraints of ``space``; ``(0, d)`` where none does."""
        kept = allowed(space, self.designs)
        if not kept.any():
            return self.designs[:0]
        gaps = _ranks(self.features, self.features) - _ranks(features[None], self.features)
        squares = (gaps**2).mean(axis=1)
        weights = np.exp((squares.min() - squares) / (2.0 * self.bandwidth**2))
        score = np.where(kept, weights @ self.worth, -np.inf)
        return self.designs[[score.argmax()]]


def _worth(rewards: Rewards, feasible: NDArray[np.bool_]) -> Rewards:
    """Of designs for one workload: 0 for the best to -1 from the median of the feasible on, :data:`WORST` for the others."""
    worth = np.full(len(rewards), WORST)
    if feasible.any():
        good = rewards[feasible]
        span = good.max() - np.median(good)
        worth[feasible] = np.maximum((good - good.max()) / (span if span > 0 else 1.0), -1.0)
    return worth


def _ranks(values: Array, among: Array) -> Array:
    """The shares of ``among`` ``(n, f)`` that each of ``values`` ``(k, f)`` is above, column by column; equal ones count half."""
    columns = zip(values.T, np.sort(among, axis=0).T, strict=True)
    both = [np.searchsorted(own, value, "left") + np.searchsorted(own, value, "right") for value, own in columns]
    return np.stack(both, axis=1) / (2.0 * len(among))


class Policy:
    """A policy over the workloads of a simulator.

    Attributes:
        about: the file's facts: simulator, parameters and their levels, the features' names, the workloads that it was
            trained on, their options, how it was trained, and by how many simulations.
        offsets: where each parameter's values begin among all values, ``(d + 1,)``.
        center, spread: of the features over the training workloads, ``(f,)``.
        encoder: two layers, ``(f + 1, width)`` with the bias in the last row, and ``(width, width)``.
        net: as in :mod:`archgym.agents.autoregressive`.
        shortlist: designs to choose from, where it was trained with a bandwidth.
    """

    def __init__(
        self, about: _Facts, center: Array, spread: Array, encoder: tuple[Floats, Floats], net: Floats,
        shortlist: Shortlist | None = None,
    ) -> None:  # fmt: skip
        self.about, self.center, self.spread, self.encoder, self.net = about, center, spread, encoder, net
        self.shortlist = shortlist
        self.offsets = np.concatenate(([0], np.cumsum([len(levels) for levels in about.levels])))

    @classmethod
    def untrained(cls, problems: Sequence[Problem], how: Training, rng: np.random.Generator) -> Policy:
        """A policy for problems of one space that proposes uniform designs."""
        names, features = features_of(problems)
        space, width, f = problems[0].space, how.width, len(names)
        about = _Facts(
            FORMATS[-1], parse_name(problems[0].name)[0], *_described(space), names,
            [problem.name for problem in problems], _shared_options(problems), asdict(how), 0,
        )  # fmt: skip
        spread = features.std(axis=0)
        spread[spread < 1e-9] = 1.0
        encoder = (
            (rng.normal(size=(f + 1, width)) / np.sqrt(f + 1)).astype(np.float32),
            (rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32),
        )
        encoder[1][:, -1] = 0.0  # the last unit is constant
        return cls(about, features.mean(axis=0), spread, encoder, uniform(space.nvec, width, rng))

    def save(self, path: Path | str) -> Path:
        """Write the policy: an .npz of numbers and one JSON text."""
        text = json.dumps(msgspec.to_builtins(self.about), sort_keys=True).encode()
        arrays: dict[str, Any] = {"center": self.center, "spread": self.spread, "net": self.net}
        arrays |= {"features": self.encoder[0], "inner": self.encoder[1]}
        if self.shortlist is not None:
            arrays |= {f"shortlist.{name}": value for name, value in vars(self.shortlist).items()}
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(text, dtype=np.uint8), **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Policy:
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises:
            ArchGymError: for files that are missing, damaged, foreign or malformed.
        """
        where = f"the policy {quote_path(path)}"
        arrays = read_arrays(path, "policy", _LIMIT_BYTES)
        text = arrays.pop("about", None)
        if text is None or text.dtype != np.uint8 or text.ndim != 1:
            raise ArchGymError(f"{quote_path(path)} is no policy; give a file that 'archgym policy train' wrote")
        facts: _Facts = checked(parse_json(text.tobytes(), where), _Facts, where)
        values, f = sum(len(levels) for levels in facts.levels), len(facts.features)
        width = arrays["net"].shape[-1] if arrays.get("net", np.empty(0)).ndim == 2 else 0
        shapes: dict[str, tuple[int, ...]] = {
            "center": (f,), "spread": (f,), "features": (f + 1, width), "inner": (width, width),
            "net": (1 + 2 * values + len(facts.parameters), width),
        }  # fmt: skip
        designs = arrays.pop("shortlist.designs", None) if facts.format > 1 else None
        if designs is not None:
            n, m = len(facts.workloads), len(designs) if designs.ndim else 0
            shapes |= {"shortlist.worth": (n, m), "shortlist.features": (n, f), "shortlist.bandwidth": ()}
        fits = facts.format in FORMATS and len(facts.levels) == len(facts.parameters) and width > 1
        fits = fits and {name: array.shape for name, array in arrays.items()} == shapes
        fits = fits and all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays.values())
        if not fits or not (designs is None or (_are_designs(designs, facts) and arrays["shortlist.bandwidth"] > 0)):
            raise ArchGymError(f"{where} is malformed or of another version; train it again")
        center, spread = (arrays[name].astype(np.float64) for name in ("center", "spread"))
        first, inner, net = (np.ascontiguousarray(arrays[name], np.float32) for name in ("features", "inner", "net"))
        shortlist = None
        if designs is not None:
            worth, features, bandwidth = (
                arrays[f"shortlist.{name}"].astype(np.float64) for name in ("worth", "features", "bandwidth")
            )
            shortlist = Shortlist(designs.astype(np.int64), worth, features, float(bandwidth))
        return cls(facts, center, np.where(spread > 0, spread, 1.0), (first, inner), net, shortlist)

    def check(self, problem: Problem) -> None:
        """Raises where the policy was trained for another simulator, for other parameters or on other features."""
        about, own = self.about, sorted(problem.workload.features())
        kind = parse_name(problem.name)[0]
        if kind != about.simulator:
            raise ArchGymError(f"the policy was trained for {about.simulator}, not for {kind}; train one for it")
        if (about.parameters, about.levels) != _described(problem.space):
            raise ArchGymError(f"the policy was trained for other parameters than those of {problem.name}; train one")
        if about.features != own:
            raise ArchGymError(f"the policy knows workloads by other features than those of {problem.name}; train one")

    def inputs(self, features: Array) -> Floats:
        """Features ``(n, f)`` as the encoder takes them, ``(n, f + 1)``: scaled, within 3 deviations, and a one."""
        scaled = np.clip((features - self.center) / self.spread, -3.0, 3.0)
        return np.column_stack([scaled, np.ones(len(scaled))]).astype(np.float32)

    def context(self, inputs: Floats) -> tuple[Floats, Floats]:
        """What the workload adds to the start of the hidden layer, ``(n, width)``, and the encoder's inner layer."""
        inner = np.tanh(inputs @ self.encoder[0])
        return inner @ self.encoder[1], inner

    def net_for(self, problem: Problem) -> Floats:
        """The network with what the problem's workload adds to its start, as ``ppo-fast`` takes it."""
        self.check(problem)
        context, _ = self.context(self.inputs(features_of([problem])[1]))
        net = self.net.copy()
        net[0] += context[0]
        return net

    def design(self, problem: Problem) -> Designs:
        """The design to evaluate first, ``(1, d)``: of the shortlist the one that was best on workloads like that of ``problem``,
        else the most likely one. Nothing is simulated."""
        self.check(problem)
        if self.shortlist is not None:
            chosen = self.shortlist.best(problem.space, features_of([problem])[1][0])
            if len(chosen):
                return chosen
        return self.greedy(problem)

    def greedy(self, problem: Problem) -> Designs:
        """The design that takes the most likely value, parameter by parameter, ``(1, d)``. Where that breaks a declared
        constraint: the most likely of some thousand draws that keep them, and from there on the most likely neighbour
        that keeps them while there is a more likely one. Nothing is simulated."""
        net, space = self.net_for(problem), problem.space
        values, total, design = int(self.offsets[-1]), net[0], []
        for first, end in zip(self.offsets, self.offsets[1:], strict=False):
            logits = net[1 + values + first : 1 + values + end] @ np.maximum(total, 0.0)
            design.append(int(logits.argmax()))
            total = total + net[1 + first + design[-1]]
        best = np.array([design], dtype=np.int64)
        if allowed(space, best)[0]:
            return best
        among = self._allowed_draws(net, space)
        while len(among):  # where none is to be had the design is proposed as it is
            found = among[[log_likelihood(net, self.offsets, among).argmax()]]
            if np.array_equal(found, best):
                break
            best = found
            among = np.concatenate([best, space.neighbours(best[0])])
            among = among[allowed(space, among)]
        return best

    def _allowed_draws(self, net: Floats, space: DesignSpace) -> Designs:
        """Draws that keep the declared constraints ``(n, d)``, from the policy or from flatter ones where none of its own does."""
        rng, heads, flat = np.random.default_rng(0), slice(1 + int(self.offsets[-1]), None), net.copy()
        context = np.zeros((DRAWS, net.shape[1]), dtype=np.float32)
        for heat in HEATS:
            flat[heads] = net[heads] / np.float32(heat)
            designs, _, _ = drawn(flat, self.offsets, context, rng)
            kept = designs[allowed(space, designs)]
            if len(kept):
                break
        return kept


def _are_designs(designs: NDArray[Any], facts: _Facts) -> bool:
    counts = np.array([len(levels) for levels in facts.levels])
    whole = designs.dtype.kind == "i" and designs.ndim == 2 and designs.shape[1] == len(counts) and len(designs) > 0
    return bool(whole and (designs >= 0).all() and (designs < counts).all())


def _shared_options(problems: Sequence[Problem]) -> dict[str, Any]:
    """The options that all problems have, as JSON holds them."""
    first, *others = (json.loads(json.dumps(finite(problem.options), default=str)) for problem in problems)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _described(space: DesignSpace) -> tuple[list[str], list[list[str]]]:
    return list(space.names), [[str(value) for value in parameter.values] for parameter in space.parameters]


def features_of(problems: Sequence[Problem]) -> tuple[list[str], Array]:
    """Names of the features of the problems' workloads, in alphabetical order, and their values ``(n, f)``."""
    each = [problem.workload.features() for problem in problems]
    names = sorted(each[0])
    for problem, own in zip(problems, each, strict=True):
        if sorted(own) != names:
            raise ArchGymError(f"{problem.name} has other features than {problems[0].name}; leave one of them out")
    return names, np.array([[own[name] for name in names] for own in each])


def train(memories: Sequence[Memory], how: Training, follow: Callable[[int], None] | None = None) -> Policy:
    """A policy trained on the problems of ``memories``, which have one space; ``follow`` is told of each update."""
    known, problems = sum(map(len, memories)), [memory.problem for memory in memories]
    members = []
    for member in range(how.members):
        rng = np.random.default_rng([how.seed, member] if member else how.seed)
        members.append(_trained(memories, how, rng, member * how.updates, follow))
    policy = members[0]
    if how.bandwidth > 0:
        likely = np.concatenate([member.greedy(problem) for member in members for problem in problems])
        policy.shortlist = Shortlist.simulated(likely, memories, how.bandwidth)
    policy.about.training["fidelity"] = memories[0].fidelity
    policy.about.simulations = sum(map(len, memories)) - known
    return policy


def _trained(
    memories: Sequence[Memory],
    how: Training,
    rng: np.random.Generator,
    before: int,
    follow: Callable[[int], None] | None,
) -> Policy:
    """A policy without a shortlist; ``before`` updates have been told of."""
    problems = [memory.problem for memory in memories]
    policy = Policy.untrained(problems, how, rng)
    features = features_of(problems)[1]
    arrays = [policy.net, *policy.encoder]
    moments = [np.zeros((2, *array.shape), dtype=np.float32) for array in arrays]
    given, d, steps = policy.inputs(features), problems[0].space.dimension, 0
    for update in range(how.updates):
        decay = 1.0 - 0.9 * update / how.updates
        some = rng.permutation(len(problems))[: how.workloads]
        inputs = given[some]
        # One noise a workload and batch: all draws that are compared were made for one description.
        inputs[:, :-1] += how.noise * rng.normal(size=(len(some), given.shape[1] - 1))
        inputs = np.repeat(inputs, how.designs, axis=0)
        context, _ = policy.context(inputs)
        designs, log_p, baseline = drawn(policy.net, policy.offsets, context, rng)
        returns = np.concatenate(
            [earned(*memories[i](part)) for i, part in zip(some, designs.reshape(-1, how.designs, d), strict=True)]
        ).astype(np.float32)
        advantages = advantages_of(returns, baseline)
        for _ in range(how.epochs):
            context, inner = policy.context(inputs)
            gradient, of_context = np.zeros_like(policy.net), np.zeros_like(context)
            surrogate(
                policy.net, policy.offsets, context, designs, log_p, returns, advantages, how.clip, decay * how.entropy,
                gradient, of_context,
            )  # fmt: skip
            of_context[:, -1] = 0.0
            of_inner = (of_context @ policy.encoder[1].T) * (1.0 - inner**2)
            gradients = [gradient, inputs.T @ of_inner, inner.T @ of_context]
            steps += 1
            for array, change, moment in zip(arrays, gradients, moments, strict=True):
                adam(array, change, moment, steps, decay * how.learning_rate)
        if follow is not None:
            follow(before + update)
    return policy


def earned(rewards: Rewards, feasible: NDArray[np.bool_]) -> Rewards:
    """What draws for one workload earn: from -1 to 1 by rank among the feasible, :data:`WORST` for the others."""
    result = np.full(len(rewards), WORST)
    if feasible.any():
        result[feasible] = 2.0 * quantiles(rewards[feasible]) - 1.0
    return result


def related(problems: Sequence[Problem]) -> list[list[int]]:
    """The positions of the problems in groups of related workloads: whose names begin with the same letters (``archgym_``
    left out), or whose features are equal within 1 %."""
    _, features = features_of(problems)
    stems = [_stem(parse_name(problem.name)[1]) for problem in problems]
    group = list(range(len(problems)))
    for i in range(len(problems)):
        for j in range(i):
            if stems[i] == stems[j] or np.allclose(features[i], features[j], rtol=0.01, atol=1e-3):
                group = [group[j] if g == group[i] else g for g in group]
    return [[i for i, g in enumerate(group) if g == own] for own in sorted(set(group))]


def _stem(name: str) -> str:
    found = re.match(r"(?:archgym_)?([a-z]+)", name)
    return found[1] if found else name


@dataclass(frozen=True)
class Judgement:
    """A policy's design for a workload against uniform random search.

    Attributes:
        problem: name of the problem.
        reward: of the policy's design.
        feasible: whether that is feasible.
        random_best: median over repeats of the best reward of random search with as many evaluations.
        beats: share of the repeats whose best is no better than the policy's design.
        best: the known optimum, or where none is known the best reward of all designs simulated: a bound from below.
    """

    problem: str
    reward: float
    feasible: bool
    random_best: float
    beats: float
    best: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether one evaluation was at least as good as random search's median best; an infeasible design never is."""
        return self.feasible and self.reward >= self.random_best


def judge(policy: Policy, memory: Memory, evaluations: int = 100, repeats: int = 20, seed: int = 0) -> Judgement:
    """Compare with random search, whose ``evaluations`` are distinct designs as everywhere."""
    space, rng = memory.problem.space, np.random.default_rng([seed, 1])
    proposed: list[Designs] = []
    for _ in range(repeats):
        designs = space.canonical(space.sample(3 * evaluations, rng))
        first = np.sort(np.unique(designs, axis=0, return_index=True)[1])[:evaluations]
        proposed.append(designs[first])
    rewards, _ = memory(np.concatenate(proposed))
    cuts = np.cumsum([len(designs) for designs in proposed])[:-1]
    best = np.array([part.max() for part in np.split(rewards, cuts)])
    own, feasible = memory(policy.design(memory.problem))
    optimum = memory.problem.optimum
    return Judgement(
        memory.problem.name, float(own[0]), bool(feasible[0]), float(np.median(best)), float((own[0] >= best).mean()),
        float(np.fmax(memory.best, math.nan if optimum is None else optimum.reward)),
    )  # fmt: skip


def interval(groups: Sequence[Sequence[bool]], level: float = 0.95, resamples: int = 10_000) -> tuple[float, float]:
    """Percentile interval of the share of successes over all workloads, by resampling whole groups: what is related is no
    independent evidence. One group gives no interval but the share itself."""
    held, count = np.array([[sum(group), len(group)] for group in groups], dtype=np.float64).T
    drawn = np.random.default_rng(0).integers(len(held), size=(resamples, len(held)))
    shares = held[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(shares, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
