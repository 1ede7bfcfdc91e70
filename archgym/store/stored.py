"""A simulator that asks a store first, and where the store is.

``ARCHGYM_STORE`` or ``--store`` names a file: then every simulator uses it. Where neither does, those that start programs use
one in the user's cache folder, and the others none: most designs are simulated in less time than they are looked up. ``off``
switches it off for all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.announcing import say_once
from archgym.simulator import REFERENCES, Evaluation, Simulator, Workload, median_references, result_identity
from archgym.space import Designs, DesignSpace, Mask
from archgym.store.database import Context, Row, Store
from archgym.wrapping import Wrapped

VARIABLE = "ARCHGYM_STORE"
OFF = ("off", "none", "0")
FILE = "store.sqlite"
"""The store in a folder."""
PATIENCE_S = 10.0
"""Seconds of waiting for another process before that is said."""
POLL_S = 0.05
"""Seconds between two looks at whether another process is done."""
_STORES: dict[str, Store] = {}


def default_path() -> Path:
    """The store of this user: in the cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "archgym" / FILE


def chosen_path(simulator: Simulator | None = None) -> Path | None:
    """The store that ``simulator`` uses (where None: that any uses), None for no store."""
    given = os.environ.get(VARIABLE, "").strip()
    if given.lower() in OFF:
        return None
    if given:
        path = Path(given).expanduser()
        return path / FILE if path.is_dir() else path
    try:
        return default_path() if simulator is None or simulator.starts_programs else None
    except RuntimeError:  # nobody's home
        return None


def open_store(path: Path | str) -> Store:
    """The store at ``path``: one object a process."""
    key = os.path.abspath(path)
    return _STORES.setdefault(key, Store(key))


@contextmanager
def using(path: Path | str | None) -> Iterator[None]:
    """Inside, and in processes started inside, problems are made with the store at ``path``; with none where None."""
    before = os.environ.get(VARIABLE)
    off = path is None or str(path).strip().lower() in OFF
    os.environ[VARIABLE] = "off" if off else os.path.abspath(os.path.expanduser(str(path)))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def stored(simulator: Simulator) -> Simulator:
    """The simulator with the store that it should use, or itself where that is none."""
    path = chosen_path(simulator)
    return simulator if path is None else Stored(simulator, str(path))


class Tally:
    """Which designs of the batches evaluated meanwhile were answered by a store.

    Attributes:
        started: whether anything was simulated.
    """

    def __init__(self) -> None:
        self._answered: Mask | None = None
        self._whole = True
        self.started = False

    # (Written out, as every step of an environment goes through here: a generator takes three times as long.)
    def __enter__(self) -> Tally:
        self._outside = _TALLIES.set((*_TALLIES.get(), self))
        return self

    def __exit__(self, *exc: object) -> None:
        _TALLIES.reset(self._outside)

    def add(self, answered: Mask) -> None:
        self.started |= not answered.all()
        if self._answered is None:
            self._answered = answered
        elif len(answered) == len(self._answered):  # the same designs on another workload
            self._answered = self._answered & answered
        else:
            self._whole = False

    @property
    def answered(self) -> int:
        """Designs that nothing was simulated for."""
        return int(self._answered.sum()) if self._answered is not None and self._whole else 0


_TALLIES: ContextVar[tuple[Tally, ...]] = ContextVar("tallies", default=())
_ANEW: ContextVar[bool] = ContextVar("anew", default=False)


def tally() -> Tally:
    """Count what a store answers inside: ``with tally() as found``."""
    return Tally()


@contextmanager
def simulating_anew(anew: bool = True) -> Iterator[None]:
    """Inside, no store answers: to check results is to simulate them. What comes out is not kept either. Reference values,
    which are not what is checked, still come from it."""
    token = _ANEW.set(anew)
    try:
        yield
    finally:
        _ANEW.reset(token)


