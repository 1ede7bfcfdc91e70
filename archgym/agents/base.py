"""What every agent is: a class with documented hyperparameters that speaks ask/tell."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError, check_seed
from archgym.extras import extra_with
from archgym.objective import Rewards
from archgym.problem import Problem
from archgym.registry import AGENTS, CELL_AGENTS
from archgym.simulator import Evaluation
from archgym.space import Designs

if TYPE_CHECKING:
    from archgym.evaluator import Evaluator


def hyper(
    default: Any, *, low: Any = None, high: Any = None, log: bool = False, choices: Sequence[Any] = (), doc: str
) -> Any:
    """A hyperparameter: default, its sensible range (``low``..``high``, or ``choices``) and a sentence. Studies draw
    their grids from the ranges; values outside are refused."""
    about = {"low": low, "high": high, "log": log, "choices": tuple(choices), "doc": doc}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Hyperparameters:
    """Base of the agents' hyperparameter classes; checks every value against its declared range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), field.metadata
            if about.get("choices") and value not in about["choices"]:
                raise ArchGymError(
                    f"hyperparameter {field.name} is {value!r}; expected one of {', '.join(map(str, about['choices']))}"
                )
            if about.get("low") is not None:
                number = isinstance(value, int | float) and not isinstance(value, bool)
                whole = isinstance(field.default, int)
                if not number or not about["low"] <= value <= about["high"] or (whole and value != int(value)):
                    kind = ", a whole number" if whole else ""
                    raise ArchGymError(
                        f"hyperparameter {field.name} is {value!r}; expected {about['low']}..{about['high']}{kind}"
                    )
                # 32.0 from a file and 32 are one value: they must give one hash.
                object.__setattr__(self, field.name, int(value) if whole else float(value))

    def as_dict(self) -> dict[str, Any]:
        """Name -> value, JSON-able."""
        return dataclasses.asdict(self)


def hyperparameter_ranges(agent: str | type[Searcher[Any]]) -> dict[str, Mapping[str, Any]]:
    """Name -> default, low, high, log, choices, doc of an agent's hyperparameters."""
    cls = load_agent(agent) if isinstance(agent, str) else agent
    return {f.name: {"default": f.default, **f.metadata} for f in dataclasses.fields(cls.hyperparameters)}


H = TypeVar("H", bound=Hyperparameters)


class Searcher(ABC, Generic[H]):
    """What a run needs: hyperparameters, one source of randomness, and :meth:`run`. Most derive from :class:`Agent`, which
    speaks ask/tell; what must drive the search itself (reinforcement learning through an environment) derives from this.

    Attributes:
        problem: the problem (its space, metrics and directions; never its simulator).
        space: the design space.
        rng: the run's only source of randomness.
        p: the hyperparameters.
        on_measured: called with the agent's own scalars (losses, entropies, ...) by name; set by who logs them.
        anytime: whether a run with a larger budget starts with the designs of one with a smaller budget, so that it can
            be continued; False where the agent plans over its budget.
    """

    name: ClassVar[str]
    hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    anytime: ClassVar[bool] = True
    several_fidelities: ClassVar[bool] = False
    """Whether it asks for designs at the problem's cheaper fidelities, too (:attr:`archgym.problem.Problem.cheaper`)."""
    exact: ClassVar[bool] = True
    """Whether a seed gives the same designs on any machine; False where the agent learns by large sums of floats."""

    def __init__(self, problem: Problem, seed: int, hyperparameters: H | None = None) -> None:
        self.problem, self.space, self.seed = problem, problem.space, seed
        self.p: H = hyperparameters or cast(H, self.hyperparameters())
        # The name keeps agents with equal seeds from walking through the same random numbers.
        self.rng = np.random.default_rng([seed, *type(self).__name__.encode()])
        self.on_measured: Callable[[Mapping[str, float]], None] | None = None

    @abstractmethod
    def run(self, evaluator: Evaluator, batch: int = 1024) -> None:
        """Search until the evaluator is exhausted (or raises BudgetExhausted); ``batch``: the most designs at once."""

    def measured(self, scalars: Mapping[str, float]) -> None:
        """Tell the run's log, where there is one, what the agent measures of itself (losses, entropies): name -> value,
        named as TensorBoard groups them (``train/loss``). It changes nothing else."""
        if self.on_measured is not None:
            self.on_measured(scalars)


STALE = 1000
"""Trials over which an agent is watched for convergence."""

FRESH = 10
"""New designs among these without which it has converged."""


