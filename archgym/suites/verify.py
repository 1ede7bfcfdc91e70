"""An entry, simulated again: what does not come out as the entry says is refused by name.

Nothing of an entry is believed but the designs and their order. Of every run

- all rewards are computed again from the logged metrics (``reward-edited``);
- every trial that improved on those before it, and a random sample of the others, are simulated again
  (``result-differs``): the improvements are what a score is made of;
- the evaluations are counted again by canonical form, those at cheaper fidelities by their cost (``budget-overdrawn``,
  ``miscounted``), and only those at the problem's own fidelity can be improvements;
- trials must be a possible history: numbered upwards from 0, none earlier than the one before, none later than now
  (``out-of-order``, ``future-trial``);
- problem, options, objective, workload, simulator version, agent and seed must be those of the suite
  (``wrong-problem``, ``wrong-version``, ``wrong-run``); every run must be there (``missing-run``);
- an agent of archgym that repeats exactly must do so again (``does-not-repeat``).

Of a packed entry (see :mod:`archgym.suites.packed`) there are only the improvements, all of which are simulated again.

Results of another machine may differ in the last bits of a float: metrics are equal where they agree to 1e-9.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.schema import TrialSchema, has_costs
from archgym.datasets.shards import read_shard, shard_info
from archgym.errors import ArchGymError, MissingExtraError
from archgym.evaluator import used_after
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.space import Designs
from archgym.store import simulating_anew
from archgym.studies.spec import RunSpec
from archgym.studies.store import Study
from archgym.suites.entry import Entry, belongs
from archgym.suites.fronts import volumes
from archgym.suites.packed import PackedRun, is_packed, read_packed
from archgym.suites.suite import Suite, SuiteProblem

TOLERANCE = 1e-9
"""Relative difference of metrics and rewards that is no difference."""
CLOCK_S = 300.0
"""Seconds that the clock of another machine may be ahead."""


@dataclass(frozen=True)
class Finding:
    """Something that an entry says and that is not so.

    Attributes:
        kind: one word, as in the list above.
        run: the run it is about.
        sentence: what was found, for people.
    """

    kind: str
    run: str
    sentence: str


@dataclass(frozen=True)
class VerifiedRun:
    """What a run amounts to, from its designs and their order.

    Attributes:
        spec: the run.
        problem: the suite's problem.
        curve: (simulator evaluations, best reward from there on).
        evaluations: simulator evaluations.
        agent_s: seconds between the first and last trial that were not simulation; NaN where unknown.
        design: the best design, by name.
        designs: value indices of the curve's designs ``(len(curve), d)``.
    """

    spec: RunSpec
    problem: SuiteProblem
    curve: list[tuple[int, float]]
    evaluations: int
    agent_s: float
    design: dict[str, Any]
    designs: Designs


@dataclass(frozen=True)
class Verified:
    """An entry and what simulating it again said.

    Attributes:
        entry: what it says of itself.
        runs: the runs that hold.
        findings: what does not hold; empty for an honest entry.
        simulated: designs that were simulated again.
        repeated: runs that the agent was made to repeat.
        notes: what could not be checked, for people.
        packed: only the improvements are in the entry.
    """

    entry: Entry
    runs: list[VerifiedRun]
    findings: list[Finding]
    simulated: int
    repeated: int
    notes: list[str] = field(default_factory=list)
    packed: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    suite: Suite,
    folder: Path | str,
    *,
    sample: int = 64,
    repeat: int = 1,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verified:
    """Check an entry, which may come from anywhere.

    Args:
        suite: the suite it is an entry of.
        folder: the entry's folder.
        sample: trials of each run that are simulated again beside the improvements.
        repeat: runs that a registered agent does again, drawn by ``seed`` among those on the quickest problems; first come
            those that ended before their budget, or are as another seed's.
        seed: draws the sample; where None, nobody can know beforehand what is looked at.
        progress: called with the number of runs done after each.

    Raises:
        ArchGymError: the folder is no entry of this suite.
    """
    folder = Path(folder)
    entry = Entry.read(folder)
    belongs(entry, suite, folder)
    study = Study(folder)
    findings: list[Finding] = []
    runs: list[VerifiedRun] = []
    notes: list[str] = []
    rng = np.random.default_rng(seed)
    simulated = 0
    problems = {problem.key: problem for problem in suite.problems}
    packed = read_packed(folder) if is_packed(folder) else None
    if packed is not None:
        notes.append("packed: the improvements are checked, the trials between them are not in it")
    found: _Check | _PackedCheck
    for number, spec in enumerate(entry.runs(suite), 1):
        if packed is not None:
            found = _PackedCheck(spec, problems[spec.problem_key], packed.get(spec.id))
        else:
            found = _Check(spec, problems[spec.problem_key], entry, study.shard(spec), sample, rng)
        try:
            runs.append(found.run())
        except _Fault as fault:
            findings.append(Finding(fault.kind, spec.id, str(fault)))
        except ArchGymError as error:
            findings.append(Finding("unreadable", spec.id, str(error)))
        simulated += found.simulated
        if progress is not None:
            progress(number)
    repeated = 0
    if not findings and repeat:
        repeated = _repeat(entry, runs, repeat, rng, findings, notes)
    return Verified(entry, runs, findings, simulated, repeated, notes, packed is not None)


class _Fault(Exception):
    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class _Check:
    """The checks of one run, in order."""

    def __init__(
        self, spec: RunSpec, problem: SuiteProblem, entry: Entry, path: Path, sample: int, rng: np.random.Generator
    ) -> None:
        self.spec, self.suite_problem, self.entry, self.path = spec, problem, entry, path
        self.sample, self.rng = sample, rng
        self.simulated = 0

    def run(self) -> VerifiedRun:
        if not self.path.is_file():
            raise _Fault("missing-run", f"there is no {self.path.name} for {self.spec.problem}, seed {self.spec.seed}")
        self.problem: Problem = self.suite_problem.make()
        raw, batches, whole = read_shard(self.path)
        info = shard_info(raw, self.path)
        self._check_names(info)
        if not whole:
            raise _Fault("missing-run", "the log is torn: the run did not end")
        table = pa.Table.from_batches(batches, raw).unify_dictionaries()
        several = {"fidelities": dict(self.problem.cheaper)} if "fidelities" in info else {}
        schema = TrialSchema(self.problem, several)
        for name in schema.schema.names:
            if name not in raw.names:
                raise _Fault("wrong-problem", f"the log lacks the column {name!r}")
        self._check_history(table)
        designs = schema.designs(table)
        logged = schema.evaluation(table)
        rewards = table.column("reward").to_numpy()
        fidelities = self._fidelities(table, several)
        used = self._check_count(designs, table, fidelities)
        if not len(rewards):
            raise _Fault("missing-run", "the log holds no trial")
        self._check_rewards(logged, rewards)
        full = np.flatnonzero(fidelities == "")
        if not len(full):
            raise _Fault("missing-run", "the log holds no trial at the problem's own fidelity")
        worth = _worth(self.problem, self.suite_problem, logged.take(full), rewards[full])
        steps = _improvements(worth)
        improvements = full[steps]
        self._simulate(designs, logged, rewards, improvements, fidelities)
        fresh = ~table.column("cached").to_numpy(zero_copy_only=False)
        best = int(improvements[-1])
        seconds = table.column("time_s").to_numpy()
        simulation = float(np.nansum(table.column("evaluation_s").to_numpy()[fresh]))
        span = float(seconds[-1] - seconds[0])
        return VerifiedRun(
            self.spec,
            self.suite_problem,
            [(int(used[i]), float(reward)) for i, reward in zip(improvements, worth[steps], strict=True)],
            int(used[-1]),
            max(0.0, span - simulation) if len(set(seconds)) > 1 else float("nan"),
            self.problem.space.decode(designs[best])[0],
            designs[improvements],
        )

    def _check_names(self, info: dict[str, Any]) -> None:
        wanted = TrialSchema(self.problem, {"agent": self.entry.agent, "seed": self.spec.seed}).run
        for kind, names in (
            ("wrong-problem", ("problem", "workload", "objective", "space", "fidelity")),
            ("wrong-version", ("simulator_version",)),
            # An agent of one's own is known by module:Class, and its trials by the name it gives itself.
            ("wrong-run", ("seed",) if ":" in self.entry.agent else ("agent", "seed")),
        ):
            for name in names:
                if info.get(name) != wanted[name]:
                    raise _Fault(kind, f"the log has {name} {info.get(name)!r}, the suite {wanted[name]!r}"[:280])
        if info.get("fidelities", dict(self.problem.cheaper)) != dict(self.problem.cheaper):
            raise _Fault(
                "wrong-problem", "the log was made with other costs of cheaper fidelities than the problem has"
            )
        if info.get("options") != self.problem.options:
            raise _Fault("wrong-problem", "the log was made with other options than the suite's problem has")
        if not self.entry.command and info.get("run") != self.spec.id:
            raise _Fault("wrong-run", f"the log belongs to the run {str(info.get('run'))[:120]!r}")

    def _check_history(self, table: pa.Table) -> None:
        index = table.column("index").to_numpy()
        # A gap in the numbers stands for repeats, which cost nothing and are not logged.
        if len(index) and (index[0] != 0 or (np.diff(index) <= 0).any()):
            raise _Fault("out-of-order", "the trials' numbers do not increase from 0: one is missing, twice or moved")
        seconds = table.column("time_s").to_numpy()
        if not np.isfinite(seconds).all():
            raise _Fault("out-of-order", "a trial has no time")
        if len(seconds) and seconds.max() > time.time() + CLOCK_S:
            raise _Fault("future-trial", f"trial {int(seconds.argmax())} says that it was made after now")
        back = np.flatnonzero(np.diff(seconds) < 0)
        if len(back):
            raise _Fault("out-of-order", f"trial {int(back[0]) + 1} says that it was made before trial {int(back[0])}")

    def _fidelities(self, table: pa.Table, several: dict[str, Any]) -> NDArray[np.object_]:
        """The fidelity of every trial ``(n,)``, empty for the problem's own."""
        if not several:
            return np.full(len(table), "", dtype=object)
        found = np.array(table.column("fidelity").to_pylist(), dtype=object)
        if unknown := {*found} - {"", *self.problem.cheaper}:
            raise _Fault(
                "wrong-problem", f"a trial has the fidelity {str(unknown.pop())[:80]!r}, which is none of the problem's"
            )
        return found

    def _check_count(self, designs: Designs, table: pa.Table, fidelities: NDArray[np.object_]) -> NDArray[np.int64]:
        """What was used of the budget after each trial ``(n,)``: the first of each canonical design and fidelity costs."""
        cached = table.column("cached").to_numpy(zero_copy_only=False)
        levels = ["", *self.problem.cheaper]
        level = np.array([levels.index(name) for name in fidelities], dtype=np.int64)
        first = np.zeros(len(designs), dtype=bool)
        if len(designs):
            keys = np.concatenate([level[:, None], self.problem.space.canonical(designs)], axis=1)
            first[np.unique(keys, axis=0, return_index=True)[1]] = True
        costs = np.where(first, np.array([1.0, *self.problem.cheaper.values()])[level], 0.0)
        used = used_after(costs)
        if len(used) and used[-1] > self.spec.budget:
            what = f"{int(first.sum()):,} designs were simulated" + (
                f", at the cost of {costs.sum():,.6g} evaluations" if level.any() else ""
            )
            raise _Fault("budget-overdrawn", f"{what}; the budget is {self.spec.budget:,}")
        wrong = np.flatnonzero(cached == first)
        if len(wrong):
            what = "is new, but" if first[wrong[0]] else "repeats an earlier one, but"
            raise _Fault("miscounted", f"the design of trial {int(wrong[0])} {what} the log says otherwise")
        if has_costs(table.schema):
            wrong = np.flatnonzero(table.column("cost").to_numpy() != costs)
            if len(wrong):
                raise _Fault("miscounted", f"trial {int(wrong[0])} costs {costs[wrong[0]]:.6g}; the log says otherwise")
        return used

    def _check_rewards(self, logged: Evaluation, rewards: NDArray[np.float64]) -> None:
        again = self.problem.objective(logged)
        wrong = np.flatnonzero(~_equal(again, rewards))
        if len(wrong):
            i = int(wrong[0])
            raise _Fault(
                "reward-edited", f"trial {i} has the reward {rewards[i]:.10g}; its own metrics give {again[i]:.10g}"
            )

    def _simulate(
        self,
        designs: Designs,
        logged: Evaluation,
        rewards: NDArray[np.float64],
        improvements: NDArray[np.int64],
        fidelities: NDArray[np.object_],
    ) -> None:
        others = np.setdiff1d(np.arange(len(designs)), improvements)
        drawn = self.rng.choice(others, min(self.sample, len(others)), replace=False)
        every = np.sort(np.concatenate([improvements, drawn]))
        for fidelity in dict.fromkeys(fidelities[every]):
            self._simulate_at(fidelity, every[fidelities[every] == fidelity], designs, logged, rewards)

    def _simulate_at(
        self, fidelity: str, rows: NDArray[np.int64], designs: Designs, logged: Evaluation, rewards: NDArray[np.float64]
    ) -> None:
        with simulating_anew():
            again, rewards_again = self.problem.evaluate(designs[rows], seed=self.spec.seed, fidelity=fidelity or None)
        self.simulated += len(rows)
        same = (again.feasible == logged.feasible[rows]) & _equal(rewards_again, rewards[rows])
        for name, column in again.metrics.items():
            same &= _equal(column, logged.metrics[name][rows])
        if not same.all():
            i = int(np.argmin(same))
            raise _Fault(
                "result-differs",
                f"trial {int(rows[i])} has the reward {rewards[rows[i]]:.10g}; simulating its design again gives "
                f"{rewards_again[i]:.10g}, or other metrics",
            )


