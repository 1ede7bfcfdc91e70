"""The service over HTTP with JSON, and its OpenAPI description, made from the types that check the requests."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archgym._version import __version__
from archgym.errors import ArchGymError, MissingExtraError, quote
from archgym.reading import parse_json
from archgym.serve import schemas
from archgym.serve.service import Bucket, Service, SlowError, as_json

log = logging.getLogger("archgym.serve")

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "untrusted": 403,
    "not_found": 404,
    "no_session": 404,
    "method_not_allowed": 405,
    "closed": 409,
    "key_used": 409,
    "too_large": 413,
    "too_many_requests": 429,
    "internal": 500,
    "damaged": 500,
    "busy": 503,
    "too_many_sessions": 503,
    "timeout": 504,
}
"""Kind of an error -> HTTP status."""

BODY_SECONDS = 30.0
"""How long the body of a request may take to arrive."""


@dataclass(frozen=True)
class Operation:
    """One operation of the interface.

    Attributes:
        method, path: where it is.
        name: its name in the description.
        answers: the type of its answer.
        call: ``(service, arguments, request)`` -> the answer; arguments are those of path and query, checked.
        takes: the type of the request's body, None where it takes none.
        query: the types of what may stand after ``?``.
    """

    method: str
    path: str
    name: str
    answers: type[schemas.Answer]
    call: Callable[[Service, dict[str, Any], Any], Awaitable[schemas.Answer]]
    takes: type[schemas.Strict] | None = None
    query: Mapping[str, tuple[str, int, int]] | None = None


_PAGE = {"start": ("first trial", 0, 1 << 53), "count": ("most trials in the answer", 100, schemas.MAX_PAGE)}

OPERATIONS = (
    Operation("GET", "/v1/problems", "list_problems", schemas.Problems, lambda s, a, r: s.problems()),
    Operation("POST", "/v1/describe", "describe_problem", schemas.ProblemInfo, lambda s, a, r: s.describe(r), schemas.ProblemRequest),
    Operation("GET", "/v1/sessions", "list_sessions", schemas.SessionList, lambda s, a, r: s.list_sessions()),
    Operation("POST", "/v1/sessions", "open_session", schemas.Status, lambda s, a, r: s.open(r), schemas.OpenRequest),
    Operation("GET", "/v1/sessions/{session}", "status", schemas.Status, lambda s, a, r: s.status(a["session"])),
    Operation("GET", "/v1/sessions/{session}/space", "space", schemas.Space, lambda s, a, r: s.space(a["session"])),
    Operation("POST", "/v1/sessions/{session}/evaluate", "evaluate", schemas.Evaluated,
              lambda s, a, r: s.evaluate(a["session"], r), schemas.EvaluateRequest),
    Operation("GET", "/v1/sessions/{session}/history", "history", schemas.Trials,
              lambda s, a, r: s.history(a["session"], a["start"], a["count"]), query=_PAGE),
    Operation("GET", "/v1/sessions/{session}/best", "best", schemas.Trials,
              lambda s, a, r: s.best(a["session"], a["count"]), query={"count": ("designs", 1, schemas.MAX_PAGE)}),
    Operation("POST", "/v1/sessions/{session}/close", "close", schemas.Status, lambda s, a, r: s.close(a["session"])),
    Operation("POST", "/v1/sessions/{session}/report", "report", schemas.Report, lambda s, a, r: s.report(a["session"])),
)  # fmt: skip


class Refused(Exception):
    """An answer that is an error, decided before an operation was reached."""

    def __init__(self, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.kind, self.headers = kind, dict(headers or {})


# --- requests --------------------------------------------------------------------------------------------------------


def endpoint(service: Service, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """What Starlette calls for an operation."""

    async def answer(request: Request) -> Response:
        try:
            arguments = _arguments(request, operation)
            body = await _body(request, operation)
            return _json(as_json(await operation.call(service, arguments, body)))
        except Refused as refused:
            return refusal(refused.kind, str(refused), headers=refused.headers)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except (ArchGymError, ImportError, OSError) as error:
            kind, sentence = kind_of(error)
            return refusal(kind, sentence, error.key if isinstance(error, SlowError) else None)
        except Exception:
            log.exception("%s failed", operation.name)
            return refusal("internal", "the server failed here, which is a fault of archgym; its log says more")

    return answer


def kind_of(error: BaseException) -> tuple[str, str]:
    """Kind and sentence of an error that a caller may hear of."""
    if isinstance(error, MissingExtraError):
        return "internal", str(error)
    if isinstance(error, ArchGymError):
        kind = getattr(error, "kind", "")
        return kind if kind in STATUS else "bad_request", str(error)
    return "internal", quote(f"{type(error).__name__}: {error}", 200, marks=False)


def _arguments(request: Request, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = dict(request.path_params)
    known = operation.query or {}
    for name, text in request.query_params.multi_items():
        if name not in known:
            known_names = ", ".join(known) or "none"
            raise Refused("bad_request", f"unknown argument {quote(name, 40)} after '?'; known: {known_names}")
        if name in found:
            raise Refused("bad_request", f"the argument {name} stands twice; give it once")
        _, default, most = known[name]
        least = 0 if default == 0 else 1
        if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise Refused("bad_request", f"{name} is {quote(text, 40)}; expected a whole number from {least} to {most}")
        found[name] = int(text)
    for name, (_, default, _) in known.items():
        found.setdefault(name, default)
    return found


async def _body(request: Request, operation: Operation) -> schemas.Strict | None:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = await request.body()
    except TimeoutError:
        raise Refused("bad_request", f"the body did not arrive within {BODY_SECONDS:g} s") from None
    if operation.takes is None:
        if content.strip() not in (b"", b"{}"):
            raise Refused("bad_request", "this operation takes no body; leave it out")
        return None
    return checked(operation.takes, parse_json(content, "the body"))


def checked(kind: type[schemas.Strict], value: Any) -> schemas.Strict:
    """``value`` as a request of this kind.

    Raises:
        ArchGymError: one sentence on its first fault.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise ArchGymError(f"unknown field {quote(place, 80)}; known: {known}") from None
        if first["type"] == "missing":
            raise ArchGymError(f"the field {quote(place, 80)} is missing") from None
        given = quote(first["input"], 60)
        where = quote(place, 80, marks=False) or "the body"
        raise ArchGymError(f"{where} is {given}: {quote(first['msg'], 120, marks=False)}") from None


