"""Request traces: what a server is asked to do. Readers of the usual files, and generators fitted to public traces.

A trace is a CSV ``arrived_s,prompt_tokens,output_tokens`` (and, where requests share the beginning of their prompts,
``shared_with,shared_tokens``: the row, from 0, of an earlier request and how many first tokens are equal to its). Also
read: vidur's CSV (``arrived_at,num_prefill_tokens,num_decode_tokens``), Azure's (``TIMESTAMP,ContextTokens,
GeneratedTokens``) and Mooncake's JSON lines (``timestamp`` ms, ``input_length``, ``output_length``, ``hash_ids`` of
blocks of 512 tokens).

A generator draws Gaussian copulas: the gap between moments of arrival with the requests that come at a moment, and prompt
with output tokens, are pairs of correlated series, each with a slowly varying part (burstiness, drifting lengths), whose
ranks are mapped to the fitted quantiles. So the marginal distributions are met for any length of trace. ``archgym llm
fit-traces`` fits them.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.reading import own_file, parse_json, quote_path, read_json_lines, read_text

MAX_REQUESTS = 1_000_000
MAX_TOKENS = 10_000_000
MOONCAKE_BLOCK = 512
LARGEST_FILE = 128 << 20
PAIRS = (("gap_s", "together"), ("prompt_tokens", "output_tokens"))
"""Series of a generator, those that are drawn together: of moments of arrival, of requests."""
SERIES = (*PAIRS[0], *PAIRS[1])
LEVELS = np.round((1.0 - np.cos(np.linspace(0.0, np.pi, 65))) / 2.0, 12)
"""Probabilities of the quantiles that a fitted generator keeps of each series, denser towards both ends."""
FORMS = {
    ("arrived_s", "prompt_tokens", "output_tokens"): "ours",
    ("arrived_at", "num_prefill_tokens", "num_decode_tokens"): "vidur",
    ("timestamp", "contexttokens", "generatedtokens"): "azure",
}
"""Columns (in lower case) that tell a CSV of requests."""


class RequestTrace:
    """Requests in order of arrival.

    Attributes:
        name: what it is called.
        arrived_s: float64 ``(n,)``, ascending, the first at 0 or later.
        prompt_tokens, output_tokens: int64 ``(n,)``, from 1.
        shared_with, shared_tokens: int64 ``(n,)``: an earlier request and how many first prompt tokens are equal to
            its; -1 and 0 for none.
    """

    def __init__(
        self,
        name: str,
        arrived_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        shared_with: ArrayLike | None = None,
        shared_tokens: ArrayLike | None = None,
    ) -> None:
        arrived = np.asarray(arrived_s, dtype=np.float64)
        order = np.argsort(arrived, kind="stable")
        self.name = name
        self.arrived_s = arrived[order]
        self.prompt_tokens = np.asarray(prompt_tokens, dtype=np.int64)[order]
        self.output_tokens = np.asarray(output_tokens, dtype=np.int64)[order]
        n = len(arrived)
        if not n:
            raise ArchGymError(f"the trace {quote(name)} holds no requests; give at least one")
        if n > MAX_REQUESTS:
            raise ArchGymError(f"the trace {quote(name)} holds {n:,} requests; at most {MAX_REQUESTS:,} are read")
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        with_ = np.full(n, -1) if shared_with is None else np.asarray(shared_with, dtype=np.int64)
        self.shared_with = np.where(with_ >= 0, place[np.maximum(with_, 0)], -1)[order]
        self.shared_tokens = (np.zeros(n, np.int64) if shared_tokens is None else np.asarray(shared_tokens))[order]
        # Requests that arrive together may have changed places: an earlier one shares with nothing later.
        later = self.shared_with >= np.arange(n)
        self.shared_with[later], self.shared_tokens[later] = -1, 0

    def __len__(self) -> int:
        return len(self.arrived_s)

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        digest = blake2b(digest_size=8)
        for column in (
            self.arrived_s, self.prompt_tokens, self.output_tokens, self.shared_with, self.shared_tokens,
        ):  # fmt: skip
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @property
    def rate(self) -> float:
        """Requests a second over the span of the arrivals."""
        span = float(self.arrived_s[-1] - self.arrived_s[0])
        return (len(self) - 1) / span if span > 0 else math.inf

    def scaled(self, rate: float) -> RequestTrace:
        """The same requests arriving ``rate`` times as fast."""
        result = RequestTrace(self.name, self.arrived_s / rate, self.prompt_tokens, self.output_tokens)
        result.shared_with, result.shared_tokens = self.shared_with, self.shared_tokens
        return result

    def first(self, count: int) -> RequestTrace:
        """The first ``count`` requests."""
        result = RequestTrace(self.name, self.arrived_s[:count], self.prompt_tokens[:count], self.output_tokens[:count])
        result.shared_with, result.shared_tokens = self.shared_with[:count], self.shared_tokens[:count]
        return result

    def csv(self) -> str:
        """The trace as CSV text in our own form."""
        out = io.StringIO()
        shares = bool((self.shared_with >= 0).any())
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["arrived_s", "prompt_tokens", "output_tokens", *(["shared_with", "shared_tokens"] * shares)])
        columns = [self.arrived_s, self.prompt_tokens, self.output_tokens]
        columns += [self.shared_with, self.shared_tokens] if shares else []
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
        return out.getvalue()


# --- readers ---------------------------------------------------------------------------------------------------------


def read_trace(path: str | Path) -> RequestTrace:
    """A trace from a file of one of the forms of this module.

    Raises:
        ArchGymError: one sentence with the line of the first bad request.
    """
    path = Path(path)
    where = f"the request trace {quote_path(path)}"
    if path.suffix in (".jsonl", ".json") or path.name.endswith(".jsonl.gz"):
        return _read_mooncake(path, where)
    if path.suffix == ".gz":
        raise ArchGymError(f"{where} is compressed; unpack it first (only .jsonl.gz is read as it is)")
    text = read_text(path, "request trace", LARGEST_FILE)
    if text.lstrip()[:1] == "{":
        return _read_mooncake(path, where)
    lines = csv.reader(io.StringIO(text))
    try:
        header = [cell.strip().lower() for cell in next(lines, [])]
        rows = [(lines.line_num, row) for row in lines if row and any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ArchGymError(f"{where} is not CSV ({error})") from None
    for columns, form in FORMS.items():
        if all(column in header for column in columns):
            return _from_rows(path, where, header, rows, columns, form)
    raise ArchGymError(
        f"{where} has the columns {quote(','.join(header))}; expected arrived_s,prompt_tokens,output_tokens (or vidur's "
        "or Azure's names, or Mooncake's JSON lines)"
    )


def _from_rows(
    path: Path, where: str, header: list[str], rows: list[tuple[int, list[str]]], columns: Sequence[str], form: str
) -> RequestTrace:
    sharing = ("shared_with", "shared_tokens")
    known = {*columns, *sharing} if form == "ours" else None
    for name in header:
        if known is not None and name not in known:
            raise ArchGymError(f"{where} has the column {quote(name)}, which nothing reads; remove it")
        if header.count(name) > 1:
            raise ArchGymError(f"{where} has the column {quote(name)} twice; keep one of them")
    if form == "ours" and ("shared_with" in header) != ("shared_tokens" in header):
        raise ArchGymError(f"{where} has one of the columns shared_with and shared_tokens; give both or none")
    at = [header.index(column) for column in columns]
    shares = [header.index(column) for column in sharing] if known and sharing[0] in header else []
    arrived, prompt, output, with_, tokens = [], [], [], [], []
    for number, row in rows:
        line = f"{where}, line {number}"
        if len(row) != len(header):
            raise ArchGymError(f"{line}, has {len(row)} columns; the header has {len(header)}")
        arrived.append(_timestamp(row[at[0]], line) if form == "azure" else _seconds(row[at[0]], line))
        prompt.append(_tokens(row[at[1]], line, columns[1]))
        output.append(_tokens(row[at[2]], line, columns[2]))
        if shares:
            with_.append(_whole(row[shares[0]], line, "shared_with", -1, len(arrived) - 2))
            tokens.append(_whole(row[shares[1]], line, "shared_tokens", 0, prompt[-1]))
            if with_[-1] >= 0 and tokens[-1] > prompt[with_[-1]]:
                raise ArchGymError(f"{line}, shares {tokens[-1]} tokens with a prompt of {prompt[with_[-1]]}")
    if form == "azure" and arrived:
        first = min(arrived)
        arrived = [value - first for value in arrived]
    return RequestTrace(path.stem, arrived, prompt, output, with_ or None, tokens or None)


def _seconds(text: str, line: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise ArchGymError(f"{line}, arrives at {quote(text)}; expected seconds from 0")
    return value


def _timestamp(text: str, line: str) -> float:
    """Seconds of an ISO time; Azure writes seven digits of fraction."""
    stem, _, fraction = text.strip().partition(".")
    try:
        moment = datetime.fromisoformat(stem.removesuffix("Z"))
        return (moment.replace(tzinfo=None) - datetime(2000, 1, 1)).total_seconds() + float(f"0.{fraction or 0}")
    except ValueError:
        raise ArchGymError(
            f"{line}, has the time {quote(text)}; expected one like 2023-11-16 18:15:46.6805900"
        ) from None


def _whole(text: str, line: str, what: str, low: int, high: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (low <= value <= high and value == int(value)):
        raise ArchGymError(f"{line}, has {what} {quote(text, 40)}; expected a whole number from {low} to {high}")
    return int(value)


def _tokens(text: str, line: str, what: str) -> int:
    return _whole(text, line, what, 1, MAX_TOKENS)


def _read_mooncake(path: Path, where: str) -> RequestTrace:
    if not path.is_file():
        raise ArchGymError(f"there is no request trace {quote_path(path)}; give the path of a file that exists")
    arrived: list[float] = []
    prompt: list[int] = []
    output: list[int] = []
    with_: list[int] = []
    shared: list[int] = []
    latest: dict[tuple[int, int], int] = {}  # (position, hash) -> the last request with it there
    for number, row in read_json_lines(path, "request trace"):
        line = f"{where}, line {number}"
        if not isinstance(row, dict) or not {"timestamp", "input_length", "output_length"} <= set(row):
            raise ArchGymError(f"{line}, lacks timestamp, input_length or output_length of Mooncake's form")
        if len(arrived) >= MAX_REQUESTS:
            raise ArchGymError(f"{where} holds more than {MAX_REQUESTS:,} requests, the most that are read")
        arrived.append(_seconds(str(row["timestamp"]), line) / 1e3)
        prompt.append(_tokens(str(row["input_length"]), line, "input_length"))
        output.append(_tokens(str(row["output_length"]), line, "output_length"))
        hashes = row.get("hash_ids", [])
        if not isinstance(hashes, list) or not all(isinstance(h, int) and not isinstance(h, bool) for h in hashes):
            raise ArchGymError(f"{line}, has hash_ids that are no list of whole numbers")
        found, common = -1, 0
        for depth, value in enumerate(hashes):
            if (depth, value) not in latest:
                break
            found, common = latest[depth, value], depth + 1
        with_.append(found)
        whole = min(common * MOONCAKE_BLOCK, prompt[-1], prompt[found] if found >= 0 else 0)
        shared.append(whole)
        for depth, value in enumerate(hashes):
            latest[depth, value] = len(arrived) - 1
    return RequestTrace(path.stem, arrived, prompt, output, with_, shared)


# --- generators --------------------------------------------------------------------------------------------------


@cache
def fitted() -> Mapping[str, Mapping[str, Any]]:
    """Generators by name of the public trace that they were fitted to (``data/traces.json``)."""
    text = resources.files("archgym.simulators.llm").joinpath("data/traces.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = parse_json(text, "data/traces.json")
    return found


def trace(name: str, **options: Any) -> RequestTrace:
    """A trace by name: ``file:PATH``, or a fitted generator with the options of :func:`generate`."""
    if (path := own_file(name)) is not None:
        if options:
            raise ArchGymError(f"a trace of a file takes no option {next(iter(options))!r}; leave it out")
        return read_trace(path)
    if name not in fitted():
        raise UnknownNameError("request trace", name[:80], [*fitted(), "file:PATH"])
    return generate(name, fitted()[name], **options)


def generate(
    name: str,
    parameters: Mapping[str, Any],
    *,
    requests: int = 0,
    seed: int | None = None,
    prefix_tokens: int = 0,
    prefix_groups: int = 1,
) -> RequestTrace:
    """Draw a trace.

    Args:
        name: its name.
        parameters: what :func:`fit_generator` gives.
        requests: how many; as many as the trace that was fitted where 0.
        seed: of the draw; the fitted one where None.
        prefix_tokens: first tokens of a prompt that all requests of a group share (a system prompt); shorter prompts
            share all but one of their tokens.
        prefix_groups: how many groups; the g-th is chosen with probability proportional to 1/g.
    """
    for what, value, low, high in (
        ("requests", requests, 0, MAX_REQUESTS), ("prefix_tokens", prefix_tokens, 0, MAX_TOKENS),
        ("prefix_groups", prefix_groups, 1, 1_000_000), ("seed", seed or 0, 0, 2**63),
    ):  # fmt: skip
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ArchGymError(f"{what} is {quote(value, 40)}; expected a whole number from {low} to {high}")
    n = requests or int(parameters["requests"])
    rng = np.random.default_rng(int(parameters["seed"]) if seed is None else seed)
    moments = max(1, round(n / float(parameters["mean"]["together"])))
    gaps, together = _drawn(PAIRS[0], moments, parameters, rng)
    counts = np.maximum(np.rint(together), 1).astype(np.int64)
    moment = np.minimum(np.repeat(np.arange(moments), counts)[:n], moments - 1)
    moment = np.append(moment, np.full(n - len(moment), moments - 1))  # rounding left some over
    arrived = (np.cumsum(gaps) - gaps[0])[moment]
    lengths = [np.maximum(np.rint(x), 1).astype(np.int64) for x in _drawn(PAIRS[1], n, parameters, rng)]
    with_ = tokens = None
    if prefix_tokens:
        weight = 1.0 / np.arange(1, prefix_groups + 1)
        group = rng.choice(prefix_groups, n, p=weight / weight.sum())
        with_, tokens = _share(group, lengths[0], prefix_tokens)
    return RequestTrace(name, arrived, lengths[0], lengths[1], with_, tokens)


def _drawn(
    pair: Sequence[str], n: int, parameters: Mapping[str, Any], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Values of two correlated series with slow parts, ``(n,)`` each. Their ranks are spread evenly and mapped to the
    quantiles; as these are joined by straight lines, the mean is put back to the fitted one."""
    correlation = float(parameters["correlation"][pair[1]])
    root = np.array([[1.0, 0.0], [correlation, math.sqrt(max(0.0, 1.0 - correlation**2))]])
    noise, slow = root @ rng.standard_normal((2, n)), root @ rng.standard_normal((2, n))
    found = []
    for j, series in enumerate(pair):
        share, memory = parameters["slow_share"][series], parameters["slow_memory"][series]
        walk = slow[j]
        for i in range(1, n):
            walk[i] = memory * walk[i - 1] + math.sqrt(1 - memory**2) * walk[i]
        latent = math.sqrt(share) * walk + math.sqrt(1 - share) * noise[j]
        ranks = np.empty(n)
        ranks[np.argsort(latent, kind="stable")] = (np.arange(n) + 0.5) / n
        values = np.interp(ranks, LEVELS, np.asarray(parameters["quantiles"][series], dtype=np.float64))
        mean = float(values.mean())
        found.append(values * (float(parameters["mean"][series]) / mean) if mean > 0 else values)
    return found