class _PackedCheck:
    """The checks of one run of a packed entry."""

    def __init__(self, spec: RunSpec, problem: SuiteProblem, packed: PackedRun | None) -> None:
        self.spec, self.suite_problem, self.packed = spec, problem, packed
        self.simulated = 0

    def run(self) -> VerifiedRun:
        packed = self.packed
        if packed is None:
            raise _Fault("missing-run", f"there is no run on {self.spec.problem} with the seed {self.spec.seed}")
        if packed.evaluations > self.spec.budget:
            raise _Fault(
                "budget-overdrawn", f"{packed.evaluations:,} designs were simulated; the budget is {self.spec.budget:,}"
            )
        problem = self.suite_problem.make()
        rows = [step[2] for step in packed.steps]
        if len({len(row) for row in rows}) > 1:
            raise _Fault("wrong-problem", "its designs differ in length")
        designs = problem.space.check(np.array(rows, dtype=np.int64))
        rewards = np.array([step[1] for step in packed.steps])
        with simulating_anew():
            evaluation, again = problem.evaluate(designs, seed=self.spec.seed)
        again = _worth(problem, self.suite_problem, evaluation, again)
        self.simulated = len(designs)
        wrong = np.flatnonzero(~_equal(again, rewards))
        if len(wrong):
            i = int(wrong[0])
            raise _Fault(
                "result-differs",
                f"evaluation {packed.steps[i][0]} is worth {rewards[i]:.10g}; simulating its design gives {again[i]:.10g}",
            )
        return VerifiedRun(
            self.spec,
            self.suite_problem,
            [(at, reward) for at, reward, _ in packed.steps],
            packed.evaluations,
            float("nan") if packed.agent_s is None else packed.agent_s,
            problem.space.decode(designs[-1])[0],
            designs,
        )