# --- answers ---------------------------------------------------------------------------------------------------------


def _json(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    about = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(content, status, about, "application/json")


def refusal(kind: str, message: str, key: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is an error."""
    body = schemas.Refusal(error=schemas.Fault(kind=kind, message=message, key=key))
    return _json(body.model_dump_json(exclude_none=True).encode(), STATUS[kind], headers)


class Guard:
    """Lets pass only who has the token, asks not too often and sends not too much."""

    def __init__(self, app: ASGIApp, token: str, service: Service) -> None:
        self.app, self.service = app, service
        self._expected = b"Bearer " + token.encode()
        self._bucket = Bucket(service.limits.rate, service.limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets
        try:
            self._check(scope)
        except Refused as refused:
            await refusal(refused.kind, str(refused), headers=refused.headers)(scope, receive, send)
            return
        most, got = self.service.limits.body, 0
        started = False

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise Refused("too_large", _too_large(most), {"Connection": "close"})
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, limited, watched)
        except Refused as refused:
            if not started:
                await refusal(refused.kind, str(refused), headers=refused.headers)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if scope["path"] != "/openapi.json" and not hmac.compare_digest(
            headers.get(b"authorization", b""), self._expected
        ):
            raise Refused(
                "unauthorized", "give the server's token in the header 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        wait = self._bucket.wait_s()
        if wait:
            rate = self.service.limits.rate
            raise Refused(
                "too_many_requests", f"more than {rate:g} requests a second; wait {wait:.3f} s",
                {"Retry-After": str(int(wait) + 1)},
            )  # fmt: skip
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 15 or int(length) > self.service.limits.body:
            raise Refused("too_large", _too_large(self.service.limits.body), {"Connection": "close"})


def _too_large(most: int) -> str:
    return f"the body is larger than {most:,} bytes, the most that this server takes; send fewer designs at once"


# --- the application -------------------------------------------------------------------------------------------------


def make_app(service: Service, token: str, more: Starlette | None = None) -> Guard:
    """The application; ``more`` adds routes of another one (the MCP server's), behind the same guard."""
    description = json.dumps(openapi(), indent=1).encode()

    async def describe(request: Request) -> Response:
        return _json(description)

    async def missing(request: Request, error: Exception) -> Response:
        return refusal(
            "not_found", f"there is nothing at {quote(request.url.path, 80, marks=False)}; see /openapi.json"
        )

    async def wrong_method(request: Request, error: Exception) -> Response:
        return refusal("method_not_allowed", f"{quote(request.method, 20)} is not for this address; see /openapi.json")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.running())
            if more is not None:
                await stack.enter_async_context(more.router.lifespan_context(more))
            yield

    routes: list[BaseRoute] = [Route("/openapi.json", describe, methods=["GET"])]
    routes += [Route(op.path, endpoint(service, op), methods=[op.method], name=op.name) for op in OPERATIONS]
    routes += list(more.routes) if more is not None else []
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: missing, 405: wrong_method})
    app.router.redirect_slashes = False
    return Guard(app, token, service)


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description of the interface."""
    kinds: list[tuple[type[BaseModel], str]] = [(schemas.Refusal, "serialization")]
    for op in OPERATIONS:
        kinds += [(op.answers, "serialization")] + ([(op.takes, "validation")] if op.takes is not None else [])
    names, definitions = models_json_schema(
        list(dict.fromkeys(kinds)),  # type: ignore[arg-type]
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        about: dict[str, Any] = {
            "operationId": op.name,
            "summary": " ".join((op.answers.__doc__ or "").split()),
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", op.path)
            ]
            + [
                {
                    "name": name, "in": "query", "description": text,
                    "schema": {"type": "integer", "default": default, "maximum": most},
                }
                for name, (text, default, most) in (op.query or {}).items()
            ],
            "responses": {
                "200": _content(names[op.answers, "serialization"], "the answer"),
                "default": _content(names[schemas.Refusal, "serialization"], "an error"),
            },
        }  # fmt: skip
        if op.takes is not None:
            about["requestBody"] = {"required": True, **_content(names[op.takes, "validation"], "the request")}
        paths.setdefault(op.path, {})[op.method.lower()] = about
    kinds_of_error = ", ".join(f"{kind} ({status})" for kind, status in STATUS.items())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "archgym serve",
            "version": __version__,
            "description": "Search a design space from any language: open a session, evaluate designs, read what came of "
            f"it. Kinds of errors, with their status: {kinds_of_error}.",
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
        "paths": paths,
    }


def _content(schema: Any, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
