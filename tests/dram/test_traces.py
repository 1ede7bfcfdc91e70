"""Traces: readers, writers, generators, the shipped recordings, and the sentences about bad files."""

from __future__ import annotations

import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.errors import ArchGymError
from archgym.problem import make_problem, workload_option_table
from archgym.simulators.dram import DramSimulator
from archgym.simulators.dram.addressmap import named_map
from archgym.simulators.dram.devices import device
from archgym.simulators.dram.trace import Trace
from archgym.simulators.dram.traces import (
    FORMATS,
    GENERATORS,
    all_traces,
    named_trace,
    read_trace,
    shipped_traces,
    synthetic_traces,
    write_trace,
)
from archgym.simulators.dram.traces.formats.neutral import HEADER

REF = Path(os.environ.get("ARCHGYM_REF", Path(__file__).parents[2].parent / "shared" / "ref")) / "dram"


def columns(trace: Trace) -> tuple[list[int], list[int], list[bool]]:
    return trace.time.tolist(), trace.address.tolist(), trace.is_write.tolist()


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- the workload ----------------------------------------------------------------------------------------------------


def test_a_trace_checks_what_it_is_given() -> None:
    good = ([0, 1], [0, 64], [False, True])
    assert columns(Trace("t", "", *good)) == good
    for time, address, write, word in (
        ([], [], [], "empty"),
        ([0], [0, 64], [False], "shapes"),
        ([1, 0], [0, 0], [False, False], "backwards"),
        ([-1, 0], [0, 0], [False, False], "negative time -1"),
        ([0, 0], [0, -64], [False, False], "negative address -64"),
        ([0.5, 1], [0, 0], [False, False], "whole"),
        ([0, 2**60], [0, 0], [False, False], "time"),
        ([0, np.nan], [0, 0], [False, False], "whole"),
    ):
        with pytest.raises(ArchGymError, match=word):
            Trace("t", "", time, address, write)
    with pytest.raises(ArchGymError, match="clock"):
        Trace("t", "", *good, clock_mhz=0)


def test_times_are_converted_by_the_ratio_of_the_clocks_and_rounded_up() -> None:
    trace = Trace("t", "", [0, 1, 2, 3, 800], [0] * 5, [False] * 5, clock_mhz=800)
    assert trace.arrival(1200).tolist() == [0, 2, 3, 5, 1200]
    assert trace.arrival(800) is trace.time
    assert trace.arrival(400).tolist() == [0, 1, 1, 2, 400]
    assert Trace("t", "", [0, 7], [0, 0], [False] * 2).arrival(1200).tolist() == [0, 7]


def test_a_window_is_the_first_requests_or_starts_at_zero() -> None:
    trace = Trace("t", "", [5, 6, 9, 12], [0, 64, 128, 192], [True, False, True, False])
    assert columns(trace.window(2)) == ([5, 6], [0, 64], [True, False])
    assert columns(trace.window(2, start=1)) == ([0, 3], [64, 128], [False, True])
    assert trace.window(4) is trace
    assert trace.window(2).fingerprint != trace.fingerprint
    for requests, start in ((0, 0), (-1, 0), (1, 4), (1, -1)):
        with pytest.raises(ArchGymError):
            trace.window(requests, start)


def test_the_fingerprint_is_of_the_content() -> None:
    def make(time: int = 1, address: int = 64, write: bool = True, clock: float | None = None) -> str:
        return Trace("t", "", [0, time], [0, address], [False, write], clock).fingerprint

    assert len({make(), make(2), make(1, 128), make(1, 64, False), make(clock=800)}) == 5
    assert make() == Trace("other", "words", np.array([0, 1]), np.array([0, 64]), np.array([0, 1])).fingerprint


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**62), st.booleans()), min_size=1, max_size=40))
def test_features_are_finite_and_of_order_one(requests: list[tuple[int, int, bool]]) -> None:
    time, address, write = zip(*sorted(requests), strict=True)
    features = Trace("t", "", time, address, write).features()
    assert all(np.isfinite(value) and -1 <= value <= 2 for value in features.values()), features


