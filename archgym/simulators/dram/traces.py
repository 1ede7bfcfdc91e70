"""Memory traces from files, from the package and from generators; writers.

Formats (each may be gzipped; told apart by the name's ending, else by the first line):

=============  ======================================  =================================================================
format         example line                            meaning
=============  ======================================  =================================================================
neutral        ``120,1048640,R``                       header ``arrival_cycle,address,rw``; cycle of the memory clock;
                                                       address in bytes, decimal or 0x; R or W
stl            ``31: read 0x400140``                   DRAMSys; cycle of the initiator's clock, 800 MHz unless told
                                                       otherwise; optional ``(64)`` byte count before the command,
                                                       optional data behind the address; ``#`` starts a comment
rstl           ``31: read 0x400140``                   the same with the cycles since the request before
dramsim3       ``0x1C4A3F40 READ 120``                 cycle of the memory clock; also P_MEM_RD, P_MEM_WR, P_FETCH, BOFF
ramulator      ``LD 0x12340``                          load or store; without times: all requests are there at once
ramulator-vec  ``R 0,0,1,2,305,8``                     levels from the channel down to the column; needs a device
=============  ======================================  =================================================================

Nothing is skipped silently: a line that is not understood, a value out of range, a time that runs backwards or a
damaged file raises one sentence with the file, the line, what was found and what was expected.
"""

from __future__ import annotations

import gzip
import inspect
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulators.dram.trace import LINE_BYTES, Trace

FORMATS = ("neutral", "stl", "rstl", "dramsim3", "ramulator", "ramulator-vec")
ENDINGS = {".csv": "neutral", ".stl": "stl", ".rstl": "rstl", ".trc": "dramsim3"}
HEADER = "arrival_cycle,address,rw"
STL_CLOCK_MHZ = 800.0

_READ, _WRITE = 0, 1
_STL_WORDS = {"read": _READ, "write": _WRITE}
_DRAMSIM3_WORDS = {
    **dict.fromkeys(("READ", "read", "P_MEM_RD", "P_FETCH", "FETCH", "IFETCH"), _READ),
    **dict.fromkeys(("WRITE", "write", "P_MEM_WR", "BOFF"), _WRITE),
}


# --- readers ---------------------------------------------------------------------------------------------------------


