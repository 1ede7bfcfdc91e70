"""What nobody should send, and what networks do: every answer is one sentence, nothing is lost, nothing else is touched."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archgym.datasets import verify as dataset
from archgym.problem import make_problem
from archgym.registry import SIMULATORS
from archgym.serve.sessions import ClosedError, KeyUsedError, Sessions
from archgym.simulator import Evaluation
from archgym.simulators.synthetic import Synthetic
from tests.serve.conftest import TOKEN, Client, Reply, running


class Slow(Synthetic):
    """Waits until it is told to go on; fails where it is told to."""

    name = "slow"
    go = threading.Event()
    fails: list[Exception] = []

    def evaluate(self, designs, workload, **options) -> Evaluation:
        assert self.go.wait(600)
        if self.fails:
            raise self.fails.pop()
        return super().evaluate(designs, workload, **options)


@pytest.fixture
def slow():
    SIMULATORS.register("slow", Slow)
    Slow.go.clear()
    Slow.fails.clear()
    yield Slow
    Slow.go.set()
    SIMULATORS.unregister("slow")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for requests that must change nothing."""
    with running(Sessions(tmp_path_factory.mktemp("shared"))) as made:
        yield made


def sentence(reply: Reply) -> str:
    """The sentence of a refusal; never a traceback, never long."""
    assert 400 <= reply.status < 600, reply.content[:300]
    text = reply.json["error"]["message"]
    assert 0 < len(text) <= 320 and "\n" not in text and "Traceback" not in text, text
    return text


def one(client: Client, here: str, body: bytes) -> Reply:
    return client.send("POST", f"{here}/evaluate", body)


