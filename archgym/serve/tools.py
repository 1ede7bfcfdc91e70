"""The service as an MCP server: seven tools with which a language model searches, over stdio or streamable HTTP.

A tool answers with a short text for the model and with the whole answer as structured content. What is refused is a tool's
error, one sentence that the model can act on.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from pydantic import Field

from archgym._version import __version__
from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.quantities import quantity, unit_name
from archgym.reading import parse_json
from archgym.serve import schemas
from archgym.serve.http import checked, kind_of
from archgym.serve.service import Service
from archgym.writing import finite

log = logging.getLogger("archgym.serve")

INSTRUCTIONS = (
    "archgym searches hardware designs. Choose a problem (list_problems), read its parameters (describe_problem), open a "
    "session with a budget of simulator evaluations (open_session), then evaluate designs in batches and let the rewards "
    "guide the next ones; higher is better. A design that was evaluated before costs nothing. The session ends when its "
    "budget is used up: the server refuses further designs. Then report says what was found."
)
WORKLOADS = 30
"""Names in a list before it is cut; asking for one simulator gives all."""


class ListProblems(schemas.Strict):
    """What there is to search."""

    simulator: Annotated[str, Field(max_length=100, description="One simulator, with all its workloads.")] = ""


class Of(schemas.Strict):
    """A session."""

    session: schemas.SessionId


class Evaluate(schemas.EvaluateRequest):
    """Designs to evaluate in a session."""

    session: schemas.SessionId
    designs: Annotated[
        list[schemas.Design],
        Field(
            min_length=1,
            max_length=schemas.MAX_DESIGNS,
            description='Each design gives every parameter one of its values: {"name": value, ...}.',
        ),
    ]


class Best(Of):
    """The best designs of a session."""

    count: schemas.Count = 1


class History(Of):
    """Trials of a session, in their order."""

    start: Annotated[int, Field(ge=0, le=1 << 53, description="Index of the first trial.")] = 0
    count: schemas.Count = 20


class ReportOf(Of):
    """The session to report on."""

    close: Annotated[bool, Field(description="Close the session first, although some budget is left.")] = False


@dataclass(frozen=True)
class Made:
    """What a tool answers: a text for the model and all of it."""

    text: str
    answer: schemas.Answer


@dataclass(frozen=True)
class Tool:
    """A tool: its name, what it takes and answers, and what it does."""

    name: str
    description: str
    takes: type[schemas.Strict]
    answers: type[schemas.Answer]
    call: Callable[[Service, Any], Awaitable[Made]]
    reads_only: bool = True

    def as_mcp(self) -> types.Tool:
        """How the protocol describes it."""
        return types.Tool(
            name=self.name,
            description=self.description,
            input_schema=self.takes.model_json_schema(),
            output_schema=self.answers.model_json_schema(mode="serialization"),
            annotations=types.ToolAnnotations(
                read_only_hint=self.reads_only,
                destructive_hint=False,
                idempotent_hint=self.reads_only,
                open_world_hint=False,
            ),
        )


# --- texts -----------------------------------------------------------------------------------------------------------


def values_text(values: Sequence[Any]) -> str:
    """The values of a parameter: all of them, or a long equidistant range as its ends and step."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) > 12 and len(numbers) == len(values):
        step = (values[-1] - values[0]) / (len(values) - 1)
        even = all(abs(v - values[0] - i * step) <= 1e-9 * max(abs(v), abs(step)) for i, v in enumerate(values))
        if even and step:
            return f"{values[0]:.12g} to {values[-1]:.12g} in steps of {step:.12g} ({len(values)} values)"
    shown = [f"{v:.12g}" if isinstance(v, float) else str(v) for v in values]
    return ", ".join("true" if v is True else "false" if v is False else s for v, s in zip(values, shown, strict=True))


