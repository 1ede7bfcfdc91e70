"""Record the memory traces that come with archgym: real programs under valgrind's lackey, behind a last-level cache.

    python tools/traces/record.py [NAME ...] [--raw DIR] [--out DIR]

Needs valgrind, gcc (with a static C library), gzip, sqlite3 and python3, and some minutes a program. Steps, each stated
in ``programs.json`` and in the index beside the traces:

1. The program's input is made by a seeded generator; C programs of ``programs/`` are compiled statically with -O2.
2. ``valgrind --tool=lackey --trace-mem=yes`` prints every access; the package's own cache filter turns them into requests.
   The cache is warm: it runs from the start, requests are recorded from the function ``recording_begins`` of our own
   programs on, and after a stated number of instructions of others. Raw requests go to ``--raw``.
3. Time is the instruction count at a stated number of instructions a cycle (IPC) of a stated processor clock. Where
   ``cores`` is above one, as many copies of the program run side by side, as in a throughput (rate) benchmark: each
   core has its own cache and takes the next stretch of the recording, and all share the memory.
4. Virtual addresses become physical ones by first touch, in blocks of 64 KiB at seeded random places in 1 GiB, as
   a buddy allocator hands them out on a system that has run for a while.
5. The trace is stored as differences of times and of lines and packed directions in a compressed .npz.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from archgym.simulators.dram.traces.cache import LastLevelCache

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "archgym/simulators/dram/data/traces"
MEMORY_BYTES = 1 << 30
BLOCK_BITS = 16  # of the physical placement: 64 KiB
LINE_BITS = 6
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONHASHSEED": "0"}


def write_text(path: Path, words: int, seed: int) -> None:
    """Words drawn from a Zipf-like vocabulary of 20,000 made-up words, with line ends: compressible as prose is."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    share = 1 / np.arange(1, 27)
    vocabulary = [
        "".join(random.choice(letters, size, p=share / share.sum())) for size in random.integers(2, 11, 20_000)
    ]
    rank = np.minimum((random.random(words) ** 4 * 20_000).astype(int), 19_999)
    ends = random.random(words) < 0.08
    path.write_text("".join(vocabulary[r] + ("\n" if e else " ") for r, e in zip(rank, ends, strict=True)))


def write_database(path: Path, rows: int, seed: int) -> None:
    """Customers and their orders, with an index."""
    import sqlite3

    random = np.random.default_rng(seed)
    customers = rows // 10
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, city TEXT, score INTEGER)")
    base.execute(
        "CREATE TABLE sale (id INTEGER PRIMARY KEY, customer INTEGER, item INTEGER, amount INTEGER, note TEXT)"
    )
    base.executemany(
        "INSERT INTO customer VALUES (?, ?, ?)",
        ((i, f"city{int(c)}", int(s)) for i, (c, s) in enumerate(random.integers(0, 500, (customers, 2)))),
    )
    draws = random.integers(0, [customers, 5000, 100_000], (rows, 3))
    base.executemany(
        "INSERT INTO sale VALUES (?, ?, ?, ?, ?)",
        ((i, int(c), int(t), int(a), f"note {int(a * 7919 % 99991):x}") for i, (c, t, a) in enumerate(draws)),
    )
    base.execute("CREATE INDEX sale_item ON sale (item)")
    base.commit()
    base.close()


def prepare(program: dict[str, Any], folder: Path) -> tuple[list[str], int | None]:
    """Make the inputs; returns the command and the address at which recording starts (None: by instruction count)."""
    if source := program.get("source"):
        binary = folder / "program"
        subprocess.run(
            ["gcc", "-O2", "-static", "-no-pie", "-o", binary, HERE / "programs" / source, "-lm"], check=True
        )
        symbols = subprocess.run(["nm", binary], check=True, capture_output=True, text=True).stdout
        (start,) = (line.split()[0] for line in symbols.splitlines() if line.endswith(" recording_begins"))
        return [str(binary)], int(start, 16)
    if words := program.get("text_words"):
        write_text(folder / "text", words, program["seed"])
    if rows := program.get("database_rows"):
        write_database(folder / "database", rows, program["seed"])
    return [part.format(folder=folder, programs=HERE / "programs") for part in program["command"]], None