def read_trace(
    path: str | Path,
    format: str | None = None,
    *,
    clock_mhz: float = STL_CLOCK_MHZ,
    device: str | None = None,
    map: str = "rbc",
    ranks: int | None = None,
    channels: int = 1,
    backwards: str = "error",
) -> Trace:
    """Read a trace file.

    Args:
        path: the file, gzipped or not.
        format: one of ``FORMATS``; told from the file where None.
        clock_mhz: clock that the cycles of ``.stl`` and ``.rstl`` files count.
        device, map, ranks, channels: what the levels of a Ramulator address vector refer to; only for that format.
        backwards: what to do about a time before that of the request before: ``error``, or ``hold``: raise it to that,
            as DRAMSys does, whose requests wait for the one before anyway.

    Raises:
        ArchGymError: one sentence with file, line, what was found and what was expected.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UnknownNameError("trace format", format, FORMATS)
    if backwards not in ("error", "hold"):
        raise UnknownNameError("treatment of times that run backwards", backwards, ("error", "hold"))
    lines = _Lines(path, _load(path), hold=backwards == "hold")
    if format is None:
        format = _format_of(path, lines)
    clock: float | None = None
    if format == "neutral":
        time, address, write = _read_neutral(lines)
    elif format in ("stl", "rstl"):
        time, address, write = _read_stl(lines, relative=format == "rstl")
        clock = clock_mhz
    elif format == "dramsim3":
        time, address, write = _read_dramsim3(lines)
    elif format == "ramulator":
        time, address, write = _read_ramulator(lines)
    else:
        time, address, write = _read_ramulator_vector(lines, device, map, ranks, channels)
    if lines.hold:
        time = np.maximum.accumulate(time)
    note = "; no times, all requests are there at once" if format.startswith("ramulator") else ""
    return Trace(f"file:{path}", f"{format} trace {path.name}{note}", time, address, write, clock)


class _Lines:
    """The lines of a text file that hold something, cut into tokens on demand."""

    def __init__(self, path: Path, text: bytes, hold: bool = False) -> None:
        self.path, self.hold = path, hold
        if text.startswith(b"\xef\xbb\xbf"):
            text = text[3:]
        if not text.strip():
            raise ArchGymError(f"{path} is empty; expected a memory trace")
        self.text = np.frombuffer(text, dtype=np.uint8)
        self.number = np.zeros(0, np.int64)  # of each line that holds something, from 1
        self.count = np.zeros(0, np.int64)  # tokens of each
        self.begin = np.zeros((0, 0), np.int64)
        self.end = self.begin
        self.rows = np.arange(0)  # the lines that are looked at
        self._later: tuple[int, str] | None = None

    def cut(self, separators: str, tokens: int, comment: str = "", field: str = "", skip: int = 0) -> None:
        """Tokens of every line, of each at most ``tokens`` + 1 (so that one too many is seen).

        Args:
            separators: characters between tokens. comment: one from which on a line is ignored. field: one that ends
                a field, which may be empty; separators around fields are dropped. skip: first lines to leave out.
        """
        from archgym.simulators.dram import _text

        separates = np.zeros(256, dtype=np.bool_)
        separates[list(separators.encode() + b"\r")] = True
        stop, end = ord(comment) if comment else 10, ord(field) if field else 10
        self.number, self.count, self.begin, self.end = _text.tokenize(
            self.text, separates, stop, end, tokens + 1, skip
        )
        self.rows = np.arange(len(self.number))
        if not len(self.number):
            raise ArchGymError(f"{self.path} holds no request; expected a memory trace")

    def first(self) -> str:
        """The first line that is neither empty nor a comment."""
        end = 0
        while end < len(self.text):
            begin, end = end, end + 4096
            for line in bytes(self.text[begin:end]).decode("latin-1").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    return line.strip()
        return ""

    def fault(self, index: int, expected: str, found: str | None = None) -> NoReturn:
        """Raise the sentence about line ``index`` (of those that hold something)."""
        number = int(self.number[index])
        if found is None:
            found = self.line(index)
        raise ArchGymError(f"{self.path}, line {number}: found {found!r}, expected {expected}")

    def line(self, index: int) -> str:
        """The text of a line, shortened."""
        begin = int(self.begin[index, 0])
        rest = bytes(self.text[begin : begin + 200]).split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        return rest if len(rest) <= 60 else rest[:57] + "..."

    def token(self, index: int, column: int) -> str:
        """A token's text, shortened."""
        text = bytes(self.text[self.begin[index, column] : self.end[index, column]]).decode("utf-8", "replace")
        return text if len(text) <= 40 else text[:37] + "..."

    def numbers(
        self, column: int | NDArray[np.int64], what: str, hexadecimal: bool = False
    ) -> tuple[NDArray[np.int64], tuple[int, str] | None]:
        """The numbers in a column (one for all lines, or one a line), decimal or 0x (``hexadecimal``: with or without
        0x), and the first fault (line index, expected)."""
        from archgym.simulators.dram import _text

        begin, end = self.begin[self.rows, column], self.end[self.rows, column]
        values, fault, kind = _text.numbers(self.text, begin, end, hexadecimal)
        if fault < 0:
            return values, None
        kinds = ("a number", "a number >= 0", "a number below 2**63")
        return values, (int(fault), f"{kinds[kind]} as {what}{' (hexadecimal)' if hexadecimal else ''}")

    def words(self, column: int | NDArray[np.int64], words: Mapping[str, int]) -> NDArray[np.int64]:
        """The value in ``words`` of the tokens of a column (one for all lines, or one a line), -1 where unknown."""
        from archgym.simulators.dram import _text

        table = np.frombuffer("".join(words).encode(), dtype=np.uint8)
        ends = np.cumsum([len(word) for word in words])
        values = np.array(list(words.values()), np.int64)
        begin, end = self.begin[self.rows, column], self.end[self.rows, column]
        return _text.lookup(self.text, begin, end, table, ends, values)

    def first_fault(self, *faults: tuple[int, str] | None) -> None:
        """Raise the sentence about the first line of ``faults`` (line index, expected)."""
        found = [fault for fault in (*faults, self._later) if fault is not None]
        if found:
            self.fault(*min(found, key=lambda fault: fault[0]))

    def stop_at(self, fault: tuple[int, str] | None) -> None:
        """Look only at the lines before that of ``fault``, which is raised later if none of those has one."""
        if fault is not None:
            self._later, self.rows = fault, np.arange(fault[0])

    def fault_where(self, bad: NDArray[np.bool_], expected: str) -> tuple[int, str] | None:
        """The first line of ``bad`` as a fault."""
        return (int(np.argmax(bad)), expected) if bad.any() else None

    def backwards(self, time: NDArray[np.int64]) -> tuple[int, str] | None:
        """The first line whose time is before that of the line before, as a fault."""
        bad = time[1:] < time[:-1]
        if self.hold or not bad.any():
            return None
        index = int(np.argmax(bad)) + 1
        return index, (
            f"a time of at least {time[index - 1]}, that of the request before; times must not decrease "
            "(backwards='hold' raises them to that)"
        )

    def tokens(self, least: int, most: int, expected: str) -> tuple[int, str] | None:
        """The first line with fewer or more tokens, as a fault; its missing tokens must not be looked at."""
        return self.fault_where((self.count < least) | (self.count > most), expected)


