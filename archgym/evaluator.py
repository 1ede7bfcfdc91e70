"""The single door to a simulator: counts the budget, caches, logs. Every trial passes here.

The budget counts *simulator evaluations*, or the simulator's virtual seconds; an evaluation at a cheaper fidelity counts
its cost (:attr:`archgym.problem.Problem.cheaper`), and only those at the problem's own can be the best. A design whose canonical form was
evaluated before in the same run is answered from the cache: it is a trial, but costs nothing, and is counted, not logged
(``log_repeats`` logs it with ``cached=True``). So that an agent which only repeats itself still ends, a run also stops
after ``stall_limit`` trials in a row without a new evaluation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from archgym.announcing import announce
from archgym.datasets.columns import to_numbers
from archgym.datasets.schema import TrialSchema
from archgym.datasets.shards import ShardWriter, read_shard, shard_info
from archgym.errors import ArchGymError, UnknownNameError, check_seed, quote, whole_number
from archgym.files import keep_files
from archgym.objective import Rewards
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.space import Designs
from archgym.store import tally

TINY = 1e-9
"""Evaluations by which a sum of costs may miss a budget: rounding."""


def used_after(costs: ArrayLike) -> NDArray[np.int64]:
    """What a run has used of its budget after each trial ``(n,)``, in whole simulator evaluations, from what each cost."""
    costs = np.asarray(costs, dtype=np.float64)
    sums = np.cumsum(costs)
    # What each addition rounded away (Knuth's two-sum), so that no sum drifts however many tenths it is made of.
    before = np.concatenate([[0.0], sums[:-1]])
    added = sums - before
    sums += np.cumsum((before - (sums - added)) + (costs - added))
    used: NDArray[np.int64] = np.ceil(sums - TINY).astype(np.int64)
    return used


class BudgetExhausted(Exception):
    """Raised when a design is to be evaluated and the budget is used up."""


@dataclass
class Best:
    """The best trial so far."""

    reward: float
    design: Designs
    metrics: dict[str, float]
    index: int
    evaluations: int


class Evaluator:
    """Evaluates designs of a problem for one run.

    Args:
        problem: the problem.
        budget: simulator evaluations allowed; None for no limit.
        budget_seconds: virtual seconds allowed (the simulator's metric ``seconds_metric``, summed over new designs; of
            designs that inherit also what their parents cost, once a run); the run ends with the design that uses them
            up. None for no limit.
        seed: passed to the simulator (it matters only where a fidelity is noisy).
        cache: answer repeated designs (by canonical form) from memory. Switch it off only where repeats are rare
            and memory matters.
        log: path of the run's shard, None for no log; or a function that makes a writer for the schema of the trials
            (one that picks a free name): it is called when there is something to write.
        run: what the trials say of the run: agent, hyperparameters, study, run.
        resume: continue the shard at ``log``: its trials are replayed, so that an agent with the same seed goes
            through the same states and the run ends in the same result bit by bit, also with a larger budget than
            before.
        earlier: shard of the same run with a smaller budget; a new shard at ``log`` starts with its trials, so that they are
            not simulated again.
        stall_limit: trials in a row without a new evaluation after which the run is over.
        log_repeats: log repeated designs too; otherwise a gap in the trials' ``index`` says how many there were.
        read_only: the shard at ``log`` is replayed (``resume``), and never written: what it does not hold cannot be
            evaluated.
        several_fidelities: designs may be evaluated at the problem's cheaper fidelities, too, where it has any; every trial
            then says at which. The run ends with the first design that the budget cannot pay.

    Attributes:
        used: what is used of the budget: simulator evaluations so far, at several fidelities their cost, rounded up.
        cost: the same, not rounded.
        evaluations: simulator evaluations so far, of whatever fidelity.
        from_store: how many of them a store answered.
        seconds: virtual seconds so far; 0 where the simulator has no clock.
        trials: trials so far (evaluations and repeats).
        best: the best trial so far, or None.
        improvements: the anytime curve: (``used``, best reward from there on), one pair a new best.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        budget: int | None = None,
        budget_seconds: float | None = None,
        seed: int = 0,
        cache: bool = True,
        log: Path | str | Callable[[pa.Schema], ShardWriter] | None = None,
        run: dict[str, Any] | None = None,
        resume: bool = False,
        stall_limit: int | None = None,
        log_repeats: bool = False,
        read_only: bool = False,
        earlier: Path | None = None,
        several_fidelities: bool = False,
    ) -> None:
        if budget is not None:
            budget = whole_number("the budget", budget, "simulator evaluations")
        self.problem, self.budget, self.seed = problem, budget, check_seed(seed)
        self.budget_seconds = None if budget_seconds is None else check_seconds(budget_seconds, problem)
        self.seconds = 0.0
        self._inherits = problem.simulator.inherits(problem.fidelity)
        live = problem.simulator.live(problem.workload, problem.fidelity)
        # Designs at a time: trained ones are logged, and shown, as they come.
        self._piece = None if live is None else live.piece
        self._ready: set[bytes] = set()  # parents that are paid for
        self.used = self.evaluations = self.trials = self.replayed = self.from_store = 0
        # Of the fidelities: cost and evaluations. Counts, so that a sum of costs does not depend on how it was made.
        cheaper = dict(problem.cheaper) if several_fidelities else {}
        self._costs: dict[str | None, float] = {None: 1.0}
        self._costs.update(cheaper)
        self._several, self.cost = bool(cheaper), 0.0
        self._counts = dict.fromkeys(self._costs, 0)
        self._unpaid = False  # a design was asked for that the budget could not pay
        run = {**(run or {}), "seed": seed, **({"fidelities": cheaper} if cheaper else {})}
        self.best: Best | None = None
        self.improvements: list[tuple[int, float]] = []
        self.simulation_s = 0.0
        self.on_trials: Callable[[Evaluator], None] | None = None
        self._stall = 0
        self.stall_limit = stall_limit if stall_limit is not None else min(max(1000, 2 * (budget or 0)), 20_000)
        self._cache: dict[bytes, int] | None = {} if cache else None
        self._names = [metric.name for metric in problem.metrics]
        self._rows = _Rows(len(self._names))
        self._writer: ShardWriter | None = None
        self._replay: _Replay | None = None
        self._schema: TrialSchema | None = None
        self._log_repeats, self._logged = log_repeats, 0
        self._make_writer: Callable[[pa.Schema], ShardWriter] | None = None
        self._fresh_file: Path | None = None  # a file of this evaluator's own that may turn out to hold nothing
        if callable(log):
            self._schema, self._make_writer = TrialSchema(problem, run), log
            shard_info(self._schema.schema, Path("trials"))
        elif log is not None:
            self._open(Path(log), run, resume, read_only, earlier)

    # --- the log -----------------------------------------------------------------------------------------------

    def _open(self, path: Path, run: dict[str, Any], resume: bool, read_only: bool, earlier: Path | None) -> None:
        self._schema = TrialSchema(self.problem, {**run, "repeats": True} if self._log_repeats else run)
        shard_info(self._schema.schema, path)  # what no reader would take is not written
        batches: list[pa.RecordBatch] = []
        if path.exists():
            if not resume:
                raise ArchGymError(
                    f"{path} exists already; add --resume (in Python resume=True) to continue it, or choose another folder"
                )
            batches = self._stored(path, ())
        else:
            self._fresh_file = path
            if earlier is not None:
                batches = self._stored(earlier, ("run", "study"))
        if not read_only:
            self._writer = ShardWriter(path, self._schema.schema, batches)
            keep_files(path.parent, self.problem.files)

    def _stored(self, path: Path, free: Sequence[str]) -> list[pa.RecordBatch]:
        """The batches of a shard that this run goes on with, ready to be replayed; its metadata may differ in ``free``."""
        assert self._schema is not None
        schema, batches, _ = read_shard(path)
        info, wanted = shard_info(schema, path), shard_info(self._schema.schema, path)
        for key in sorted({*wanted, *info} - {*free}):
            if info.get(key) != wanted.get(key):
                remedy = "resume it with the same settings"
                if key == "budget":
                    remedy = f"{wanted['agent']} plans over its whole budget, so resume it with that or start anew"
                raise ArchGymError(
                    f"{path} was made with {key} = {_shown(info.get(key))}, not {_shown(wanted.get(key))}; {remedy}"
                )
        _check_same_columns(path, schema, self._schema.schema)
        self._replay = _Replay.of(self._schema, batches)
        if self._replay is not None:
            self._logged = self._replay.logged
            cost = self._replay.cost(self._costs)
            if cost > self.remaining:
                raise ArchGymError(
                    f"{path} holds {cost:,} evaluations, more than the budget of {self.budget:,}; "
                    "resume it with the same budget or a larger one"
                )
        return batches

    def close(self) -> None:
        """End the log. A new file that holds no trial is removed: an evaluation that was refused leaves nothing."""
        if self._writer is not None:
            self._writer.close()
            if self._fresh_file is not None and not self.trials:
                self._fresh_file.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        if self._writer is not None and self._make_writer is None:
            raise ArchGymError(
                f"the log {self._writer.path} has one writer, so an evaluator that writes it can neither be copied nor "
                "pickled; make a new one with a log of its own"
            )
        # A copy that writes takes a file of its own.
        return {**self.__dict__, "_writer": None}

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def evaluated(self) -> tuple[Evaluation, Rewards]:
        """Everything that was simulated so far at the problem's own fidelity, in order; empty without a cache."""
        return self._rows.take(np.flatnonzero(self._rows.full), self._names)

    # --- evaluating --------------------------------------------------------------------------------------------

    @property
    def remaining(self) -> float:
        """Simulator evaluations left; infinite without a budget."""
        return float("inf") if self.budget is None else self.budget - self.cost

    def _payable(self, fidelity: str | None) -> float:
        """Evaluations at a fidelity that the budget can pay."""
        remaining = self.remaining
        return (remaining + TINY) // self._costs[fidelity] if self._several and remaining < np.inf else remaining

    def _pay(self, allowed: int) -> None:
        """Note that the budget cut an ask short. At one fidelity it is used up then; at several something may be left over,
        and the run ends all the same."""
        if self._several:
            self._unpaid = True
            if not allowed:
                raise BudgetExhausted

    def _count(self, trials: int, new: int, fidelity: str | None) -> None:
        """Count trials, ``new`` of which were simulated."""
        self.trials += trials
        self.evaluations += new
        self._stall = 0 if new else self._stall + trials
        if not self._several:
            self.used = self.cost = self.evaluations
            return
        self._counts[fidelity] += new
        self.cost = sum(self._counts[name] * cost for name, cost in self._costs.items())
        self.used = math.ceil(self.cost - TINY)

    @property
    def stored(self) -> int:
        """Evaluations of the resumed log that were not asked for again yet."""
        return 0 if self._replay is None else len(self._replay)

    @property
    def exhausted(self) -> bool:
        """True where the run is over: budget used up, or only repeats for ``stall_limit`` trials."""
        spent = self.budget_seconds is not None and self.seconds >= self.budget_seconds
        used_up = self._unpaid or (self.budget is not None and self.budget - self.cost <= TINY)
        return spent or used_up or self._stall >= self.stall_limit

    def evaluate(
        self, designs: ArrayLike, parents: Designs | None = None, *, fidelity: str | None = None
    ) -> tuple[Designs, Evaluation, Rewards]:
        """Evaluate designs ``(n, d)``; returns the designs that the budget allowed (a prefix), their evaluation and
        rewards. They are on disk before this returns. ``parents`` ``(n, d)``, rows of -1 where there is none, matter
        only to simulators whose designs inherit. ``fidelity``: one of the problem's cheaper ones, where the evaluator takes
        several; the problem's own where None.

        Raises:
            BudgetExhausted: where the run is over.
        """
        if self.exhausted:
            raise BudgetExhausted
        if fidelity not in self._costs:
            known = [name for name in self._costs if name is not None]
            raise UnknownNameError(f"cheaper fidelity of {self.problem.name} in this run", str(fidelity), known)
        designs = self.problem.space.check(designs)
        if not self._inherits:
            parents = None
        elif parents is None:
            parents = np.full_like(designs, -1)
        # What a design costs is known only when it is evaluated: one by one, so that the budget ends at a design.
        piece = self._piece if self.budget_seconds is None else 1
        if piece is None or len(designs) <= piece:
            return self._evaluate(designs, parents, fidelity)
        parts = []
        for row in range(0, len(designs), piece):
            if self.exhausted:
                break
            one = slice(row, row + piece)
            parts.append(self._evaluate(designs[one], None if parents is None else parents[one], fidelity))
        rewards = np.concatenate([part[2] for part in parts])
        return designs[: len(rewards)], Evaluation.concatenate([part[1] for part in parts]), rewards

    def _evaluate(
        self, designs: Designs, parents: Designs | None, fidelity: str | None
    ) -> tuple[Designs, Evaluation, Rewards]:
        if self._cache is None and self._replay is None:
            return self._evaluate_all(designs, parents, fidelity)
        new, source, keys = self._plan(designs, parents, fidelity)
        if len(source) < len(designs):
            self._pay(len(source))
        designs = designs[: len(source)]
        cached = np.ones(len(designs), dtype=bool)
        cached[new] = False
        evaluation, rewards, simulated, seconds = self._answer(designs, new, source, parents, fidelity)
        self._spend(designs, evaluation, new, parents)
        if keys is not None:
            assert self._cache is not None
            self._cache.update(keys)
        start_index, before = self.trials, self.cost
        self._count(len(designs), len(new), fidelity)
        if self._schema is not None:
            each = seconds / max(len(simulated), 1)
            rows = np.arange(max(self._logged - start_index, 0), len(designs)) if self._log_repeats else simulated
            self._write(rows, start_index, designs, evaluation, rewards, cached, each, parents, fidelity)
        if fidelity is None:
            self._note_best(start_index, before, cached, designs, evaluation, rewards)
        if self.on_trials is not None:
            self.on_trials(self)
        return designs, evaluation, rewards

    def _answer(
        self,
        designs: Designs,
        new: NDArray[np.int64],
        source: NDArray[np.int64],
        parents: Designs | None,
        fidelity: str | None,
    ) -> tuple[Evaluation, Rewards, NDArray[np.int64], float]:
        """Evaluation and rewards of designs, the rows that were simulated for it and how long that took: new designs
        are answered by the stored run as far as it goes."""
        if self._replay is not None and len(new):
            stored, stored_rewards = self._replay.take(designs[new], self.trials + new, fidelity)
            self._rows.extend(stored, stored_rewards, self._names, fidelity is None)
            self.replayed += len(stored_rewards)
            new = new[len(stored_rewards) :]
            if not len(self._replay):
                self._replay = None
        if not len(new):
            return *self._rows.take(source, self._names), new, 0.0
        start = time.perf_counter()
        made = self._simulate(designs[new], None if parents is None else parents[new], fidelity)
        made_rewards = self.problem.objective(made)
        seconds = time.perf_counter() - start
        self.simulation_s += seconds
        self._rows.extend(made, made_rewards, self._names, fidelity is None)
        if len(new) == len(designs):
            return made, made_rewards, new, seconds
        return *self._rows.take(source, self._names), new, seconds

    def _write(
        self,
        rows: NDArray[np.int64],
        start: int,
        designs: Designs,
        evaluation: Evaluation,
        rewards: Rewards,
        cached: NDArray[np.bool_],
        evaluation_s: float,
        parents: Designs | None,
        fidelity: str | None,
    ) -> None:
        """Log the given rows of a batch whose first has the index ``start``."""
        assert self._schema is not None
        if not len(rows):
            return
        if self._writer is None:
            if self._make_writer is None:
                raise ArchGymError("the run is open for reading only, and its log does not hold these designs")
            self._writer = self._make_writer(self._schema.schema)
        if len(rows) < len(designs):
            designs, evaluation, rewards, cached = designs[rows], evaluation.take(rows), rewards[rows], cached[rows]
            parents = None if parents is None else parents[rows]
        self._writer.append(
            self._schema.batch(
                start + rows, designs, evaluation, rewards, cached, evaluation_s, time.time(), parents, fidelity
            )
        )

    def _simulate(self, designs: Designs, parents: Designs | None, fidelity: str | None) -> Evaluation:
        problem = self.problem
        fidelity = fidelity or problem.fidelity
        if self._piece is not None:
            announce(problem)
        if parents is None:
            with tally() as found:
                made = problem.simulator.evaluate(designs, problem.workload, fidelity=fidelity, seed=self.seed)
            self.from_store += found.answered
            return made
        inherit: Callable[..., Evaluation] = problem.simulator.evaluate  # as Simulator.inherits promised
        return inherit(designs, problem.workload, fidelity=fidelity, seed=self.seed, parents=parents)

    def _spend(self, designs: Designs, evaluation: Evaluation, new: NDArray[np.int64], parents: Designs | None) -> None:
        """Add the virtual seconds of the new rows, and of parents that this run has not paid for yet."""
        name = self.problem.simulator.seconds_metric
        if not name or not len(new):
            return
        self.seconds += float(np.nansum(evaluation.metrics[name][new]))
        if parents is None:
            return
        space = self.problem.space
        unpaid: dict[bytes, Designs] = {}
        for row in new:
            if parents[row, 0] < 0:
                # Trained in full: from now on it can be inherited from.
                self._ready.add(space.canonical(designs[row : row + 1]).tobytes())
                continue
            parent = space.canonical(parents[row : row + 1])
            if parent.tobytes() not in self._ready:
                unpaid[parent.tobytes()] = parent
        if unpaid:
            rows = np.concatenate(list(unpaid.values()))
            costs = self.problem.simulator.parent_seconds(rows, self.problem.workload, self.problem.fidelity)
            self.seconds += float(np.sum(costs))
            self._ready.update(unpaid)

    def _evaluate_all(
        self, designs: Designs, parents: Designs | None, fidelity: str | None
    ) -> tuple[Designs, Evaluation, Rewards]:
        """Without a cache every design is simulated: the short way, for environments."""
        n = len(designs)
        if n > (payable := self._payable(fidelity)):
            n = int(payable)
            self._pay(n)
            designs = designs[:n]
        start = time.perf_counter()
        evaluation = self._simulate(designs, None if parents is None else parents[:n], fidelity)
        rewards = self.problem.objective(evaluation)
        seconds = time.perf_counter() - start
        self.simulation_s += seconds
        first, before = self.trials, self.cost
        self._count(n, n, fidelity)
        if self.problem.simulator.seconds_metric:
            self._spend(designs, evaluation, np.arange(n), None if parents is None else parents[:n])
        if self._schema is not None:
            never = np.zeros(n, dtype=bool)
            born = None if parents is None else parents[:n]
            self._write(np.arange(n), first, designs, evaluation, rewards, never, seconds / max(n, 1), born, fidelity)
        if n and fidelity is None and (self.best is None or rewards[rewards.argmax()] > self.best.reward):
            self._note_best(first, before, np.zeros(n, dtype=bool), designs, evaluation, rewards)
        if self.on_trials is not None:
            self.on_trials(self)
        return designs, evaluation, rewards

    def _plan(
        self, designs: Designs, parents: Designs | None, fidelity: str | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[bytes, int] | None]:
        """Rows to simulate, the stored row that answers each design (a prefix as long as the budget allows), and the
        cache keys of the new rows."""
        limit = self._payable(fidelity)
        if self._cache is None:
            # A resumed log without a cache: everything is new, and nothing has to be kept.
            self._rows.clear()
            n = int(min(len(designs), limit))
            return np.arange(n), np.arange(n), None
        canonical = self.problem.space.canonical(designs)
        if parents is not None:
            # The same child of another parent is another result.
            with_parent = (parents[:, :1] >= 0).astype(np.int64)
            known_parents = self.problem.space.canonical(np.maximum(parents, 0)) * with_parent
            canonical = np.ascontiguousarray(np.concatenate([canonical, known_parents, with_parent], axis=1))
        keys: list[Any] = canonical.view(np.dtype((np.void, canonical.shape[1] * 8))).ravel().tolist()
        if fidelity is not None:
            name = fidelity.encode()
            keys = [name + key for key in keys]
        known, base = self._cache, self._rows.count
        fresh: dict[bytes, int] = {}
        new: list[int] = []
        source: list[int] = []
        for i, key in enumerate(keys):
            row = known.get(key)
            if row is None:
                row = fresh.get(key)
                if row is None:
                    if len(new) >= limit:
                        break
                    row = base + len(new)
                    fresh[key] = row
                    new.append(i)
            source.append(row)
        return np.array(new, dtype=np.int64), np.array(source, dtype=np.int64), fresh

    def _note_best(
        self,
        start: int,
        before: float,
        cached: NDArray[np.bool_],
        designs: Designs,
        evaluation: Evaluation,
        rewards: Rewards,
    ) -> None:
        if not len(rewards):
            return
        i = int(np.argmax(rewards))
        if self.best is None or rewards[i] > self.best.reward:
            highest = np.maximum.accumulate(rewards[: i + 1])
            steps = np.flatnonzero(highest > np.concatenate([[-np.inf], highest[:-1]]))
            # Whole where there is one fidelity; a cost of 12.3 is a budget of 13.
            done = np.ceil(before + np.cumsum(~cached[: i + 1]) - TINY).astype(np.int64)
            least = -np.inf if self.best is None else self.best.reward
            self.improvements += [(int(done[k]), float(highest[k])) for k in steps if highest[k] > least]
            metrics = {name: float(column[i]) for name, column in evaluation.metrics.items()}
            self.best = Best(float(rewards[i]), designs[i].copy(), metrics, start + i, int(done[-1]))