def record(name: str, program: dict[str, Any], raw: Path) -> None:
    """Steps 1 and 2: the raw requests of one program, times in instructions."""
    cache = LastLevelCache(program["cache_kib"], program["cache_ways"], program["requests"])
    with tempfile.TemporaryDirectory() as scratch:
        command, start = prepare(program, Path(scratch))
        if start is not None:
            cache.start[0] = start
        cache.start[1] = program.get("skip_instructions", 0)
        reader, writer = os.pipe()
        # Above 9, so that no program that closes or reuses low descriptors hits it.
        lackey = ["valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-fd={writer}", *command]
        with open(os.devnull, "wb") as nowhere:
            process = subprocess.Popen(lackey, stdout=nowhere, stderr=nowhere, pass_fds=(writer,), env=ENVIRONMENT)
        os.close(writer)
        text = b""
        while not cache.full and (chunk := os.read(reader, 1 << 20)):
            text += chunk
            if len(text) >= 1 << 19:
                text = text[cache.feed(np.frombuffer(text, np.uint8)) :]
        cache.feed(np.frombuffer(text, np.uint8))
        os.close(reader)
        process.kill()
        process.wait()
    time, line, is_write = cache.recorded
    if not len(time):
        raise SystemExit(f"{name}: nothing was recorded; its recording never started")
    print(
        f"{name}: {len(time)} requests in {time[-1]} instructions ({1000 * len(time) / time[-1]:.2f} a 1000), "
        f"{is_write.mean():.0%} writes, {len(np.unique(line)) / 16384:.1f} MiB touched",
        flush=True,
    )
    np.savez_compressed(raw / f"{name}.npz", time=time, line=line, is_write=is_write)


def place(blocks: np.ndarray, seed: int) -> np.ndarray:
    """Physical block of each virtual one, by first touch at seeded random places."""
    _, first, inverse = np.unique(blocks, return_index=True, return_inverse=True)
    touched = np.empty(len(first), np.int64)
    touched[np.argsort(first)] = np.random.default_rng(seed).permutation(MEMORY_BYTES >> BLOCK_BITS)[: len(first)]
    return touched[inverse]


def build(name: str, program: dict[str, Any], raw: Path, out: Path) -> dict[str, Any]:
    """Steps 3 to 5; returns the entry of the index."""
    with np.load(raw / f"{name}.npz") as file:
        time, line, is_write = file["time"], file["line"], file["is_write"]
    cores = program["cores"]
    part = len(time) // cores
    columns = []
    for core in range(cores):
        cut = slice(core * part, (core + 1) * part)
        # Each copy has its own addresses; bits above any virtual address tell them apart.
        columns.append((time[cut] - time[core * part], line[cut] + (core << 56), is_write[cut], core))
    instructions = np.concatenate([c[0] for c in columns])
    lines = np.concatenate([c[1] for c in columns])
    write = np.concatenate([c[2] for c in columns])
    core = np.concatenate([np.full(part, c[3]) for c in columns])
    order = np.lexsort((core, instructions))
    # All copies run for as long as the first to come to the end of its stretch.
    order = order[instructions[order] <= min(c[0][-1] for c in columns)]
    instructions, lines, write = instructions[order], lines[order], write[order]
    shift = BLOCK_BITS - LINE_BITS
    lines = place(lines >> shift, program["seed"]) << shift | lines & ((1 << shift) - 1)
    cycles = (instructions / program["ipc"]).astype(np.int64)
    steps = np.diff(cycles, prepend=0)
    np.savez_compressed(
        out / f"{name}.npz",
        time=steps.astype(np.uint16 if steps.max() < 1 << 16 else np.uint32),
        line=np.diff(lines, prepend=0).astype(np.int32),
        is_write=np.packbits(write),
    )
    seconds = cycles[-1] / (program["clock_mhz"] * 1e6)
    print(f"{name}: {len(lines)} requests, {write.mean():.0%} writes, mean gap {seconds / len(lines) * 1e9:.2f} ns")
    return {
        "description": program["description"],
        "requests": len(lines),
        "clock_mhz": program["clock_mhz"],
        "ipc": program["ipc"],
        "cores": cores,
        "cache": f"{program['cache_kib']} KiB, {program['cache_ways']} ways, 64-B lines, LRU, write-back, a core",
    }


def main() -> None:
    programs = json.loads((HERE / "programs.json").read_text())
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*programs, []], help="programs to record; all where none is given")
    parser.add_argument("--raw", type=Path, default=Path("build/traces"), help="folder of the raw requests")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the finished traces")
    parser.add_argument("--rebuild", action="store_true", help="make the traces from raw requests recorded before")
    arguments = parser.parse_args()
    arguments.raw.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    index_path = arguments.out / "index.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else {}
    for name in arguments.names or programs:
        if not arguments.rebuild:
            record(name, programs[name], arguments.raw)
        index[name] = build(name, programs[name], arguments.raw, arguments.out)
    index_path.write_text(json.dumps({name: index[name] for name in programs if name in index}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
