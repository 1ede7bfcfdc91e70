"""``archgym serve --mcp``: driven by the SDK's own client over stdio, HTTP and in memory, up to its budget and beyond."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")
pytest.importorskip("starlette")

from archgym.datasets import verify as dataset
from archgym.problem import make_problem
from archgym.serve.service import Limits, Service
from archgym.serve.sessions import Sessions
from archgym.serve.tools import TOOLS, make_server, values_text
from tests.serve.conftest import ROOT, TOKEN, running

Ask = Callable[..., Awaitable[Any]]


async def search(ask: Ask) -> dict[str, Any]:
    """A scripted model: looks, opens, evaluates up to the budget, is refused, and reports."""
    listed = await ask("list_problems")
    assert "synthetic" in listed.content[0].text
    described = await ask("describe_problem", problem="synthetic/branin")
    parameters = described.structured_content["space"]["parameters"]
    opened = await ask("open_session", problem="synthetic/branin", budget=10, seed=2, agent="script", key="one")
    session = opened.structured_content["session"]
    assert session in opened.content[0].text and "10 of 10 evaluations left" in opened.content[0].text
    early = await ask("report", session=session)
    assert early.is_error and "close it first" in early.content[0].text
    for number in range(3):
        designs = [{p["name"]: p["values"][(7 * number + i) % len(p["values"])] for p in parameters} for i in range(4)]
        made = await ask("evaluate", session=session, designs=designs, key=f"r{number}")
        assert not made.is_error, made.content
        again = await ask("evaluate", session=session, designs=designs, key=f"r{number}")
        assert again.structured_content == made.structured_content
    assert made.structured_content["refused"] == 2 and made.structured_content["remaining"] == 0
    assert "0 evaluations left" in made.content[0].text and "budget is used up" in made.content[0].text
    refused = await ask("evaluate", session=session, designs=[{"x0": -5.0, "x1": 0.0}])
    assert refused.is_error and refused.structured_content["error"]["kind"] == "closed"
    assert "budget is used up (10 of 10 evaluations)" in refused.content[0].text
    best = await ask("best", session=session, count=3)
    history = await ask("history", session=session, start=2, count=3)
    assert [trial["index"] for trial in history.structured_content["trials"]] == [2, 3, 4]
    report = await ask("report", session=session)
    assert "script found" in report.content[0].text
    assert report.structured_content["best"] == best.structured_content["trials"][0]
    assert best.structured_content["trials"][0]["reward"] >= history.structured_content["trials"][0]["reward"]
    return {"session": session, "best": best.structured_content["trials"][0]}


def asker(client: Any) -> Ask:
    async def ask(name: str, **arguments: Any) -> Any:
        return await client.call_tool(name, arguments)

    return ask


def verified(folder: Path) -> None:
    found = dataset.verify(folder)
    assert found["holds"] and found["rows"] == 10


def test_a_search_over_stdio(tmp_path: Path):
    from mcp import Client, StdioServerParameters

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "archgym", "serve", "--mcp", "--timeout", "900", "--out", str(tmp_path)],
        env=environment,
    )  # fmt: skip

    async def go() -> None:
        async with Client(parameters, read_timeout_seconds=900) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {tool.name for tool in TOOLS}
            await search(asker(client))

    asyncio.run(go())
    verified(tmp_path)


def test_a_search_over_http_beside_the_plain_interface(tmp_path: Path):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def go(url: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=900) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            return await search(asker(client))

    with running(Sessions(tmp_path), mcp=True) as plain:
        found = asyncio.run(go(plain.url))
        best = plain.get(f"/v1/sessions/{found['session']}/best").json["trials"][0]
        assert best == found["best"]
        assert plain.send("POST", "/mcp", b"{}", {"Authorization": "Bearer another"}).kind == "unauthorized"
    verified(tmp_path)


def in_memory(sessions: Sessions, go: Callable[[Ask], Awaitable[None]]) -> None:
    """Talk to a server of this process."""
    from mcp import Client

    async def run() -> None:
        service = Service(sessions, Limits(seconds=900))
        async with service.running(), Client(make_server(service)) as client:
            await go(asker(client))

    asyncio.run(run())


def test_an_entry_to_a_suite_is_driven_and_verifies(tmp_path: Path):
    from archgym.serve.entry import EntrySessions
    from archgym.suites import parse_suite, verify

    suite = parse_suite(
        "name: small\nversion: 1\nbudgets: [4, 9]\nseeds: 2\nproblems:\n- {problem: synthetic/branin}\n"
        "- {problem: synthetic/packing}\n"
    )

    async def go(ask: Ask) -> None:
        listed = await ask("list_problems")
        assert "open exactly these runs" in listed.content[0].text
        for run in listed.structured_content["runs"]:
            about = {key: run[key] for key in ("problem", "options", "budget", "seed")}
            more = await ask("open_session", **(about | {"budget": run["budget"] + 1}))
            assert more.is_error and "have 9 evaluations" in more.content[0].text
            session = (await ask("open_session", **about)).structured_content["session"]
            rows = make_problem(run["problem"]).space.sample(12, run["seed"]).tolist()
            done = await ask("evaluate", session=session, designs=rows)
            assert done.structured_content["used"] == 9
            again = (await ask("open_session", **about)).structured_content
            assert again["session"] == session and again["closed"]  # nobody gets a second try
            assert (await ask("evaluate", session=session, designs=rows[-1:])).is_error

    in_memory(EntrySessions(suite, tmp_path, "model-x"), go)
    found = verify(suite, tmp_path)
    assert found.findings == [] and len(found.runs) == 4


def test_arguments_are_checked_and_refused_in_one_sentence(tmp_path: Path):
    async def go(ask: Ask) -> None:
        session = (await ask("open_session", problem="synthetic/branin", budget=5)).structured_content["session"]
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("nothing", {}),
            ("evaluate", {"session": session}),
            ("evaluate", {"session": session, "designs": []}),
            ("evaluate", {"session": session, "designs": [{"x0": 1.0}]}),
            ("evaluate", {"session": session, "designs": [{"x0": 99.0, "x1": 0.0}]}),
            ("evaluate", {"session": session, "designs": [{"x0": True, "x1": 0.0}]}),
            ("evaluate", {"session": session, "designs": [[0, 10_000]]}),
            ("evaluate", {"session": session, "designs": [[0, 10**30]]}),
            ("evaluate", {"session": "../../etc", "designs": [[0, 0]]}),
            ("evaluate", {"session": session, "designs": [[0, 0]], "more": 1}),
            ("open_session", {"problem": "synthetic/branin", "budget": 0}),
            ("open_session", {"problem": "synthetic/branin", "budget": 5, "agent": "ga"}),
            ("open_session", {"problem": "dram/file:/etc/passwd", "budget": 5}),
            ("open_session", {"problem": "nas/torch:x.py:f", "budget": 5}),
            ("describe_problem", {"problem": "dram/gzip", "options": {"device": "file:/etc/passwd"}}),
            ("history", {"session": session, "count": 10**6}),
        ]
        for name, arguments in wrong:
            made = await ask(name, **arguments)
            text = made.content[0].text
            assert made.is_error and 0 < len(text) <= 300 and "Traceback" not in text, (name, arguments, text)
        assert (await ask("history", session=session)).structured_content["total"] == 0
        texts = json.dumps([{"x0": -5.0, "x1": 0.0}])  # as some hosts send it
        assert not (await ask("evaluate", session=session, designs=texts)).is_error
        rounded = await ask("evaluate", session=session, designs=[{"x0": -3.65, "x1": 1.35}])
        assert rounded.structured_content["trials"][0]["design"]["x0"] == -3.6500000000000004

    in_memory(Sessions(tmp_path), go)


def test_texts_fit_a_context_and_say_everything(tmp_path: Path):
    async def go(ask: Ask) -> None:
        for name in ("dram/gzip", "systolic/resnet18", "soc/edge_detection"):
            made = await ask("describe_problem", problem=name)
            text = made.content[0].text
            problem = make_problem(name)
            assert len(text) < 8000
            for p in problem.space.parameters:
                assert f"- {p.name}: " in text
            for rule in problem.space.constraints:
                assert rule.sentence in text
            for metric in problem.metrics:
                assert metric.name in text
        assert len((await ask("list_problems")).content[0].text) < 6000

    in_memory(Sessions(tmp_path), go)
    assert sum(len(json.dumps(tool.as_mcp().model_dump(mode="json"))) for tool in TOOLS) < 25_000


def test_values_are_shown_whole_or_as_an_even_range():
    assert values_text((1, 2, 4, 8)) == "1, 2, 4, 8"
    assert values_text((False, True)) == "false, true"
    assert values_text(tuple(range(1, 129))) == "1 to 128 in steps of 1 (128 values)"
    uneven = tuple(2**i for i in range(14))
    assert values_text(uneven) == ", ".join(map(str, uneven))
    assert values_text(("a",) * 1) == "a"
