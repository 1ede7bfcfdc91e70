"""Sessions for many callers at once: what a request may cost, which thread does it, and how long the caller waits.

Whatever may take long runs on a few threads of its own; requests to one session wait for each other without holding one.
A request that outlives its time goes on: its caller is told the key with which to ask for the answer.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from archgym.account import account_for
from archgym.problem import Problem, option_table
from archgym.registry import SIMULATORS
from archgym.serve import schemas
from archgym.serve.entry import EntrySessions
from archgym.serve.sessions import REASONS, Request, ServeError, Session, SessionFacts, Sessions, designs_of
from archgym.threads import usable_cores
from archgym.writing import finite

T = TypeVar("T")


class SlowError(ServeError):
    """The time of a request is over; it goes on, and its key gives the answer."""

    kind = "timeout"

    def __init__(self, message: str, key: str | None) -> None:
        super().__init__(message)
        self.key = key


class BusyError(ServeError):
    """As many requests wait as the server allows."""

    kind = "busy"


@dataclass(frozen=True)
class Limits:
    """What a caller may use.

    Attributes:
        seconds: how long one request waits for its answer.
        waiting: requests that may wait at once.
        rate: requests a second, on average; ``burst`` at once.
        body: bytes of one request.
        threads: requests that are worked on at once; 0 for as many as there are cores, at least 4.
    """

    seconds: float = 60.0
    waiting: int = 256
    rate: float = 200.0
    body: int = 1 << 20
    threads: int = 0

    @property
    def burst(self) -> float:
        """Requests that may come at once."""
        return max(2 * self.rate, 1.0)


class Service:
    """What both interfaces do, one method an operation.

    Args:
        sessions: the sessions.
        limits: see :class:`Limits`.
    """

    def __init__(self, sessions: Sessions, limits: Limits | None = None) -> None:
        self.sessions, self.limits = sessions, limits or Limits()
        self._pool = ThreadPoolExecutor(self.limits.threads or max(4, usable_cores()), "archgym-serve")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting = 0

    # --- threads and time ------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T], turn: str = "", key: str | None = None) -> T:
        """Do ``work`` on a thread; calls with the same ``turn`` one after the other."""
        if self._waiting >= self.limits.waiting:
            raise BusyError(f"{self._waiting} requests wait already, the most that this server allows; try again later")
        self._waiting += 1
        task = asyncio.get_running_loop().create_task(self._work(work, turn))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.limits.seconds)
        except TimeoutError:
            if task.done():
                return task.result()
            how = f"ask again with the key {key!r} for its answer" if key else "ask again later"
            raise SlowError(f"no answer within {self.limits.seconds:g} s; the request goes on: {how}", key) from None

    async def _work(self, work: Callable[[], T], turn: str) -> T:
        loop = asyncio.get_running_loop()
        if not turn:
            return await loop.run_in_executor(self._pool, work)
        lock = self._turns.get(turn)
        if lock is None:
            lock = self._turns[turn] = asyncio.Lock()
        async with lock:
            return await loop.run_in_executor(self._pool, work)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._waiting -= 1
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was told to the one who waited, or to the log of the next request with its key

    @asynccontextmanager
    async def running(self) -> Any:
        """For the life of a server: at its end what is being evaluated is finished, and all shards are whole."""
        try:
            yield self
        finally:
            while self._tasks:
                await asyncio.wait(self._tasks)
            await asyncio.to_thread(self._pool.shutdown)
            self.sessions.shut()

    # --- operations ------------------------------------------------------------------------------------------------

    async def problems(self, simulator: str = "") -> schemas.Problems:
        """What there is to search."""
        return await self._do(lambda: _problems(self.sessions, simulator))

    async def describe(self, asked: schemas.ProblemRequest) -> schemas.ProblemInfo:
        """One problem: parameters, rules, metrics, objective."""
        return await self._do(lambda: describe(self.sessions.make(asked.problem, asked.options)))

    async def open(self, asked: schemas.OpenRequest) -> schemas.Status:
        """Open a session, or the one that this key opened."""
        key = asked.key or f"auto-{uuid.uuid4().hex}"

        def work() -> schemas.Status:
            session = self.sessions.open(
                asked.problem, asked.options, asked.budget, asked.seed, asked.agent, asked.settings, key
            )
            with self.sessions.using(session.facts.session) as session:
                return status(session)

        return await self._do(work, key=key)

    async def list_sessions(self) -> schemas.SessionList:
        """All sessions."""
        return schemas.SessionList(sessions=[listed(facts) for facts in self.sessions.list()])

    async def status(self, name: str) -> schemas.Status:
        """Where a session stands."""
        return await self._using(name, status)

    async def space(self, name: str) -> schemas.Space:
        """The design space of a session's problem."""
        return await self._using(name, lambda session: space_of(session.problem))

    async def units(self, name: str) -> dict[str, str]:
        """Units of the metrics of a session's problem."""
        return await self._using(name, lambda session: {m.name: m.unit for m in session.problem.metrics})

    async def evaluate(self, name: str, asked: schemas.EvaluateRequest) -> schemas.Evaluated:
        """Evaluate designs, or answer again what this key asked for."""
        key = asked.key or f"auto-{uuid.uuid4().hex}"

        def work(session: Session) -> schemas.Evaluated:
            made = session.evaluate(designs_of(session.problem.space, asked.designs), key)
            return evaluated(session, made)

        return await self._using(name, work, key)

    async def history(self, name: str, start: int = 0, count: int = 100) -> schemas.Trials:
        """Trials in their order."""

        def work(session: Session) -> schemas.Trials:
            return schemas.Trials(total=session.trials, trials=trials(session, session.history(start, count)))

        return await self._using(name, work)

    async def best(self, name: str, count: int = 1) -> schemas.Trials:
        """The best different designs."""

        def work(session: Session) -> schemas.Trials:
            return schemas.Trials(total=session.trials, trials=trials(session, session.best(count)))

        return await self._using(name, work)

    async def close(self, name: str) -> schemas.Status:
        """Close a session for good."""

        def work(session: Session) -> schemas.Status:
            session.close()
            return status(session)

        return await self._using(name, work)

    async def report(self, name: str) -> schemas.Report:
        """What a closed session found; its page is written into the session's folder."""
        return await self._using(name, _report)

    async def _using(self, name: str, work: Callable[[Session], T], key: str | None = None) -> T:
        def inside() -> T:
            with self.sessions.using(name) as session:
                return work(session)

        return await self._do(inside, name, key)