def _problem_text(info: schemas.ProblemInfo) -> str:
    better = {"min": "lower is better", "max": "higher is better", "none": "for information"}
    idle: dict[str, list[str]] = {}
    for rule in info.space.inactive:
        idle.setdefault(rule.parameter, []).append(rule.sentence or "under some values of others")
    lines = [
        f"{info.problem}: {info.description}",
        f"reward: {info.objective.name} (higher is better): {info.objective.description}",
        *([f"other objectives (options.objective): {', '.join(info.objectives)}"] if info.objectives else []),
        *([f"a design takes about {info.seconds:g} s: it is trained live"] if info.seconds else []),
        f"{info.space.designs:,.4g} designs; every parameter gets one of its values:",
    ]
    for p in info.space.parameters:
        about = "; ".join(filter(None, [p.description, *(f"without effect: {text}" for text in idle.get(p.name, []))]))
        unit = f" {unit_name(p.unit)}" if unit_name(p.unit) else ""
        lines.append(f"- {p.name}: {values_text(p.values)}{unit}{f' ({about})' if about else ''}")
    lines += [f"rule {rule.name}: {rule.sentence}" for rule in info.space.constraints]
    lines.append("metrics: " + ", ".join(
        f"{m.name} ({unit_name(m.unit) + ', ' if unit_name(m.unit) else ''}{better[m.direction]})" for m in info.metrics
    ))  # fmt: skip
    if info.workload:
        lines.append("workload: " + "; ".join(f"{name} {value}" for name, value in info.workload.items()))
    return "\n".join(lines)


def _trial_text(trial: schemas.Trial, units: dict[str, str], design: bool) -> str:
    if trial.feasible:
        metrics = ", ".join(f"{name} {quantity(value, units.get(name, ''))}" for name, value in trial.metrics.items())
    else:
        metrics = f"infeasible: {trial.violation}"
    what = ", ".join(f"{name}={value}" for name, value in trial.design.items())
    again = " (repeat, no cost)" if trial.repeat else ""
    return f"#{trial.index} reward {trial.reward:.6g}{again}; {metrics}" + (f"; {what}" if design else "")


# --- what the tools do -----------------------------------------------------------------------------------------------


async def _list_problems(service: Service, asked: ListProblems) -> Made:
    found = await service.problems(asked.simulator)
    lines = ["A problem is called simulator/workload."] if not found.runs else [
        "This server makes an entry to a suite: open exactly these runs (problem, options, budget, seed).",
        *(
            f"- {run.problem} {run.options or ''} budget {run.budget} seed {run.seed}"
            + (f" session {run.session}{' (closed)' if run.closed else ''}" if run.session else "")
            for run in found.runs
        ),
    ]  # fmt: skip
    for row in found.simulators if not found.runs or asked.simulator else ():
        names = row.workloads if asked.simulator else row.workloads[:WORKLOADS]
        more = len(row.workloads) - len(names)
        cut = f" and {more} more (list_problems simulator={row.simulator})" if more else ""
        spaces = f"; spaces: {', '.join(row.spaces)}" if len(row.spaces) > 1 else ""
        lines.append(f"- {row.simulator}{spaces}; workloads: {', '.join(names)}{cut}")
        if asked.simulator and row.options:
            lines.append("  options: " + "; ".join(f"{name}: {values}" for name, values in row.options.items()))
    return Made("\n".join(lines), found)


async def _describe_problem(service: Service, asked: schemas.ProblemRequest) -> Made:
    info = await service.describe(asked)
    return Made(_problem_text(info), info)


async def _open_session(service: Service, asked: schemas.OpenRequest) -> Made:
    made = await service.open(asked)
    text = (
        f"session {made.session} on {made.problem}, objective {made.objective}: {made.remaining:,} of {made.budget:,} "
        f"evaluations left, seed {made.seed}."
    )
    if made.closed:
        text += f" It is closed: {made.reason}."
    elif not made.trials:
        text += " Evaluate designs with it; describe_problem lists the parameters."
    return Made(text, made)


async def _evaluate(service: Service, asked: Evaluate) -> Made:
    made = await service.evaluate(asked.session, schemas.EvaluateRequest(designs=asked.designs, key=asked.key))
    units = await service.units(asked.session)
    best = (await service.best(asked.session)).trials[0]
    lines = [_trial_text(trial, units, design=False) for trial in made.trials]
    if made.refused:
        lines.append(f"the last {made.refused} designs were not evaluated: the budget is used up")
    lines.append(f"{made.remaining:,} evaluations left; best so far #{best.index} with reward {best.reward:.6g}")
    if made.closed:
        lines.append("the session is closed; ask for its report")
    return Made("\n".join(lines), made)


