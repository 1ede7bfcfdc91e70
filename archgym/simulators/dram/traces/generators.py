"""Seeded generators of synthetic traces; times are cycles of a clock of 1200 MHz unless another one is stated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.simulators.dram.trace import CLOCK_MHZ, LINE_BYTES, Trace


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


def _check(
    requests: int,
    gap: float,
    arrivals: str,
    shares: Mapping[str, float],
    sizes: Mapping[str, float],
) -> None:
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
    return Trace(_name, about, time, address, random.random(requests) < write_share, CLOCK_MHZ)


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
    return Trace("random", about, time, address, draw.random(requests) < write_share, CLOCK_MHZ)


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
    return Trace("mixed", about, time, address * LINE_BYTES, draw.random(requests) < write_share, CLOCK_MHZ)


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
    return Trace("rowconflict", about, time, address, draw.random(requests) < write_share, CLOCK_MHZ)


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
    if not (1 <= pages <= 1 << 22 and 1 <= run <= 1e9 and 0 <= exponent <= 10):
        raise ArchGymError(
            f"{pages} pages, runs of {run} and a Zipf exponent of {exponent} are not possible; give 1 to {1 << 22} "
            "pages, runs of 1 to 1e9 and an exponent from 0 to 10"
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
    return Trace("cloud", about, time, line * LINE_BYTES, writes[which], CLOCK_MHZ)


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
    return Trace(
        "copy", _about("reads an array, writes another", gap, 0.5, arrivals), time, address, number % 2 == 1, CLOCK_MHZ
    )


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


_SHARED = {"gap": (1.0, 64.0), "write_share": (0.0, 0.6), "span": (1 << 20, 1 << 34)}
DRAWN: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "stream": _SHARED,
    "random": _SHARED,
    "strided": {**_SHARED, "stride": (128, 16_384)},
    "mixed": {**_SHARED, "streams": (1, 64), "random_share": (0.0, 0.9)},
    "rowconflict": {"gap": (1.0, 64.0), "write_share": (0.0, 0.6), "step": (1 << 13, 1 << 22), "rows": (2, 4096)},
    "cloud": {
        "pages": (64, 262_144), "exponent": (0.0, 2.0), "run": (1.0, 32.0), "write_share": (0.0, 0.6),
        "gap": (1.0, 32.0), "pause": (8.0, 256.0), "pause_share": (0.0, 0.3),
    },
    "copy": {"gap": (1.0, 64.0), "distance": (1 << 16, 1 << 33)},
}  # fmt: skip
"""Between what the arguments of drawn traces lie; where both ends are at least 1, evenly on a log scale."""
_IN_LINES = ("stride", "step", "distance")


def drawn_names(count: int, draw: np.random.Generator, capacity: int) -> tuple[str, ...]:
    """Names of ``count`` different traces of all generators, with arguments drawn from :data:`DRAWN`, whose addresses all lie
    below ``capacity`` bytes."""
    names: dict[str, None] = {}
    smallest = 1 << 23  # what every generator's lowest arguments stay below
    if capacity < smallest:
        raise ArchGymError(
            f"a memory of {capacity:,} bytes is too small for drawn traces; use one of at least {smallest:,}"
        )
    while len(names) < count:
        base = list(DRAWN)[draw.integers(len(DRAWN))]
        defaults = inspect.signature(GENERATORS[base]).parameters
        given = []
        for argument, (low, high) in DRAWN[base].items():
            where = draw.random()
            value = low * (high / low) ** where if low >= 1 else low + (high - low) * where
            if isinstance(defaults[argument].default, int):
                unit = LINE_BYTES if argument in _IN_LINES else 1
                given.append(f"{argument}={round(value / unit) * unit}")
            else:
                given.append(f"{argument}={value:.3g}")
        name = f"{base}:{','.join(given)},seed={draw.integers(1 << 16)}"
        if int(generated(name, *name.split(":")).address.max()) < capacity:
            names[name] = None
    return tuple(names)


MOST_REQUESTS = 20_000_000
"""Of a generated trace; a longer one is one of a file."""


def generated(name: str, base: str, text: str) -> Trace:
    """The trace ``name`` of the generator ``base`` with the arguments in ``text`` (``gap=2,seed=7``)."""
    generator = GENERATORS[base]
    defaults = {
        p.name: p.default for p in inspect.signature(generator).parameters.values() if not p.name.startswith("_")
    }
    arguments: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        key, _, value = part.partition("=")
        if key in arguments:
            raise ArchGymError(f"workload {quote(name)} gives {key} twice; give it once")
        if key not in defaults:
            raise UnknownNameError(f"argument of the trace generator {base!r}", key, defaults)
        if key in arguments:
            raise ArchGymError(f"workload {quote(name)} gives {key} twice; give it once")
        kind = type(defaults[key])
        try:
            arguments[key] = kind(int(value, 0) if kind is int else value)
        except ValueError:
            like = f"{key}={defaults[key]}"
            raise ArchGymError(f"workload {quote(name)} has {quote(part)}; expected a value, like {like}") from None
        if key in ("seed", "start") and not 0 <= arguments[key] < 1 << 62:
            raise ArchGymError(
                f"workload {quote(name)} has {quote(part)}; expected a number from 0, of at most 62 bits"
            )
        if kind is int and key == "requests" and arguments[key] > MOST_REQUESTS:
            raise ArchGymError(
                f"workload {quote(name)} asks for {quote(part)}; at most {MOST_REQUESTS:,} are generated"
            )
    trace = generator(**arguments)
    trace.name = name
    return trace