def test_late_hits_and_misses_are_of_the_bank_and_after_its_request_before() -> None:
    row, bank = 1 << 17, 1 << 13
    # A first request, the same row soon and late, another bank, then another row late and soon.
    address, time = [0, 64, 128, bank, row, 0], [0, 31, 63, 64, 95, 96]
    features = Trace("t", "", time, address, [False] * 6).features()
    assert (features["late_hit_share"], features["late_miss_share"]) == (1 / 6, 1 / 6)


# --- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**50), st.integers(0, 2**63 - 1), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([".csv", ".csv.gz", ".stl", ".stl.gz"]),
    st.sampled_from([None, 800.0, 1200.0, 3200.0, 933.3]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int, bool]], ending: str, clock: float | None
) -> None:
    time, address, write = zip(*sorted(requests), strict=True)
    path = tmp_path_factory.mktemp("trace") / f"a{ending}"
    write_trace(Trace("t", "", time, address, write, clock), path)
    again = read_trace(path)
    assert columns(again) == (list(time), list(address), list(write))
    assert again.clock_mhz == clock or (clock is None and again.clock_mhz == (800 if ".stl" in ending else 1200))


def test_writers_convert_or_refuse(tmp_path: Path) -> None:
    trace = Trace("t", "", [0, 3], [0, 64], [False, True], clock_mhz=1600)
    stated = read_trace(write_trace(trace, tmp_path / "a.csv"))
    assert stated.clock_mhz == 1600 and stated.time.tolist() == [0, 3]
    assert read_trace(write_trace(trace, tmp_path / "a.csv", 800)).time.tolist() == [0, 2]
    with pytest.raises(ArchGymError, match="must end in"):
        write_trace(trace, tmp_path / "a.txt")
    with pytest.raises(ArchGymError, match="cannot write"):
        write_trace(trace, tmp_path / "none" / "a.stl")


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "time", "address", "write"),
    [
        ("a.csv", f"{HEADER}\n1,64,R\n2,0x80,W\n", [1, 2], [64, 128], [False, True]),
        ("a.csv", f"\ufeff{HEADER}\r\n 1 , 64 , R\r\n\r\n2,0X80,W", [1, 2], [64, 128], [False, True]),
        ("a.stl", "# c\n31:\tread\t0x40\n\n32: (64) write 0x80 00ff # d\n", [31, 32], [64, 128], [False, True]),
        ("a.stl", "31: read 40\n31: write 0X80 aa\n", [31, 31], [64, 128], [False, True]),
        ("a.rstl", "3: read 0x40\n2: write 0x80\n", [3, 5], [64, 128], [False, True]),
        ("a.trc", "0x40 READ 1\n80 P_MEM_WR 2\n", [1, 2], [64, 128], [False, True]),
        ("a.trace", "0x40 write 1\n0x80 P_FETCH 2\n", [1, 2], [64, 128], [True, False]),
        ("a.trace", "LD 0x40\nST 128\n", [0, 0], [64, 128], [False, True]),
        ("a.txt", f"{HEADER}\n1,64,W\n1,128,R\n", [1, 1], [64, 128], [True, False]),
        ("a.txt", "7: write 0x40\n8: read 0x80\n", [7, 8], [64, 128], [True, False]),
    ],
)
def test_every_format_is_read_plain_and_gzipped(
    tmp_path: Path, name: str, text: str, time: list[int], address: list[int], write: list[bool]
) -> None:
    assert columns(read_trace(written(tmp_path, name, text))) == (time, address, write)
    zipped = written(tmp_path, name + ".gz", gzip.compress(text.encode()))
    assert columns(read_trace(zipped)) == (time, address, write)


def test_ramulator_without_times_says_so(tmp_path: Path) -> None:
    assert "no times" in read_trace(written(tmp_path, "a.trace", "LD 1\n")).description


def test_address_vectors_need_a_device_and_decode_back(tmp_path: Path) -> None:
    path = written(tmp_path, "a.trace", "R 0,0,1,2,305,8\nW 0,0,3,3,32767,1016\n")
    with pytest.raises(ArchGymError, match="device"):
        read_trace(path)
    chip = device("DDR4-2400")
    for name in ("rbc", "brc", "li", "li-xor"):
        trace = read_trace(path, device="DDR4-2400", map=name)
        fields = named_map(name, chip).decode(trace.address)
        assert fields["bank_group"].tolist() == [1, 3] and fields["bank"].tolist() == [2, 3]
        assert fields["row"].tolist() == [305, 32767] and fields["column"].tolist() == [8, 1016]
        assert trace.is_write.tolist() == [False, True]
    with pytest.raises(ArchGymError, match="bank below 8"):
        read_trace(written(tmp_path, "b.trace", "R 0,0,8,1,0\n"), device="DDR3-1600")
    with pytest.raises(ArchGymError, match="5 levels"):
        read_trace(path, device="DDR3-1600")


