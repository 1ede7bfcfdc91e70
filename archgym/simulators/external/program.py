r"""A program, or a Python function, of a user's own as a simulator: one process and one scratch folder a design.

```python
class Cache(ProcessSimulator):
    name, version = "cache", "1"
    parameters = (Parameter("sets", (16, 32, 64, 128)), Parameter("ways", (1, 2, 4, 8)))
    metrics = (Metric("cycles", "cycles", "min", "of the whole trace"),)
    command = ("$here/cache", "cache.cfg")
    inputs = {"cache.cfg": "sets = $sets\nways = $ways\n"}
    outputs = {"cycles": r"total cycles: (\d+)"}
```

Texts are templates (``string.Template``): ``$ways`` is the design's value, ``$$`` a dollar sign. What a run prints or leaves in
its folder is read by ``outputs`` or by a method ``parse``; a method ``simulate`` takes the place of the command. A run that
crashes, hangs or prints no number makes its design infeasible with that name, never a number, and what it left is kept.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.announcing import say_once
from archgym.errors import ArchGymError, UnknownNameError, quote, whole_number
from archgym.simulator import Evaluation, Simulator, Workload
from archgym.simulators.external.isolated import Crashed, Isolated, TooLong, Violation, end_group
from archgym.simulators.external.process import program_digest
from archgym.space import Constraint, DesignSpace, Inactive, Parameter, Permutation
from archgym.threads import usable_cores

CRASHED, TIME_LIMIT, UNREADABLE = "crashed", "time_limit", "unreadable_output"
"""Why a design has no result: its run ended with an error, took too long, or gave no complete result."""

KEPT = 20
"""Scratch folders of failed runs that a simulator keeps."""
OUTPUT_BYTES = 1 << 24
"""What is read of a run's output, from its end."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Job:
    """A design that is simulated.

    Attributes:
        values: parameter -> value; a permutation as a tuple of its items.
        workload: what has to be run.
        fidelity, seed: as ``evaluate`` got them; the seed is 0 where there was none.
        folder: the scratch folder, where the program is started.
        stdout, stderr: what the program printed, once it has run.
    """

    values: Mapping[str, Any]
    workload: ProcessWorkload
    fidelity: str | None
    seed: int
    folder: Path
    stdout: str = ""
    stderr: str = ""

    @property
    def words(self) -> dict[str, str]:
        """What templates may say: values, those of the workload, ``workload``, ``fidelity``, ``seed``, ``folder``."""
        return {
            **{name: spelt(value) for name, value in {**self.workload.values, **self.values}.items()},
            "workload": self.workload.name,
            "fidelity": self.fidelity or "",
            "seed": str(self.seed),
            "folder": str(self.folder),
        }


@dataclass(frozen=True)
class Failure:
    """A run without a result: the design, what happened, why, and the folder where its files are (None: removed)."""

    values: Mapping[str, Any]
    violation: str
    reason: str
    folder: Path | None


