"""An entry: an agent's runs on a suite. Its folder is that of a study, with a file that says what it is an entry of.

```
DIR/entry.json   suite, version and fingerprint; agent with hyperparameters, or the command that searched; the machine
DIR/...          see archgym.studies.store: the trials of every run are kept
```
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from archgym._version import __version__
from archgym.errors import ArchGymError
from archgym.reading import checked, read_json
from archgym.registry import AGENTS
from archgym.studies.executors import Executor
from archgym.studies.spec import RunSpec, StudySpec, parse_spec
from archgym.studies.store import Study
from archgym.studies.study import StudyResult, run_study
from archgym.suites.suite import Scalar, Suite
from archgym.writing import write_text, yaml_text

VARIABLE = "ARCHGYM_SUITE_ENTRY"
"""Names the folder of the entry to a program that ``archgym suite run --command`` starts."""

FILE = "entry.json"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}\Z")


@dataclass(frozen=True)
class Entry:
    """What an entry says of itself.

    Attributes:
        suite, suite_version, suite_fingerprint: what it is an entry of.
        agent: name of the agent; for a program of one's own the name that it goes by.
        hyperparameters: of the agent.
        command: the program that searched; empty for a registered agent.
        budget: evaluations of a run, one of the suite's budgets; the largest where None.
        archgym, python, machine: where it was made.
        created_s: seconds since the epoch.
    """

    suite: str
    suite_version: int
    suite_fingerprint: str
    agent: str
    hyperparameters: Mapping[str, Scalar | None] = field(default_factory=dict)
    command: str = ""
    budget: int | None = None
    archgym: str = ""
    python: str = ""
    machine: str = ""
    created_s: float = 0.0
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The agent with the hyperparameters that are not its defaults; with all of them where its class is not archgym's:
        what an entry names is never imported."""
        if self.command:
            return self.agent
        given = self.hyperparameters
        if self.outside:
            own = [f"{key}={value}" for key, value in given.items()]
        else:
            from archgym.agents.base import load_agent

            try:
                default = load_agent(self.agent).hyperparameters().as_dict()
            except (ArchGymError, ImportError):
                default = {}
            own = [f"{key}={value}" for key, value in given.items() if default.get(key, value) != value]
        return self.agent + (f" ({', '.join(own)})" if own else "")

    @property
    def outside(self) -> bool:
        """Whether something else than an agent of archgym searched: a program, or a class of one's own."""
        return bool(self.command) or self.agent not in AGENTS

    def runs(self, suite: Suite) -> list[RunSpec]:
        """The runs it has to hold."""
        return suite.runs(self.agent, self.hyperparameters, self.budget)

    def budgets(self, suite: Suite) -> tuple[int, ...]:
        """Those of the suite's budgets that its runs reach."""
        return tuple(budget for budget in suite.budgets if self.budget is None or budget <= self.budget)

    @classmethod
    def read(cls, folder: Path | str) -> Entry:
        """The entry in a folder, which need not be of this machine: nothing in it is run.

        Raises:
            ArchGymError: the folder holds no entry, or one whose fields are not what they must be.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise ArchGymError(f"{folder} holds no {FILE}; give the folder of 'archgym suite run'")
        content = read_json(path, "entry")
        if not isinstance(content, dict) or set(content) - set(cls.__dataclass_fields__):
            raise ArchGymError(f"{path} holds keys that no entry has; give the folder of 'archgym suite run'")
        entry: Entry = checked(content, cls, f"the entry {path}")
        if entry.format != FORMAT:
            raise ArchGymError(f"{path} is in entry format {entry.format}, this archgym reads format {FORMAT}")
        if not _NAME.match(entry.agent):
            raise ArchGymError(f"{path} names the agent {entry.agent[:80]!r}; expected letters, digits and _ . : -")
        _check_own_name(entry.agent, entry.command)
        return entry

    def write(self, folder: Path) -> None:
        """Put it into ``folder``, at once."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def _check_own_name(name: str, command: str) -> None:
    if command and name in AGENTS:
        raise ArchGymError(
            f"a program of one's own goes by the name of archgym's agent {name!r}; call it something else"
        )


def new_entry(
    suite: Suite, agent: str, hyperparameters: Mapping[str, Any], command: str = "", budget: int | None = None
) -> Entry:
    """An entry of this machine."""
    from archgym.measure import machine

    if not _NAME.match(agent):
        raise ArchGymError(f"an agent is called {agent[:80]!r}; expected letters, digits and _ . : - (at most 80)")
    _check_own_name(agent, command)
    if budget is not None and budget not in suite.budgets:
        raise ArchGymError(f"the budget of an entry is {budget}; {suite.name} is scored at {list(suite.budgets)}")
    return Entry(
        suite.name, suite.version, suite.fingerprint, agent, dict(hyperparameters), command,
        None if budget == suite.budget else budget, __version__, platform.python_version(), machine(), time.time(),
    )  # fmt: skip


