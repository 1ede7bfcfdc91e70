"""The serving simulation: requests through a router, queues, batches and pipeline stages of replicas, by events.

One request trace on one server; everything happens in the order (time, creation number) of a heap of events, as in the
reference of fidelity ``schedule`` (Agrawal et al., "Vidur", MLSys 2024). What a batch costs is the caller's:
:class:`Cost`. Four batching policies: ``mixed`` (vLLM v1: one token budget for running and new requests), ``chunked``
(Sarathi-Serve, OSDI 2024), ``prompts_first`` (vLLM of 2023, SOSP 2023), ``orca`` (iteration-level batching with
reserved memory, OSDI 2022).

A request counts ``done`` tokens: prompt tokens processed and, from the end of its prompt on, output tokens emitted. A
restart (a preempted request gives up its memory) turns what it has emitted into prompt.

Steady stretches: where a batch holds every running request of a replica, all of them decoding, the following
iterations are equal but for the growing contexts until a request ends, memory runs short or a request arrives. They
are taken as one batch of several steps. Under the linear law the times of the steps are summed one by one, which gives
the same bits; else the sum is closed, because between the knots of its tables a step's time is linear in the context.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIXED, CHUNKED, PROMPTS_FIRST, ORCA = 0, 1, 2, 3
ROUND_ROBIN, LEAST_WAITING, LEAST_TOKENS = 0, 1, 2
LAW, CLOSED, TABLE = 0, 1, 2

RECORD = (
    "replica", "start_s", "end_s", "requests", "tokens", "prefills", "decodes", "decode_id_sum", "steps",
    "running", "waiting", "blocks", "preemptions",
)  # fmt: skip
"""Columns of a recorded batch; ``running`` to ``preemptions`` are of its replica when it was formed."""
TOTALS = (
    "iterations", "batches", "tokens", "busy_s", "decode_s", "decode_bytes", "prompt_s", "preemptions", "peak_blocks",
    "end_s",
)  # fmt: skip
"""What a simulation adds up: iterations and batches formed (a stretch is one batch), seconds of stages at work, and
apart those of decode-only batches with the bytes these read from memory, and those of batches with prompt pieces."""


REQUEST = np.dtype(
    [
        *((name, np.float64) for name in ("arrived", "scheduled", "first", "finished")),
        *(
            (name, np.int64)
            for name in (
                "prompt", "output", "done", "complete", "blocks", "restarts", "order", "next", "asked", "parent",
                "shared", "replica", "freed_at", "freed_free", "freed_full",
            )
        ),
    ]
)  # fmt: skip
"""A request and what becomes of it; rows in order of arrival. ``prompt`` and ``output`` change at restarts, ``asked`` is
the prompt as it came. ``parent`` is the earlier request whose first ``shared`` tokens are this one's too, -1 for none.
A request may arrive ``complete``, with the cache of its prompt filled elsewhere."""

SERVER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "policy", "router", "stages", "replicas", "cap", "batch", "budget", "padded", "block", "blocks",
            "watermark", "reserved", "cache", "ties", "skip",
        )
    ]
)  # fmt: skip
"""The server; counts are of one replica. ``policy`` and ``router`` are codes of this module; ``stages`` those of the
pipeline; at most ``cap`` requests hold memory, at most ``batch`` are in a batch of ``orca``; ``budget`` tokens of an
iteration (``mixed``, ``chunked``), ``padded`` those of a batch of prompts, each counted as long as the longest
(``prompts_first``); ``block`` tokens of a memory block, ``blocks`` of them, of which newcomers leave ``watermark`` free
and each takes ``reserved`` for good under ``orca``. ``cache`` 1: blocks given up are found again while nobody took them;
``ties`` 1: the router breaks ties by requests in memory instead of by number; ``skip`` 1: steady stretches at once."""

Table = Any  # an array of REQUEST
Record = Any  # a row of SERVER


class Cost(NamedTuple):
    """What a batch costs, s.

    ``kind`` LAW: (c0 + c1*T + c2*Q + c3*K)/stages, + c4 with several stages, with T tokens of the batch, Q the sum
    over prompt pieces t of t*(2*done + t), K the sum of done over decodes.

    CLOSED: ``dense`` (at ``tokens`` of the batch) + ``head`` (at ``emitting`` requests that emit) + attention, then
    / stages and + hand-over c4 + c5*T. Attention over prompt pieces takes c0 + c1*(context + c2)*(tokens + c3), over
    decodes the table ``attention`` on the axes ``decodes`` and ``context`` (their mean).

    TABLE: as CLOSED, but all attention from a table with the axes ``chunk`` (prompt tokens of the batch), ``prefix``
    (their context, weighted by tokens), ``decodes`` and ``context``.

    ``window``: tokens of context that the share ``windowed`` of the layers sees (of prompt pieces under CLOSED).
    ``traffic``: bytes of weights that a step of so many ``tokens`` reads; ``cache_bytes``: of one cached token.
    """

    kind: int
    law: Floats
    tokens: Floats
    dense: Floats
    traffic: Floats
    emitting: Floats
    head: Floats
    chunk: Floats
    prefix: Floats
    decodes: Floats
    context: Floats
    attention: Floats
    cache_bytes: float
    window: float
    windowed: float


def fresh(arrived: Floats, prompt: Ints, output: Ints, parent: Ints | None = None, shared: Ints | None = None) -> Any:
    """Requests at the start, an array of REQUEST."""
    rows = np.zeros(len(arrived), REQUEST)
    rows["arrived"], rows["prompt"], rows["output"], rows["asked"] = arrived, prompt, output, prompt
    rows["scheduled"] = rows["first"] = rows["finished"] = np.nan
    rows["parent"] = -1 if parent is None else parent
    rows["shared"] = 0 if shared is None else shared
    rows["replica"] = -1
    return rows


# --- time ----------------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _cell(grid: Floats, x: float) -> int:
    """Index i of the grid cell that x lies in, for use between i and i + 1; the first or last where outside."""
    low, high = 0, len(grid) - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if grid[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@inner(error_model="numpy")
def _interpolated(grid: Floats, values: Floats, x: float) -> float:
    """Linear between the points of the grid, the outer cells continued."""
    if len(grid) == 1:
        return values[0]
    i = _cell(grid, x)
    return values[i] + (values[i + 1] - values[i]) * ((x - grid[i]) / (grid[i + 1] - grid[i]))


@inner(error_model="numpy")
def _bilinear(rows: Floats, columns: Floats, values: Floats, x: float, y: float) -> float:
    """Linear in x and y between the nodes of a table (flat, row by row), the outer cells continued."""
    i, j, n = _cell(rows, x), _cell(columns, y), len(columns)
    u = (x - rows[i]) / (rows[i + 1] - rows[i])
    v = (y - columns[j]) / (columns[j + 1] - columns[j])
    low = values[i * n + j] + v * (values[i * n + j + 1] - values[i * n + j])
    high = values[(i + 1) * n + j] + v * (values[(i + 1) * n + j + 1] - values[(i + 1) * n + j])
    return low + u * (high - low)


@inner(arrays=True, error_model="numpy")
def _attention(cost: Cost, chunk: float, prefix: float, decodes: float, context: float) -> float:
    """Multilinear interpolation of the attention table."""
    axes = (cost.chunk, cost.prefix, cost.decodes, cost.context)
    point = (chunk, prefix, decodes, context)
    cell = np.empty(4, np.int64)
    share = np.empty(4)
    stride = np.empty(4, np.int64)
    step = 1
    for axis in range(3, -1, -1):
        grid = axes[axis]
        stride[axis] = step
        step *= len(grid)
        if len(grid) == 1:
            cell[axis], share[axis] = 0, 0.0
        else:
            i = _cell(grid, point[axis])
            cell[axis] = i
            share[axis] = (point[axis] - grid[i]) / (grid[i + 1] - grid[i])
    total = 0.0
    for corner in range(16):
        weight = 1.0
        index = 0
        for axis in range(4):
            up = (corner >> axis) & 1
            weight *= share[axis] if up else 1.0 - share[axis]
            index += (cell[axis] + up) * stride[axis]
        if weight != 0.0:
            total += weight * cost.attention[index]
    return total


@inner(error_model="numpy")
def batch_seconds(
    cost: Cost, stages: int, tokens: int, q: int, k: int, decodes: int, chunk: int, prefix: int, emitting: int
) -> float:
    """Seconds one stage takes for a batch.

    Args:
        tokens, q, k: T, Q and K of :class:`Cost`.
        decodes: requests that decode; chunk: prompt tokens; prefix: sum over pieces of t*done; emitting: requests that
            emit a token.
    """
    law = cost.law
    if cost.kind == LAW:
        seconds = (law[0] + law[1] * tokens + law[2] * q + law[3] * k) / stages
        return seconds + law[4] if stages > 1 else seconds
    seconds = _interpolated(cost.tokens, cost.dense, float(tokens))
    if emitting > 0:
        seconds += _interpolated(cost.emitting, cost.head, float(emitting))
    if cost.kind == CLOSED:
        if chunk > 0:
            context = 0.5 * q / chunk
            if cost.windowed > 0.0:
                context += cost.windowed * (min(context, cost.window) - context)
            seconds += law[0] + law[1] * (context + law[2]) * (chunk + law[3])
        if decodes > 0:
            seconds += _bilinear(cost.decodes, cost.context, cost.attention, float(decodes), k / decodes)
    else:
        mean = k / decodes if decodes > 0 else 0.0
        before = prefix / chunk if chunk > 0 else 0.0
        seconds += _attention(cost, float(chunk), before, float(decodes), mean)
    if stages > 1:
        seconds = seconds / stages + law[4] + law[5] * tokens
    return seconds


@inner(error_model="numpy")
def _next_knot(cost: Cost, context: float) -> float:
    """The next mean context at which a decode step's time stops being linear in it (TABLE)."""
    grid = cost.context
    if len(grid) < 3:
        return np.inf
    i = _cell(grid, context)
    return grid[i + 1] if i + 2 < len(grid) else np.inf