def spelt(value: Any) -> str:
    """A value in a template: booleans as 1 and 0, several items with commas between them."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, tuple | list):
        return ",".join(map(spelt, value))
    return str(value)


class ProcessWorkload(Workload):
    """A workload of a program: values that templates may use. A path among them stands for the file's content.

    Args:
        name: of the workload.
        values: name -> number, text or path.
    """

    def __init__(self, name: str, values: Mapping[str, Any], description: str = "") -> None:
        super().__init__(name, description or ", ".join(f"{k}={v}" for k, v in values.items() if k != "path"))
        self.values = dict(values)

    @property
    def fingerprint(self) -> str:
        known = {k: ["file", program_digest(v)] if isinstance(v, Path) else [v] for k, v in self.values.items()}
        return hashlib.sha256(json.dumps([self.name, known], sort_keys=True, default=str).encode()).hexdigest()[:16]


class ProcessSimulator(Simulator):
    """See the module. Subclasses say what is run in class attributes; simulators of this kind have a store unasked.

    Attributes:
        parameters: of the design space, in order; :class:`~archgym.space.Permutation` among them.
        constraints, inactive: of the design space, over values (``lambda v: v["sets"] * v["ways"] <= 512``) where they say
            ``over="values"``.
        cases: workload -> the values that templates may use for it; paths are files whose content counts.
        command: the program and its arguments, templates each. ``$here`` is the folder of the file that defines the class,
            ``$python`` this Python. No shell sees it.
        inputs: file -> its text, a template, or the path of a file that holds the template; written to the scratch folder.
        outputs: metric -> regular expression whose first group is its number, in what the program printed on standard output;
            where a metric is missing, the number after its name counts, or a JSON object's entry.
        exit_violations: exit code -> name of the violation that it means.
        time_limit_s: seconds that a run may take.
        uses_seed: whether ``simulate`` is noisy and goes by ``job.seed`` (a command that says ``$seed`` is known to be).

    Args:
        space: as of every simulator.
        workers: runs at a time; what the processors allow where None.
        time_limit_s: in place of the class's.
        retries: how often a run that crashed or gave no result is tried again.
        keep: which scratch folders stay: ``failed`` (at most :data:`KEPT`), ``all`` or ``none``.
        scratch: where scratch folders are made; the system's temporary folder where None.
    """

    starts_programs: ClassVar[bool] = True
    neutral_options: ClassVar[frozenset[str]] = Simulator.neutral_options | {
        "time_limit_s",
        "retries",
        "keep",
        "scratch",
    }
    violations: tuple[str, ...] = (CRASHED, TIME_LIMIT, UNREADABLE)

    parameters: ClassVar[Sequence[Parameter | Permutation]] = ()
    constraints: ClassVar[Sequence[Constraint]] = ()
    inactive: ClassVar[Sequence[Inactive]] = ()
    cases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    command: ClassVar[Sequence[str]] = ()
    inputs: ClassVar[Mapping[str, str | Path]] = {}
    outputs: ClassVar[Mapping[str, str]] = {}
    exit_violations: ClassVar[Mapping[int, str]] = {}
    environment: ClassVar[Mapping[str, str]] = {}
    time_limit_s: float = 600.0
    uses_seed: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.default_workload and cls.cases:
            cls.default_workload = next(iter(cls.cases))
        if not cls.default_objective and hasattr(cls, "metrics"):
            cls.default_objective = next((m.name for m in cls.metrics if m.direction != "none"), "")

    def __init__(
        self,
        space: str | None = None,
        workers: int | None = None,
        time_limit_s: float | None = None,
        retries: int = 1,
        keep: Literal["failed", "all", "none"] = "failed",
        scratch: str | None = None,
    ) -> None:
        super().__init__(space)
        self.workers = whole_number("workers", workers) if workers is not None else _share_of_cores()
        self.retries = whole_number("retries", retries, least=0)
        if keep not in ("failed", "all", "none"):
            raise UnknownNameError(f"keep of {self.name}", keep, ("failed", "all", "none"))
        self.keep, self.scratch = keep, scratch
        if time_limit_s is not None:
            self.time_limit_s = time_limit_s
        if not self.time_limit_s > 0:
            raise ArchGymError(f"time_limit_s is {self.time_limit_s}; expected more than 0 seconds")
        if not self.command and not self._is_python:
            raise ArchGymError(f"{self.name} has neither a command nor a method simulate; say what is to be run")
        self.failures: list[Failure] = []
        self.started = 0
        self._space = DesignSpace(self.parameters, self.constraints, self.inactive)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes] | Isolated] = set()
        self._idle: list[Isolated] = []
        self._owner = os.getpid()

    # --- what is simulated -------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return {name: ProcessWorkload(name, values) for name, values in self.cases.items()}

    def read_workload(self, path: Path, **options: Any) -> Workload:
        """A file of a user's own; templates say ``$path``, and what the first of ``cases`` says beside it."""
        if not path.is_file():
            raise ArchGymError(f"there is no file {quote(str(path))}; give the path of a workload")
        return ProcessWorkload(f"file:{path}", {**next(iter(self.cases.values())), **options, "path": path.resolve()})

    def space(self, workload: Workload) -> DesignSpace:
        return self._space

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        # What an argument may be is the program's business.
        super().check_fidelity(workload, None if fidelity is None else fidelity.partition(":")[0])

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        texts = [*self.command, *map(_text, self.inputs.values())]
        return self.uses_seed or any(re.search(r"\$(seed\b|\{seed\})", text) for text in texts)

    @property
    def _is_python(self) -> bool:
        return type(self).simulate is not ProcessSimulator.simulate

    @cached_property
    def _here(self) -> str:
        try:
            return str(Path(inspect.getfile(type(self))).resolve().parent)
        except (OSError, TypeError):  # typed at a prompt
            return os.getcwd()

    @property
    def settings(self) -> dict[str, Any]:
        # A design that ran too long has another result where it may run longer.
        return {**super().settings, "time_limit_s": float(self.time_limit_s)}

    @property
    def programs(self) -> Mapping[str, str]:
        """Digests of the program and of every other file that the command names, and of all that the class says of a run."""
        found: dict[str, str] = {}
        for position, text in enumerate(self.command):
            name = string.Template(text).safe_substitute(here=self._here, python="")
            path = shutil.which(name) if position == 0 and name and "$" not in name else name
            if path and Path(path).is_file():
                found[Path(path).name] = program_digest(Path(path))
        said = [
            list(self.command), {k: _text(v) for k, v in self.inputs.items()}, dict(self.outputs),
            {str(k): v for k, v in self.exit_violations.items()}, dict(self.environment),
            [_source(getattr(type(self), name)) for name in ("parse", "simulate")],
        ]  # fmt: skip
        found["description"] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
        return found

    # --- what a subclass may say instead -----------------------------------------------------------------------------

    def parse(self, job: Job) -> Mapping[str, float]:
        """Metrics of a run from ``job.stdout``, ``job.stderr`` and the files in ``job.folder``."""
        text = job.stdout.strip()
        printed: dict[str, Any] = {}
        if text.startswith("{"):
            with suppress(ValueError):
                printed = json.loads(text)
        found = {}
        for metric in self.metrics:
            pattern = self.outputs.get(metric.name)
            if pattern is None and metric.name in printed:
                found[metric.name] = float(printed[metric.name])
                continue
            pattern = pattern or rf"(?<![\w.]){re.escape(metric.name)}\"?\s*[:=,]?\s*({_NUMBER})"
            match = re.search(pattern, job.stdout, re.M)
            if match is None:
                raise ValueError(f"it printed no {metric.name}")
            found[metric.name] = float(match[1])
        return found

    def simulate(self, job: Job) -> Mapping[str, float]:
        """A Python function in the place of the command; it runs in a process of its own, from which it can be removed."""
        raise NotImplementedError

    # --- running -----------------------------------------------------------------------------------------------------

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        names = [metric.name for metric in self.metrics]
        parts = list(self.evaluate_parts(designs, workload, fidelity=fidelity, seed=seed))
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(part for part, _ in parts)])
        if not len(rows):
            return Evaluation.build({name: np.empty(0) for name in names}, count=0)
        return Evaluation.concatenate([evaluation for _, evaluation in parts]).take(np.argsort(rows))

    def evaluate_parts(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Evaluation]]:
        """As of every simulator: the designs that break a constraint at once, each other one when its run has ended."""
        if not isinstance(workload, ProcessWorkload):
            raise ArchGymError(f"the workload of {self.name} is a {type(workload).__name__}; expected one of its own")
        space = self.space(workload)
        array = space.check(designs)
        violation = space.violations(array)
        broken = np.flatnonzero(violation != "")
        if len(broken):
            nothing = {metric.name: np.full(len(broken), np.nan) for metric in self.metrics}
            yield broken, Evaluation.build(nothing, violation[broken])
        rows = np.flatnonzero(violation == "")
        if not len(rows):
            return
        start = self._python if self._is_python else self._command()
        pool = ThreadPoolExecutor(min(self.workers, len(rows)))
        jobs = {
            pool.submit(self._run, start, values, workload, fidelity, seed or 0): int(row)
            for row, values in zip(rows, space.named(array[rows]), strict=True)
        }
        try:
            for done in as_completed(jobs):
                result = done.result()
                numbers = {} if isinstance(result, str) else result
                metrics = {metric.name: [numbers.get(metric.name, math.nan)] for metric in self.metrics}
                why = np.array([result if isinstance(result, str) else ""], dtype=object)
                yield np.array([jobs[done]]), Evaluation.build(metrics, why)
        except BaseException:
            # An interrupted search does not wait for runs of hours.
            for left in jobs:
                left.cancel()
            self._stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(
        self,
        start: Callable[[Job], Mapping[str, float]],
        values: Mapping[str, Any],
        workload: ProcessWorkload,
        fidelity: str | None,
        seed: int,
    ) -> dict[str, float] | str:
        """Metrics of one design, or the name of what went wrong."""
        attempts = self.retries + 1
        while True:
            attempts -= 1
            folder = Path(tempfile.mkdtemp(prefix=f"archgym-{self.name}-", dir=self.scratch))
            job = Job(values, workload, fidelity, seed, folder)
            failed = ""
            try:
                with self._lock:
                    self.started += 1
                return self._numbers(start(job))
            except Violation as error:
                return str(error)
            except ArchGymError:  # a template that cannot be filled: the author's to mend
                raise
            except TooLong:
                failed, reason, attempts = TIME_LIMIT, f"it ran past {self.time_limit_s:g} s", 0  # it would again
            except Crashed as error:
                failed, reason = CRASHED, str(error)
            except (ValueError, TypeError, LookupError, OSError) as error:
                failed, reason = UNREADABLE, str(error)
            finally:
                kept = self.keep == "all" or (
                    bool(failed) and not attempts and self.keep == "failed" and len(self.failures) < KEPT
                )
                if not kept:
                    shutil.rmtree(folder, ignore_errors=True)
            if not attempts:
                self._note(Failure(values, failed, reason, folder if kept else None))
                return failed

    def _note(self, failure: Failure) -> None:
        """Remember a failed run; the first of each kind is said."""
        with self._lock:
            first = all(known.violation != failure.violation for known in self.failures)
            self.failures.append(failure)
            del self.failures[: max(0, len(self.failures) - 1000)]
        if first:
            design = ", ".join(f"{name}={spelt(value)}" for name, value in failure.values.items())
            where = f"; see {failure.folder}" if failure.folder else ""
            say_once(
                f"{self.name}: {failure.violation} with {quote(design, 120, marks=False)}: {failure.reason}{where}"
            )

    def _numbers(self, found: Mapping[str, float]) -> dict[str, float]:
        result = {}
        for metric in self.metrics:
            if metric.name not in found:
                raise ValueError(f"it gave no {metric.name}")
            result[metric.name] = float(found[metric.name])
            if not math.isfinite(result[metric.name]):
                raise ValueError(f"{metric.name} is {result[metric.name]}")
        return result

    # --- a program ---------------------------------------------------------------------------------------------------

    def _command(self) -> Callable[[Job], Mapping[str, float]]:
        """What runs the command for a job; one sentence where there is no such program."""
        first = string.Template(self.command[0]).safe_substitute(here=self._here, python=sys.executable)
        program = shutil.which(first)
        if program is None:
            raise ArchGymError(
                f"{self.name} runs the program {quote(first)}, which is not there or not executable; build it, or put it on "
                "the PATH"
            )
        inputs = {name: _text(text) for name, text in self.inputs.items()}

        def start(job: Job) -> Mapping[str, float]:
            for name, text in inputs.items():
                path = job.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._filled(text, job), encoding="utf-8")
            arguments = [self._filled(text, job) for text in self.command[1:]]
            self._execute([os.path.abspath(program), *arguments], job.folder)
            return self.parse(
                replace(job, stdout=_end_of(job.folder / "stdout.txt"), stderr=_end_of(job.folder / "stderr.txt"))
            )

        return start

    def _filled(self, text: str, job: Job) -> str:
        words = {**job.words, "here": self._here, "python": sys.executable}
        try:
            return string.Template(text).substitute(words)
        except KeyError as error:
            raise UnknownNameError(f"${error.args[0]} in a template of {self.name}", error.args[0], words) from None
        except ValueError:
            raise ArchGymError(
                f"a template of {self.name} has a $ without a name, in {quote(text, 60)}; write $$ for a dollar sign"
            ) from None

    def _execute(self, command: Sequence[str], folder: Path) -> None:
        """Run a command to its end, its output in ``stdout.txt`` and ``stderr.txt``."""
        with open(folder / "stdout.txt", "wb") as printed, open(folder / "stderr.txt", "wb") as complained:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=complained,
                    start_new_session=True,
                )
            except OSError as error:
                raise Crashed(f"it cannot be started: {error.strerror or error}") from None
            with self._lock:
                self._running.add(process)
            try:
                code = process.wait(self.time_limit_s)
            except subprocess.TimeoutExpired:
                raise TooLong from None
            finally:
                end_group(process.pid)  # also what it left running
                process.wait()
                with self._lock:
                    self._running.discard(process)
        if code in self.exit_violations:
            raise Violation(self.exit_violations[code])
        if code:
            last = _end_of(folder / "stderr.txt", 2000).strip().splitlines()[-1:]
            raise Crashed("".join([_ending(code), *(f", {quote(line, 120, marks=False)}" for line in last)]))

    # --- a Python function -------------------------------------------------------------------------------------------

    def _python(self, job: Job) -> Mapping[str, float]:
        with self._lock:
            if self._owner != os.getpid():
                self._idle, self._owner = [], os.getpid()
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = Isolated()
        with self._lock:
            self._running.add(worker)
        try:
            kind, answer = worker.call(self, job, self.time_limit_s)
        finally:
            with self._lock:
                self._running.discard(worker)
                if worker.alive:
                    self._idle.append(worker)
        if kind == "violation":
            raise Violation(answer)
        if kind == "error":
            raise Crashed(answer)
        found: Mapping[str, float] = answer
        return found

    def _stop(self) -> None:
        """End what runs."""
        with self._lock:
            running = list(self._running)
        for one in running:
            if isinstance(one, Isolated):
                one.end()
            else:
                end_group(one.pid)


def _share_of_cores() -> int:
    """Runs at a time: the processors, or what a study's worker is allowed of them."""
    allowed = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(usable_cores(), int(allowed)) if allowed.isdecimal() and int(allowed) else usable_cores()


def _text(template: str | Path) -> str:
    if not isinstance(template, Path):
        return template
    try:
        return template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArchGymError(f"the template {quote(str(template))} cannot be read: {error}") from None


def _end_of(path: Path, most: int = OUTPUT_BYTES) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read().decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt
        code = getattr(function, "__code__", None)
        return "" if code is None else repr((code.co_code, code.co_consts, code.co_names))


def _ending(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"exit code {code}"