# --- what is no request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"designs": [[0, 0]]', b'{"designs": [[0, 0]]} {}',
        b'{"designs": NaN}', b'{"designs": [[NaN, 0]]}', b'{"designs": [{"x0": Infinity, "x1": 0.0}]}',
        b'{"designs": [{"x0": 1e999, "x1": 0.0}]}', b'{"designs": [[0, 0]], "designs": [[1, 1]]}',
        b'{"designs": [[0, 0]], "more": 1}', b'{"designs": [[0]]}', b'{"designs": [[0, 0, 0]]}', b'{"designs": [[]]}',
        b'{"designs": [{}]}', b'{"designs": []}', b'{"designs": {}}', b'{"designs": "all"}', b'{"designs": [null]}',
        b'{"designs": [[0.0, 0.5]]}', b'{"designs": [["0", "0"]]}', b'{"designs": [[true, false]]}',
        b'{"designs": [[-1, 0]]}', b'{"designs": [[101, 0]]}', b'{"designs": [[123456789012345678901234567890, 0]]}',
        b'{"designs": [{"x0": -5.0}]}', b'{"designs": [{"x0": -5.0, "x1": 0.0, "x2": 1}]}',
        b'{"designs": [{"x0": -5.01, "x1": 0.0}]}', b'{"designs": [{"x0": "-5.0", "x1": 0.0}]}',
        b'{"designs": [{"x0": null, "x1": 0.0}]}', b'{"designs": [{"x0": [1], "x1": 0.0}]}',
        b'{"designs": [[0, 0]], "key": ""}', b'{"designs": [[0, 0]], "key": "../../x"}',
        b'{"designs": [[0, 0]], "key": 1}', b'{"designs": [[0, 0]], "key": "' + b"k" * 101 + b'"}',
        b'{"designs": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"x":' * 100 + b"1" + b"}" * 100,
        json.dumps({"designs": [[0, 0]] * 1025}).encode(),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_and_costs_nothing(shared: Client, body: bytes):
    client = shared
    here = client.open()
    reply = one(client, here, body)
    assert reply.status == 400 and reply.kind == "bad_request"
    sentence(reply)
    assert client.get(here).json["trials"] == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"problem": "synthetic/branin"}, {"budget": 5}, {"problem": "", "budget": 5}, {"problem": 3, "budget": 5},
        {"problem": "nothing/at-all", "budget": 5}, {"problem": "synthetic/../../etc/passwd", "budget": 5},
        {"problem": "synthetic/branin\0", "budget": 5}, {"problem": "x" * 5000, "budget": 5},
        {"problem": "synthetic/branin", "budget": 0}, {"problem": "synthetic/branin", "budget": -1},
        {"problem": "synthetic/branin", "budget": 2.5}, {"problem": "synthetic/branin", "budget": "5"},
        {"problem": "synthetic/branin", "budget": True}, {"problem": "synthetic/branin", "budget": 10**9},
        {"problem": "synthetic/branin", "budget": 5, "seed": -1},
        {"problem": "synthetic/branin", "budget": 5, "agent": "../x"},
        {"problem": "synthetic/branin", "budget": 5, "agent": "ga"},
        {"problem": "synthetic/branin", "budget": 5, "options": {"nothing": 1}},
        {"problem": "synthetic/branin", "budget": 5, "options": {"name": "dram/gzip"}},
        {"problem": "synthetic/branin", "budget": 5, "options": {"objective": 3}},
        {"problem": "synthetic/branin", "budget": 5, "options": {"fix": {"x0": 77}}},
        {"problem": "synthetic/branin", "budget": 5, "options": []},
        {"problem": "synthetic/branin", "budget": 5, "settings": {"a": {"b": 1}}},
        {"problem": "synthetic/branin", "budget": 5, "folder": "/tmp/x"},
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_is_not_opened(shared: Client, asked: dict[str, object]):
    folder = Path(shared.get(shared.open()).json["folder"]).parent
    before = sorted(folder.iterdir())
    reply = shared.post("/v1/sessions", asked)
    assert reply.status in (400, 403)
    sentence(reply)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("dram/file:/etc/passwd", {}), ("dram/file:x.stl", {}), ("dram/gzip+file:/etc/passwd", {}),
        ("accelerator/torch:/tmp/x.py:net", {}), ("accelerator/alexnet@2xtorch:x.py:n", {}),
        ("dram/gzip", {"device": "file:/etc/passwd"}), ("accelerator/alexnet", {"technology": "/etc/passwd"}),
        ("llm-serving", {"tables": "secret"}), ("llm-serving", {"tables": ["secret"]}),
        ("dram/gzip", {"workload_options": {"a": {"b": "..\\x"}}}), ("dram/gzip", {"simulator": "proxy:model.npz"}),
        ("dram/gzip", {"simulator": "dramsys"}), ("dram/gzip", {"objective": "file:x"}),
    ],
)  # fmt: skip
def test_files_and_programs_need_trust(tmp_path: Path, problem: str, options: dict[str, object], monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").mkdir()
    with running(Sessions(tmp_path / "sessions")) as client:
        for path, more in (("/v1/sessions", {"budget": 5}), ("/v1/describe", {})):
            reply = client.post(path, {"problem": problem, "options": options, **more})
            assert reply.status == 403 and reply.kind == "untrusted", reply.content
            assert "--trust" in sentence(reply)


def test_with_trust_a_file_is_read(tmp_path: Path):
    trace = tmp_path / "mine.stl"
    trace.write_text("".join(f"{10 * i}: read 0x{64 * i:x}\n" for i in range(200)))
    with running(Sessions(tmp_path / "sessions", trust=True)) as client:
        here = client.open(problem=f"dram/file:{trace}", budget=2)
    with running(Sessions(tmp_path / "sessions")) as client:  # trust is of a server, not of a session
        assert client.get(here).kind == "untrusted"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sessions/..%2f..%2fetc%2fpasswd", "/v1/sessions/%2e%2e", "/v1/sessions/.lock", "/v1/sessions/a%00b",
        "/v1/sessions/../sessions", "/v1/sessions/" + "a" * 5000, "/v1/sessions/" + quote("<script>"), "/v1/sessions/%ff",
        "/v1/sessions/x/space", "/v1/sessions/x/history", "/v1/sessions/x/best", "/v1/sessions//", "/etc/passwd", "//",
        "/v1/sessions/x/history?start=-1", "/v1/sessions/x/history?count=0", "/v1/sessions/x/history?count=1001",
        "/v1/sessions/x/history?start=1e3", "/v1/sessions/x/history?start=1&start=2", "/v1/sessions/x/best?more=1",
        "/v1/sessions/x/history?start=" + "9" * 500, "/mcp", "/docs",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(shared: Client, path: str):
    client = shared
    reply = client.get(path)
    assert reply.status in (400, 404)
    text = sentence(reply)
    assert "<script>" not in text or reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["designs", "key", "problem", "budget", "options", "seed", "agent", "settings", "x0", "x1"]
                )
                | st.text(max_size=8),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_no_json_makes_the_server_fail(shared: Client, value: object):
    client = shared
    if not hasattr(client, "here"):
        client.here = client.open(budget=1000)  # type: ignore[attr-defined]
    body = json.dumps(value).encode()
    for path in (f"{client.here}/evaluate", "/v1/sessions", "/v1/describe", f"{client.here}/space"):  # type: ignore[attr-defined]
        reply = client.send("POST", path, body)
        assert reply.status < 500, (path, body, reply.content)
        if reply.status != 200:
            sentence(reply)


