"""Sessions of ask and evaluate: each is a run's shard on disk, with a journal of the requests that made it.

```
DIR/<session>/session.json     the problem, its options, budget, seed, who searches; when it was closed and why
DIR/<session>/requests.jsonl   one line a request before it is evaluated, one after: {"key", "designs"}, {"done"}; where
                               it failed, {"failed"} and then {"kept"}, how many of its trials there are
DIR/<session>/trials/*.arrows  the trials, written by the evaluator
```
A request is in the journal before its first design is simulated. A session that was cut is loaded by asking its evaluator
for the same designs again, which the shard answers: the state is that of an uninterrupted session, bit by bit, and a
request that was cut itself goes on where it stopped. So whatever was answered once is answered the same again, in any
process, and is paid for once.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from archgym.datasets.problems import refuse_untrusted
from archgym.datasets.shards import SUFFIX
from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.files import kept_beside
from archgym.locating import following
from archgym.objective import Rewards
from archgym.problem import Problem, problem_of_options
from archgym.reading import checked, parse_json, read_json, read_json_lines
from archgym.registry import AGENTS, CELL_AGENTS
from archgym.serve.schemas import Value
from archgym.simulator import Evaluation
from archgym.space import Designs, DesignSpace, Parameter
from archgym.writing import unwritable, write_json

FORMAT = 1
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,100}\Z")
REASONS = {"budget": "the budget is used up", "repeats": "only repeats came for long", "asked": "it was closed"}


class ServeError(ArchGymError):
    """A refusal with a kind for programs."""

    kind = "bad_request"


class NoSessionError(ServeError):
    """There is no session of this name."""

    kind = "no_session"


class ClosedError(ServeError):
    """Nothing more can be evaluated: the budget is used up, or the session was closed."""

    kind = "closed"


class KeyUsedError(ServeError):
    """The key of a request was that of another one."""

    kind = "key_used"


class FullError(ServeError):
    """As many sessions are open as the server allows."""

    kind = "too_many_sessions"


class UntrustedError(ServeError):
    """A problem needs a file or a program, and the server was started without trust."""

    kind = "untrusted"


class DamagedError(ServeError):
    """What a session's folder holds does not fit together."""

    kind = "damaged"


@dataclass(frozen=True)
class SessionFacts:
    """What a session was opened with.

    Attributes:
        session: its name, also that of its folder.
        problem, options: what :func:`archgym.make_problem` makes it from.
        budget: simulator evaluations.
        seed: of the run.
        agent, settings: who searches, as the trials say it.
        key: the request that opened it.
        created_s: seconds since the epoch.
        closed_s: when it was closed; 0 while it is open.
        reason: why, a key of :data:`REASONS`.
    """

    session: str
    problem: str
    options: dict[str, Any]
    budget: int
    seed: int = 0
    agent: str = "external"
    settings: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    created_s: float = 0.0
    closed_s: float = 0.0
    reason: str = ""
    format: int = FORMAT

    @property
    def asked(self) -> tuple[Any, ...]:
        """What was asked for, whatever the session is called."""
        return (self.problem, self.options, self.budget, self.seed, self.agent, self.settings)


@dataclass
class Request:
    """A request that was answered: the trials from ``start`` on."""

    key: str
    asked: Designs
    start: int
    designs: Designs
    evaluation: Evaluation
    rewards: Rewards
    repeat: NDArray[np.bool_]
    used: int
    closed: bool

    @property
    def end(self) -> int:
        return self.start + len(self.rewards)