def _load(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ArchGymError(f"there is no trace file {path}; give the path of an existing one") from None
    except OSError as error:
        raise ArchGymError(f"cannot read the trace file {path}: {error.strerror or error}") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(raw)
        except EOFError:
            raise ArchGymError(f"{path} is a truncated gzip file; expected a complete one") from None
        except (OSError, zlib.error) as error:
            raise ArchGymError(f"{path} is a damaged gzip file ({error}); expected a sound one") from None
    if path.suffix == ".gz" and raw:
        raise ArchGymError(f"{path} is named .gz but is not gzipped; rename it or compress it")
    return raw


def _format_of(path: Path, lines: _Lines) -> str:
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if name.suffix in ENDINGS:
        return ENDINGS[name.suffix]
    first = lines.first()
    words = first.split()
    if first.replace(" ", "").lower() == HEADER:
        return "neutral"
    if len(words) >= 2:
        if words[0].endswith(":"):
            return "stl"
        if words[0] in ("LD", "ST"):
            return "ramulator"
        if words[0] in ("R", "W") and "," in words[1]:
            return "ramulator-vec"
        if len(words) == 3 and words[1] in _DRAMSIM3_WORDS:
            return "dramsim3"
    shown = first if len(first) <= 60 else first[:57] + "..."
    raise ArchGymError(
        f"{path} is of no known trace format: its first line is {shown!r}; expected the header {HEADER!r}, or a line "
        "like '31: read 0x400140', '0x1C4A3F40 READ 120', 'LD 0x12340' or 'R 0,0,1,2,305,8'"
    )


_Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]


def _read_neutral(lines: _Lines) -> _Columns:
    first = lines.first()
    if first.replace(" ", "").lower() != HEADER:
        number = bytes(lines.text).split(first.encode("latin-1"), 1)[0].count(b"\n") + 1 if first else 1
        raise ArchGymError(f"{lines.path}, line {number}: found {first[:60]!r}, expected the header {HEADER!r}")
    lines.cut(" \t", 3, field=",", skip=1)
    lines.stop_at(lines.tokens(3, 3, "'arrival_cycle,address,rw' like '120,1048640,R'"))
    write = lines.words(2, {"R": _READ, "W": _WRITE, "r": _READ, "w": _WRITE})
    time, time_fault = lines.numbers(0, "the arrival cycle")
    address, address_fault = lines.numbers(1, "the address")
    lines.first_fault(
        time_fault,
        address_fault,
        lines.fault_where(write < 0, "R or W in the third column"),
        lines.backwards(time),
    )
    return time, address, write == _WRITE