async def _best(service: Service, asked: Best) -> Made:
    found = await service.best(asked.session, asked.count)
    return await _listed(service, asked.session, found)


async def _history(service: Service, asked: History) -> Made:
    found = await service.history(asked.session, asked.start, asked.count)
    return await _listed(service, asked.session, found)


async def _listed(service: Service, session: str, found: schemas.Trials) -> Made:
    units = await service.units(session)
    lines = [_trial_text(trial, units, design=True) for trial in found.trials]
    return Made("\n".join([f"{len(lines)} of {found.total:,} trials", *lines]), found)


async def _report(service: Service, asked: ReportOf) -> Made:
    if asked.close:
        await service.close(asked.session)
    found = await service.report(asked.session)
    lines = [found.sentence, f"{found.used:,} evaluations, {found.trials:,} trials"]
    if found.best is not None:
        lines.append("best: " + _trial_text(found.best, await service.units(asked.session), design=True))
    return Made("\n".join([*lines, f"page with figures: {found.page}"]), found)


TOOLS = (
    Tool("list_problems", "List what there is to search: simulators and their workloads. A problem is simulator/workload.",
         ListProblems, schemas.Problems, _list_problems),
    Tool("describe_problem", "Describe a problem: parameters with their values, rules between them, metrics, and what the "
         "reward is.", schemas.ProblemRequest, schemas.ProblemInfo, _describe_problem),
    Tool("open_session", "Open a session on a problem with a budget of simulator evaluations and a seed; returns its name. "
         "Everything evaluated in it is kept on disk as one run.", schemas.OpenRequest, schemas.Status, _open_session,
         reads_only=False),
    Tool("evaluate", "Evaluate designs in a session; returns reward (higher is better), feasibility and metrics of each, in "
         "order. Each new design costs one evaluation of the budget, a repeat none. Refused once the budget is used up.",
         Evaluate, schemas.Evaluated, _evaluate, reads_only=False),
    Tool("best", "The best different designs of a session so far, with rewards and metrics.", Best, schemas.Trials, _best),
    Tool("history", "Trials of a session in their order, with designs, rewards and metrics.", History, schemas.Trials,
         _history),
    Tool("report", "What a closed session found, in a sentence, beside the usual design, with a page of figures. A session "
         "closes when its budget is used up, or with close=true.", ReportOf, schemas.Report, _report, reads_only=False),
)  # fmt: skip


# --- the server ------------------------------------------------------------------------------------------------------


def make_server(service: Service) -> Server[Any]:
    """The MCP server of a service; its ``streamable_http_app`` gives routes for :func:`archgym.serve.http.make_app`."""
    known = {tool.name: tool for tool in TOOLS}
    listed = types.ListToolsResult(tools=[tool.as_mcp() for tool in TOOLS])

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return listed

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            tool = known.get(params.name)
            if tool is None:
                raise UnknownNameError("tool", params.name, known)
            asked = checked(tool.takes, _arguments(params.arguments or {}))
            made = await tool.call(service, asked)
        except (ArchGymError, ImportError, OSError) as error:
            kind, sentence = kind_of(error)
            return _refusal(kind, sentence)
        except Exception:
            log.exception("%s failed", quote(params.name, 40))
            return _refusal("internal", "the server failed here, which is a fault of archgym; its log says more")
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=made.text)],
            structured_content=finite(made.answer.model_dump()),
        )

    return Server(
        "archgym", version=__version__, title="archgym", instructions=INSTRUCTIONS, on_list_tools=list_tools,
        on_call_tool=call_tool,
    )  # fmt: skip


def _arguments(given: dict[str, Any]) -> Any:
    """The arguments under the rules of all that is read. Some hosts send lists and mappings as texts of JSON."""
    for name in ("designs", "options", "settings"):
        if isinstance(given.get(name), str):
            with contextlib.suppress(ArchGymError):
                given = {**given, name: parse_json(given[name], name)}
    return parse_json(json.dumps(given), "the arguments")


def _refusal(kind: str, sentence: str) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=sentence)],
        structured_content={"error": {"kind": kind, "message": sentence}},
        is_error=True,
    )


async def run_stdio(service: Service) -> None:
    """Serve one client over standard input and output, until it ends."""
    server = make_server(service)
    async with service.running(), stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
