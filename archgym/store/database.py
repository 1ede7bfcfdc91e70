"""The file of a store: SQLite in WAL mode, which any number of processes of one machine may read and write at once.

```
contexts     id, digest, about      what beside the design a result depends on: its digest, and itself as JSON
             label                  the problem's name, for people
evaluations  context, design        canonical value indices, int32, little-endian
             feasible, violation, metrics (float64, little-endian), checksum, created
```
A row counts only where its checksum, over context, design and result, is right. A transaction is there whole or not at all, so
that a killed writer loses what it had not yet been told was written, and nothing else. What fails (a full disk, a damaged
file, no permission) is said once and costs simulations, never an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archgym.announcing as announcing
from archgym.errors import ArchGymError
from archgym.store.claims import Claims

APPLICATION = 0x61676779
"""SQLite's ``application_id`` of our files: no other file is ever written to."""
FORMAT = 1
PATIENCE_S = 20.0
"""Seconds that a process waits for others that write."""
_AT_ONCE = 500  # designs asked for in one statement
_KEPT_OPEN: list[sqlite3.Connection] = []  # a parent's connections in its forked children: never closed there

_SCHEMA = f"""
CREATE TABLE contexts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, about TEXT NOT NULL, label TEXT NOT NULL);
CREATE TABLE evaluations (
    context INTEGER NOT NULL, design BLOB NOT NULL, feasible INTEGER NOT NULL, violation TEXT NOT NULL,
    metrics BLOB NOT NULL, checksum BLOB NOT NULL, created REAL NOT NULL, PRIMARY KEY (context, design)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""


class StoreError(ArchGymError):
    """A file that cannot serve as a store; one sentence."""


@dataclass(frozen=True)
class Context:
    """What beside the design a result depends on.

    Attributes:
        about: it, JSON-able.
        digest: 16 bytes that stand for it.
        label: what people call it.
    """

    about: Mapping[str, Any]
    digest: bytes
    label: str = ""

    @classmethod
    def of(cls, about: Mapping[str, Any], label: str = "") -> Context:
        return cls(about, hashlib.blake2b(_text(about).encode(), digest_size=16).digest(), label)

    def number(self, design: bytes) -> int:
        """62 bits that stand for a design under this context."""
        digest = hashlib.blake2b(self.digest + design, digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 2


@dataclass(frozen=True, slots=True)
class Row:
    """A stored result: feasibility, violation, and the metrics' float64 as bytes."""

    feasible: bool
    violation: str
    metrics: bytes


@dataclass(frozen=True, slots=True)
class _Stored:
    """A row as it stands in the file, and whether its checksum is right."""

    context: int
    design: Any
    violation: Any
    created: Any
    about: Mapping[str, Any]
    right: bool


def _text(about: Mapping[str, Any]) -> str:
    return json.dumps(about, sort_keys=True)


def _checksum(digest: bytes, design: bytes, feasible: int, violation: str, metrics: bytes) -> bytes:
    text = violation.encode("utf-8", "surrogatepass")
    head = b"%d %d %d %d " % (len(design), feasible, len(text), len(metrics))
    return hashlib.blake2b(b"".join((head, digest, design, text, metrics)), digest_size=8).digest()


def _is_right(digest: bytes, row: Sequence[Any]) -> bool:
    """Whether (design, feasible, violation, metrics, checksum) belong together under a context."""
    design, feasible, violation, metrics, checksum = row
    return (
        type(design) is bytes
        and type(feasible) is int
        and type(violation) is str
        and type(metrics) is bytes
        and checksum == _checksum(digest, design, feasible, violation, metrics)
    )


