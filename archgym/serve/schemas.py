"""What is said to the service and what it answers: one set of types that checks requests and describes the interface."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

MAX_DESIGNS = 1024
"""Designs in one request, at most."""
MAX_PAGE = 1000
"""Trials in one answer, at most."""

Text = Annotated[str, Field(max_length=1000)]
Value = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=1000)]
Design = dict[Text, Value] | list[StrictInt]
Key = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.:-]{1,100}$",
        description="A name of your own for this request: repeated with the same key it is answered again, not done again.",
    ),
]
SessionId = Annotated[str, Field(max_length=120, description="The session, as open_session named it.")]
Count = Annotated[int, Field(ge=1, le=MAX_PAGE)]


class Strict(BaseModel):
    """Unknown fields, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# --- what is asked ---------------------------------------------------------------------------------------------------


class ProblemRequest(Strict):
    """A problem and its options, as ``archgym.make_problem`` takes them."""

    problem: Annotated[str, Field(min_length=1, max_length=1000, description="For instance dram/gzip.")]
    options: Annotated[
        dict[str, Any],
        Field(
            default_factory=dict,
            max_length=100,
            description="objective, space, fidelity, workload_options, fix, only, and the simulator's own options.",
        ),
    ]


class OpenRequest(ProblemRequest):
    """A session to open: a problem, a budget and a seed."""

    budget: Annotated[int, Field(ge=1, le=1 << 53, description="Simulator evaluations; repeats of a design cost none.")]
    seed: Annotated[int, Field(ge=0, le=1 << 53, description="Seed of the run.")] = 0
    agent: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,80}$", description="What the trials call the one that searches.")
    ] = "external"
    settings: Annotated[
        dict[Text, Value | None],
        Field(
            default_factory=dict, max_length=100, description="Settings of the one that searches, kept with the trials."
        ),
    ]
    key: Key | None = None


class EvaluateRequest(Strict):
    """Designs to evaluate: parameter -> value, or one value index a parameter."""

    designs: Annotated[list[Design], Field(min_length=1, max_length=MAX_DESIGNS)]
    key: Key | None = None


# --- what is answered ------------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(extra="forbid")


class Trial(Answer):
    """One evaluated design. Metrics of an infeasible design are null."""

    index: Annotated[int, Field(description="Position in the session, from 0.")]
    design: dict[str, bool | int | float | str]
    reward: Annotated[float, Field(description="Higher is better; finite for every design.")]
    feasible: bool
    violation: Annotated[str, Field(description="The rule that the design breaks, empty where it breaks none.")]
    metrics: dict[str, float | None]
    repeat: Annotated[bool, Field(description="An equivalent design came before: it cost no evaluation.")]


class Status(Answer):
    """Where a session stands."""

    session: str
    problem: str
    options: dict[str, Any]
    objective: str
    budget: int
    seed: int
    agent: str
    used: Annotated[int, Field(description="Simulator evaluations so far.")]
    remaining: int
    trials: Annotated[int, Field(description="Trials so far: evaluations and repeats.")]
    closed: bool
    reason: Annotated[
        str, Field(description="Why it is closed: the budget is used up, only repeats came, or it was asked for.")
    ]
    best: Trial | None
    folder: Annotated[str, Field(description="The run's folder on the server.")]


class Listed(Answer):
    """A session in a list."""

    session: str
    problem: str
    options: dict[str, Any]
    budget: int
    seed: int
    agent: str
    closed: bool


class SessionList(Answer):
    """The sessions, those opened last first."""

    sessions: list[Listed]


class Evaluated(Answer):
    """The trials of one request, a prefix of its designs as long as the budget lasted."""

    trials: list[Trial]
    refused: Annotated[int, Field(description="Designs at the end of the request that the budget did not allow.")]
    used: Annotated[int, Field(description="Simulator evaluations of the session after this request.")]
    remaining: int
    closed: bool


class Trials(Answer):
    """Some trials of a session, of ``total``."""

    total: int
    trials: list[Trial]


class ParameterInfo(Answer):
    """One choice of the designer."""

    name: str
    values: list[bool | int | float | str]
    ordered: Annotated[bool, Field(description="Neighbouring values are similar.")]
    unit: str
    description: str


class Rule(Answer):
    """A constraint between parameters."""

    name: str
    sentence: str


class InactiveRule(Answer):
    """When a parameter has no effect; designs that differ only there are the same design."""

    parameter: str
    sentence: str


class Space(Answer):
    """A design space."""

    name: str
    designs: Annotated[int | float, Field(description="How many designs there are.")]
    parameters: list[ParameterInfo]
    constraints: list[Rule]
    inactive: list[InactiveRule]


class MetricInfo(Answer):
    """A measured quantity."""

    name: str
    unit: str
    direction: Annotated[str, Field(description="min, max or none.")]
    description: str


class ObjectiveInfo(Answer):
    """What turns metrics into a reward."""

    name: str
    description: str


class ProblemInfo(Answer):
    """A problem: what is designed, for which workload, and what is measured."""

    problem: str
    description: str
    objective: ObjectiveInfo
    objectives: Annotated[list[str], Field(description="Other objectives of this simulator.")]
    metrics: list[MetricInfo]
    space: Space
    workload: Annotated[dict[str, str], Field(description="What is known of the workload.")]
    seconds: Annotated[float | None, Field(description="Seconds a design where designs are trained live, else null.")]


class SimulatorInfo(Answer):
    """A simulator with its workloads; a problem is ``simulator/workload``."""

    simulator: str
    workloads: list[str]
    spaces: list[str]
    fidelities: list[str]
    objective: Annotated[str, Field(description="The objective where none is asked for.")]
    options: Annotated[dict[str, str], Field(description="The simulator's own options and what they may be.")]


class Problems(Answer):
    """What there is to search; in an entry of a suite the runs that are asked for."""

    simulators: list[SimulatorInfo]
    runs: Annotated[list[Listed], Field(description="The runs of a suite that this server makes an entry of.")]


class Report(Answer):
    """What a closed session found."""

    session: str
    sentence: str
    best: Trial | None
    used: int
    trials: int
    page: Annotated[str, Field(description="The report with figures, a file on the server.")]


class Fault(Answer):
    """Why a request was refused."""

    kind: str
    message: Annotated[str, Field(description="One sentence: what was given, what was expected, what to do.")]
    key: str | None = None


class Refusal(Answer):
    """The body of every answer that is an error."""

    error: Fault