# --- answers ---------------------------------------------------------------------------------------------------------


def trials(session: Session, rows: Iterable[tuple[Request, int]]) -> list[schemas.Trial]:
    """Trials as they are answered."""
    found = list(rows)
    designs = [request.designs[row] for request, row in found]
    named = session.problem.space.decode(designs) if found else []
    return [
        schemas.Trial(
            index=request.start + row,
            design=design,
            reward=float(request.rewards[row]),
            feasible=bool(request.evaluation.feasible[row]),
            violation=str(request.evaluation.violation[row]),
            metrics={name: finite(float(column[row])) for name, column in request.evaluation.metrics.items()},
            repeat=bool(request.repeat[row]),
        )
        for (request, row), design in zip(found, named, strict=True)
    ]


def evaluated(session: Session, made: Request) -> schemas.Evaluated:
    """The answer to a request; the same whenever it is given."""
    return schemas.Evaluated(
        trials=trials(session, ((made, row) for row in range(len(made.rewards)))),
        refused=len(made.asked) - len(made.rewards),
        used=made.used,
        remaining=session.facts.budget - made.used,
        closed=made.closed,
    )


def status(session: Session) -> schemas.Status:
    """Where a session stands."""
    facts = session.facts
    best = trials(session, session.best(1))
    return schemas.Status(
        session=facts.session,
        problem=session.problem.name,
        options=session.problem.options,
        objective=session.problem.objective.name,
        budget=facts.budget,
        seed=facts.seed,
        agent=facts.agent,
        used=session.evaluator.used,
        remaining=facts.budget - session.evaluator.used,
        trials=session.trials,
        closed=session.closed,
        reason=REASONS[facts.reason] if session.closed else "",
        best=best[0] if best else None,
        folder=str(session.folder),
    )