# --- who may ask, and how much ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"bearer {TOKEN}", TOKEN]
)
def test_without_the_token_there_is_nothing(shared: Client, header: str):
    client = shared
    for path in ("/v1/problems", "/v1/sessions", "/", "/nothing"):
        reply = client.send("GET", path, headers={"Authorization": header})
        assert reply.status == 401 and reply.kind == "unauthorized" and "www-authenticate" in reply.headers
    assert client.send("POST", "/v1/sessions", b"{}", headers={"Authorization": header}).status == 401


def test_large_bodies_are_refused_before_they_are_read(tmp_path: Path):
    with running(Sessions(tmp_path), body=10_000) as client:
        here = client.open()
        assert one(client, here, b" " * 20_000).kind == "too_large"
        connection = http.client.HTTPConnection(urlsplit(client.url).netloc, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}", "Transfer-Encoding": "chunked"}
        sent = 0

        def endless():
            nonlocal sent
            while sent < 50_000_000:
                sent += 5000
                yield b" " * 5000

        try:
            connection.request("POST", f"{here}/evaluate", endless(), headers, encode_chunked=True)
            assert connection.getresponse().status == 413
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closed while we were sending
        assert sent < 50_000_000
        lying = socket.create_connection((urlsplit(client.url).hostname, urlsplit(client.url).port))
        lying.sendall(
            f"POST {here}/evaluate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: -5\r\n\r\n".encode()
        )
        assert lying.recv(100).split()[1] in (b"400", b"413")
        lying.close()
        assert client.get(here).json["trials"] == 0


def test_too_many_requests_wait(tmp_path: Path):
    with running(Sessions(tmp_path), rate=0.5) as client:
        replies = [client.get("/v1/sessions") for _ in range(30)]
        refused = [reply for reply in replies if reply.status == 429]
        assert refused and replies[0].status == 200
        assert int(refused[0].headers["retry-after"]) >= 1
        sentence(refused[0])
        deadline = time.monotonic() + 60
        while client.get("/v1/sessions").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_only_so_many_sessions_are_open(tmp_path: Path):
    with running(Sessions(tmp_path, most=3)) as client:
        here = [client.open() for _ in range(3)]
        reply = client.post("/v1/sessions", {"problem": "synthetic/branin", "budget": 5})
        assert reply.status == 503 and reply.kind == "too_many_sessions"
        client.post(f"{here[0]}/close")
        client.open()


# --- time and failure ------------------------------------------------------------------------------------------------