def _read_stl(lines: _Lines, relative: bool) -> _Columns:
    lines.cut(" \t", 5, comment="#")
    text, begin, end, count = lines.text, lines.begin, lines.end, lines.count
    # An optional byte count in parentheses moves the command and the address by one.
    sized = (count > 1) & (text[begin[:, 1]] == ord("("))
    command = np.where(sized, 2, 1)
    wrong = (count < command + 2) | (count > command + 3) | (text[end[:, 0] - 1] != ord(":"))
    lines.stop_at(lines.fault_where(wrong, "'cycle: read|write 0xADDRESS' like '31: read 0x400140'"))
    end[:, 0] -= 1
    sized, command = sized[lines.rows], command[lines.rows]
    write = lines.words(command, _STL_WORDS)
    time, time_fault = lines.numbers(0, "the cycle")
    address, address_fault = lines.numbers(command + 1, "the address", hexadecimal=True)
    lines.first_fault(
        time_fault,
        _stl_sizes(lines, sized),
        lines.fault_where(write < 0, "the command read or write"),
        address_fault,
        None if relative else lines.backwards(time),
    )
    if relative:
        if float(time.astype(np.float64).sum()) >= 2.0**62:
            raise ArchGymError(f"{lines.path}: the delays add up to 2**62 cycles or more; expected less")
        time = np.cumsum(time)
    return time, address, write == _WRITE


def _stl_sizes(lines: _Lines, sized: NDArray[np.bool_]) -> tuple[int, str] | None:
    """The first fault in the byte counts: a request is one burst of at most 64 bytes."""
    for index in np.flatnonzero(sized):
        token = lines.token(int(index), 1)
        digits = token[1:-1]
        if not token.endswith(")") or not digits.isdecimal() or not 1 <= int(digits) <= LINE_BYTES:
            return int(index), f"a byte count from (1) to ({LINE_BYTES}); one request is one burst"
    return None


def _read_dramsim3(lines: _Lines) -> _Columns:
    lines.cut(" \t", 3)
    lines.stop_at(lines.tokens(3, 3, "'0xADDRESS READ|WRITE cycle' like '0x1C4A3F40 READ 120'"))
    write = lines.words(1, _DRAMSIM3_WORDS)
    address, address_fault = lines.numbers(0, "the address", hexadecimal=True)
    time, time_fault = lines.numbers(2, "the cycle")
    lines.first_fault(
        address_fault,
        time_fault,
        lines.fault_where(write < 0, f"one of {', '.join(_DRAMSIM3_WORDS)} as the command"),
        lines.backwards(time),
    )
    return time, address, write == _WRITE


def _read_ramulator(lines: _Lines) -> _Columns:
    lines.cut(" \t", 2)
    lines.stop_at(lines.tokens(2, 2, "'LD ADDRESS' or 'ST ADDRESS' like 'LD 0x12340'"))
    write = lines.words(0, {"LD": _READ, "ST": _WRITE})
    address, address_fault = lines.numbers(1, "the address")
    lines.first_fault(address_fault, lines.fault_where(write < 0, "LD or ST as the command"))
    return np.zeros(len(address), np.int64), address, write == _WRITE