def check_seconds(budget: float, problem: Problem) -> float:
    """A budget in virtual seconds for ``problem``; a sentence where it is none, or the simulator has no clock."""
    if not problem.simulator.seconds_metric:
        raise ArchGymError(
            f"{problem.name} has no virtual clock, so no budget in seconds; give a budget of evaluations"
        )
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < float("inf"):
        raise ArchGymError(f"the budget is {quote(budget)} virtual seconds; expected a positive number")
    return float(budget)


class _Rows:
    """Growing columns of what was simulated; the cache points into them."""

    def __init__(self, metrics: int) -> None:
        self.count = 0
        self._metrics = np.empty((metrics, 64))
        self._rewards = np.empty(64)
        self._feasible = np.empty(64, dtype=bool)
        self._violation = np.empty(64, dtype=object)
        self._full = np.empty(64, dtype=bool)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Which rows are of the problem's own fidelity."""
        return self._full[: self.count]

    def clear(self) -> None:
        self.count = 0

    def extend(self, evaluation: Evaluation, rewards: Rewards, names: list[str], full: bool) -> None:
        end = self.count + len(rewards)
        if end > len(self._rewards):
            size = max(end, 2 * len(self._rewards))
            self._metrics = np.concatenate(
                [self._metrics, np.empty((len(self._metrics), size - self._metrics.shape[1]))], axis=1
            )
            for name in ("_rewards", "_feasible", "_violation", "_full"):
                old = getattr(self, name)
                grown = np.empty(size, dtype=old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)
        rows = slice(self.count, end)
        for j, name in enumerate(names):
            self._metrics[j, rows] = evaluation.metrics[name]
        self._rewards[rows], self._feasible[rows] = rewards, evaluation.feasible
        self._violation[rows], self._full[rows] = evaluation.violation, full
        self.count = end

    def take(self, rows: NDArray[np.int64], names: list[str]) -> tuple[Evaluation, Rewards]:
        metrics = {name: self._metrics[j, rows] for j, name in enumerate(names)}
        return Evaluation(metrics, self._feasible[rows], self._violation[rows]), self._rewards[rows]