class Stored(Wrapped):
    """A simulator whose results are kept: what the store knows is not simulated.

    Args:
        whole: the simulator.
        path: of the store.
    """

    def __init__(self, whole: Simulator, path: str) -> None:
        super().__init__(whole)
        self.path = path
        self._contexts: dict[tuple[Any, ...], tuple[Workload, Context]] = {}
        self._known: dict[str, Mapping[str, float]] = {}

    @property
    def store(self) -> Store:
        return open_store(self.path)

    def context(self, workload: Workload, fidelity: str | None, seed: int | None) -> Context:
        """What beside the design a result depends on: the identity that known optima and proxies have too, the parameters
        with their values (which the indices of a design mean), the metrics, and the seed where it matters."""
        matters = seed if self.whole.noisy(workload, fidelity) else None
        # A program may be built anew while this process lives.
        key = (id(workload), fidelity, matters, *sorted(self.whole.programs.items()))
        if key not in self._contexts:
            about = {
                **result_identity(self.whole, workload, fidelity),
                "parameters": _meaning(self.whole.space(workload)),
                "metrics": [metric.name for metric in self.whole.metrics_for(workload)],
                "seed": matters,
            }
            # One context, whichever thread was first: another would look like that of a program built anew.
            self._contexts.setdefault(key, (workload, Context.of(about, f"{self.whole.name}/{workload.name}")))
        return self._contexts[key][1]

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        **further: Any,
    ) -> Evaluation:
        space = self.whole.space(workload)
        array = space.check(designs)
        if _ANEW.get() or self.whole.inherits(fidelity) or not len(array):
            return self.whole.evaluate(array, workload, fidelity=fidelity, seed=seed, **further)
        context, keys = self.context(workload, fidelity, seed), _keys(space.canonical(array))
        names = [metric.name for metric in self.whole.metrics_for(workload)]
        known = self._look_up(context, keys, names)
        # Equivalent designs of one batch are simulated once.
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        rows = sorted(row for key, row in first.items() if key not in known)
        simulated: set[bytes] = set()
        with closing(self._claimed(context, keys, rows)) as parts:
            for mine, give_back in parts:
                if give_back is not None:  # another process may have simulated them meanwhile
                    known |= self._look_up(context, [keys[row] for row in mine], names)
                new = np.array([row for row in mine if keys[row] not in known], dtype=np.int64)
                if not len(new):
                    continue
                for part, evaluation in self.whole.evaluate_parts(array[new], workload, fidelity=fidelity, seed=seed):
                    made = dict(zip([keys[row] for row in new[part]], _rows(evaluation, names), strict=True))
                    if self.context(workload, fidelity, seed) is context:  # not built anew meanwhile
                        self.store.put(context, made)
                    known |= made
                    simulated |= made.keys()
                    if give_back is not None:
                        give_back(new[part].tolist())
        for counting in _TALLIES.get():
            counting.add(np.array([key not in simulated for key in keys], dtype=bool))
        return _evaluation([known[key] for key in keys], names)

    def _look_up(self, context: Context, keys: list[bytes], names: list[str]) -> dict[bytes, Row]:
        found = self.store.look_up(context, keys)
        return {key: row for key, row in found.items() if len(row.metrics) == 8 * len(names)}

    def _claimed(
        self, context: Context, keys: list[bytes], rows: list[int]
    ) -> Generator[tuple[list[int], Callable[[list[int]], None] | None]]:
        """Parts of ``rows`` for the caller to simulate, and what gives the claims on some of them back as soon as their
        results are kept. What others simulate comes when they are done, or gone. All at once, and no claims, where no program
        is started or results cannot be kept."""
        if not rows or not self.whole.starts_programs or not self.store.writable:
            yield from [(rows, None)] if rows else []
            return
        claims, numbers = self.store.claims, {row: context.number(keys[row]) for row in rows}
        # A few for each worker, so that processes with the same batch share it; more where nobody else is there.
        most, since = 4 * int(getattr(self.whole, "workers", 1)), time.monotonic()
        while rows:
            by_number = {numbers[row]: row for row in rows}
            held = {by_number[number]: number for number in claims.take(by_number, most)}
            if not held:
                if time.monotonic() - since > PATIENCE_S:
                    say_once(f"{context.label}: another process simulates the same designs; waiting for its results")
                claims.wait(POLL_S)
                continue
            mine = list(held)
            most = most if mine != rows[: len(mine)] else 2 * most
            try:
                yield mine, lambda done, held=held: claims.release([held.pop(row) for row in done])  # type: ignore[misc]
            finally:
                claims.release(held.values())
            rows = sorted(set(rows) - set(mine))
            since = time.monotonic()

    def missing(
        self, designs: Designs, workload: Workload, fidelity: str | None = None, seed: int | None = None
    ) -> int:
        """How many of the designs the store does not know."""
        keys = set(_keys(self.whole.space(workload).canonical(designs)))
        return len(keys) - len(self.store.look_up(self.context(workload, fidelity, seed), keys))

    def references(self, workload: Workload) -> Mapping[str, float]:
        if self.given_references is not None or type(self.whole).references is not Simulator.references:
            return self.whole.references(workload)
        if workload.fingerprint not in self._known:
            count = 0
            if not self.reference_values:
                count = self.missing(self.whole.space(workload).sample(REFERENCES, 0), workload, seed=0)
            with simulating_anew(False):
                self._known[workload.fingerprint] = median_references(self, workload, count)
        return dict(self._known[workload.fingerprint])


def _meaning(space: DesignSpace) -> str:
    """A digest of what value indices mean."""
    text = repr([(p.name, p.values) for p in space.parameters])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _keys(canonical: Designs) -> list[bytes]:
    small = np.ascontiguousarray(canonical, dtype="<i4")
    return [row.tobytes() for row in small]


def _rows(evaluation: Evaluation, names: list[str]) -> list[Row]:
    table = np.empty((len(evaluation), len(names)), dtype="<f8")
    for j, name in enumerate(names):
        table[:, j] = evaluation.metrics[name]
    violation = evaluation.violation.tolist()
    return [
        Row(feasible, str(violation[i]), table[i].tobytes()) for i, feasible in enumerate(evaluation.feasible.tolist())
    ]


def _evaluation(rows: list[Row], names: list[str]) -> Evaluation:
    table = np.frombuffer(b"".join(row.metrics for row in rows), dtype="<f8").reshape(len(rows), len(names))
    columns: NDArray[np.float64] = np.ascontiguousarray(table.T, dtype=np.float64)
    violation = np.empty(len(rows), dtype=object)
    violation[:] = [row.violation for row in rows]
    feasible = np.array([row.feasible for row in rows], dtype=bool)
    return Evaluation(dict(zip(names, columns, strict=True)), feasible, violation, columns if names else None)