@inner(error_model="numpy")
def _stretch(cost: Cost, now: float, most: int, n: int, k: int, arrival: float) -> tuple[int, float]:
    """How many decode steps of ``n`` requests with ``k`` tokens of context follow one another from ``now`` on (at
    most ``most``, and none that begins at or after ``arrival``), and when the last ends."""
    time, steps = now, 0
    if cost.kind == LAW:
        while steps < most:
            time = time + batch_seconds(cost, 1, n, 0, k + steps * n, n, 0, 0, n)
            steps += 1
            if time >= arrival:
                break
        return steps, time
    context = k / n
    if cost.kind == CLOSED:
        # All but the decodes' attention stays the same; between two nodes of its table a step adds the same.
        fixed = _interpolated(cost.tokens, cost.dense, float(n)) + _interpolated(cost.emitting, cost.head, float(n))
        columns, values, width = cost.context, cost.attention, len(cost.context)
        i, j = _cell(cost.decodes, float(n)), _cell(columns, context)
        share = (n - cost.decodes[i]) / (cost.decodes[i + 1] - cost.decodes[i])
        row = i * width
        while steps < most and (steps == 0 or time < arrival):
            while j + 2 < width and columns[j + 1] <= context:
                j += 1
            low = values[row + j] + share * (values[row + width + j] - values[row + j])
            high = values[row + j + 1] + share * (values[row + width + j + 1] - values[row + j + 1])
            slope = (high - low) / (columns[j + 1] - columns[j])
            begin = fixed + low + slope * (context - columns[j])
            count = most - steps
            if j + 2 < width:
                count = min(count, int(columns[j + 1] - context) + 1)
            count, total = _until(begin, slope, count, arrival - time)
            time += total
            steps += count
            context += count
        return steps, time
    while steps < most and (steps == 0 or time < arrival):
        context = (k + steps * n) / n
        begin = batch_seconds(cost, 1, n, 0, k + steps * n, n, 0, 0, n)
        count = int(min(float(most - steps), np.floor(_next_knot(cost, context) - context) + 1.0))
        slope = 0.0
        if count > 1:
            slope = batch_seconds(cost, 1, n, 0, k + (steps + 1) * n, n, 0, 0, n) - begin
        count, total = _until(begin, slope, count, arrival - time)
        time += total
        steps += count
    return steps, time