def _share(
    group: NDArray[np.int64], prompt: NDArray[np.int64], tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each request shares with the one before it of its group."""
    with_, shared = np.full(len(group), -1), np.zeros(len(group), np.int64)
    last: dict[int, int] = {}
    for i, g in enumerate(group.tolist()):
        if g in last:
            with_[i] = last[g]
            shared[i] = min(tokens, int(prompt[i]), int(prompt[last[g]]))
        last[g] = i
    return with_, shared


def fit_generator(given: RequestTrace, seed: int = 0) -> dict[str, Any]:
    """Parameters of a generator from a trace: quantiles of its series, correlations of their normal scores, and for
    each the share and memory of a slowly varying part, from the autocorrelation of the scores."""
    from scipy.stats import norm, rankdata

    columns = series_of(given)
    scores = {s: norm.ppf((rankdata(c) - 0.5) / len(c)) for s, c in columns.items()}
    share, memory, correlation = {}, {}, {}
    for series, score in scores.items():
        share[series], memory[series] = _slow_part(score)
    for one, other in PAIRS:
        varies = np.ptp(scores[one]) > 0 and np.ptp(scores[other]) > 0
        correlation[other] = round(float(np.corrcoef(scores[one], scores[other])[0, 1]), 4) if varies else 0.0
    return {
        "requests": len(given),
        "seed": seed,
        "mean": {s: float(f"{c.mean():.6g}") for s, c in columns.items()},
        "quantiles": {s: [float(f"{value:.5g}") for value in np.quantile(c, LEVELS)] for s, c in columns.items()},
        "correlation": correlation,
        "slow_share": share,
        "slow_memory": memory,
    }


def series_of(given: RequestTrace) -> dict[str, NDArray[np.float64]]:
    """The series of a generator in a trace: gaps between moments of arrival (the first is the mean gap), requests at
    each, prompt and output tokens."""
    moments, together = np.unique(given.arrived_s, return_counts=True)
    gaps = np.diff(moments, prepend=moments[0])
    gaps[0] = gaps[1:].mean() if len(gaps) > 1 else 0.0
    columns = (gaps, together, given.prompt_tokens, given.output_tokens)
    return {s: np.asarray(c, dtype=np.float64) for s, c in zip(SERIES, columns, strict=True)}


def autocorrelation(values: ArrayLike, lags: Sequence[int]) -> list[float]:
    """Autocorrelation of a series at some lags; 0 where it does not vary."""
    x = np.asarray(values, dtype=np.float64)
    x = x - x.mean()
    power = float(x @ x)
    return [float(x[:-k] @ x[k:]) / power if power > 0 and len(x) > k else 0.0 for k in lags]


def _slow_part(score: NDArray[np.float64]) -> tuple[float, float]:
    """Share and memory a step of the slow part: share * memory^lag fitted to the autocorrelation at lags 1 to 32. A
    share below the noise of the estimate counts as none."""
    from scipy.optimize import curve_fit

    lags = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    found = autocorrelation(score, lags)
    if len(score) < 40 or not np.ptp(score):
        return 0.0, 0.0
    noise = 2.0 / math.sqrt(len(score))
    if max(np.mean(found[:4]), np.mean(found)) < noise / 2:
        return 0.0, 0.0
    (share, memory), _ = curve_fit(
        lambda lag, a, m: a * m**lag, lags, found, p0=(max(found[0], 0.05), 0.9), bounds=([0.0, 0.0], [0.95, 0.999])
    )
    return round(float(share), 4), round(float(memory), 4)


def write_generators(path: Path, made: Mapping[str, Mapping[str, Any]]) -> None:
    """Put fitted generators into a file, in place of those of the same names."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found |= made
    rows = [f" {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
