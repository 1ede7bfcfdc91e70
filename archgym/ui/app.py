"""The routes: one page, its figures, tables and events as JSON, and what protects them.

Whoever asks shows the token, once in the address and from then on in a cookie. The pages load nothing from elsewhere and run
no script but the package's own; foreign names reach them as text.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archgym._version import __version__
from archgym.errors import ArchGymError, MissingExtraError
from archgym.reports import html
from archgym.reports.charts import CHARTS
from archgym.ui import views
from archgym.ui.folder import Folder
from archgym.writing import finite

POLL_S = 1.0
"""Seconds between two looks at the files of what a page shows."""
HEADERS = {
    # The plotting library adds style elements and compiles its WebGL code; no inline script can run.
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through who shows the token, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        request = Request(scope)
        if self._known(request.query_params.get("token", "")):
            rest = [(k, v) for k, v in parse_qsl(request.url.query, keep_blank_values=True) if k != "token"]
            # Without the token the address can be kept and passed on.
            answer: Response = RedirectResponse("?" + urlencode(rest) if rest else request.url.path, 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        elif not self._known(request.cookies.get(self.cookie, "")):
            answer = HTMLResponse(
                "<p>Open the address that <code>archgym ui</code> printed: it holds a token.</p>", 403
            )
        else:
            await self.app(scope, receive, with_headers)
            return
        await answer(scope, receive, with_headers)

    def _known(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def make_app(folder: Folder, token: str, cookie: str = "archgym-ui") -> ASGIApp:
    """The application over ``folder`` for those who know ``token``."""
    try:
        import plotly.offline
    except ModuleNotFoundError:
        raise MissingExtraError("the local web application", "ui") from None
    static = resources.files(__package__) / "static"
    reports = resources.files("archgym.reports")
    page = (static / "page.html").read_text("utf-8").replace("{{VERSION}}", __version__)
    page = page.replace("{{LIBRARY}}", plotly.__version__)
    files: dict[str, tuple[str, Callable[[], str]]] = {
        "plotly.js": ("text/javascript", plotly.offline.get_plotlyjs),
        "plots.js": ("text/javascript", lambda: (reports / "plots.js").read_text("utf-8")),
        "ui.js": ("text/javascript", lambda: (static / "ui.js").read_text("utf-8")),
        "report.css": ("text/css", lambda: (reports / "report.css").read_text("utf-8")),
        "ui.css": ("text/css", lambda: (static / "ui.css").read_text("utf-8")),
    }

    async def index(request: Request) -> Response:
        return HTMLResponse(page)

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response("there is no such file", 404)
        kind, read = files[name]
        # The library is large and its address names its version; the rest may change with the package.
        keep = {"cache-control": "private, max-age=31536000, immutable"} if name == "plotly.js" else {}
        return Response(await run_in_threadpool(read), media_type=kind, headers=keep)

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(folder, request), media_type="text/event-stream")

    routes = [Route("/", index), Route("/static/{name}", asset), Route("/api/events", events)]
    routes += [Route(f"/api/{name}", _answering(folder, view)) for name, view in VIEWS.items()]
    routes.append(Route("/export", _answering(folder, _export)))
    return Guard(Starlette(routes=routes), token, cookie)


View = Callable[[Folder, QueryParams], Any]


def _answering(folder: Folder, view: View) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that computes a view beside the loop and says what is wrong with a request in one sentence."""

    async def answer(request: Request) -> Response:
        try:
            made = await run_in_threadpool(view, folder, request.query_params)
        except (ArchGymError, OSError) as error:
            # What a person mistyped is an answer of the application: a browser writes every 4xx that a page's script is
            # answered into its console, as an error. The archive of /export is what a person follows a link to.
            return _json({"refused": str(error)}, 422 if request.url.path == "/export" else 200)
        return made if isinstance(made, Response) else _json(made)

    return answer


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(finite(value), separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _number(query: QueryParams) -> int:
    text = query.get("p", "0")
    if not text.isdecimal() or len(text) > 6:
        raise ArchGymError(f"p is {text[:40]!r}; expected the number of a problem")
    return int(text)


def _suite(query: QueryParams) -> tuple[str, int]:
    """Name and version of the suite that ``NAME@VERSION`` asks for; version 0, which none has, where it is none."""
    name, _, version = query.get("at", "").rpartition("@")
    return name, int(version) if version.isdecimal() and len(version) <= 6 else 0


def _report(folder: Folder, query: QueryParams) -> Any:
    item = folder.item(query.get("at", "."))
    return folder.report(item, _number(query), query.get("objective", ""))


def _list(folder: Folder, query: QueryParams) -> Any:
    return {"folder": folder.root.name or str(folder.root), "items": folder.listed()}


def _item(folder: Folder, query: QueryParams) -> Any:
    name, version = _suite(query)
    if version and (entries := folder.entries(name, version)):
        return {"kind": "suite", "title": f"{name}, version {version}", "entries": [item.key for item in entries]}
    item = folder.item(query.get("at", "."))
    head = {"kind": item.kind, "live": item.growing, "results": item.has_results, **folder.about(item)}
    if not item.files:
        return head | {"trials": 0}
    number = _number(query)
    shown = list(folder.reports(item))
    shown[number] = folder.report(item, number, query.get("objective", ""))
    return head | views.about(shown, number)


def _chart(folder: Folder, query: QueryParams) -> Any:
    name = query.get("name", "")
    if name not in CHARTS:
        raise ArchGymError(f"there is no chart {name[:40]!r}; known: {', '.join(CHARTS)}")
    report = _report(folder, query)
    if name == "importance":
        return views.importance(folder, report, "measure" in query)
    choices: dict[str, Any] = {}
    if name == "pareto":
        choices = {"x": query.get("x", ""), "y": query.get("y", "")}
    elif name == "parallel":
        choices = {"axes": [axis for axis in query.get("axes", "").split(",") if axis]}
    return views.chart(report, name, choices)


def _text(folder: Folder, query: QueryParams) -> Any:
    report, name = _report(folder, query), query.get("name", "")
    if name in ("found", "changes"):
        return {"html": views.told(folder, report, name)}
    makers = {"facts": html.facts, "best": html.best_table}
    if name not in makers:
        raise ArchGymError(f"there is no part {name[:40]!r}; known: found, changes, {', '.join(makers)}")
    return {"html": makers[name](report)}


def _designs(folder: Folder, query: QueryParams) -> Any:
    return views.designs(_report(folder, query), query.get("where", ""))


def _side(folder: Folder, query: QueryParams) -> Any:
    return {"html": views.side_by_side(_report(folder, query), query.getlist("pick"))}


def _pictures(folder: Folder, query: QueryParams) -> Any:
    return views.pictures(_report(folder, query), query.get("design", ""))


def _sql(folder: Folder, query: QueryParams) -> Any:
    return views.sql(folder.reports(folder.item(query.get("at", "."))), query.get("sql", ""))


def _study(folder: Folder, query: QueryParams) -> Any:
    return views.study(folder, folder.item(query.get("at", ".")))


def _board(folder: Folder, query: QueryParams) -> Any:
    return views.board(folder, *_suite(query))


def _export(folder: Folder, query: QueryParams) -> Any:
    to = query.get("to", "")
    content = views.exported(_report(folder, query), query.get("design", ""), to)
    name = f'attachment; filename="{to}.zip"'  # a registered format by now
    return Response(content, media_type="application/zip", headers={"content-disposition": name})


VIEWS: dict[str, View] = {
    "items": _list,
    "item": _item,
    "chart": _chart,
    "text": _text,
    "designs": _designs,
    "side": _side,
    "pictures": _pictures,
    "sql": _sql,
    "study": _study,
    "board": _board,
}


async def _events(folder: Folder, request: Request) -> AsyncIterator[str]:
    """An event whenever the files of what is shown changed; a comment in between, so that a closed page is noticed."""
    at, last = request.query_params.get("at"), None

    def state() -> tuple[Any, bool]:
        items = folder.items() if at is None or "@" in at else [folder.item(at)]
        return [item.signature() for item in items], any(item.growing for item in items)

    while not await request.is_disconnected():
        try:
            now = await run_in_threadpool(state)
        except ArchGymError:
            now = [], False
        if last is not None and now != last:
            yield f"data: {json.dumps({'live': now[1]})}\n\n"
        else:
            yield ": no change\n\n"
        last = now
        await asyncio.sleep(POLL_S)