class Session:
    """An open session, or a closed one that is read; every method may be called from any thread.

    Args:
        folder: the session's own.
        facts: what it was opened with.
        problem: what is searched.
        shard: where its trials are.
        run: what the trials call the run.
        study: what the trials call the study.
    """

    def __init__(
        self, folder: Path, facts: SessionFacts, problem: Problem, shard: Path, run: str = "", study: str = ""
    ) -> None:
        self.folder, self.facts, self.problem, self.shard = folder, facts, problem, shard
        self.lock = threading.RLock()
        self.requests: list[Request] = []
        self._starts: list[int] = []
        self._by_key: dict[str, Request] = {}
        self._seen: set[bytes] = set()
        self._pending: tuple[str, Designs] | None = None
        self._journal = folder / "requests.jsonl"
        about = {"agent": facts.agent, "hyperparameters": facts.settings, "study": study, "run": run or facts.session}
        self.evaluator = Evaluator(
            problem, budget=facts.budget, seed=facts.seed, log=shard, run=about, resume=True, read_only=self.closed
        )
        try:
            self._load()
        except BudgetExhausted:
            self.evaluator.close()
            raise DamagedError(
                f"the journal of {facts.session} holds more than its budget allowed; start a new session"
            ) from None
        except BaseException:
            self.evaluator.close()
            raise

    @property
    def closed(self) -> bool:
        return bool(self.facts.closed_s)

    @property
    def trials(self) -> int:
        """Trials so far."""
        return self.requests[-1].end if self.requests else 0

    # --- the journal -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Go through the journal again; the evaluator answers from its shard."""
        if not self._journal.exists():
            return
        _mend(self._journal)
        asked: tuple[str, Designs] | None = None
        failed = False
        for number, line in read_json_lines(self._journal, "journal"):
            row = checked(line, _Line, f"line {number} of the journal of {self.facts.session}")
            if row.designs:
                asked = row.key, self.problem.space.check(np.array(row.designs, dtype=np.int64))
            elif row.failed:
                failed = True
            elif asked is not None:
                if row.kept is None:
                    self._run(*asked)
                for design in asked[1][: row.kept or 0]:
                    self._run("", design[None])
                asked, failed = None, False
        if asked is not None and failed:
            # What of it was done before it failed is in the shard; the rest was given up.
            kept = 0
            while kept < len(asked[1]) and self.evaluator.stored:
                self._run("", asked[1][kept : kept + 1])
                kept += 1
            self._write({"kept": kept})
            asked = None
        self._pending = asked
        if asked is not None and self.evaluator.stored:  # it was cut after some of its designs were simulated
            self._finish_pending()
        if self.evaluator.stored:
            raise DamagedError(
                f"the journal of {self.facts.session} lacks requests whose trials are in its shard; start a new session"
            )
        if self.evaluator.exhausted and not self.closed:
            self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            with open(self._journal, "ab", buffering=0) as file:
                file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise unwritable(self._journal, error) from None

    # --- evaluating ------------------------------------------------------------------------------------------------

    def evaluate(self, designs: Designs, key: str = "") -> Request:
        """Evaluate designs ``(n, d)``; the same key is answered again.

        Raises:
            ClosedError: the budget is used up, or the session was closed.
            KeyUsedError: the key was that of other designs.
        """
        with self.lock:
            known = self._known(key, designs)
            if known is None and self._pending is not None:
                self._finish_pending()
                known = self._known(key, designs)
            if known is not None:
                return known
            self._refuse_closed()
            self._write({"key": key, "designs": designs.tolist()})
            self._pending = key, designs
            return self._finish_pending()

    def _known(self, key: str, designs: Designs) -> Request | None:
        found = self._by_key.get(key) if key else None
        asked = found.asked if found is not None else None
        if found is None and key and self._pending is not None and self._pending[0] == key:
            asked = self._pending[1]
        if asked is not None and not np.array_equal(asked, designs):
            raise KeyUsedError(f"the key {quote(key)} was that of other designs; give every request a key of its own")
        return found

    def _refuse_closed(self) -> None:
        if self.closed:
            used, budget = self.evaluator.used, self.facts.budget
            raise ClosedError(
                f"the session {self.facts.session} takes no more designs: {REASONS[self.facts.reason]} "
                f"({used:,} of {budget:,} evaluations); ask for its report, or open another session"
            )

    def _finish_pending(self) -> Request:
        assert self._pending is not None
        key, designs = self._pending
        try:
            made = self._run(key, designs)
        except Exception as error:
            self._write({"failed": f"{type(error).__name__}: {error}"[:500]})
            raise
        self._write({"done": len(made.rewards)})
        self._pending = None
        if self.evaluator.exhausted:
            self.close()
        return made

    def _run(self, key: str, designs: Designs) -> Request:
        """Evaluate through the evaluator, and remember the answer."""
        start = self.trials
        asked = designs
        designs, evaluation, rewards = self.evaluator.evaluate(designs)
        repeat = np.empty(len(rewards), dtype=bool)
        for i, row in enumerate(self.problem.space.canonical(designs)):
            name = row.tobytes()
            repeat[i] = name in self._seen
            self._seen.add(name)
        made = Request(
            key, asked, start, designs, evaluation, rewards, repeat, self.evaluator.used, self.evaluator.exhausted
        )
        self.requests.append(made)
        self._starts.append(start)
        if key:
            self._by_key[key] = made
        return made

    # --- looking ---------------------------------------------------------------------------------------------------

    def history(self, start: int, count: int) -> Iterator[tuple[Request, int]]:
        """The trials from ``start`` on, at most ``count``: the request of each and its row there."""
        with self.lock:
            at = max(bisect_right(self._starts, start) - 1, 0)
            for request in self.requests[at:]:
                for row in range(max(start - request.start, 0), len(request.rewards)):
                    if count <= 0:
                        return
                    count -= 1
                    yield request, row

    def best(self, count: int = 1) -> list[tuple[Request, int]]:
        """The trials with the highest rewards, different designs only, the earlier one first where they are equal."""
        with self.lock:
            if not self.requests:
                return []
            rewards = np.concatenate([np.where(r.repeat, -np.inf, r.rewards) for r in self.requests])
            found = np.argsort(-rewards, kind="stable")[:count]
            return [next(self.history(int(i), 1)) for i in found if rewards[i] > -np.inf]

    # --- ending ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the session for good; its trials stay. Closing twice changes nothing."""
        with self.lock:
            if self._pending is not None:
                self._finish_pending()
            if self.closed:
                return
            reason = "asked"
            if self.evaluator.exhausted:
                reason = "budget" if self.evaluator.remaining <= 0 else "repeats"
            self.evaluator.close()
            self.ended()
            self.facts = replace(self.facts, closed_s=time.time(), reason=reason)
            write_facts(self.folder, self.facts)

    def ended(self) -> None:
        """Called once when the last trial is written, before the session counts as closed."""

    def release(self) -> None:
        """Let go of the shard; the session can be loaded again."""
        with self.lock:
            self.evaluator.close()


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a journal."""

    key: str = ""
    designs: list[list[int]] = []
    done: int = 0
    failed: str = ""
    kept: int | None = None


def _mend(path: Path) -> None:
    """Cut off a last line that a kill left without an end: its request was never begun."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with open(path, "rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)