def _check_same_columns(path: Path, given: pa.Schema, wanted: pa.Schema) -> None:
    """Refuse to go on with a shard whose columns are not those that this run writes."""
    for name in (*wanted.names, *given.names):
        theirs, ours = (schema.field(name) if name in schema.names else None for schema in (given, wanted))
        if theirs is None or ours is None or not theirs.equals(ours):
            what = "lacks" if theirs is None else "has one more" if ours is None else "has another type of"
            raise ArchGymError(
                f"{path} {what} column {quote(name, 60)}, so it is not of this run; start anew elsewhere"
            )
    if given.names != wanted.names:
        raise ArchGymError(f"{path} has its columns in another order, so it is not of this run; start anew elsewhere")


class _Replay:
    """The evaluations of an interrupted run, handed out again in their order. Repeats, where they were logged, are left
    out: the run's cache answers them.

    Attributes:
        logged: trials of the run up to the last one that was logged.
    """

    def __init__(self, schema: TrialSchema, table: pa.Table) -> None:
        self.logged = int(table.column("index")[-1].as_py()) + 1
        table = table.filter(pc.invert(table.column("cached"))).unify_dictionaries()
        self._designs = schema.designs(table)
        self._evaluation = schema.evaluation(table)
        self._index = to_numbers(table.column("index"))
        self._rewards = to_numbers(table.column("reward"))
        several = "fidelity" in table.schema.names
        self._fidelity = np.array(table.column("fidelity").to_pylist() if several else [""] * len(table), dtype=object)
        self._next = 0

    @classmethod
    def of(cls, schema: TrialSchema, batches: list[pa.RecordBatch]) -> _Replay | None:
        """The replay of a shard's batches; None where they hold nothing."""
        return cls(schema, pa.Table.from_batches(batches)) if sum(map(len, batches)) else None

    def __len__(self) -> int:
        return len(self._designs) - self._next

    def cost(self, costs: Mapping[str | None, float]) -> int:
        """What all of them cost, in evaluations, rounded up."""
        names = [name or None for name in self._fidelity]
        return math.ceil(sum(names.count(name) * cost for name, cost in costs.items()) - TINY)

    def take(self, designs: Designs, index: NDArray[np.int64], fidelity: str | None) -> tuple[Evaluation, Rewards]:
        """The stored answers to ``designs``, which are the trials ``index`` of the run: a prefix, as far as they go."""
        rows = slice(self._next, self._next + len(designs))
        stored = self._designs[rows]
        n = len(stored)
        same = (stored == designs[:n]).all(axis=1) & (self._index[rows] == index[:n])
        same &= self._fidelity[rows] == (fidelity or "")
        if not same.all():
            raise ArchGymError(
                f"the stored run leaves the agent's path at trial {self._index[rows][np.argmin(same)]}; it was made by "
                "other code or settings, so start a new run"
            )
        self._next += n
        return self._evaluation.take(rows), self._rewards[rows].copy()


def _shown(value: object) -> str:
    """A value of a shard's metadata, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