def _read_ramulator_vector(
    lines: _Lines, device: str | None, map_name: str, ranks: int | None, channels: int
) -> _Columns:
    if device is None:
        raise ArchGymError(
            f"{lines.path} holds Ramulator address vectors, whose levels mean nothing without a device; name one "
            "(device='DDR4-2400')"
        )
    from archgym.simulators.dram.addressmap import named_map
    from archgym.simulators.dram.devices import device as device_named

    chip = device_named(device)
    address_map = named_map(map_name, chip, ranks, channels)
    levels = ["channel", "rank", *(["bank_group"] if chip.bank_groups > 1 else []), "bank", "row", "column"]
    example = "R " + ",".join("0" for _ in levels)
    lines.cut(" \t,", len(levels) + 1)
    lines.stop_at(
        lines.tokens(
            len(levels) + 1,
            len(levels) + 1,
            f"R or W and {len(levels)} levels of {device} ({', '.join(levels)}) like '{example}'",
        )
    )
    write = lines.words(0, {"R": _READ, "W": _WRITE})
    faults = [lines.fault_where(write < 0, "R or W as the command")]
    address = np.zeros(len(write), np.int64)
    for column, level in enumerate(levels, 1):
        value, fault = lines.numbers(column, f"the {level}")
        width = address_map.width(level)
        faults.append(fault)
        if fault is None:
            faults.append(lines.fault_where(value >> width != 0, f"a {level} below {1 << width} of {device}"))
        for place, bit in enumerate(address_map.bits.get(level, ())):
            address |= (value >> place & 1) << bit
    lines.first_fault(*faults)
    for a, b in address_map.xor:  # its own inverse, for the second bit of a pair is not changed
        address ^= (address >> b & 1) << a
    return np.zeros(len(address), np.int64), address, write == _WRITE


# --- writers ---------------------------------------------------------------------------------------------------------


def write_trace(trace: Trace, path: str | Path, memory_clock_mhz: float | None = None) -> Path:
    """Write a trace as neutral ``.csv`` or DRAMSys ``.stl``, by the name's ending, gzipped where it ends in ``.gz``.

    Args:
        memory_clock_mhz: clock of the memory, needed where the trace counts the cycles of another clock and a neutral
            file, which counts cycles of the memory, is written. An ``.stl`` file keeps the trace's own cycles, or
            those of this clock where it is given; its reader has to be told a clock other than 800 MHz.
    """
    path = Path(path)
    name = path.with_suffix("") if path.suffix == ".gz" else path
    time = trace.time if memory_clock_mhz is None else trace.arrival(memory_clock_mhz)
    if name.suffix == ".csv":
        if trace.clock_mhz is not None and memory_clock_mhz is None:
            raise ArchGymError(
                f"trace {trace.name!r} counts cycles of {trace.clock_mhz:g} MHz and {path} counts those of the memory; "
                "give memory_clock_mhz"
            )
        rows = map(
            "{},{},{}\n".format, time.tolist(), trace.address.tolist(), np.where(trace.is_write, "W", "R").tolist()
        )
        text = chain([HEADER + "\n"], rows)
    elif name.suffix == ".stl":
        commands = np.where(trace.is_write, "write", "read").tolist()
        text = chain(map("{}:\t{}\t0x{:x}\n".format, time.tolist(), commands, trace.address.tolist()))
    else:
        raise ArchGymError(f"cannot write a trace to {path}; the name must end in .csv or .stl, with or without .gz")
    data = "".join(text).encode()
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise ArchGymError(f"cannot write the trace {path}: {error.strerror or error}") from None
    return path


# --- the package's own recordings ------------------------------------------------------------------------------------


class LazyTraces(Mapping[str, Trace]):
    """Traces by name, each made at the first access and kept."""

    def __init__(self, makers: Mapping[str, Callable[[], Trace]]) -> None:
        self._makers, self._made = dict(makers), dict[str, Trace]()

    def __getitem__(self, name: str) -> Trace:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@cache