def test_a_request_that_takes_too_long_goes_on(tmp_path: Path, slow):
    with running(Sessions(tmp_path)) as client:
        here = client.open(problem="slow/branin")
        patient, client.service.limits = client.service.limits, replace(client.service.limits, seconds=0.1)
        reply = client.post(f"{here}/evaluate", {"designs": [[1, 2], [3, 4]]})
        assert reply.status == 504 and reply.kind == "timeout"
        key = reply.json["error"]["key"]
        assert key in sentence(reply)
        assert client.post(f"{here}/evaluate", {"designs": [[1, 2], [3, 4]], "key": key}).kind == "timeout"
        slow.go.set()
        client.service.limits = patient
        reply = client.post(f"{here}/evaluate", {"designs": [[1, 2], [3, 4]], "key": key})
        assert reply.json["used"] == 2 and client.get(here).json["trials"] == 2


def test_a_client_that_goes_away_loses_nothing(tmp_path: Path, slow):
    with running(Sessions(tmp_path)) as client:
        here = client.open(problem="slow/branin", budget=5)
        body = json.dumps({"designs": [[1, 2], [3, 4]], "key": "gone"}).encode()
        address = (urlsplit(client.url).hostname, urlsplit(client.url).port)
        head = f"POST {here}/evaluate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: "
        half = socket.create_connection(address)  # goes away in the middle of its body
        half.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body[:10])
        half.close()
        whole = socket.create_connection(address)  # goes away before its answer
        whole.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
        journal = next(tmp_path.rglob("session.json")).with_name("requests.jsonl")
        deadline = time.monotonic() + 30
        while not journal.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        whole.close()
        slow.go.set()
        reply = one(client, here, body)
        assert reply.json["used"] == 2 and len(reply.json["trials"]) == 2
        assert client.get(here).json["trials"] == 2


def test_one_slow_session_does_not_hold_up_another(tmp_path: Path, slow):
    with running(Sessions(tmp_path)) as client:
        here, other = client.open(problem="slow/branin"), client.open()
        threads = [
            threading.Thread(target=client.post, args=(f"{here}/evaluate", {"designs": [[i, 0]]})) for i in range(8)
        ]
        for thread in threads:
            thread.start()
        assert client.post(f"{other}/evaluate", {"designs": [[1, 1]]}).json["used"] == 1
        slow.go.set()
        for thread in threads:
            thread.join()
        assert client.get(here).json["used"] == 8


@pytest.mark.parametrize(
    "error", [RuntimeError("boom /secret/path"), ValueError("no"), MemoryError(), OSError(28, "full")]
)
def test_a_simulator_that_fails_leaves_the_session_whole(tmp_path: Path, slow, error: Exception):
    slow.go.set()
    with running(Sessions(tmp_path)) as client:
        here = client.open(problem="slow/branin", budget=6)
        first = client.post(f"{here}/evaluate", {"designs": [[1, 2]], "key": "a"})
        slow.fails.append(error)
        reply = client.post(f"{here}/evaluate", {"designs": [[3, 4], [5, 6]], "key": "b"})
        assert reply.status in (400, 500)
        assert "secret" not in sentence(reply)
        assert client.get(here).json["used"] == 1
        assert client.post(f"{here}/evaluate", {"designs": [[3, 4], [5, 6]], "key": "b"}).json["used"] == 3
        assert client.post(f"{here}/evaluate", {"designs": [[1, 2]], "key": "a"}).content == first.content
        history = client.get(f"{here}/history").content
    with running(Sessions(tmp_path)) as client:
        assert client.get(f"{here}/history").content == history


@pytest.mark.parametrize("damage", ["journal", "shard", "session", "shorter journal", "other file"])
def test_what_is_damaged_is_named_and_leaves_the_rest(tmp_path: Path, damage: str):
    with running(Sessions(tmp_path)) as client:
        here, other = client.open(), client.open()
        for number in range(3):
            client.post(f"{here}/evaluate", {"designs": [[number, 0]]})
        client.post(f"{other}/evaluate", {"designs": [[7, 7]]})
    folder = tmp_path / here.rpartition("/")[2]
    journal, shard = folder / "requests.jsonl", next(folder.rglob("*.arrows"))
    lines = journal.read_bytes().splitlines(keepends=True)
    {
        "journal": lambda: journal.write_bytes(lines[0] + b'{"designs": "x"}\n'),
        "shard": lambda: shard.write_bytes(b"nothing"),
        "session": lambda: (folder / "session.json").write_text('{"session": "../x"}'),
        "shorter journal": lambda: journal.write_bytes(b"".join(lines[:2])),
        "other file": lambda: (tmp_path / "session.json").write_text("{}"),
    }[damage]()
    sessions = Sessions(tmp_path)
    assert bool(sessions.notes) == (damage == "session")
    with running(sessions) as client:
        assert client.get(other).json["used"] == 1
        reply = client.get(here)
        if damage == "other file":
            assert reply.json["used"] == 3
        else:
            sentence(reply)