class Store:
    """A store's file. One object serves all threads of a process, and goes on in its forks.

    Args:
        path: of the file; made, with its folder, where it is missing.
        say: what is called with a sentence where something fails; standard error by default.

    Attributes:
        readable: whether reading has not failed so far.
        claims: who simulates what.
        ignored: rows that were left out because their checksum is wrong.
    """

    def __init__(self, path: Path | str, say: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self.claims = Claims(self.path.with_name(f"{self.path.name}-claims"))
        self.readable = True
        self._quiet_until = 0.0  # after a failed write
        self.ignored = 0
        self._say = say or announcing.say
        self._said: set[str] = set()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self._ids: dict[bytes, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a store's file is opened in each process; send its path")

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None
            self._ids.clear()

    @property
    def writable(self) -> bool:
        """Whether results are likely to be kept: nothing failed, or not lately."""
        return self.readable and time.monotonic() >= self._quiet_until

    # --- what simulators ask ---------------------------------------------------------------------------------------

    def look_up(self, context: Context, designs: Iterable[bytes]) -> dict[bytes, Row]:
        """What is known of ``designs`` under a context: design -> row. What cannot be read is not known."""
        found: dict[bytes, Row] = {}
        if not self.readable:
            return found
        try:
            with self._lock:
                connection = self._open()
                number = self._context(connection, context)
                if number is None:
                    return found
                asked = list(dict.fromkeys(designs))
                for start in range(0, len(asked), _AT_ONCE):
                    part = asked[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(part))
                    for row in connection.execute(
                        "SELECT design, feasible, violation, metrics, checksum FROM evaluations "
                        f"WHERE context = ? AND design IN ({marks})",
                        (number, *part),
                    ):
                        if _is_right(context.digest, row):
                            found[row[0]] = Row(bool(row[1]), row[2], row[3])
                        else:
                            self._ignore()
        except (sqlite3.Error, OSError, StoreError) as error:
            self._fail(error, reading=True)
        return found

    def put(self, context: Context, rows: Mapping[bytes, Row]) -> bool:
        """Keep results: design -> row, all of them or none; True where they are in the file. A result that is there stays,
        unless it is damaged."""
        if not rows or not self.writable:
            return False
        try:
            with self._lock, self._transaction() as connection:
                number = self._context(connection, context)
                if number is None:
                    added = connection.execute(
                        "INSERT INTO contexts (digest, about, label) VALUES (?, ?, ?)",
                        (context.digest, _text(context.about), context.label),
                    )
                    number = int(added.lastrowid or 0)
                now = time.time()
                connection.executemany(
                    "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (context, design) DO UPDATE SET "
                    "feasible = excluded.feasible, violation = excluded.violation, metrics = excluded.metrics, "
                    "checksum = excluded.checksum, created = excluded.created "
                    "WHERE NOT is_right(?, design, feasible, violation, metrics, checksum)",
                    (
                        (number, design, int(row.feasible), row.violation, row.metrics,
                         _checksum(context.digest, design, int(row.feasible), row.violation, row.metrics),
                         now, context.digest)
                        for design, row in rows.items()
                    ),
                )  # fmt: skip
            return True
        except (sqlite3.Error, OSError, StoreError) as error:
            self._fail(error, reading=False)
            return False

    # --- what people ask -------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """One entry a context: what it is about, its label, rows, feasible rows, first and last time (seconds since the epoch).

        Raises:
            StoreError: the file cannot be read.
        """
        with self._reading() as connection:
            counts = connection.execute(
                "SELECT about, label, count(*), sum(feasible), min(created), max(created) FROM contexts JOIN evaluations "
                "ON context = id GROUP BY id ORDER BY id"
            )
            names = ("label", "rows", "feasible", "first", "last")
            return [{"about": _about(about), **dict(zip(names, row, strict=True))} for about, *row in counts]

    def verify(self) -> dict[str, Any]:
        """Look at the whole file: ``{"rows", "right", "damaged", "file"}``, the last one SQLite's own findings.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._reading() as connection:
            findings = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
            rows = right = 0
            try:
                for row in self._rows(connection):
                    rows += 1
                    right += row.right
            except sqlite3.Error as error:
                findings.append(str(error))
        return {
            "rows": rows,
            "right": right,
            "damaged": rows - right,
            "file": [finding for finding in findings if finding != "ok"],
        }

    def prune(self, wanted: Callable[[Mapping[str, Any], str, float, bool], bool]) -> int:
        """Remove the rows for which ``wanted(about, violation, created, right)`` holds, and give their room back; returns
        how many.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._reading() as connection:
            doomed = [
                (row.context, row.design)
                for row in self._rows(connection)
                if wanted(row.about, str(row.violation), float(row.created or 0.0), row.right)
            ]
            with self._transaction():
                connection.executemany("DELETE FROM evaluations WHERE context = ? AND design = ?", doomed)
                connection.execute("DELETE FROM contexts WHERE id NOT IN (SELECT context FROM evaluations)")
                self._ids.clear()
            connection.execute("VACUUM")
        return len(doomed)

    def _rows(self, connection: sqlite3.Connection) -> Iterator[_Stored]:
        """Every row of the file."""
        known = {
            number: (digest, _about(about))
            for number, digest, about in connection.execute("SELECT id, digest, about FROM contexts")
        }
        # The words of a context are as much in need of being right as its rows.
        sound = {number for number, (digest, about) in known.items() if Context.of(about).digest == digest}
        for context, created, *row in connection.execute(
            "SELECT context, created, design, feasible, violation, metrics, checksum FROM evaluations"
        ):
            digest, about = known.get(context, (b"", {}))
            yield _Stored(context, row[0], row[2], created, about, context in sound and _is_right(digest, row))

    # --- the file --------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """This process's connection."""
        if self._connection is not None and self._owner != os.getpid():
            _KEPT_OPEN.append(self._connection)  # closing it here would let go of the parent's locks
            self._connection = None
            self._ids.clear()
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(made)
            except BaseException:
                made.close()
                raise
            self._connection, self._owner = made, os.getpid()
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file; refuse one that is not ours."""
        # Damaged texts are to fail their checksum, not the reading of all others.
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        connection.create_function("is_right", 6, lambda digest, *row: _is_right(digest, row), deterministic=True)
        ours = connection.execute("PRAGMA application_id").fetchone()[0]
        if ours == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.execute("BEGIN IMMEDIATE")
            # Another process may have been faster.
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
            connection.execute("COMMIT")
            ours = APPLICATION
        if ours != APPLICATION:
            raise StoreError(f"{self.path} is a database of something else; give another path")
        known = connection.execute("PRAGMA user_version").fetchone()[0]
        if known != FORMAT:
            raise StoreError(
                f"{self.path} is a store of format {known}, this archgym knows {FORMAT}; give another path"
            )
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        # A transaction that was acknowledged survives any kill; a power cut may take the last ones, whole.
        connection.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            self._ids.clear()
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise StoreError(f"there is no store {self.path}; give the path of one")
        try:
            with self._lock:
                yield self._open()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the store {self.path} fails: {error}; move it away to start a new one") from None

    def _context(self, connection: sqlite3.Connection, context: Context) -> int | None:
        """Number of a context in the file; None where it is not there."""
        number = self._ids.get(context.digest)
        if number is None:
            row = connection.execute("SELECT id FROM contexts WHERE digest = ?", (context.digest,)).fetchone()
            if row is None:
                return None
            number = self._ids[context.digest] = int(row[0])
        return number

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def _fail(self, error: Exception, reading: bool) -> None:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if reading or damaged or isinstance(error, StoreError):
            self.readable = False
            why = str(error) if isinstance(error, StoreError) else f"the store {self.path} cannot be read ({error})"
            self._tell(f"{why}; everything is simulated")
        else:
            self._quiet_until = time.monotonic() + 60.0
            self._tell(f"the store {self.path} cannot be written ({error}); new results are not kept")

    def _ignore(self) -> None:
        self.ignored += 1
        self._tell(f"the store {self.path} holds damaged rows, which are ignored; see archgym store verify")

    def _tell(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)


def _about(text: Any) -> dict[str, Any]:
    """The words of a context; empty where they are damaged."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _patiently(do: Callable[[], Any]) -> None:
    """Try again while others hold the file: changing its mode does not wait by itself."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            do()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