def test_stl_clock_is_an_argument(tmp_path: Path) -> None:
    path = written(tmp_path, "a.stl", "3: read 0x40\n")
    assert read_trace(path, clock_mhz=400).arrival(800).tolist() == [6]


# --- bad files: one sentence with file, line, what was found and what was expected ------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", ["empty"]),
        ("a.csv", "\n \n", ["empty"]),
        ("a.csv", f"{HEADER}\n", ["no request"]),
        ("a.csv", "1,2,R\n", ["line 1", "'1,2,R'", HEADER]),
        ("a.csv", f"{HEADER}\n1,2,R\n2,3\n", ["line 3", "'2,3'", "expected"]),
        ("a.csv", f"{HEADER}\n1,2,R,4\n", ["line 2", "expected"]),
        ("a.csv", f"{HEADER}\n,1,2,R\n", ["line 2"]),
        ("a.csv", f"{HEADER}\n1 2 R\n", ["line 2"]),
        ("a.csv", f"{HEADER}\n1,,R\n", ["line 2", "number", "address"]),
        ("a.csv", f"{HEADER}\n1,2,R\nx,2,R\n2,2\n", ["line 3", "'x,2,R'", "number", "arrival"]),
        ("a.csv", f"{HEADER}\n1.5,2,R\n", ["line 2", "number"]),
        ("a.csv", f"{HEADER}\n1,2,X\n", ["line 2", "R or W"]),
        ("a.csv", f"{HEADER}\n-1,2,R\n", ["line 2", ">= 0"]),
        ("a.csv", f"{HEADER}\n1,-2,R\n", ["line 2", ">= 0", "address"]),
        ("a.csv", f"{HEADER}\n1,9223372036854775808,R\n", ["line 2", "2**63"]),
        ("a.csv", f"{HEADER}\n1,{'9' * 60},R\n", ["line 2", "2**63"]),
        ("a.csv", f"{HEADER}\n\n5,0,R\n6,0,R\n4,0,W\n3,0,W\n", ["line 5", "'4,0,W'", "at least 6"]),
        ("a.csv", f"{HEADER}\n# note\n", ["no request"]),
        ("a.stl", "31 read 0x40\n", ["line 1", "'31 read 0x40'", "31: read"]),
        ("a.stl", "1: read 0x40\n2: load 0x40\n", ["line 2", "read or write"]),
        ("a.stl", "1: read\n", ["line 1"]),
        ("a.stl", "1: (64) read\n", ["line 1"]),
        ("a.stl", "1: (x) read 0x40\n", ["line 1", "byte count"]),
        ("a.stl", "1: (128) read 0x40\n", ["line 1", "byte count"]),
        ("a.stl", "1: read 0x40 aa bb\n", ["line 1"]),
        ("a.stl", "1: read 0xzz\n", ["line 1", "number", "address"]),
        ("a.stl", "1: write 0x40 xyz\n", ["line 1", "two hexadecimal digits"]),
        ("a.stl", "1: write 0x40 abc\n", ["line 1", "whole bytes"]),
        ("a.stl", "1: (64) write 0x40 0x\n", ["line 1", "whole bytes"]),
        ("a.rstl", "1: read 0x40 00\n1: write 0x1\t2d4\n", ["line 2", "whole bytes"]),
        ("a.nvt", "0 W 0x40 00 0\n7 R 0x80 abcz 1\n", ["line 2", "hexadecimal data"]),
        ("a.nvt", "0 W 0x40 00 0\n7 R 0x80 ab 0x 1\n", ["line 2", "hexadecimal data"]),
        ("a.nvt", "0 W 0x40 00 0\n7 R 0x80 ab cd one\n", ["line 2", "thread"]),
        ("a.txt", "20 R 0x40 main\n", ["line 1", "program counter"]),
        ("a.txt", "0x400: R 0x40\n0x40z: W 0x80\n", ["line 2", "program counter"]),
        ("a.txt", "r,64,64,0,500\nw,128,64,none,700\n", ["line 2", "flags"]),
        (
            "a.txt",
            "5: mem: recvTimingReq: request ReadReq addr 0x40 size 64\n6: mem: recvTimingReq: request ReadReq size 0x40 addr 4\n",
            ["line 2", "a request to the memory"],
        ),
        ("a.txt", "r,64,64,0,500\nw,128,0,0,700\n", ["line 2", "size of 1 to 64"]),
        ("a.txt", "I  100,4\n L 40,0\n", ["line 2", "size of 1 to 4096"]),
        ("a.csv", f"# clock_mhz=fast\n{HEADER}\n1,2,R\n", ["clock_mhz is 'fast'", "MHz"]),
        ("a.csv", f"# clock_mhz: -800\n{HEADER}\n1,2,R\n", ["clock_mhz is '-800'"]),
        ("a.txt", "# clock_mhz=800\nr,64,64,0,500\n", ["clock_mhz = 800", "gem5-packets"]),
        ("a.stl", "# only a comment\n", ["no request"]),
        ("a.rstl", "2: read 0x40\nx: read 0x40\n", ["line 2", "number"]),
        ("a.trc", "0x40 FOO 1\n", ["line 1", "P_MEM_WR"]),
        ("a.trc", "0x40 READ\n", ["line 1"]),
        ("a.trc", "0x40 READ 2\n0x40 READ 1\n", ["line 2", "at least 2"]),
        ("a.trace", "LD 0x40\nXX 64\n", ["line 2", "LD or ST"]),
        ("a.trace", "LD\n", ["no known trace format"]),
        ("a.bin", b"\x00\xff\x01" * 50, ["no known trace format"]),
        ("a.csv.gz", gzip.compress(f"{HEADER}\n1,2,R\n".encode(), mtime=0)[:-6], ["truncated"]),
        ("a.csv.gz", f"{HEADER}\n1,2,R\n", ["is not packed so"]),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path: Path, name: str, text: str | bytes, words: list[str]) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(ArchGymError) as error:
        read_trace(path)
    sentence = str(error.value)
    assert "\n" not in sentence and str(path) in sentence, sentence
    assert all(word in sentence for word in words), sentence


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArchGymError, match="there is no trace file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ArchGymError, match="cannot read"):
        read_trace(tmp_path)
    with pytest.raises(ArchGymError, match="did you mean 'stl'"):
        read_trace(tmp_path, "slt")