class Agent(Searcher[H]):
    """A search algorithm that speaks ask/tell.

    Subclasses set ``name`` and ``hyperparameters`` (their Hyperparameters class) and write ``ask`` and ``tell`` (or
    derive from :class:`GenerationalAgent`).

    Attributes:
        parents: rows ``(m, d)`` beside those of the last ask: the design that each was changed from, -1 in a row that was
            made from none; None (the default) where none was. Simulators whose designs inherit take it.
        fidelity: at which the designs of the last ask are to be evaluated, one of the problem's cheaper ones; None (the
            default) for the problem's own. Only agents with ``several_fidelities`` set it.
    """

    parents: Designs | None = None
    fidelity: str | None = None

    @abstractmethod
    def ask(self, n: int) -> Designs:
        """Propose designs, int64 ``(m, d)`` with 1 <= m <= n."""

    @abstractmethod
    def tell(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        """Learn what became of designs that were asked for: always a prefix of the last ask."""

    def restart(self) -> bool:
        """Begin anew at other designs, since nearly all of the last ones were repeats; the random generator goes on.
        False (the default) for an agent that does not converge or has its own way out."""
        return False

    def run(self, evaluator: Evaluator, batch: int = 1024) -> None:
        """Ask, evaluate, tell, until the run is over. An ask is never cut to what is left of the budget (the evaluator
        does that), so that an agent goes the same way under every budget. One that has converged is told to start
        anew."""
        trials, simulated = evaluator.trials, evaluator.evaluations
        while not evaluator.exhausted:
            asked = self.ask(batch)
            self.tell(*evaluator.evaluate(asked, self.parents, fidelity=self.fidelity))
            if evaluator.trials - trials >= STALE:
                if evaluator.evaluations - simulated < FRESH:
                    self.restart()
                trials, simulated = evaluator.trials, evaluator.evaluations


class GenerationalAgent(Agent[H]):
    """An agent that proposes whole generations and learns from whole generations.

    Subclasses write :meth:`propose` and :meth:`learn`; this class hands the generation out in the pieces that are
    asked for and collects what is told. So the run does not depend on how the asks are cut. An agent that can converge
    writes :meth:`forget` too.
    """

    def __init__(self, problem: Problem, seed: int, hyperparameters: H | None = None) -> None:
        super().__init__(problem, seed, hyperparameters)
        self._generation = np.empty((0, self.space.dimension), dtype=np.int64)
        self._asked_from = 0
        self.bred_from: Designs | None = None
        """Parents of the generation, ``(k, d)``; :meth:`propose` sets it where there are any."""
        self._told: list[tuple[Evaluation, Rewards]] = []

    @abstractmethod
    def propose(self) -> Designs:
        """The next generation, int64 ``(k, d)`` with k >= 1."""

    @abstractmethod
    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        """Learn from the whole generation that :meth:`propose` returned last, in its order."""

    def forget(self) -> bool:
        """Forget what was learnt, so that the next generation is a first one; False where the agent has no need to."""
        return False

    def restart(self) -> bool:
        if not self.forget():
            return False
        self._generation, self._asked_from, self._told = self._generation[:0], 0, []
        return True

    def ask(self, n: int) -> Designs:
        if self._asked_from >= len(self._generation):
            self.bred_from = None
            self._generation, self._asked_from = self.propose(), 0
            if len(self._generation) <= n:
                self.parents = self.bred_from
                return self._generation
        self.parents = None if self.bred_from is None else self.bred_from[self._asked_from : self._asked_from + n]
        return self._generation[self._asked_from : self._asked_from + n]

    def tell(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if len(rewards) == len(self._generation):
            self._asked_from = len(rewards)
            self.learn(self._generation, evaluation, rewards.copy())
            return
        self._told.append((evaluation, rewards))
        self._asked_from += len(rewards)
        if self._asked_from >= len(self._generation):
            told, self._told = self._told, []
            whole = Evaluation.concatenate([part for part, _ in told])
            self.learn(self._generation, whole, np.concatenate([part for _, part in told]))


def make_agent(name: str, problem: Problem, seed: int = 0, **hyperparameters: Any) -> Searcher[Any]:
    """Make a registered agent; unknown names and hyperparameters raise one sentence."""
    agent: Searcher[Any] = load_agent(name)(problem, check_seed(seed), given_hyperparameters(name, hyperparameters))
    return agent


def given_hyperparameters(name: str, given: Mapping[str, Any]) -> Any:
    """The hyperparameters of a registered agent, those given in place of the defaults; unknown names raise one sentence."""
    make = load_agent(name).hyperparameters
    known = [field.name for field in dataclasses.fields(make)]
    for hyperparameter in given:
        if hyperparameter not in known:
            raise UnknownNameError(f"hyperparameter of {name}", hyperparameter, known)
    return make(**given)


def load_agent(name: str) -> type[Searcher[Any]]:
    """The registered agent class, or one of your own by ``module:Class``; a missing library names the extra that brings
    it."""
    if ":" in name:
        return _own_agent(name)
    known = CELL_AGENTS if name in CELL_AGENTS and name not in AGENTS else AGENTS
    try:
        cls: type[Searcher[Any]] = known.load(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if (extra := extra_with(missing)) is None:
            raise
        raise MissingExtraError(f"agent {name!r}", extra, f"{missing} is not installed") from None
    return cls


def _own_agent(name: str) -> type[Searcher[Any]]:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # the command line's script does not look into the working folder
        sys.path.append(os.getcwd())
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArchGymError(f"there is no agent {name!r}: {error}; give module:Class of an agent that imports") from None
    if not (isinstance(cls, type) and issubclass(cls, Searcher)):
        raise ArchGymError(f"{name!r} is no subclass of archgym.agents.base.Agent")
    return cls