@inner(error_model="numpy")
def _until(begin: float, slope: float, count: int, gap: float) -> tuple[int, float]:
    """The first of up to ``count`` steps of begin, begin + slope, ... seconds whose sum reaches ``gap`` (all where none
    does), and the sum."""
    total = count * begin + slope * (0.5 * count * (count - 1.0))
    if count < 2 or total <= gap:
        return count, total
    if abs(slope) * gap > 1e-9 * begin * begin:
        b = begin - 0.5 * slope
        root = (np.sqrt(max(b * b + 2.0 * slope * gap, 0.0)) - b) / slope
    else:
        root = gap / begin
    count = max(1, min(count, int(root)))
    while count > 1 and (count - 1) * begin + slope * (0.5 * (count - 1.0) * (count - 2.0)) >= gap:
        count -= 1
    while count * begin + slope * (0.5 * count * (count - 1.0)) < gap:
        count += 1
    return count, count * begin + slope * (0.5 * count * (count - 1.0))


@inner(error_model="numpy", inline="always")
def _blocks(tokens: int, inverse: float) -> int:
    """Blocks that ``tokens`` take, from the inverse of a block's tokens: several times as fast as dividing, and exact,
    because a half keeps every quotient away from whole numbers by more than its rounding."""
    return int((tokens - 0.5) * inverse) + 1 if tokens > 0 else 0


# --- queues and memory ---------------------------------------------------------------------------------------------


REPLICA = np.dtype(
    [
        (name, np.int64)
        for name in (
            "head", "tail", "waiting", "count", "free", "holders", "flying", "taken", "given", "admitted", "preempted",
        )
    ]
)  # fmt: skip
"""A replica: its waiting queue (a linked list of requests) and how many wait; how many run and are in no batch; free
blocks, requests that hold some, batches in flight, blocks taken so far, prompt tokens of unfinished requests given to
it, admissions and restarts so far."""
BATCH = np.dtype(
    [
        *((name, np.float64) for name in ("seconds", "end")),
        *((n, np.int64) for n in ("size", "steps", "record", "busy")),
    ]
)
"""A batch in flight: seconds in a stage, when it ends (one stage), requests, steps, row of the record, slot in use."""


class Replicas(NamedTuple):
    """Replicas; the requests that run and are in no batch, a row a replica; room to set requests aside."""

    at: Any
    running: Ints
    aside: Ints


class Batches(NamedTuple):
    """Batches in flight, ``stages`` slots a replica, and their pieces ``(slots, n, 2)``: request, tokens."""

    at: Any
    piece: Ints


@inner(error_model="numpy")
def _push_back(s: Table, p: Replicas, r: int, i: int) -> None:
    s[i].next = -1
    if p.at[r].waiting == 0:
        p.at[r].head = i
    else:
        s[p.at[r].tail].next = i
    p.at[r].tail = i
    p.at[r].waiting += 1


