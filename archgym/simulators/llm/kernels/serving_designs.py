"""A request trace on many servers: one simulation a design, and what a table of metrics needs of each."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.llm.kernels.serving import LAW, REQUEST, TOTALS, Cost, simulate
from archgym.simulators.llm.kernels.steady import cost_of

WIDTH = 24
"""Columns of the result: mean, p50, p90, p99 of TTFT, TPOT and E2E (0 to 11), output tokens a second, share within
both levels, utilisation, requests within both levels a second, preemptions, seconds of decode-only stages, bytes they
read, seconds of stages with prompts, idle seconds of stages, seconds of prefilling and idle prefilling instances,
requests left unserved."""


@inner(arrays=True, error_model="numpy")
def law_of(tables, i):
    """The linear law of configuration ``i`` (fidelity ``schedule``)."""
    one = tables.tokens[:1]
    return Cost(
        LAW, tables.linear[i], tables.tokens, one, tables.traffic[i], one, one, one, one, one, one, one,
        tables.scalar[i, 0], 0.0, 0.0,
    )  # fmt: skip


@inner(error_model="numpy")
def _start(rows, arrived, prompt, output, parent, shared):
    for i in range(len(rows)):
        row = rows[i]
        row.arrived, row.scheduled, row.first, row.finished = arrived[i], np.nan, np.nan, np.nan
        row.prompt, row.asked, row.output = prompt[i], prompt[i], output[i]
        row.done, row.complete, row.blocks, row.restarts, row.order, row.next = 0, 0, 0, 0, 0, -1
        row.parent, row.shared, row.replica = parent[i], shared[i], -1
        row.freed_at, row.freed_free, row.freed_full = 0, 0, 0


@inner(error_model="numpy")
def _percentile(ordered, share):
    at = share * (len(ordered) - 1)
    low = int(at)
    if low + 1 >= len(ordered):
        return ordered[-1]
    return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])


@inner(arrays=True, error_model="numpy")
def _summary(values, row, at):
    ordered = np.sort(values)
    row[at] = values.mean()
    row[at + 1], row[at + 2], row[at + 3] = (
        _percentile(ordered, 0.5),
        _percentile(ordered, 0.9),
        _percentile(ordered, 0.99),
    )


@kernel(error_model="numpy")
def run_design(rows, trace, server, feeder, cost, feed_cost, transfer, totals, feed_totals, batches, pieces):
    """One design; ``rows`` are its requests at the end. A feeder with replicas makes it disaggregated: prompts run on
    the feeders, the cache of a finished prompt crosses the network (``transfer``: s, s a token), then the request joins
    a decoding instance. Returns the numbers of batches and pieces of the decoding side."""
    arrived, prompt, output, parent, shared = trace
    n = len(arrived)
    _start(rows, arrived, prompt, output, parent, shared)
    feed_totals[:] = 0.0
    if feeder.replicas == 0:
        return simulate(rows, server, cost, totals, batches, pieces)
    ones = np.ones(n, np.int64)
    _start(rows, arrived, prompt, ones, parent, shared)
    simulate(rows, feeder, feed_cost, feed_totals, np.zeros((0, 13)), np.zeros((0, 3), np.int64))
    joined = rows["first"] + transfer[0] + transfer[1] * prompt
    order = np.argsort(joined, kind="mergesort")
    order = order[output[order] > 1]
    inner = np.empty(len(order), REQUEST)
    none = np.full(len(order), -1)
    _start(inner, joined[order], prompt[order], output[order], none, none)
    for a in range(len(order)):
        inner[a].done, inner[a].complete = prompt[order[a]] + 1, 1
        inner[a].first = rows[order[a]].first
    counted = simulate(inner, server, cost, totals, batches, pieces)
    for a in range(len(order)):
        i = order[a]
        rows[i].finished, rows[i].restarts = inner[a].finished, inner[a].restarts
    totals[9] = max(totals[9], feed_totals[9])
    return counted


@kernel(error_model="numpy")
def evaluate(first, last, tables, linear, index, servers, feeders, transfers, trace, levels, out):
    """Designs ``first`` to ``last - 1``.

    Args:
        tables: stacked cost tables; ``index`` int64 ``(n, 2)``: rows for decoding and for prefilling instances.
        linear: True for the linear law.
        servers, feeders: ``kernels.serving.SERVER`` rows ``(n,)``; feeders without replicas where aggregated.
        transfers: float64 ``(n, 2)``: s, and s a token, that a cache takes to cross the network.
        trace: arrival s, prompt tokens, output tokens, parent, shared tokens, each ``(requests,)``.
        levels: TTFT and TPOT levels, s.
        out: float64 ``(n, WIDTH)``.
    """
    arrived, _, output, _, _ = trace
    n = len(arrived)
    rows = np.empty(n, REQUEST)
    totals, feed = np.zeros(len(TOTALS)), np.zeros(len(TOTALS))
    none, nothing = np.zeros((0, 13)), np.zeros((0, 3), np.int64)
    for i in range(first, last):
        row = out[i]
        if linear:
            cost, feed_cost = law_of(tables, index[i, 0]), law_of(tables, index[i, 1])
        else:
            cost, feed_cost = cost_of(tables, index[i, 0]), cost_of(tables, index[i, 1])
        server, feeder = servers[i], feeders[i]
        run_design(rows, trace, server, feeder, cost, feed_cost, transfers[i], totals, feed, none, nothing)
        ttft, e2e = np.empty(n), np.empty(n)
        tpot = np.empty(n)
        several, met, tokens, unserved = 0, 0, 0, 0
        for a in range(n):
            if np.isnan(rows[a].finished) and output[a] == 1 and feeder.replicas > 0:
                rows[a].finished = rows[a].first
            if np.isnan(rows[a].finished):
                unserved += 1
            ttft[a] = rows[a].first - arrived[a]
            e2e[a] = rows[a].finished - arrived[a]
            good = ttft[a] <= levels[0]
            if output[a] > 1:
                tpot[several] = (rows[a].finished - rows[a].first) / (output[a] - 1)
                good = good and tpot[several] <= levels[1]
                several += 1
            met += good
            tokens += output[a]
        row[23] = unserved
        if unserved > 0:
            continue
        _summary(ttft, row, 0)
        if several > 0:
            _summary(tpot[:several], row, 4)
        else:
            row[4:8] = 0.0
        _summary(e2e, row, 8)
        span = totals[9] - arrived[0]
        row[12], row[13], row[15] = tokens / span, met / n, met / span
        stages = server.stages * server.replicas
        row[14] = (totals[3] + feed[3]) / (span * (stages + feeder.replicas))
        row[16] = totals[7] + feed[7]
        row[17], row[18], row[19] = totals[4], totals[5], totals[6]
        row[20] = max(0.0, span * stages - totals[3])
        row[21], row[22] = feed[3], max(0.0, span * feeder.replicas - feed[3])