def _worth(
    problem: Problem, suite_problem: SuiteProblem, evaluation: Evaluation, rewards: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a run is worth after each trial, as far as it grows: rewards, or the hypervolume where a front is asked for."""
    if suite_problem.scale != "hypervolume":
        return rewards
    if suite_problem.known is None:
        raise ArchGymError(
            f"{suite_problem.problem} has no measured scale; run 'archgym suite measure' on the suite first"
        )
    return volumes(problem, suite_problem.known.corners, evaluation)


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isclose(a, b, rtol=TOLERANCE, atol=0.0, equal_nan=True)


def _improvements(rewards: NDArray[np.float64]) -> NDArray[np.int64]:
    highest = np.maximum.accumulate(rewards)
    return np.flatnonzero(highest > np.concatenate([[-np.inf], highest[:-1]]))


def _repeat(
    entry: Entry,
    runs: Sequence[VerifiedRun],
    count: int,
    rng: np.random.Generator,
    findings: list[Finding],
    notes: list[str],
) -> int:
    """Let the agent do some runs again; returns how many it did."""
    from archgym.agents.base import load_agent, make_agent

    if entry.outside:
        notes.append(f"{entry.agent} is no agent of archgym: whether it repeats was not checked")
        return 0
    try:
        exact = load_agent(entry.agent).exact
    except MissingExtraError as error:
        notes.append(f"not made to repeat: {error}")
        return 0
    if not exact:
        notes.append(f"{entry.agent} learns in floating point, which differs between machines: not made to repeat")
        return 0
    done = 0
    # Problems with a budget of their own are those whose evaluations are dear.
    quick = [run for run in runs if run.problem.budget is None] or list(runs)
    doubtful = _doubtful(runs)
    others = [run for run in quick if not any(run is other for other in doubtful)]
    drawn = [group[number] for group in (doubtful, others) for number in rng.permutation(len(group))]
    for run in drawn[:count]:
        problem = run.problem.make()
        agent = make_agent(entry.agent, problem, run.spec.seed, **dict(entry.hyperparameters))
        done += 1
        with simulating_anew():
            again, evaluations = _repeated(problem, run, agent)
        if evaluations != run.evaluations or not _same_curve(again, run.curve):
            findings.append(
                Finding("does-not-repeat", run.spec.id, f"{entry.agent} with this seed takes another path here")
            )
    return done


def _doubtful(runs: Sequence[VerifiedRun]) -> list[VerifiedRun]:
    """Runs that may be cut, or copies of another seed's: those of a small space or of an agent that draws nothing are honest,
    which repeating them tells."""
    seen: dict[tuple[str, bytes], VerifiedRun] = {}
    found = []
    for run in runs:
        first = seen.setdefault((run.problem.key, run.designs.tobytes()), run)
        if run.evaluations < run.spec.budget or first is not run:
            found.append(run)
    return found


def _repeated(problem: Problem, run: VerifiedRun, agent: Any) -> tuple[list[tuple[int, float]], int]:
    """The curve of a run that ``agent`` does anew, and its evaluations."""
    from archgym.agents.search import search

    if run.problem.scale != "hypervolume":
        found = search(problem, agent, run.spec.budget, batch=run.spec.batch)
        return list(found.improvements), found.evaluations
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "trials.arrows"
        search(problem, agent, run.spec.budget, batch=run.spec.batch, log=log)
        raw, batches, _ = read_shard(log)
        table = pa.Table.from_batches(batches, raw).unify_dictionaries()
    several = has_costs(table.schema)
    costs = table.column("cost").to_numpy() if several else ~table.column("cached").to_numpy(zero_copy_only=False)
    full = np.flatnonzero(np.array(table.column("fidelity").to_pylist()) == "") if several else np.arange(len(table))
    worth = _worth(problem, run.problem, TrialSchema(problem, {}).evaluation(table).take(full), np.empty(0))
    used = used_after(costs)[full]
    return [(int(used[i]), float(worth[i])) for i in _improvements(worth)], int(used[-1])


def _same_curve(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]]) -> bool:
    return [step[0] for step in a] == [step[0] for step in b] and bool(
        _equal(np.array([step[1] for step in a]), np.array([step[1] for step in b])).all()
    )