@inner(error_model="numpy")
def _push_front(s: Table, p: Replicas, r: int, i: int) -> None:
    if p.at[r].waiting == 0:
        p.at[r].tail = i
    s[i].next = p.at[r].head if p.at[r].waiting > 0 else -1
    p.at[r].head = i
    p.at[r].waiting += 1


@inner(error_model="numpy")
def _pop_front(s: Table, p: Replicas, r: int) -> int:
    i = p.at[r].head
    p.at[r].head = s[i].next
    p.at[r].waiting -= 1
    return i


@inner(error_model="numpy")
def _take(s: Table, p: Replicas, r: int, i: int, blocks: int) -> None:
    """Give ``i`` further blocks."""
    if s[i].blocks == 0 and blocks > 0:
        p.at[r].holders += 1
    s[i].blocks += blocks
    p.at[r].free -= blocks
    p.at[r].taken += blocks


@inner(error_model="numpy")
def _give_up(s: Table, p: Replicas, c: Record, r: int, i: int) -> None:
    """Free the blocks of ``i``; note what the cache needs to know of them."""
    computed = s[i].done - s[i].complete
    s[i].freed_full = computed // c.block
    s[i].freed_at = p.at[r].taken
    s[i].freed_free = p.at[r].free
    if s[i].blocks > 0:
        p.at[r].holders -= 1
    p.at[r].free += s[i].blocks
    s[i].blocks = 0


@inner(error_model="numpy")
def _evict(s: Table, p: Replicas, c: Record, r: int, i: int) -> None:
    """Restart ``i``: its memory is given up, what it has emitted becomes prompt, and it waits at the front."""
    _give_up(s, p, c, r, i)
    # The policies of the reference also cut a prompt that was not complete; vLLM v1 does not.
    if s[i].complete == 1 or c.policy != MIXED:
        s[i].output += s[i].prompt - s[i].done
        s[i].prompt = s[i].done
    s[i].done = 0
    s[i].complete = 0
    s[i].restarts += 1
    p.at[r].preempted += 1
    _push_front(s, p, r, i)


@inner(error_model="numpy")
def _kept(s: Table, p: Replicas, c: Record, r: int, j: int) -> int:
    """Blocks of ``j``, given up earlier, that nobody has taken since: those ahead of them in the free queue go first."""
    return max(0, s[j].freed_full - max(0, p.at[r].taken - s[j].freed_at - s[j].freed_free))