# --- many sessions ---------------------------------------------------------------------------------------------------


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize(
    ("count", "loaded"), [(100, 10), pytest.param(1000, 50, marks=[pytest.mark.slow, pytest.mark.stress])]
)
def test_many_sessions(tmp_path: Path, count: int, loaded: int):
    """More than are kept in memory (a thousand: than files may be open); each keeps its own budget, before and after a
    restart."""
    with running(Sessions(tmp_path, loaded=loaded, most=count)) as client:
        before = _open_files()
        here = [client.open(budget=3, seed=i, key=f"s{i}") for i in range(count)]
        assert len(set(here)) == count
        assert client.post("/v1/sessions", {"problem": "synthetic/branin", "budget": 3}).kind == "too_many_sessions"
        order = np.random.default_rng(0).permutation(count).tolist()

        def ask(part: list[int]) -> None:
            for i in part:
                designs = [[i % 101, j] for j in range(2)]
                assert client.post(f"{here[i]}/evaluate", {"designs": designs, "key": "a"}).json["used"] == 2

        threads = [threading.Thread(target=ask, args=(order[k::4],)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _open_files() - before < 50 + loaded
    sessions = Sessions(tmp_path, loaded=loaded)
    assert len(sessions.list()) == count
    for i in order[:30]:
        with sessions.using(here[i].rpartition("/")[2]) as session:
            assert session.evaluator.used == 2
            session.evaluate(np.array([[i % 101, 5], [i % 101, 6]]), "b")
            assert session.closed and session.evaluator.used == 3
    sessions.shut()
    assert dataset.verify(tmp_path, sample=50)["rows"] == 2 * count + 30


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 4)), max_size=14), st.integers(0, 10**6))
def test_any_order_of_requests_restarts_and_repeats_keeps_the_books(tmp_path_factory, steps, seed):
    """Against a model of a session: a budget, a set of designs, answers by key."""
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(seed)
    problem = make_problem("synthetic/branin")
    sessions = Sessions(folder)
    name = sessions.open("synthetic/branin", {}, 10).facts.session
    seen: set[tuple[int, ...]] = set()
    trials: list[float] = []
    keys: dict[str, tuple[list[list[int]], list[float]]] = {}
    for kind, key, count in steps:
        if kind == 3:
            sessions.shut()
            sessions = Sessions(folder)
            continue
        designs = rng.integers(0, 4, (count, 2))
        word = f"k{key}"
        with sessions.using(name) as session:
            if kind == 1 and word in keys:
                designs = np.array(keys[word][0])
            if word in keys and not np.array_equal(keys[word][0], designs):
                with pytest.raises(KeyUsedError):
                    session.evaluate(designs, word)
            elif word in keys:
                assert session.evaluate(designs, word).rewards.tolist() == keys[word][1]
            elif len(seen) >= 10:
                with pytest.raises(ClosedError):
                    session.evaluate(designs, word)
            else:
                wanted = []
                for row in designs.tolist():
                    if tuple(row) not in seen and len(seen) >= 10:
                        break
                    seen.add(tuple(row))
                    wanted.append(float(problem.evaluate([row])[1][0]))
                trials += wanted
                keys[word] = designs.tolist(), wanted
                assert session.evaluate(designs, word).rewards.tolist() == wanted
            assert session.evaluator.used == len(seen) and session.trials == len(trials)
            assert [request.rewards[row] for request, row in session.history(0, 1000)] == trials
    sessions.shut()
