"""The store of evaluations: what it answers is what was simulated, bit for bit, whatever happens to its file."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.cli import main
from archgym.problem import Problem, make_problem
from archgym.registry import SIMULATORS
from archgym.simulator import Evaluation, Metric
from archgym.simulators.external import ProcessSimulator
from archgym.simulators.external.program import ProcessWorkload
from archgym.space import Inactive, Parameter
from archgym.store import Store, Stored, default_path, simulating_anew, stored, tally, using
from archgym.store.database import Context, Row
from archgym.studies.spread import Spread
from archgym.testing import check_simulator
from archgym.testing.checks import same_evaluation
from tests.bowl import BowlSimulator

CONTEXT = Context.of({"simulator": "some", "version": "1"}, "some/thing")


class Counting(BowlSimulator):
    """Counts the designs that it simulates."""

    asked = 0

    def evaluate(self, designs, workload, **kwargs):
        Counting.asked += len(np.atleast_2d(designs))
        return super().evaluate(designs, workload, **kwargs)


@pytest.fixture
def counted():
    Counting.asked = 0
    return Counting()


def bits(evaluation: Evaluation) -> list[bytes]:
    return [column.tobytes() for column in evaluation.metrics.values()] + [
        evaluation.feasible.tobytes(), repr(evaluation.violation.tolist()).encode(),
    ]  # fmt: skip


def value(number: int) -> Row:
    """A row that follows from its number."""
    rng = np.random.default_rng(number)
    return Row(number % 3 > 0, "" if number % 3 else f"rule_{number % 7}", rng.random(5).tobytes())


def design(number: int) -> bytes:
    return struct.pack("<4i", number % 5, number // 5 % 1000, number // 5000, number)


# --- what goes in comes out ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    rows=st.dictionaries(
        st.binary(min_size=4, max_size=40),
        st.tuples(st.booleans(), st.text(max_size=12), st.lists(st.binary(min_size=8, max_size=8), max_size=4)),
        max_size=20,
    )
)
def test_every_bit_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    said: list[str] = []
    made = {key: Row(ok, name, b"".join(words)) for key, (ok, name, words) in rows.items()}
    written = Store(path, said.append).put(CONTEXT, made)
    assert written == bool(made) and not said
    other = Store(path, said.append)
    assert other.look_up(CONTEXT, [*made, b"unknown"]) == made
    assert other.look_up(Context.of({"simulator": "other"}), made) == {}
    assert not said


def test_a_simulator_is_asked_once_and_its_bits_come_back(tmp_path, counted):
    store = Stored(counted, str(tmp_path / "s.sqlite"))
    workload = store.workloads()["deep"]
    designs = store.space(workload).sample(200, 1)
    fresh = store.evaluate(designs, workload, seed=3)
    distinct = len(np.unique(store.space(workload).canonical(designs), axis=0))
    assert Counting.asked == distinct
    again = Stored(Counting(), store.path)
    with tally() as found:
        known = again.evaluate(designs, workload, seed=4)
    assert Counting.asked == distinct and found.answered == 200 and not found.started
    assert bits(fresh) == bits(known) == bits(BowlSimulator().evaluate(designs, workload, seed=3))
    half = store.space(workload).sample(400, 1)  # starts with the 200 known ones
    with tally() as found:
        mixed = again.evaluate(half, workload)
    assert found.answered >= 200 and found.started
    assert bits(mixed) == bits(BowlSimulator().evaluate(half, workload))
    with simulating_anew():
        before = Counting.asked
        again.evaluate(designs, workload)
        assert Counting.asked == before + 200
    empty = again.evaluate(designs[:0], workload)
    assert len(empty) == 0 and list(empty.metrics) == list(known.metrics)


def test_a_stored_simulator_keeps_the_contract(tmp_path):
    check_simulator(Stored(BowlSimulator(), str(tmp_path / "s.sqlite")))


def test_what_a_result_depends_on_tells_results_apart(tmp_path):
    path = str(tmp_path / "s.sqlite")

    def context(simulator, fidelity=None, seed=None, workload="deep"):
        return Stored(simulator, path).context(simulator.workloads()[workload], fidelity, seed).digest

    class Newer(BowlSimulator):
        version = "2"

    class Optional(BowlSimulator):
        def __init__(self, space=None, depth=1, threads=1):
            super().__init__(space)

    class Noisy(BowlSimulator):
        def noisy(self, workload, fidelity=None):
            return True

    class Linked(BowlSimulator):
        programs = {"tool": "abc"}

    plain = context(BowlSimulator())
    assert context(BowlSimulator(), seed=7) == plain == context(Optional(threads=4)) == context(Optional(depth=1))
    others = [
        context(Newer()), context(Optional(depth=2)), context(BowlSimulator(space="fast")), context(Linked()),
        context(Noisy(), seed=1), context(Noisy(), seed=2), context(BowlSimulator(), "coarse"),
        *(context(BowlSimulator(), workload=name) for name in BowlSimulator().workloads() if name != "deep"),
    ]  # fmt: skip
    seen = {plain, *others}
    assert len(seen) == 1 + len(others)

    class Otherwise(BowlSimulator):
        """Whose author changed a list of values and forgot the version."""

        def space(self, workload):
            made = super().space(workload)
            first = made.parameters[0]
            other = type(first)(first.name, tuple(f"{v}'" for v in first.values), first.ordered)
            return type(made)([other, *made.parameters[1:]], made.constraints)

    assert context(Otherwise()) not in seen


# --- what goes wrong -----------------------------------------------------------------------------------------------------


def write_forever(path, first, acknowledged):
    """Writes batches of rows and says of each that it is in the file."""
    store, number = Store(path), first
    with open(acknowledged, "ab", buffering=0) as file:
        while True:
            rows = {design(n): value(n) for n in range(number, number + 1 + number % 40)}
            if store.put(CONTEXT, rows):
                file.write(struct.pack("<2q", number, len(rows)))
            number += len(rows)
            time.sleep(0.002)  # a busy machine would have it write more than the test can look at


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_four_writers_and_twenty_kills_lose_nothing(tmp_path):
    path, rng = tmp_path / "s.sqlite", np.random.default_rng(0)
    Store(path).put(CONTEXT, {design(0): value(0)})
    fork = multiprocessing.get_context("fork")
    starts = iter(range(1, 10**9, 10**6))

    def start():
        first = next(starts)
        said = tmp_path / f"said-{first}"
        process = fork.Process(target=write_forever, args=(path, first, said), daemon=True)
        process.start()
        return process, said

    writers = [start() for _ in range(4)]
    try:
        for _ in range(20):
            time.sleep(float(rng.uniform(0.0, 0.05)))
            i = int(rng.integers(4))
            os.kill(writers[i][0].pid, signal.SIGKILL)
            writers[i][0].join()
            writers[i] = start()
        end = time.monotonic() + 60
        while time.monotonic() < end and not all(said.exists() and said.stat().st_size for _, said in writers):
            time.sleep(0.05)
    finally:
        for writer, _ in writers:
            writer.kill()
            writer.join()
    said = [n for file in tmp_path.glob("said-*")
            for start, count in struct.iter_unpack("<2q", file.read_bytes()[: file.stat().st_size // 16 * 16])
            for n in range(start, start + count)]  # fmt: skip
    assert said
    store = Store(path)
    found = store.look_up(CONTEXT, [design(n) for n in said])
    lost = [n for n in said if design(n) not in found]
    wrong = [n for n in said if found.get(design(n), value(n)) != value(n)]
    assert (lost, wrong, store.ignored) == ([], [], 0)
    whole = Store(path).verify()
    assert whole["damaged"] == 0 and whole["file"] == [] and whole["rows"] >= len(set(said))


def test_damaged_files_answer_rightly_or_not_at_all(tmp_path, capfd):
    path, workload = tmp_path / "s.sqlite", BowlSimulator().workloads()["deep"]
    designs = BowlSimulator().space(workload).sample(300, 0)
    right = BowlSimulator().evaluate(designs, workload)
    made = Stored(BowlSimulator(), str(path))
    made.evaluate(designs, workload)
    made.store.close()
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for attempt in range(60):
        damaged = bytearray(whole)
        if attempt % 4 == 0:
            damaged = damaged[: int(rng.integers(len(whole)))]
        elif attempt % 4 == 1:
            at = int(rng.integers(len(whole) - 600))
            damaged[at : at + 600] = rng.bytes(600)
        else:
            for at in rng.integers(100 if attempt % 4 == 2 else 4096, len(whole), size=1 + attempt):
                damaged[at] ^= int(rng.integers(1, 256))
        copy = tmp_path / f"damaged-{attempt}.sqlite"
        copy.write_bytes(bytes(damaged))
        damaged_store = Stored(BowlSimulator(), str(copy))
        assert same_evaluation(damaged_store.evaluate(designs, workload), right), attempt
        refused += not damaged_store.store.readable or damaged_store.store.ignored > 0
        # And again, after what was written to it.
        damaged_store.store.close()
        assert same_evaluation(Stored(BowlSimulator(), str(copy)).evaluate(designs, workload), right), attempt
        damaged_store.store.close()
    assert refused > 20
    assert "everything is simulated" in capfd.readouterr().err


def test_a_damaged_row_is_simulated_again_and_mended(tmp_path, counted):
    path = tmp_path / "s.sqlite"
    store = Stored(counted, str(path))
    workload = store.workloads()["deep"]
    designs = np.unique(store.space(workload).canonical(store.space(workload).sample(50, 0)), axis=0)
    right = store.evaluate(designs, workload)
    store.store.close()
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT context, design FROM evaluations LIMIT 7").fetchall()
        for context, key in rows:
            raw.execute(
                "UPDATE evaluations SET metrics = zeroblob(length(metrics)) WHERE context = ? AND design = ?",
                (context, key),
            )
    raw.close()
    said: list[str] = []
    reader = Store(path, said.append)
    assert reader.verify()["damaged"] == 7
    Counting.asked = 0
    assert same_evaluation(store.evaluate(designs, workload), right)
    assert Counting.asked == 7
    assert reader.verify()["damaged"] == 0


def test_a_full_disk_stops_no_simulation(tmp_path):
    said: list[str] = []
    store = Store(tmp_path / "s.sqlite", said.append)
    assert store.put(CONTEXT, {design(0): value(0)})
    store._open().execute("PRAGMA max_page_count = 6")
    assert not store.put(CONTEXT, {design(n): value(n) for n in range(1, 2000)})
    assert "full" in said[0] and "not kept" in said[0]
    assert not store.put(CONTEXT, {design(n): value(n) for n in range(1, 3)})
    assert len(said) == 1
    assert store.look_up(CONTEXT, [design(n) for n in range(2000)]) == {
        design(0): value(0)
    }  # all of a batch or nothing
    assert Store(tmp_path / "s.sqlite").verify() == {"rows": 1, "right": 1, "damaged": 0, "file": []}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_file_that_may_not_grow_stops_no_simulation(tmp_path, bowl):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (48_000, 48_000))

    code = (
        "import sys; from archgym.store import Stored; from archgym.problem import make_problem; p = make_problem('synthetic');"
        "s, w = p.simulator, p.workload; x = p.space.sample(5000, 0); m = Stored(s, sys.argv[1]);"
        "from archgym.testing.checks import same_evaluation as same; assert same(m.evaluate(x, w), s.evaluate(x, w));"
        "assert same(m.evaluate(x, w), s.evaluate(x, w)); print('right')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s.sqlite")], preexec_fn=limit, capture_output=True, text=True
    )
    assert done.stdout == "right\n" and "cannot be written" in done.stderr, done.stderr
    assert Store(tmp_path / "s.sqlite").verify()["damaged"] == 0


def test_files_of_others_are_left_alone(tmp_path):
    said: list[str] = []
    text = tmp_path / "letter.txt"
    text.write_text("dear " * 2000)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE evaluations (a)")
    made.close()
    newer = tmp_path / "newer.sqlite"
    first = Store(newer)
    first.put(CONTEXT, {design(1): value(1)})
    first.close()
    with sqlite3.connect(newer) as made:
        made.execute("PRAGMA user_version = 2")
    made.close()
    for path in (text, other, newer, tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        store = Store(path, said.append)
        assert store.look_up(CONTEXT, [design(1)]) == {} and not store.put(CONTEXT, {design(1): value(1)})
        assert not path.is_file() or path.read_bytes() == before
    assert len(said) == 4 and all("simulated" in sentence for sentence in said)
    assert len({path.name for path in tmp_path.iterdir()}) == 3


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anything")
def test_a_place_without_permission_stops_no_simulation(tmp_path, bowl):
    tmp_path.chmod(0o500)
    said: list[str] = []
    assert not Store(tmp_path / "deep" / "s.sqlite", said.append).put(CONTEXT, {design(1): value(1)})
    assert len(said) == 1
    tmp_path.chmod(0o700)


def test_threads_and_forks_share_a_file(tmp_path):
    store = Store(tmp_path / "s.sqlite")

    def write(first):
        for n in range(first, first + 50):
            assert store.put(CONTEXT, {design(n): value(n)})

    threads = [threading.Thread(target=write, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=write, args=(1000,))
    child.start()
    child.join()
    assert child.exitcode == 0
    asked = [n for i in range(4) for n in range(100 * i, 100 * i + 50)] + list(range(1000, 1050))
    assert store.look_up(CONTEXT, map(design, asked)) == {design(n): value(n) for n in asked}


def test_processes_that_begin_at_once_make_one_file(tmp_path):
    fork = multiprocessing.get_context("fork")

    def begin(i):
        sys.exit(0 if Store(tmp_path / "s.sqlite").put(CONTEXT, {design(i): value(i)}) else 1)

    children = [fork.Process(target=begin, args=(i,)) for i in range(12)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 12
    assert Store(tmp_path / "s.sqlite").verify()["right"] == 12


# --- nobody starts a program for a design that another one is simulating ---------------------------------------------------


class Slow(ProcessSimulator):
    """Half a second a design; notes what it begins."""

    name, version = "slow", "1"
    parameters = (Parameter("a", tuple(range(50))), Parameter("b", (0, 1)))
    metrics = (Metric("time_ns", "ns", "min"),)
    command = ("sh", "-c", "echo $a-$b >> $log; sleep 0.5; echo time_ns: 1$a")
    inactive = (Inactive("b", lambda v: v["a"] > 1, "small only", over="values"),)

    def __init__(self, log, **options):
        self.log = log
        super().__init__(**options)

    def workloads(self):
        return {"any": ProcessWorkload("any", {"log": self.log})}


def simulate_slowly(folder, designs, answers=None, threads=1, workers=1):
    simulator = Stored(Slow(str(folder / "log"), workers=workers), str(folder / "s.sqlite"))
    workload = simulator.workloads()["any"]

    def ask():
        with tally() as found:
            made = simulator.evaluate(designs, workload)
        (answers.put if answers else list)((found.answered, made.metrics["time_ns"].tolist()))

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()


def begun(folder):
    return (folder / "log").read_text().split()


@pytest.mark.skipif(sys.platform == "win32", reason="claims need fcntl")
@pytest.mark.parametrize("threads", [1, 2])
def test_four_processes_start_a_program_once_a_design(tmp_path, threads):
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    designs = np.array([[a, b] for a in range(6) for b in (0, 1)])  # 8 different ones
    orders = [designs, designs[::-1], designs[2:], designs]
    children = [fork.Process(target=simulate_slowly, args=(tmp_path, order, answers, threads)) for order in orders]
    for child in children:
        child.start()
    got = [answers.get(timeout=240) for _ in range(4 * threads)]
    for child in children:
        child.join()
    wanted = {tuple(float(f"1{a}") for a in order[:, 0]) for order in orders}
    assert {tuple(times) for _, times in got} == wanted
    assert len(begun(tmp_path)) == len(set(begun(tmp_path))) == 8
    assert not list(tmp_path.glob("s.sqlite-journal"))


@pytest.mark.skipif(sys.platform == "win32", reason="claims need fcntl")
def test_a_killed_process_keeps_nobody_waiting(tmp_path):
    fork = multiprocessing.get_context("fork")
    designs = np.array([[3, 0], [4, 0]])
    killed = fork.Process(target=simulate_slowly, args=(tmp_path, designs))
    killed.start()
    while not (tmp_path / "log").exists():
        assert killed.is_alive()
        time.sleep(0.01)
    other = fork.Process(target=simulate_slowly, args=(tmp_path, designs))
    other.start()
    killed.kill()
    other.join(120)
    assert other.exitcode == 0
    assert {"3-0", "4-0"} == set(begun(tmp_path)) and 2 <= len(begun(tmp_path)) <= 4
    assert Store(tmp_path / "s.sqlite").verify()["right"] == 2


def test_all_workers_of_an_executor_have_work(tmp_path):
    simulator = Stored(
        Spread(Slow(str(tmp_path / "log"), workers=3), SimpleNamespace(workers=8)), str(tmp_path / "s.sqlite")
    )
    parts = simulator._claimed(CONTEXT, [design(n) for n in range(300)], list(range(300)))
    assert [len(mine) for mine, _ in parts] == [96, 192, 12]


def test_an_error_gives_claims_back(tmp_path, monkeypatch):
    simulator = Stored(Slow(str(tmp_path / "log")), str(tmp_path / "s.sqlite"))
    workload = simulator.workloads()["any"]
    with monkeypatch.context() as patch:
        patch.setattr(Slow, "evaluate_parts", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError) as kept:
            simulator.evaluate([[5, 0]], workload)
    assert simulator.evaluate([[5, 0]], workload).metrics["time_ns"] == [15.0] and kept


def test_where_results_are_not_kept_nobody_waits_for_them(tmp_path):
    (tmp_path / "s.sqlite").write_text("something else")
    simulate_slowly(tmp_path, np.array([[2, 0]]), threads=2)
    assert begun(tmp_path) == ["2-0", "2-0"]


# --- where it is used ----------------------------------------------------------------------------------------------------


def test_only_what_is_slow_has_a_store_unasked(monkeypatch, tmp_path):
    monkeypatch.delenv("ARCHGYM_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    class Starts(BowlSimulator):
        starts_programs = True

    assert default_path() == tmp_path / "archgym" / "store.sqlite"
    assert type(stored(BowlSimulator())) is BowlSimulator
    assert stored(Starts()).path == str(default_path())
    with using(tmp_path / "mine.sqlite"):
        assert stored(BowlSimulator()).path == str(tmp_path / "mine.sqlite")
        with using(None):
            assert type(stored(Starts())) is Starts
    monkeypatch.setenv("ARCHGYM_STORE", str(tmp_path))
    assert stored(BowlSimulator()).path == str(tmp_path / "store.sqlite")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("systolic/resnet18", {"fix": {"dataflow": "ws"}}),
        ("systolic/resnet18+alexnet", {}),
        ("synthetic", {}),
        ("nas/nb201-mnist1d", {"fidelity": "table:run=single"}),
    ],
)
def test_problems_are_the_same_with_a_store(name, options, tmp_path):
    plain = make_problem(name, **options)
    with using(tmp_path / "s.sqlite"):
        kept = make_problem(name, **options)
    designs = plain.space.sample(40, 0)
    for seed in (0, 1, 0):
        (one, rewards), (other, others) = plain.evaluate(designs, seed=seed), kept.evaluate(designs, seed=seed)
        assert bits(one) == bits(other) and rewards.tobytes() == others.tobytes()
    assert kept.optimum == plain.optimum and kept.options == plain.options and kept.references == plain.references
    assert Store(tmp_path / "s.sqlite").verify()["right"] > 0
    assert isinstance(kept, Problem) and kept.simulator.stands_for.name == plain.simulator.name


def test_a_repeated_run_says_what_came_from_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHGYM_STORE", "off")
    if "counting" not in SIMULATORS:
        SIMULATORS.register("counting", Counting)
    Counting.asked = 0
    command = ["run", "counting/deep", "--agent", "ga", "--budget", "60", "--seeds", "2", "--json"]
    kept = ["--store", str(tmp_path / "s.sqlite")]
    first = json.loads(CliRunner().invoke(main, [*command, "--out", str(tmp_path / "a"), *kept]).stdout)
    asked = Counting.asked
    again = json.loads(CliRunner().invoke(main, [*command, "--out", str(tmp_path / "b"), *kept]).stdout)
    plain = json.loads(CliRunner().invoke(main, [*command, "--out", str(tmp_path / "c")]).stdout)
    assert Counting.asked - asked == 64 + 2 * 60  # the plain run's own, with its references
    assert [run["from_store"] for run in again["runs"]] == [60, 60] and plain["runs"][0]["from_store"] == 0
    for name in ("reward", "design", "metrics", "evaluations", "trials"):
        assert [r[name] for r in first["runs"]] == [r[name] for r in again["runs"]] == [r[name] for r in plain["runs"]]
    assert os.environ["ARCHGYM_STORE"] == "off"
    shown = CliRunner().invoke(main, [*command[:-1], "--out", str(tmp_path / "d"), *kept])
    assert "120 of them answered by the store" in " ".join(shown.stdout.split())


def test_people_look_at_a_store_check_and_prune_it(tmp_path):
    path = tmp_path / "s.sqlite"
    with using(path):
        for name in ("systolic/resnet18", "systolic/alexnet"):
            problem = make_problem(name)
            problem.evaluate(problem.space.sample(30, 0))

    def call(*words):
        done = CliRunner().invoke(main, ["store", *words])
        return done.exit_code, done.stdout

    code, text = call("info", str(path), "--json")
    found = json.loads(text)
    assert code == 0 and found["rows"] == 60 and found["bytes"] > 0
    assert [group["label"] for group in found["groups"]] == ["systolic/resnet18", "systolic/alexnet"]
    assert "systolic/alexnet" in call("info", str(path))[1]
    assert call("verify", str(path))[0] == 0
    for command in ("info", "verify"):
        assert call(command, "--store", str(path), "--json") == call(command, str(path), "--json")
        assert call(command, str(path), "--store", str(path))[0] == call(command, "--store", "off")[0] == 2
    assert call("prune", str(path))[0] == 2 and call("info", str(tmp_path / "none.sqlite"))[0] == 2
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE evaluations SET feasible = 1 - feasible WHERE context = 1")
    raw.close()
    assert call("verify", str(path))[0] == 1
    assert json.loads(call("prune", str(path), "--damaged", "--json")[1])["removed"] == 30
    assert call("verify", str(path))[0] == 0
    assert json.loads(call("prune", str(path), "--simulator", "dram", "--json")[1])["removed"] == 0
    assert json.loads(call("prune", str(path), "--older-than", "1", "--json")[1])["removed"] == 0
    assert json.loads(call("prune", str(path), "--simulator", "systolic", "--json")[1])["removed"] == 30
    assert json.loads(call("info", str(path), "--json")[1])["rows"] == 0