@inner(error_model="numpy")
def _cached_tokens(s: Table, p: Replicas, c: Record, r: int, i: int) -> int:
    """Prompt tokens of the newcomer ``i`` whose memory the replica still holds, whole blocks; at least one is left."""
    if c.cache == 0:
        return 0
    found = 0
    if s[i].restarts > 0:
        found = _kept(s, p, c, r, i)
    j = s[i].parent
    if j >= 0 and s[j].replica == r:
        whole = s[i].shared // c.block
        if s[j].blocks > 0:
            whole = min(whole, (s[j].done - s[j].complete) // c.block)
        else:
            whole = min(whole, _kept(s, p, c, r, j))
        found = max(found, whole)
    return min(found, (s[i].prompt - 1) // c.block) * c.block


@inner(error_model="numpy")
def _sort_running(s: Table, p: Replicas, c: Record, r: int) -> None:
    """Stable sort by arrival (``mixed``: by admission); nearly sorted as it is."""
    row = p.running[r]
    for a in range(1, p.at[r].count):
        i = row[a]
        b = a - 1
        if c.policy == MIXED:
            while b >= 0 and s[row[b]].order > s[i].order:
                row[b + 1] = row[b]
                b -= 1
        else:
            while b >= 0 and s[row[b]].arrived > s[i].arrived:
                row[b + 1] = row[b]
                b -= 1
        row[b + 1] = i


@inner(error_model="numpy")
def _keep_running(p: Replicas, r: int, begin: int, end: int) -> None:
    """Drop the first ``begin`` of the running requests and those from ``end`` on."""
    row = p.running[r]
    for a in range(begin, end):
        row[a - begin] = row[a]
    p.at[r].count = end - begin


@inner(error_model="numpy")
def _add(b: Batches, slot: int, i: int, tokens: int) -> None:
    b.piece[slot, b.at[slot].size, 0] = i
    b.piece[slot, b.at[slot].size, 1] = tokens
    b.at[slot].size += 1


@inner(error_model="numpy")
def _hold(s: Table, p: Replicas, c: Record, r: int, i: int) -> None:
    """The block that a decode of ``i`` may need, under the reference's rule."""
    if s[i].done > s[i].blocks * c.block:
        _take(s, p, r, i, 1)


@inner(error_model="numpy")
def _decode_or_evict(s: Table, p: Replicas, c: Record, r: int, i: int, begin: int, end: int) -> tuple[bool, int]:
    """Make room for a decode of ``i`` by evicting from the end of running, at last ``i`` itself. Returns whether it
    decodes, and the new end of running."""
    while p.at[r].free < 1:
        if end > begin:
            end -= 1
            _evict(s, p, c, r, p.running[r, end])
        else:
            _evict(s, p, c, r, i)
            return False, end
    _hold(s, p, c, r, i)
    return True, end


# --- policies --------------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _newcomer_blocks(s: Table, c: Record, i: int) -> int:
    return -(-s[i].prompt // c.block)


@inner(error_model="numpy")
def _form_prompts_first(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> None:
    """New prompts alone, whole, while they fit; else a decode of every running request."""
    micro = c.cap // c.stages
    longest = 0
    while p.at[r].waiting > 0:
        i = p.at[r].head
        piece = s[i].prompt - s[i].done if s[i].complete == 0 else 1
        blocks = _newcomer_blocks(s, c, i)
        longest = max(longest, piece)
        if p.at[r].free - blocks < c.watermark or (b.at[slot].size + 1) * longest > c.padded:
            break
        if p.at[r].holders == c.cap or b.at[slot].size == micro:
            break
        _take(s, p, r, _pop_front(s, p, r), blocks)
        _add(b, slot, i, piece)
    if b.at[slot].size > 0:
        return
    _sort_running(s, p, c, r)
    begin, end = 0, p.at[r].count
    while begin < end and b.at[slot].size < micro:
        i = p.running[r, begin]
        begin += 1
        decodes, end = _decode_or_evict(s, p, c, r, i, begin, end)
        if decodes:
            _add(b, slot, i, 1)
    _keep_running(p, r, begin, end)


@inner(error_model="numpy")
def _form_chunked(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> None:
    """Decodes first, then pieces of started prompts, then new prompts, within one budget of tokens."""
    micro = c.cap // c.stages
    n = 0
    begin, end, aside = 0, p.at[r].count, 0
    while begin < end and b.at[slot].size < micro:
        i = p.running[r, begin]
        begin += 1
        if s[i].complete == 0:
            p.aside[aside] = i
            aside += 1
            continue
        decodes, end = _decode_or_evict(s, p, c, r, i, begin, end)
        if decodes:
            _add(b, slot, i, 1)
            n += 1
    skipped = 0
    for a in range(aside):
        i = p.aside[a]
        piece = max(0, min(s[i].prompt - s[i].done, c.budget - n))
        if piece == 0:
            p.aside[skipped] = i
            skipped += 1
        else:
            _add(b, slot, i, piece)
            n += piece
    # At least as many were taken from the front as were skipped: shift back, never forward.
    row = p.running[r]
    kept = end - begin
    if skipped > 0:
        for a in range(kept):
            row[skipped + a] = row[begin + a]
        for a in range(skipped):
            row[a] = p.aside[a]
        p.at[r].count = skipped + kept
    else:
        _keep_running(p, r, begin, end)
    _sort_running(s, p, c, r)
    while p.at[r].waiting > 0:
        i = p.at[r].head
        blocks = _newcomer_blocks(s, c, i)
        if p.at[r].holders == c.cap or b.at[slot].size == micro or p.at[r].free - blocks < c.watermark:
            break
        # A cache that came from elsewhere leaves a decode.
        piece = 1 if s[i].complete == 1 else max(0, min(s[i].prompt - s[i].done, c.budget - n))
        if piece == 0:
            break
        _take(s, p, r, _pop_front(s, p, r), blocks)
        _add(b, slot, i, piece)
        n += piece


@inner(error_model="numpy")
def _form_orca(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> None:
    """Everything that runs and new whole prompts, up to a number of requests; memory is reserved for good."""
    begin, end = 0, p.at[r].count
    while begin < end and b.at[slot].size < c.batch:
        i = p.running[r, begin]
        begin += 1
        _add(b, slot, i, 1 if s[i].complete == 1 else s[i].prompt - s[i].done)
    _keep_running(p, r, begin, end)
    while p.at[r].waiting > 0 and b.at[slot].size < c.batch and p.at[r].free >= c.reserved:
        i = _pop_front(s, p, r)
        _take(s, p, r, i, c.reserved)
        _add(b, slot, i, 1 if s[i].complete == 1 else s[i].prompt - s[i].done)


@inner(error_model="numpy")
def _form_mixed(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> None:
    """One budget of tokens for running requests, in order of admission, and then for new ones; a piece takes the
    blocks it needs, and where none is free the last running request is preempted."""
    budget = c.budget
    inverse = 1.0 / c.block
    begin, end = 0, p.at[r].count
    preempted = False
    while begin < end and budget > 0:
        i = p.running[r, begin]
        piece = min(1 if s[i].complete == 1 else s[i].prompt - s[i].done, budget)
        # Tokens computed after the piece; the newest output token has no cache yet.
        need = _blocks(s[i].done - s[i].complete + piece, inverse) - s[i].blocks
        while need > p.at[r].free and end > begin:
            end -= 1
            _evict(s, p, c, r, p.running[r, end])
            preempted = True
        if end == begin:
            break
        begin += 1
        _take(s, p, r, i, need)
        _add(b, slot, i, piece)
        budget -= piece
    _keep_running(p, r, begin, end)
    if preempted:
        return
    while p.at[r].waiting > 0 and budget > 0 and p.at[r].holders < c.cap:
        i = p.at[r].head
        cached = 0 if s[i].complete == 1 else _cached_tokens(s, p, c, r, i)
        done = max(cached, s[i].done)
        piece = 1 if s[i].complete == 1 else min(s[i].prompt - done, budget)
        need = -(-(done - s[i].complete + piece) // c.block)
        if need > p.at[r].free:
            break
        _pop_front(s, p, r)
        s[i].done = done
        found = cached // c.block
        _take(s, p, r, i, need)
        p.at[r].taken -= found  # found, not taken from the front of the free queue
        s[i].order = p.at[r].admitted
        p.at[r].admitted += 1
        _add(b, slot, i, piece)
        budget -= piece


@inner(error_model="numpy")
def _form(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> None:
    b.at[slot].size = 0
    if c.policy == MIXED:
        _form_mixed(s, p, c, b, r, slot)
    elif c.policy == CHUNKED:
        _form_chunked(s, p, c, b, r, slot)
    elif c.policy == PROMPTS_FIRST:
        _form_prompts_first(s, p, c, b, r, slot)
    else:
        _form_orca(s, p, c, b, r, slot)


@inner(error_model="numpy")
def _steady_steps(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int) -> Any:
    """Steps that a batch of decodes can repeat until the first of its requests ends or memory runs short."""
    most = np.int64(1) << 62
    for a in range(b.at[slot].size):
        i = b.piece[slot, a, 0]
        most = min(most, s[i].prompt + s[i].output - s[i].done)
    if c.policy == ORCA:
        return most
    spare = p.at[r].free - (0 if c.policy == MIXED else 1)
    inverse = 1.0 / c.block
    while most > 1:
        growth = 0
        for a in range(b.at[slot].size):
            i = b.piece[slot, a, 0]
            growth += max(0, _blocks(s[i].done + most - 1, inverse) - s[i].blocks)
        if growth <= spare:
            return most
        # At least one step in growth's place needs a block: halve towards what fits.
        most = most >> 1
    return 1


# --- events ----------------------------------------------------------------------------------------------------------

ROUTE, SCHEDULE, STAGE_IN, STAGE, BATCH_END = 0, 1, 2, 3, 4


class Events(NamedTuple):
    """Events at this moment, a ring of (kind, replica or slot, stage) in order of creation; and the future, which
    holds only ends of stages: a heap of (time, creation number, slot, stage)."""

    ring: Ints
    ends: Ints
    heap_time: Floats
    heap: Ints
    queue: Ints
    queued: Ints
    busy: Ints


@inner(error_model="numpy")
def _post(e: Events, kind: int, what: int, stage: int) -> None:
    """Append an event at this moment. ``ends``: first and next of the ring, size of the heap, creation numbers."""
    ring = e.ring
    k = e.ends[1] % len(ring)
    ring[k, 0], ring[k, 1], ring[k, 2] = kind, what, stage
    e.ends[1] += 1


@inner(error_model="numpy")
def _before(e: Events, x: int, y: int) -> bool:
    if e.heap_time[x] != e.heap_time[y]:
        return e.heap_time[x] < e.heap_time[y]
    return e.heap[x, 0] < e.heap[y, 0]


@inner(error_model="numpy")
def _swap(e: Events, x: int, y: int) -> None:
    e.heap_time[x], e.heap_time[y] = e.heap_time[y], e.heap_time[x]
    for k in range(3):
        e.heap[x, k], e.heap[y, k] = e.heap[y, k], e.heap[x, k]


@inner(error_model="numpy")
def _heap_push(e: Events, time: float, slot: int, stage: int) -> None:
    x = e.ends[2]
    e.ends[2] += 1
    e.heap_time[x] = time
    e.heap[x, 0], e.heap[x, 1], e.heap[x, 2] = e.ends[3], slot, stage
    e.ends[3] += 1
    while x > 0 and _before(e, x, (x - 1) >> 1):
        _swap(e, x, (x - 1) >> 1)
        x = (x - 1) >> 1


@inner(error_model="numpy")
def _heap_pop(e: Events) -> tuple[int, int]:
    slot, stage = e.heap[0, 1], e.heap[0, 2]
    e.ends[2] -= 1
    size = e.ends[2]
    _swap(e, 0, size)
    x = 0
    while True:
        child = 2 * x + 1
        if child >= size:
            break
        if child + 1 < size and _before(e, child + 1, child):
            child += 1
        if not _before(e, child, x):
            break
        _swap(e, x, child)
        x = child
    return slot, stage


@inner(arrays=True, error_model="numpy")
def _route(s: Table, p: Replicas, c: Record, e: Events, first: int, last: int) -> None:
    """Give the requests ``first`` to ``last - 1``, in order of arrival, to replicas, and wake those up."""
    hit = np.zeros(c.replicas, np.int64)
    for i in range(first, last):
        r = 0
        if c.router == ROUND_ROBIN:
            r = i % c.replicas
        else:
            for other in range(1, c.replicas):
                mine = p.at[r].given if c.router == LEAST_TOKENS else p.at[r].waiting
                theirs = p.at[other].given if c.router == LEAST_TOKENS else p.at[other].waiting
                if theirs < mine or (c.ties == 1 and theirs == mine and p.at[other].holders < p.at[r].holders):
                    r = other
        s[i].replica = r
        p.at[r].given += s[i].asked
        _push_back(s, p, r, i)
        hit[r] = 1
    for r in range(c.replicas):
        if hit[r] == 1:
            _post(e, SCHEDULE, r, 0)


@inner(error_model="numpy")
def _next_arrival(s: Table, c: Record, arrived: int, r: int) -> float:
    """When the next request comes that may go to replica ``r``; ``arrived`` have come already."""
    if c.router == ROUND_ROBIN:
        arrived += (r - arrived) % c.replicas
    return s[arrived].arrived if arrived < len(s) else np.inf


@inner(error_model="numpy")
def _measure(
    s: Table, p: Replicas, c: Record, cost: Cost, b: Batches, r: int, slot: int, now: float, alone: bool,
    arrival: float, totals: Floats, batches: Floats, pieces: Ints, counts: Ints,
) -> None:  # fmt: skip
    """Time a batch that was just formed, mark its requests, and note it in the records."""
    tokens, q, k, decodes, chunk, prefix, emitting, id_sum = 0, 0, 0, 0, 0, 0, 0, 0
    record = len(batches) > 0
    for a in range(b.at[slot].size):
        i, t = b.piece[slot, a, 0], b.piece[slot, a, 1]
        if np.isnan(s[i].scheduled) and s[i].restarts == 0:
            s[i].scheduled = now
        tokens += t
        if s[i].complete == 1:
            k += s[i].done
            decodes += 1
            id_sum += i
        else:
            q += t * (2 * s[i].done + t)
            chunk += t
            prefix += t * s[i].done
            emitting += s[i].done + t == s[i].prompt
            if record:
                if counts[1] < len(pieces):
                    pieces[counts[1], 0], pieces[counts[1], 1], pieces[counts[1], 2] = counts[0], i, t
                counts[1] += 1
    emitting += decodes
    steps, end, seconds = 1, np.nan, np.nan
    if alone and decodes == b.at[slot].size and c.stages == 1 and c.skip == 1:
        most = _steady_steps(s, p, c, b, r, slot)
        if most > 1:
            steps, end = _stretch(cost, now, most, decodes, k, arrival)
            if c.policy != ORCA:
                inverse = 1.0 / c.block
                for a in range(b.at[slot].size):
                    i = b.piece[slot, a, 0]
                    grown = _blocks(s[i].done + steps - 1, inverse) - s[i].blocks
                    if grown > 0:
                        _take(s, p, r, i, grown)
            seconds = end - now
    if steps == 1:
        seconds = batch_seconds(cost, c.stages, tokens, q, k, decodes, chunk, prefix, emitting)
        end = now + seconds
    b.at[slot].steps, b.at[slot].seconds, b.at[slot].end = steps, seconds, end
    totals[0] += steps
    totals[1] += 1
    totals[2] += tokens * steps
    totals[3] += seconds * c.stages
    if chunk == 0:
        totals[4] += seconds * c.stages
        traffic = 0.0 if cost.kind == LAW else _interpolated(cost.tokens, cost.traffic, float(tokens))
        totals[5] += steps * traffic + cost.cache_bytes * (float(steps) * k + 0.5 * steps * (steps - 1.0) * decodes)
    else:
        totals[6] += seconds * c.stages
    totals[8] = max(totals[8], float(c.blocks - p.at[r].free))
    b.at[slot].record = -1
    if record:
        if counts[0] < len(batches):
            row = batches[counts[0]]
            row[0], row[1], row[3], row[4] = r, now, b.at[slot].size, tokens
            row[5], row[6], row[7], row[8] = b.at[slot].size - decodes, decodes, id_sum, steps
            row[9], row[10], row[11] = p.at[r].holders, p.at[r].waiting, c.blocks - p.at[r].free
            row[12] = p.at[r].preempted
            b.at[slot].record = counts[0]
        counts[0] += 1


@inner(error_model="numpy")
def _finish_batch(s: Table, p: Replicas, c: Record, b: Batches, r: int, slot: int, now: float) -> None:
    """Count what a batch has done: tokens emitted, prompts complete, requests finished."""
    row = p.running[r]
    count = p.at[r].count
    steps = b.at[slot].steps
    for a in range(b.at[slot].size):
        i = b.piece[slot, a, 0]
        s[i].done += b.piece[slot, a, 1] * steps
        if s[i].done == s[i].prompt:
            s[i].complete = 1
            s[i].done += 1
            if np.isnan(s[i].first):
                s[i].first = now
        if s[i].done == s[i].prompt + s[i].output:
            s[i].finished = now
            _give_up(s, p, c, r, i)
            p.at[r].given -= s[i].asked
        else:
            row[count] = i
            count += 1
    p.at[r].count = count
    if c.policy == MIXED:
        _sort_running(s, p, c, r)


@inner(error_model="numpy")
def _schedule(
    s: Table, p: Replicas, c: Record, cost: Cost, b: Batches, e: Events, r: int, now: float, arrival: float,
    totals: Floats, batches: Floats, pieces: Ints, counts: Ints,
) -> None:  # fmt: skip
    """Form batches while fewer than ``stages`` are in flight."""
    while p.at[r].flying < c.stages:
        slot = r * c.stages
        while b.at[slot].busy == 1:
            slot += 1
        preempted = p.at[r].preempted
        _form(s, p, c, b, r, slot)
        if b.at[slot].size == 0:
            break
        alone = p.at[r].count == 0 and preempted == p.at[r].preempted
        _measure(s, p, c, cost, b, r, slot, now, alone, arrival, totals, batches, pieces, counts)
        b.at[slot].busy = 1
        p.at[r].flying += 1
        _post(e, STAGE_IN, slot, 0)


@kernel(error_model="numpy")
def simulate(
    s: Table, c: Record, cost: Cost, totals: Floats, batches: Floats, pieces: Ints
) -> tuple[int, int]:  # fmt: skip
    """Run the trace to its end; requests that never fit are left unfinished (NaN).

    Args:
        s: the requests (:func:`fresh`); what becomes of them is written here.
        c, cost: the server and what batches cost it.
        totals: float64 ``(10,)``, see ``TOTALS``; written.
        batches: float64 ``(m, 13)``, see ``RECORD``; the first m batches are noted, in order of scheduling.
        pieces: int64 ``(k, 3)``: number of the batch, request and tokens of prompt pieces; the first k are noted.

    Returns:
        How many batches and pieces there were to note; 0 where ``batches`` is empty.
    """
    n, slots = len(s), c.replicas * c.stages
    widest = n if c.policy == ORCA else min(n, c.cap)
    state = np.zeros(c.replicas, REPLICA)
    for r in range(c.replicas):
        state[r].free = c.blocks
    p = Replicas(state, np.empty((c.replicas, widest + 1), np.int64), np.empty(widest + 1, np.int64))
    b = Batches(np.zeros(slots, BATCH), np.empty((slots, widest + 1, 2), np.int64))
    e = Events(
        np.empty((8 * slots + 16, 3), np.int64), np.zeros(4, np.int64), np.empty(slots + 1),
        np.empty((slots + 1, 3), np.int64), np.empty((slots, c.stages + 1), np.int64), np.zeros((slots, 2), np.int64),
        np.zeros(slots, np.int64),
    )  # fmt: skip
    counts = np.zeros(2, np.int64)
    totals[:] = 0.0
    arrived, routed, now = 0, 0, 0.0
    while True:
        if e.ends[0] == e.ends[1]:
            time = s[arrived].arrived if arrived < n else np.inf
            if e.ends[2] > 0:
                time = min(time, e.heap_time[0])
            if time == np.inf:
                break
            now = time
            # Arrivals were created before all other events, ends of stages before all that begins now.
            if arrived < n and s[arrived].arrived == now:
                while arrived < n and s[arrived].arrived == now:
                    arrived += 1
                _post(e, ROUTE, 0, 0)
            while e.ends[2] > 0 and e.heap_time[0] == now:
                slot, stage = _heap_pop(e)
                r = slot // c.stages
                e.busy[r * c.stages + stage] = 0
                _post(e, STAGE, r, stage)
                if stage == c.stages - 1:
                    _post(e, BATCH_END, slot, 0)
                else:
                    _post(e, STAGE_IN, slot, stage + 1)
        k = e.ends[0] % len(e.ring)
        kind, what, stage = e.ring[k, 0], e.ring[k, 1], e.ring[k, 2]
        e.ends[0] += 1
        if kind == ROUTE:
            _route(s, p, c, e, routed, arrived)
            routed = arrived
        elif kind == SCHEDULE:
            arrival = _next_arrival(s, c, arrived, what)
            _schedule(s, p, c, cost, b, e, what, now, arrival, totals, batches, pieces, counts)
        elif kind == STAGE_IN:
            at = what // c.stages * c.stages + stage
            e.queue[at, e.queued[at, 1] % (c.stages + 1)] = what
            e.queued[at, 1] += 1
            _post(e, STAGE, what // c.stages, stage)
        elif kind == STAGE:
            at = what * c.stages + stage
            if e.busy[at] == 0 and e.queued[at, 0] < e.queued[at, 1]:
                slot = e.queue[at, e.queued[at, 0] % (c.stages + 1)]
                e.queued[at, 0] += 1
                e.busy[at] = 1
                # One stage: its end is known, and it begins when its batch is formed.
                _heap_push(e, b.at[slot].end if c.stages == 1 else now + b.at[slot].seconds, slot, stage)
        else:
            r = what // c.stages
            _finish_batch(s, p, c, b, r, what, now)
            b.at[what].busy = 0
            p.at[r].flying -= 1
            if b.at[what].record >= 0:
                batches[b.at[what].record, 2] = now
            _post(e, SCHEDULE, r, 0)
    for r in range(c.replicas):
        totals[7] += p.at[r].preempted
    totals[9] = now
    return counts[0], counts[1]