def listed(facts: SessionFacts) -> schemas.Listed:
    """A session in a list."""
    return schemas.Listed(
        session=facts.session,
        problem=facts.problem,
        options=facts.options,
        budget=facts.budget,
        seed=facts.seed,
        agent=facts.agent,
        closed=bool(facts.closed_s),
    )


def _problems(sessions: Sessions, only: str) -> schemas.Problems:
    names = [only] if only else list(SIMULATORS)
    rows = []
    for name in names:
        cls = SIMULATORS.load(name)
        if cls.starts_programs and not sessions.trust:
            continue
        rows.append(
            schemas.SimulatorInfo(
                simulator=name,
                workloads=list(cls().workloads()),
                spaces=list(cls.spaces),
                fidelities=list(cls.fidelities),
                objective=cls.default_objective,
                options={
                    key: ", ".join(map(str, option.values)) or option.type_name
                    for key, option in option_table(cls).items()
                    if key != "space"
                },
            )
        )
    runs = [listed(facts) for facts in sessions.runs] if isinstance(sessions, EntrySessions) else []
    return schemas.Problems(simulators=rows, runs=runs)


def space_of(problem: Problem) -> schemas.Space:
    """The design space of a problem."""
    space = problem.space
    return schemas.Space(
        name=problem.simulator.space_name,
        designs=space.size if space.size < 1 << 53 else float(min(space.size, 10**300)),
        parameters=[
            schemas.ParameterInfo(
                name=p.name, values=list(p.values), ordered=p.ordered, unit=p.unit, description=p.description
            )
            for p in space.parameters
        ],
        constraints=[schemas.Rule(name=rule.name, sentence=rule.sentence) for rule in space.constraints],
        inactive=[schemas.InactiveRule(parameter=rule.parameter, sentence=rule.sentence) for rule in space.inactive],
    )


def describe(problem: Problem) -> schemas.ProblemInfo:
    """A problem without what a search is to find: no known optimum, no usual design."""
    live = problem.simulator.live(problem.workload, problem.fidelity)
    objective = problem.objective
    return schemas.ProblemInfo(
        problem=problem.name,
        description=problem.workload.description,
        objective=schemas.ObjectiveInfo(name=objective.name, description=objective.description),
        objectives=[name for name in problem.simulator.objectives(problem.workload) if name != objective.name],
        metrics=[
            schemas.MetricInfo(name=m.name, unit=m.unit, direction=m.direction, description=m.description)
            for m in problem.metrics
        ],
        space=space_of(problem),
        workload={name: str(value) for name, value in problem.workload.account().items()},
        seconds=None if live is None else live.seconds,
    )


def _report(session: Session) -> schemas.Report:
    from archgym.reports import write_report

    facts = session.facts
    if not session.closed:
        raise ServeError(
            f"the session {facts.session} is open, with {facts.budget - session.evaluator.used:,} evaluations left; close it "
            "first: the report simulates designs beyond the budget"
        )
    if not session.trials:
        raise ServeError(f"the session {facts.session} was closed without a trial, so there is nothing to report")
    found = session.best(1)
    request, row = found[0]
    metrics: dict[str, float | None] = {name: float(column[row]) for name, column in request.evaluation.metrics.items()}
    account = account_for(session.problem, request.designs[row], float(request.rewards[row]), metrics, facts.agent)
    page = write_report(session.shard.parent, session.folder / "report.html", trust=True)
    return schemas.Report(
        session=facts.session,
        sentence=account.sentence,
        best=trials(session, found)[0],
        used=session.evaluator.used,
        trials=session.trials,
        page=str(page),
    )


def as_json(answer: schemas.Answer) -> bytes:
    """An answer as JSON: finite numbers only, as every reader takes them."""
    return json.dumps(finite(answer.model_dump()), ensure_ascii=False, allow_nan=False).encode()


class Bucket:
    """A token bucket: ``rate`` requests a second on average, ``burst`` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._level, self._at = burst, time.monotonic()

    def wait_s(self) -> float:
        """0 where a request may pass (it is then counted), else the seconds until one may."""
        now = time.monotonic()
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate
