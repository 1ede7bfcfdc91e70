"""Sessions that are the runs of an entry to a suite: who drives them gets the suite's problems, seeds and budgets, and what
comes of it verifies as any other entry does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.problem import Problem
from archgym.reading import parse_json
from archgym.serve.sessions import ServeError, Session, SessionFacts, Sessions
from archgym.studies.spec import RunSpec, problem_key
from archgym.studies.store import Study
from archgym.suites.entry import open_command_entry
from archgym.suites.session import record
from archgym.suites.suite import Suite


class EntrySessions(Sessions):
    """The sessions of one entry; each run of the suite is one session, which asking for it again gives again.

    Args:
        suite: the suite.
        folder: the entry's folder, gone on with where it holds this entry already.
        called: what the entry is called: who drives.
        budget: evaluations of its runs, one of the suite's; the largest where None.
        options: as :class:`~archgym.serve.sessions.Sessions` takes them.
    """

    def __init__(
        self, suite: Suite, folder: Path | str, called: str, *, budget: int | None = None, **options: Any
    ) -> None:
        self.suite, self.called = suite, called
        self.entry = open_command_entry(suite, folder, "archgym serve", called, budget=budget)
        self.study = Study(folder)
        self.specs = {spec.id: spec for spec in self.entry.runs(suite)}
        self._problems = {problem.key: problem for problem in suite.problems}
        super().__init__(folder, **options)

    @property
    def _home(self) -> Path:
        return self.folder / "sessions"

    @property
    def runs(self) -> list[SessionFacts]:
        """The runs of the entry, whether they were opened or not; those that were not have no session."""
        opened = {facts.key: facts for facts in self.list()}
        return [
            opened.get(spec.id)
            or SessionFacts("", spec.problem, dict(spec.options), spec.budget, spec.seed, self.called)
            for spec in self.specs.values()
        ]

    def admitted(self, asked: SessionFacts) -> SessionFacts:
        """The run of this problem and seed; the suite says its options and budget."""
        problem, seed = asked.problem, asked.seed
        if asked.settings or asked.agent not in ("external", self.called):
            raise ServeError(f"these runs are an entry of {self.called}; leave agent and settings out")
        given = parse_json(_json(asked.options), "the options")
        fits = [
            spec
            for spec in self.specs.values()
            if spec.problem == problem and spec.seed == seed and (not given or _json(given) == _json(spec.options))
        ]
        if not fits:
            raise ServeError(
                f"{self.suite.name} has no run of {quote(problem, 60, marks=False)} with seed {seed} and these options; "
                "list_problems lists its runs"
            )
        if len(fits) > 1:
            raise ServeError(
                f"{self.suite.name} has several problems {problem}; give the options of one of them, as list_problems has them"
            )
        spec = fits[0]
        if asked.budget != spec.budget:
            raise ServeError(
                f"the budget is {asked.budget:,}; runs of {self.suite.name} have {spec.budget:,} evaluations"
            )
        return replace(asked, options=dict(spec.options), agent=self.called, key=spec.id)

    def make(self, name: str, options: Mapping[str, Any]) -> Problem:
        """The suite's own problem, refused where it is no longer the one that was measured; others as ever, to look at."""
        key = problem_key(name, options)
        return self._problems[key].make() if key in self._problems else super().make(name, options)

    def _session(self, facts: SessionFacts, problem: Problem) -> Session:
        spec = self.specs.get(facts.key)
        if spec is None:
            raise ArchGymError(f"{facts.session} is no run of {self.suite.name}")
        return _EntrySession(self, spec, replace(facts, agent=self.called), problem)


class _EntrySession(Session):
    """A session whose shard and result are the entry's."""

    def __init__(self, sessions: EntrySessions, spec: RunSpec, facts: SessionFacts, problem: Problem) -> None:
        self._sessions, self._spec = sessions, spec
        folder = sessions._home / facts.session
        super().__init__(folder, facts, problem, sessions.study.shard(spec), spec.id, sessions.suite.name)

    def ended(self) -> None:
        study = self._sessions.study
        if self.evaluator.used and self._spec.id not in {row["run"] for row in study.results()}:
            study.append(record(self._spec, self.evaluator, self._sessions.suite.name))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