def shipped_traces() -> Mapping[str, Trace]:
    """Recordings of real programs by name, behind a last-level cache; ``tools/traces/record.py`` made them."""
    folder = resources.files(__package__).joinpath("data/traces")
    index = json.loads(folder.joinpath("index.json").read_text(encoding="utf-8"))

    def load(name: str, entry: Mapping[str, Any]) -> Trace:
        with folder.joinpath(f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as columns:
            time = np.cumsum(columns["time"], dtype=np.int64)
            line = np.cumsum(columns["line"], dtype=np.int64)
            is_write = np.unpackbits(columns["is_write"], count=len(time)).astype(np.bool_)
        copies = f", {entry['cores']} copies on as many cores" if entry["cores"] > 1 else ""
        description = (
            f"{entry['description']}{copies}; cache of {entry['cache']}; {entry['ipc']:g} instructions a cycle of "
            f"{entry['clock_mhz']:g} MHz"
        )
        return Trace(name, description, time, line * LINE_BYTES, is_write, entry["clock_mhz"])

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: load(name, index[name])

    return LazyTraces({name: maker(name) for name in index})


# --- generators ------------------------------------------------------------------------------------------------------


def _arrivals(random: np.random.Generator, requests: int, gap: float, arrivals: str) -> NDArray[np.int64]:
    """Times with a mean gap of ``gap`` >= 1 cycles, fixed or geometric; the first at 0."""
    if arrivals == "fixed":
        return np.floor(np.arange(requests) * gap).astype(np.int64)
    return np.cumsum(_geometric(random, requests, gap)) - 1


def _geometric(random: np.random.Generator, count: int, mean: float | NDArray[np.float64]) -> NDArray[np.int64]:
    """Geometric draws from 1 on with a mean of ``mean`` >= 1, by inversion (stable over NumPy's versions)."""
    uniform = random.random(count)
    with np.errstate(divide="ignore"):
        return 1 + np.floor(np.log1p(-uniform) / np.log1p(-1 / np.asarray(mean, np.float64))).astype(np.int64)


def _check(requests: int, gap: float, arrivals: str, shares: Mapping[str, float], sizes: Mapping[str, float]) -> None:
    if requests < 1:
        raise ArchGymError(f"a trace of {requests} requests is empty; give at least 1")
    if not (np.isfinite(gap) and 1 <= gap <= 1e9):
        raise ArchGymError(f"a mean gap of {gap} cycles is not possible; give one from 1 (saturating) to 1e9")
    if arrivals not in ("fixed", "geometric"):
        raise UnknownNameError("kind of arrivals", arrivals, ("fixed", "geometric"))
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ArchGymError(f"a {name} of {share} is not possible; give one from 0 to 1")
    for name, size in sizes.items():
        if not (np.isfinite(size) and LINE_BYTES <= size <= 2**40):
            raise ArchGymError(f"{name} of {size} is not possible; give one from {LINE_BYTES} to 2**40 bytes")


def _about(kind: str, gap: float, write_share: float, arrivals: str) -> str:
    spacing = "one request a cycle" if gap == 1 else f"mean gap {gap:g} cycles ({arrivals})"
    return f"{kind}, {write_share:.0%} writes, {spacing}"


def stream(
    requests: int = 20_000,
    gap: float = 5.0,
    write_share: float = 0.0,
    arrivals: str = "geometric",
    seed: int = 0,
    span: int = 1 << 30,
    start: int = 0,
) -> Trace:
    """Sequential lines from ``start`` on, wrapping within ``span`` bytes."""
    return strided(requests, LINE_BYTES, gap, write_share, arrivals, seed, span, start, _name="stream")


def strided(
    requests: int = 20_000,
    stride: int = 1088,
    gap: float = 6.0,
    write_share: float = 0.2,
    arrivals: str = "geometric",
    seed: int = 0,
    span: int = 1 << 30,
    start: int = 0,
    *,
    _name: str = "strided",
) -> Trace:
    """Lines ``stride`` bytes apart, wrapping within ``span`` bytes."""
    _check(requests, gap, arrivals, {"write share": write_share}, {"a stride": stride, "a span": span})
    random = np.random.default_rng(seed)
    time = _arrivals(random, requests, gap, arrivals)
    address = (start + np.arange(requests, dtype=np.int64) * stride) % span // LINE_BYTES * LINE_BYTES
    kind = "sequential lines" if stride == LINE_BYTES else f"lines {stride} bytes apart"
    about = _about(kind, gap, write_share, arrivals)
    return Trace(_name, about, time, address, random.random(requests) < write_share)


def random(
    requests: int = 20_000,
    gap: float = 6.0,
    write_share: float = 0.3,
    arrivals: str = "geometric",
    seed: int = 0,
    span: int = 1 << 30,
) -> Trace:
    """Lines drawn uniformly from ``span`` bytes."""
    _check(requests, gap, arrivals, {"write share": write_share}, {"a span": span})
    draw = np.random.default_rng(seed)
    time = _arrivals(draw, requests, gap, arrivals)
    address = draw.integers(0, span // LINE_BYTES, requests) * LINE_BYTES
    about = _about("random lines", gap, write_share, arrivals)
    return Trace("random", about, time, address, draw.random(requests) < write_share)


def mixed(
    requests: int = 20_000,
    streams: int = 4,
    random_share: float = 0.2,
    gap: float = 7.0,
    write_share: float = 0.3,
    arrivals: str = "geometric",
    seed: int = 0,
    span: int = 1 << 30,
) -> Trace:
    """Sequential streams, chosen at random each time, and a share of random lines."""
    _check(requests, gap, arrivals, {"write share": write_share, "random share": random_share}, {"a span": span})
    if not 1 <= streams <= 1024:
        raise ArchGymError(f"{streams} streams are not possible; give 1 to 1024")
    draw = np.random.default_rng(seed)
    time = _arrivals(draw, requests, gap, arrivals)
    lines = span // LINE_BYTES
    address = draw.integers(0, lines, requests)
    origin = draw.integers(0, lines, streams)
    which = np.where(draw.random(requests) < random_share, -1, draw.integers(0, streams, requests))
    for number in range(streams):
        mine = np.flatnonzero(which == number)
        address[mine] = (origin[number] + np.arange(len(mine))) % lines
    about = _about(f"{streams} sequential streams and {random_share:.0%} random lines", gap, write_share, arrivals)
    return Trace("mixed", about, time, address * LINE_BYTES, draw.random(requests) < write_share)


def rowconflict(
    requests: int = 20_000,
    step: int = 1 << 20,
    rows: int = 64,
    gap: float = 20.0,
    write_share: float = 0.1,
    arrivals: str = "geometric",
    seed: int = 0,
) -> Trace:
    """Addresses ``step`` bytes apart with equal low bits, ``rows`` of them in random order: other rows of one bank
    where the row is above the bank in the address."""
    _check(requests, gap, arrivals, {"write share": write_share}, {"a step": step})
    if not 1 <= rows <= 1 << 20:
        raise ArchGymError(f"{rows} rows are not possible; give 1 to {1 << 20}")
    draw = np.random.default_rng(seed)
    time = _arrivals(draw, requests, gap, arrivals)
    address = draw.integers(0, rows, requests) * step // LINE_BYTES * LINE_BYTES
    about = _about(f"{rows} rows {step} bytes apart", gap, write_share, arrivals)
    return Trace("rowconflict", about, time, address, draw.random(requests) < write_share)


def cloud(
    requests: int = 20_000,
    pages: int = 65_536,
    exponent: float = 1.2,
    run: float = 4.0,
    write_share: float = 0.25,
    gap: float = 3.0,
    pause: float = 60.0,
    pause_share: float = 0.1,
    seed: int = 0,
) -> Trace:
    """Many tenants: runs of consecutive lines (mean ``run``) in 4-KiB pages of Zipf popularity at scattered places; a
    run reads or writes; gaps are geometric with the mean ``gap``, a share ``pause_share`` of them with ``pause``."""
    _check(requests, gap, "geometric", {"write share": write_share, "pause share": pause_share}, {})
    _check(requests, pause, "geometric", {}, {})
    if not (1 <= pages <= 1 << 22 and run >= 1 and 0 <= exponent <= 10):
        raise ArchGymError(
            f"{pages} pages, runs of {run} and a Zipf exponent of {exponent} are not possible; give 1 to {1 << 22} "
            "pages, runs of at least 1 and an exponent from 0 to 10"
        )
    draw = np.random.default_rng(seed)
    means = np.where(draw.random(requests) < pause_share, pause, gap)
    time = np.cumsum(_geometric(draw, requests, means)) - 1
    popularity = np.cumsum(np.arange(1, pages + 1, dtype=np.float64) ** -exponent)
    length = _geometric(draw, requests, run)
    rank = np.searchsorted(popularity, draw.random(requests) * popularity[-1])
    # Popular pages are neighbours neither in memory nor in a bank.
    page = draw.permutation(pages)[np.minimum(rank, pages - 1)]
    begin = draw.integers(0, 64, requests)
    writes = draw.random(requests) < write_share
    which = np.repeat(np.arange(requests), np.minimum(length, requests))[:requests]
    within = np.arange(requests) - np.searchsorted(which, which)
    line = page[which] * 64 + (begin[which] + within) % 64
    about = (
        f"runs of {run:g} lines in {pages} pages of Zipf popularity ({exponent:g}), {write_share:.0%} writes, gaps of "
        f"{gap:g} and at times {pause:g} cycles"
    )
    return Trace("cloud", about, time, line * LINE_BYTES, writes[which])


def copy(
    requests: int = 20_000,
    gap: float = 4.0,
    distance: int = 1 << 29,
    arrivals: str = "geometric",
    seed: int = 0,
) -> Trace:
    """Reads one array and writes another ``distance`` bytes away, line by line in turn."""
    _check(requests, gap, arrivals, {}, {"a distance": distance})
    time = _arrivals(np.random.default_rng(seed), requests, gap, arrivals)
    number = np.arange(requests, dtype=np.int64)
    address = number // 2 * LINE_BYTES + number % 2 * (distance // LINE_BYTES * LINE_BYTES)
    return Trace("copy", _about("reads an array, writes another", gap, 0.5, arrivals), time, address, number % 2 == 1)


#: Generators by name; each gives a trace from keyword arguments with defaults.
GENERATORS: Mapping[str, Callable[..., Trace]] = {
    "stream": stream,
    "random": random,
    "strided": strided,
    "mixed": mixed,
    "rowconflict": rowconflict,
    "cloud": cloud,
    "copy": copy,
}
#: Further names for a generator with arguments.
VARIANTS: Mapping[str, str] = {
    "random-timed": "random:gap=6,write_share=0.3",
    "stream-saturating": "stream:gap=1,arrivals=fixed",
    "random-saturating": "random:gap=1,arrivals=fixed",
}


@cache
def synthetic_traces() -> Mapping[str, Trace]:
    """The generators' traces with their defaults, and variants, by name."""

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: named_trace(name)

    return LazyTraces({name: maker(name) for name in (*GENERATORS, *VARIANTS)})


class AllTraces(LazyTraces):
    """Recordings and generators by name; generators with arguments are found too, but not listed."""

    def __contains__(self, name: object) -> bool:
        return name in self._makers or (isinstance(name, str) and ":" in name and name.partition(":")[0] in GENERATORS)

    def __getitem__(self, name: str) -> Trace:
        return super().__getitem__(name) if name in self._makers else named_trace(name)


@cache
def all_traces() -> Mapping[str, Trace]:
    """Recordings and generators' traces by name, recordings first."""

    def maker(name: str) -> Callable[[], Trace]:
        return lambda: named_trace(name)

    return AllTraces({name: maker(name) for name in (*shipped_traces(), *synthetic_traces())})


def named_trace(name: str) -> Trace:
    """A trace by name: a recording (``gzip``), a generator (``random``) or a generator with arguments
    (``random:gap=2,write_share=0.5,seed=7``)."""
    base, _, text = VARIANTS.get(name, name).partition(":")
    if base not in GENERATORS:
        shipped = shipped_traces()
        if name not in shipped:
            raise UnknownNameError("workload of dram", name, (*shipped, *GENERATORS, *VARIANTS))
        return shipped[name]
    generator = GENERATORS[base]
    defaults = {
        p.name: p.default for p in inspect.signature(generator).parameters.values() if not p.name.startswith("_")
    }
    arguments: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        key, _, value = part.partition("=")
        if key not in defaults:
            raise UnknownNameError(f"argument of the trace generator {base!r}", key, defaults)
        kind = type(defaults[key])
        try:
            arguments[key] = kind(int(value, 0) if kind is int else value)
        except ValueError:
            like = f"{key}={defaults[key]}"
            raise ArchGymError(f"workload {name!r} has {part!r}; expected a value, like {like}") from None
    trace = generator(**arguments)
    trace.name = name
    return trace