def belongs(entry: Entry, suite: Suite, folder: Path) -> None:
    """Refuse an entry of another suite, version or set of problems, or with a budget that the suite has not."""
    if (entry.suite, entry.suite_version) != (suite.name, suite.version):
        raise ArchGymError(
            f"{folder} is an entry of {entry.suite} version {entry.suite_version}, not of {suite.name} version "
            f"{suite.version}"
        )
    if entry.budget is not None and entry.budget not in suite.budgets:
        raise ArchGymError(f"{folder} has the budget {entry.budget}; {suite.name} is scored at {list(suite.budgets)}")
    # What was run before the suite was measured stays an entry: its logs say workloads and versions, too.
    unmeasured = replace(suite, problems=tuple(replace(problem, known=None) for problem in suite.problems))
    if entry.suite_fingerprint not in (suite.fingerprint, unmeasured.fingerprint):
        raise ArchGymError(
            f"{folder} was made with other problems, workloads or simulators than {suite.name} version {suite.version} has "
            "here; use the archgym that made it"
        )


def _open(folder: Path, made: Entry, suite: Suite, resume: bool) -> Entry:
    """The folder's own entry where it is gone on with, else ``made``, written."""
    if (folder / FILE).exists():
        old = Entry.read(folder)
        belongs(old, suite, folder)
        if not resume:
            raise ArchGymError(
                f"{folder} holds an entry already; add --resume to continue it, or choose another folder"
            )
        if any(getattr(old, name) != getattr(made, name) for name in ("agent", "hyperparameters", "command", "budget")):
            what = [f"{entry.name}, {entry.budget or suite.budget} evaluations" for entry in (old, made)]
            raise ArchGymError(f"{folder} holds the entry of {what[0]}, not of {what[1]}; choose another folder")
        return old
    made.write(folder)
    return made


def study_spec(suite: Suite, entry: Entry) -> StudySpec:
    """The study that an entry's runs are; a program of one's own stands in it as ``random``, which never runs."""
    agent: dict[str, Any] = {"agent": entry.agent, "ranges": dict(entry.hyperparameters), "defaults": True}
    content = {
        "name": f"{suite.name}-{suite.version}",
        "budget": entry.budget or suite.budget,
        "seeds": suite.seeds,
        "problems": [
            {"problem": p.problem, **p.options, **({"budget": p.budget} if p.budget is not None else {})}
            for p in suite.problems
        ],
        "agents": ["random" if entry.command else agent],
        "log": "trials",
    }
    return parse_spec(yaml_text(content), f"the suite {suite.name}")


def _checked_spec(suite: Suite, entry: Entry) -> StudySpec:
    """The study of an entry, whose problems can all be made: what cannot is refused before there is a file."""
    spec = study_spec(suite, entry)
    suite.check_problems()
    return spec


def run_entry(
    suite: Suite,
    folder: Path | str,
    agent: str,
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    budget: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    console: Console | None = None,
    max_seconds: float | None = None,
) -> StudyResult:
    """Run an agent on every problem and seed of a suite, as a study: resumable, on any executor.

    Args:
        suite: the suite, measured or not.
        folder: where the entry goes.
        agent: a registered agent, or ``module:Class`` of one's own.
        hyperparameters: in place of the defaults.
        budget: evaluations of a run, one of the suite's budgets; the largest where None.
        executor, resume, console, max_seconds: as :func:`archgym.studies.run_study` takes them.
    """
    from archgym.agents.base import given_hyperparameters

    folder = Path(folder)
    full = given_hyperparameters(agent, hyperparameters or {}).as_dict()
    entry = new_entry(suite, agent, full, budget=budget)
    spec = _checked_spec(suite, entry)
    _open(folder, entry, suite, resume)
    return run_study(spec, folder, executor=executor, resume=resume, console=console, max_seconds=max_seconds)


def open_command_entry(
    suite: Suite, folder: Path | str, command: str, name: str, *, budget: int | None = None, resume: bool = True
) -> Entry:
    """The entry of a program of one's own, with its folder made or, with ``resume``, gone on with."""
    folder = Path(folder)
    entry = new_entry(suite, name, {}, command, budget)
    spec = _checked_spec(suite, entry)
    entry = _open(folder, entry, suite, resume)
    Study.create(folder, spec, resume=True)
    (folder / "suite.yaml").write_text(suite.text, encoding="utf-8")
    return entry


def run_command(
    suite: Suite,
    folder: Path | str,
    command: str,
    name: str,
    *,
    budget: int | None = None,
    resume: bool = False,
    aside: bool = False,
) -> tuple[int, int]:
    """Let a program of one's own search: it finds its runs with :func:`archgym.suites.given_runs`. What it prints goes to the
    standard error with ``aside``, so that it does not mix with what the caller prints.

    Returns:
        how many of the suite's runs are done, and how many there are.

    Raises:
        ArchGymError: the program ended with another exit code than 0.
    """
    folder = Path(folder)
    entry = open_command_entry(suite, folder, command, name, budget=budget, resume=resume)
    environment = {**os.environ, VARIABLE: str(folder.resolve())}
    # The program must find the archgym that started it.
    package = Path(__file__).parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), environment.get("PYTHONPATH", "")]))
    output = 2 if aside else None  # the standard error, whatever sys.stderr is now
    code = subprocess.run(command, shell=True, env=environment, stdin=subprocess.DEVNULL, stdout=output).returncode
    if code:
        raise ArchGymError(f"the command ended with exit code {code}; what it finished is kept in {folder}")
    runs = entry.runs(suite)
    done = {row["run"] for row in Study(folder).results()}
    sys.stdout.flush()
    return sum(run.id in done for run in runs), len(runs)