def test_times_that_run_backwards_can_be_held(tmp_path: Path) -> None:
    path = written(tmp_path, "a.stl", "5: read 0x0\n3: read 0x40\n7: read 0x80\n")
    assert read_trace(path, backwards="hold").time.tolist() == [5, 5, 7]
    with pytest.warns(UserWarning, match="1 times run backwards"):  # DRAMSys' own example does
        trace = read_trace(path)
    assert trace.time.tolist() == [5, 5, 7] and "1 times ran backwards" in trace.description
    with pytest.raises(ArchGymError, match="hold"):
        read_trace(path, backwards="error")
    with pytest.raises(ArchGymError, match="at least 5"):
        read_trace(written(tmp_path, "a.trc", "0x0 READ 5\n0x40 READ 3\n"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.stl", "a.rstl", "a.trc", "a.trace", "a.csv.gz"]))
def test_any_bytes_are_a_trace_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(content)
    sentence, length = "", 0
    try:
        length = len(read_trace(path))
    except ArchGymError as error:
        sentence = str(error)
    assert length > 0 or (sentence and "\n" not in sentence)


# --- the formats of other tools ----------------------------------------------------------------------------------------

CASES = REF.parents[1] / "cases" / "traces"
OTHERS = {
    "usimm": ("20 R 0x40 0x403d50\n6 W 0x80\n", [11, 14], [64, 128], [False, True]),
    "ramulator-dram": ("0x40 R\n0x80 W\n", [0, 0], [64, 128], [False, True]),
    "ramulator-cpu": ("3 64\n5 128 192\n0 0x100\n", [2, 5, 5, 6], [64, 128, 192, 256], [False, False, True, False]),
    "nvmain": ("NVMV1\n0 W 0x40 00 0\n7 R 0x80 ab cd 1\n", [0, 7], [64, 128], [True, False]),
    "gem5": (
        "500: system.mem_ctrls: recvTimingReq: request ReadReq addr 0x40 size 64\n"
        "700: system.mem_ctrls: Write of size 8 on address 0x80 data 0x1\n",
        [500, 700], [64, 128], [False, True],
    ),
    "gem5-packets": ("r,64,64,0,500\nw,128,64,0,700,3\n", [500, 700], [64, 128], [False, True]),
    # Behind no cache: instructions 1 and 3 at two a cycle.
    "lackey": ("==12== Lackey\nI  100,4\n L 40,8\nI  104,4\nI  108,4\n S 80,4\n M c0,4\n",
               [1, 1, 1, 2, 2, 2], [256, 64, 260, 264, 128, 192], [False, False, False, False, True, True]),
    "pinatrace": ("0x400: R 0x40\n0x404: W 0x80\n#eof\n", [1, 1], [64, 128], [False, True]),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_formats_of_other_tools_are_told_by_their_first_line(tmp_path: Path, kind: str) -> None:
    text, time, address, write = OTHERS[kind]
    path = written(tmp_path, "trace.txt", text)
    options = {"cache_kib": 0} if FORMATS[kind].cache_kib else {}
    trace = read_trace(path, **options)
    assert columns(trace) == (time, address, write) and trace.description.startswith(f"{kind} trace")
    packed = written(tmp_path, "trace.xz", lzma.compress(text.encode()))
    assert columns(read_trace(packed, kind, **options)) == (time, address, write)
    assert (trace.clock_mhz is None) == (FORMATS[kind].clock_mhz is None)


def test_champsim_records_are_instructions(tmp_path: Path) -> None:
    record = np.zeros(3, np.dtype([("ip", "<u8"), ("other", "u1", 8), ("stores", "<u8", 2), ("loads", "<u8", 4)]))
    record["ip"] = 0x1000, 0x1004, 0x1008
    record["loads"][1, :2], record["stores"][2, 0] = (0x2000, 0x3000), 0x4000
    path = written(tmp_path, "a.champsimtrace.xz", lzma.compress(record.tobytes()))
    trace = read_trace(path, cache_kib=0)
    assert trace.address.tolist() == [0x1000, 0x1004, 0x2000, 0x3000, 0x1008, 0x4000]
    assert trace.is_write.tolist() == [False] * 5 + [True] and trace.time.tolist() == [1, 1, 1, 1, 2, 2]
    assert read_trace(path).address.tolist() == [0x1000, 0x2000, 0x3000, 0x4000]  # the cache holds the program's line
    with pytest.raises(ArchGymError, match="records of 64 bytes"):
        read_trace(written(tmp_path, "b.champsimtrace", record.tobytes()[:-1]))


def test_accesses_of_a_program_go_through_a_cache(tmp_path: Path) -> None:
    """A program that reads 4 KiB twice: each line is requested once, in order; a small cache asks again."""
    lines = "".join(f"I  1000,4\n L {0x10000 + 64 * i:x},8\n" for _ in range(2) for i in range(64))
    path = written(tmp_path, "a.log", lines)
    trace = read_trace(path)
    assert len(trace) == 65 and "behind a cache of 1024 KiB" in trace.description
    assert trace.address[1:].tolist() == [0x10000 + 64 * i for i in range(64)]
    small = read_trace(path, cache_kib=1, cache_ways=1)
    assert len(small) > 100
    slow = read_trace(path, ipc=0.5)
    assert slow.time[-1] == 4 * trace.time[-1]
    with pytest.raises(ArchGymError, match="power of two"):
        read_trace(path, cache_kib=3, cache_ways=16)


def test_a_clock_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    for kind in ("gem5", "ramulator-dram"):
        path = written(tmp_path, "a.txt", OTHERS[kind][0])
        with pytest.raises(ArchGymError, match="clock_mhz means nothing"):
            read_trace(path, clock_mhz=800)
    path = written(tmp_path, "a.trc", "0x40 READ 8\n")
    assert read_trace(path, clock_mhz=800).arrival(1600).tolist() == [16]
    assert read_trace(path).arrival(2400).tolist() == [16]
    for name, value in (("ipc", 2), ("cache_kib", 64)):
        with pytest.raises(ArchGymError, match="counts no instructions"):
            read_trace(path, **{name: value})
    for bad in (0, -1, float("nan"), "fast", True):
        with pytest.raises(ArchGymError, match="clock_mhz"):
            read_trace(path, clock_mhz=bad)


EVERY = ("ipc", "cache_kib", "cache_ways", "device", "map", "ranks", "channels", "backwards", "clock_mhz")


@pytest.mark.parametrize("kind", FORMATS)
def test_what_means_nothing_for_a_format_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    about = FORMATS[kind]
    text = OTHERS[kind][0] if kind in OTHERS else f"{HEADER}\n1,2,R\n" if kind == "neutral" else about.example
    path = written(tmp_path, "trace.txt", bytes(640) if about.binary else text)
    usual = {
        "cache_kib": 64,
        "cache_ways": 4,
        "device": "DDR4-2400",
        "map": "brc",
        "backwards": "hold",
        "clock_mhz": 100,
    }
    for name in EVERY:
        if name not in about.takes:
            with pytest.raises(ArchGymError, match=f"{name} means nothing .*it takes {', '.join(about.takes)}"):
                read_trace(path, kind, **{name: usual.get(name, 1)})
    options = (
        {"device": "DDR4-2400"} if "device" in about.takes else {"cache_kib": 0} if "cache_kib" in about.takes else {}
    )
    problem = (
        make_problem(f"dram/file:{path}", workload_options={"format": kind, **options}) if not about.binary else None
    )
    assert problem is None or set(workload_option_table(problem)) == set(about.takes)


def test_options_of_traces_that_are_no_files_are_refused_by_name() -> None:
    simulator = DramSimulator()
    for name, options, words in (
        ("gzip", {"ranks": 2}, "unknown option of the trace 'gzip' 'ranks'.*known: requests"),
        ("random", {"cache_ways": 2}, "'cache_ways'.*known: clock_mhz, requests"),
        ("random:gap=2,gap=3", {}, "gap twice"),
        ("random:requests=100", {"requests": 200}, "has 100; generate more"),
        ("stream:seed=-1", {}, "seed=-1.; expected a number from 0"),
        ("stream:start=-64", {}, "start=-64.; expected a number from 0"),
        ("stream:start=99999999999999999999", {}, "start"),
        ("cloud:run=inf", {}, "runs of inf"),
    ):
        with pytest.raises(ArchGymError, match=words):
            simulator.load_workload(name, **options)
    assert set(workload_option_table(make_problem("dram/gzip"))) == {"requests"}
    assert len(simulator.load_workload("random:requests=100", requests=50)) == 50


def test_a_cache_of_ways_alone_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", OTHERS["usimm"][0])
    with pytest.raises(ArchGymError, match="without a cache"):
        read_trace(path, cache_ways=4)
    assert "4 ways" in read_trace(path, cache_kib=16, cache_ways=4).description
    with pytest.raises(ArchGymError, match="cache_ways is 0"):
        read_trace(path, cache_kib=16, cache_ways=0)


def test_a_clock_is_stated_behind_a_long_header(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "# made by a tool\n" * 500 + f"# clock_mhz = 1600\n{HEADER}\n1,2,R\n")
    assert read_trace(path).clock_mhz == 1600 and read_trace(path, clock_mhz=400).clock_mhz == 400


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """A window of a large file reads its beginning: a fault behind it is not seen, one in it is."""
    rows = [f"{i},{64 * i},R\n" for i in range(200_000)]
    rows[150_000] = "broken\n"
    path = written(tmp_path, "a.csv", f"{HEADER}\n" + "".join(rows))
    trace = read_trace(path, requests=1000)
    assert len(trace) == 1000 and trace.time[-1] == 999 and "the first 1,000 requests" in trace.description
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert columns(read_trace(packed, requests=1000)) == columns(trace)
    with pytest.raises(ArchGymError, match="line 150002"):
        read_trace(path)
    commented = written(
        tmp_path, "c.stl", "# long comment\n" * 20_000 + "".join(f"{i}: read 0x40\n" for i in range(20))
    )
    assert len(read_trace(commented, requests=3)) == 3
    assert len(read_trace(commented, requests=50)) == 20


def test_time_before_the_first_request_belongs_to_none(tmp_path: Path) -> None:
    path = written(tmp_path, "a.stl", "1000000000000000: read 0x40\n1000000000000007: read 0x80\n")
    simulator = DramSimulator()
    trace = simulator.load_workload(f"file:{path}")
    assert trace.time.tolist() == [0, 7] and "moved so that the first request" in trace.description
    assert simulator.evaluate(simulator.space(trace).sample(3, 0), trace).metrics["total_time_ns"].max() < 200
    assert read_trace(path).time[0] == 10**15
    assert simulator.load_workload(f"file:{path}", start="keep", requests=1).time.tolist() == [10**15]


@pytest.mark.skipif(not CASES.is_dir(), reason="no sample traces")
def test_public_samples_are_read() -> None:
    for path in sorted(CASES.iterdir()):
        trace = read_trace(path, **({"device": "DDR4-2400"} if "vec" in path.name else {}), start="zero")
        assert len(trace) == 50 and trace.time[0] == 0, path


def test_an_account_of_a_trace() -> None:
    account = named_trace("stream:requests=2000,gap=6").account()
    assert not any("e+" in value for value in named_trace("stream:requests=2000,gap=600").account().values())
    assert account["requests"] == "2,000" and account["reads"] == "100.0%"
    assert account["row hits in order (open pages, DDR4-2400, map rbc)"].startswith("99")
    assert float(account["refresh intervals of 7.8 us in it"]) == pytest.approx(2000 * 6 / 9360, rel=0.1)
    assert "none" in Trace("t", "", [0, 0], [0, 64], [False, True]).account()["times"]


@pytest.mark.skipif(not REF.exists(), reason="no reference data")
@pytest.mark.parametrize(
    "path", sorted([*REF.glob("stl/*.gz"), *REF.glob("traces/*.csv.gz")])[::3], ids=lambda p: p.name
)
def test_reference_traces_read_as_python_reads_them(path: Path) -> None:
    trace = read_trace(path, backwards="hold")
    with gzip.open(path, "rt") as text:
        lines = [line.strip() for line in text if line.strip() and not line.startswith("#")]
    if path.name.endswith(".csv.gz"):
        rows = [line.split(",") for line in lines[1:]]
        expected = ([int(r[0]) for r in rows], [int(r[1], 0) for r in rows], [r[2] == "W" for r in rows])
    else:
        rows = [line.split() for line in lines]
        times = np.maximum.accumulate([int(r[0].rstrip(":")) for r in rows]).tolist()
        expected = (times, [int(r[2], 16) for r in rows], [r[1] == "write" for r in rows])
    assert columns(trace) == expected


# --- generators and recordings ---------------------------------------------------------------------------------------


def test_generators_are_seeded_and_keep_their_word() -> None:
    for name in GENERATORS:
        once, again = named_trace(f"{name}:requests=3000"), named_trace(f"{name}:requests=3000")
        assert once.fingerprint == again.fingerprint and len(once) == 3000
        assert once.fingerprint != named_trace(f"{name}:requests=3000,seed=1").fingerprint
        assert (once.address % 64 == 0).all() and once.address.max() < 2**30
    trace = named_trace("random:requests=20000,gap=8,write_share=0.25")
    assert abs(np.diff(trace.time).mean() - 8) < 0.3 and abs(trace.is_write.mean() - 0.25) < 0.02
    assert np.diff(trace.time).min() >= 1
    fixed = named_trace("stream:gap=1,arrivals=fixed,requests=100")
    assert fixed.time.tolist() == list(range(100)) and fixed.address.tolist() == list(range(0, 6400, 64))
    conflict = named_trace("rowconflict:requests=100")
    assert (conflict.address % (1 << 20) == 0).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("randum", "did you mean 'random'"),
        ("random:gap", "like gap="),
        ("random:gap=x", "like gap="),
        ("random:gap=0.5", "gap"),
        ("random:gap=nan", "gap"),
        ("random:requests=0", "at least 1"),
        ("random:write_share=2", "write share"),
        ("random:arrivals=poisson", "arrivals"),
        ("random:foo=1", "foo"),
        ("stream:span=0", "span"),
        ("mixed:streams=0", "streams"),
        ("cloud:pages=0", "pages"),
    ],
)
def test_a_bad_generator_name_gets_one_sentence(name: str, words: str) -> None:
    with pytest.raises(ArchGymError, match=words):
        named_trace(name)


def test_all_names_load_lazily() -> None:
    names = list(all_traces())
    assert names == [*shipped_traces(), *synthetic_traces()] and len(set(names)) == len(names)
    assert all_traces()["random-saturating"].time[:3].tolist() == [0, 1, 2]
    assert "none" not in all_traces() and "none:gap=2" not in all_traces()
    assert "random:gap=2" in all_traces() and len(all_traces()["random:requests=7"]) == 7


def test_the_shipped_recordings_are_what_they_claim() -> None:
    traces = shipped_traces()
    assert len(traces) >= 6 and {"gzip", "sqlite", "matmul", "graph", "sort", "nn-inference"} <= set(traces)
    for name, trace in traces.items():
        assert 20_000 <= len(trace) <= 100_000, name
        assert trace.name == name and name not in ("",) and trace.clock_mhz
        assert 0.01 < trace.is_write.mean() < 0.6, name
        assert trace.address.max() < 2**30 and (trace.address % 64 == 0).all(), name
        gap_ns = np.diff(trace.time).mean() * 1000 / trace.clock_mhz
        assert 5 < gap_ns < 20, (name, gap_ns)  # neither saturated on average nor idle
    folder = Path(__file__).parents[2] / "archgym/simulators/dram/data/traces"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


def test_an_ending_that_several_tools_use_gives_way_to_a_plain_first_line(tmp_path) -> None:
    """USIMM's files are called .trc as DRAMSim3's are; comments before the first request may be of any length."""
    comments = "".join(f"# {i} {'x' * 60}\n" for i in range(3000))
    usimm = "4 R 0x10c40e80 0x40234a\n12 W 0x10c40f00\n"
    dramsim3 = "0x1C4A3F40 READ 120\n0x1C4A3F80 WRITE 130\n"
    for text, kind in (
        (usimm, "usimm"),
        (comments + usimm, "usimm"),
        (dramsim3, "dramsim3"),
        (comments + dramsim3, "dramsim3"),
    ):
        path = tmp_path / "mine.trc"
        path.write_text(text)
        for requests in (None, 1):
            assert read_trace(path, requests=requests).description.startswith(f"{kind} trace")
    path.write_text("something else\n")
    with pytest.raises(ArchGymError, match=r"line 1.*0xADDRESS"):
        read_trace(path)


@pytest.mark.parametrize("times", [[0, 5, 9, 1000], [0, 0, 0, 0], [7, 7, 7, 7], [0]])
def test_the_overview_of_a_trace(times: list[int]) -> None:
    pytest.importorskip("matplotlib")
    from xml.etree import ElementTree

    from archgym.simulators.dram.overview import draw

    n = len(times)
    trace = Trace("t", "", np.array(times), np.array([0, 64, 1 << 30, 128][:n]), np.array([0, 1, 0, 0][:n], bool))
    text, sentence = draw(trace)
    assert ElementTree.fromstring(text).tag.endswith("svg") and draw(trace) == (text, sentence)
    assert sentence.startswith(f"{n:,} requests over their {'time' if times[-1] > times[0] else 'order'}")
    assert ("Gbit/s" in text) == (times[-1] > times[0])


@given(st.lists(st.integers(0, 1 << 34), min_size=1, max_size=60))
def test_row_hits_are_those_of_a_bank_by_bank_walk(addresses: list[int]) -> None:
    n = len(addresses)
    trace = Trace("t", "", np.zeros(n, np.int64), np.array(addresses), np.zeros(n, bool))
    open_rows: dict[int, int] = {}
    wanted = []
    for address in addresses:
        bank, row = address >> 13 & 15, address >> 17
        wanted.append(open_rows.get(bank) == row)
        open_rows[bank] = row
    assert trace.row_hits.tolist() == wanted