def write_facts(folder: Path, facts: SessionFacts) -> None:
    """Put what a session was opened with into its folder, at once."""
    write_json(folder / "session.json", msgspec.to_builtins(facts))


def read_facts(path: Path) -> SessionFacts:
    """Inverse of :func:`write_facts`, for the file itself."""
    facts: SessionFacts = checked(read_json(path, "session"), SessionFacts, f"the session {path}")
    if facts.format != FORMAT or facts.session != path.parent.name or not _ID.match(facts.session):
        raise ArchGymError(f"{path} is no session of this archgym")
    if facts.closed_s and facts.reason not in REASONS:
        raise ArchGymError(f"{path} was closed for an unknown reason {quote(facts.reason, 40)}")
    return facts


class Sessions:
    """The sessions under a folder. Any thread may call; work on one session waits for the one before.

    Args:
        folder: where they are; made where it is missing. One process at a time has it.
        trust: also open problems that run programs or read files that a request names.
        most: sessions that may be open at once.
        loaded: sessions that are kept in memory; the others are loaded when they are asked for.
        max_budget: the largest budget of one session.

    Attributes:
        notes: sentences on what in the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        trust: bool = False,
        most: int = 1000,
        loaded: int = 64,
        max_budget: int = 1_000_000,
    ) -> None:
        self.folder, self.trust, self.most, self.max_budget = Path(folder), trust, most, max_budget
        self._most_loaded = loaded
        self._lock = threading.RLock()
        self._opening = [threading.Lock() for _ in range(64)]  # one a key or session, as far as they go round
        self._loading = [threading.Lock() for _ in range(64)]
        self._facts: dict[str, SessionFacts] = {}
        self._keys: dict[str, str] = {}
        self._loaded: OrderedDict[str, Session] = OrderedDict()
        self.notes: list[str] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        self._held = _hold(self.folder)
        for path in sorted(self._home.glob("*/session.json")):
            try:
                facts = read_facts(path)
            except ArchGymError as error:
                self.notes.append(str(error))
                continue
            self._note(facts)

    @property
    def _home(self) -> Path:
        """The folder of the sessions' folders."""
        return self.folder

    def _note(self, facts: SessionFacts) -> None:
        self._facts[facts.session] = facts
        if facts.key:
            self._keys[facts.key] = facts.session

    @property
    def open_count(self) -> int:
        """Sessions that are not closed."""
        with self._lock:
            return sum(not facts.closed_s for facts in self._facts.values())

    def list(self) -> list[SessionFacts]:
        """All sessions, those opened last first."""
        with self._lock:
            return sorted(self._facts.values(), key=lambda facts: (-facts.created_s, facts.session))

    def make(self, name: str, options: Mapping[str, Any]) -> Problem:
        """The problem that a request names.

        Raises:
            UntrustedError: it needs a file or a program, and the service was started without trust.
        """
        options = parse_json(json.dumps(dict(options)), "the options")
        if not self.trust:
            try:
                refuse_untrusted(name, options)
            except ArchGymError as error:
                why = str(error).partition(";")[0]
                raise UntrustedError(f"{why}, which this server refuses; start it with --trust to allow that") from None
        return problem_of_options(name, options)

    # --- opening and loading -----------------------------------------------------------------------------------------

    def open(
        self,
        problem: str,
        options: Mapping[str, Any],
        budget: int,
        seed: int = 0,
        agent: str = "external",
        settings: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> Session:
        """Open a session; the same key gives the same session.

        Raises:
            ArchGymError: one sentence, for whatever cannot be.
        """
        asked = self.admitted(SessionFacts("", problem, dict(options), budget, seed, agent, dict(settings or {}), key))
        agent, key = asked.agent, asked.key
        if agent in AGENTS or agent in CELL_AGENTS:
            raise ServeError(f"{agent} is an agent of archgym, which does not search here; call yours something else")
        if not key:
            return self._open(asked)
        with self._opening[hash(key) % len(self._opening)]:
            with self._lock:
                known = self._facts.get(self._keys.get(key, ""))
            if known is not None:
                if known.asked != asked.asked:
                    raise KeyUsedError(f"the key {quote(key)} opened another session; give every session its own")
                return self.get(known.session)
            return self._open(asked)

    def admitted(self, asked: SessionFacts) -> SessionFacts:
        """What is opened for what was asked for; sub-classes that admit less refuse here."""
        return asked

    def _open(self, asked: SessionFacts) -> Session:
        if asked.budget > self.max_budget:
            raise ServeError(
                f"the budget is {asked.budget:,}; this server allows at most {self.max_budget:,} evaluations"
            )
        self._refuse_full()
        with following(()):  # a new session takes files as they are now
            problem = self.make(asked.problem, asked.options)
        stem = re.sub(r"[^a-z0-9]+", "-", problem.name.lower()).strip("-")[:40].strip("-") or "session"
        with self._lock:
            self._refuse_full()
            facts = replace(asked, session=f"{stem}-{secrets.token_hex(4)}", created_s=time.time())
            if facts.session in self._facts:
                raise ServeError("the name of the session is taken; ask again")
            self._begin(facts)
            return self._keep(self._session(facts, problem))

    def _begin(self, facts: SessionFacts) -> None:
        write_facts(self._home / facts.session, facts)
        self._note(facts)

    def _refuse_full(self) -> None:
        if self.open_count >= self.most:
            raise FullError(f"{self.open_count:,} sessions are open, the most that this server allows; close some")

    def _session(self, facts: SessionFacts, problem: Problem) -> Session:
        folder = self._home / facts.session
        return Session(folder, facts, problem, folder / "trials" / f"{facts.session}{SUFFIX}")

    def get(self, name: str) -> Session:
        """The session of this name, loaded.

        Raises:
            NoSessionError: there is none.
        """
        with self._lock:
            found = self._loaded.get(name)
            if found is not None:
                self._loaded.move_to_end(name)
                return found
            facts = self._facts.get(name)
            if facts is None:
                near = UnknownNameError("session", quote(name, 60, marks=False), self._facts).nearest
                hint = f"did you mean {near!r}?" if near else "open one first"
                raise NoSessionError(f"there is no session {quote(name, 60)}; {hint}")
        # Loading takes long, and holds up nobody but those who want the same session.
        with self._loading[hash(name) % len(self._loading)]:
            with self._lock:
                found = self._loaded.get(name)
            if found is None:
                with following(kept_beside([self._home / name / "trials" / name])):
                    problem = self.make(facts.problem, facts.options)
                with self._lock:
                    facts = self._facts[name]
                session = self._session(facts, problem)
                with self._lock:
                    found = self._keep(session)
            return found

    def _keep(self, session: Session) -> Session:
        """Hold it in memory, and let go of those that were not asked for longest."""
        self._loaded[session.facts.session] = session
        for name in list(self._loaded):
            if len(self._loaded) <= self._most_loaded:
                break
            other = self._loaded[name]
            if other is not session and other.lock.acquire(blocking=False):
                try:
                    self._let_go(name)
                finally:
                    other.lock.release()
        return session

    def _let_go(self, name: str) -> None:
        session = self._loaded.pop(name)
        self._facts[name] = session.facts
        session.release()

    @contextmanager
    def using(self, name: str) -> Iterator[Session]:
        """The session, held for the block: nobody else works on it. After an error that is no refusal it is loaded anew,
        so that memory never says what the disk does not."""
        while True:
            session = self.get(name)
            session.lock.acquire()
            with self._lock:
                if self._loaded.get(name) is session:
                    break
            session.lock.release()  # it was let go in between
        try:
            yield session
            self._facts[name] = session.facts
        except ServeError:
            self._facts[name] = session.facts
            raise
        except BaseException:
            with self._lock:
                self._let_go(name)
            raise
        finally:
            session.lock.release()

    def shut(self) -> None:
        """Let go of all sessions and of the folder."""
        with self._lock:
            loaded = list(self._loaded.items())
        for name, session in loaded:
            with session.lock, self._lock:
                if self._loaded.get(name) is session:
                    self._let_go(name)
        if self._held is not None:
            self._held.close()


def designs_of(space: DesignSpace, given: Sequence[Mapping[str, Value] | Sequence[int]]) -> Designs:
    """Designs ``(n, d)`` from parameter -> value, or rows of value indices.

    Raises:
        ArchGymError: one sentence on the first design that is not in the space.
    """
    rows = np.empty((len(given), space.dimension), dtype=np.int64)
    for i, design in enumerate(given):
        try:
            if isinstance(design, Mapping):
                rows[i] = space.encode({name: _value(space[name], value) for name, value in design.items()})[0]
            else:
                if any(abs(index) > 1 << 62 for index in design):
                    raise ArchGymError("it has an index beyond 64 bits")
                rows[i] = space.check([list(design)])[0]
        except ArchGymError as error:
            which = f"design {i} of the request: " if len(given) > 1 else ""
            raise ServeError(f"{which}{error}") from None
    return rows


def _value(parameter: Parameter, given: Value) -> Value:
    """The parameter's value that is meant: a truth value is no number, and a decimal fraction stands for the value that it is
    rounded from (to 1e-9)."""
    if isinstance(given, bool) not in {isinstance(value, bool) for value in parameter.values}:
        shown = ", ".join(map(json.dumps, parameter.values[:10]))
        raise ArchGymError(
            f"{parameter.name} cannot be {quote(json.dumps(given), 60, marks=False)}; its values are {shown}"
        )
    if isinstance(given, float) and given not in parameter.values:
        for value in parameter.values:
            if isinstance(value, float) and math.isclose(value, given, rel_tol=1e-9, abs_tol=1e-12):
                return value
    return given


def _hold(folder: Path) -> Any:
    """An open file that this process alone may have; None where the system cannot say."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(folder / ".lock", "a+")  # noqa: SIM115 (held until the sessions are shut)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ArchGymError(f"another 'archgym serve' uses {folder}; choose another folder with --out") from None
    return file
